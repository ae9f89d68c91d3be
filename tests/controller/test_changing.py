"""Settings and partitions of a topic that is there: what is decided, and what the log then says."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raftlog.controller.decisions import decide
from raftlog.controller.image import Image, apply, decode_image, encode_image
from raftlog.controller.placement import place, place_witnesses
from raftlog.controller.records import (
    ClusterRecord,
    MetadataRecord,
    NodeRecord,
    PartitionsRecord,
    TopicConfigRecord,
    TopicRecord,
    decode_record,
    encode_record,
)
from raftlog.errors import CorruptLogError, ErrorCode
from raftlog.limits import PARTITIONS_PER_TOPIC_MAX
from raftlog.protocol.topics import CreatePartitionsRequest, IncrementalAlterConfigsRequest, TopicResult, TopicsResponse
from raftlog.types import METADATA_TOPIC, OFFSETS_TOPIC, CleanupPolicy, Endpoint, TopicConfig

TOPIC_ID = b"o" * 16


def cluster(nodes: int) -> Image:
    records: list[MetadataRecord] = [ClusterRecord(cluster_id="c", voters=(1,))]
    records += [NodeRecord(node_id=n, directory_id=f"d{n}", endpoint=Endpoint("h", n)) for n in range(1, nodes + 1)]
    return replay(Image(), *records)


def replay(image: Image, *records: MetadataRecord) -> Image:
    for record in records:
        image = apply(image, image.end_offset, record)
    return image


def with_topic(image: Image, partitions: int = 2, factor: int = 2, name: str = "orders") -> Image:
    live = list(image.nodes)
    replicas = place(image, live=live, partitions=partitions, replication_factor=factor)
    record = TopicRecord(
        name=name,
        topic_id=TOPIC_ID,
        replicas=replicas,
        config=TopicConfig(retention_ms=5000),
        witnesses=place_witnesses(image, live=live, replicas=replicas),
    )
    return apply(image, image.end_offset, record)


def ask(
    image: Image, request: IncrementalAlterConfigsRequest | CreatePartitionsRequest
) -> tuple[TopicResult, list[MetadataRecord]]:
    decision = decide(image, request, live=list(image.nodes), mint_id=lambda: b"")
    assert isinstance(decision.response, TopicsResponse)
    (result,) = decision.response.results
    return result, decision.records


def altered(name: str, config: dict[str, str], reset: Sequence[str] = ()) -> IncrementalAlterConfigsRequest:
    return IncrementalAlterConfigsRequest(**mutation(), name=name, topic_id=TOPIC_ID, config=config, reset=list(reset))


def enlarged(name: str, partitions: int) -> CreatePartitionsRequest:
    return CreatePartitionsRequest(**mutation(), name=name, topic_id=TOPIC_ID, partitions=partitions)


def mutation() -> dict[str, Any]:
    return {"mutation_id": uuid.uuid4().bytes, "since_offset": 0}


def alter(image: Image, config: dict[str, str], reset: list[str] | None = None, name: str = "orders") -> Image:
    request = altered(name, config=config, reset=reset or [])
    result, records = ask(image, request)
    assert result.error_code == ErrorCode.NONE, result.error_text
    return replay(image, *records)


def test_named_settings_change_and_all_others_stay() -> None:
    image = alter(with_topic(cluster(3)), {"segment.bytes": "2048", "cleanup_policy": "compact,delete"})
    config = image.topics["orders"].config
    assert (config.retention_ms, config.segment_bytes) == (5000, 2048)
    assert config.cleanup_policy == CleanupPolicy.COMPACT | CleanupPolicy.DELETE
    assert image.topics["orders"].config_offset == image.end_offset - 2  # the last record says that it was done


def test_a_setting_goes_back_to_its_default() -> None:
    image = alter(with_topic(cluster(3)), {"segment_ms": "1000"}, ["retention.ms"])
    assert image.topics["orders"].config == TopicConfig(segment_ms=1000)


def test_a_change_that_changes_nothing_writes_nothing() -> None:
    request = altered("orders", config={"retention_ms": "5000"})
    result, records = ask(with_topic(cluster(3)), request)
    assert (result.error_code, records) == (ErrorCode.NONE, [])


@pytest.mark.parametrize(
    ("name", "config", "reset", "code", "said"),
    [
        ("orders", {"retention_ms": "soon"}, [], ErrorCode.INVALID_CONFIG, "whole number"),
        ("orders", {"retention_ms": "-2"}, [], ErrorCode.INVALID_CONFIG, "between -1"),
        ("orders", {"retention": "1"}, [], ErrorCode.INVALID_CONFIG, "unknown topic config"),
        ("orders", {}, ["retention"], ErrorCode.INVALID_CONFIG, "unknown topic config"),
        ("orders", {"retention_ms": "1"}, ["retention.ms"], ErrorCode.INVALID_CONFIG, "twice"),
        ("orders", {}, [], ErrorCode.INVALID_REQUEST, "no setting"),
        ("nothing", {"retention_ms": "1"}, [], ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "does not exist"),
        (METADATA_TOPIC, {"retention_ms": "1"}, [], ErrorCode.INVALID_TOPIC_EXCEPTION, "raftlog itself"),
        (OFFSETS_TOPIC, {"cleanup_policy": "delete"}, [], ErrorCode.INVALID_TOPIC_EXCEPTION, "raftlog itself"),
    ],
)
def test_bad_settings_are_refused_with_their_reason(
    name: str, config: dict[str, str], reset: list[str], code: ErrorCode, said: str
) -> None:
    request = altered(name, config=config, reset=reset)
    result, records = ask(with_topic(cluster(3)), request)
    assert (result.error_code, records) == (code, [])
    assert said in result.error_text


@pytest.mark.parametrize(
    ("name", "partitions", "code"),
    [
        ("orders", 2, ErrorCode.INVALID_PARTITIONS),
        ("orders", 1, ErrorCode.INVALID_PARTITIONS),
        ("orders", 0, ErrorCode.INVALID_PARTITIONS),
        ("orders", PARTITIONS_PER_TOPIC_MAX + 1, ErrorCode.INVALID_PARTITIONS),
        ("nothing", 3, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (METADATA_TOPIC, 3, ErrorCode.INVALID_TOPIC_EXCEPTION),
        (OFFSETS_TOPIC, 30, ErrorCode.INVALID_TOPIC_EXCEPTION),
    ],
)
def test_partitions_only_become_more(name: str, partitions: int, code: ErrorCode) -> None:
    image = with_topic(cluster(3))
    result, records = ask(image, enlarged(name, partitions=partitions))
    assert (result.error_code, records) == (code, [])


@example(nodes=3, factor=2, first=2, steps=[1])
@example(nodes=6, factor=4, first=7, steps=[4])
@given(
    nodes=st.integers(1, 7),
    factor=st.integers(1, 7),
    first=st.integers(1, 12),
    steps=st.lists(st.integers(1, 9), max_size=3),
)
def test_new_partitions_are_placed_evenly_beside_the_old_which_stay(
    nodes: int, factor: int, first: int, steps: list[int]
) -> None:
    image = with_topic(cluster(nodes), first, min(factor, nodes))
    for more in steps:
        before = image.topics["orders"]
        wanted = len(before.replicas) + more
        result, records = ask(image, enlarged("orders", partitions=wanted))
        assert (result.error_code, result.partitions) == (ErrorCode.NONE, wanted)
        image = replay(image, *records)
        after = image.topics["orders"]
        assert after.replicas[: len(before.replicas)] == before.replicas
        assert after.witnesses[: len(before.witnesses)] == before.witnesses
        for voters in map(after.voters_of, range(wanted)):
            assert len(set(voters)) == len(voters)
        assert {len(after.replicas[p]) for p in range(wanted)} == {min(factor, nodes)}
        assert len({len(after.witnesses_of(p)) for p in range(wanted)}) == 1
        # Leaders come first; what stays where it is may leave two between the nodes in all that follows from them.
        for counted, apart in (
            (Counter(replicas[0] for replicas in after.replicas), 1),
            (Counter(node for replicas in after.replicas for node in replicas), 2),
            (Counter(node for witnesses in after.witnesses for node in witnesses), 2),
        ):
            counts = [counted[node] for node in range(1, nodes + 1)]
            assert max(counts) - min(counts) <= apart, (after.replicas, after.witnesses)


def test_a_partition_is_as_old_as_the_record_that_added_it() -> None:
    image = with_topic(cluster(3))
    made = image.end_offset - 1
    added = []
    for wanted in (3, 5):
        _, records = ask(image, enlarged("orders", partitions=wanted))
        added.append(image.end_offset)
        image = replay(image, *records)
    topic = image.topics["orders"]
    assert [topic.created_offset_of(p) for p in range(5)] == [made, made, added[0], added[1], added[1]]
    assert decode_image(encode_image(image)) == image


CONFIG = TopicConfigRecord(name="orders", topic_id=TOPIC_ID, config=TopicConfig(retention_ms=1))
MORE = PartitionsRecord(name="orders", topic_id=TOPIC_ID, replicas=((1, 2),), witnesses=((3,),))


@pytest.mark.parametrize("record", [CONFIG, MORE], ids=lambda r: type(r).__name__)
def test_a_change_survives_its_bytes_and_needs_its_topic(record: TopicConfigRecord | PartitionsRecord) -> None:
    assert decode_record(encode_record(record)) == record
    image = with_topic(cluster(3))
    apply(image, image.end_offset, record)
    for stranger in (
        msgspec.structs.replace(record, name="other"),
        msgspec.structs.replace(record, topic_id=b"p" * 16),
    ):
        with pytest.raises(CorruptLogError):
            apply(image, image.end_offset, stranger)


def test_partitions_with_witnesses_may_follow_some_without() -> None:
    bare = TopicRecord(name="orders", topic_id=TOPIC_ID, replicas=((1, 2), (2, 3)), config=TopicConfig())
    topic = replay(cluster(3), bare, MORE).topics["orders"]
    assert [topic.witnesses_of(p) for p in range(3)] == [(), (), (3,)]
    without = PartitionsRecord(name="orders", topic_id=TOPIC_ID, replicas=((2, 3),))
    topic = replay(cluster(3), bare, MORE, without).topics["orders"]
    assert [topic.witnesses_of(p) for p in range(4)] == [(), (), (3,), ()]
