"""Batches that other clients may send and that our own builder does not make."""

from __future__ import annotations

import google_crc32c

from raftlog.record.batch import CRC_START, BatchBuilder


def signed(batch: bytes) -> bytes:
    """With the checksum of what it holds now."""
    checksum = google_crc32c.value(batch[CRC_START:]).to_bytes(4, "big")
    return batch[: CRC_START - 4] + checksum + batch[CRC_START:]


def with_header_name(name: bytes, key: bytes | None = None) -> bytes:
    """One record with a header whose name is these bytes."""
    builder = BatchBuilder()
    placeholder = "\x01" * len(name)
    builder.append(1_700_000_000_000, key, b"value", [(placeholder, b"x")])
    plain = builder.build()
    assert plain.count(placeholder.encode()) == 1
    return signed(plain.replace(placeholder.encode(), name))
