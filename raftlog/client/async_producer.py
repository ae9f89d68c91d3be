"""AsyncProducer: the Producer for asyncio. The same core and thread; futures are asyncio's.

Records of one batch are resolved together, with one call into the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from types import TracebackType
from typing import Any

from raftlog.client.pending import PendingBatch, RecordFuture, RecordMetadata
from raftlog.client.producer import Producer
from raftlog.errors import BufferExhaustedError
from raftlog.record.batch import Headers


class AsyncProducer:
    """Takes Producer's options. Start it, or use `async with`; one event loop uses it."""

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._producer: Producer | None = None
        self._waiting: dict[PendingBatch, list[tuple[RecordFuture, asyncio.Future[RecordMetadata]]]] = {}
        self._slow = asyncio.Lock()
        self._slow_sends = 0  # those that hold the lock or wait for it: handed over, it is free for a moment

    async def start(self) -> None:
        """Raises NoBrokersAvailableError as Producer does."""
        self._loop = asyncio.get_running_loop()
        self._producer = await asyncio.to_thread(partial(Producer, **self._options))

    async def send(
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        headers: Headers | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> asyncio.Future[RecordMetadata]:
        """Waits only while the buffer is full or the topic is not known yet; raises as Producer.send does.

        Await the future that it returns for the outcome.
        """
        producer = self._producer
        assert producer is not None, "start it first"
        # Behind those who wait already, so that nothing is overtaken.
        sent = None
        if not self._slow_sends and producer.knows(topic, partition):
            with contextlib.suppress(BufferExhaustedError):
                sent = producer.send(topic, value, key, headers, partition, timestamp_ms, max_block_ms=0)
        if sent is None:
            self._slow_sends += 1
            try:
                async with self._slow:
                    sent = await asyncio.to_thread(producer.send, topic, value, key, headers, partition, timestamp_ms)
            finally:
                self._slow_sends -= 1
        return self._watch(sent)

    def _watch(self, sent: RecordFuture) -> asyncio.Future[RecordMetadata]:
        future: asyncio.Future[RecordMetadata] = self._loop.create_future()
        batch = sent.batch
        waiting = self._waiting.get(batch)
        if waiting is not None:
            waiting.append((sent, future))
        else:
            self._waiting[batch] = [(sent, future)]
            batch.on_done(partial(self._loop.call_soon_threadsafe, self._resolve, batch))
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

    async def send_and_wait(self, topic: str, value: bytes | None = None, **options: Any) -> RecordMetadata:
        """`send`, and the outcome. Raises the record's error."""
        return await (await self.send(topic, value, **options))

    async def flush(self, timeout: float | None = None) -> None:
        """As Producer.flush."""
        assert self._producer is not None, "start it first"
        await asyncio.to_thread(self._producer.flush, timeout)

    async def stop(self, timeout: float | None = None) -> None:
        """As Producer.close."""
        if self._producer is not None:
            await asyncio.to_thread(self._producer.close, timeout)

    async def __aenter__(self) -> AsyncProducer:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop(None if error is None else 5.0)
