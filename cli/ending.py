"""How a command that runs for long ends from outside: by unwinding, so that it commits, flushes and cleans up."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from types import FrameType

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_AGAIN_S = 0.001
_WHOLE_S = 2.0  # a reader that takes nothing for this long does not keep a command from ending


class _Unwinding:
    """The first signal ends the command: at once, or at the end of what is done as a whole."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.is_held = False

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        ignore_signals()
        self.number = number
        if self.is_held:
            self._end_in(_WHOLE_S)
        else:
            self.end()

    def on_unraisable(self, ignored: sys.UnraisableHookArgs) -> None:
        """Python drops what a handler raises within a finalizer or a weak reference's callback: it is raised again."""
        if self.number is not None and isinstance(ignored.exc_value, (KeyboardInterrupt, SystemExit)):
            self._end_in(_AGAIN_S)
        else:
            sys.__unraisablehook__(ignored)

    def _end_in(self, wait_s: float) -> None:
        signal.signal(signal.SIGALRM, lambda *_: self.end())
        signal.setitimer(signal.ITIMER_REAL, wait_s)

    def end(self) -> None:
        """Raises what unwinds the command."""
        assert self.number is not None
        if self.number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + self.number)


_unwinding: _Unwinding | None = None


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP raise SystemExit(128 + number), Ctrl-C raises KeyboardInterrupt as always.

    The first signal is the last one that counts: another must not end the cleaning up, which has its own bounds. What
    was ignored before stays so (`nohup`). Where no signal came, all of them do in the end what they did before.
    """
    global _unwinding
    before = {number: signal.getsignal(number) for number in ENDING_SIGNALS}
    unwinding = _unwinding = _Unwinding()
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, unwinding.on_signal)
    hook_before, sys.unraisablehook = sys.unraisablehook, unwinding.on_unraisable
    try:
        yield
    finally:
        _unwinding = None
        sys.unraisablehook = hook_before
        if unwinding.number is None:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def as_a_whole() -> Iterator[None]:
    """A signal that comes meanwhile ends the command after what is done here, or after 2 s."""
    unwinding = _unwinding
    if unwinding is None:
        yield
        return
    unwinding.is_held = True
    try:
        yield
    finally:
        unwinding.is_held = False
        signal.setitimer(signal.ITIMER_REAL, 0)
    if unwinding.number is not None:
        unwinding.end()


def ignore_signals() -> None:
    """By a function that does nothing: Python raises OSError for a pending signal that SIG_IGN takes over (3.11)."""
    for number in ENDING_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _nothing)


def _nothing(number: int, frame: FrameType | None) -> None:
    pass
