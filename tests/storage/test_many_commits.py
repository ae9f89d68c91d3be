"""A log of committed offsets after millions of commits: what a start has to read stays small.

RAFTLOG_COMMITS=10000000 pytest -s tests/storage/test_many_commits.py
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil

from raftlog.clock import SystemClock
from raftlog.limits import COMPACTION_SLICE_BYTES, COORDINATOR_SEGMENT_BYTES
from raftlog.record.batch import check_batch, decode, encode, split
from raftlog.storage.disk import OsDisk
from raftlog.storage.lmdb_index import LmdbIndex
from raftlog.storage.log import PartitionLog
from raftlog.types import CleanupPolicy, Flush, TopicConfig

io_counters = psutil.Process().io_counters
_COMMITS = int(os.environ.get("RAFTLOG_COMMITS", "200000"))
_KEYS = 1000  # of partitions of groups
_AT_ONCE = 500


def _open(directory: Path) -> PartitionLog:
    return PartitionLog.open(
        disk=OsDisk(),
        directory=str(directory),
        topic_id=b"sixteen-bytes-id",
        config=TopicConfig(
            segment_bytes=COORDINATOR_SEGMENT_BYTES, retention_ms=-1, cleanup_policy=CleanupPolicy.COMPACT
        ),
        flush=Flush.OS,
        clock=SystemClock(),
        index=LmdbIndex,
    )


def test_a_restart_after_many_commits_reads_a_few_segments_and_decodes_few_records(tmp_path: Path) -> None:
    log = _open(tmp_path)
    log.state.set_term(1, 1)
    log.append_epoch_start(1)
    frames = [encode([(1_700_000_000_000, b"group-%d orders 0" % key, b"offset %d" % key)]) for key in range(_KEYS)]
    headers = [check_batch(frame) for frame in frames]
    compacting_s = 0.0
    started_s = time.perf_counter()
    for first in range(0, _COMMITS, _AT_ONCE):
        place = first % _KEYS
        log.append_as_leader(frames[place : place + _AT_ONCE], headers[place : place + _AT_ONCE], 1)
        log.persist()
        log.state.note_commit(log.last_index)
        # As many slices as a worker that keeps up makes.
        before_s = time.perf_counter()
        log.cleaner.begin(log.last_index, 0)
        for _ in range(16):
            log.cleaner.step(COMPACTION_SLICE_BYTES, 0)
        compacting_s += time.perf_counter() - before_s
    written_s = time.perf_counter() - started_s
    log.cleaner.begin(log.last_index, 0)
    while log.cleaner.is_compacting:
        log.cleaner.step(COMPACTION_SLICE_BYTES, 0)
        log.cleaner.begin(log.last_index, 0)
    assert log.log_end_offset == _COMMITS
    size, compactions = log.size_bytes, log.cleaner.passes
    log.close()
    started_s, before = time.perf_counter(), io_counters()
    log = _open(tmp_path)
    opened_s = time.perf_counter() - started_s
    found: dict[bytes | None, int] = {}
    decoded = 0
    offset = log.state.log_start_offset
    while data := log.read(offset, 1 << 20, log.log_end_offset):
        records = {record.key: record.offset for record in decode(data)}
        found.update(records)
        decoded += len(records)
        *_, (_, header) = split(data)
        offset = header.next_offset
    replayed_s, read_bytes = time.perf_counter() - started_s, io_counters().read_chars - before.read_chars
    log.close()
    print(
        f"\n{_COMMITS:,} commits of {_KEYS:,} keys in {written_s:.0f} s, {compacting_s:.0f} s of them in "
        f"{compactions} passes; "
        f"{size / 1e6:.1f} MB left; opened in {opened_s:.2f} s, replayed in {replayed_s:.2f} s: "
        f"{read_bytes / 1e6:.1f} MB and {decoded:,} records"
    )
    assert len(found) == _KEYS
    assert min(found.values()) >= _COMMITS - _KEYS
    assert compactions >= 1 or _COMMITS < 100_000
    assert size < 4 * COORDINATOR_SEGMENT_BYTES
    # A core decodes some 200,000 records in a second, and reads more.
    assert read_bytes < 4 * size
    assert decoded < 100_000
