"""Idempotent producers under all faults; and without what makes them so, the same runs find records doubled."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

from raftlog.errors import ErrorCode
from raftlog.partition import duplicates
from raftlog.record.batch import BatchHeader
from raftlog.simulator.run import run_seed
from raftlog.storage.appender import Appender
from raftlog.storage.producers import KnownBatch, ProducerState, judge

FIRST_SEED = int(os.environ.get("RAFTLOG_SEED", random.SystemRandom().randrange(1_000_000)))


def test_each_record_is_written_once_and_in_order_whatever_fails() -> None:
    for seed in range(FIRST_SEED, FIRST_SEED + 12):
        verdict = run_seed(seed, scenario="retries")
        assert not verdict.kind, f"{verdict.text}\nreplay: scripts/simulate --seeds {seed}-{seed} --scenario retries"
        assert verdict.acked > 20


def test_a_gap_that_was_closed_meanwhile_is_not_told() -> None:
    """A refusal that waited for a majority's word came behind the answer to the batch that closed the gap."""
    assert not run_seed(1_000_002, scenario="retries").kind


def _takes_anything(state: ProducerState | None, header: BatchHeader) -> KnownBatch | ErrorCode:
    return ErrorCode.NONE


def _takes_repetitions(state: ProducerState | None, header: BatchHeader) -> KnownBatch | ErrorCode:
    verdict = judge(state, header)
    return ErrorCode.NONE if isinstance(verdict, KnownBatch) else verdict


@pytest.mark.parametrize("verdict", [_takes_anything, _takes_repetitions])
def test_without_the_judgement_records_are_doubled(verdict: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "judge", verdict)
    assert any(run_seed(seed, scenario="retries").kind == "diverged" for seed in range(12))


def _forget_at_starts_and_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Appender, "recall", lambda self: None)


def _leave_followers_unknowing(monkeypatch: pytest.MonkeyPatch) -> None:
    really = Appender._note_producers

    def note(self: Appender, shapes: Any, headers: Any) -> None:
        if headers[0].leader_epoch < 0:  # a leader's own, which are stamped as they are written
            really(self, shapes, headers)

    monkeypatch.setattr(Appender, "_note_producers", note)


@pytest.mark.parametrize("sabotage", [_forget_at_starts_and_cuts, _leave_followers_unknowing])
def test_a_log_that_forgets_its_producers_is_noticed(sabotage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sabotage(monkeypatch)
    assert any(run_seed(seed, scenario="retries").kind == "lost" for seed in range(60))
