"""The judge finds each anomaly in a history that has it, and none in one that has none."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raftlog_cli.demo_judge import PARTITIONS, AckGaps, Judge

RECORDS = 12
FILES = [(b"a.py", 5), (b"dir/b:c.py", 7)]
IDS = [b"a.py:%d" % line for line in range(1, 6)] + [b"dir/b:c.py:%d" % line for line in range(1, 8)]
VALUES = [b"line %d" % index for index in range(RECORDS)]

# What a partition holds, in order: indexes of records.
Log = list[list[int]]


def _judge(
    log: Log, unacknowledged: frozenset[int] = frozenset(), acked_offsets: dict[int, int] | None = None
) -> Judge:
    """All was sent; what is in `log` was acknowledged where it first stands, what is not at offset 99."""
    judge = Judge(FILES)
    offsets: dict[int, int] = {}
    for partition in log:
        for offset, index in enumerate(partition):
            offsets.setdefault(index, offset)
    for index, value in enumerate(VALUES):
        judge.sent(index, value)
    for index in range(RECORDS):
        if index not in unacknowledged:
            judge.acknowledged(index, (acked_offsets or {}).get(index, offsets.get(index, 99)))
    for partition, indexes in enumerate(log):
        for offset, index in enumerate(indexes):
            judge.read(partition, offset, IDS[index], VALUES[index])
        judge.end(partition, len(indexes))
    return judge


def _whole() -> Log:
    """12 records: the last one, 11, is in partition 0."""
    return [[2, 5, 8, 11], [1, 4, 7, 10], [0, 3, 6, 9]]


def test_a_whole_log_passes() -> None:
    verdict = _judge(_whole()).verdict()
    assert verdict.failures() == []
    assert verdict == (RECORDS, RECORDS, RECORDS, 0, 0, 0, 0, 0, 0)


def test_a_lost_record_is_found() -> None:
    log = _whole()
    log[1].remove(4)
    verdict = _judge(log).verdict()
    assert (verdict.lost, verdict.misplaced) == (1, 0)
    assert verdict.failures() == ["1 acknowledged records were lost"]


def test_a_lost_tail_of_every_partition_is_found() -> None:
    verdict = _judge([partition[:-1] for partition in _whole()]).verdict()
    assert verdict.lost == PARTITIONS


def test_a_record_that_was_not_acknowledged_may_be_missing() -> None:
    log = _whole()
    log[1].remove(4)
    verdict = _judge(log, unacknowledged=frozenset({4})).verdict()
    assert (verdict.acked, verdict.failures()) == (RECORDS - 1, [])


def test_a_record_that_was_not_acknowledged_may_be_there() -> None:
    assert _judge(_whole(), unacknowledged=frozenset({4})).verdict().failures() == []


def test_duplicates_are_counted_and_fail() -> None:
    log = _whole()
    log[0] = [2, 5, 2, 5, 8, 11]
    verdict = _judge(log).verdict()
    assert (verdict.duplicated, verdict.out_of_order, verdict.lost, verdict.consumed) == (2, 0, 0, RECORDS + 2)
    assert verdict.failures() == ["2 records were written more than once"]


def test_a_retried_record_may_be_acknowledged_where_it_stands_again() -> None:
    log = _whole()
    log[0] = [2, 5, 5, 8, 11]
    verdict = _judge(log, acked_offsets={5: 2}).verdict()
    assert (verdict.duplicated, verdict.misplaced, verdict.lost) == (1, 0, 0)


def test_records_out_of_order_are_found() -> None:
    log = _whole()
    log[0] = [2, 8, 5, 11]
    verdict = _judge(log).verdict()
    assert verdict.out_of_order == 1
    assert verdict.failures() == ["1 records are out of order"]


def test_each_record_after_a_later_one_is_out_of_order() -> None:
    log = _whole()
    log[0] = [11, 2, 5, 8]
    assert _judge(log).verdict().out_of_order == 3


def test_an_acknowledged_offset_at_which_another_record_stands_is_found() -> None:
    verdict = _judge(_whole(), acked_offsets={3: 2}).verdict()
    assert (verdict.misplaced, verdict.lost) == (1, 0)
    assert verdict.failures()


def _read_whole(judge: Judge, change: Callable[[int, int], tuple[int, bytes | None, bytes | None]]) -> None:
    for index, value in enumerate(VALUES):
        judge.sent(index, value)
        judge.acknowledged(index, index // PARTITIONS)
    for partition in range(PARTITIONS):
        for offset in range(RECORDS // PARTITIONS):
            judge.read(partition, *change(partition, offset))
        judge.end(partition, RECORDS // PARTITIONS)


def test_a_gap_of_offsets_is_found() -> None:
    judge = Judge(FILES)

    def shifted(partition: int, offset: int) -> tuple[int, bytes | None, bytes | None]:
        index = _whole()[partition][offset]
        return offset + (partition == 1 and offset >= 2), IDS[index], VALUES[index]

    _read_whole(judge, shifted)
    verdict = judge.verdict()
    assert verdict.gaps == 2  # the gap, and an end that is not where the cluster says
    assert verdict.misplaced == 2
    assert verdict.lost == 0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (IDS[4], b"other bytes"),
        (IDS[4], None),
        (IDS[5], VALUES[5]),  # of another partition
        (b"a.py:0", VALUES[4]),
        (b"a.py:6", VALUES[4]),
        (b"a.py:", VALUES[4]),
        (b"a.py:x", VALUES[4]),
        (b"c.py:1", VALUES[4]),
        (b"", VALUES[4]),
        (None, VALUES[4]),
    ],
)
def test_what_was_not_sent_is_a_stranger_and_stands_for_nothing(key: bytes | None, value: bytes | None) -> None:
    judge = Judge(FILES)

    def replaced(partition: int, offset: int) -> tuple[int, bytes | None, bytes | None]:
        index = _whole()[partition][offset]
        return (offset, key, value) if index == 4 else (offset, IDS[index], VALUES[index])

    _read_whole(judge, replaced)
    verdict = judge.verdict()
    assert (verdict.strangers, verdict.lost) == (1, 1)
    assert len(verdict.failures()) == 2


def test_a_log_that_goes_on_behind_what_was_read_is_found() -> None:
    judge = Judge(FILES)
    judge.end(0, 1)
    assert judge.verdict().gaps == 1


def test_failover_is_the_longest_gap_that_ends_after_the_kill() -> None:
    gaps = AckGaps()
    for partition, now_s in ((0, 1.0), (1, 1.0), (0, 9.0), (1, 9.1)):  # slow, but before the kill
        gaps.acknowledged(partition, now_s)
    gaps.killed_s = 9.2
    for partition, now_s in ((0, 9.21), (0, 10.7), (0, 10.8), (1, 9.3), (1, 14.0)):
        gaps.acknowledged(partition, now_s)
    assert gaps.failover_ms([0]) == 1490
    assert gaps.failover_ms([0, 1]) == 4700


def test_failover_of_a_partition_without_earlier_acknowledgements_counts_from_the_kill() -> None:
    gaps = AckGaps()
    gaps.killed_s = 5.0
    gaps.acknowledged(0, 6.5)
    assert gaps.failover_ms([0]) == 1500


def test_there_is_no_failover_without_a_kill_a_partition_or_a_return() -> None:
    gaps = AckGaps()
    gaps.acknowledged(0, 1.0)
    assert gaps.failover_ms([0]) is None
    gaps.killed_s = 2.0
    assert gaps.failover_ms([0]) is None
    gaps.acknowledged(0, 3.0)
    assert gaps.failover_ms([0]) == 2000
    assert gaps.failover_ms([0, 1]) == 2000  # nothing was under way to partition 1
    assert gaps.failover_ms([1]) is None
    assert gaps.failover_ms([]) is None
