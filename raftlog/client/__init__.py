"""Producer, Consumer and Admin, and their asyncio twins. Names as in kafka-python.

Each is a thin face of a core that does no I/O (sender, fetcher, calls) and one background thread (engine)
that owns the connections.
"""

from raftlog.client.admin import Admin
from raftlog.client.async_consumer import AsyncConsumer
from raftlog.client.async_producer import AsyncProducer
from raftlog.client.consumer import Consumer
from raftlog.client.fetched import ConsumerRecord
from raftlog.client.group_offsets import OffsetAndMetadata
from raftlog.client.group_reader import ConsumerGroupMetadata
from raftlog.client.offset_queries import OffsetAndTimestamp
from raftlog.client.partitioners import PARTITIONERS
from raftlog.client.pending import RecordFuture, RecordMetadata
from raftlog.client.producer import Producer
from raftlog.protocol.messages import NewTopic
from raftlog.types import TopicPartition

__all__ = [
    "PARTITIONERS",
    "Admin",
    "AsyncConsumer",
    "AsyncProducer",
    "Consumer",
    "ConsumerGroupMetadata",
    "ConsumerRecord",
    "NewTopic",
    "OffsetAndMetadata",
    "OffsetAndTimestamp",
    "Producer",
    "RecordFuture",
    "RecordMetadata",
    "TopicPartition",
]
