"""What a process whose work is large frames tells its allocator."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_TRIM_BYTES = 128 * 1024 * 1024
_MAP_BYTES = 32 * 1024 * 1024  # the most that glibc takes


def keep_freed_memory() -> None:
    """glibc gives freed memory of large frames back to the kernel at once; it is told to keep it for the next ones.

    Page faults on fresh memory cost half of the throughput (fetches of 1 MB: 680 MB/s, and 1,270 with this). A C
    library without mallopt does as it likes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MAP_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)
