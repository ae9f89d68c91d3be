"""What an event loop waits for that threads do: each piece of work has one owner, and who waits may be cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def tell(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *arguments: object) -> None:
    """From any thread. A loop that is closed by now hears nothing."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *arguments)


def in_thread(function: Callable[[], T]) -> asyncio.Future[T]:
    """Runs it in a thread of its own. Cancelling the future does not end the thread, so only its owner may.

    Not in the loop's executor: that has few threads, which callbacks of one client would keep from another, and
    `asyncio.run` would wait at its end for work that was given up.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        try:
            result = context.run(function)
        except BaseException as error:  # noqa: BLE001 - who waits for it is told
            tell(loop, settle, None, error)
        else:
            tell(loop, settle, result, None)

    future.add_done_callback(_is_heard)
    threading.Thread(target=run, name="raftlog-waiting", daemon=True).start()
    return future


def _is_heard(future: asyncio.Future[T]) -> None:
    """An error that nobody waits for any more is not reported: who started the work has given it up."""
    if not future.cancelled():
        future.exception()


async def finished(future: asyncio.Future[T]) -> T:
    """Its result. Cancelled, it leaves the work alone, which goes on and may be waited for again."""
    await asyncio.wait([future])
    return future.result()


class Doorbell:
    """Of one event loop: `ring`, from the loop, ends every `wait`. (wait_for of Python 3.11 loses cancellations.)"""

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()

    def ring(self) -> None:
        for waiter in self._waiters:
            _let_go(waiter)

    async def wait(self, timeout_s: float) -> None:
        """Until the next ring, or `timeout_s`."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiters.add(waiter)
        handle = loop.call_later(timeout_s, _let_go, waiter)
        try:
            await waiter
        finally:
            handle.cancel()
            self._waiters.discard(waiter)


def _let_go(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
