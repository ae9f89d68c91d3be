"""kafka-python, as a library of the lab."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import kafka
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from raftlog.faultlab.libraries import POLL_RECORDS_MAX, Options, RefusedError, Shares

_CLOSE_MS = 5000
_ANSWER_MS = 10_000
_RECONNECT_MAX_MS = 1000


class KafkaPythonLibrary:
    def __init__(self, options: Options) -> None:
        self._options = options
        login = options.login
        self._settings: dict[str, Any] = {
            "bootstrap_servers": options.bootstrap.split(","),
            "client_id": options.client_id,
            "request_timeout_ms": _ANSWER_MS,
            "reconnect_backoff_max_ms": _RECONNECT_MAX_MS,
        }
        if login is not None:
            self._settings |= {
                "security_protocol": "SASL_SSL",
                "ssl_cafile": login.authority,
                "sasl_mechanism": "SCRAM-SHA-512",
                "sasl_plain_username": login.user,
                "sasl_plain_password": login.password,
            }

    @contextlib.contextmanager
    def producer(self) -> Iterator[KafkaPythonProducer]:
        delivery_ms = self._options.delivery_ms
        with _told():
            made = kafka.KafkaProducer(
                **self._settings
                | {
                    "acks": "all",
                    "enable_idempotence": True,
                    "linger_ms": 0,
                    "delivery_timeout_ms": delivery_ms,
                    "max_block_ms": delivery_ms,
                    "request_timeout_ms": min(delivery_ms, _ANSWER_MS),
                }
            )
        try:
            yield KafkaPythonProducer(made, self._options.topic, delivery_ms)
        finally:
            with contextlib.suppress(KafkaError):  # what it still has is given up
                made.close(timeout=_CLOSE_MS / 1000)

    @contextlib.contextmanager
    def consumer(self, auto_offset_reset: str, group: str = "") -> Iterator[KafkaPythonConsumer]:
        settings: dict[str, Any] = {"auto_offset_reset": auto_offset_reset, "enable_auto_commit": False}
        if group:
            settings |= {"group_id": group, "session_timeout_ms": self._options.session_s * 1000}
        with _told():
            made = kafka.KafkaConsumer(**self._settings | settings)
        try:
            yield KafkaPythonConsumer(made, self._options.topic)
        finally:
            with contextlib.suppress(KafkaError):  # its session ends all the same
                made.close(timeout_ms=_CLOSE_MS)

    @contextlib.contextmanager
    def watcher(self) -> Iterator[KafkaPythonWatcher]:
        with _told():
            made = kafka.KafkaAdminClient(**self._settings)
        try:
            yield KafkaPythonWatcher(made)
        finally:
            made.close()


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except KafkaError as error:
        raise RefusedError(f"{type(error).__name__}: {error}") from error


class KafkaPythonProducer:
    may_be_over = True

    def __init__(self, producer: Any, topic: str, delivery_ms: int) -> None:
        self._producer = producer
        self._topic = topic
        self._patience_s = 2 * delivery_ms / 1000

    def send(self, batch: Iterable[tuple[int, bytes]]) -> list[int | None]:
        """It does not say whether what failed was written."""
        sent = []
        for partition, value in batch:
            try:
                sent.append(self._producer.send(self._topic, value=value, partition=partition))
            except KafkaError:
                sent.append(None)  # it was not even queued
        deadline_s = time.monotonic() + self._patience_s
        return [-1 if each is None else _offset(each, deadline_s - time.monotonic()) for each in sent]


def _offset(future: Any, wait_s: float) -> int | None:
    try:
        return int(future.get(timeout=max(wait_s, 0.0)).offset)
    except KafkaError:
        return None


class KafkaPythonConsumer:
    def __init__(self, consumer: Any, topic: str) -> None:
        self._consumer = consumer
        self._topic = topic

    def _place(self, partition: int) -> Any:
        return kafka.TopicPartition(self._topic, partition)

    def assign(self, positions: Mapping[int, int]) -> None:
        self._consumer.assign([self._place(partition) for partition in positions])
        for partition in positions:
            self.seek(partition, positions)

    def seek(self, partition: int, positions: Mapping[int, int]) -> None:
        self._consumer.seek(self._place(partition), positions[partition])

    def subscribe(self, assigned: Shares, revoked: Shares, lost: Shares) -> None:
        self._consumer.subscribe([self._topic], listener=_Listener(assigned, revoked, lost))

    def poll(self, wait_ms: int) -> dict[int, list[tuple[int, bytes | None]]]:
        with _told():
            polled = self._consumer.poll(timeout_ms=wait_ms, max_records=POLL_RECORDS_MAX)
        return {place.partition: [(each.offset, each.value) for each in found] for place, found in polled.items()}

    def known_end(self, partition: int) -> int:
        return self._consumer.highwater(self._place(partition)) or 0

    def ends(self, partitions: Iterable[int]) -> dict[int, int]:
        with _told():
            ends = self._consumer.end_offsets([self._place(partition) for partition in partitions])
        return {place.partition: end for place, end in ends.items()}

    def generation(self) -> int | None:
        generation: int = self._consumer.group_metadata().generation_id
        return generation if generation >= 0 else None

    def commit(self, ends: Mapping[int, int]) -> None:
        with _told():
            self._consumer.commit(
                {self._place(partition): OffsetAndMetadata(end, "", -1) for partition, end in ends.items()},
                timeout_ms=_ANSWER_MS,
            )


class _Listener(kafka.ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, assigned: Shares, revoked: Shares, lost: Shares) -> None:
        self._assigned = assigned
        self._revoked = revoked
        self._lost = lost

    def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        self._assigned([place.partition for place in assigned])

    def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:
        self._revoked([place.partition for place in revoked])

    def on_partitions_lost(self, lost: Iterable[Any]) -> None:
        self._lost([place.partition for place in lost])


class KafkaPythonWatcher:
    def __init__(self, admin: Any) -> None:
        self._admin = admin

    def committed(self, group: str) -> dict[int, int]:
        with _told():
            told = self._admin.list_group_offsets(group)[group]
        return {place.partition: found.offset for place, found in told.items()}
