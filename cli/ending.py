"""How a command that runs for long ends from outside: by unwinding, so that it commits, flushes and cleans up."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP raise SystemExit(128 + number), Ctrl-C raises KeyboardInterrupt as always.

    The first signal is the last one that counts: another must not end the cleaning up, which has its own bounds. What
    was ignored before stays so (`nohup`). Where no signal came, all of them do in the end what they did before.
    """
    before = {number: signal.getsignal(number) for number in ENDING_SIGNALS}
    came = False

    def unwind(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        ignore_signals()
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, unwind)
    try:
        yield
    finally:
        if not came:
            for number, handler in before.items():
                signal.signal(number, handler)


def ignore_signals() -> None:
    for number in ENDING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
