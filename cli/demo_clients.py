"""The clients that the demo works with: raftlog's own, or one of Kafka's that is installed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

from raftlog.errors import ConfigError
from raftlog.types import TopicPartition

DELIVERY_TIMEOUT_MS = 60_000  # a record that waits longer counts as failed
_POLL_RECORDS = 5_000
_POLL_S = 0.2
_CLOSE_S = 10.0

Done = Callable[[BaseException | None, int], None]
"""done(error, offset), from any thread."""


class Found(NamedTuple):
    """A record that was read back."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


class DemoProducer(Protocol):
    def send(self, partition: int, key: bytes | None, value: bytes, done: Done) -> None:
        """With acks=all, once."""
        ...

    def flush(self) -> None: ...


class DemoReader(Protocol):
    """From offset 0 on. `ends`: the offset behind the last record of each partition when it began."""

    ends: dict[int, int]

    def poll(self) -> list[Found]: ...


class DemoClient(Protocol):
    def produce(self, topic: str) -> contextlib.AbstractContextManager[DemoProducer]: ...

    def read(self, topic: str, partitions: int) -> contextlib.AbstractContextManager[DemoReader]: ...


def kafka_client(bootstrap: str, security: str = "") -> DemoClient:
    """One of Kafka's clients; `security`: with the certificate in this directory. Raises ConfigError where none is
    installed.
    """
    for client in (ConfluentClient, KafkaPythonClient):
        with contextlib.suppress(ImportError):
            return client(bootstrap, security)
    raise ConfigError("--kafka needs one of Kafka's clients: pip install confluent-kafka, or kafka-python")


# --- raftlog ---------------------------------------------------------------------------------------
class NativeClient:
    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap

    @contextlib.contextmanager
    def produce(self, topic: str) -> Iterator[DemoProducer]:
        from raftlog import Producer

        producer = Producer(
            bootstrap_servers=self._bootstrap,
            acks="all",
            delivery_timeout_ms=DELIVERY_TIMEOUT_MS,
            max_block_ms=DELIVERY_TIMEOUT_MS,
        )
        with producer:
            yield _NativeProducer(producer, topic)

    @contextlib.contextmanager
    def read(self, topic: str, partitions: int) -> Iterator[DemoReader]:
        from raftlog import Consumer

        places = [TopicPartition(topic, number) for number in range(partitions)]
        with Consumer(bootstrap_servers=self._bootstrap, auto_offset_reset="none") as consumer:
            consumer.assign(places)
            for place in places:
                consumer.seek(place, 0)
            yield _PollingReader(consumer, places)


class _NativeProducer:
    def __init__(self, producer: Any, topic: str) -> None:
        self._producer = producer
        self._topic = topic
        self.flush = producer.flush

    def send(self, partition: int, key: bytes | None, value: bytes, done: Done) -> None:
        def told(future: Any) -> None:
            error = future.exception()
            done(error, -1 if error else future.result().offset)

        self._producer.send(self._topic, value=value, key=key, partition=partition).add_done_callback(told)


class _PollingReader:
    """For the consumers of raftlog and kafka-python, whose names are the same."""

    def __init__(self, consumer: Any, places: list[Any]) -> None:
        self._consumer = consumer
        self.ends = {place.partition: end for place, end in consumer.end_offsets(places).items()}

    def poll(self) -> list[Found]:
        polled = self._consumer.poll(timeout_ms=int(_POLL_S * 1000), max_records=_POLL_RECORDS)
        return [
            Found(record.partition, record.offset, record.key, record.value)
            for batch in polled.values()
            for record in batch
        ]


# --- Kafka's ---------------------------------------------------------------------------------------
class ConfluentClient:
    """librdkafka. Raises ImportError."""

    def __init__(self, bootstrap: str, security: str) -> None:
        import confluent_kafka

        self._kafka = confluent_kafka
        self._settings: dict[str, Any] = {"bootstrap.servers": bootstrap}
        if security:
            self._settings |= {
                "security.protocol": "ssl",
                "ssl.ca.location": f"{security}/ca.pem",
                "ssl.certificate.location": f"{security}/client.pem",
                "ssl.key.location": f"{security}/client.key",
            }

    @contextlib.contextmanager
    def produce(self, topic: str) -> Iterator[DemoProducer]:
        producer = _ConfluentProducer(
            self._kafka.Producer(
                {
                    **self._settings,
                    "enable.idempotence": True,
                    "message.timeout.ms": DELIVERY_TIMEOUT_MS,
                    "linger.ms": 5,
                }
            ),
            topic,
        )
        try:
            yield producer
        finally:
            producer.close()

    @contextlib.contextmanager
    def read(self, topic: str, partitions: int) -> Iterator[DemoReader]:
        settings = {**self._settings, "group.id": "raftlog-demo", "enable.auto.commit": False}
        consumer = self._kafka.Consumer(settings)
        try:
            consumer.assign([self._kafka.TopicPartition(topic, number, 0) for number in range(partitions)])
            yield _ConfluentReader(consumer, self._kafka.TopicPartition, topic, partitions)
        finally:
            consumer.close()


class _ConfluentProducer:
    """librdkafka tells outcomes only to who polls: a thread does."""

    def __init__(self, producer: Any, topic: str) -> None:
        self._producer = producer
        self._topic = topic
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="raftlog-demo-poll", daemon=True)
        self._thread.start()

    def _poll(self) -> None:
        while not self._stopping.is_set():
            self._producer.poll(_POLL_S)

    def send(self, partition: int, key: bytes | None, value: bytes, done: Done) -> None:
        def told(error: Any, message: Any) -> None:
            done(RuntimeError(str(error)) if error else None, message.offset())

        while True:
            try:
                self._producer.produce(self._topic, value, key, partition, on_delivery=told)
            except BufferError:
                self._producer.poll(0.01)  # its queue is full: outcomes make room
            else:
                return

    def flush(self) -> None:
        self._producer.flush()

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._producer.flush(_CLOSE_S)


class _ConfluentReader:
    def __init__(self, consumer: Any, place: Any, topic: str, partitions: int) -> None:
        self._consumer = consumer
        bounds = {number: consumer.get_watermark_offsets(place(topic, number)) for number in range(partitions)}
        self.ends = {number: end for number, (_, end) in bounds.items()}

    def poll(self) -> list[Found]:
        return [
            Found(message.partition(), message.offset(), message.key(), message.value())
            for message in self._consumer.consume(_POLL_RECORDS, _POLL_S)
            if message.error() is None
        ]


class KafkaPythonClient:
    """Raises ImportError."""

    def __init__(self, bootstrap: str, security: str) -> None:
        import kafka

        self._kafka = kafka
        self._settings: dict[str, Any] = {"bootstrap_servers": bootstrap.split(",")}
        if security:
            self._settings |= {
                "security_protocol": "SSL",
                "ssl_cafile": f"{security}/ca.pem",
                "ssl_certfile": f"{security}/client.pem",
                "ssl_keyfile": f"{security}/client.key",
            }

    @contextlib.contextmanager
    def produce(self, topic: str) -> Iterator[DemoProducer]:
        producer = self._kafka.KafkaProducer(
            **self._settings,
            acks="all",
            enable_idempotence=True,
            delivery_timeout_ms=DELIVERY_TIMEOUT_MS,
            max_block_ms=DELIVERY_TIMEOUT_MS,
            linger_ms=5,
        )
        try:
            yield _KafkaPythonProducer(producer, topic)
        finally:
            producer.close(timeout=_CLOSE_S)

    @contextlib.contextmanager
    def read(self, topic: str, partitions: int) -> Iterator[DemoReader]:
        places = [self._kafka.TopicPartition(topic, number) for number in range(partitions)]
        consumer = self._kafka.KafkaConsumer(**self._settings, auto_offset_reset="none")
        try:
            consumer.assign(places)
            for place in places:
                consumer.seek(place, 0)
            yield _PollingReader(consumer, places)
        finally:
            consumer.close()


class _KafkaPythonProducer:
    def __init__(self, producer: Any, topic: str) -> None:
        self._producer = producer
        self._topic = topic
        self.flush = producer.flush

    def send(self, partition: int, key: bytes | None, value: bytes, done: Done) -> None:
        sent = self._producer.send(self._topic, value=value, key=key, partition=partition)
        sent.add_callback(lambda stored: done(None, stored.offset))
        sent.add_errback(lambda error: done(error, -1))
