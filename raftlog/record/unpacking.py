"""How much a compressed batch unpacks to, found out in slices: a leader refuses what no consumer would take.

Headers of frames and blocks say an upper bound without unpacking anything: a zstd block holds 128 KiB at most, an LZ4
block what its frame says, a snappy block names its size. Where that is above the limit the batch is unpacked and
counted: gzip, which says nothing that can be believed, a piece at a time; zstd and LZ4 in one call, a tenth of a second
(zstd) to four tenths (LZ4) of output that is thrown away. cramjam has no way to stop in a frame and to go on: its
`Decompressor` takes whole frames only, and a block alone says nothing, since it refers to the blocks before it. Only a
batch whose blocks may hold more than the limit comes so far: what clients send does not, unless it is made for that.

LZ4 is one frame of independent blocks, as with Kafka (seen with 4.4.0, which takes gzip of several members and zstd of
several frames). Of two frames librdkafka 2.16 reads nothing, and kafka-python 3.0 the first one without an error;
Kafka's Java clients read no blocks that refer to each other.
Sources: RFC 1952, RFC 8878, the LZ4 frame format, snappy's format.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Generator, Iterator

import cramjam

from raftlog.errors import CorruptMessageError, InvalidRecordError, MessageTooLargeError
from raftlog.record.batch import HEADER_BYTES, BatchHeader
from raftlog.record.compression import XERIAL_HEADER, decompress
from raftlog.types import Buffer

_PIECE_BYTES = 512 * 1024  # unpacked at once, some milliseconds
_BLOCKS = 1_000  # looked at at once, likewise
_BLOCK_WORK_BYTES = 500  # what it costs to look at a block's header, as bytes unpacked
_MEMBERS_MAX = 100  # clients write one; each costs a copy of all that follow
_GZIP_RATIO_MAX = 1_032  # of deflate: 258 bytes from two bits
_LZ4_RATIO_MAX = 255  # each byte of a length adds so much
_ZSTD_BLOCK_BYTES = 128 * 1024
_ZSTD_MAGIC, _ZSTD_SKIPPABLE, _LZ4_MAGIC = 0xFD2FB528, 0x184D2A5, 0x184D2204
_UINT32 = struct.Struct("<I")


def measure(batch: Buffer, header: BatchHeader, max_bytes: int) -> Generator[int, None, int]:
    """Ends when the batch is found to unpack to `max_bytes` at most; each item is the work of a slice, in bytes.

    Returns an upper bound of what it unpacks to. Raises MessageTooLargeError; InvalidRecordError for LZ4 that
    few consumers read; CorruptMessageError for what does not unpack, if it was looked at.
    """
    compression, size = header.compression, header.batch_bytes - HEADER_BYTES
    ratio = {"none": 1, "gzip": _GZIP_RATIO_MAX}.get(compression)
    if ratio is not None and size * ratio <= max_bytes:
        return size * ratio
    data = bytes(batch[HEADER_BYTES:])
    sizes = {"gzip": _inflated, "snappy": _snappy_sizes, "lz4": _lz4_sizes, "zstd": _zstd_sizes}[compression](data)
    least = most = 0
    blocks = 0
    try:
        for low, high in sizes:
            least += low
            most += high
            if least > max_bytes:
                raise MessageTooLargeError(
                    f"a {compression} batch of {header.batch_bytes} bytes unpacks to {least} bytes or more; "
                    f"consumers take {max_bytes}"
                )
            blocks += 1
            if compression == "gzip":
                yield low + _BLOCK_WORK_BYTES
            elif blocks % _BLOCKS == 0:
                yield _BLOCKS * _BLOCK_WORK_BYTES
    except (struct.error, IndexError, EOFError, zlib.error, cramjam.DecompressionError) as error:
        raise CorruptMessageError(f"records that are not {compression}: {error}") from None
    if compression == "lz4":
        most = min(most, size * _LZ4_RATIO_MAX)
    if most > max_bytes:
        yield _PIECE_BYTES  # begins in a turn of its own
        most = len(decompress(data, compression, max_bytes))
        yield max_bytes
    return most


def _inflated(data: bytes) -> Iterator[tuple[int, int]]:
    """Of each piece of each member."""
    members = 0
    while data:
        members += 1
        if members > _MEMBERS_MAX:
            raise EOFError(f"more than {_MEMBERS_MAX} members")
        member = zlib.decompressobj(wbits=31)
        while not member.eof:
            piece = len(member.decompress(data, _PIECE_BYTES))
            data = member.unconsumed_tail
            if not (piece or member.eof):
                raise EOFError("the end is missing")
            yield piece, piece
        data = member.unused_data


def _snappy_sizes(data: bytes) -> Iterator[tuple[int, int]]:
    """What each block says of itself; the codec holds it to that."""
    if not data.startswith(XERIAL_HEADER[:8]):
        size = cramjam.snappy.decompress_raw_len(data)
        yield size, size
        return
    position = len(XERIAL_HEADER)
    while position < len(data):
        end = position + 4 + int.from_bytes(data[position : position + 4], "big", signed=True)
        if not position + 4 < end <= len(data):
            raise EOFError("a snappy block that leaves its batch")
        size = cramjam.snappy.decompress_raw_len(data[position + 4 : min(end, position + 14)])
        yield size, size
        position = end


def _lz4_sizes(data: bytes) -> Iterator[tuple[int, int]]:
    """(0 or the size of a block that is stored as it is, the most that the block can hold)."""
    if _UINT32.unpack_from(data, 0)[0] != _LZ4_MAGIC:
        raise EOFError("no frame begins where one is due")
    flags, block_kind = data[4], data[5] >> 4 & 7
    if not flags & 0x20:
        raise InvalidRecordError(
            "an lz4 batch of blocks that refer to each other: many consumers read only independent ones"
        )
    block_bytes = 256 << 2 * block_kind  # 64 KiB, 256 KiB, 1 MiB or 4 MiB
    position = 7 + (8 if flags & 0x08 else 0) + (4 if flags & 0x01 else 0)
    while True:
        (size,) = _UINT32.unpack_from(data, position)
        position += 4
        if size == 0:
            break
        stored, size = size >> 31, size & 0x7FFFFFFF
        yield (size, size) if stored else (0, block_bytes)
        position += size + (4 if flags & 0x10 else 0)
    position += 4 if flags & 0x04 else 0
    if position < len(data):
        raise InvalidRecordError("an lz4 batch of more than one frame: many consumers read the first one only")


def _zstd_sizes(data: bytes) -> Iterator[tuple[int, int]]:
    """Likewise; a frame that says its size is one block."""
    position = 0
    while position < len(data):
        (magic,) = _UINT32.unpack_from(data, position)
        if magic >> 4 == _ZSTD_SKIPPABLE:
            position += 8 + _UINT32.unpack_from(data, position + 4)[0]
            yield 0, 0
            continue
        if magic != _ZSTD_MAGIC:
            raise EOFError("no frame begins where one is due")
        flags = data[position + 4]
        single, kind = flags >> 5 & 1, flags >> 6
        position += 5 + (not single) + (0, 1, 2, 4)[flags & 3]
        width = (single, 2, 4, 8)[kind]
        declared = int.from_bytes(data[position : position + width], "little") + (256 if width == 2 else 0)
        if width:
            yield declared, declared
        position += width
        last = False
        while not last:
            if position + 3 > len(data):
                raise EOFError("the end is missing")
            block = int.from_bytes(data[position : position + 3], "little")
            last, kind, size = bool(block & 1), block >> 1 & 3, block >> 3
            low, high = (0, _ZSTD_BLOCK_BYTES) if kind == 2 else (size, size)
            yield (0, 0) if width else (low, high)
            position += 3 + (1 if kind == 1 else size)
        position += 4 if flags & 0x04 else 0
