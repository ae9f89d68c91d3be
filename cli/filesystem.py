"""What lies under a data directory: the file system's type, and what one fdatasync on it costs."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

_SYNCS = 200
_APPEND_BYTES = 4096
_LONGEST_S = 10.0  # a slow disk is measured with fewer syncs


def file_system_type(path: Path, mountinfo: str | None = None) -> str:
    """The type of the mount that holds `path`, e.g. ext4; "unknown" when no mount is listed.

    Line of /proc/self/mountinfo (man 5 proc): id, parent, major:minor, root, mount point, options,
    optional fields, "-", type, source, super options. Blanks in the mount point are octal escapes.
    """
    listed = mountinfo if mountinfo is not None else Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
    found, found_parts = "unknown", 0
    for line in listed.splitlines():
        before, dash, after = line.partition(" - ")
        if not dash:
            continue
        mount_point = Path(_unescape(before.split(" ")[4]))
        # A later mount on the same point covers an earlier one.
        if path.is_relative_to(mount_point) and len(mount_point.parts) >= found_parts:
            found, found_parts = after.split(" ")[0], len(mount_point.parts)
    return found


def _unescape(text: str) -> str:
    for code, character in ((r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")):
        text = text.replace(code, character)
    return text


def fdatasync_p50_ms(directory: Path) -> float:
    """The median of appending 4 KiB and syncing it, as a node does for every small write."""
    took_s: list[float] = []
    end_s = time.monotonic() + _LONGEST_S
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        while len(took_s) < _SYNCS and time.monotonic() < end_s:
            file.write(os.urandom(_APPEND_BYTES))
            start_s = time.perf_counter()
            os.fdatasync(file.fileno())
            took_s.append(time.perf_counter() - start_s)
    return 1000 * statistics.median(took_s)
