"""Nodes of a command's own, for the demo and the bench: whatever ends the command, they end with it."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .ending import ignore_signals

if TYPE_CHECKING:
    from raftlog.node.local import LocalCluster
    from raftlog.types import Flush

_PARENT = Path("raftlog-data")  # where a node's data goes as well: a real disk, and out of version control


@contextlib.contextmanager
def own_cluster(
    nodes: int, directory: Path, flush: Flush, *, kafka: bool = False, secure: bool = False
) -> Iterator[LocalCluster]:
    """Running nodes with their data under `directory`, within `ended_by_signals`; `kafka`: for its clients too.

    `secure`: with --security, and so are all clients of this process and of those that it starts.
    A second Ctrl-C does not stop the cleaning up.
    """
    from raftlog.client.arguments import SECURITY_VARIABLE
    from raftlog.node.local import LocalCluster

    with LocalCluster(nodes=nodes, directory=directory, flush=flush, kafka=kafka, secure=secure) as cluster:
        if secure:
            os.environ[SECURITY_VARIABLE] = cluster.security
        try:
            yield cluster
        finally:
            ignore_signals()


@contextlib.contextmanager
def temporary_directory(prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """Under `parent`, or under the current directory, or where temporary files go if that is not ours to write."""
    made_parent = parent is None and not _PARENT.exists()
    try:
        if parent is None:
            _PARENT.mkdir(exist_ok=True)
        directory = Path(tempfile.mkdtemp(prefix=prefix, dir=parent or _PARENT)).resolve()
    except OSError:
        if parent is not None:
            raise
        directory = Path(tempfile.mkdtemp(prefix=f"raftlog-{prefix}"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        if made_parent:
            with contextlib.suppress(OSError):  # someone else's data is in it by now
                _PARENT.rmdir()
