"""What the demo sends: every line of a file, or of Python's standard library, each with an id of its own."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from raftlog.errors import ConfigError

from .input import split

_NOT_OURS = {"site-packages", "dist-packages", "__pycache__"}  # what is installed beside the standard library


class SourceFile(NamedTuple):
    """A file whose lines a demo produces. `name` is what ids begin with."""

    name: bytes
    path: Path
    lines: int


def find_files(path: str | None) -> list[SourceFile]:
    """The file at `path`, or the standard library's sources. Reads each once, to count its lines.

    Raises ConfigError when there is no line at all, OSError when the file cannot be read.
    """
    if path is not None:
        candidates = [(path, Path(path))]
    else:
        root = Path(sysconfig.get_path("stdlib"))
        found = (each for each in sorted(root.rglob("*.py")) if not _NOT_OURS & set(each.parts[len(root.parts) :]))
        candidates = [(str(each.relative_to(root)), each) for each in found if each.is_file()]
    files = [SourceFile(name.encode("utf-8", "surrogateescape"), each, _count(each)) for name, each in candidates]
    files = [each for each in files if each.lines]
    if not files:
        raise ConfigError(f"{path or 'the standard library'} has no lines to send; name a text file with --file")
    return files


def _count(path: Path) -> int:
    with path.open("rb") as stream:
        return sum(1 for _ in split(stream, b"\n"))


def records(files: list[SourceFile]) -> Iterator[tuple[bytes, bytes]]:
    """(id, line), as many of each file as were counted. Raises ConfigError when one became shorter."""
    for file in files:
        number = 0
        with file.path.open("rb") as stream:
            for number, line in zip(range(1, file.lines + 1), split(stream, b"\n"), strict=False):
                yield b"%b:%d" % (file.name, number), line
        if number < file.lines:
            raise ConfigError(f"{file.path} became shorter while it was read")
