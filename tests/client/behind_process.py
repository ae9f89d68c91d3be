"""A consumer that is a long way behind, in a process of its own.

It reads a partition from the beginning up to `end` as fast as it can, over and over. It prints `behind` once records
come, and when its stdin ends how many it has read.
"""

from __future__ import annotations

import select
import sys

from raftlog import Consumer, TopicPartition


def main(bootstrap: str, topic: str, end: str) -> None:
    place, read = TopicPartition(topic, 0), 0
    with Consumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", max_poll_records=10_000) as consumer:
        consumer.assign([place])
        while not select.select([sys.stdin], [], [], 0)[0]:
            for records in consumer.poll(1000).values():
                if not read:
                    print("behind", flush=True)
                read += len(records)
            if consumer.position(place) >= int(end):
                consumer.seek_to_beginning(place)
    print(read, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
