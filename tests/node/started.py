"""A node as a user starts it: a command, what it prints, how it ends."""

from __future__ import annotations

import contextlib
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from raftlog.node.local import free_endpoints
from raftlog.types import Endpoint
from tests.patience import WAIT_S

READY = re.compile(
    r"raftlog node (\d+) ready at (\S+:\d+)(?:, for Kafka's clients at \S+:\d+)?(?:, HTTP at \S+:\d+)? "
    r"\(cluster ([0-9a-f]{32}), flush (always|os), data (.+)\)\n"
)


def free_port() -> int:
    return free_endpoints("127.0.0.1", 1)[0].port


class StartedNode:
    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def log_text(self) -> str:
        return self._log.read_text()

    def ready(self) -> re.Match[str]:
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], WAIT_S)[0], self.log_text
        line = self.process.stdout.readline()
        match = READY.fullmatch(line)
        assert match, f"{line!r} {self.log_text}"
        return match

    @property
    def endpoint(self) -> Endpoint:
        """Valid for nodes that were started with --listen."""
        arguments = self.process.args
        assert isinstance(arguments, list)
        host, port = str(arguments[arguments.index("--listen") + 1]).split(":")
        return Endpoint(host, int(port))

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(WAIT_S)

    def fails(self) -> str:
        """The one line that says why; the exit code is not 0 and nothing was printed on stdout."""
        stdout, _ = self.process.communicate(timeout=WAIT_S)
        assert self.process.returncode not in (0, None)
        assert stdout == ""
        assert "Traceback" not in self.log_text
        errors = [line for line in self.log_text.splitlines() if line.startswith("raftlog: error: ")]
        assert len(errors) == 1, self.log_text
        return errors[0]

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


@contextlib.contextmanager
def started(directory: Path, *arguments: str, default_doors: bool = False) -> Iterator[StartedNode]:
    """`raftlog node start` with these arguments, in `directory`; ended with the context. No door for Kafka's clients
    and no HTTP, which are a process more each, unless the arguments name one or `default_doors`.
    """
    for door in ("--kafka-listen", "--http-listen"):
        if not default_doors and door not in arguments:
            arguments = (*arguments, door, "none")
    directory.mkdir(exist_ok=True)
    log = directory / f"stderr-{time.monotonic_ns()}.log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("raftlog"), "node", "start", *arguments],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    node = StartedNode(process, log)
    try:
        yield node
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def all_gone(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, timeout=WAIT_S)[1]
