"""Producer: records in, futures out. Batching, sending and retrying happen in the client's thread (writer.py)."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from raftlog.client import arguments
from raftlog.client.core.fork_check import Client
from raftlog.client.producer.batch import RecordFuture
from raftlog.client.producer.options import ProducerOptions
from raftlog.client.producer.writer import Writer
from raftlog.errors import ForkedClientError
from raftlog.record.batch import Headers

# How long leaving a `with` block by an exception waits for what was sent before.
_AFTER_ERROR_S = 5.0


class Producer(Client):
    """Sends records. Thread-safe, and of one process (fork_check.py). Its options are those of ProducerOptions.

    Close it, or use it as a context manager; otherwise what is buffered is lost at exit.

    Records of one partition keep the order of `send`, also when they are sent again. With idempotence a record is in
    the log at most once, whatever becomes of it; one that was written, but so long ago that its offset is forgotten,
    has offset -1. The first record waits for a producer id of the controller.

    Without idempotence a batch whose outcome is unknown is sent again and may then be in the log twice, and, as in
    Kafka, a batch that is refused for a moment (throttled, too few replicas in sync, disk full) while one behind it in
    flight is accepted comes after that one: max_in_flight=1 excludes it.
    """

    @arguments.takes(ProducerOptions)
    def __init__(self, options: ProducerOptions) -> None:
        """Raises NoBrokersAvailableError when no node answers within `bootstrap_timeout_ms`; TypeError, ValueError."""
        self._writer = Writer(options)
        # Chosen once, so that a record pays for serializers only where there are some.
        self._send = self._serialize_and_send if self._writer.serializes else self._writer.send
        super().__init__()
        self._writer.start()
        self._writer.connect()

    def abandon_in_child(self, error: ForkedClientError) -> None:
        self._writer.accumulator.abandon_in_child(error)

    def send(
        self,
        topic: str,
        value: Any = None,
        key: Any = None,
        headers: Headers | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        *,
        max_block_ms: float | None = None,
    ) -> RecordFuture:
        """Puts the record into a batch; the future tells its partition, offset and timestamp.

        Raises UnknownTopicOrPartitionError, BufferExhaustedError or NoBrokersAvailableError after at most
        `max_block_ms` (here: of this one record), ClosedError, what the serializers raise, and TypeError for keys and
        values that are not bytes then. All that comes later, and a record that is too large, fails the future.
        """
        return self._send(topic, value, key, headers, partition, timestamp_ms, max_block_ms)

    def _serialize_and_send(self, topic: str, value: Any, key: Any, *rest: Any) -> RecordFuture:
        key, value = self._writer.serialized(key, value)
        return self._writer.send(topic, value, key, *rest)

    def partitions_for(self, topic: str) -> set[int]:
        """The partitions of the topic. Raises as `send` does."""
        return set(self._writer.partitions(topic))

    def flush(self, timeout: float | None = None) -> None:
        """Sends all at once and waits until every record so far has its outcome, whichever it is.

        Ends within delivery_timeout_ms. Raises TimeoutError after `timeout` seconds.
        """
        self._writer.flush(timeout)

    def close(self, timeout: float | None = None) -> None:
        """Takes no more records, waits for those it has (at most `timeout` seconds), and ends.

        What has no outcome by then fails with ClosedError. Safe to call twice, and from a callback. With acks=0 it
        waits until the leaders have received what was sent, at most CLOSE_LINGER_S.
        """
        self._writer.close(timeout)

    def __enter__(self) -> Producer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.close(None if error is None else _AFTER_ERROR_S)
        except ForkedClientError:
            if error is None:
                raise  # else what ends a child, such as SystemExit, goes on
