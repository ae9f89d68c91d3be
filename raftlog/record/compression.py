"""Compress and decompress the records of one batch, as Kafka's clients do. Bytes in, bytes out.

A compressed batch is a few kilobytes that may claim to be gigabytes, so no function here produces
more than the bound that it is given: what is larger raises MessageTooLargeError.

Formats: gzip members, snappy in xerial's blocks (Kafka's Java clients) or raw, LZ4 frames with independent
blocks (KIP-57), zstd frames (KIP-110).
"""

from __future__ import annotations

import gzip
import struct
import zlib

import cramjam

from raftlog.errors import CorruptMessageError, MessageTooLargeError

COMPRESSIONS = ("none", "gzip", "snappy", "lz4", "zstd")
"""Position in this tuple = the three compression bits of a batch's attributes."""

_GZIP_LEVEL = 6
_ZSTD_LEVEL = 3
_LZ4_LEVEL = 1  # the higher levels cost five times the CPU for a few percent
XERIAL_HEADER = b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01"
_XERIAL_BLOCK_BYTES = 32 * 1024
_BLOCK_LENGTH = struct.Struct(">i")
_NO_ROOM = "failed to write whole buffer"  # the codec's error where the output is full
_FIRST_GUESS = 8  # most batches shrink by less than this


def compress(data: bytes, compression: str) -> bytes:
    """`data` in one of COMPRESSIONS, "none" excepted."""
    if compression == "gzip":
        return gzip.compress(data, _GZIP_LEVEL, mtime=0)
    if compression == "snappy":
        parts = [XERIAL_HEADER]
        for start in range(0, len(data), _XERIAL_BLOCK_BYTES):
            block = bytes(cramjam.snappy.compress_raw(data[start : start + _XERIAL_BLOCK_BYTES]))
            parts += (_BLOCK_LENGTH.pack(len(block)), block)
        return b"".join(parts)
    if compression == "lz4":
        compressor = cramjam.lz4.Compressor(level=_LZ4_LEVEL, content_checksum=False, block_linked=False)
        compressor.compress(data)
        return bytes(compressor.finish())
    assert compression == "zstd", compression
    return bytes(cramjam.zstd.compress(data, level=_ZSTD_LEVEL))


def decompress(data: bytes, compression: str, max_bytes: int) -> bytes:
    """The opposite. Raises CorruptMessageError; MessageTooLargeError above `max_bytes`."""
    try:
        if compression == "gzip":
            return _gunzip(data, max_bytes)
        if compression == "snappy":
            return _unsnappy(data, max_bytes)
        if compression in ("lz4", "zstd"):
            return _into_bounded(data, compression, max_bytes)
    except (zlib.error, cramjam.DecompressionError, struct.error, EOFError) as error:
        raise CorruptMessageError(f"records that are not {compression}: {error}") from None
    raise CorruptMessageError(f"unknown compression {compression!r}")


def _too_large(max_bytes: int) -> MessageTooLargeError:
    return MessageTooLargeError(f"a compressed batch unpacks to more than {max_bytes} bytes, the most that is read")


def _gunzip(data: bytes, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    room = max_bytes
    while data:
        member = zlib.decompressobj(wbits=31)
        part = member.decompress(data, room + 1)
        room -= len(part)
        if room < 0:
            raise _too_large(max_bytes)
        if not member.eof:
            raise EOFError("the end is missing")
        parts.append(part)
        data = member.unused_data
    return b"".join(parts)


def _unsnappy(data: bytes, max_bytes: int) -> bytes:
    if not data.startswith(XERIAL_HEADER[:8]):
        return _unsnappy_block(data, max_bytes, max_bytes)
    parts: list[bytes] = []
    room = max_bytes
    position = len(XERIAL_HEADER)
    while position < len(data):
        (size,) = _BLOCK_LENGTH.unpack_from(data, position)
        position += _BLOCK_LENGTH.size
        if not 0 < size <= len(data) - position:
            raise CorruptMessageError("a snappy block that leaves its batch")
        part = _unsnappy_block(data[position : position + size], room, max_bytes)
        room -= len(part)
        parts.append(part)
        position += size
    return b"".join(parts)


def _unsnappy_block(data: bytes, room: int, max_bytes: int) -> bytes:
    # The block begins with its size, which snappy would allocate unasked.
    if cramjam.snappy.decompress_raw_len(data) > room:
        raise _too_large(max_bytes)
    return bytes(cramjam.snappy.decompress_raw(data))


def _into_bounded(data: bytes, compression: str, max_bytes: int) -> bytes:
    codec = cramjam.lz4 if compression == "lz4" else cramjam.zstd
    for size in (len(data) * _FIRST_GUESS + 65536, max_bytes):
        # Zeroed memory comes from the kernel page by page, so what is not written costs nothing.
        output = bytearray(min(size, max_bytes))
        try:
            return bytes(memoryview(output)[: codec.decompress_into(data, output)])
        except cramjam.DecompressionError as error:
            if len(output) == max_bytes and _NO_ROOM not in str(error):
                raise
    raise _too_large(max_bytes)
