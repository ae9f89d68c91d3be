"""A history: every operation of every process, as JSON lines.

    {"process": 3, "type": "invoke", "function": "send", "value": [[0, 17], [0, 18]], "time_ns": 5123}
    {"process": 3, "type": "ok", "function": "send", "value": [[0, 17, 5], [0, 18, 6]], "time_ns": 5987}

A process does one operation at a time: an invoke is followed by its ok, fail (it did not happen) or info (unknown).
One that ended within an operation leaves the invoke alone, which counts as info. Times are of the monotonic clock of
the machine on which all clients run.

| function | invoke | ok, info |
|---|---|---|
| send | [[partition, value], …] | [[partition, value, offset], …]; offset null: unknown, -1: not written |
| producer | null | null: another one goes on. What the one before it left unknown may come later |
| poll | null | [[partition, [[offset, value], …]], …] |
| assign, seek | [partition, …] | the same: what follows starts anew there |
| commit | [[partition, offset], …] | the same |
| committed | null | [[partition, offset], …]: what a tool was told that the group has committed |
| assigned, revoked, lost | | [time_ns, [partition, …]]: info, of a group's member: what it claims since when |
| final | null | [[partition, end offset], …]: all of it was read from the beginning |

A member's polls and commits carry the generation in which it was last told its share: those in which it was none, and
histories of older labs, do not.

The process "lab" writes what its clients work with (`library`, see libraries.py) and what it does: `fault` and `healed`
with the fault's name and its nodes, and `majority` with whether more than half of the nodes are up and together.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from raftlog.errors import InvalidRequestError

LAB = -1
"""The lab's own process number."""


class Operation(msgspec.Struct, gc=False, omit_defaults=True):
    process: int
    type: str
    function: str
    value: Any
    time_ns: int
    generation: int | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Operation).decode


class Recorder:
    """Writes one process's lines, each with one write, so that a kill leaves whole lines."""

    def __init__(self, path: Path, process: int) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._process = process

    def write(self, kind: str, function: str, value: Any = None, generation: int | None = None) -> None:
        operation = Operation(self._process, kind, function, value, time.monotonic_ns(), generation)
        os.write(self._file, _encode(operation) + b"\n")

    def close(self) -> None:
        os.close(self._file)


def read_history(paths: Iterable[Path]) -> list[Operation]:
    """All lines of all files, in order of time. Raises InvalidRequestError for a line that is no operation."""
    operations = [operation for path in paths for operation in _read(path)]
    operations.sort(key=lambda operation: operation.time_ns)
    return operations


def _read(path: Path) -> Iterator[Operation]:
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield _decode(line)
            except msgspec.MsgspecError as error:
                raise InvalidRequestError(f"{path}, line {number} is not an operation: {error}") from None


def write_history(path: Path, operations: Iterable[Operation]) -> None:
    with open(path, "wb") as lines:
        for operation in operations:
            lines.write(_encode(operation) + b"\n")
