"""One thread that serves both ends of a connection, turn by turn, until something has come true."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.patience import WAIT_S


class Turning:
    def turn(self) -> None:
        raise NotImplementedError

    def until(self, found: Callable[[], object]) -> None:
        deadline_s = time.monotonic() + WAIT_S
        while not found():
            self.turn()
            assert time.monotonic() < deadline_s, f"waited in vain for {found}"
