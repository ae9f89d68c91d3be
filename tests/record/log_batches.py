"""Batches as a log of Kafka's holds them: with marks that no producer may set, and control batches."""

from __future__ import annotations

import struct

from raftlog.record.batch import (
    BatchBuilder,
    encode,
    numbered,
    read_header,
    stamp,
)

_CRC_START, _ATTRIBUTES = 21, struct.Struct(">h")


def with_attributes(batch: bytes, more: int) -> bytes:
    changed = batch[:_CRC_START] + _ATTRIBUTES.pack(read_header(batch).attributes | more) + batch[_CRC_START + 2 :]
    header = read_header(changed)
    return numbered(changed, header.producer_id, header.producer_epoch, header.base_sequence)  # the checksum anew


def batch_of(
    base_offset: int, *values: bytes, compression: str = "none", producer_id: int = -1, more: int = 0
) -> bytes:
    builder = BatchBuilder(compression)
    for number, value in enumerate(values):
        builder.append(1_000 + number, b"k", value, [("h", b"x")])
    built = numbered(builder.build(), producer_id, 0, 0)
    return stamp(with_attributes(built, more), base_offset, 3)


def control_of(base_offset: int, producer_id: int, kind: int) -> bytes:
    marker = encode([(5, struct.pack(">hh", 0, kind), b"\0" * 6)])
    return stamp(with_attributes(numbered(marker, producer_id, 0, -1), 0x30), base_offset, 3)
