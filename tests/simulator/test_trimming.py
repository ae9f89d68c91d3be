"""DeleteRecords under faults, and that a seed notices when it is answered too early."""

from __future__ import annotations

import pytest

from raftlog.consensus.member import RaftMember
from raftlog.partition.reads import Reads
from raftlog.simulator.run import run_seed


@pytest.mark.parametrize("seed", [3, 6])
def test_what_was_deleted_stays_deleted(seed: int) -> None:
    verdict = run_seed(seed, scenario="trimmed-head")
    assert not verdict.kind, verdict.text


def test_answering_before_the_in_sync_replicas_have_it_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RaftMember, "held_log_start", property(lambda self: self.log.state.log_start_offset))
    monkeypatch.setattr(Reads, "confirm", lambda self, done: done(self.why_not()))  # else no deposed leader gets so far
    verdicts = [run_seed(seed, scenario="trimmed-head") for seed in (21, 14)]
    assert any(verdict.kind == "diverged" and "was answered" in verdict.text for verdict in verdicts)
