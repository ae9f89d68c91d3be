"""Runs `raftlog` as a user does: a process of its own, told about the cluster by the environment."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raftlog.node.local import LocalCluster

TIMEOUT_S = 60.0
COMMAND = [sys.executable, "-P", "-m", "raftlog"]


def environment(bootstrap: str) -> dict[str, str]:
    return {**os.environ, "RAFTLOG_BOOTSTRAP": bootstrap}


def run(
    cluster: LocalCluster, *arguments: str, stdin: bytes = b"", code: int = 0
) -> subprocess.CompletedProcess[bytes]:
    """Asserts the exit code, and that no traceback was shown whatever the code is."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        input=stdin,
        capture_output=True,
        env=environment(cluster.bootstrap),
        timeout=TIMEOUT_S,
        check=False,
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    assert done.returncode == code, (done.returncode, done.stdout[-500:], done.stderr.decode())
    return done


def start(cluster: LocalCluster, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*COMMAND, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(cluster.bootstrap),
    )


def interrupt(process: subprocess.Popen[bytes], moment: bytes, number: int = signal.SIGINT) -> None:
    """Sends the signal once a line on stderr begins with `moment`; the command ends as shells expect of it."""
    assert process.stderr is not None
    while not (line := process.stderr.readline()).startswith(moment):
        assert line, "the command ended before that"
    process.send_signal(number)
    _, err = process.communicate(timeout=TIMEOUT_S)
    # A KeyboardInterrupt that has passed through `eval`, of a module that is being imported, ends Python by the signal
    # itself, also when it was handled; a shell says 130 of both.
    assert process.returncode in (128 + number, -number)
    assert b"Traceback" not in err, err.decode()


def unique(name: str) -> str:
    """A topic name that no other test uses."""
    return f"{name}-{uuid.uuid4().hex[:8]}"


def processes_with(mark: str) -> list[str]:
    """Every living process, but this one, that has `NAME=VALUE` in the environment it was started with."""
    found = []
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit() and int(directory.name) != os.getpid():
            # A process may end between the listing and the reading. One that is dead has no environment.
            with contextlib.suppress(OSError):
                if mark.encode() in (directory / "environ").read_bytes():
                    found.append(f"{directory.name} {(directory / 'cmdline').read_bytes()!r}")
    return found
