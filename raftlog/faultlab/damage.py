"""What is done to the files of a node that does not run, and how its file system is filled.

Pure file work, so that it is the same on this machine and in a VM.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
from pathlib import Path


def wipe(data: Path) -> None:
    """The data directory is empty."""
    for entry in data.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def flip(data: Path, rng: random.Random) -> str:
    """One bit of one segment is another; which one. Empty where there is no segment yet."""
    path = _segment(data, rng)
    if path is None:
        return ""
    position = rng.randrange(path.stat().st_size)
    with open(path, "r+b") as segment:
        segment.seek(position)
        byte = segment.read(1)[0]
        segment.seek(position)
        segment.write(bytes([byte ^ 1 << rng.randrange(8)]))
    return f"{path.relative_to(data.parent)} at {position}"


def truncate(data: Path, rng: random.Random) -> str:
    """The last bytes of one segment are gone, fewer than a batch's header, so that it cannot be a clean cut."""
    path = _segment(data, rng)
    if path is None:
        return ""
    size = path.stat().st_size - rng.randint(1, 60)
    with open(path, "r+b") as segment:
        segment.truncate(max(0, size))
    return f"{path.relative_to(data.parent)} to {size}"


def _segment(data: Path, rng: random.Random) -> Path | None:
    found = sorted(path for path in data.rglob("*.log") if path.stat().st_size)
    return rng.choice(found) if found else None


def fill(filler: Path) -> None:
    """The file takes all the room that its file system has; deleting it gives that back."""
    with open(filler, "wb") as file:
        free = os.statvfs(filler)
        step = free.f_bavail * free.f_frsize
        while step > free.f_frsize:
            with contextlib.suppress(OSError):
                os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), step)
                continue
            step //= 2
