"""Not a byte on the disk has another meaning: data of an older raftlog opens here as it was left (old_data/make.py)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raftlog import Admin, Consumer, Producer, TopicPartition
from raftlog.errors import ErrorCode
from raftlog.node.checkup import Checkup
from raftlog.node.local import LocalCluster
from raftlog.protocol import apis
from raftlog.protocol.envelope import decode_response, encode_request
from raftlog.protocol.records import FetchRequest, FetchResponse, ProduceRequest, ProduceResult
from raftlog.record.batch import numbered, split
from raftlog.types import Role
from tests.node.asking import exchange, leaders, metadata, statuses, until
from tests.node.old_data.make import DELETED, KEYED, PLAIN, WATCHED, committed, read
from tests.patience import WAIT_S

pytestmark = [pytest.mark.timeout(120), pytest.mark.cluster]
_ARCHIVE = Path(__file__).parent / "old_data" / "data.tar.xz"


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directories of three nodes that were stopped."""
    directory = tmp_path_factory.mktemp("old-data")
    subprocess.run(["tar", "-xJf", str(_ARCHIVE), "-C", str(directory)], check=True)
    return directory


@pytest.fixture(scope="module")
def expected(left: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((left / "expected.json").read_text())
    return found


@pytest.fixture(scope="module")
def old(left: Path) -> Iterator[LocalCluster]:
    """At other addresses than then: the nodes are told them, and tell the controller."""
    with LocalCluster(nodes=3, directory=left) as cluster:
        yield cluster


def test_the_checkup_finds_nothing_wrong_with_it(left: Path) -> None:
    for node_id in (1, 2, 3):
        checkup = Checkup(str(left / str(node_id)))
        try:
            assert checkup.run() == []
            assert len(checkup.replicas) >= 5
        finally:
            checkup.close()


def test_every_record_and_every_committed_offset_is_there(old: LocalCluster, expected: dict[str, Any]) -> None:
    for topic in (PLAIN, KEYED, WATCHED):
        assert read(old.bootstrap, topic) == expected["records"][topic]
    offsets = [each[1] for each in expected["records"][PLAIN] if each[0] == 0]
    assert offsets[0] == DELETED
    assert committed(old.bootstrap) == expected["committed"]
    assert sum(expected["committed"].values()) >= 60


def test_no_replica_is_in_doubt_and_the_witness_is_one(old: LocalCluster) -> None:
    def whole() -> bool:
        found = statuses(old.endpoints[1])
        roles = [status.role for status in found if status.topic == WATCHED]
        sound = not any(status.doubt or status.error or status.corruptions or status.cuts for status in found)
        return sound and roles.count(Role.WITNESS) == 1 and len(roles) == 3 and roles.count(Role.LEADER) == 1

    until(whole)


def test_a_batch_of_then_is_still_known_and_its_producer_goes_on(old: LocalCluster) -> None:
    topic_id = until(lambda: metadata(old.endpoints[1], [WATCHED])).topics[0].topic_id
    leader = until(lambda: leaders(old.endpoints[1], WATCHED))[0]

    def produce(batch: bytes) -> ProduceResult:
        header = encode_request(apis.PRODUCE, 1, ProduceRequest(acks=-1, timeout_ms=5000), topic_id, 0)
        _, _, (result,) = decode_response(exchange(leader, [header, batch])[0])
        assert isinstance(result, ProduceResult)
        return result

    def fetch() -> tuple[FetchResponse, bytes]:
        header = encode_request(apis.FETCH, 1, FetchRequest(offset=0, max_bytes=1_000_000), topic_id, 0)
        frames = exchange(leader, [header])
        answer = decode_response(frames[0])[2]
        assert isinstance(answer, FetchResponse)
        return answer, frames[1] if len(frames) > 1 else b""

    answer, data = until(lambda: found if (found := fetch())[1] else None)
    place, header = list(split(data))[-1]
    batch = data[place : place + header.batch_bytes]
    assert header.producer_id >= 0 and header.next_offset == answer.high_watermark
    again = produce(batch)
    assert (again.error_code, again.base_offset) == (ErrorCode.NONE, header.base_offset)
    sequence = header.base_sequence + header.record_count
    gap = produce(numbered(batch, header.producer_id, header.producer_epoch, sequence + 1))
    assert gap.error_code == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    following = produce(numbered(batch, header.producer_id, header.producer_epoch, sequence))
    assert (following.error_code, following.base_offset) == (ErrorCode.NONE, answer.high_watermark)


def test_it_is_written_on_and_read_by_the_group_after_another_start(old: LocalCluster) -> None:
    with Producer(old.bootstrap) as producer:
        stored = producer.send(PLAIN, b"of today", partition=1).result(WAIT_S)
    for node_id in (1, 2, 3):
        old.stop(node_id)
        old.start(node_id)
    with Consumer(PLAIN, bootstrap_servers=old.bootstrap, group_id="readers") as consumer:
        found = {}
        while TopicPartition(PLAIN, 1) not in found or found[TopicPartition(PLAIN, 1)].offset < stored.offset:
            for place, records in consumer.poll(timeout_ms=500).items():
                found[place] = records[-1]
    assert found[TopicPartition(PLAIN, 1)].value == b"of today"


def test_its_replicas_move_now_that_every_node_can(old: LocalCluster, expected: dict[str, Any]) -> None:
    """Nothing in its metadata says that: each node has to have said so."""
    with Admin(old.bootstrap) as admin:
        (topic,) = admin.describe_topics([PLAIN])
        replicas = topic.partitions[0].replicas
        wanted = [*replicas[1:], replicas[0]]
        admin.alter_partition_reassignments({TopicPartition(PLAIN, 0): wanted})

        def moved() -> bool:
            (found,) = admin.describe_topics([PLAIN])
            return found.partitions[0].replicas == wanted and not admin.list_partition_reassignments()

        until(moved)
    assert set(map(tuple, expected["records"][PLAIN])) <= set(map(tuple, read(old.bootstrap, PLAIN)))
