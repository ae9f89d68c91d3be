"""The image is a pure fold over the metadata log."""

from __future__ import annotations

import msgspec
import pytest

from raftlog.controller.image import Image, apply, decode_image, encode_image
from raftlog.controller.records import (
    RECORD_VERSION,
    ClusterRecord,
    MetadataRecord,
    NodeRecord,
    SnapshotRecord,
    TopicDeletedRecord,
    TopicRecord,
    decode_record,
    encode_record,
)
from raftlog.errors import CorruptLogError
from raftlog.types import Endpoint, TopicConfig

CLUSTER = ClusterRecord(cluster_id="c1", voters=(1, 2, 3))
ORDERS = TopicRecord(
    name="orders", topic_id=b"o" * 16, replicas=((1, 2), (2, 3)), config=TopicConfig(retention_ms=5000)
)
PAIRS = TopicRecord(
    name="pairs", topic_id=b"p" * 16, replicas=((1, 2), (2, 3)), config=TopicConfig(), witnesses=((3,), (1,))
)
ORDERS_GONE = TopicDeletedRecord(name="orders", topic_id=ORDERS.topic_id)


def node(node_id: int, directory_id: str = "", port: int = 0) -> NodeRecord:
    return NodeRecord(
        node_id=node_id,
        directory_id=directory_id or f"directory-{node_id}",
        endpoint=Endpoint("127.0.0.1", port or 7070 + node_id),
    )


def replay(*records: MetadataRecord, image: Image | None = None) -> Image:
    image = image or Image()
    for record in records:
        image = apply(image, image.end_offset, record)
    return image


@pytest.mark.parametrize("record", [CLUSTER, node(4), ORDERS, PAIRS, ORDERS_GONE], ids=lambda r: type(r).__name__)
def test_a_record_survives_its_bytes(record: MetadataRecord) -> None:
    assert decode_record(encode_record(record)) == record


def test_the_bytes_of_a_record_stay_what_they_are() -> None:
    # An old log must stay readable: ["Node", 1, 7, "d", ["h", 9]] in msgpack.
    record = NodeRecord(node_id=7, directory_id="d", endpoint=Endpoint("h", 9))
    assert encode_record(record) == b"\x95\xa4Node\x01\x07\xa1d\x92\xa1h\x09"


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\xc1",
        b"\x92\xa7Unknown\x01",
        encode_record(msgspec.structs.replace(ORDERS_GONE, version=RECORD_VERSION + 1)),
    ],
    ids=["empty", "not msgpack", "unknown type", "newer version"],
)
def test_a_record_that_cannot_be_read_is_never_skipped(value: bytes) -> None:
    with pytest.raises(CorruptLogError):
        decode_record(value)


def test_equal_logs_make_equal_images() -> None:
    log = [CLUSTER, node(1), node(2), ORDERS, ORDERS_GONE, ORDERS]
    assert replay(*log) == replay(*log)


def test_an_image_survives_its_bytes() -> None:
    image = replay(CLUSTER, node(1), node(2), ORDERS)
    assert decode_image(encode_image(image)) == image


def test_bytes_that_are_no_image_are_refused() -> None:
    with pytest.raises(CorruptLogError):
        decode_image(b"\x93\x01\x02")


def test_applying_leaves_the_older_image_as_it_was() -> None:
    before = replay(CLUSTER, node(1))
    copy = decode_image(encode_image(before))
    replay(ORDERS, node(2), ORDERS_GONE, image=before)
    assert before == copy


def test_a_deleted_and_recreated_topic_is_another_topic() -> None:
    again = msgspec.structs.replace(ORDERS, topic_id=b"n" * 16)
    image = replay(CLUSTER, ORDERS, ORDERS_GONE, again)
    assert image.topics["orders"].topic_id == b"n" * 16
    assert image.topics["orders"].created_offset == 3


def test_a_node_that_moves_keeps_its_registration_and_one_with_another_directory_does_not() -> None:
    image = replay(CLUSTER, node(1), node(2), node(1, port=9000))
    assert image.nodes[1].endpoint.port == 9000
    assert image.nodes[1].registered_offset == 1
    image = replay(node(1, directory_id="fresh"), image=image)
    assert image.nodes[1].registered_offset == 4


@pytest.mark.parametrize(
    "log",
    [[CLUSTER, CLUSTER], [CLUSTER, ORDERS, ORDERS], [CLUSTER, ORDERS_GONE]],
    ids=["two clusters", "a topic twice", "deleting nothing"],
)
def test_a_log_that_contradicts_itself_is_corrupt(log: list[MetadataRecord]) -> None:
    with pytest.raises(CorruptLogError):
        replay(*log)


def test_hosted_by_lists_the_replicas_of_a_node() -> None:
    image = replay(CLUSTER, ORDERS)
    assert [(topic.name, partition) for topic, partition in image.hosted_by(2)] == [("orders", 0), ("orders", 1)]
    assert [partition for _, partition in image.hosted_by(3)] == [1]
    assert image.topics["orders"].spec(1).replicas == (2, 3)


def test_a_topic_of_an_older_log_has_no_witnesses() -> None:
    fields = msgspec.msgpack.decode(encode_record(ORDERS))
    old = msgspec.msgpack.encode(fields[:6])
    assert decode_record(old) == ORDERS
    image = replay(CLUSTER, decode_record(old))
    assert image.topics["orders"].spec(1).witnesses == ()
    assert decode_image(encode_image(image)) == image


def test_a_witness_is_hosted_and_votes_without_being_a_replica() -> None:
    image = replay(CLUSTER, PAIRS)
    pairs = image.topics["pairs"]
    assert [(topic.name, partition) for topic, partition in image.hosted_by(3)] == [("pairs", 0), ("pairs", 1)]
    assert (pairs.spec(0).replicas, pairs.spec(0).witnesses, pairs.spec(0).voters) == ((1, 2), (3,), (1, 2, 3))
    assert decode_image(encode_image(image)) == image


def test_a_snapshot_stands_for_everything_in_front_of_it() -> None:
    image = replay(CLUSTER, node(1), ORDERS, PAIRS, node(1, port=9), ORDERS_GONE)
    snapshot = SnapshotRecord(image=encode_image(image))
    after = replay(snapshot, node(2), image=image)
    alone = apply(Image(), image.end_offset, snapshot)
    assert (alone.snapshot_offset, alone.end_offset) == (image.end_offset, image.end_offset + 1)
    assert replay(node(2), image=alone) == after


def test_a_snapshot_of_another_history_is_refused() -> None:
    other = replay(CLUSTER, node(1), node(2))
    with pytest.raises(CorruptLogError, match="another image"):
        replay(SnapshotRecord(image=encode_image(other)), image=replay(CLUSTER, node(1), node(3)))
