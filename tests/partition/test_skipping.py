"""Readers that do not get past an empty batch are given none first: compaction's fillers are left out for them."""

from __future__ import annotations

import pytest

from raftlog import limits
from raftlog.errors import ErrorCode
from raftlog.record.batch import decode, read_header
from raftlog.record.compacted import filler
from tests.partition.compacted import compacted_cluster, fillers, keyed, rounds, write
from tests.partition.harness import Cluster, Node, fetch, produce


def _compacted() -> tuple[Cluster, Node]:
    """Fillers first, then the last values of a few keys."""
    cluster = compacted_cluster(1)
    write(cluster, rounds(50))
    cluster.settle(3.0)
    leader = cluster.leader()
    leader.answers.clear()
    return cluster, leader


def _ends_in_fillers() -> tuple[Cluster, Node]:
    """As a follower has it that was fed from a compacted log: its last entries are a filler of two, and one of four."""
    cluster = compacted_cluster(1)
    leader = cluster.leader()
    write(cluster, [(b"k", b"v")])
    for base, entries in ((1, 2), (3, 4)):
        frame = filler(base, base + entries, entries, leader.replica.leader_epoch)
        leader.log.append_as_follower(leader.log.last_index + 1, frame, [read_header(frame)])
    leader.log.persist()
    cluster.power_failure(None)
    leader = cluster.leader()
    assert leader.replica.high_watermark == 7
    return cluster, leader


def _ask(node: Node, offset: int, **changes: int) -> None:
    node.request("c", fetch(offset, skip_empty=True, **changes), [])
    node.cluster.settle()


def _records(node: Node) -> list[int]:
    """Of the only answer."""
    ((_, response, data),) = node.answers
    assert response.error_code == ErrorCode.NONE
    node.answers.clear()
    return [record.offset for record in decode(data or b"")]


@pytest.mark.parametrize("max_bytes", [1, 1 << 20])
@pytest.mark.parametrize("batches", [1, 2000])
def test_an_answer_begins_with_a_batch_that_has_records(
    max_bytes: int, batches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SKIPPED_BATCHES_PER_TURN", batches)
    _, leader = _compacted()
    assert fillers(leader) >= 1
    leader.request("c", fetch(3, max_bytes=1), [])
    leader.cluster.settle()
    assert not _records(leader), "others are given it as it stands"
    _ask(leader, 3, max_bytes=max_bytes)
    found = _records(leader)
    assert 30 < found[0] < 45


def test_where_only_empty_batches_follow_a_fetch_waits_for_records() -> None:
    cluster, leader = _ends_in_fillers()
    _ask(leader, 1, max_wait_ms=500)
    assert not leader.answers
    leader.request("p", produce(1), [keyed(b"k", b"w")])
    cluster.settle()
    assert leader.results().pop().base_offset == 7
    leader.answers = [answer for answer in leader.answers if answer[0] == "c"]
    assert _records(leader) == [7]


def test_where_only_empty_batches_follow_a_fetch_ends_at_its_time_without_any() -> None:
    cluster, leader = _ends_in_fillers()
    _ask(leader, 2, max_wait_ms=500)
    cluster.settle(0.6)
    ((_, response, data),) = leader.answers
    assert (response.error_code, response.high_watermark, data) == (ErrorCode.NONE, 7, None)
    leader.answers.clear()
    _ask(leader, 2)
    assert _records(leader) == []


def test_a_log_that_begins_behind_what_was_skipped_is_out_of_range() -> None:
    cluster, leader = _ends_in_fillers()
    _ask(leader, 1, max_wait_ms=5000)
    leader.request("p", produce(1), [keyed(b"k", b"w")])
    leader.replica.delete_head(7)
    cluster.settle()
    answers = [response.error_code for client, response, _ in leader.answers if client == "c"]
    assert answers in ([ErrorCode.OFFSET_OUT_OF_RANGE], [ErrorCode.NONE])
