"""One readable line per event, to stderr: time, level, who, what.

2026-11-22 12:00:01.123 INFO    node 1 orders-0: leader in epoch 3
"""

from __future__ import annotations

import logging
import sys


class _LineFormatter(logging.Formatter):
    default_msec_format = "%s.%03d"

    def format(self, record: logging.LogRecord) -> str:
        """An event is one line, also when its text came from outside."""
        return super().format(record).replace("\n", " | ")


def configure_log_lines(name: str, level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_LineFormatter(f"%(asctime)s %(levelname)-7s {name}: %(message)s"))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
