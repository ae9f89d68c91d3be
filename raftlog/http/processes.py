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

    `cpu_s`: of processes that have ended too, since the first look. `proportional_bytes`: by those that were looked at.
    """

    processes: int = 0
    cpu_s: float = 0.0
    resident_bytes: int = 0
    proportional_bytes: int = 0
    descriptors: int = 0
    threads: int = 0


class _Process:
    """Its files in /proc are kept open: to open them is half of what a look costs. They are never a later process's."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._stat = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._descriptors = os.open(f"/proc/{pid}/fd", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            os.close(self._stat)
            raise
        self.ticks = 0
        self.proportional_bytes: int | None = None

    def close(self) -> None:
        os.close(self._stat)
        os.close(self._descriptors)

    def look(self) -> tuple[int, int, int]:
        """Threads, resident pages, descriptors. OSError: it is gone."""
        fields = os.pread(self._stat, _READ_BYTES, 0).rpartition(b")")[2].split(None, 22)
        self.ticks = int(fields[11]) + int(fields[12])
        # Linux from 6.2 on says how many there are as the folder's size, before it is 0.
        descriptors = os.fstat(self._descriptors).st_size or len(os.listdir(self._descriptors))
        return int(fields[17]), int(fields[21]), descriptors

    def look_at_memory(self) -> None:
        with open(f"/proc/{self._pid}/smaps_rollup", "rb") as file:
            self.proportional_bytes = sum(int(line.split()[1]) * 1024 for line in file if line.startswith(b"Pss:"))


class _Kind:
    """Processes of one kind by their ids, those whose memory was looked at longest ago first."""

    def __init__(self) -> None:
        self._processes: dict[int, _Process] = {}
        self._ended_ticks = 0

    def look(self, pids: Sequence[int]) -> Usage:
        self._follow(pids)
        self._look_at_memory()
        running = ticks = pages = descriptors = threads = 0
        for pid, process in list(self._processes.items()):
            try:
                found = process.look()
            except OSError:  # it ended, and its id may be another's next time
                self._end(pid)
                continue
            running += 1
            ticks += process.ticks
            threads += found[0]
            pages += found[1]
            descriptors += found[2]
        known = [each.proportional_bytes for each in self._processes.values() if each.proportional_bytes is not None]
        return Usage(
            processes=running,
            cpu_s=(self._ended_ticks + ticks) / _TICKS_PER_S,
            resident_bytes=pages * _PAGE_BYTES,
            proportional_bytes=sum(known) * running // len(known) if known else 0,
            descriptors=descriptors,
            threads=threads,
        )

    def close(self) -> None:
        for process in self._processes.values():
            process.close()

    def _follow(self, pids: Sequence[int]) -> None:
        for pid in self._processes.keys() - set(pids):
            self._end(pid)
        for pid in pids:
            if pid not in self._processes:
                with contextlib.suppress(OSError):
                    self._processes[pid] = _Process(pid)

    def _end(self, pid: int) -> None:
        process = self._processes.pop(pid)
        process.close()
        self._ended_ticks += process.ticks

    def _look_at_memory(self) -> None:
        """In turn: adding up the pages of one takes the kernel a millisecond. New ones first."""
        waiting = sorted(self._processes, key=lambda pid: self._processes[pid].proportional_bytes is not None)
        for pid in waiting[:HTTP_PSS_PER_SCRAPE]:
            process = self._processes[pid] = self._processes.pop(pid)  # the last one now
            with contextlib.suppress(OSError):
                process.look_at_memory()


class Processes:
    def __init__(self) -> None:
        self._kinds: dict[str, _Kind] = {}

    def look(self, processes: Mapping[str, Sequence[int]]) -> dict[str, Usage]:
        """`processes`: the ids of each kind."""
        return {kind: self._kinds.setdefault(kind, _Kind()).look(pids) for kind, pids in processes.items()}

    def close(self) -> None:
        for kind in self._kinds.values():
            kind.close()
