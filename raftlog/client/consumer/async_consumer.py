"""AsyncConsumer: the Consumer for asyncio. The same core and thread; only waiting differs.

Callbacks of a group and commits before partitions are given up run in a thread (`attend`). That thread is the
consumer's, not the call's: a call that is cancelled leaves it, and the next one waits for it before anything is handed
out. Records are taken in the event loop, in the step that returns them, so that no cancellation loses any.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from functools import partial

from raftlog.client import arguments
from raftlog.client.consumer.consumer import Consumer, consumer_of
from raftlog.client.consumer.options import ConsumerOptions
from raftlog.client.consumer.reader import Reader
from raftlog.client.core.async_work import Doorbell, finished, in_thread, tell
from raftlog.client.core.fork_check import Client
from raftlog.client.fetcher.partition_state import ConsumerRecord
from raftlog.client.group.offsets import OffsetAndMetadata
from raftlog.errors import ClosedError
from raftlog.types import TopicPartition


class AsyncConsumer(Client):
    """The Consumer for asyncio; its arguments are those of ConsumerOptions.

    Start it, or use `async with`; one event loop uses it. Callbacks of a group run in another thread, while the tasks
    that read wait for them. Any call may be cancelled: what it began either ends, or is waited for by the next call.
    Records are never lost by it.
    """

    @arguments.takes(ConsumerOptions)
    def __init__(self, options: ConsumerOptions) -> None:
        """Raises TypeError, ValueError."""
        self._options = options
        self._reader: Reader | None = None
        self._consumer: Consumer | None = None
        self._attending: asyncio.Future[None] | None = None
        self._closing: asyncio.Future[None] | None = None
        self._bell = Doorbell()

    async def start(self) -> None:
        """Raises NoBrokersAvailableError as Consumer does; RuntimeError when it was started before.

        After an error, or when it is cancelled, it may be started again.
        """
        if self._reader is not None:
            raise RuntimeError("the consumer has been started already")
        loop = asyncio.get_running_loop()
        reader = self._reader = Reader(self._options, on_data=partial(tell, loop, self._bell.ring))
        self._consumer = consumer_of(reader)
        super().__init__()  # from here on it belongs to this process
        reader.start()
        connecting = in_thread(reader.connect)
        try:
            await finished(connecting)
        except BaseException:
            self._reader = self._consumer = None
            self._closing = in_thread(partial(reader.close, autocommit=False))  # which ends `connecting` too
            raise
        self._closing = None

    @property
    def consumer(self) -> Consumer:
        """For all that does not wait: assign, seek, pause, assignment, group_metadata …

        With a group_id what gives partitions up (assign, subscribe, unsubscribe) waits for a last commit: use a thread.
        Raises ClosedError before `start`.
        """
        self._started()
        assert self._consumer is not None
        return self._consumer

    def _started(self) -> Reader:
        if self._reader is None:
            raise ClosedError("the consumer is not started: await start(), or use `async with`")
        return self._reader

    async def getmany(
        self, timeout_ms: float = 0, max_records: int | None = None
    ) -> dict[TopicPartition, list[ConsumerRecord]]:
        """As Consumer.poll."""
        reader = self._started()
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_ms / 1000
        while True:
            attended = False
            while self._attending is not None or (not attended and reader.needs_attention()):
                await self._attend(reader)
                attended = True  # once: with a commit interval of 0 there is always something to do
            polled = reader.take(0.0, max_records)  # no await from here to the return
            left_s = deadline_s - loop.time()
            if polled or left_s <= 0:
                return polled
            # Not all that `poll` raises is told as data, such as a topic that stays unknown.
            await self._bell.wait(min(left_s, 1.0))

    async def _attend(self, reader: Reader) -> None:
        """What the group waits for: begun by one call, and waited for by every other until it is done."""
        attending = self._attending
        if attending is None:
            attending = self._attending = in_thread(reader.attend)
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
        await finished(in_thread(self._started().in_group().begin_commit(offsets)))

    async def committed(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, OffsetAndMetadata | None]:
        """As Consumer.committed."""
        return await finished(in_thread(partial(self.consumer.committed, list(partitions))))

    async def stop(self, *, autocommit: bool = True) -> None:
        """As Consumer.close. Cancelled, it goes on, and the next `stop` waits for it. Without a start it does nothing.

        Tasks that read end with ClosedError.
        """
        reader = self._reader
        if self._closing is None and reader is not None:
            self._closing = in_thread(partial(reader.close, autocommit=autocommit))
            self._closing.add_done_callback(lambda _: self._bell.ring())
        if self._closing is not None:
            await finished(self._closing)

    async def __aenter__(self) -> AsyncConsumer:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        await self.stop(autocommit=kind is None)
