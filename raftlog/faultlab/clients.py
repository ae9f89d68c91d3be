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
import contextlib
import itertools
import random
import select
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

from raftlog.faultlab.history import Recorder
from raftlog.faultlab.libraries import NATIVE, Consumer, Login, Options, Producer, RefusedError, library

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
        self.partitions = range(options.partitions)
        login = Login(*options.login) if options.login else None
        self.library = library(
            options.library,
            Options(options.bootstrap, options.topic, f"lab-{options.process}", options.delivery_ms, SESSION_S, login),
        )

    def goes_on(self, wait_s: float = 0.0) -> bool:
        return not select.select([sys.stdin], [], [], wait_s)[0]

    @contextlib.contextmanager
    def opened(self, make: Callable[[], AbstractContextManager[_T]]) -> Iterator[_T]:
        """Tries until some node answers: the lab may have cut all of them off."""
        with contextlib.ExitStack() as stack:
            while True:
                try:
                    made = stack.enter_context(make())
                    break
                except RefusedError:
                    if not self.goes_on(0.5):
                        raise
            yield made

    def consumer(self, auto_offset_reset: str = "earliest", group: str = "") -> AbstractContextManager[Consumer]:
        return self.opened(lambda: self.library.consumer(auto_offset_reset, group))


def values_of(records: Iterable[tuple[int, bytes | None]]) -> list[list[int]]:
    return [[offset, int((value or b"-1").split(b" ", 1)[0])] for offset, value in records]


# --- producer ----------------------------------------------------------------------------------
def produce(client: Client) -> None:
    values = itertools.count(client.options.process * _VALUES_PER_PROCESS)
    while client.goes_on():
        with client.opened(client.library.producer) as producer:
            client.recorder.write("ok", "producer")
            _produce_on(client, producer, values)


def _produce_on(client: Client, producer: Producer, values: Iterator[int]) -> None:
    options, rng, recorder = client.options, client.rng, client.recorder
    began_s, sent = time.monotonic(), 0
    while client.goes_on(max(0.0, began_s + sent / options.rate - time.monotonic())):
        batch = [(rng.randrange(options.partitions), next(values)) for _ in range(rng.randint(1, _BATCH_RECORDS_MAX))]
        sent += len(batch)
        recorder.write("invoke", "send", batch)
        offsets = producer.send((number, b"%d" % value + _PAD) for number, value in batch)
        if all(offset == -1 for offset in offsets):
            kind = "fail"
        else:
            kind = "ok" if all(offset is not None and offset >= 0 for offset in offsets) else "info"
        recorder.write(kind, "send", [(*each, offset) for each, offset in zip(batch, offsets, strict=True)])
        if kind != "ok":
            if producer.may_be_over:
                return
            began_s, sent = time.monotonic(), 0  # what an outage kept back is not made up for


# --- consumers ---------------------------------------------------------------------------------
def read(client: Client) -> None:
    """Now and then it is another consumer that goes on at the same positions, as a process that was started again."""
    client.recorder.write("ok", "assign", list(client.partitions))
    positions = dict.fromkeys(client.partitions, 0)
    while client.goes_on():
        # No position of theirs is ever out of range: a reset to either end would show as records repeated or skipped.
        with client.consumer(client.rng.choice(("earliest", "latest"))) as consumer:
            consumer.assign(positions)
            _read_on(client, consumer, positions)


def _read_on(client: Client, consumer: Consumer, positions: dict[int, int]) -> None:
    rng = client.rng
    while client.goes_on():
        if rng.random() < _GO_BACK:
            number = rng.choice(client.partitions)
            end = max(1, consumer.known_end(number))
            positions[number] = rng.randrange(max(0, end - _BACK_RECORDS), end)
            consumer.seek(number, positions)
            client.recorder.write("ok", "seek", [number])
        positions.update(_poll(client, consumer))
        if rng.random() < _START_AGAIN:
            return


def _poll(client: Client, consumer: Consumer, *, member: bool = False) -> dict[int, int]:
    """Records one poll. The position behind what it returned, by partition."""
    client.recorder.write("invoke", "poll")
    try:
        polled = consumer.poll(_POLL_MS)
    except RefusedError as error:
        client.recorder.write("fail", "poll", str(error))
        client.goes_on(0.1)
        return {}
    # AFTER the poll, which may have taken a new share; what it handed out is given up in the next one at the earliest.
    generation = consumer.generation() if member else None
    client.recorder.write("ok", "poll", [[number, values_of(found)] for number, found in polled.items()], generation)
    return {number: found[-1][0] + 1 for number, found in polled.items() if found}


def be_member(client: Client) -> None:
    """Commits by itself, so that each commit is an operation of its own. Now and then it leaves and joins anew."""
    due: dict[int, int] = {}  # what was handed out and is not committed

    def note(function: str) -> Callable[[Collection[int]], None]:
        def tell(numbers: Collection[int]) -> None:
            for number in numbers:
                due.pop(number, None)
            # Claims are told apart by their times: a generation says nothing of when it was heard of.
            client.recorder.write("info", function, [time.monotonic_ns(), list(numbers)])

        return tell

    while client.goes_on():
        with client.consumer(group=client.options.group) as consumer:
            consumer.subscribe(note("assigned"), note("revoked"), note("lost"))
            _share_on(client, consumer, due)


def _share_on(client: Client, consumer: Consumer, due: dict[int, int]) -> None:
    recorder = client.recorder
    while client.goes_on():
        positions = _poll(client, consumer, member=True)
        due.update(positions)
        if due and (not positions or client.rng.random() < _COMMIT):
            recorder.write("invoke", "commit", list(due.items()), consumer.generation())
            try:
                consumer.commit(due)
            except RefusedError as error:
                recorder.write("info" if error.outcome_unknown else "fail", "commit")
            else:
                recorder.write("ok", "commit")
                due.clear()
        if client.rng.random() < _LEAVE:
            return


def watch(client: Client) -> None:
    recorder = client.recorder
    with client.opened(client.library.watcher) as watcher:
        while client.goes_on(_WATCH_S):
            recorder.write("invoke", "committed")
            try:
                told = watcher.committed(client.options.group)
            except RefusedError as error:
                recorder.write("fail", "committed", str(error))
            else:
                recorder.write("ok", "committed", list(told.items()))


def read_all(client: Client) -> None:
    """Everything from the beginning to the ends of now."""
    recorder = client.recorder
    deadline_s = time.monotonic() + _FINAL_S
    with client.consumer() as consumer:
        ends: dict[int, int] = {}
        while not ends and time.monotonic() < deadline_s:
            try:
                ends = consumer.ends(client.partitions)
            except RefusedError:
                time.sleep(0.2)
        if not ends:
            sys.exit("the ends of the partitions were not told")
        consumer.assign(dict.fromkeys(client.partitions, 0))
        recorder.write("ok", "assign", list(client.partitions))
        positions: dict[int, int] = {}
        while any(positions.get(number, 0) < end for number, end in ends.items()):
            if time.monotonic() > deadline_s:
                sys.exit("the end of the partitions was not reached")
            positions.update(_poll(client, consumer))
        recorder.write("invoke", "final")
        recorder.write("ok", "final", list(ends.items()))


ROLES = {"producer": produce, "reader": read, "member": be_member, "watcher": watch, "final": read_all}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="raftlog.faultlab.clients")
    parser.add_argument("role", choices=sorted(ROLES))
    parser.add_argument("--process", type=int, required=True)
    parser.add_argument("--history", type=Path, required=True)
    parser.add_argument("--library", default=NATIVE)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--partitions", type=int, required=True)
    parser.add_argument("--group")
    parser.add_argument("--rate", type=float, default=1000.0)
    parser.add_argument("--delivery-ms", type=int, default=8000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--login", nargs=3, metavar=("USER", "PASSWORD", "AUTHORITY"))
    options = parser.parse_args(arguments)
    ROLES[options.role](Client(options))


if __name__ == "__main__":
    main(sys.argv[1:])
