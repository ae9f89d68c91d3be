"""Consumers while leaders hang; and with a deposed leader's answers believed, the same runs skip and repeat records."""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import pytest

from raftlog.client.core.metadata import MetadataCache
from raftlog.client.fetcher.partition_state import PartitionState
from raftlog.errors import ErrorCode
from raftlog.partition.reads import Reads
from raftlog.simulator.run import run_seed

FIRST_SEED = int(os.environ.get("RAFTLOG_SEED", random.SystemRandom().randrange(1_000_000)))
SCENARIO = "hung-leader"


def test_nothing_is_skipped_or_repeated_while_leaders_hang() -> None:
    for seed in range(FIRST_SEED, FIRST_SEED + 5):
        verdict = run_seed(seed, scenario=SCENARIO)
        assert not verdict.kind, f"{verdict.text}\nreplay: scripts/simulate --seeds {seed}-{seed} --scenario {SCENARIO}"
        assert verdict.acked > 100


def _confirm_nothing(self: Reads, done: Callable[[ErrorCode], None]) -> None:
    done(self.why_not())


def test_a_deposed_leader_that_is_believed_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No majority confirms what a leader denies, and the client remembers no epoch: each of the two would do here."""
    monkeypatch.setattr(Reads, "confirm", _confirm_nothing)
    monkeypatch.setattr(MetadataCache, "read_epoch", lambda self, topic_id, partition: -1)
    monkeypatch.setattr(MetadataCache, "note_read", lambda self, topic_id, partition, epoch: True)
    no_epoch = property(lambda self: -1, lambda self, epoch: None)
    monkeypatch.setattr(PartitionState, "read_epoch", no_epoch, raising=False)
    assert any(run_seed(seed, scenario=SCENARIO).kind in ("lost", "diverged") for seed in range(30))
