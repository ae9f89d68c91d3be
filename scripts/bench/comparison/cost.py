"""The command behind scripts/bench/cost: CPU time for each byte and record, on leader and follower, beside the floor.

The floor is a plain process that has the kernel move the same bytes in the same pieces and does nothing else: a leader
receives, writes and sends twice, a follower receives and writes, and a fetch is a sendfile.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import psutil

from raftlog import Admin
from raftlog.errors import RaftlogError
from raftlog.node.local import LocalCluster
from raftlog.protocol.cluster import TopicMetadata
from raftlog.types import Flush
from raftlog_cli.bench_load import Plan, Result, encode_batches
from raftlog_cli.bench_run import LoadProcess, own_topic, plan_for
from raftlog_cli.ending import ended_by_signals
from raftlog_cli.output import note, print_json
from raftlog_cli.own_cluster import temporary_directory

from .arguments import positive
from .beside import beside
from .machine import busy_cores, described, machine
from .raftlog_system import clients_of, records_in, settings_for
from .round_trips import link_p50_us, tcp_p50_us
from .servers import HOST
from .summary import table
from .workloads import BATCHES, LARGE, Workload

_NODES = 3
_FLOOR_BYTES = 256_000_000
_PIECE_BYTES = 1 << 20  # what raftlog's load client fetches at once as well
_READ_IN_FLIGHT = 4
_ROUND_TRIPS = 3_000
_WORKERS_S = 5.0  # for the processes of new workers to be known
_READ = "consuming what that left"


class Line(msgspec.Struct, frozen=True):
    """CPU of one role: nanoseconds for each record and byte. `floor`: the same bytes moved by the kernel alone.

    `against_plain`: under TLS, how many times the CPU for a byte without it.
    """

    workload: str
    role: str
    records_per_s: float
    ns_a_record: float
    ns_a_byte: float
    user: float  # share of it
    floor_ns_a_byte: float
    against_plain: float | None = None


class RoundTrips(msgspec.Struct, frozen=True):
    """Medians."""

    tcp_us: int
    link_us: int


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="cost", description=__doc__.partition("\n")[0])
    parser.add_argument("--flush", choices=["always", "os"], default="always", help="of the nodes (always)")
    parser.add_argument("--seconds", type=positive, default=5, metavar="S", help="for each figure (5)")
    parser.add_argument("--secure", action="store_true", help="and then once more with all under TLS, set against that")
    parser.add_argument("--json", action="store_true", help="the machine and every line as one object")
    options = parser.parse_args(arguments)
    try:
        with ended_by_signals(), temporary_directory("cost-") as directory:
            found = machine(directory)
            note("round trips")
            trips = RoundTrips(round(tcp_p50_us(_ROUND_TRIPS)), round(link_p50_us(_ROUND_TRIPS)))
            asked = Flush(options.flush), options.seconds, (BATCHES, LARGE), _FLOOR_BYTES
            lines = measure(directory, *asked)
            if options.secure:
                lines += against(lines, measure(directory / "tls", *asked, secure=True))
            found["busy_after"] = busy_cores()
    except KeyboardInterrupt:
        note("cost: stopped; the nodes have ended and their data is removed")
        return 130
    if options.json:
        print_json({"machine": found, "flush": options.flush, "round_trips": trips, "lines": lines})
    else:
        sys.stdout.write(markdown(lines))
        print(
            f"\nA question and its answer between two idle processes (p50): {trips.tcp_us} µs over plain TCP, "
            f"{trips.link_us} µs over raftlog's own sockets."
        )
        print(f"\nFlush {options.flush}. {described(found)}, and {found['busy_after']} after it.")
    return 0


def markdown(lines: Sequence[Line]) -> str:
    columns = (
        "workload",
        "role",
        "records/s",
        "ns a record",
        "ns a byte",
        "of it in Python and libraries",
        "floor, ns a byte",
        "× floor",
        *(["× plain"] if any(line.against_plain for line in lines) else []),
    )
    return table(
        columns,
        [
            [line.workload, line.role, f"{line.records_per_s:,.0f}", f"{line.ns_a_record:,.0f}"]
            + [f"{line.ns_a_byte:.2f}", f"{100 * line.user:.0f} %", f"{line.floor_ns_a_byte:.2f}"]
            + [f"{line.ns_a_byte / line.floor_ns_a_byte:.1f}"]
            + ([] if "× plain" not in columns else [f"{line.against_plain:.2f}" if line.against_plain else ""])
            for line in lines
        ],
    )


def against(plain: Sequence[Line], secure: Sequence[Line]) -> list[Line]:
    """A follower does nothing but take part in replication, so its lines are what TLS between nodes costs."""
    pairs = zip(plain, secure, strict=True)
    return [
        msgspec.structs.replace(line, role=f"{line.role}, TLS", against_plain=line.ns_a_byte / before.ns_a_byte)
        for before, line in pairs
    ]


def measure(
    directory: Path,
    flush: Flush,
    seconds: float,
    workloads: Sequence[Workload],
    floor_bytes: int,
    *,
    secure: bool = False,
) -> list[Line]:
    lines: list[Line] = []
    directory.mkdir(exist_ok=True)
    with (
        LocalCluster(nodes=_NODES, directory=directory / "nodes", flush=flush, secure=secure) as cluster,
        clients_of(cluster),
        Admin(bootstrap_servers=cluster.bootstrap) as admin,
    ):
        for workload in workloads:
            note(workload.title)
            lines.extend(_lines(admin, cluster.bootstrap, workload, seconds, directory, floor_bytes))
    return lines


def _lines(
    admin: Admin, bootstrap: str, workload: Workload, seconds: float, directory: Path, floor_bytes: int
) -> Iterator[Line]:
    settings = settings_for(workload, bootstrap, seconds)
    with own_topic(admin, settings) as topic:
        workers = _workers(admin, topic)
        leader_pid = workers.pop(topic.partitions[0].leader_id)
        produce = plan_for(settings, topic, "produce")
        batch_bytes = len(encode_batches(produce)[0])
        batch = _Batch(workload.batch_records, batch_bytes)
        result, used = _used(produce, [leader_pid, *workers.values()])
        followers = used[1:]
        average = _Times(*(sum(column) / len(followers) for column in zip(*followers, strict=True)))
        yield batch.line(workload.title, "leader", result, used[0], _moved_s(directory, batch_bytes, floor_bytes, 2))
        yield batch.line(workload.title, "follower", result, average, _moved_s(directory, batch_bytes, floor_bytes, 0))
        fetch = plan_for(settings, topic, "fetch", records=records_in(bootstrap, topic), in_flight=_READ_IN_FLIGHT)
        result, used = _used(fetch, [leader_pid])
        yield batch.line(_READ, "leader", result, used[0], _sent_s(directory, floor_bytes))


class _Times(NamedTuple):
    """CPU seconds in user mode and in the kernel."""

    user: float
    system: float


class _Batch(NamedTuple):
    records: int
    size_bytes: int

    def line(self, title: str, role: str, result: Result, used: _Times, floor_s: float) -> Line:
        """`floor_s`: for one byte."""
        spent_s = sum(used)
        ns_a_record = 1e9 * spent_s / (result.records + result.drained)
        return Line(
            workload=title,
            role=role,
            records_per_s=result.records / result.seconds,
            ns_a_record=ns_a_record,
            ns_a_byte=ns_a_record * self.records / self.size_bytes,
            user=used.user / spent_s,
            floor_ns_a_byte=1e9 * floor_s,
        )


def _workers(admin: Admin, topic: TopicMetadata) -> dict[int, int]:
    """Processes by node."""
    end_s = time.monotonic() + _WORKERS_S
    while True:
        found = {each.node_id: each.worker_pid for each in admin.describe_replicas([topic.name]) if each.worker_pid}
        if len(found) == _NODES:
            return found
        if time.monotonic() > end_s:
            raise RaftlogError(f"the workers of {topic.name} did not say who they are")
        time.sleep(0.1)


def _used(plan: Plan, pids: Sequence[int]) -> tuple[Result, list[_Times]]:
    """By each process, while the load was measured."""
    processes = [psutil.Process(pid) for pid in pids]
    with LoadProcess(plan) as load:
        load.warm_up()
        before = [process.cpu_times() for process in processes]
        result = load.measure()
        after = [process.cpu_times() for process in processes]
    return result, [
        _Times(end.user - start.user, end.system - start.system) for start, end in zip(before, after, strict=True)
    ]


# --- the floor -----------------------------------------------------------------------------------
def _moved_s(directory: Path, piece_bytes: int, total_bytes: int, copies: int) -> float:
    """CPU seconds a byte: received from a socket, written to a file, and sent to so many sockets."""
    with socket.create_server((HOST, 0)) as door, beside(_feed_and_drain, _port(door), copies, piece_bytes):
        connections = [door.accept()[0] for _ in range(1 + copies)]
        with contextlib.ExitStack() as stack:
            source, *sinks = [stack.enter_context(connection) for connection in connections]
            path = directory / "floor"
            file = stack.enter_context(path.open("wb", buffering=0))
            stack.callback(path.unlink)
            buffer = memoryview(bytearray(piece_bytes))
            start_s = time.process_time()
            moved = 0
            while moved < total_bytes:
                got = source.recv_into(buffer, 0, socket.MSG_WAITALL)
                if not got:
                    raise RaftlogError("the process that feeds the floor has ended")
                file.write(buffer[:got])
                for sink in sinks:
                    sink.sendall(buffer[:got])
                moved += got
            return (time.process_time() - start_s) / moved


def _sent_s(directory: Path, total_bytes: int) -> float:
    """CPU seconds a byte: from the page cache to a socket by sendfile."""
    path = directory / "floor"
    path.write_bytes(bytes(total_bytes))
    try:
        with (
            socket.create_server((HOST, 0)) as door,
            beside(_drain, _port(door), _PIECE_BYTES),
            door.accept()[0] as sink,
            path.open("rb") as file,
        ):
            start_s = time.process_time()
            sent = 0
            while sent < total_bytes:
                sent += os.sendfile(sink.fileno(), file.fileno(), sent, min(_PIECE_BYTES, total_bytes - sent))
            return (time.process_time() - start_s) / total_bytes
    finally:
        path.unlink()


def _port(door: socket.socket) -> int:
    port: int = door.getsockname()[1]
    return port


def _feed_and_drain(port: int, copies: int, piece_bytes: int) -> None:
    with socket.create_connection((HOST, port)) as source:
        for _ in range(copies):
            threading.Thread(target=_drain, args=(port, piece_bytes), daemon=True).start()
        piece = os.urandom(piece_bytes)
        with contextlib.suppress(OSError):
            while True:
                source.sendall(piece)


def _drain(port: int, piece_bytes: int) -> None:
    buffer = bytearray(piece_bytes)
    with socket.create_connection((HOST, port)) as sink, contextlib.suppress(OSError):
        while sink.recv_into(buffer):
            pass


if __name__ == "__main__":
    sys.exit(main())
