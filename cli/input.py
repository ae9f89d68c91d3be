"""A stream of bytes cut into records. Pure but for reading the stream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from raftlog.errors import MessageTooLargeError
from raftlog.limits import RECORD_BYTES_MAX

_READ_BYTES = 256 * 1024


class Readable(Protocol):
    def read1(self, size: int = -1, /) -> bytes:
        """What is there, at most `size` bytes; b"" at the end."""
        ...


def split(stream: Readable, delimiter: bytes) -> Iterator[bytes]:
    """Every piece before a delimiter, and the rest unless it is empty.

    A piece is handed out as soon as its delimiter was read, so that a slow pipe is followed. Raises
    MessageTooLargeError when a piece is larger than any record may be.
    """
    assert len(delimiter) == 1
    rest: list[bytes] = []
    rest_bytes = 0
    while data := stream.read1(_READ_BYTES):
        pieces = data.split(delimiter)
        rest.append(pieces[0])
        rest_bytes += len(pieces[0])
        if rest_bytes > RECORD_BYTES_MAX:
            raise MessageTooLargeError(f"no delimiter within {RECORD_BYTES_MAX:,} bytes: no record may be that large")
        if len(pieces) > 1:
            yield b"".join(rest)
            yield from pieces[1:-1]
            rest = [pieces[-1]]
            rest_bytes = len(pieces[-1])
    if rest_bytes:
        yield b"".join(rest)


def split_key(piece: bytes, separator: bytes) -> tuple[bytes, bytes] | None:
    """Key and value around the first separator; None where there is none."""
    key, found, value = piece.partition(separator)
    return (key, value) if found else None
