"""The workload: one process per client, which records every operation that it does.

    python -m raftlog.faultlab.clients ROLE --process 3 --history FILE --bootstrap … --topic … [--group …] --seed 7

producer   sends batches of unique values, acks=all and idempotent, one batch after the other
reader     polls its partitions, assigned by itself; now and then it goes back, or is started again
member     polls as a member of a group, and commits; now and then it leaves and joins anew
watcher    asks again and again, as a tool does, what the group has committed
final      reads all partitions from the beginning to their end, once, and ends

All but the last end when their stdin does.
"""

from __future__ import annotations

import argparse
import random
import select
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from raftlog.client import Admin, Consumer, Producer
from raftlog.client.fetcher.partition_state import ConsumerRecord
from raftlog.client.producer.batch import RecordFuture
from raftlog.errors import ClosedError, NoBrokersAvailableError, RaftlogError
from raftlog.faultlab.history import Recorder
from raftlog.types import TopicPartition

_T = TypeVar("_T")
_VALUES_PER_PROCESS = 100_000_000
_BATCH_RECORDS_MAX = 20
_PAD = b" " + b"." * 80
_POLL_MS = 300
_WATCH_S = 0.2
_GO_BACK = 0.01  # of the polls
_BACK_RECORDS = 10_000  # no further: what is read again and again fills the histories of a long run
_START_AGAIN = 0.02  # of the polls
_LEAVE = 0.01  # of the polls of a member
_FINAL_S = 120.0
_COMMIT = 0.5  # of the polls that returned something
SESSION_S = 6
"""Of a member: who is paused for longer is replaced."""


class Client:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.recorder = Recorder(options.history, options.process)
        self.rng = random.Random(options.seed)
        self.places = [TopicPartition(options.topic, number) for number in range(options.partitions)]

    def goes_on(self, wait_s: float = 0.0) -> bool:
        return not select.select([sys.stdin], [], [], wait_s)[0]

    def consumer(self, *topics: str, auto_offset_reset: str = "earliest", **settings: Any) -> Consumer:
        settings |= {"auto_offset_reset": auto_offset_reset, "client_id": f"lab-{self.options.process}"}
        return self._opened(lambda: Consumer(*topics, bootstrap_servers=self.options.bootstrap, **settings))

    def admin(self) -> Admin:
        return self._opened(lambda: Admin(self.options.bootstrap, client_id=f"lab-{self.options.process}"))

    def _opened(self, make: Callable[[], _T]) -> _T:
        """Tries until some node answers: the lab may have cut all of them off."""
        while True:
            try:
                return make()
            except NoBrokersAvailableError:
                if not self.goes_on(0.5):
                    raise


def values_of(records: Iterable[ConsumerRecord]) -> list[list[int]]:
    return [[record.offset, int((record.value or b"-1").split(b" ", 1)[0])] for record in records]


# --- producer ----------------------------------------------------------------------------------
def produce(client: Client) -> None:
    options, rng, recorder = client.options, client.rng, client.recorder
    next_value = options.process * _VALUES_PER_PROCESS
    with Producer(options.bootstrap, delivery_timeout_ms=options.delivery_ms, linger_ms=0) as producer:
        began_s, sent = time.monotonic(), 0
        while client.goes_on(max(0.0, began_s + sent / options.rate - time.monotonic())):
            count = rng.randint(1, _BATCH_RECORDS_MAX)
            batch = [(rng.randrange(options.partitions), next_value + n) for n in range(count)]
            next_value += count
            sent += count
            recorder.write("invoke", "send", batch)
            outcomes = _send(producer, options.topic, batch)
            offsets = [offset for _, _, offset in outcomes]
            if all(offset == -1 for offset in offsets):
                kind = "fail"
            else:
                kind = "ok" if all(offset is not None and offset >= 0 for offset in offsets) else "info"
            recorder.write(kind, "send", outcomes)
            if kind != "ok":
                began_s, sent = time.monotonic(), 0  # what an outage kept back is not made up for


def _send(producer: Producer, topic: str, batch: list[tuple[int, int]]) -> list[tuple[int, int, int | None]]:
    sent: list[RecordFuture | RaftlogError] = []
    for number, value in batch:
        try:
            sent.append(producer.send(topic, b"%d" % value + _PAD, partition=number))
        except RaftlogError as error:
            sent.append(error)
    outcomes: list[tuple[int, int, int | None]] = []
    for (number, value), one in zip(batch, sent, strict=True):
        # It comes by itself: delivery_timeout_ms bounds it.
        failed = one if isinstance(one, RaftlogError) else one.exception()
        if failed is not None:
            outcomes.append((number, value, None if failed.outcome_unknown else -1))
        elif not isinstance(one, RaftlogError):
            outcomes.append((number, value, one.result().offset))
    return outcomes


# --- consumers ---------------------------------------------------------------------------------
def read(client: Client) -> None:
    """Now and then it is another consumer that goes on at the same positions, as a process that was started again."""
    client.recorder.write("ok", "assign", [place.partition for place in client.places])
    positions = dict.fromkeys(client.places, 0)
    while client.goes_on():
        # No position of theirs is ever out of range: a reset to either end would show as records repeated or skipped.
        with client.consumer(auto_offset_reset=client.rng.choice(("earliest", "latest"))) as consumer:
            consumer.assign(client.places)
            for place, position in positions.items():
                consumer.seek(place, position)
            _read_on(client, consumer, positions)


def _read_on(client: Client, consumer: Consumer, positions: dict[TopicPartition, int]) -> None:
    rng = client.rng
    while client.goes_on():
        if rng.random() < _GO_BACK:
            place = rng.choice(client.places)
            end = max(1, consumer.highwater(place) or 1)
            positions[place] = rng.randrange(max(0, end - _BACK_RECORDS), end)
            consumer.seek(place, positions[place])
            client.recorder.write("ok", "seek", [place.partition])
        for number, position in _poll(client, consumer).items():
            positions[client.places[number]] = position
        if rng.random() < _START_AGAIN:
            return


def _generation(consumer: Consumer) -> int | None:
    """In which it was last told its share; None: it is no member now."""
    generation = consumer.group_metadata().generation
    return generation if generation >= 0 else None


def _poll(client: Client, consumer: Consumer, *, member: bool = False) -> dict[int, int]:
    """Records one poll. The position behind what it returned, by partition."""
    client.recorder.write("invoke", "poll")
    try:
        polled = consumer.poll(_POLL_MS)
    except ClosedError:
        raise
    except RaftlogError as error:
        client.recorder.write("fail", "poll", f"{type(error).__name__}: {error}")
        client.goes_on(0.1)
        return {}
    # AFTER the poll, which may have taken a new share; what it handed out is given up in the next one at the earliest.
    generation = _generation(consumer) if member else None
    read = [[place.partition, values_of(found)] for place, found in polled.items()]
    client.recorder.write("ok", "poll", read, generation)
    return {place.partition: found[-1].offset + 1 for place, found in polled.items() if found}


def be_member(client: Client) -> None:
    """Commits by itself, so that each commit is an operation of its own. Now and then it leaves and joins anew."""
    due: dict[int, int] = {}  # what was handed out and is not committed

    def note(function: str) -> Callable[[list[TopicPartition]], None]:
        def tell(places: list[TopicPartition]) -> None:
            numbers = [place.partition for place in places]
            for number in numbers:
                due.pop(number, None)
            # Claims are told apart by their times: a generation says nothing of when it was heard of.
            client.recorder.write("info", function, [time.monotonic_ns(), numbers])

        return tell

    options = client.options
    while client.goes_on():
        with client.consumer(
            group_id=options.group, enable_auto_commit=False, session_timeout_ms=SESSION_S * 1000
        ) as consumer:
            consumer.subscribe(
                [options.topic], on_assigned=note("assigned"), on_revoked=note("revoked"), on_lost=note("lost")
            )
            _share_on(client, consumer, due)


def _share_on(client: Client, consumer: Consumer, due: dict[int, int]) -> None:
    recorder, topic = client.recorder, client.options.topic
    while client.goes_on():
        positions = _poll(client, consumer, member=True)
        due.update(positions)
        if due and (not positions or client.rng.random() < _COMMIT):
            recorder.write("invoke", "commit", list(due.items()), _generation(consumer))
            try:
                consumer.commit({TopicPartition(topic, number): end for number, end in due.items()})
            except RaftlogError as error:
                recorder.write("info" if error.outcome_unknown else "fail", "commit")
            else:
                recorder.write("ok", "commit")
                due.clear()
        if client.rng.random() < _LEAVE:
            return


def watch(client: Client) -> None:
    recorder = client.recorder
    with client.admin() as admin:
        while client.goes_on(_WATCH_S):
            recorder.write("invoke", "committed")
            try:
                told = admin.group_offsets(client.options.group)
            except RaftlogError as error:
                recorder.write("fail", "committed", f"{type(error).__name__}: {error}")
            else:
                recorder.write("ok", "committed", [[place.partition, offset] for place, offset in told.items()])


def read_all(client: Client) -> None:
    """Everything from the beginning to the ends of now."""
    recorder = client.recorder
    deadline_s = time.monotonic() + _FINAL_S
    with client.consumer() as consumer:
        ends: dict[TopicPartition, int] = {}
        while not ends and time.monotonic() < deadline_s:
            try:
                ends = consumer.end_offsets(client.places)
            except RaftlogError:
                time.sleep(0.2)
        consumer.assign(client.places)
        consumer.seek_to_beginning()
        recorder.write("ok", "assign", [place.partition for place in client.places])
        positions: dict[int, int] = {}
        if not ends:
            sys.exit("the ends of the partitions were not told")
        while any(positions.get(place.partition, 0) < end for place, end in ends.items()):
            if time.monotonic() > deadline_s:
                sys.exit("the end of the partitions was not reached")
            positions.update(_poll(client, consumer))
        recorder.write("invoke", "final")
        recorder.write("ok", "final", [[place.partition, end] for place, end in ends.items()])


ROLES = {"producer": produce, "reader": read, "member": be_member, "watcher": watch, "final": read_all}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="raftlog.faultlab.clients")
    parser.add_argument("role", choices=sorted(ROLES))
    parser.add_argument("--process", type=int, required=True)
    parser.add_argument("--history", type=Path, required=True)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--partitions", type=int, required=True)
    parser.add_argument("--group")
    parser.add_argument("--rate", type=float, default=1000.0)
    parser.add_argument("--delivery-ms", type=int, default=8000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    ROLES[options.role](Client(options))


if __name__ == "__main__":
    main(sys.argv[1:])
