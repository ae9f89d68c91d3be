"""A member of a group in `raftlog demo --groups`, a process of its own: `python -m raftlog_cli.group_member`.

    stdin    a Plan (JSON, one line); the member leaves and ends when it is closed
    stdout   a line (JSON) per HandOut, written BEFORE the next poll, which may commit it

Times are of the monotonic clock that all processes of a machine share. `poll` returns at once, with records or without,
so that the two times around it stand close together: a pause of the process falls between two polls nearly always.
"""

from __future__ import annotations

import itertools
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence

import msgspec

from raftlog.errors import RaftlogError
from raftlog.types import TopicPartition

_POLL_RECORDS = 200
_LOOK_S = 0.005  # after a poll that gave nothing
_COMMIT_MS = 500


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    bootstrap: str
    topic: str
    partitions: int
    group_id: str
    name: str
    session_timeout_ms: int


class HandOut(msgspec.Struct, array_like=True, frozen=True):
    """Records [start, end) of a partition came out of one poll, between two times.

    `tenure`: another one each time the partition is assigned to this member. `wrong`: so many are not what was sent.
    """

    partition: int
    tenure: int
    start: int
    end: int
    before_s: float
    after_s: float
    wrong: int = 0


def value_of(partition: int, offset: int, partitions: int) -> bytes:
    """What is sent there: records go round robin, so each place has its number in the order of sending."""
    return b"%d:" % (offset * partitions + partition) + b"." * 80


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # whoever started it closes its stdin
    plan = msgspec.json.decode(sys.stdin.buffer.readline(), type=Plan)
    stopping = threading.Event()
    threading.Thread(target=_wait_for_end, args=(stopping.set,), daemon=True).start()
    try:
        _consume(plan, stopping)
    except RaftlogError as error:
        sys.exit(f"{plan.name}: {error}")


def _wait_for_end(stop: Callable[[], None]) -> None:
    sys.stdin.buffer.read()
    stop()


def _consume(plan: Plan, stopping: threading.Event) -> None:
    from raftlog import Consumer

    tenures: dict[int, int] = {}
    numbers = itertools.count()

    def on_assigned(partitions: Sequence[TopicPartition]) -> None:
        tenures.update((place.partition, next(numbers)) for place in partitions)

    consumer = Consumer(
        bootstrap_servers=plan.bootstrap,
        group_id=plan.group_id,
        client_id=plan.name,
        session_timeout_ms=plan.session_timeout_ms,
        heartbeat_interval_ms=plan.session_timeout_ms / 8,
        auto_commit_interval_ms=_COMMIT_MS,
        auto_offset_reset="earliest",
    )
    out = sys.stdout.buffer
    with consumer:
        consumer.subscribe([plan.topic], on_assigned=on_assigned)
        while not stopping.is_set():
            before_s = time.monotonic()
            polled = consumer.poll(timeout_ms=0, max_records=_POLL_RECORDS)
            after_s = time.monotonic()
            for (_, partition), records in polled.items():
                wrong = sum(
                    record.value != value_of(partition, record.offset, plan.partitions)
                    or record.offset != records[0].offset + number
                    for number, record in enumerate(records)
                )
                hand_out = HandOut(
                    partition, tenures[partition], records[0].offset, records[-1].offset + 1, before_s, after_s, wrong
                )
                out.write(msgspec.json.encode(hand_out) + b"\n")
            out.flush()
            if not polled:
                time.sleep(_LOOK_S)


if __name__ == "__main__":
    main()
