"""Makes data.tar.xz: what three nodes of an older raftlog left on their disks when they were stopped.

Run with that checkout, from a directory outside of any (a node imports the package of the directory it runs in):

    cd /var/tmp && PYTHONPATH=CHECKOUT CHECKOUT/.venv/bin/python THIS_FILE ARCHIVE

data.tar.xz was made by commit 9f82a99. Beside the three data directories it holds expected.json: what clients of that
raftlog read.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raftlog import Admin, Consumer, NewTopic, Producer, TopicPartition
from raftlog.node.local import LocalCluster

GROUP = "readers"
PLAIN, KEYED, WATCHED = "plain", "keyed", "watched"
DELETED = 25  # records of the first partition of PLAIN
_TOPICS = [
    NewTopic(name=PLAIN, partitions=2, replication_factor=3, config={"segment.bytes": "3000"}),
    NewTopic(
        name=KEYED,
        partitions=1,
        replication_factor=3,
        config={"segment.bytes": "3000", "cleanup.policy": "compact", "delete.retention.ms": "500"},
    ),
    NewTopic(name=WATCHED, partitions=1, replication_factor=2),  # the third node is the witness
]
_COMPRESSIONS = ("none", "gzip", "snappy", "lz4", "zstd")


def write(bootstrap: str, part: int) -> None:
    """With one producer, idempotent, for each compression."""
    for number, compression in enumerate(_COMPRESSIONS):
        with Producer(bootstrap, compression=compression, linger_ms=0, batch_bytes=600) as producer:
            for each in range(30):
                value = b"%d of %s, part %d " % (each, compression.encode(), part) * 3
                producer.send(PLAIN, value, partition=number % 2)
                producer.send(WATCHED, value, key=compression.encode())
                if each % 5 == 0:
                    producer.flush(30)
            producer.flush(30)
    with Producer(bootstrap, linger_ms=0, batch_bytes=400) as producer:
        for each in range(200):
            producer.send(KEYED, b"%d of part %d " % (each, part) * 4, key=b"key-%d" % (each % 12))
        for each in range(3):
            producer.send(KEYED, None, key=b"key-%d" % (each + part))
        producer.flush(30)


def commit(bootstrap: str) -> None:
    with Consumer(PLAIN, bootstrap_servers=bootstrap, group_id=GROUP, auto_offset_reset="earliest") as consumer:
        read = 0
        while read < 60:
            read += sum(map(len, consumer.poll(timeout_ms=500, max_records=10).values()))
        consumer.commit()


def read(bootstrap: str, topic: str) -> list[Any]:
    """[partition, offset, timestamp, key, value] of each record that is there, sorted."""
    found: list[Any] = []
    with Admin(bootstrap) as admin:
        partitions = len(admin.describe_topics([topic])[0].partitions)
    with Consumer(bootstrap_servers=bootstrap) as consumer:
        places = [TopicPartition(topic, number) for number in range(partitions)]
        consumer.assign(places)
        consumer.seek_to_beginning()
        ends = consumer.end_offsets(places)
        while any(consumer.position(place) < ends[place] for place in places):
            for records in consumer.poll(timeout_ms=500).values():
                found += [
                    [each.partition, each.offset, each.timestamp_ms, _text(each.key), _text(each.value)]
                    for each in records
                ]
    return sorted(found, key=lambda each: each[:2])


def committed(bootstrap: str) -> dict[str, int]:
    with Consumer(bootstrap_servers=bootstrap, group_id=GROUP) as consumer:
        offsets: Any = consumer.committed([TopicPartition(PLAIN, number) for number in range(2)])
        return {str(place.partition): committed.offset for place, committed in offsets.items()}


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode()


def make(directory: Path) -> None:
    with LocalCluster(nodes=3, directory=directory) as cluster:
        with Admin(cluster.bootstrap) as admin:
            created: list[Any] = list(admin.create_topics(_TOPICS))
        assert not any(result.error_code for result in created), created
        write(cluster.bootstrap, 1)
        commit(cluster.bootstrap)
        cluster.stop(1)  # others lead from now on: more than one epoch
        write(cluster.bootstrap, 2)
        cluster.start(1)
        with Admin(cluster.bootstrap) as admin:
            admin.delete_records({TopicPartition(PLAIN, 0): DELETED})
            _wait(admin, PLAIN, lambda status: status.partition or status.log_start_offset == DELETED)
            _wait(admin, KEYED, lambda status: status.size_bytes < 9000)  # compacted
        expected = {
            "records": {topic: read(cluster.bootstrap, topic) for topic in (PLAIN, KEYED, WATCHED)},
            "committed": committed(cluster.bootstrap),
        }
    (directory / "expected.json").write_text(json.dumps(expected))


def _wait(admin: Any, topic: str, ready: Callable[[Any], object]) -> None:
    """For every replica that has records."""
    deadline_s = time.monotonic() + 60.0
    while not all(ready(status) for status in admin.describe_replicas([topic]) if status.role != "witness"):
        assert time.monotonic() < deadline_s, f"{topic}: {admin.describe_replicas([topic])}"
        time.sleep(0.2)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        make(Path(temporary))
        names = ["1", "2", "3", "expected.json"]
        command = ["tar", "--sparse", "--owner=0", "--group=0", "-cJf", str(Path(sys.argv[1]).absolute())]
        subprocess.run([*command, "-C", temporary, *names], check=True)
