"""The memory in which the processes of a node count together what quotas limit: of a node, not of each process.

The supervisor makes it, and its children find it through their environment. It is gone with the supervisor.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import mmap
import os
from collections.abc import Iterator

from raftlog.clock import monotonic_s
from raftlog.protocol.throttles import BUCKETS_BYTES, Throttles

log = logging.getLogger(__name__)

MEMORY_VARIABLE = "RAFTLOG_QUOTA_MEMORY"
_LOCK_S = 0.05  # who holds one of some microseconds for longer stands still, and must not hold up the others


def make_quota_memory() -> None:
    """BEFORE the fork server is started, which hands its environment on."""
    descriptor = os.memfd_create("raftlog-quotas")
    os.ftruncate(descriptor, BUCKETS_BYTES)
    os.environ[MEMORY_VARIABLE] = f"/proc/{os.getpid()}/fd/{descriptor}"


def shared_throttles() -> Throttles:
    """They count together with those of all processes of this node; alone where there is no node."""
    path = os.environ.get(MEMORY_VARIABLE)
    if path is not None:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            return Throttles(mmap.mmap(descriptor, BUCKETS_BYTES), _Locks(descriptor).held)
        except OSError as error:
            log.warning("quotas are counted by this process alone: %s", error)
    return Throttles()


class _Locks:
    """Between processes, at places of the memory. The kernel gives up those of a process that ends."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @contextlib.contextmanager
    def held(self, at: int) -> Iterator[None]:
        """Without the lock where it takes too long: what others fill in meanwhile may be lost."""
        until_s = monotonic_s() + _LOCK_S
        while not self._take(at):
            if monotonic_s() > until_s:
                yield
                return
            os.sched_yield()
        try:
            yield
        finally:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, at)

    def _take(self, at: int) -> bool:
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, at)
        except OSError:
            return False
        return True
