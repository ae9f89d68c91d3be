"""What protects deletions in a compacted topic is noticed when it is missing."""

from __future__ import annotations

import pytest

from raftlog.consensus.leader import Leader
from raftlog.consensus.record_copy import RecordCopy
from raftlog.simulator.run import run_seed

_SEEDS = range(12)


def _first_kind(scenario: str) -> str:
    return next(filter(None, (run_seed(seed, scenario=scenario).kind for seed in _SEEDS)), "")


def test_tombstones_that_go_before_every_replica_held_them_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Leader, "held_index", property(lambda self: 2**62))
    monkeypatch.setattr(RecordCopy, "_require_whole_copy", lambda self, m: None)
    assert _first_kind("lost-tombstones") in ("diverged", "lost")


def test_a_part_of_a_log_that_is_kept_although_tombstones_are_gone_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RecordCopy, "_require_whole_copy", lambda self, m: None)
    assert _first_kind("lost-tombstones") in ("diverged", "lost")
