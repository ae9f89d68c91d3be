"""AsyncConsumer: the Consumer for asyncio. The same core and thread; only waiting differs.

Callbacks of a group and commits before partitions are given up run in a thread (`attend`). That thread is the
consumer's, not the call's: a call that is cancelled leaves it, and the next one waits for it before anything is handed
out. Records are taken in the event loop, in the step that returns them, so that no cancellation loses any.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from raftlog.client.consumer.consumer import Consumer
from raftlog.client.core.async_work import Doorbell, finished, in_thread, tell
from raftlog.client.fetcher.partition_state import ConsumerRecord
from raftlog.client.group.offsets import OffsetAndMetadata
from raftlog.errors import ClosedError
from raftlog.types import TopicPartition


class _Unconnected(Consumer):
    """Does not wait for the cluster when it is made."""

    bootstrap_timeout_s = 0.0

    def wait_for_cluster(self, timeout_s: float) -> None:
        self.bootstrap_timeout_s = timeout_s


class AsyncConsumer:
    """Takes Consumer's arguments. Start it, or use `async with`; one event loop uses it.

    Callbacks of a group run in another thread, while the tasks that read wait for them. Any call may be cancelled:
    what it began either ends, or is waited for by the next call. Records are never lost by it.
    """

    def __init__(self, *topics: str, **options: Any) -> None:
        self._topics = topics
        self._options = options
        self._consumer: Consumer | None = None
        self._attending: asyncio.Future[None] | None = None
        self._closing: asyncio.Future[None] | None = None
        self._bell = Doorbell()

    async def start(self) -> None:
        """Raises NoBrokersAvailableError as Consumer does; RuntimeError when it was started before.

        After an error, or when it is cancelled, it may be started again.
        """
        if self._consumer is not None:
            raise RuntimeError("the consumer has been started already")
        loop = asyncio.get_running_loop()
        consumer = self._consumer = _Unconnected(*self._topics, **self._options)
        consumer.on_data = partial(tell, loop, self._bell.ring)
        connecting = in_thread(partial(Consumer.wait_for_cluster, consumer, consumer.bootstrap_timeout_s))
        try:
            await finished(connecting)
        except BaseException:
            self._consumer = None
            self._closing = in_thread(partial(consumer.close, autocommit=False))  # which ends `connecting` too
            raise
        self._closing = None

    @property
    def consumer(self) -> Consumer:
        """For all that does not wait: assign, seek, pause, assignment, group_metadata …

        With a group_id what gives partitions up (assign, subscribe, unsubscribe) waits for a last commit: use a thread.
        Raises ClosedError before `start`.
        """
        if self._consumer is None:
            raise ClosedError("the consumer is not started: await start(), or use `async with`")
        return self._consumer

    async def getmany(
        self, timeout_ms: float = 0, max_records: int | None = None
    ) -> dict[TopicPartition, list[ConsumerRecord]]:
        """As Consumer.poll."""
        consumer = self.consumer
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_ms / 1000
        while True:
            attended = False
            while self._attending is not None or (not attended and consumer.needs_attention()):
                await self._attend(consumer)
                attended = True  # once: with a commit interval of 0 there is always something to do
            polled = consumer.take(0.0, max_records)  # no await from here to the return
            left_s = deadline_s - loop.time()
            if polled or left_s <= 0:
                return polled
            # Not all that `poll` raises is told as data, such as a topic that stays unknown.
            await self._bell.wait(min(left_s, 1.0))

    async def _attend(self, consumer: Consumer) -> None:
        """What the group waits for: begun by one call, and waited for by every other until it is done."""
        attending = self._attending
        if attending is None:
            attending = self._attending = in_thread(consumer.attend)
        await asyncio.wait([attending])
        if self._attending is attending:
            # The first that comes back ends it, and raises what it raised.
            self._attending = None
            attending.result()

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
        """As Consumer.position."""
        return await finished(in_thread(partial(self.consumer.position, partition)))

    async def beginning_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """As Consumer.beginning_offsets."""
        return await finished(in_thread(partial(self.consumer.beginning_offsets, list(partitions))))

    async def end_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """As Consumer.end_offsets."""
        return await finished(in_thread(partial(self.consumer.end_offsets, list(partitions))))

    async def commit(self, offsets: Mapping[TopicPartition, int | OffsetAndMetadata] | None = None) -> None:
        """As Consumer.commit. Cancelled, it may be committed all the same; later commits come after it."""
        await finished(in_thread(self.consumer.begin_commit(offsets)))

    async def committed(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, OffsetAndMetadata | None]:
        """As Consumer.committed."""
        return await finished(in_thread(partial(self.consumer.committed, list(partitions))))

    async def stop(self, *, autocommit: bool = True) -> None:
        """As Consumer.close. Cancelled, it goes on, and the next `stop` waits for it. Without a start it does nothing.

        Tasks that read end with ClosedError.
        """
        consumer = self._consumer
        if self._closing is None and consumer is not None:
            self._closing = in_thread(partial(consumer.close, autocommit=autocommit))
            self._closing.add_done_callback(lambda _: self._bell.ring())
        if self._closing is not None:
            await finished(self._closing)

    async def __aenter__(self) -> AsyncConsumer:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        await self.stop(autocommit=kind is None)
