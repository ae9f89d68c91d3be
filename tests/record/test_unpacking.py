"""A leader knows whether a batch unpacks to more than a consumer takes, a slice at a time."""

from __future__ import annotations

import gzip
import random

import cramjam
import pytest

from raftlog.errors import CorruptMessageError, InvalidRecordError, MessageTooLargeError
from raftlog.record.batch import HEADER_BYTES, BatchBuilder, read_header
from raftlog.record.compression import COMPRESSIONS, compress
from raftlog.record.unpacking import measure

LIMIT = 4 * 1024 * 1024


def holding(body: bytes, compression: str) -> bytes:
    """A header of a batch in front of any bytes; the checksum is looked at elsewhere."""
    builder = BatchBuilder()
    builder.append(1, None, b"v")
    front = bytearray(builder.build()[:HEADER_BYTES])
    front[8:12] = (HEADER_BYTES - 12 + len(body)).to_bytes(4, "big")
    front[22] = COMPRESSIONS.index(compression)
    return bytes(front) + body


def steps(body: bytes, compression: str) -> list[int]:
    batch = holding(body, compression)
    return list(measure(batch, read_header(batch), LIMIT))


@pytest.mark.parametrize("compression", COMPRESSIONS[1:])
@pytest.mark.parametrize("kind", ["zeros", "random", "text"])
def test_the_limit_is_exact_to_the_byte_or_at_least_to_the_codecs(compression: str, kind: str) -> None:
    rng = random.Random(1)
    make = {
        "zeros": bytes,
        "random": rng.randbytes,
        "text": lambda size: (b"".join(b"%d " % rng.randrange(9999) for _ in range(200)) * (size // 400 + 1))[:size],
    }[kind]
    steps(compress(make(LIMIT), compression), compression)
    with pytest.raises(MessageTooLargeError, match=str(LIMIT)):
        steps(compress(make(LIMIT + 1), compression), compression)


@pytest.mark.parametrize("compression", COMPRESSIONS[1:])
def test_what_is_small_needs_no_work(compression: str) -> None:
    assert steps(compress(b"some text " * 100, compression), compression) == []


def test_gzip_is_counted_over_its_members_in_slices() -> None:
    member = gzip.compress(bytes(3 * 1024 * 1024))
    assert len(steps(member + gzip.compress(bytes(1024 * 1024)), "gzip")) > 4
    with pytest.raises(MessageTooLargeError):
        steps(member * 2, "gzip")
    work = steps(gzip.compress(bytes(LIMIT)), "gzip")
    assert max(work) < LIMIT // 7


def test_lz4_is_one_frame_of_independent_blocks_and_gzip_and_zstd_may_be_several() -> None:
    """As with Apache Kafka 4.4.0: of a second frame of LZ4 most of Kafka's clients read nothing."""
    for compression in ("gzip", "zstd"):
        steps(compress(b"one", compression) + compress(b"two", compression), compression)
    steps(compress(b"one", "lz4"), "lz4")
    with pytest.raises(InvalidRecordError, match="more than one frame"):
        steps(compress(b"one", "lz4") * 2, "lz4")
    linked = cramjam.lz4.Compressor(level=1, block_linked=True)
    linked.compress(b"one")
    with pytest.raises(InvalidRecordError, match="refer to each other"):
        steps(bytes(linked.finish()), "lz4")


def test_zstd_without_its_size_in_the_frame_is_counted() -> None:
    """As streaming producers make it: blocks of any size, and nobody knows how many come."""

    def blocks(count: int) -> bytes:
        block, last = ((size << 3 | 2 | end).to_bytes(3, "little") + b"x" for end in (0, 1))
        return b"\x28\xb5\x2f\xfd\x00\x58" + block * (count - 1) + last

    size = 1024
    assert len(bytes(cramjam.zstd.decompress(blocks(3)))) == 3 * size
    steps(blocks(LIMIT // size), "zstd")
    with pytest.raises(MessageTooLargeError):
        steps(blocks(LIMIT // size + 1), "zstd")


def test_a_size_that_is_only_claimed_is_refused() -> None:
    body = bytearray(compress(bytes(300), "zstd"))
    lie = b"\x28\xb5\x2f\xfd\xe0" + (2**40).to_bytes(8, "little") + bytes(body[7:])
    with pytest.raises(MessageTooLargeError):
        steps(lie, "zstd")
    with pytest.raises(MessageTooLargeError):
        steps(b"\xff\xff\xff\x7f" + b"x" * 20, "snappy")


@pytest.mark.parametrize("compression", COMPRESSIONS[1:])
def test_what_is_damaged_is_an_error_or_left_to_who_reads_it(compression: str) -> None:
    rng = random.Random(2)
    body = compress(rng.randbytes(600_000) + bytes(2_000_000), compression)
    for _ in range(20):
        damaged = bytearray(body[: rng.choice((len(body), rng.randrange(1, len(body))))])
        damaged[rng.randrange(min(64, len(damaged)))] ^= 1 << rng.randrange(8)
        try:
            steps(bytes(damaged), compression)
        except (CorruptMessageError, MessageTooLargeError):
            pass


def test_many_empty_members_or_blocks_take_many_slices() -> None:
    member = gzip.compress(bytes(range(256)))
    assert len(steps(member * 90, "gzip")) >= 90
    with pytest.raises(CorruptMessageError, match="members"):
        steps(member * 101, "gzip")
    stored = (1 << 31 | 1).to_bytes(4, "little") + b"x"
    frame = b"\x04\x22\x4d\x18\x60\x40\x82" + stored * 17_000 + bytes(4)
    assert cramjam.lz4.decompress(frame).read() == b"x" * 17_000
    assert len(steps(frame, "lz4")) >= 17
    assert len(steps(b"\x50\x2a\x4d\x18\0\0\0\0" * 17_000, "zstd")) >= 17
