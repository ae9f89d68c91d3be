"""A member of a group in a process of its own, to be killed or paused.

It prints what happens, a line each: `assigned 0 2`, `read 0 17`, `commit CommitFailedError`. It commits after each
poll, and a record `stop` stops it before that.
"""

from __future__ import annotations

import os
import signal
import sys

from raftlog import Consumer, TopicPartition
from raftlog.errors import RaftlogError


def say(*words: object) -> None:
    print(*words, flush=True)


def main(bootstrap: str, topic: str, group: str, session_timeout_ms: str) -> None:
    def named(what: str, places: list[TopicPartition]) -> None:
        say(what, *(place.partition for place in places))

    consumer = Consumer(
        bootstrap_servers=bootstrap,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=int(session_timeout_ms),
        heartbeat_interval_ms=300,
        max_poll_records=20,
    )
    consumer.subscribe(
        [topic],
        on_assigned=lambda places: named("assigned", places),
        on_revoked=lambda places: named("revoked", places),
        on_lost=lambda places: named("lost", places),
    )
    while True:
        for place, records in consumer.poll(1000).items():
            for record in records:
                say("read", place.partition, record.offset)
                if record.value == b"stop":
                    os.kill(os.getpid(), signal.SIGSTOP)
        try:
            consumer.commit()
        except RaftlogError as error:
            say("commit", type(error).__name__)


if __name__ == "__main__":
    main(*sys.argv[1:])
