"""AsyncProducer: the Producer for asyncio. The same writer and thread; futures are asyncio's.

Records of one batch are resolved together, with one call into the event loop. What waits, waits in the event loop: a
call that is cancelled has sent nothing that it did not return a future for.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from types import TracebackType
from typing import Any

from raftlog.client import arguments
from raftlog.client.core.async_work import Doorbell, finished, in_thread, tell
from raftlog.client.core.fork_check import Client
from raftlog.client.producer.batch import PendingBatch, RecordFuture, RecordMetadata
from raftlog.client.producer.options import ProducerOptions
from raftlog.client.producer.writer import Writer
from raftlog.errors import BufferExhaustedError, ClosedError, ForkedClientError
from raftlog.record.batch import Headers


class AsyncProducer(Client):
    """The Producer for asyncio; its options are those of ProducerOptions.

    Start it, or use `async with`; one event loop uses it. Any call may be cancelled.
    """

    @arguments.takes(ProducerOptions)
    def __init__(self, options: ProducerOptions) -> None:
        """Raises TypeError, ValueError."""
        self._options = options
        self._writer: Writer | None = None
        self._closing: asyncio.Future[None] | None = None  # of one whose start failed or was cancelled
        self._waiting: dict[PendingBatch, list[tuple[RecordFuture, asyncio.Future[RecordMetadata]]]] = {}
        self._slow = asyncio.Lock()
        self._slow_sends = 0  # those that hold the lock or wait for it: handed over, it is free for a moment

    async def start(self) -> None:
        """Raises NoBrokersAvailableError as Producer does; RuntimeError when it was started before.

        After an error, or when it is cancelled, it may be started again.
        """
        if self._writer is not None:
            raise RuntimeError("the producer has been started already")
        self._loop = asyncio.get_running_loop()
        writer = self._writer = Writer(self._options)
        super().__init__()  # from here on it belongs to this process
        writer.start()
        connecting = in_thread(writer.connect)
        try:
            await finished(connecting)
        except BaseException:
            self._writer = None
            self._closing = in_thread(partial(writer.close, 0))  # which ends `connecting` too
            raise
        self._closing = None

    def abandon_in_child(self, error: ForkedClientError) -> None:
        if self._writer is not None:
            self._writer.accumulator.abandon_in_child(error)

    def _started(self) -> Writer:
        if self._writer is None:
            raise ClosedError("the producer is not started: await start(), or use `async with`")
        return self._writer

    async def send(
        self,
        topic: str,
        value: Any = None,
        key: Any = None,
        headers: Headers | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> asyncio.Future[RecordMetadata]:
        """Waits only while the buffer is full or the topic is not known yet; raises as Producer.send does.

        Await the future that it returns for the outcome. Cancelled while it waits, it has not sent the record.
        """
        writer = self._writer or self._started()
        if writer.serializes:
            key, value = writer.serialized(key, value)
        # Behind those who wait already, so that nothing is overtaken.
        sent = None
        if not self._slow_sends and writer.knows(topic, partition):
            with contextlib.suppress(BufferExhaustedError):
                sent = writer.send(topic, value, key, headers, partition, timestamp_ms, 0.0)
        if sent is None:
            self._slow_sends += 1
            try:
                async with self._slow:
                    send = partial(writer.send, topic, value, key, headers, partition, timestamp_ms, 0.0)
                    sent = await self._send_slowly(writer, topic, partition, send)
            finally:
                self._slow_sends -= 1
        return self._watch(sent)

    async def _send_slowly(
        self, writer: Writer, topic: str, partition: int | None, send: partial[RecordFuture]
    ) -> RecordFuture:
        if not writer.knows(topic, partition):
            await finished(in_thread(partial(writer.find, topic, partition)))
        bell = Doorbell()
        until_s = self._loop.time() + writer.max_block_s
        with writer.tells_of_room(partial(tell, self._loop, bell.ring)):
            while True:
                try:
                    return send()
                except BufferExhaustedError:
                    left_s = until_s - self._loop.time()
                    if left_s <= 0:
                        raise
                await bell.wait(left_s)

    def _watch(self, sent: RecordFuture) -> asyncio.Future[RecordMetadata]:
        future: asyncio.Future[RecordMetadata] = self._loop.create_future()
        batch = sent.batch
        waiting = self._waiting.get(batch)
        if waiting is not None:
            waiting.append((sent, future))
        else:
            self._waiting[batch] = [(sent, future)]
            batch.on_done(partial(tell, self._loop, self._resolve, batch))
        return future

    def _resolve(self, batch: PendingBatch) -> None:
        for sent, future in self._waiting.pop(batch, ()):
            if future.done():
                continue  # cancelled by whoever awaited it; the record is sent all the same
            error = sent.exception()
            if error is None:
                future.set_result(sent.result())
            else:
                future.set_exception(error)

    async def send_and_wait(
        self,
        topic: str,
        value: Any = None,
        key: Any = None,
        headers: Headers | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> RecordMetadata:
        """`send`, and the outcome. Raises the record's error."""
        return await (await self.send(topic, value, key, headers, partition, timestamp_ms))

    async def flush(self, timeout: float | None = None) -> None:
        """As Producer.flush."""
        with self._started().flushing() as batches:
            settled = [self._loop.create_future() for _ in batches]
            for batch, future in zip(batches, settled, strict=True):
                batch.on_done(partial(tell, self._loop, _settle, future))
            if settled:
                _, left = await asyncio.wait(settled, timeout=timeout)
                if left:
                    raise TimeoutError(f"{len(left)} batches have no outcome after {timeout} s")

    async def stop(self, timeout: float | None = None) -> None:
        """As Producer.close. Cancelled, it goes on; the next `stop` waits as well. Without a start it does nothing."""
        if self._writer is not None:
            await finished(in_thread(partial(self._writer.close, timeout)))
        elif self._closing is not None:
            await finished(self._closing)

    async def __aenter__(self) -> AsyncProducer:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop(None if error is None else 5.0)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
