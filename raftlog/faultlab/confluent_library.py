"""librdkafka, by confluent-kafka, as a library of the lab."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from raftlog.faultlab.libraries import POLL_RECORDS_MAX, Options, RefusedError, Shares

_POLL_S = 0.1
_ANSWER_S = 10.0  # of questions that block
_RECONNECT_MAX_MS = 1000


class ConfluentLibrary:
    def __init__(self, options: Options) -> None:
        self._options = options
        self._settings: dict[str, str | int | float | bool] = {
            "bootstrap.servers": options.bootstrap,
            "client.id": options.client_id,
            "reconnect.backoff.max.ms": _RECONNECT_MAX_MS,
        }
        login = options.login
        if login is not None:
            self._settings |= {
                "security.protocol": "SASL_SSL",
                "ssl.ca.location": login.authority,
                "sasl.mechanisms": "SCRAM-SHA-512",
                "sasl.username": login.user,
                "sasl.password": login.password,
            }

    @contextlib.contextmanager
    def producer(self) -> Iterator[ConfluentProducer]:
        settings = {"enable.idempotence": True, "linger.ms": 0, "message.timeout.ms": self._options.delivery_ms}
        yield ConfluentProducer(confluent_kafka.Producer(self._settings | settings), self._options.topic)

    @contextlib.contextmanager
    def consumer(self, auto_offset_reset: str, group: str = "") -> Iterator[ConfluentConsumer]:
        made = confluent_kafka.Consumer(
            self._settings
            | {
                # It wants a name also where it is no member.
                "group.id": group or self._options.client_id,
                "auto.offset.reset": auto_offset_reset,
                "enable.auto.commit": False,
                "session.timeout.ms": self._options.session_s * 1000,
            }
        )
        consumer = ConfluentConsumer(made, self._options.topic)
        try:
            yield consumer
        finally:
            with contextlib.suppress(KafkaException):  # its session ends all the same
                made.close()

    @contextlib.contextmanager
    def watcher(self) -> Iterator[ConfluentWatcher]:
        yield ConfluentWatcher(AdminClient(self._settings))


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (KafkaException, RuntimeError) as error:
        raise RefusedError(f"{type(error).__name__}: {error}") from error


class ConfluentProducer:
    def __init__(self, producer: Any, topic: str) -> None:
        self.may_be_over = False
        self._producer = producer
        self._topic = topic

    def send(self, batch: Iterable[tuple[int, bytes]]) -> list[int | None]:
        """It does not say whether what failed was written."""
        offsets: list[int | None] = []
        left = 0

        def teller(place: int) -> Callable[[Any, Any], None]:
            def told(error: KafkaError | None, message: Any) -> None:
                nonlocal left
                left -= 1
                if error is None:
                    offsets[place] = message.offset()
                elif error.fatal():
                    self.may_be_over = True

            return told

        for partition, value in batch:
            place = len(offsets)
            offsets.append(None)
            try:
                self._producer.produce(self._topic, value, partition=partition, on_delivery=teller(place))
                left += 1
            except (BufferError, KafkaException):
                offsets[place] = -1  # it was not even queued
        while left:
            self._producer.poll(_POLL_S)
        return offsets


class ConfluentConsumer:
    def __init__(self, consumer: Any, topic: str) -> None:
        self._consumer = consumer
        self._topic = topic
        self._polled: dict[int, list[tuple[int, bytes | None]]] = {}

    def _places(self, positions: Mapping[int, int]) -> list[TopicPartition]:
        return [TopicPartition(self._topic, partition, position) for partition, position in positions.items()]

    def assign(self, positions: Mapping[int, int]) -> None:
        self._consumer.assign(self._places(positions))

    def seek(self, partition: int, positions: Mapping[int, int]) -> None:
        """As a new assignment: its own seek is refused until a fetch has begun."""
        self.assign(positions)

    def subscribe(self, assigned: Shares, revoked: Shares, lost: Shares) -> None:
        def given_up(tell: Shares) -> Callable[[Any, list[TopicPartition]], None]:
            def told(_consumer: Any, places: list[TopicPartition]) -> None:
                for place in places:
                    self._polled.pop(place.partition, None)  # nobody was handed these yet
                tell([place.partition for place in places])

            return told

        self._consumer.subscribe(
            [self._topic],
            on_assign=lambda _, places: assigned([place.partition for place in places]),
            on_revoke=given_up(revoked),
            on_lost=given_up(lost),
        )

    def poll(self, wait_ms: int) -> dict[int, list[tuple[int, bytes | None]]]:
        self._polled = {}
        failed: KafkaError | None = None
        with _told():
            for number in range(POLL_RECORDS_MAX):
                message = self._consumer.poll(0 if number else wait_ms / 1000)
                if message is None:
                    break
                if message.error() is None:
                    self._polled.setdefault(message.partition(), []).append((message.offset(), message.value()))
                else:
                    failed = message.error()
        if failed is not None and not self._polled:
            raise RefusedError(str(failed))
        return self._polled

    def known_end(self, partition: int) -> int:
        with _told():
            _, end = self._consumer.get_watermark_offsets(TopicPartition(self._topic, partition), cached=True)
        return max(int(end), 0)

    def ends(self, partitions: Iterable[int]) -> dict[int, int]:
        found = {}
        with _told():
            for partition in partitions:
                place = TopicPartition(self._topic, partition)
                found[partition] = int(self._consumer.get_watermark_offsets(place, timeout=_ANSWER_S)[1])
        return found

    def generation(self) -> int | None:
        return None  # it keeps that to itself

    def commit(self, ends: Mapping[int, int]) -> None:
        with _told():
            committed = self._consumer.commit(offsets=self._places(ends), asynchronous=False)
        failed = next((each.error for each in committed if each.error is not None), None)
        if failed is not None:
            raise RefusedError(str(failed))


class ConfluentWatcher:
    def __init__(self, admin: Any) -> None:
        self._admin = admin

    def committed(self, group: str) -> dict[int, int]:
        asked = confluent_kafka.ConsumerGroupTopicPartitions(group)
        with _told():
            futures = self._admin.list_consumer_group_offsets([asked], request_timeout=_ANSWER_S)
            (told,) = (future.result() for future in futures.values())
        failed = next((each.error for each in told.topic_partitions if each.error is not None), None)
        if failed is not None:
            raise RefusedError(str(failed))
        return {each.partition: each.offset for each in told.topic_partitions}
