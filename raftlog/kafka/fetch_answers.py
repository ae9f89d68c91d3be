"""Answers to Fetch by hand: their records are sent from where they lie. The schemas say the same without records.

    answer      int32 throttle time in ms, [int16 error code, int32 session id,] topics: name or id, partitions
    partition   int32 index, int16 error code, int64 high watermark, int64 last stable offset, [int64 log start offset,]
                no aborted transactions, [int32 preferred read replica,] records [, tagged fields]

Lengths and counts are varints of one more from version 12 on, with tagged fields behind each structure (KIP-482).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from raftlog.kafka.answer_writer import write_length, write_topic
from raftlog.kafka.connection import Out

FIRST_VERSION, TOPIC_IDS_FROM = 4, 13
_START_FROM, _SESSIONS_FROM, _REPLICA_FROM, _FLEXIBLE_FROM = 5, 7, 11, 12
_INT = struct.Struct(">i")
_ANSWER = struct.Struct(">ii")
_SESSION = struct.Struct(">hi")
_BOUNDS = struct.Struct(">ihqq")
_START = struct.Struct(">q")
_NO_TRANSACTIONS, _NO_REPLICA = _INT.pack(-1), _INT.pack(-1)
_LEADER = struct.Struct(">BBiix")  # one tagged field: number 1, nine bytes; leader, epoch, no tagged fields
_LEADER_TAG, _LEADER_BYTES = 1, 9


class FetchedPartition(NamedTuple):
    """What a fetch is answered for a partition. `leader_id` -1: no hint who leads instead."""

    partition: int
    error_code: int
    high_watermark: int
    log_start_offset: int
    records: Out
    leader_id: int = -1
    leader_epoch: int = -1


def write_fetched(
    version: int,
    correlation_id: int,
    session_id: int,
    topics: Mapping[str | bytes, Iterable[FetchedPartition]],
    throttle_ms: int = 0,
) -> list[Out]:
    """The whole answer, in pieces: records are not copied."""
    flexible = version >= _FLEXIBLE_FROM
    out = bytearray(_ANSWER.size)
    pieces: list[Out] = [out]
    head = out
    if flexible:
        out.append(0)
    out += _INT.pack(throttle_ms)
    if version >= _SESSIONS_FROM:
        out += _SESSION.pack(0, session_id)
    write_length(out, len(topics), flexible)
    for topic, partitions in topics.items():
        write_topic(out, topic, flexible)
        partitions = list(partitions)
        write_length(out, len(partitions), flexible)
        for partition in partitions:
            _write_bounds(out, version, partition)
            size = len(partition.records)
            write_length(out, size, flexible)
            if size:
                out = bytearray()
                pieces += (partition.records, out)
            if flexible:
                _write_tagged(out, partition)
        if flexible:
            out.append(0)
    if flexible:
        out.append(0)
    _ANSWER.pack_into(head, 0, sum(map(len, pieces)) - 4, correlation_id)
    return pieces


def _write_bounds(out: bytearray, version: int, partition: FetchedPartition) -> None:
    high_watermark = partition.high_watermark
    out += _BOUNDS.pack(partition.partition, partition.error_code, high_watermark, high_watermark)
    if version >= _START_FROM:
        out += _START.pack(partition.log_start_offset)
    out += b"\0" if version >= _FLEXIBLE_FROM else _NO_TRANSACTIONS
    if version >= _REPLICA_FROM:
        out += _NO_REPLICA


def _write_tagged(out: bytearray, partition: FetchedPartition) -> None:
    if partition.leader_id < 0:
        out.append(0)
    else:
        out += b"\x01" + _LEADER.pack(_LEADER_TAG, _LEADER_BYTES, partition.leader_id, partition.leader_epoch)


__all__ = ["FIRST_VERSION", "TOPIC_IDS_FROM", "FetchedPartition", "write_fetched"]
