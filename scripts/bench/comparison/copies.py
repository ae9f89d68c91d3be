"""The command behind scripts/bench/copies: what a consumer takes by read+send, by sendfile, and by raftlog's own path.

All three hand out the same bytes, the segment files of one partition, over loopback, to a reader in another process
that throws them away. The first two know nothing of records, and are the floor that the kernel's copies set.

Whether a door that hands out segments by sendfile would pay is seen where records are what is wanted: `Consumer` is put
beside the same decoding of the same batches as sendfile brings them, with no protocol at all.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import msgspec

from raftlog import Admin, Consumer, ConsumerRecord
from raftlog.errors import RaftlogError
from raftlog.node.local import LocalCluster
from raftlog.protocol.cluster import TopicMetadata
from raftlog.record.batch import decode_batch, split
from raftlog.types import TopicPartition
from raftlog_cli.bench_load import Plan, encode_batches
from raftlog_cli.bench_run import LoadProcess, Settings, own_topic, plan_for
from raftlog_cli.ending import ended_by_signals
from raftlog_cli.output import note, print_json
from raftlog_cli.own_cluster import temporary_directory

from .beside import beside
from .machine import busy_cores, described, machine
from .servers import HOST
from .summary import table

SIZES_MB = (7, 21, 63, 98, 200, 350, 700, 1000)
_DECODED_MB = 98
_REPEATS = 5
_POLL_RECORDS = 5_000
_PIECE_BYTES = 1 << 20  # what raftlog's load client fetches at once as well
_FILL_S = 600.0
_RECORD_BYTES, _BATCH_RECORDS = 1024, 255


class Line(msgspec.Struct, frozen=True):
    """Medians in MB a second. `ratio`: how many times faster plain sendfile is than raftlog."""

    size_mb: int
    read_send: float
    sendfile: float
    raftlog: float
    ratio: float


class Decoded(msgspec.Struct, frozen=True):
    """Medians in records a second. `gain`: times as many with nothing but sendfile in front of the decoding."""

    consumer: float
    sendfile: float
    gain: float


class Found(NamedTuple):
    lines: list[Line]
    decoded: Decoded


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="copies", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="the two smallest sizes, once")
    parser.add_argument("--json", action="store_true", help="the machine and every line as one object")
    options = parser.parse_args(arguments)
    sizes, repeats = (SIZES_MB[:2], 1) if options.quick else (SIZES_MB, _REPEATS)
    try:
        with ended_by_signals(), temporary_directory("copies-") as directory:
            found = machine(directory)
            lines, decoded = measure(directory, sizes, repeats)
            found["busy_after"] = busy_cores()
    except KeyboardInterrupt:
        note("copies: stopped; the node has ended and its data is removed")
        return 130
    if options.json:
        print_json({"machine": found, "repeats": repeats, "lines": lines, "decoded": decoded})
    else:
        sys.stdout.write(markdown(lines))
        print(
            f"\nRecords decoded in Python: {decoded.consumer:,.0f} a second by Consumer, {decoded.sendfile:,.0f} with "
            f"nothing but sendfile in front of the decoding ({decoded.gain:.2f} times as many)."
        )
        print(f"\nMB/s, medians of {repeats}. {described(found)}, and {found['busy_after']} after it.")
    return 0


def markdown(lines: Sequence[Line]) -> str:
    columns = ("MB taken", "read + send", "sendfile", "raftlog's fetches", "sendfile / raftlog")
    return table(
        columns,
        [
            [str(line.size_mb), *(f"{rate:,.0f}" for rate in (line.read_send, line.sendfile, line.raftlog))]
            + [f"{line.ratio:.2f}"]
            for line in lines
        ],
    )


def measure(directory: Path, sizes_mb: Sequence[int], repeats: int, decoded_mb: int = _DECODED_MB) -> Found:
    settings = Settings(
        record_size=_RECORD_BYTES,
        batch_records=_BATCH_RECORDS,
        in_flight=4,
        partitions=1,
        replication_factor=1,
        acks=-1,
        seconds=_FILL_S,
    )
    with LocalCluster(nodes=1, directory=directory) as cluster, Admin(bootstrap_servers=cluster.bootstrap) as admin:
        settings = msgspec.structs.replace(settings, bootstrap=cluster.bootstrap)
        with own_topic(admin, settings) as topic:
            records = -(-max(*sizes_mb, decoded_mb) * 1_000_000 // (_RECORD_BYTES * _BATCH_RECORDS)) * _BATCH_RECORDS
            note(f"filling {records:,} records")
            fill = plan_for(settings, topic, "fill", records=records, in_flight=16, warm_up_s=0)
            with LoadProcess(fill) as load:
                if load.measure().records < records:
                    raise RaftlogError(f"not all could be filled in within {_FILL_S:.0f} s")
            fetch = plan_for(settings, topic, "fetch", records=records, warm_up_s=_FILL_S)
            segments = _segments(directory, topic)
            record_bytes = sum(path.stat().st_size for path in segments) / records
            with _plain_server(segments) as (reading, sending, batches):
                ways = (reading, sending, lambda size: _fetched_s(fetch, size, record_bytes))
                lines = [_line(size_mb, repeats, ways) for size_mb in sizes_mb]
                wanted = decoded_mb * 1_000_000 // round(record_bytes)
                return Found(lines, _decoded(settings.bootstrap, topic, fill, wanted, repeats, batches))


def _line(size_mb: int, repeats: int, ways: Sequence[Callable[[int], float]]) -> Line:
    """One way after the other in each repeat, so that a slow moment meets all of them."""
    note(f"taking {size_mb} MB")
    size = size_mb * 1_000_000
    times_s = [[way(size) for way in ways] for _ in range(repeats)]
    read_send, sendfile, raftlog = (size_mb / statistics.median(column) for column in zip(*times_s, strict=True))
    return Line(size_mb, read_send, sendfile, raftlog, ratio=sendfile / raftlog)


def _decoded(
    bootstrap: str,
    topic: TopicMetadata,
    fill: Plan,
    records: int,
    repeats: int,
    batches: Callable[[int, int], Iterator[bytes]],
) -> Decoded:
    note(f"decoding {records:,} records")
    place = TopicPartition(topic.name, 0)
    batch_bytes = len(encode_batches(fill)[0])
    consumer, sendfile = zip(
        *(
            (_consumed_rate(bootstrap, place, records), _decoded_rate(batches, place, records, batch_bytes))
            for _ in range(repeats)
        ),
        strict=True,
    )
    return Decoded(
        statistics.median(consumer),
        statistics.median(sendfile),
        gain=statistics.median(sendfile) / statistics.median(consumer),
    )


def _consumed_rate(bootstrap: str, place: TopicPartition, records: int) -> float:
    with Consumer(bootstrap_servers=bootstrap) as consumer:
        consumer.assign([place])
        consumer.seek(place, 0)
        while not consumer.poll(timeout_ms=1000, max_records=1):
            pass  # it is connected, and fetches ahead, when the clock starts
        start_s = time.perf_counter()
        got = 0
        while got < records - 1:
            got += sum(map(len, consumer.poll(timeout_ms=1000, max_records=_POLL_RECORDS).values()))
        return got / (time.perf_counter() - start_s)


def _decoded_rate(
    batches: Callable[[int, int], Iterator[bytes]], place: TopicPartition, records: int, batch_bytes: int
) -> float:
    make = partial(ConsumerRecord, *place)
    start_s = time.perf_counter()
    got = 0
    for piece in batches(-(-records // _BATCH_RECORDS), batch_bytes):
        for position, header in split(piece):
            got += len(decode_batch(piece, position, header, make))
    return got / (time.perf_counter() - start_s)


def _fetched_s(plan: Plan, size: int, record_bytes: float) -> float:
    """The same was taken once before, as a warm-up. What is taken is whole batches, hence the share."""
    with LoadProcess(msgspec.structs.replace(plan, take_bytes=size)) as load:
        result = load.measure()
    return result.seconds * size / (result.records * record_bytes)


def _segments(directory: Path, topic: TopicMetadata) -> list[Path]:
    found = sorted(directory.glob(f"*/{topic.name}-0/log.*/*.log"))
    if not found:
        raise RaftlogError(f"no segment of {topic.name} under {directory}")
    return found


@contextlib.contextmanager
def _plain_server(
    segments: Sequence[Path],
) -> Iterator[tuple[Callable[[int], float], Callable[[int], float], Callable[[int, int], Iterator[bytes]]]]:
    """Two ways to take bytes of these files from a process of its own, each answers in seconds; and their batches."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    with beside(_serve, theirs, segments), socket.create_connection((HOST, ours.recv())) as connection:
        yield (
            lambda size: _taken_s(ours, connection, "read+send", size),
            lambda size: _taken_s(ours, connection, "sendfile", size),
            lambda count, size: _batches(ours, connection, count, size),
        )


def _taken_s(orders: Connection, connection: socket.socket, way: str, size: int) -> float:
    buffer = bytearray(_PIECE_BYTES)
    start_s = time.perf_counter()
    orders.send((way, size))
    left = size
    while left:
        got = connection.recv_into(buffer, min(left, _PIECE_BYTES))
        if not got:
            raise RaftlogError("the plain server has ended")
        left -= got
    return time.perf_counter() - start_s


def _batches(orders: Connection, connection: socket.socket, count: int, batch_bytes: int) -> Iterator[bytes]:
    """So many batches, all equally long, about _PIECE_BYTES of them at once."""
    orders.send(("sendfile", count * batch_bytes))
    while count:
        together = min(count, max(1, _PIECE_BYTES // batch_bytes))
        piece = bytearray(together * batch_bytes)
        if connection.recv_into(piece, 0, socket.MSG_WAITALL) < len(piece):
            raise RaftlogError("the plain server has ended")
        yield bytes(piece)
        count -= together


def _serve(orders: Connection, segments: Sequence[Path]) -> None:
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(path.open("rb")).fileno() for path in segments]
        door = stack.enter_context(socket.create_server((HOST, 0)))
        orders.send(door.getsockname()[1])
        connection = stack.enter_context(door.accept()[0])
        while True:
            way, size = orders.recv()
            give = _sendfile if way == "sendfile" else _read_and_send
            for file in files:
                wanted = min(size, os.fstat(file).st_size)
                give(connection, file, wanted)
                size -= wanted


def _read_and_send(connection: socket.socket, file: int, size: int) -> None:
    buffer = memoryview(bytearray(_PIECE_BYTES))
    position = 0
    while position < size:
        got = os.preadv(file, [buffer[: min(_PIECE_BYTES, size - position)]], position)
        connection.sendall(buffer[:got])
        position += got


def _sendfile(connection: socket.socket, file: int, size: int) -> None:
    position = 0
    while position < size:
        position += os.sendfile(connection.fileno(), file, position, min(_PIECE_BYTES, size - position))


if __name__ == "__main__":
    sys.exit(main())
