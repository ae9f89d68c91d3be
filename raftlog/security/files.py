"""The files of a security directory: their names, and who may read them."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NamedTuple

from raftlog.errors import ConfigError


class PrivateFiles(NamedTuple):
    key: str
    certificate: str


AUTHORITY_FILES = PrivateFiles("ca.key", "ca.pem")
NODE_FILES = PrivateFiles("node.key", "node.pem")
CLIENT_FILES = PrivateFiles("client.key", "client.pem")
TRUSTED = "ca.pem"
"""The authorities that a node or a client trusts."""


def is_private(path: Path) -> bool:
    """Nobody else can read it. One that is not there is read by nobody."""
    try:
        return not stat.S_IMODE(path.stat().st_mode) & 0o077
    except OSError:
        return True


def check_private(path: Path) -> None:
    """Raises ConfigError unless only its owner, who is this user, can read the key."""
    try:
        found = path.stat()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise ConfigError(f"{path} can be read by others, so it is not used: chmod 600 {path}")
    if found.st_uid != os.geteuid():
        raise ConfigError(f"{path} belongs to user {found.st_uid}, who is not the one who runs this: chown it")
