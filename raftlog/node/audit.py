"""The audit log of a node: all its processes append to one file, a line at a time.

Each line is one write to a file that is opened for it, so that lines never mix and a file that was moved away is made
anew. What a client can make a process write is bounded: above that lines are counted, and the count is written.
"""

from __future__ import annotations

import logging
import os

from raftlog.clock import SystemClock
from raftlog.errors import ConfigError
from raftlog.security.audit import Event, line_of

log = logging.getLogger(__name__)

_LINES_PER_S = 200
_LOG_S = 60.0


def check_audit_log(path: str) -> None:
    """Raises ConfigError: what is asked for at the start is told of at the start, and not at the first refusal."""
    try:
        os.close(_open(path))
    except OSError as error:
        raise ConfigError(f"--audit-log {path} cannot be written: {error.strerror}") from None


def _open(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


class AuditLog:
    """The file of what was denied and what administrators asked for. `path` "": nothing is written down."""

    def __init__(self, path: str, node_id: int, door: str) -> None:
        self._path = path
        self._node_id = node_id
        self._door = door
        self._clock = SystemClock()
        self._second = 0
        self._lines = 0
        self._left_out = 0
        self._log_due_s = 0.0

    @property
    def is_on(self) -> bool:
        return bool(self._path)

    def write(self, event: Event) -> None:
        if not self._path:
            return
        second = int(self._clock.monotonic_s())
        if second != self._second:
            self._second, self._lines = second, 0
            if self._left_out:
                left_out, self._left_out = self._left_out, 0
                self._append(Event(outcome="left out", principal="", host="", request=f"{left_out} lines"))
        self._lines += 1
        if self._lines > _LINES_PER_S:
            self._left_out += 1
        else:
            self._append(event)

    def _append(self, event: Event) -> None:
        line = line_of(event, wall_ms=self._clock.wall_ms(), node_id=self._node_id, door=self._door)
        try:
            descriptor = _open(self._path)
            try:
                os.write(descriptor, line)
            finally:
                os.close(descriptor)
        except OSError as error:
            now_s = self._clock.monotonic_s()
            if now_s >= self._log_due_s:
                self._log_due_s = now_s + _LOG_S
                log.error("the audit log %s cannot be written: %s", self._path, error.strerror)
