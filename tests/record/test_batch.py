"""Record batches: golden bytes, and what is refused."""

from __future__ import annotations

import struct

import google_crc32c
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftlog.errors import (
    CorruptMessageError,
    InvalidRecordError,
    MessageTooLargeError,
    UnsupportedForMessageFormatError,
)
from raftlog.record import batch
from raftlog.record.batch import (
    HEADER_BYTES,
    BatchBuilder,
    BatchHeader,
    check_batch,
    check_crc,
    decode,
    encode,
    read_header,
    split,
    stamp,
)
from raftlog.record.compression import COMPRESSIONS, compress, decompress

# Two records by hand from Kafka's message format. Varints are zigzag: 1 -> 02, -1 -> 01, 5 -> 0a.
_RECORD_0 = bytes.fromhex(
    "22"  # length 17
    "00"  # attributes
    "00"  # timestamp delta 0
    "00"  # offset delta 0
    "06" "6b6579"  # key "key"
    "0a" "76616c7565"  # value "value"
    "02"  # one header
    "02" "68"  # header key "h"
    "01"  # header value null
)  # fmt: skip
_RECORD_1 = bytes.fromhex(
    "0e"  # length 7
    "00"  # attributes
    "0a"  # timestamp delta 5
    "02"  # offset delta 1
    "01"  # key null
    "02" "78"  # value "x"
    "00"  # no headers
)  # fmt: skip
_COVERED = (
    bytes.fromhex(
        "0000"  # attributes: no compression, create time
        "00000001"  # last offset delta
        "0000018bcfe56800"  # base timestamp 1700000000000
        "0000018bcfe56805"  # max timestamp 1700000000005
        "ffffffffffffffff"  # producer id
        "ffff"  # producer epoch
        "ffffffff"  # base sequence
        "00000002"  # records
    )
    + _RECORD_0
    + _RECORD_1
)
GOLDEN = (
    bytes.fromhex("0000000000000000")  # base offset
    + struct.pack(">i", 9 + len(_COVERED))
    + bytes.fromhex("00000000" "02")  # leader epoch, magic
    + struct.pack(">I", google_crc32c.value(_COVERED))
    + _COVERED
)  # fmt: skip


def _built() -> bytes:
    builder = BatchBuilder()
    assert builder.append(1_700_000_000_000, b"key", b"value", [("h", None)])
    assert builder.append(1_700_000_000_005, None, b"x")
    return builder.build()


def test_a_batch_is_kafkas_byte_for_byte() -> None:
    built = _built()
    assert built[:12] + built[16:] == GOLDEN[:12] + GOLDEN[16:]  # the epoch is the leader's to fill in
    assert stamp(built, 0, 0) == GOLDEN


def test_the_header_of_the_golden_batch_is_read() -> None:
    header = check_batch(GOLDEN)
    assert header.batch_bytes == len(GOLDEN)
    assert (header.base_offset, header.next_offset, header.record_count) == (0, 2, 2)
    assert (header.base_timestamp_ms, header.max_timestamp_ms) == (1_700_000_000_000, 1_700_000_000_005)
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (-1, -1, -1)
    assert header.compression == "none"


def test_stamping_changes_offset_and_epoch_and_leaves_the_checksum_valid() -> None:
    stamped = stamp(GOLDEN, 2**40, 77)
    header = read_header(stamped)
    assert (header.base_offset, header.leader_epoch) == (2**40, 77)
    assert check_crc(stamped, 0, header)
    assert stamped[16:] == GOLDEN[16:]
    assert [record.offset for record in decode(stamped)] == [2**40, 2**40 + 1]


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_records_come_back_through_every_compression(compression: str) -> None:
    builder = BatchBuilder(compression)
    for number in range(200):
        key = None if number % 3 == 0 else b"k%d" % number
        assert builder.append(1000 + number, key, b"value " * 20, [("h", b"\x00\xff"), ("n", None)])
    batch = builder.build()
    header = check_batch(batch)
    assert header.compression == compression
    records = list(decode(stamp(batch, 10, 1) + stamp(GOLDEN, 210, 1)))
    assert [record.offset for record in records] == list(range(10, 212))
    assert records[1].key == b"k1" and records[0].key is None
    assert records[199].timestamp_ms == 1199
    assert records[7].headers == [("h", b"\x00\xff"), ("n", None)]


def test_compression_that_would_make_a_batch_larger_is_left_out() -> None:
    assert read_header(encode([(1, None, b"x")], "gzip")).compression == "none"


def test_a_full_builder_takes_no_more_but_always_the_first() -> None:
    builder = BatchBuilder(max_bytes=200)
    assert builder.append(1, None, bytes(500))
    assert not builder.append(1, None, b"x")
    assert builder.count == 1


@pytest.mark.parametrize("position", range(21, len(GOLDEN), 7))
def test_a_flipped_bit_behind_the_checksum_is_found(position: int) -> None:
    damaged = bytearray(GOLDEN)
    damaged[position] ^= 4
    with pytest.raises(CorruptMessageError):
        check_batch(bytes(damaged))
    with pytest.raises(CorruptMessageError):
        list(decode(bytes(damaged)))


@pytest.mark.parametrize("size", [0, 1, 16, 17, 60, 61, len(GOLDEN) - 1])
def test_a_batch_that_is_cut_short_is_refused(size: int) -> None:
    with pytest.raises(CorruptMessageError):
        check_batch(GOLDEN[:size])
    if size:
        with pytest.raises(CorruptMessageError):
            list(split(GOLDEN + GOLDEN[:size]))


def test_two_batches_are_not_one() -> None:
    with pytest.raises(CorruptMessageError):
        check_batch(GOLDEN + GOLDEN)


def test_an_older_magic_is_named() -> None:
    with pytest.raises(UnsupportedForMessageFormatError):
        check_batch(GOLDEN[:16] + b"\x01" + GOLDEN[17:])


def _resealed(covered: bytes) -> bytes:
    return GOLDEN[:17] + struct.pack(">I", google_crc32c.value(covered)) + covered


@pytest.mark.parametrize(
    ("start", "field"),
    [
        (0, b"\x00\x20"),  # control
        (0, b"\x00\x10"),  # transactional
        (0, b"\x00\x07"),  # no such compression
        (2, b"\x00\x00\x00\x05"),  # last offset delta
        (36, b"\x00\x00\x00\x00"),  # no records
        (36, b"\xff\xff\xff\xff"),
    ],
)
def test_a_batch_that_a_producer_may_not_send_is_refused(start: int, field: bytes) -> None:
    covered = _COVERED[:start] + field + _COVERED[start + len(field) :]
    with pytest.raises(InvalidRecordError):
        check_batch(_resealed(covered))


@pytest.mark.parametrize("length", [-(2**31), -1, 0, 48])
def test_an_impossible_length_is_refused(length: int) -> None:
    with pytest.raises(CorruptMessageError):
        read_header(GOLDEN[:8] + struct.pack(">i", length) + GOLDEN[12:])


@pytest.mark.parametrize("compression", COMPRESSIONS[1:])
def test_a_decompression_bomb_is_not_unpacked(compression: str) -> None:
    bomb = compress(bytes(8 << 20), compression)
    assert len(decompress(bomb, compression, 8 << 20)) == 8 << 20
    with pytest.raises(MessageTooLargeError, match=str(1 << 20)):
        decompress(bomb, compression, 1 << 20)


@pytest.mark.parametrize("compression", COMPRESSIONS[1:])
@given(garbage=st.binary(max_size=200))
@settings(max_examples=40, deadline=None)
def test_garbage_does_not_decompress_into_another_error(compression: str, garbage: bytes) -> None:
    try:
        decompress(garbage, compression, 1 << 16)
    except (CorruptMessageError, MessageTooLargeError):
        pass


@given(body=st.binary(max_size=120), attributes=st.integers(0, 15), count=st.integers(-2, 2**31 - 1))
@settings(max_examples=300, deadline=None)
def test_records_of_garbage_under_a_valid_checksum_raise_one_error(body: bytes, attributes: int, count: int) -> None:
    covered = struct.pack(">h", attributes) + _COVERED[2:36] + struct.pack(">i", count) + body
    batch = GOLDEN[:8] + struct.pack(">i", 9 + len(covered)) + _resealed(covered)[12:]
    try:
        list(decode(batch))
    except CorruptMessageError:
        pass


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_no_bytes_raise_anything_but_the_named_errors(garbage: bytes) -> None:
    for reads in (check_batch, lambda data: list(decode(data))):
        try:
            reads(garbage)
        except (CorruptMessageError, UnsupportedForMessageFormatError, InvalidRecordError):
            pass


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2**45),
            st.none() | st.binary(max_size=30),
            st.none() | st.binary(max_size=60),
            st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=5)), max_size=3),
        ),
        min_size=1,
        max_size=20,
    ),
    st.sampled_from(COMPRESSIONS),
)
@settings(max_examples=100, deadline=None)
def test_what_goes_in_comes_out(
    records: list[tuple[int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]], compression: str
) -> None:
    builder = BatchBuilder(compression)
    for record in records:
        assert builder.append(*record)
    batch = builder.build()
    assert len(batch) > HEADER_BYTES
    check_batch(batch)
    decoded = [(each.timestamp_ms, each.key, each.value, each.headers) for each in decode(batch)]
    assert decoded == records


@pytest.mark.parametrize(
    "name",
    [
        "BASE_OFFSET",
        "BATCH_BYTES",
        "LEADER_EPOCH",
        "LAST_OFFSET_DELTA",
        "PRODUCER_ID",
        "PRODUCER_EPOCH",
        "BASE_SEQUENCE",
        "RECORD_COUNT",
    ],
)
def test_each_constant_is_the_place_of_its_field(name: str) -> None:
    assert BatchHeader._fields[getattr(batch, name)] == name.lower()
    assert BatchHeader._fields[batch.MAX_TIMESTAMP] == "max_timestamp_ms"
