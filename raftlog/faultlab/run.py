"""Runs a lab, or checks a history. The command behind scripts/faultlab.

Exit code 0: valid; 1: an anomaly; 2: no verdict (too little was acknowledged or polled, a fault that was due was not
applied, the final polls are not complete), or the lab could not be set up.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import msgspec

from raftlog.errors import ConfigError, RaftlogError
from raftlog.faultlab.checker import Checker, Judgement
from raftlog.faultlab.history import Operation, read_history, write_history
from raftlog.faultlab.lab import Lab, Workload
from raftlog.faultlab.libraries import KAFKA, NATIVE, installed
from raftlog.faultlab.namespaces import NamespacePlace
from raftlog.faultlab.places import HostPlace, Place
from raftlog.faultlab.report import write_report
from raftlog.faultlab.schedule import FAULTS, SCENARIOS, Fault, Planned, draw, usable
from raftlog.faultlab.vagrant import VagrantPlace

PLACES: dict[str, type[HostPlace] | type[VagrantPlace]] = {
    place.name: place for place in (HostPlace, NamespacePlace, VagrantPlace)
}
WORKLOADS = {
    "all": Workload(members=3),
    "assign": Workload(),
    "group": Workload(readers=0, members=4),
}
_NOT_SET_UP = 2
_NO_MEMBERS = "the workload has no group"


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)  # type: ignore[no-any-return]
    except (RaftlogError, OSError) as error:
        print(f"faultlab: error: {error}", file=sys.stderr)
        return _NOT_SET_UP
    except KeyboardInterrupt:
        print("faultlab: stopped; everything is healed and removed", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="faultlab", description="Break raftlog nodes on purpose, and check every record of what clients saw."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="run nodes, a workload and faults, then judge the history",
        description="Run nodes, a workload and faults, heal, and judge the history.",
    )
    run.set_defaults(command=_run)
    run.add_argument("--on", choices=sorted(PLACES), default="local", help="where the nodes run (default: local)")
    run.add_argument("--nodes", type=int, default=3, metavar="N", help="how many (default: 3)")
    run.add_argument(
        "--door",
        choices=("native", "kafka", *KAFKA),
        default="native",
        help="what the clients go through: raftlog's own (default), or Kafka's with the client of Kafka's that is "
        "installed, or with this one of them",
    )
    run.add_argument(
        "--workload",
        choices=sorted(WORKLOADS),
        default="all",
        help="what reads: partitions assigned by hand, a group, or both (default)",
    )
    run.add_argument(
        "--faults",
        default=",".join(FAULTS),
        metavar="NAMES",
        help=f"comma-separated (default: all): {', '.join(FAULTS)}",
    )
    run.add_argument("--scenario", choices=sorted(SCENARIOS), help="a story of faults instead of drawn ones")
    run.add_argument("--seconds", type=float, default=60.0, metavar="S", help="of faults (default: 60)")
    run.add_argument("--seed", type=int, help="fixes the plan of faults (default: a fresh one, which is printed)")
    run.add_argument(
        "--patience",
        type=float,
        metavar="S",
        help="after healing, until all has to be whole (default: what the place needs, 120 or more)",
    )
    run.add_argument(
        "--secure",
        action="store_true",
        help="with certificates, users and rules: all is encrypted, and the clients log in",
    )
    run.add_argument("--flush", choices=("always", "os"), default="always", help="the nodes' --flush (default: always)")
    run.add_argument(
        "--without", default="", metavar="GUARD", help="take a guard of the consensus out, to see the lab fail"
    )
    run.add_argument("--report", type=Path, metavar="DIR", help="keep history.jsonl, report.html and the logs there")
    run.add_argument("--json", action="store_true", help="print one JSON object and nothing else on stdout")
    check = commands.add_parser("check", help="judge a history file", description="Judge a history file.")
    check.set_defaults(command=_check)
    check.add_argument("history", type=Path, metavar="HISTORY")
    check.add_argument("--json", action="store_true", help="print one JSON object and nothing else on stdout")
    return parser


def _check(options: argparse.Namespace) -> int:
    judgement = Checker(read_history([options.history])).judge()
    if options.json:
        print(msgspec.json.encode(judgement).decode())
    else:
        print("\n".join(text_of(judgement)))
    return judgement.exit_code


def _run(options: argparse.Namespace) -> int:
    unknown = [name for name in options.faults.split(",") if name not in FAULTS]
    if unknown:
        raise ConfigError(f"no fault is called {unknown[0]!r}; there are {', '.join(FAULTS)}")
    if options.nodes < 1:
        raise ConfigError("--nodes is 1 or more")
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    with tempfile.TemporaryDirectory(prefix="raftlog-lab-") as scratch, _unwound_by_signals():
        if options.without and options.on == VagrantPlace.name:
            raise ConfigError("--without is for nodes of this machine: --on local or netns")
        if options.without:
            _sabotage(Path(scratch), options.without)  # BEFORE the place takes the environment for its nodes
        library = installed(options.door)
        doors = library != NATIVE
        place = PLACES[options.on](Path(scratch), options.nodes, options.flush, doors=doors, secure=options.secure)
        workload = WORKLOADS[options.workload]
        missing = place.missing if "member" in workload.roles else {**place.missing, "members": _NO_MEMBERS}
        faults, left_out = usable(options.faults.split(","), missing)
        plan = _plan(options, place, faults, left_out, seed)
        say = _teller(options.json)
        lab = Lab(
            place,
            plan,
            workload=workload,
            seconds=options.seconds,
            seed=seed,
            patience_s=place.pace.patience_s if options.patience is None else options.patience,
            library=library,
            say=say,
        )
        try:
            history = lab.run()
        finally:
            if options.report is not None:
                _keep_logs(options.report, Path(scratch))
    judgement = Checker(history).judge()
    outcome = {
        "valid": judgement.valid,
        "acked": judgement.acked,
        "polled": judgement.polled,
        "anomalies": judgement.anomalies,
        "faults_applied": dict(Counter(lab.applied)),
        "faults_left_out": left_out,
        "longest_unavailable_ms": judgement.longest_unavailable_ms,
        "seed": seed,
        "undecided": judgement.undecided,
    }
    if options.report is not None:
        _keep(options.report, history, judgement, options, seed)
    if options.json:
        print(msgspec.json.encode(outcome).decode())
    else:
        _print(judgement, lab.applied, left_out, _repeat(options, seed))
    return judgement.exit_code


def _plan(
    options: argparse.Namespace, place: Place, faults: list[Fault], left_out: dict[str, str], seed: int
) -> list[Planned]:
    if options.scenario is None:
        return draw(seed, options.seconds, place.node_ids, faults)
    plan = SCENARIOS[options.scenario](place.node_ids, random.Random(seed))
    lacking = sorted({planned.fault.needs for planned in plan} & set(place.missing))
    if lacking:
        raise ConfigError(f"scenario {options.scenario} cannot run here: {place.missing[lacking[0]]}")
    return plan


def _sabotage(directory: Path, guard: str) -> None:
    """Every Python process that this one starts begins with the guard taken out (simulator/sabotage.py)."""
    from raftlog.simulator.sabotage import GUARDS

    if guard not in GUARDS:
        raise ConfigError(f"no guard is called {guard!r}; there are {', '.join(GUARDS)}")
    module = directory / "sabotage"
    module.mkdir()
    (module / "sitecustomize.py").write_text(
        f"from raftlog.simulator.sabotage import without\n\n_held = without({guard!r})\n_held.__enter__()\n"
    )
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(module), os.environ.get("PYTHONPATH", "")]))


@contextlib.contextmanager
def _unwound_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP heal and clean up as Ctrl-C does."""

    def unwind(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, unwind)
    yield


def _teller(json_only: bool) -> Callable[[str], None]:
    began_s = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began_s:7.1f} s  {text}", file=sys.stderr if json_only else sys.stdout, flush=True)

    return say


def _repeat(options: argparse.Namespace, seed: int) -> str:
    words = ["scripts/faultlab", "run", "--on", options.on, "--nodes", str(options.nodes), "--seed", str(seed)]
    words += ["--door", options.door] if options.door != "native" else []
    words += ["--secure"] if options.secure else []
    words += ["--seconds", f"{options.seconds:g}", "--workload", options.workload, "--flush", options.flush]
    words += ["--scenario", options.scenario] if options.scenario else ["--faults", options.faults]
    return shlex.join(words + (["--without", options.without] if options.without else []))


def _keep(
    directory: Path, history: list[Operation], judgement: Judgement, options: argparse.Namespace, seed: int
) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    write_history(directory / "history.jsonl", history)
    write_report(directory / "report.html", history, judgement, _repeat(options, seed), text_of(judgement))


def _keep_logs(directory: Path, scratch: Path) -> None:
    """What nodes and clients said, for those who ask why."""
    (directory / "logs").mkdir(parents=True, exist_ok=True)
    for path in scratch.glob("*.log"):
        shutil.copy(path, directory / "logs")


def _print(judgement: Judgement, applied: list[str], left_out: dict[str, str], repeat: str) -> None:
    print("faults applied:", ", ".join(f"{name} {count}" for name, count in sorted(Counter(applied).items())) or "none")
    for reason in sorted(set(left_out.values())):
        names = ", ".join(name for name in left_out if left_out[name] == reason)
        print(f"left out: {names} ({reason})")
    print("\n".join(text_of(judgement)))
    print(f"repeat: {repeat}")


def text_of(judgement: Judgement) -> list[str]:
    """The verdict for people, a line each."""
    lines = [
        f"acknowledged {judgement.acked}, polled {judgement.polled}, "
        f"longest without an acknowledgement {judgement.longest_unavailable_ms} ms"
    ]
    for anomaly, count in sorted(judgement.anomalies.items()):
        lines.append(f"{anomaly}: {count}")
        lines += [f"    {proof}" for proof in judgement.proofs[anomaly]]
    if judgement.lost:
        lines.append("lost: " + ", ".join(f"{count} in the {place}" for place, count in sorted(judgement.lost.items())))
    lines += [f"not judged: {reason}" for reason in judgement.undecided]
    lines.append({True: "valid", False: "NOT VALID", None: "no verdict"}[judgement.valid])
    return lines


if __name__ == "__main__":
    sys.exit(main())
