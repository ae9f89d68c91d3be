"""Segment files that a door sends from: opened once for many fetches, and given up soon, since a removed file takes
its room on the disk for as long as somebody has it open.
"""

from __future__ import annotations

import os

from raftlog import limits
from raftlog.protocol.records import LocateResponse, Place


class SegmentFile:
    """Closed when nobody has it any more: neither the cache nor a piece that is still to be sent."""

    __slots__ = ("descriptor", "used_s")

    def __init__(self, descriptor: int, now_s: float) -> None:
        self.descriptor = descriptor
        self.used_s = now_s

    def __del__(self) -> None:
        os.close(self.descriptor)


class Tally:
    """Of one partition's records: bytes sent that its worker was not told of."""

    __slots__ = ("sent_bytes",)

    def __init__(self) -> None:
        self.sent_bytes = 0


class FilePiece:
    """What is left to send of an answer's records."""

    __slots__ = ("_file", "_position", "_size", "_tally")

    def __init__(self, file: SegmentFile, position: int, size: int, tally: Tally) -> None:
        self._file = file
        self._tally = tally
        self._position = position
        self._size = size

    def __len__(self) -> int:
        return self._size

    def send(self, to: int) -> int:
        """To a socket; how many bytes that takes now. Raises OSError, also where the file has fewer."""
        sent = os.sendfile(to, self._file.descriptor, self._position, self._size)
        if not sent:
            raise OSError("a log that is shorter than its worker said")
        self._position += sent
        self._size -= sent
        self._tally.sent_bytes += sent
        return sent

    def read(self, most: int) -> bytes:
        """The next bytes, for who cannot have them sent. Raises OSError likewise."""
        data = os.pread(self._file.descriptor, min(most, self._size), self._position)
        if not data:
            raise OSError("a log that is shorter than its worker said")
        self._position += len(data)
        self._size -= len(data)
        self._tally.sent_bytes += len(data)
        return data


class SegmentFiles:
    """Those used last, by path and inode: a file that came to the same path is another one."""

    def __init__(self) -> None:
        self._files: dict[tuple[str, int], SegmentFile] = {}

    def piece(self, place: LocateResponse | Place, tally: Tally, now_s: float) -> FilePiece | None:
        """None: what was opened may be another file. The worker is to be asked once more; if it names this one again,
        while it is open here, it is that one.
        """
        key = (place.path, place.inode)
        file = self._files.pop(key, None)
        known = file is not None
        if file is None:
            file = _opened(place, now_s)
            if file is None:
                return None
        file.used_s = now_s
        self._files[key] = file
        if len(self._files) > limits.KAFKA_SEGMENT_FILES:
            del self._files[next(iter(self._files))]
        return FilePiece(file, place.position, place.length, tally) if known else None

    def close_idle(self, now_s: float) -> None:
        for key, file in list(self._files.items()):
            if now_s - file.used_s < limits.KAFKA_SEGMENT_FILE_S:
                return  # the one used first comes first
            del self._files[key]


def _opened(place: LocateResponse | Place, now_s: float) -> SegmentFile | None:
    try:
        file = SegmentFile(os.open(place.path, os.O_RDONLY | os.O_CLOEXEC), now_s)
    except OSError:
        return None
    return file if os.fstat(file.descriptor).st_ino == place.inode else None
