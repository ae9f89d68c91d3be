"""A program that runs for long, as a process: its words go to a file, and it ends with its context at the latest."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from kafka_clients.program import FailedError
from raftlog.node.local import descendants

WAIT_S = 180.0  # a virtual machine's start, and a rebalance after it, on a busy machine
_LOOK_S = 0.2
_KILL_S = 10.0
_TAIL_LINES = 4
_TAIL_LETTERS = 600


class Process:
    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        self.name = log.stem
        self._command = command
        self._log = log
        self._environment = {**os.environ, **(environment or {})}

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self._command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._log.parent,
                env=self._environment,
                start_new_session=True,  # Ctrl-C is for the command alone
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        family = descendants(self._process.pid)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        psutil.wait_procs(family, timeout=_KILL_S)

    def stop(self) -> None:
        """As an operator does it: SIGTERM, and wait for its end."""
        self._process.terminate()
        self._ended()

    def finish(self) -> None:
        """Waits until it has ended by itself. Raises FailedError if it did not succeed."""
        if status := self._ended():
            raise FailedError(f"{self.name} ended with {status}: {self.tail()}")

    def wait(self, true: Callable[[], bool], otherwise: str | Callable[[], str]) -> None:
        """Until it is true. Raises FailedError if the program ends first, or when that takes too long."""
        end_s = time.monotonic() + WAIT_S
        while not true():
            if (status := self._process.poll()) is not None:
                raise FailedError(f"{self.name} ended with {status}: {self.tail()}")
            if time.monotonic() > end_s:
                said = otherwise if isinstance(otherwise, str) else otherwise()
                raise FailedError(f"{said}, after {WAIT_S:.0f} s; {self.name}: {self.tail()}")
            time.sleep(_LOOK_S)

    def tail(self) -> str:
        """Its last words: what it says of errors, if it speaks of any."""
        lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        errors = [line for line in lines if "ERROR" in line or "Exception" in line]
        return " / ".join((errors or lines)[-_TAIL_LINES:])[-_TAIL_LETTERS:]

    def _ended(self) -> int:
        try:
            return self._process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            raise FailedError(f"{self.name} did not end within {WAIT_S:.0f} s: {self.tail()}") from None


def java(classes: str, main: str, *arguments: object, heap_mb: int = 512) -> list[str]:
    """A command. The compiler that starts soon: none of these machines lives long."""
    return ["java", f"-Xmx{heap_mb}m", "-XX:TieredStopAtLevel=1", "-cp", classes, main, *map(str, arguments)]


def properties(path: Path, settings: Mapping[str, object]) -> Path:
    path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    return path
