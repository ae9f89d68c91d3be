"""Stories about witnesses, and that one notices when they are fed beyond what the in-sync replicas hold."""

from __future__ import annotations

import pytest

from raftlog.consensus.leader import Leader
from raftlog.consensus.progress import Mode
from raftlog.simulator.run import run_seed
from raftlog.simulator.scenarios import WITH_WITNESSES
from raftlog.simulator.world import World

SEEDS = range(2, 40, 4)


def feed_all_that_is_synced(self: Leader, now_s: float) -> None:
    """The bound is gone: a witness gets what the leader has synced, whoever else holds it."""
    self._feed.last_index = self._log.state.synced_index
    for node_id in self._seat.voters.witnesses:
        progress = self._progress[node_id]
        behind = progress.mode is Mode.REPLICATE and progress.next_index <= self._feed.last_index
        if behind and self._links.boots[node_id] and progress.may_send(now_s):
            self._send_append(node_id, progress, now_s, with_entries=True)


def test_every_fourth_seed_has_witnesses() -> None:
    assert [seed for seed in range(12) if World(seed).spec.witnesses] == [2, 6, 10]
    assert [len(World(2, nodes=nodes).spec.witnesses) for nodes in (1, 3, 5)] == [0, 1, 2]


@pytest.mark.parametrize("nodes", [3, 5])
@pytest.mark.parametrize("scenario", WITH_WITNESSES)
def test_each_story_holds(scenario: str, nodes: int) -> None:
    broken = [verdict for seed in range(3) if (verdict := run_seed(seed, scenario=scenario, nodes=nodes)).kind]
    assert not broken, [verdict.text for verdict in broken]


def test_seeds_with_witnesses_break_no_invariant() -> None:
    broken = [verdict for seed in SEEDS if (verdict := run_seed(seed)).kind]
    assert not broken, [verdict.text for verdict in broken]


def test_feeding_witnesses_without_the_bound_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A witness ahead of every replica that is left lets none of them lead."""
    monkeypatch.setattr(Leader, "_feed_witnesses", feed_all_that_is_synced)
    for seed in (1, 2, 3, 6, 8, 9):
        verdict = run_seed(seed, scenario="any-minority")
        if verdict.kind:
            assert verdict.kind == "stuck"
            assert "no write was acknowledged without" in verdict.text
            return
    pytest.fail("six seeds did not notice")
