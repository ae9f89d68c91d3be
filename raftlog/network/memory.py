"""What processes tell their allocator and the kernel of their memory."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_TRIM_BYTES = 128 * 1024 * 1024
_MAP_BYTES = 32 * 1024 * 1024  # the most that glibc takes
_PR_SET_MEMORY_MERGE = 67  # of Linux 6.4


def keep_freed_memory() -> None:
    """glibc gives freed memory of large frames back to the kernel at once; it is told to keep it for the next ones.

    Call it once what a process keeps for good is there: LMDB asks for 2 MB that it seldom touches, which cost nothing
    as a map of their own, but in the heap are filled with zeros.

    Page faults on fresh memory cost half of the throughput (fetches of 1 MB: 680 MB/s, and 1,270 with this). A C
    library without mallopt does as it likes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MAP_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)


def give_freed_memory_back() -> None:
    """To the kernel, whole pages of it. A C library without malloc_trim keeps it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def allow_merged_pages() -> None:
    """Pages of this process and its children that are equal may become one, where the operator has the kernel look.

    That is /sys/kernel/mm/ksm/run, which is 0 by default. Idle workers differ in little: 8.3 MB each became 3.1 MB.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_MEMORY_MERGE, 1, 0, 0, 0)  # an older kernel refuses
