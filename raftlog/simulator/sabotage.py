"""A simulator that can fail: each guard of the consensus taken out, one at a time, to see a seed break.

H1 and H2 are orders of the host of state machines (machine/host.py), K1 to K3 are what Kafka's door has to keep to, V1
to V6 are rules of voters that change, S1 to S7 of groups that sleep (consensus/hibernation.py).
For tests and `scripts/simulate --without GUARD` only; nothing outside the simulator imports this. Two guards have
no switch, because what they guard against is no code of ours that could be switched on again:

    G9   pysyncobj's compaction: `Journal.deleteEntriesTo` and `clear` have no implementation to call
    G10  pickle: no path leads from a message or an entry to pysyncobj's `loads`
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from raftlog import limits
from raftlog.consensus.candidate import Ballot
from raftlog.consensus.change import Change
from raftlog.consensus.doubt import Rejoin
from raftlog.consensus.follower import Follower
from raftlog.consensus.hibernation import Hibernation
from raftlog.consensus.leader import Leader
from raftlog.consensus.member import RaftMember
from raftlog.consensus.progress import Mode, Progress
from raftlog.consensus.record_copy import RecordCopy
from raftlog.consensus.seat import Seat
from raftlog.consensus.voters import Outcome, Vote, VoterSet
from raftlog.coordinator.coordinator import Coordinator
from raftlog.errors import ErrorCode
from raftlog.machine.host import Host
from raftlog.machine.result import Result
from raftlog.protocol import raft as r
from raftlog.protocol.records import ProduceRequest
from raftlog.simulator.supervisors import Supervisors
from raftlog.storage.log import PartitionLog
from raftlog.storage.replica_state import ReplicaState
from raftlog.storage.witness_log import WitnessLog
from raftlog.types import NO_VOTERS, Doubt, Flush

Patch = tuple[object, str, Any]


def _truncate_without_comparing() -> list[Patch]:
    """G1: everything behind prev_index is cut and written again, as stock pysyncobj does."""

    def truncate(self: Seat, index: int) -> None:
        self.log.truncate_from(index)

    return [(RecordCopy, "_is_present", lambda self, index, term: False), (Seat, "truncate", truncate)]


def _commit_uncapped() -> list[Patch]:
    """G2: the leader's commit index is believed beyond what its message showed."""

    def commit(self: Follower, leader_commit_index: int, last_shown_index: int) -> None:
        seat = self._seat
        seat.commit_index = max(seat.commit_index, min(leader_commit_index, seat.log.last_index))

    return [(Follower, "_commit_up_to", commit)]


def _any_answer_counts() -> list[Patch]:
    """G3: answers carry neither term nor sequence."""
    take = RaftMember._on_append_response

    def respond(self: RaftMember, m: r.AppendResponse, now_s: float) -> None:
        if self.is_leader:
            m.term = self.term
            m.match_index = min(m.match_index, self.log.last_index)
        take(self, m, now_s)

    return [(RaftMember, "_on_append_response", respond)]


def _no_flow_control() -> list[Patch]:
    """G4: no window, what is in flight is sent again, each refusal starts over."""

    def refuse(self: Progress, sequence: int, hint_index: int, last_index: int, now_s: float, following: int) -> bool:
        self.next_index = max(1, min(hint_index, last_index + 1))
        self.mode = Mode.REPLICATE
        return True

    def sent(self: Progress, sequence: int, last_index: int, size_bytes: int, now_s: float) -> None:
        self.next_index = last_index + 1

    def succeed(self: Progress, sequence: int, match_index: int, now_s: float, following: int) -> None:
        self.replied_s = now_s
        self.mode = Mode.REPLICATE
        self.match_index = max(self.match_index, match_index)
        self.next_index = match_index + 1

    return [
        (Progress, "may_send", lambda self, now_s: True),
        (Progress, "on_refusal", refuse),
        (Progress, "note_sent", sent),
        (Progress, "on_success", succeed),
        (Progress, "on_time", lambda self, now_s, following: None),
    ]


def _nothing_synced() -> list[Patch]:
    """G5: what was written counts as durable."""
    opened = PartitionLog.open.__func__  # type: ignore[attr-defined]

    def open_log(cls: Any, /, **options: Any) -> PartitionLog:
        log: PartitionLog = opened(cls, **{**options, "flush": Flush.OS})
        return log

    return [(PartitionLog, "open", classmethod(open_log))]


def _vote_forgotten() -> list[Patch]:
    """G6: term and vote are kept in memory only."""
    opened = PartitionLog.open.__func__  # type: ignore[attr-defined]

    def open_log(cls: Any, /, **options: Any) -> PartitionLog:
        log: PartitionLog = opened(cls, **options)
        log.state.values.term, log.state.values.voted_for = max(log.last_term, 0), -1
        return log

    return [(PartitionLog, "open", classmethod(open_log))]


def _every_vote_counts() -> list[Patch]:
    """G7: doubtful votes make majorities."""

    def count(self: VoterSet, votes: dict[int, Vote], last_index: int) -> Outcome:
        return Outcome.MAJORITY if self.is_majority(votes) else Outcome.OPEN

    return [(VoterSet, "outcome", count)]


def _lost_tail_hidden() -> list[Patch]:
    """G8: a shorter log is taken as it is."""
    opened = PartitionLog.open.__func__  # type: ignore[attr-defined]

    def open_log(cls: Any, /, **options: Any) -> PartitionLog:
        log: PartitionLog = opened(cls, **options)
        log.state.set_doubt(Doubt.NONE, "")
        return log

    return [(PartitionLog, "open", classmethod(open_log))]


def _no_prevote() -> list[Patch]:
    """G11: whoever loses patience stands at once, and a healthy leader does not protect its followers."""

    ask = RaftMember._start_prevote

    def stand(self: RaftMember, now_s: float) -> None:
        if isinstance(self.log, WitnessLog):
            ask(self, now_s)  # never stands, with the guard or without
        elif not self._seat.rejoin.mute:
            self._elections.expire()

    return [(RaftMember, "_start_prevote", stand), (RaftMember, "_leader_is_alive", lambda self, now_s: False)]


def _told_when_proposed() -> list[Patch]:
    """H1: the host of a state machine answers before its records are committed and applied."""
    append = Host._append

    def told_at_once(self: Host, results: list[Result], now_ms: int) -> None:
        for result in results:
            self._tell(result, ErrorCode.NONE, self._now())
        append(self, [result._replace(caller=None, then=None) for result in results], now_ms)

    return [(Host, "_append", told_at_once)]


def _statements_unconfirmed() -> list[Patch]:
    """H2: a machine says what it knows, and no majority has said that its replica leads still.

    A leader that hears no majority does not step down either: each of the two would do in nearly all of the runs.
    """
    return [
        (Coordinator, "is_statement", lambda self, response: False),
        (Leader, "hears_majority", lambda self, now_s, within_s: True),
    ]


# Kafka's messages are imported by those who take something out of its door: no other story needs them.
def _acknowledged_by_the_leader_alone() -> list[Patch]:
    """K1: Kafka's door answers a produce BEFORE its worker would with acks=all."""
    from raftlog.kafka.handlers import produce

    return [(produce, "ProduceRequest", lambda acks, timeout_ms: ProduceRequest(1, timeout_ms))]


def _answers_as_they_come() -> list[Patch]:
    """K2: answers leave Kafka's door in any order."""
    from raftlog.kafka.connection import Connection

    def take(self: Connection) -> list[Any]:
        ready = [slot for slot in self._slots if slot.buffers is not None]
        for slot in ready:
            self._slots.remove(slot)
        return [buffer for slot in ready for buffer in slot.buffers or ()]

    return [(Connection, "take", take)]


def _another_high_watermark() -> list[Patch]:
    """K3: Kafka's door tells a high watermark that is not its worker's."""
    from raftlog.kafka.handlers import fetch

    as_read = fetch._as_read

    def beyond(*told: Any) -> fetch.Read:
        read = as_read(*told)
        return read._replace(high_watermark=read.high_watermark + 1)

    return [(fetch, "_as_read", beyond)]


def _nothing_remembered() -> list[Patch]:
    """V1: who has lost a configuration with its tail forgets its members."""
    return [(ReplicaState, "remembered", property(lambda self: NO_VOTERS))]


def _only_voters_vote() -> list[Patch]:
    """V2: a member that is no voter, as far as it knows, does not vote."""
    on_vote, on_prevote = RaftMember._on_vote_request, RaftMember._on_prevote_request

    def vote(self: RaftMember, m: r.VoteRequest, now_s: float) -> None:
        if self.node_id in self.voters.ids:
            on_vote(self, m, now_s)

    def prevote(self: RaftMember, m: r.PreVoteRequest, now_s: float) -> None:
        if self.node_id in self.voters.ids:
            on_prevote(self, m, now_s)

    return [(RaftMember, "_on_vote_request", vote), (RaftMember, "_on_prevote_request", prevote)]


def _ended_at_once() -> list[Patch]:
    """V3: J is followed by C whether the new replicas are in sync or not."""
    return [(Change, "_keeps_up", lambda self, node_id: True)]


def _learner_without_doubt() -> list[Patch]:
    """V4: who is told to be a learner has nothing to doubt any more."""
    hear = Rejoin.hear_learner

    def told(self: Rejoin) -> None:
        hear(self)
        self._by_all, self._until_index = True, 0

    def is_over(self: Rejoin, leader_term: int, synced_index: int, match_index: int, commit_index: int) -> bool:
        return not self.mute and self._leader_term == leader_term

    return [(Rejoin, "hear_learner", told), (Rejoin, "is_over", is_over)]


def _begun_at_once() -> list[Patch]:
    """V5: a change begins whether the new replicas hold what was acknowledged or not."""
    return [
        (Change, "_why_not_new", lambda self, half, present, now_s: None),
        (Change, "_why_too_few", lambda self, halves, holders, now_s, in_sync_min: None),
    ]


def _founders_stand() -> list[Patch]:
    """V6: who stands counts by the voters with which the group was founded."""

    def outcome(self: Ballot, *, loss_accepted: bool) -> Outcome:
        return self._seat._founded.outcome(self._votes, self._seat.log.last_index)

    return [
        (RaftMember, "voters", property(lambda self: self._seat._founded)),
        (Ballot, "asked", property(lambda self: self._seat._founded.asked(self._votes))),
        (Ballot, "outcome", outcome),
    ]


def _asleep_by_majority() -> list[Patch]:
    """S1: a leader sleeps though one member has not agreed."""
    agreed = property(lambda self: bool(self.round) and len(self._unanswered) <= 1)
    return [(Hibernation, "is_agreed", agreed)]


def _silence_wakes_nobody() -> list[Patch]:
    """S2: news of nodes and processes leave sleepers asleep."""

    def set_peer(self: RaftMember, node_id: int, boot_id: int, now_s: float) -> None:
        if self.is_asleep:
            self._links.boots[node_id] = boot_id
        else:
            take(self, node_id, boot_id, now_s)

    take = RaftMember.set_peer
    return [(Hibernation, "set_silent", lambda self, nodes: frozenset()), (RaftMember, "set_peer", set_peer)]


def _sleeps_on_when_asked() -> list[Patch]:
    """S3: a sleeper that is asked for its vote answers, and sleeps on."""
    stir_for = RaftMember._stir_for

    def stir(self: RaftMember, m: r.RaftMessage, now_s: float) -> None:
        if not (self.is_asleep and isinstance(m, r.PreVoteRequest | r.VoteRequest)):
            stir_for(self, m, now_s)

    return [(RaftMember, "_stir_for", stir)]


def _stands_when_woken() -> list[Patch]:
    """S4: whoever wakes takes its leader, which it has not heard for long, for gone."""
    wake = RaftMember._wake

    def wake_and_stand(self: RaftMember, now_s: float, *, tells: bool) -> None:
        wake(self, now_s, tells=tells)
        if not self.is_leader:
            self._heard_leader_s = float("-inf")
            self._elections.hasten(now_s - limits.LEADER_GONE_S)

    return [(RaftMember, "_wake", wake_and_stand)]


def _leads_when_woken() -> list[Patch]:
    """S5: a leader that slept leads on, without a word of anybody."""
    return [(Leader, "is_waking", property(lambda self: False))]


def _time_goes_on() -> list[Patch]:
    """S6: the time that a group slept counts."""
    return [
        (Hibernation, "group_s", lambda self, now_s: now_s),
        (Hibernation, "clock_s", lambda self, group_s: group_s),
    ]


def _no_word_asked() -> list[Patch]:
    """S7: no supervisor looks after its sleeping workers."""
    return [(Supervisors, "_look_after", lambda self, machine: None)]


GUARDS: dict[str, Callable[[], list[Patch]]] = {
    "G1": _truncate_without_comparing,
    "G2": _commit_uncapped,
    "G3": _any_answer_counts,
    "G4": _no_flow_control,
    "G5": _nothing_synced,
    "G6": _vote_forgotten,
    "G7": _every_vote_counts,
    "G8": _lost_tail_hidden,
    "G11": _no_prevote,
    "H1": _told_when_proposed,
    "H2": _statements_unconfirmed,
    "V1": _nothing_remembered,
    "V2": _only_voters_vote,
    "V3": _ended_at_once,
    "V4": _learner_without_doubt,
    "V5": _begun_at_once,
    "V6": _founders_stand,
    "S1": _asleep_by_majority,
    "S2": _silence_wakes_nobody,
    "S3": _sleeps_on_when_asked,
    "S4": _stands_when_woken,
    "S5": _leads_when_woken,
    "S6": _time_goes_on,
    "S7": _no_word_asked,
    "K1": _acknowledged_by_the_leader_alone,
    "K2": _answers_as_they_come,
    "K3": _another_high_watermark,
}


@contextmanager
def without(guard: str) -> Iterator[None]:
    """Run a block with one guard off, or `all` of them. The empty string leaves all on."""
    names = list(GUARDS) if guard == "all" else [guard] if guard else []
    with ExitStack() as stack:
        for name in names:
            for target, attribute, replacement in GUARDS[name]():
                stack.enter_context(mock.patch.object(target, attribute, replacement))
        yield
