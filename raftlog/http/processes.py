"""What the node's processes take of the machine, from /proc. Those of the same kind are added up."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from raftlog.limits import HTTP_PSS_PER_SCRAPE

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGESIZE")
_READ_BYTES = 4096  # more than a `stat` or a `smaps_rollup` has


class Usage(NamedTuple):
    """What the processes of one kind use of the machine.

    `cpu_s`: since the first look, of processes that have ended too.
    """

    processes: int = 0
    cpu_s: float = 0.0
    resident_bytes: int = 0
    proportional_bytes: int = 0
    descriptors: int = 0
    threads: int = 0


class Processes:
    def __init__(self) -> None:
        self._cpu_s: dict[int, float] = {}
        self._ended_cpu_s: dict[str, float] = {}
        self._kinds: dict[int, str] = {}
        self._proportional: dict[int, int] = {}

    def look(self, processes: Mapping[str, Sequence[int]]) -> dict[str, Usage]:
        """`processes`: the ids of each kind."""
        self._forget({pid for pids in processes.values() for pid in pids})
        self._look_at_memory([pid for pids in processes.values() for pid in pids])
        found = {}
        for kind, pids in processes.items():
            usage = Usage(cpu_s=self._ended_cpu_s.get(kind, 0.0))
            for pid in pids:
                with contextlib.suppress(OSError, IndexError, ValueError):  # it may end while it is looked at
                    usage = self._add(usage, pid, kind)
            found[kind] = usage
        return found

    def _add(self, usage: Usage, pid: int, kind: str) -> Usage:
        fields = _text(f"/proc/{pid}/stat").rpartition(b")")[2].split()
        cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
        self._cpu_s[pid] = cpu_s
        self._kinds[pid] = kind
        return Usage(
            processes=usage.processes + 1,
            cpu_s=usage.cpu_s + cpu_s,
            resident_bytes=usage.resident_bytes + int(fields[21]) * _PAGE_BYTES,
            proportional_bytes=usage.proportional_bytes + self._proportional.get(pid, 0),
            descriptors=usage.descriptors + _descriptors(pid),
            threads=usage.threads + int(fields[17]),
        )

    def _look_at_memory(self, pids: Sequence[int]) -> None:
        """Those that were not looked at for longest: adding up the pages of one takes the kernel a millisecond."""
        known = self._proportional
        new = [pid for pid in pids if pid not in known]
        for pid in (new + list(known))[:HTTP_PSS_PER_SCRAPE]:
            with contextlib.suppress(OSError):
                for line in _text(f"/proc/{pid}/smaps_rollup").splitlines():
                    if line.startswith(b"Pss:"):
                        known.pop(pid, None)
                        known[pid] = int(line.split()[1]) * 1024

    def _forget(self, running: set[int]) -> None:
        for pid in self._cpu_s.keys() - running:
            kind = self._kinds.pop(pid)
            self._ended_cpu_s[kind] = self._ended_cpu_s.get(kind, 0.0) + self._cpu_s.pop(pid)
        for pid in self._proportional.keys() - running:
            del self._proportional[pid]


def _text(path: str) -> bytes:
    """At once, and without a file object: it is done for a thousand processes."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _READ_BYTES)
    finally:
        os.close(descriptor)


def _descriptors(pid: int) -> int:
    """Linux from 6.2 on says so as the folder's size, before it is 0."""
    return os.stat(f"/proc/{pid}/fd").st_size or len(os.listdir(f"/proc/{pid}/fd"))
