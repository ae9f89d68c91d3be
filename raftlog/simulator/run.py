"""Runs seeds, one process per core, and says what broke. The command behind scripts/simulate."""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import msgspec

from raftlog.simulator.convergence import require_convergence
from raftlog.simulator.faults import Faults
from raftlog.simulator.invariants import Broken
from raftlog.simulator.sabotage import GUARDS, without
from raftlog.simulator.scenarios import (
    COMPACTED,
    COORDINATED,
    NODES,
    SCENARIOS,
    SLEEPY,
    SPARES,
    WITH_WITNESSES,
    WITHOUT_WITNESSES,
)
from raftlog.simulator.sleep_scenarios import come_and_go
from raftlog.simulator.tight_bounds import SLEEP_BOUNDS, tight_bounds
from raftlog.simulator.world import World

_STEPS = 2500
_KINDS = ("lost", "diverged", "stuck", "two_leaders", "crashed")


class Verdict(msgspec.Struct):
    """What became of one seed. `kind` is empty when every invariant held."""

    seed: int
    acked: int
    steps: int
    virtual_s: float
    trace_hash: str
    kind: str = ""
    text: str = ""
    trace: list[str] = []


def run_seed(
    seed: int, *, nodes: int = 0, steps: int = _STEPS, scenario: str = "", guard_off: str = "", trace: bool = False
) -> Verdict:
    """One run, entirely fixed by its arguments. `nodes` 0: as many as the story needs."""
    sleepy = scenario in SLEEPY or (not scenario and seed % 3 == 1)
    with without(guard_off), tight_bounds(not scenario and seed % 3 == 1), tight_bounds(sleepy, SLEEP_BOUNDS):
        return _run_seed(seed, nodes, steps, scenario, trace)


def _run_seed(seed: int, nodes: int, steps: int, scenario: str, trace: bool) -> Verdict:
    nodes = nodes or NODES.get(scenario, 3)
    world = World(
        seed,
        nodes=nodes,
        witnesses=(nodes - 1) // 2 if scenario in WITH_WITNESSES else 0 if scenario in WITHOUT_WITNESSES else None,
        compacted=scenario in COMPACTED or (not scenario and seed % 5 == 3),
        coordinates=scenario in COORDINATED,
        spares=SPARES.get(scenario, 0),
    )
    world.keep_trace = trace
    kind = text = ""
    try:
        if scenario:
            SCENARIOS[scenario](world)
        else:
            _mixed(world, steps)
        require_convergence(world)
    except Broken as broken:
        kind, text = broken.kind, str(broken)
    except Exception:  # noqa: BLE001 - whatever escapes the product's code is the finding
        kind, text = "crashed", traceback.format_exc()
    acked = sum(client.acked_count for client in world.clients.values())
    acked += world.ledger.acked_count if world.ledger is not None else 0
    return Verdict(seed, acked, world.steps, world.events.now_s, world.trace_hash, kind, text, list(world.trace))


def _mixed(world: World, steps: int) -> None:
    world.add_clients(world.rng.choice((1, 2, 3)))
    world.add_readers(world.rng.choice((0, 0, 1, 2)))
    if world.seed % 3 == 1:
        come_and_go(world)
    for node_id in world.node_ids:
        world.start(node_id)
    faults = Faults(world)
    world.run_until(steps=steps)
    faults.stop()
    world.heal()


def run_seeds(seeds: Iterable[int], **how: Any) -> Iterator[Verdict]:
    """All seeds, also when some fail or end their process, in order, over all cores. `how` goes to `run_seed`."""
    left = list(seeds)
    processes = min(len(os.sched_getaffinity(0)), len(left))
    if len(left) == 1:
        yield run_seed(left[0], **how)
        return
    while left:
        with _pool(processes) as pool:
            running = [pool.submit(run_seed, seed, **how) for seed in left]
            for each in running:
                try:
                    verdict = each.result()
                except BrokenProcessPool:
                    break
                left.pop(0)
                yield verdict
        # A process died, with one of the first that are left: those run alone.
        for seed in left[: 2 * processes + 1]:
            left.pop(0)
            yield _run_alone(seed, how)


def _run_alone(seed: int, how: dict[str, Any]) -> Verdict:
    with _pool(1) as pool:
        try:
            return pool.submit(run_seed, seed, **how).result()
        except BrokenProcessPool:
            return Verdict(seed, 0, 0, 0.0, "", "crashed", "the process that ran it died")


def _pool(processes: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(processes, multiprocessing.get_context("fork"))


def _parse_seeds(text: str) -> range:
    first, _, last = text.partition("-")
    try:
        seeds = range(int(first), int(last or first) + 1)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not FROM-TO, for example 0-99") from None
    if not seeds:
        raise argparse.ArgumentTypeError(f"{text} is empty: no seed would say that all is well")
    return seeds


def summary(verdicts: list[Verdict]) -> dict[str, int]:
    counts = {kind: sum(verdict.kind == kind for verdict in verdicts) for kind in _KINDS}
    return {"seeds": len(verdicts), "acked": sum(verdict.acked for verdict in verdicts), **counts}


def replay_command(verdict: Verdict, *, nodes: int, steps: int, scenario: str, guard_off: str) -> str:
    nodes = nodes or NODES.get(scenario, 3)
    parts = [f"scripts/simulate --seeds {verdict.seed}-{verdict.seed}", f"--nodes {nodes}", f"--steps {steps}"]
    if scenario:
        parts.append(f"--scenario {scenario}")
    if guard_off:
        parts.append(f"--without {guard_off}")
    return " ".join([*parts, "--trace"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/simulate",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Run the real replication, storage and partition code under simulated faults.\n"
        "A seed fixes everything. A failing seed prints the command that replays it; the exit code is 1 then.",
        epilog="examples:\n  scripts/simulate --seeds 0-99\n  scripts/simulate --seeds 17-17 --trace\n"
        "  scripts/simulate --seeds 0-9 --scenario stale-majority --json",
    )
    parser.add_argument("--seeds", type=_parse_seeds, default=range(100), metavar="FROM-TO", help="the seeds (0-99)")
    parser.add_argument("--nodes", type=int, default=0, choices=range(1, 10), metavar="N", help="replicas (3, or 5)")
    parser.add_argument("--steps", type=int, default=_STEPS, metavar="S", help=f"turns before the healing ({_STEPS})")
    parser.add_argument("--scenario", default="", choices=["", *SCENARIOS], help="a named story instead of the mix")
    parser.add_argument(
        "--without", default="", choices=["", *GUARDS, "all"], help="turn a guard off: this must break an invariant"
    )
    parser.add_argument("--trace", action="store_true", help="the steps before a failure, and every seed's trace hash")
    parser.add_argument("--json", action="store_true", help="one object on one line of stdout")
    return parser


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    logging.getLogger("raftlog").setLevel(logging.CRITICAL)  # clients warn of what is done to them on purpose
    started_s = time.monotonic()
    verdicts: list[Verdict] = []
    how = {"nodes": options.nodes, "steps": options.steps, "scenario": options.scenario, "guard_off": options.without}
    for verdict in run_seeds(options.seeds, trace=options.trace, **how):
        verdicts.append(verdict)
        if options.trace:
            print(f"seed {verdict.seed}: trace hash {verdict.trace_hash}, {verdict.steps} turns", file=sys.stderr)
        if verdict.kind:
            for line in verdict.trace[-200:]:
                print(f"  {line}", file=sys.stderr)
            print(f"seed {verdict.seed}: {verdict.text}\nreplay: {replay_command(verdict, **how)}", file=sys.stderr)
        elif sys.stderr.isatty() and len(verdicts) % 10 == 0:
            print(f"\r{len(verdicts)} of {len(options.seeds)} seeds", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print("\r", end="", file=sys.stderr)
    counts = summary(verdicts)
    if options.json:
        print(msgspec.json.encode(counts).decode())
    else:
        virtual_s = sum(verdict.virtual_s for verdict in verdicts)
        for name, count in counts.items():
            print(f"{name:12} {count:>10,}")
        print(f"{virtual_s:,.0f} virtual seconds in {time.monotonic() - started_s:,.0f} s")
    return 1 if any(counts[kind] for kind in _KINDS) else 0


if __name__ == "__main__":
    sys.exit(main())
