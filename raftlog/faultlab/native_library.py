"""raftlog's own client, as a library of the lab."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from raftlog import client
from raftlog.client.producer.batch import RecordFuture
from raftlog.errors import ClosedError, RaftlogError
from raftlog.faultlab.libraries import Options, RefusedError, Shares
from raftlog.types import TopicPartition


class NativeLibrary:
    def __init__(self, options: Options) -> None:
        self._options = options
        login = options.login
        self._who: dict[str, Any] = {"security": ""}
        if login is not None:
            folder = str(Path(login.authority).parent)
            self._who = {"security": folder, "user": login.user, "password": login.password}

    @contextlib.contextmanager
    def producer(self) -> Iterator[NativeProducer]:
        options = self._options
        settings = {"delivery_timeout_ms": options.delivery_ms, "linger_ms": 0, **self._who}
        with _told(), client.Producer(options.bootstrap, **settings) as made:
            yield NativeProducer(made, options.topic)

    @contextlib.contextmanager
    def consumer(self, auto_offset_reset: str, group: str = "") -> Iterator[NativeConsumer]:
        options = self._options
        settings: dict[str, Any] = {"group_id": group, "session_timeout_ms": options.session_s * 1000} if group else {}
        with (
            _told(),
            client.Consumer(
                bootstrap_servers=options.bootstrap,
                auto_offset_reset=auto_offset_reset,
                client_id=options.client_id,
                enable_auto_commit=False,
                **settings,
                **self._who,
            ) as made,
        ):
            yield NativeConsumer(made, options.topic)

    @contextlib.contextmanager
    def watcher(self) -> Iterator[NativeWatcher]:
        with _told(), client.Admin(self._options.bootstrap, client_id=self._options.client_id, **self._who) as made:
            yield NativeWatcher(made)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except ClosedError:
        raise
    except RaftlogError as error:
        text = f"{type(error).__name__}: {error}"
        raise RefusedError(text, outcome_unknown=error.outcome_unknown) from error


class NativeProducer:
    may_be_over = False

    def __init__(self, producer: client.Producer, topic: str) -> None:
        self._producer = producer
        self._topic = topic

    def send(self, batch: Iterable[tuple[int, bytes]]) -> list[int | None]:
        sent: list[RecordFuture | RaftlogError] = []
        for partition, value in batch:
            try:
                sent.append(self._producer.send(self._topic, value, partition=partition))
            except RaftlogError as error:
                sent.append(error)
        return [_offset(each) for each in sent]


def _offset(sent: RecordFuture | RaftlogError) -> int | None:
    # It comes by itself: delivery_timeout_ms bounds it.
    failed = sent if isinstance(sent, RaftlogError) else sent.exception()
    if failed is not None:
        return None if failed.outcome_unknown else -1
    assert not isinstance(sent, RaftlogError)
    return sent.result().offset


class NativeConsumer:
    def __init__(self, consumer: client.Consumer, topic: str) -> None:
        self._consumer = consumer
        self._topic = topic

    def _place(self, partition: int) -> TopicPartition:
        return TopicPartition(self._topic, partition)

    def assign(self, positions: Mapping[int, int]) -> None:
        self._consumer.assign([self._place(partition) for partition in positions])
        for partition in positions:
            self.seek(partition, positions)

    def seek(self, partition: int, positions: Mapping[int, int]) -> None:
        self._consumer.seek(self._place(partition), positions[partition])

    def subscribe(self, assigned: Shares, revoked: Shares, lost: Shares) -> None:
        self._consumer.subscribe(
            [self._topic], on_assigned=_numbers(assigned), on_revoked=_numbers(revoked), on_lost=_numbers(lost)
        )

    def poll(self, wait_ms: int) -> dict[int, list[tuple[int, bytes | None]]]:
        with _told():
            polled = self._consumer.poll(wait_ms)
        return {place.partition: [(each.offset, each.value) for each in found] for place, found in polled.items()}

    def known_end(self, partition: int) -> int:
        return self._consumer.highwater(self._place(partition)) or 0

    def ends(self, partitions: Iterable[int]) -> dict[int, int]:
        with _told():
            ends = self._consumer.end_offsets([self._place(partition) for partition in partitions])
        return {place.partition: end for place, end in ends.items()}

    def generation(self) -> int | None:
        generation = self._consumer.group_metadata().generation
        return generation if generation >= 0 else None

    def commit(self, ends: Mapping[int, int]) -> None:
        with _told():
            self._consumer.commit({self._place(partition): end for partition, end in ends.items()})


def _numbers(tell: Shares) -> Callable[[list[TopicPartition]], None]:
    return lambda places: tell([place.partition for place in places])


class NativeWatcher:
    def __init__(self, admin: client.Admin) -> None:
        self._admin = admin

    def committed(self, group: str) -> dict[int, int]:
        with _told():
            return {place.partition: offset for place, offset in self._admin.group_offsets(group).items()}
