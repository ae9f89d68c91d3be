"""A client's program as a process: one request at a time, each with a deadline."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ANSWER_S = 75.0  # above what the programs allow themselves
_TAIL_BYTES = 600


class LackingError(Exception):
    """The client does not have what was asked for: its reason."""


class FailedError(Exception):
    """The client's error, or what was wrong with its answer."""


class Program:
    """Started when it is first asked, and again after it has been killed. Its stderr goes to a file."""

    def __init__(
        self, command: Sequence[str], bootstrap: str, log: Path, security: Mapping[str, str] | None = None
    ) -> None:
        """`security`: how its client proves who it is (security.py); None: nobody asks."""
        self._command = command
        self._bootstrap = bootstrap
        self._log = log
        self._security = dict(security) if security else None
        self._process: subprocess.Popen[bytes] | None = None
        self._said = b""
        self._about: dict[str, Any] = {}

    @property
    def about(self) -> dict[str, Any]:
        """What the program says of its client: version, codecs, assignors."""
        self._ensure_started()
        return self._about

    def ask(self, operation: str, **arguments: Any) -> Any:
        """The answer. Raises LackingError and FailedError."""
        self._ensure_started()
        return self._ask({"do": operation, **arguments})

    def kill(self) -> None:
        """As a crash does it: nothing is said to the servers."""
        process, self._process = self._process, None
        if process is None:
            return
        with_children = process.pid
        try:
            os.killpg(with_children, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait(10)
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            stream.close()

    def _ensure_started(self) -> None:
        if self._process is not None:
            return
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self._command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        self._said = b""
        self._about = self._ask(
            {
                "do": "hello",
                "bootstrap": self._bootstrap,
                **({"security": self._security} if self._security else {}),
            }
        )

    def _ask(self, request: dict[str, Any]) -> Any:
        assert self._process is not None and self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            line = self._line(time.monotonic() + ANSWER_S)
        except (OSError, TimeoutError) as error:
            self.kill()
            raise FailedError(f"{error or 'the program has ended'}; {self._tail()}") from None
        answer = json.loads(line)
        if "lacks" in answer:
            raise LackingError(answer["lacks"])
        if "error" in answer:
            raise FailedError(answer["error"])
        return answer["ok"]

    def _line(self, deadline_s: float) -> bytes:
        assert self._process is not None and self._process.stdout is not None
        while b"\n" not in self._said:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline_s - time.monotonic()))
            if not ready:
                raise TimeoutError(f"no answer within {ANSWER_S:.0f} s")
            part = os.read(self._process.stdout.fileno(), 1 << 16)
            if not part:
                raise OSError("the program has ended")
            self._said += part
        line, _, self._said = self._said.partition(b"\n")
        return line

    def _tail(self) -> str:
        said = self._log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace")
        return " / ".join(line.strip() for line in said.splitlines() if line.strip())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
