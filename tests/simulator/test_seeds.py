"""Fresh seeds and remembered ones, in the real consensus, storage and partition code."""

from __future__ import annotations

import json
import logging
import os
import random
from collections.abc import Iterator

import pytest

from raftlog.simulator import run
from raftlog.simulator.run import Verdict, replay_command, run_seed, run_seeds
from raftlog.simulator.scenarios import SCENARIOS, SPARES

FRESH_SEEDS = 120
# RAFTLOG_SEED repeats a run of the suite; without it each run sees other seeds.
FIRST_SEED = int(os.environ.get("RAFTLOG_SEED", random.SystemRandom().randrange(1_000_000)))

# Each line: what this seed found when it was found.
REGRESSIONS = {
    17: "a start that failed for want of room made the lost directory anew, and the replica forgot that it had one",
    123: "a leader whose two followers had torn tails could commit nothing for ever",
    500128: "a follower that answered in the turn that a fail point ended counted for nothing (of the simulator)",
    600072: "a write that was put back for want of room came back with the power, under segments synced since",
    20019: "a leader that had fetched everything anew kept a lower log start than its followers",
    431: "the end of a doubt that there was no room to write ended the worker",
    901243: "a record was committed, its follower lost the disk, and only then was it acknowledged (of the simulator)",
    3002: "what was committed, acknowledged and taken by retention in one turn counted as lost (of the simulator)",
    4096: "an answer to a repetition, whose record retention had taken, counted as wrong (of the simulator)",
    4026: "what reached a disk after its damage counted for nothing (of the simulator)",
    6126: "a leader whose log is not looked at, for a flipped bit, committed before others knew (of the simulator)",
    441: "a second flipped bit on a disk made the simulator forget the first, which nobody had found yet",
    9948: "(simulator) what a follower had answered in the very turn in which it found damage did not count",
    5825: "retention took the epoch start of a leader that was none any more for committed, and its replica was stuck",
    4580: "a leader took the refusal of what it had sent in its last term for one of this, and asked for a new start",
    4339: "a reader took a batch with a latent flipped bit for good, where clients ask again (of the simulator)",
    30: "a wall clock that jumped back twice was hours behind, and refused all records (of the simulator)",
    352: "a term that was heard again made a follower forget which reset it had taken, and an older one was taken",
    205: "an acknowledgement left in a turn that a fail point ended afterwards",
}

# The same for seeds of a story.
STORY_REGRESSIONS = {
    ("compaction", 45): "the simulator brought back a request whose client had heard that it was refused",
    ("torn-tails", 28): "with a majority in doubt, appends that went on kept the leader from an election by all votes",
    (
        "kafka-door",
        348,
    ): "a deposed leader said that a batch does not follow, which the next one had the predecessor of",
    ("hung-coordinator", 91): "a commit of a lost membership was sent again under the number of a later generation",
    ("moves", 283): "a learner's disk was slow for another 35 s behind the healing (of the simulator)",
}


def explain(verdict: Verdict, **how: object) -> str:
    command = replay_command(
        verdict, nodes=int(str(how.get("nodes", 0))), steps=2500, scenario=str(how.get("scenario", "")), guard_off=""
    )
    return f"{verdict.text}\nreplay: {command}"


def test_fresh_seeds_break_no_invariant() -> None:
    broken = [v for v in run_seeds(range(FIRST_SEED, FIRST_SEED + FRESH_SEEDS)) if v.kind]
    assert not broken, "\n".join(explain(verdict) for verdict in broken)


def test_fresh_seeds_of_five_nodes_break_no_invariant() -> None:
    broken = [v for v in run_seeds(range(FIRST_SEED, FIRST_SEED + 8), nodes=5) if v.kind]
    assert not broken, "\n".join(explain(verdict, nodes=5) for verdict in broken)


@pytest.mark.parametrize("seed", REGRESSIONS, ids=str)
def test_remembered_seeds_break_no_invariant(seed: int) -> None:
    verdict = run_seed(seed)
    assert not verdict.kind, f"{REGRESSIONS[seed]}: {verdict.text}"


@pytest.mark.parametrize(("scenario", "seed"), STORY_REGRESSIONS, ids=str)
def test_remembered_seeds_of_stories_break_no_invariant(scenario: str, seed: int) -> None:
    verdict = run_seed(seed, scenario=scenario)
    assert not verdict.kind, f"{STORY_REGRESSIONS[scenario, seed]}: {verdict.text}"


@pytest.mark.parametrize("scenario", [story for story in SCENARIOS if story not in SPARES])
def test_each_scenario_holds(scenario: str) -> None:
    broken = [v for v in run_seeds(range(FIRST_SEED, FIRST_SEED + 2), scenario=scenario) if v.kind]
    assert not broken, "\n".join(explain(verdict, scenario=scenario) for verdict in broken)


def test_a_seed_fixes_everything() -> None:
    first, second = run_seed(FIRST_SEED), run_seed(FIRST_SEED)
    assert (first.trace_hash, first.acked, first.steps) == (second.trace_hash, second.acked, second.steps)
    assert run_seed(FIRST_SEED + 1).trace_hash != first.trace_hash


def test_all_seeds_run_when_a_process_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_run_seed", die_at_three)
    verdicts = list(run_seeds(range(12)))
    assert [verdict.seed for verdict in verdicts] == list(range(12))
    assert [verdict.seed for verdict in verdicts if verdict.kind == "crashed"] == [3]


def die_at_three(seed: int, nodes: int, steps: int, scenario: str, trace: bool) -> Verdict:
    if seed == 3:
        os._exit(1)
    return Verdict(seed, 0, 0, 0.0, "")


@pytest.fixture
def log_level() -> Iterator[None]:
    """The command keeps clients silent, in this process too."""
    logger = logging.getLogger("raftlog")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.mark.usefixtures("log_level")
def test_the_command_counts_what_broke_and_says_how_to_see_it_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--seeds", "0-1", "--steps", "300", "--json"]) == 0
    counts = json.loads(capsys.readouterr().out)
    assert list(counts) == ["seeds", "acked", "lost", "diverged", "stuck", "two_leaders", "crashed"]
    assert counts["seeds"] == 2
    assert run.main(["--seeds", "1-1", "--scenario", "late-answers", "--without", "G3", "--json"]) == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out)["lost"] == 1
    assert (
        "replay: scripts/simulate --seeds 1-1 --nodes 5 --steps 2500 --scenario late-answers --without G3"
        in printed.err
    )


@pytest.mark.parametrize("seeds", ["9-1", "", "a-b", "-5-3"])
def test_seeds_that_are_none_are_refused_rather_than_found_well(seeds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run.main([f"--seeds={seeds}"])
    assert "--seeds" in capsys.readouterr().err
