"""What processes have used by now: CPU seconds, and bytes that their TCP connections have carried."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import psutil

_PID = re.compile(r"pid=(\d+)")
_COUNTER = re.compile(r"\bbytes_(sent|received):(\d+)")


class Wire(msgspec.Struct, frozen=True):
    """TCP payload bytes over the client's connections, both ways, and over all connections."""

    client: int
    all: int


class Socket(msgspec.Struct, frozen=True):
    """Bytes since its connection began."""

    pids: set[int]
    sent: int
    received: int


_NEW = Socket(set(), 0, 0)


class Counters(msgspec.Struct, frozen=True):
    """What processes have used by now. `sockets` is None where `ss` (Debian package iproute2) is not installed."""

    servers_cpu_s: float
    sockets: dict[str, Socket] | None


def counters(servers: Sequence[int], client: int) -> Counters:
    processes = list(family(servers))
    owners = {process.pid for process in processes}
    cpu_s = 0.0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            # Of children that have ended as well, or the sum could fall.
            cpu_s += times.user + times.system + times.children_user + times.children_system
    if shutil.which("ss") is None:
        return Counters(cpu_s, None)
    listed = subprocess.run(["ss", "-tinpOH"], capture_output=True, text=True, check=True).stdout
    return Counters(cpu_s, wire_sockets(listed, {*owners, client}))


def wire_sockets(listed: str, owners: Iterable[int]) -> dict[str, Socket]:
    """Of the output of `ss -tinpOH`: the sockets of these processes by both addresses."""
    known = set(owners)
    found = {}
    for line in listed.splitlines():
        pids = {int(pid) for pid in _PID.findall(line)} & known
        if pids:
            _, _, _, local, remote, *_ = line.split()
            moved = {name: int(value) for name, value in _COUNTER.findall(line)}
            found[f"{local} {remote}"] = Socket(pids, moved.get("sent", 0), moved.get("received", 0))
    return found


def wire_between(before: Mapping[str, Socket], after: Mapping[str, Socket], client: int) -> Wire:
    """A connection that has ended meanwhile counts for nothing. Each is counted at its sending ends, so that one
    between two servers counts once each way.
    """
    over_client = sent_by_all = 0
    for name, socket in after.items():
        start = before.get(name, _NEW)
        sent = socket.sent - start.sent
        sent_by_all += sent
        if client in socket.pids:
            over_client += sent + socket.received - start.received
    return Wire(over_client, sent_by_all)


def scheduled_s(pids: Sequence[int]) -> float:
    """CPU seconds of these processes and all below them, in nanoseconds: those of psutil come in ticks of 10 ms."""
    total_s = 0.0
    for process in family(pids):
        for path in Path(f"/proc/{process.pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):
                total_s += int(path.read_text().split()[0]) / 1e9
    return total_s


def memory_bytes(pids: Sequence[int]) -> int:
    """PSS of these processes and all below them: what is shared counts once."""
    total = 0
    for process in family(pids):
        with contextlib.suppress(psutil.Error):
            total += process.memory_full_info().pss
    return total


def family(pids: Sequence[int]) -> Iterator[psutil.Process]:
    """These processes and all below them."""
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            yield process
            yield from process.children(recursive=True)
