"""What processes have used by now: CPU seconds, and bytes that their TCP connections have carried."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence

import msgspec
import psutil

_PID = re.compile(r"pid=(\d+)")
_COUNTER = re.compile(r"\bbytes_(sent|received):(\d+)")


class Wire(msgspec.Struct, frozen=True):
    """TCP payload bytes over the client's connections, both ways, and over all connections."""

    client: int
    all: int


class Counters(msgspec.Struct, frozen=True):
    """`wire` is None where `ss` (Debian package iproute2) is not installed."""

    servers_cpu_s: float
    wire: Wire | None


def counters(servers: Sequence[int], client: int) -> Counters:
    """Each connection is counted at its sending ends, so that one between two servers counts once each way."""
    owners = set(_descendants(servers))
    cpu_s = 0.0
    for pid in owners:
        with contextlib.suppress(psutil.Error):
            times = psutil.Process(pid).cpu_times()
            # Of children that have ended as well, or the sum could fall.
            cpu_s += times.user + times.system + times.children_user + times.children_system
    if shutil.which("ss") is None:
        return Counters(cpu_s, None)
    listed = subprocess.run(["ss", "-tinpOH"], capture_output=True, text=True, check=True).stdout
    return Counters(cpu_s, wire_bytes(listed, owners, client))


def wire_bytes(listed: str, servers: Iterable[int], client: int) -> Wire:
    """Of the output of `ss -tinpOH`."""
    owners = {*servers, client}
    over_client = sent_by_all = 0
    for line in listed.splitlines():
        pids = {int(pid) for pid in _PID.findall(line)}
        if not pids & owners:
            continue
        moved = {name: int(value) for name, value in _COUNTER.findall(line)}
        sent_by_all += moved.get("sent", 0)
        if client in pids:
            over_client += sum(moved.values())
    return Wire(over_client, sent_by_all)


def _descendants(pids: Sequence[int]) -> Iterable[int]:
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            yield pid
            yield from (each.pid for each in process.children(recursive=True))
