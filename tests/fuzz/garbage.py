"""Bytes that nobody should send: random ones, and real ones with damage."""

from __future__ import annotations

import struct
from typing import get_args, get_type_hints

import google_crc32c
import msgspec
from hypothesis import strategies as st

from raftlog.limits import PROTOCOL_VERSION
from raftlog.protocol import apis
from raftlog.protocol import nodes as n
from raftlog.protocol.body import Body
from raftlog.protocol.cluster import DescribeReplicasRequest, HandshakeRequest, MetadataRequest
from raftlog.protocol.envelope import encode_request
from raftlog.protocol.raft import RaftMessage
from raftlog.protocol.records import FetchRequest, InitProducerIdRequest, ListOffsetsRequest, ProduceRequest
from raftlog.protocol.topics import CreateTopicsRequest, DeleteTopicsRequest, NewTopic, TopicIdsRequest
from raftlog.record.batch import encode
from raftlog.types import Endpoint, ReplicaStatus, Role

INT64 = st.integers(-(2**63), 2**63 - 1)
# msgpack has unsigned 64 bits as well: one beyond what an int64 field of ours can hold.
ANY_INT = st.one_of(st.integers(-2, 5), INT64, st.just(2**64 - 1))
TOPIC_IDS = st.binary(min_size=0, max_size=20)

REQUESTS = st.one_of(
    st.builds(HandshakeRequest, min_version=ANY_INT, max_version=ANY_INT, client_id=st.text()),
    st.builds(MetadataRequest, topics=st.none() | st.lists(st.text(max_size=300), max_size=3)),
    st.builds(DescribeReplicasRequest, topics=st.none() | st.lists(st.text(), max_size=3)),
    st.builds(TopicIdsRequest, names=st.lists(st.text(), max_size=3)),
    st.builds(
        DeleteTopicsRequest,
        mutation_id=TOPIC_IDS,
        since_offset=ANY_INT,
        topics=st.lists(st.tuples(st.text(), TOPIC_IDS), max_size=3),
        timeout_ms=ANY_INT,
    ),
    st.builds(InitProducerIdRequest),
    st.builds(
        ProduceRequest,
        acks=ANY_INT,
        timeout_ms=ANY_INT,
    ),
    st.builds(
        FetchRequest,
        offset=ANY_INT,
        max_bytes=ANY_INT,
        min_bytes=ANY_INT,
        max_wait_ms=ANY_INT,
    ),
    st.builds(ListOffsetsRequest, timestamp_ms=ANY_INT),
)
KEYS = st.sampled_from([api.key for api in apis.APIS]) | st.integers(0, 2**16 - 1)
VALUES = st.recursive(
    st.none() | st.booleans() | ANY_INT | st.floats() | st.binary(max_size=40) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


def _damaged(data: bytes, cuts: list[tuple[int, int]], length: int | None) -> bytes:
    damaged = bytearray(data)
    for position, value in cuts:
        if damaged:
            damaged[position % len(damaged)] = value
    return bytes(damaged) if length is None else bytes(damaged[: length % (len(damaged) + 1)])


def damaged(data: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Some bytes overwritten, perhaps the end cut off."""
    flips = st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=4)
    return st.builds(_damaged, data, flips, st.none() | st.integers(0, 2**16))


def said(body: Body, correlation_id: int, topic_id: bytes, partition: int) -> bytes:
    return encode_request(apis.BY_REQUEST[type(body)], correlation_id, body, topic_id, partition)


ENCODED = st.builds(said, REQUESTS, INT64, st.binary(min_size=16, max_size=16), st.integers(-(2**31), 2**31 - 1))
ENVELOPES = st.builds(struct.pack, st.just(">BHq16si"), st.just(PROTOCOL_VERSION), KEYS, INT64, TOPIC_IDS, st.just(0))
HEADERS = st.one_of(
    st.binary(max_size=200),
    ENCODED,
    damaged(ENCODED),
    st.builds(lambda envelope, body: envelope + body, ENVELOPES, st.builds(msgspec.msgpack.encode, VALUES)),
    st.builds(lambda envelope, body: envelope + body, ENVELOPES, st.binary(max_size=40)),
    st.builds(msgspec.msgpack.encode, VALUES),
    st.integers(1, 2000).map(lambda depth: b"\x91" * depth),  # arrays in arrays, without an end
    st.builds(lambda envelope, depth: envelope + b"\x91" * depth, ENVELOPES, st.integers(1, 2000)),
)


def with_true_crc(batch: bytes) -> bytes:
    """So that what lies under the checksum is looked at."""
    if len(batch) < 61:
        return batch
    fixed = bytearray(batch)
    struct.pack_into(">i", fixed, 8, len(fixed) - 12)
    fixed[16] = 2
    struct.pack_into(">I", fixed, 17, google_crc32c.value(bytes(fixed[21:])))
    return bytes(fixed)


GOOD_BATCHES = st.builds(
    encode,
    st.lists(
        st.tuples(st.integers(0, 2**41), st.none() | st.binary(max_size=20), st.none() | st.binary(max_size=80)),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from(["none", "gzip", "snappy", "lz4", "zstd"]),
)
BATCHES = st.one_of(
    st.binary(max_size=200),
    GOOD_BATCHES,
    damaged(GOOD_BATCHES),
    damaged(GOOD_BATCHES).map(with_true_crc),
    st.binary(min_size=61, max_size=200).map(with_true_crc),
)

ILLEGAL_TOPICS = st.builds(
    NewTopic,
    name=st.text(max_size=300).map(lambda name: name + "/"),  # never legal, so that nothing is created
    partitions=ANY_INT,
    replication_factor=ANY_INT,
    config=st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=2),
)
CONTROLLER_REQUESTS = st.one_of(
    REQUESTS,
    st.builds(
        CreateTopicsRequest,
        mutation_id=TOPIC_IDS,
        since_offset=ANY_INT,
        topics=st.lists(ILLEGAL_TOPICS, max_size=3),
        timeout_ms=ANY_INT,
    ),
)
RAFT_MESSAGES = st.sampled_from(get_args(RaftMessage)).flatmap(
    lambda cls: st.builds(
        cls,
        **{
            name: {int: ANY_INT, bool: st.booleans(), bytes: TOPIC_IDS}.get(
                kind, st.lists(st.tuples(ANY_INT, ANY_INT), max_size=3)
            )
            for name, kind in get_type_hints(cls).items()
        },
    )
)

ENDPOINTS = st.builds(
    Endpoint,
    st.one_of(st.text(max_size=10), st.sampled_from(["127.0.0.1", "", "*", "host:7", "::1", "a b", "\x00", "x" * 300])),
    st.one_of(st.integers(-1, 70_000), ANY_INT),
)
STATUSES = st.builds(
    ReplicaStatus,
    topic=st.text(max_size=5),
    topic_id=TOPIC_IDS,
    partition=ANY_INT,
    node_id=ANY_INT,
    role=st.sampled_from(Role),
    leader_epoch=ANY_INT,
)
NODE_STATES = st.builds(
    n.NodeState,
    node_id=st.one_of(st.integers(1, 4), ANY_INT),
    boot_id=ANY_INT,
    cluster_id=st.text(max_size=5),
    directory_id=st.text(max_size=5),
    endpoint=ENDPOINTS,
    voters=st.lists(ANY_INT, max_size=3),
    founders=st.lists(st.tuples(ANY_INT, st.text(max_size=5)), max_size=3),
    image_offset=ANY_INT,
    workers=st.lists(
        st.builds(n.WorkerState, endpoint=st.none() | ENDPOINTS, boot_id=ANY_INT, status=STATUSES), max_size=2
    ),
    leaving=st.booleans(),
)
NODE_REQUESTS = st.one_of(
    NODE_STATES,
    st.builds(n.ImageRequest, cluster_id=st.text(max_size=5), image_offset=ANY_INT),
    st.builds(
        n.RegisterNodeRequest,
        cluster_id=st.text(max_size=5),
        node_id=st.one_of(st.integers(1, 4), ANY_INT),
        directory_id=st.text(max_size=300),
        endpoint=ENDPOINTS,
    ),
)
