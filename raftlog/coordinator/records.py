"""What the log of `__consumer_offsets` says, as keys and values. Bytes in, bytes out.

The log is compacted: the newest value of each key is the truth, and no value means that it is gone. So the key of a
fact is the same bytes each time. Keys are msgpack arrays that name their kind; values begin with their version:

    ["O", group_id, topic, partition]    [1, topic_id, offset, leader_epoch, metadata, committed_ms, begun_partitions]
    ["G", group_id]                      [1, generation, protocol_type, protocol_name, leader, members, written_ms]

All records of one request travel in one batch, hence in one Raft entry: they are committed together or not at all.
"""

from __future__ import annotations

import msgspec

from raftlog.errors import CorruptLogError

RECORD_VERSION = 1


class OffsetKey(msgspec.Struct, array_like=True, tag="O", frozen=True):
    group_id: str
    topic: str
    partition: int


class GroupKey(msgspec.Struct, array_like=True, tag="G", frozen=True):
    group_id: str


class OffsetValue(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    version: int = RECORD_VERSION
    topic_id: bytes
    offset: int
    leader_epoch: int
    metadata: str
    committed_ms: int
    begun_partitions: int = -1  # absent in what older versions have written, as what follows
    committer_id: int = -1
    sequence: int = -1


class MemberValue(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    member_id: str
    group_instance_id: str | None
    client_id: str
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocols: list[tuple[str, bytes]]
    assignment: bytes
    client_host: str = ""  # absent in what older versions have written


class GroupValue(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """A group at the end of a rebalance. Without members it is Empty, and has been since `written_ms`."""

    version: int = RECORD_VERSION
    generation: int
    protocol_type: str
    protocol_name: str
    leader: str
    members: list[MemberValue]
    written_ms: int


Record = tuple[bytes, bytes | None]

encode = msgspec.msgpack.Encoder().encode
_keys: msgspec.msgpack.Decoder[OffsetKey | GroupKey] = msgspec.msgpack.Decoder(OffsetKey | GroupKey)
_offsets = msgspec.msgpack.Decoder(OffsetValue)
_groups = msgspec.msgpack.Decoder(GroupValue)


def decode_key(key: bytes) -> OffsetKey | GroupKey:
    """Raises CorruptLogError for what this version of raftlog cannot read, as the others here do."""
    try:
        return _keys.decode(key)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptLogError(f"a record of the consumer groups that this raftlog cannot read: {error}") from None


def decode_offset(value: bytes) -> OffsetValue:
    try:
        return _offsets.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptLogError(f"a committed offset that this raftlog cannot read: {error}") from None


def decode_group(value: bytes) -> GroupValue:
    try:
        return _groups.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptLogError(f"a consumer group that this raftlog cannot read: {error}") from None
