"""Producer, Consumer and Admin, and their asyncio twins. Names as in kafka-python.

Each is a thin face of a core that does no I/O (sender, fetcher, calls) and one background thread (engine)
that owns the connections.
"""

from raftlog.client.admin.admin import Admin
from raftlog.client.consumer.async_consumer import AsyncConsumer
from raftlog.client.consumer.consumer import Consumer
from raftlog.client.consumer.offset_lookup import OffsetAndTimestamp
from raftlog.client.fetcher.partition_state import ConsumerRecord
from raftlog.client.group.offsets import OffsetAndMetadata
from raftlog.client.group.session import ConsumerGroupMetadata
from raftlog.client.producer.async_producer import AsyncProducer
from raftlog.client.producer.batch import RecordFuture, RecordMetadata
from raftlog.client.producer.partitioners import PARTITIONERS
from raftlog.client.producer.producer import Producer
from raftlog.protocol.topics import NewTopic
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
