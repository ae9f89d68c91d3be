"""The log on the real disk with the real index: what the simulations cannot show."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import psutil

from raftlog.clock import SystemClock
from raftlog.storage.disk import OsDisk
from raftlog.storage.lmdb_index import LmdbIndex
from raftlog.storage.log import PartitionLog
from raftlog.storage.producers import Producers
from raftlog.types import Flush, TopicConfig
from tests.storage.machine import TOPIC_ID, append, batch_of, contents, lead

io_counters = psutil.Process().io_counters


def _open(directory: Path, segment_bytes: int = 1_000_000) -> PartitionLog:
    return PartitionLog.open(
        disk=OsDisk(),
        directory=str(directory / "orders-0"),
        topic_id=TOPIC_ID,
        config=TopicConfig(segment_bytes=segment_bytes),
        flush=Flush.ALWAYS,
        clock=SystemClock(),
        index=LmdbIndex,
    )


def test_a_log_lives_on_the_real_disk(tmp_path: Path) -> None:
    log = _open(tmp_path, segment_bytes=20_000)
    lead(log, 1)
    for _ in range(60):
        append(log, 5, size=200)
        log.persist()
    log.truncate_from(250)
    log.delete_head(100)
    held = contents(log)
    log.close()
    log = _open(tmp_path, segment_bytes=20_000)
    assert contents(log) == held and log.state.doubt == 0
    log.reset_to(1000, 1, 5000, Producers())
    log.close()
    assert sorted(os.listdir(tmp_path / "orders-0")) == ["index.lmdb", "log.2", "state.a", "state.b"]


def test_an_index_that_is_gone_is_built_anew(tmp_path: Path) -> None:
    log = _open(tmp_path)
    lead(log, 1)
    append(log, 2000, size=500)
    log.persist()
    log.close()
    os.remove(tmp_path / "orders-0" / "index.lmdb" / "data.mdb")
    log = _open(tmp_path)
    assert log.read(1500, 1, 2000)[:8] == (1500).to_bytes(8, "big")
    assert log.segments.index.last_committed() is not None
    log.close()


def test_a_long_log_opens_without_being_read(tmp_path: Path) -> None:
    log = _open(tmp_path, segment_bytes=8_000_000)
    lead(log, 1)
    frame, header = batch_of([b"x" * 200] * 50)
    for _ in range(60):
        log.append_as_leader([frame] * 100, [header] * 100, 1)
    log.close()
    size = log.size_bytes
    before = io_counters()
    log = _open(tmp_path)
    read_bytes = io_counters().read_chars - before.read_chars
    assert log.log_end_offset == 300_000 and size > 60_000_000
    assert read_bytes < size / 50, f"{read_bytes:,} of {size:,} bytes"
    log.close()


def test_an_append_is_a_few_calls_and_one_write(tmp_path: Path) -> None:
    """However many batches: the design's 2 microseconds for one have no room for more."""
    log = _open(tmp_path, segment_bytes=10**9)
    lead(log, 1)
    for size, batches, bound in ((200, 1000, 7), (10_200, 200, 13)):  # large ones have an entry of the index each
        frame, header = batch_of([bytes(size)])
        before = io_counters()
        calls = _calls(log.append_as_leader, [frame] * batches, [header] * batches, 1)
        after = io_counters()
        assert calls < bound * batches
        assert after.write_count - before.write_count == 1
        assert after.write_chars - before.write_chars == len(frame) * batches
        log.persist()
    log.close()


def _calls(work: Callable[..., object], *arguments: object) -> int:
    """Of functions, Python's and C's."""
    count = 0

    def note(_: object, event: str, __: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        work(*arguments)
    finally:
        sys.setprofile(None)
    return count
