"""Carrying out moves: shown, confirmed, made plans of, and watched until they are done.

A plan is in the metadata and needs no command to go on: Ctrl-C ends the looking only.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from raftlog.clock import NEVER_S
from raftlog.errors import NoReassignmentInProgressError, RaftlogError
from raftlog.limits import LEARNER_BYTES_PER_S, NODE_ID_MAX, REASSIGNMENTS_PER_REQUEST_MAX
from raftlog.types import Half, TopicPartition

from .failure import OneLineError, UnusableError
from .output import ids_text, note, print_json, print_table, size_text, warn
from .stages import Stages

if TYPE_CHECKING:
    from raftlog import Admin
    from raftlog.view.layout import Layout, Move
    from raftlog.view.ongoing import OngoingMoves

_SHOWN_MAX = 40
_LOOK_S = 0.5
_SILENT_S = 60.0  # a cluster whose nodes restart answers again within that
_SETTLE_S = 5.0  # until every node has heard of a change
_WAITING_S = 5.0  # before it is said what a partition waits for
_MB = 1_000_000
MB = click.IntRange(1, 1_000_000)  # a second; a terabyte is more than any disk
NODE = click.IntRange(1, NODE_ID_MAX)
_Command = TypeVar("_Command", bound=Callable[..., object])

GOES_ON = (
    "the plans are in the metadata and go on: `raftlog cluster moves` shows them, `raftlog cluster moves --cancel` "
    "calls them off"
)


class Wish(NamedTuple):
    """How moves shall be carried out. `throttle`: MB a second of each partition's leader; None: as by itself."""

    yes: bool
    throttle: int | None
    as_json: bool

    @property
    def bytes_per_s(self) -> int:
        return (self.throttle or 0) * _MB


def throttle_option(command: _Command) -> _Command:
    return click.option(
        "--throttle",
        type=MB,
        metavar="MB",
        help="How many MB a second the leader of each partition sends to new replicas; `raftlog cluster moves "
        f"--throttle` changes it while they move.  [default: {LEARNER_BYTES_PER_S // _MB}]",
    )(command)


def yes_option(command: _Command) -> _Command:
    return click.option("--yes", is_flag=True, help="Do not ask: for scripts.")(command)


# --- what there is -------------------------------------------------------------------------------
def look(admin: Admin, without: Collection[int] = ()) -> Layout:
    """The cluster as it is, and as plans will make it. Raises OneLineError where that may be old."""
    from raftlog.view.layout import Layout
    from raftlog.view.partitions import cut_off

    cluster = admin.describe_cluster()
    if cut_off(cluster):
        raise OneLineError(f"{cut_off(cluster)}; name another node with --bootstrap")
    plans = {
        TopicPartition(each.topic, each.partition): Half(each.target_replicas, each.target_witnesses)
        for each in admin.list_partition_reassignments()
        if not each.called_off
    }
    topics = admin.describe_topics(internal=True)
    return Layout(cluster.nodes, topics, admin.describe_replicas(), plans, without)


def ongoing(admin: Admin) -> OngoingMoves:
    from raftlog.view.ongoing import view_ongoing

    plans = admin.list_partition_reassignments()
    return view_ongoing(plans, admin.describe_replicas(sorted({each.topic for each in plans})) if plans else [])


# --- before --------------------------------------------------------------------------------------
def show(moves: Sequence[Move], wish: Wish) -> None:
    if wish.as_json:
        return
    rows = [
        (
            str(each.place),
            _members(each.old_replicas, each.old_witnesses),
            _members(each.replicas, each.witnesses),
            size_text(each.copied_bytes),
        )
        for each in moves[:_SHOWN_MAX]
    ]
    print_table(("partition", "nodes now", "nodes then", "to copy"), rows)
    if len(moves) > _SHOWN_MAX:
        click.echo(f"and {len(moves) - _SHOWN_MAX} more")
    copied = sum(each.copied_bytes for each in moves)
    click.echo(f"{_partitions(len(moves))}, {size_text(copied)} to copy")


def warn_of_less(moves: Sequence[Move]) -> None:
    less = [each for each in moves if each.survives_less]
    if less:
        warn(
            f"{_partitions(len(less))}, {less[0].place} the first, will survive fewer failures than now: there are too "
            "few nodes for as many witnesses; start another node first"
        )


def propose(moves: Sequence[Move], wish: Wish, question: str) -> None:
    """Raises UnusableError where nobody can be asked, click.Abort where the answer is no."""
    show(moves, wish)
    warn_of_less(moves)
    if wish.yes:
        return
    if wish.as_json or not sys.stdin.isatty():
        raise UnusableError("nothing was done: nobody is there to confirm it; add --yes")
    click.confirm(question, abort=True, err=True)


# --- carrying out --------------------------------------------------------------------------------
def accomplish(
    admin: Admin,
    wish: Wish,
    plan: Callable[[Layout], list[Move]],
    begin: Callable[[list[Move]], None],
    concerns: Callable[[Move], bool],
    without: Collection[int] = (),
) -> list[Move]:
    """Returns what was moved, once there is nothing to plan, and nothing is under way that the command `concerns`.

    `begin(moves)`: before anything is done. What an earlier command has begun is waited for, and not begun again. New
    topics may come while others go, so it is planned anew until nothing is left.
    """
    done: list[Move] = []
    while True:
        layout = look(admin, without)
        moves = plan(layout)
        if not moves:
            moves = [each for each in layout.under_way() if concerns(each)]
            if not moves:
                return done
            _conclude(moves, {}, _watch(admin, moves))
            continue
        if not done:
            begin(moves)
        carry_out(admin, moves, wish)
        done += moves


def carry_out(admin: Admin, moves: Sequence[Move], wish: Wish) -> None:
    """Makes plans of them, and returns when all are done. Raises OneLineError for those that are not."""
    refused = _begin(admin, moves, wish)
    begun = [each for each in moves if each.place not in refused]
    _conclude(moves, refused, _watch(admin, begun) if begun else {})


def _conclude(moves: Sequence[Move], refused: dict[TopicPartition, str], failed: dict[TopicPartition, str]) -> None:
    """Raises OneLineError where not all has moved."""
    for place, text in {**refused, **failed}.items():
        note(f"{place}: {text}")
    if refused or failed:
        raise OneLineError(
            f"{len(refused) + len(failed)} of {_partitions(len(moves))} did not move; the same command tries them again"
        )


def _begin(admin: Admin, moves: Sequence[Move], wish: Wish) -> dict[TopicPartition, str]:
    """Why some are refused; each stands or falls alone."""
    refused = {}
    for at in range(0, len(moves), REASSIGNMENTS_PER_REQUEST_MAX):
        part = moves[at : at + REASSIGNMENTS_PER_REQUEST_MAX]
        try:
            admin.alter_partition_reassignments(
                {each.place: each.replicas for each in part},
                witnesses={each.place: each.witnesses for each in part},
                bytes_per_s=wish.bytes_per_s,
            )
        except RaftlogError as error:
            if not error.results:
                raise
            for result in error.results:
                if result.error_code:
                    refused[TopicPartition(result.topic, result.partition)] = result.error_text
    return refused


def _watch(admin: Admin, moves: Sequence[Move]) -> dict[TopicPartition, str]:
    """Returns when none of them has a plan any more: those that are not where they should be, and why."""
    total_bytes = sum(each.copied_bytes for each in moves)
    unit, name = (_MB, "MB") if total_bytes >= 10 * _MB else (1000, "kB")
    try:
        with Stages(estimates=True) as stages:
            stages.begin(f"moving {_partitions(len(moves))}:", total_bytes // unit, name)
            progress = _Progress(moves, stages, unit)
            while progress.left:
                progress.see(_patiently(lambda: ongoing(admin), stages))
                if progress.left:
                    time.sleep(_LOOK_S)
            stages.finish()
    except KeyboardInterrupt:
        note(GOES_ON)
        raise
    return _elsewhere(admin, moves)


def _elsewhere(admin: Admin, moves: Sequence[Move]) -> dict[TopicPartition, str]:
    """What has no plan any more and is not where it should be. The controller knows of an end before other nodes do."""
    deadline_s = time.monotonic() + _SETTLE_S
    while True:
        halves = look(admin).halves
        wrong = [each.place for each in moves if each.place in halves and halves[each.place] != _half(each)]
        if not wrong or time.monotonic() > deadline_s:
            return dict.fromkeys(wrong, "its plan was called off, or another one took its place")
        time.sleep(_LOOK_S)


def _half(move: Move) -> Half:
    return Half(tuple(move.replicas), tuple(move.witnesses))


class _Waiting(NamedTuple):
    """What a partition waits for, and when that is to be said."""

    text: str
    due_s: float


class _Progress:
    """How far the plans are that were begun. `left`: those that are not done."""

    def __init__(self, moves: Sequence[Move], stages: Stages, unit: int) -> None:
        self.left = {each.place: each for each in moves}
        self._stages = stages
        self._unit = unit
        self._total = len(moves)
        self._copied_bytes = 0  # by those that are done
        self._waits: dict[TopicPartition, _Waiting] = {}

    def see(self, found: OngoingMoves) -> None:
        now_s = time.monotonic()
        there = {each.place: each for each in found.moves if each.place in self.left}
        for place in [place for place in self.left if place not in there]:
            move = self.left.pop(place)
            self._copied_bytes += move.copied_bytes
            nodes = _members(move.replicas, move.witnesses)
            self._stages.say(f"{place} is on nodes {nodes} ({self._total - len(self.left)} of {self._total})")
        copied_bytes = self._copied_bytes + sum(
            min(each.copied_bytes, self.left[place].copied_bytes) for place, each in there.items()
        )
        self._stages.advance(copied_bytes // self._unit)
        for place, each in there.items():
            self._note_waiting(place, each.waits, now_s)

    def _note_waiting(self, place: TopicPartition, text: str, now_s: float) -> None:
        """A reason that stays for a while is said, once."""
        known = self._waits.get(place)
        if known is None or known.text != text:
            self._waits[place] = _Waiting(text, now_s + _WAITING_S)
        elif text and now_s >= known.due_s:
            self._waits[place] = _Waiting(text, NEVER_S)
            self._stages.say(f"{place} waits: {text}")


def _patiently(ask: Callable[[], Any], stages: Stages) -> Any:
    """Nodes may restart meanwhile. Raises what was raised last when nobody has answered for long."""
    deadline_s = time.monotonic() + _SILENT_S
    while True:
        try:
            return ask()
        except RaftlogError as error:
            if time.monotonic() > deadline_s:
                note(GOES_ON)
                raise
            stages.say(f"asked again: {error}")
            time.sleep(_LOOK_S)


def tell(moves: Sequence[Move], wish: Wish, text: str, **more: Any) -> None:
    """The end of a command: what was moved."""
    if wish.as_json:
        print_json({**more, "moved": list(moves)})
    else:
        click.echo(text)


# --- what is under way ---------------------------------------------------------------------------
def chosen(found: OngoingMoves, names: Collection[str]) -> OngoingMoves:
    """Those of the partitions with these names; without names all. Raises OneLineError for one that does not move."""
    from raftlog.view.ongoing import OngoingMoves

    there = {str(each.place): each for each in found.moves}
    for name in names:
        if name not in there:
            raise OneLineError(f"{name} does not move; `raftlog cluster moves` shows what does")
    return OngoingMoves.of([there[name] for name in names]) if names else found


def change_ongoing(admin: Admin, found: OngoingMoves, *, cancel: bool, throttle: int | None) -> None:
    left = [each for each in found.moves if not each.called_off]
    for at in range(0, len(left), REASSIGNMENTS_PER_REQUEST_MAX):
        part = left[at : at + REASSIGNMENTS_PER_REQUEST_MAX]
        try:
            admin.alter_partition_reassignments(
                {each.place: None if cancel else each.target_replicas for each in part},
                witnesses={} if cancel else {each.place: each.target_witnesses for each in part},
                bytes_per_s=0 if throttle is None else throttle * _MB,
            )
        except NoReassignmentInProgressError:
            pass  # it was done in between; the others stand for themselves


def show_ongoing(found: OngoingMoves) -> None:
    if not found.moves:
        note("nothing moves")
        return
    rows = [
        (
            str(each.place),
            _members(each.replicas, each.witnesses),
            _members(each.target_replicas, each.target_witnesses),
            size_text(each.copied_bytes),
            size_text(each.total_bytes),
            each.bytes_per_s // _MB or LEARNER_BYTES_PER_S // _MB,
            "goes back" if each.called_off else "",
            each.waits,
        )
        for each in found.moves
    ]
    columns = ("partition", "nodes now", "nodes then", "copied", "of", "MB/s at most", "called off", "waits for")
    print_table(columns, rows)


# --- nodes ---------------------------------------------------------------------------------------
def check_dead(admin: Admin, node_id: int) -> None:
    """Raises OneLineError for one that is alive, or cannot be removed whatever it holds."""
    for node in admin.describe_cluster().nodes:
        if node.node_id == node_id and node.alive:
            raise OneLineError(f"node {node_id} is alive: `raftlog cluster drain {node_id}` moves what it holds")
        if node.node_id == node_id and node.voter:
            raise OneLineError(
                f"node {node_id} votes for the metadata, so it stays in the cluster: `raftlog cluster drain {node_id}` "
                "moves what it held; then start a node with its id on an empty directory"
            )


def note_vote(admin: Admin, node_id: int) -> None:
    if any(node.node_id == node_id and node.voter for node in admin.describe_cluster().nodes):
        note(f"node {node_id} votes for the metadata, so it stays in the cluster: keep it running")


# --- words ---------------------------------------------------------------------------------------
def _members(replicas: Sequence[int], witnesses: Sequence[int]) -> str:
    return ids_text(replicas) + (f" w{ids_text(witnesses)}" if witnesses else "")


def _partitions(count: int) -> str:
    return f"{count:,} partition{'s' * (count != 1)}"
