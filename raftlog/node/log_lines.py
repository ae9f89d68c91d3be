"""One line per event, to stderr, for people or for programs: time, level, who, what.

2026-11-22 12:00:01.123 INFO    node 1 orders-0: leader in epoch 3
{"time":"2026-11-22T12:00:01.123Z","level":"INFO","source":"node 1 orders-0","message":"leader in epoch 3"}
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("text", "json")


class LogStyle(NamedTuple):
    level: str = "info"
    format: str = "text"


class _LineFormatter(logging.Formatter):
    default_msec_format = "%s.%03d"

    def format(self, record: logging.LogRecord) -> str:
        """An event is one line, also when its text came from outside."""
        return super().format(record).replace("\n", " | ")


class _JsonFormatter(logging.Formatter):
    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        event = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname,
            "source": self._name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            event["exception"] = self.formatException(record.exc_info)
        # What came from outside may be no text that JSON can hold.
        return msgspec.json.encode({key: _as_text(value) for key, value in event.items()}).decode()


def _as_text(value: str) -> str:
    return value.encode(errors="backslashreplace").decode()


def configure_log_lines(name: str, style: LogStyle) -> None:
    handler = logging.StreamHandler(sys.stderr)
    text = _LineFormatter(f"%(asctime)s %(levelname)-7s {name}: %(message)s")
    handler.setFormatter(_JsonFormatter(name) if style.format == "json" else text)
    root = logging.getLogger()
    root.handlers = [handler]
    set_log_level(style.level)


def set_log_level(level: str) -> None:
    """At run time. The level that it has already is left alone: to set one clears a cache of each logger there is."""
    root = logging.getLogger()
    if logging.getLevelName(root.level) != level.upper():
        root.setLevel(level.upper())
