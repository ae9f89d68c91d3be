"""AsyncConsumer: the Consumer for asyncio. The same core and thread; only waiting differs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from raftlog.client.consumer import Consumer
from raftlog.client.fetched import ConsumerRecord
from raftlog.client.group_offsets import OffsetAndMetadata
from raftlog.types import TopicPartition


class AsyncConsumer:
    """Takes Consumer's arguments. Start it, or use `async with`; one task reads at a time.

    Callbacks of a group run in another thread, while the task that reads waits for them.
    """

    def __init__(self, *topics: str, **options: Any) -> None:
        self._topics = topics
        self._options = options
        self._consumer: Consumer | None = None
        self._data = asyncio.Event()

    async def start(self) -> None:
        """Raises NoBrokersAvailableError as Consumer does."""
        loop = asyncio.get_running_loop()
        consumer = await asyncio.to_thread(partial(Consumer, *self._topics, **self._options))

        def tell() -> None:
            # The loop may be closed already when the client's thread ends.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._data.set)

        consumer.on_data = tell
        self._consumer = consumer

    @property
    def consumer(self) -> Consumer:
        """For all that does not wait: assign, seek, pause, assignment, group_metadata …

        With a group_id what gives partitions up (assign, subscribe, unsubscribe) waits for a last commit: use a thread.
        """
        assert self._consumer is not None, "start it first"
        return self._consumer

    async def getmany(
        self, timeout_ms: float = 0, max_records: int | None = None
    ) -> dict[TopicPartition, list[ConsumerRecord]]:
        """As Consumer.poll."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_ms / 1000
        while True:
            self._data.clear()  # BEFORE looking: what comes after the look sets it again
            if self.consumer.needs_attention():
                # Callbacks and commits of a group may wait, which the loop must not.
                await asyncio.to_thread(self.consumer.attend)
            polled = self.consumer.take(0.0, max_records)
            left_s = deadline_s - loop.time()
            if polled or left_s <= 0:
                return polled
            with contextlib.suppress(TimeoutError):
                # Not all that `poll` raises is told as data, such as a topic that stays unknown.
                await asyncio.wait_for(self._data.wait(), min(left_s, 1.0))

    async def getone(self) -> ConsumerRecord:
        """Waits for the next record. Raises as Consumer.poll."""
        while True:
            polled = await self.getmany(1000, 1)
            for records in polled.values():
                return records[0]

    def __aiter__(self) -> AsyncConsumer:
        return self

    async def __anext__(self) -> ConsumerRecord:
        return await self.getone()

    async def position(self, partition: TopicPartition) -> int:
        return await asyncio.to_thread(self.consumer.position, partition)

    async def beginning_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return await asyncio.to_thread(self.consumer.beginning_offsets, partitions)

    async def end_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return await asyncio.to_thread(self.consumer.end_offsets, partitions)

    async def commit(self, offsets: Mapping[TopicPartition, int | OffsetAndMetadata] | None = None) -> None:
        """As Consumer.commit."""
        await asyncio.to_thread(self.consumer.commit, offsets)

    async def committed(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, OffsetAndMetadata | None]:
        return await asyncio.to_thread(self.consumer.committed, partitions)

    async def stop(self, *, autocommit: bool = True) -> None:
        """As Consumer.close."""
        if self._consumer is not None:
            await asyncio.to_thread(partial(self._consumer.close, autocommit=autocommit))

    async def __aenter__(self) -> AsyncConsumer:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        await self.stop(autocommit=kind is None)
