"""Server processes of a system, on free ports of the loopback device: none outlives the comparison."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from raftlog.errors import RaftlogError
from raftlog.node.local import descendants

HOST = "127.0.0.1"
READY_S = 180.0  # a JVM or three Erlang nodes on a busy machine
_PORTS = range(16_000, 32_000)  # below those that the kernel hands out by itself
_LOOK_S = 0.05
_LOG_LINES = 3
_KILL_S = 10.0
_ASK_S = 30


class Servers:
    """Started one by one within the context; killed, group by group, on leaving it.

    They are killed rather than stopped because their data is removed next. Should this process be killed
    itself, the kernel kills them.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._processes: list[tuple[subprocess.Popen[bytes], Path]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        families = [child for process, _ in self._processes for child in descendants(process.pid)]
        for process, _ in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for process, _ in self._processes:
            process.wait(_KILL_S)
        psutil.wait_procs(families, timeout=_KILL_S)

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        log = self._directory / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self._directory,
                env={**os.environ, **(environment or {})},
                start_new_session=True,  # Ctrl-C is for us alone
            )
        self._processes.append((process, log))

    def pids(self) -> list[int]:
        return [process.pid for process, _ in self._processes]

    def await_ready(self, ready: Callable[[], bool]) -> None:
        """Raises what the log says when a server ends early, or when it takes too long."""
        end_s = time.monotonic() + READY_S
        while not ready():
            for process, log in self._processes:
                if process.poll() is not None:
                    raise RaftlogError(f"{log.stem} ended with {process.returncode}: {_tail(log)}")
            if time.monotonic() > end_s:
                raise RaftlogError(f"not ready within {READY_S:.0f} s: {_tail(self._processes[-1][1])}")
            time.sleep(_LOOK_S)

    def await_ports(self, ports: Sequence[int]) -> None:
        self.await_ready(lambda: all(map(_listening, ports)))


def free_ports(count: int) -> list[int]:
    found: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise RaftlogError("no port is free")


def failure_of(
    command: Sequence[str], timeout_s: float, *, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> str:
    """Of a command that builds or fetches what is missing: the last line of what it complains of; "": it succeeded."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    complaints = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return complaints[-1] if done.returncode else ""


def said_by(command: Sequence[str]) -> str:
    """Raises CalledProcessError."""
    return subprocess.run(command, capture_output=True, text=True, timeout=_ASK_S, check=True).stdout


def package_version(name: str) -> str:
    """Of an installed Debian package."""
    return said_by(["dpkg-query", "--show", "--showformat", "${Version}", name])


def _listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def _tail(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return " / ".join(lines[-_LOG_LINES:]) or "its log is empty"
