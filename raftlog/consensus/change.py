"""A change of the voters, as one leadership carries it out: whom it feeds besides the voters, and when it goes on.

    C ── asked for ──► J (old half, new half) ──► C (new half)
    │                         └─────────────────► C (old half): called off, or the new replicas do not keep up
    └── called off before that ─────────────────► C (the same half): who asks for J still expects another one

J and C are entries of the log. A member counts by the newest one that its log has, committed or not, so all that is
decided here is when a leader may append one. Whoever leads once J is committed goes on from it, without being asked.

    learner   fed, and counted nowhere; a member of the new half is one first
    voter     of the newest configuration, in either half
    leaving   out by the newest configuration, and not told so yet

Nothing here reaches for a clock, socket or file; the log is the disk.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable

from raftlog import limits
from raftlog.clock import LONG_AGO_S, NEVER_S
from raftlog.consensus.configuration import check_halves
from raftlog.consensus.in_sync import InSync
from raftlog.consensus.progress import Progress
from raftlog.consensus.seat import Seat
from raftlog.consensus.voters import VoterSet
from raftlog.errors import CorruptMessageError, DiskFullError
from raftlog.storage.log import PartitionLog
from raftlog.storage.state import EpochStart
from raftlog.types import NO_VOTERS, Doubt, Half


class WhyNot(enum.Enum):
    """A change of the voters was not begun."""

    NOT_READY = "this leader has committed no entry of its own term yet; ask again"
    UNCOMMITTED = "the newest configuration is not committed yet; ask again"
    JOINT = "a change is under way; wait for it or call it off"
    OTHER = "the configuration is not the one that was expected; look at it, then ask again"
    HANDING_OVER = "the leadership is moving; ask the next leader"
    DOUBTFUL = "this leader doubts its own log; ask again once it does not"
    SAME = "these are the voters already"
    MALFORMED = "no group can have these voters: a half needs a replica, and names a node once, as one kind"
    NO_LEARNER = "a new member is not fed as a learner; name it as one first"
    LEARNER_DOUBTS = "a new member does not answer, or doubts its log; ask again once it does and does not"
    LEARNER_BEHIND = "a new replica does not hold the log's end; ask again once it does"
    WITNESS_UNFED = "a new witness does not hold what witnesses hold; ask again once it does"
    NO_MAJORITY = "in one of the halves no majority without doubt answers; start its members first"
    TOO_FEW = "fewer of the new replicas are in sync than min_insync_replicas; ask again once they are"
    NO_ROOM = "the leader's disk has no room"


class Change:
    """What one leadership knows of a change, and the table of progress that follows the configurations."""

    def __init__(
        self,
        seat: Seat,
        log: PartitionLog,
        progress: dict[int, Progress],
        in_sync: InSync,
        epoch_index: int,
    ) -> None:
        """`progress` is the leader's table: it gets learners here, and those who leave stay in it for a while."""
        self._seat = seat
        self._log = log
        self._progress = progress
        self._in_sync = in_sync
        self._epoch_index = epoch_index
        self._halves = log.halves  # of the configuration that the table follows
        self.learners = NO_VOTERS
        self.heard_since: dict[int, int] = {}
        """By learner: what is answered from this sequence number on was asked since its process is known."""
        self.witnesses: frozenset[int] = frozenset(seat.voters.witnesses)
        """Everyone in the table who is sent no records."""
        self.leaving: set[int] = set()
        self.successors: tuple[int, ...] = ()
        """In-sync replicas that have to lead before the change can end, since this leader would be left out."""
        self.given_up: dict[int, str] = {}  # learners that are fed no more, and why
        self._moved: dict[int, tuple[int, float]] = {}  # by learner: how far it has come, and when
        self._called_off = False
        self._committed_s = NEVER_S  # when the newest configuration was first seen to be committed
        self._bytes_per_s = limits.LEARNER_BYTES_PER_S
        self._fed_until_s = 0.0  # what learners were sent takes until then at the rate that they may have
        self._held_back = False

    # --- what others ask -------------------------------------------------------------------
    @property
    def newest(self) -> EpochStart | None:
        """The newest configuration, committed or not; None: the group is as it was founded."""
        return self._log.configuration_at(self._log.last_index)

    @property
    def is_committed(self) -> bool:
        """The newest configuration is, and this leader has committed an entry of its own term under it."""
        newest, commit_index = self.newest, self._seat.commit_index
        return commit_index >= self._epoch_index and (newest is None or newest.index <= commit_index)

    @property
    def under_way(self) -> bool:
        return len(self._halves) == 2 or bool(self.leaving)

    @property
    def is_at_rest(self) -> bool:
        """Nobody comes, nobody goes, and the newest configuration is committed."""
        return not self.under_way and not self.learners.ids and self.is_committed

    def is_told_of(self, node_id: int) -> bool:
        """Whether a member may be sent entries. One that leaves: only what ends with a committed C.

        Before, it may be the last one who holds what was committed, and it would not stand any more.
        """
        return node_id not in self.leaving or self.is_committed

    # --- learners --------------------------------------------------------------------------
    def learn(self, learners: Half, now_s: float, bytes_per_s: int = 0) -> None:
        """The learners of the plan, instead of those before. Voters are none, nor who leaves and may not know it."""
        before, self._bytes_per_s = self._bytes_per_s, bytes_per_s or limits.LEARNER_BYTES_PER_S
        self._fed_until_s = now_s + max(0.0, self._fed_until_s - now_s) * before / self._bytes_per_s
        voters = self._seat.voters.ids
        fed = [
            tuple(node_id for node_id in ids if node_id not in voters and self.is_told_of(node_id))
            for ids in (learners.replicas, learners.witnesses)
        ]
        for node_id in self.learners.ids:
            if node_id not in (*fed[0], *fed[1]):
                self._forget(node_id)
        self.learners = Half(*fed)
        for node_id in self.learners.ids:
            self.leaving.discard(node_id)
            self.given_up.pop(node_id, None)
            if node_id not in self._moved:
                self._progress[node_id] = self._new_progress(now_s)
                self._moved[node_id] = 0, now_s
                self.on_peer(node_id)
        self._note_witnesses()

    def on_peer(self, node_id: int) -> None:
        """Another process of it."""
        if node_id in self._moved:
            self.heard_since[node_id] = self._seat.links.sequence + 1

    def may_feed(self, node_id: int, now_s: float) -> bool:
        """Learners share a bounded rate; voters have none."""
        if node_id not in self._moved or now_s >= self._fed_until_s:
            return True
        self._held_back = True
        return False

    def note_fed(self, node_id: int, size_bytes: int, now_s: float) -> None:
        if node_id in self._moved:
            self._fed_until_s = max(self._fed_until_s, now_s) + size_bytes / self._bytes_per_s

    def due_s(self) -> float:
        """When a learner that was held back may be sent more."""
        return self._fed_until_s if self._held_back else NEVER_S

    # --- a change --------------------------------------------------------------------------
    def begin(
        self,
        half: Half,
        expected: tuple[int, int],
        now_s: float,
        *,
        told_index: int,
        handing_over: bool,
        in_sync_min: int,
    ) -> WhyNot | None:
        """Append J, from the present half to `half`; durable when this returns None. Else why it was not done.

        `expected`: (term, index) of the configuration that the asker has seen, (0, 0): as the group was founded.
        Who holds the log up to `told_index` is a member of the ISR at once; `in_sync_min` of the new half have to be.
        """
        why = self._why_not_now(expected, handing_over=handing_over)
        if why is not None:
            return why
        [present] = self._seat.voters.halves
        if half == present:
            return WhyNot.SAME
        halves = (present, half)
        try:
            check_halves(halves)
        except CorruptMessageError:
            return WhyNot.MALFORMED
        told_index = max(told_index, self._epoch_index)
        holders = [n for n in self.learners.replicas if self._progress[n].match_index >= told_index]
        why = self._why_not_new(half, present, now_s) or self._why_too_few(halves, holders, now_s, in_sync_min)
        return why or self._append(halves, now_s, holders)

    def _why_not_now(self, expected: tuple[int, int], *, handing_over: bool) -> WhyNot | None:
        """Whether this leader may append a configuration that nothing has asked of it so far."""
        newest = self.newest
        if self._seat.commit_index < self._epoch_index:
            return WhyNot.NOT_READY
        if expected != (0, 0) if newest is None else (newest.term, newest.index) != expected:
            return WhyNot.OTHER
        if len(self._halves) == 2:
            return WhyNot.JOINT
        if not self.is_committed:
            return WhyNot.UNCOMMITTED
        if handing_over:
            return WhyNot.HANDING_OVER
        return WhyNot.DOUBTFUL if self._log.state.doubt is not Doubt.NONE else None

    def _why_not_new(self, half: Half, present: Half, now_s: float) -> WhyNot | None:
        """Whether those who come are ready for it."""
        added = [node_id for node_id in half.replicas if node_id not in present.replicas]
        added_witnesses = [node_id for node_id in half.witnesses if node_id not in present.witnesses]
        known, known_witnesses = self.learners.replicas, self.learners.witnesses
        if set(added) - set(known) or set(added_witnesses) - set(known_witnesses):
            return WhyNot.NO_LEARNER
        for node_id in (*added, *added_witnesses):
            if not self._is_there(node_id, now_s):
                return WhyNot.LEARNER_DOUBTS
        if any(now_s - self._progress[node_id].caught_up_s >= limits.IN_SYNC_JOIN_S for node_id in added):
            return WhyNot.LEARNER_BEHIND
        if any(self._progress[node_id].match_index < self._epoch_index for node_id in added_witnesses):
            return WhyNot.WITNESS_UNFED
        return None

    def _why_too_few(
        self, halves: tuple[Half, Half], holders: Iterable[int], now_s: float, in_sync_min: int
    ) -> WhyNot | None:
        """Whether both halves work, and acks=all goes on."""
        sure = [node_id for node_id in self._progress if self._is_there(node_id, now_s)]
        if not VoterSet(*halves).is_majority([self._seat.node_id, *sure]):
            return WhyNot.NO_MAJORITY
        known = {*self._in_sync.members, *holders}
        return WhyNot.TOO_FEW if sum(n in known for n in halves[1].replicas) < in_sync_min else None

    def _is_there(self, node_id: int, now_s: float) -> bool:
        """It has answered this leader lately, and without doubt."""
        p = self._progress[node_id]
        heard = p.was_heard and now_s - p.replied_s < limits.ELECTION_TIMEOUT_MIN_S
        return heard and p.doubt is Doubt.NONE and self._seat.links.boots[node_id] != 0

    def call_off(self, expected: tuple[int, int], now_s: float, *, handing_over: bool) -> WhyNot | None:
        """Go back to the old half. Nothing to do once C is appended; the next leader has to be told again.

        Before J: C with the half that there is, in place of the one that is `expected`. Whoever heard of the plan and
        not yet of its end asks for J with what it expects, and is refused by every leader from then on.
        """
        if len(self._halves) == 2:
            self._called_off = True
            return None
        why = self._why_not_now(expected, handing_over=handing_over)
        if why is not None:
            return why
        self.learn(NO_VOTERS, now_s)
        return self._append(self._seat.voters.halves, now_s)

    def advance(self, now_s: float, *, handing_over: bool) -> None:
        """Each turn, BEFORE entries leave: learners that do not come on go, who was told leaves, J is followed by C."""
        self._held_back = False
        if self._log.halves is not self._halves:
            self._follow(now_s)
        if self.learners.ids:
            self._give_up_stalled(now_s)
        if not self.under_way:
            return
        if not self.is_committed:
            self._committed_s = NEVER_S
            return
        self._committed_s = min(self._committed_s, now_s)
        if self.leaving:
            self._let_go(now_s)
        if len(self._halves) == 2:
            self._end(now_s, handing_over=handing_over)

    def _end(self, now_s: float, *, handing_over: bool) -> None:
        """C by a leader that has committed an entry of its own term under J, and that is of the half which stays.

        Without an entry of its own term an uncommitted C of an older leader could come back, and meet this one.
        """
        half = self._remaining(now_s)
        self.successors = ()
        if half is None or handing_over:
            return
        if self._seat.node_id in half.replicas:
            self._append((half,), now_s)
        else:
            self.successors = tuple(n for n in self._in_sync.members if n in half.replicas)

    def _remaining(self, now_s: float) -> Half | None:
        """The half that stays; None: this is open."""
        old, new = self._halves
        added = [node_id for node_id in new.replicas if node_id not in old.replicas]
        if not self._called_off and all(self._keeps_up(node_id) for node_id in added):
            return new
        return old if self._called_off or now_s - self._committed_s >= limits.JOINT_S else None

    def _keeps_up(self, node_id: int) -> bool:
        """It is in sync, and that is more than the benefit of the doubt with which a leadership begins.

        Else witnesses, which hold what the old replicas hold, could be ahead of all replicas that are left.
        """
        if node_id == self._seat.node_id:
            return True
        newest = self.newest
        assert newest is not None
        holds = self._progress[node_id].match_index >= max(self._epoch_index, newest.index)
        return holds and node_id in self._in_sync.members

    def _append(self, halves: tuple[Half, ...], now_s: float, holders: Collection[int] = ()) -> WhyNot | None:
        try:
            self._log.append_configuration(halves)  # durable, with all in front of it, BEFORE it is sent or counted by
        except DiskFullError:
            return WhyNot.NO_ROOM
        self._follow(now_s, holders)
        return None

    # --- the table -------------------------------------------------------------------------
    def _follow(self, now_s: float, holders: Collection[int] = ()) -> None:
        """The newest configuration is another one. `holders`: see InSync.follow."""
        self._halves = self._log.halves
        voters = self._seat.voters
        self._called_off, self._committed_s, self.successors = False, NEVER_S, ()
        for node_id in self._seat.others:
            if node_id not in self._progress:
                self._progress[node_id] = self._new_progress(now_s)
        self.learners = Half(
            tuple(node_id for node_id in self.learners.replicas if node_id not in voters.ids),
            tuple(node_id for node_id in self.learners.witnesses if node_id not in voters.ids),
        )
        self._moved = {node_id: self._moved[node_id] for node_id in self.learners.ids}
        self.heard_since = {node_id: self.heard_since[node_id] for node_id in self.learners.ids}
        self.leaving = set(self._progress) - {*voters.ids, *self.learners.ids}
        followers = [node_id for node_id in voters.replicas if node_id != self._seat.node_id]
        self._in_sync.follow(followers, holders)
        self._note_witnesses()

    def _note_witnesses(self) -> None:
        leaving = self.witnesses & self.leaving
        self.witnesses = leaving | {*self._seat.voters.witnesses, *self.learners.witnesses}

    def _give_up_stalled(self, now_s: float) -> None:
        for node_id in self.learners.ids:
            match_index, at_s = self._moved[node_id]
            reached = self._progress[node_id].match_index
            if reached > match_index or reached >= self._log.last_index:
                self._moved[node_id] = reached, now_s
            elif now_s - at_s >= limits.LEARNER_STALLED_S:
                self.learn(_without(self.learners, node_id), now_s)
                self.given_up[node_id] = f"it has not come on for {limits.LEARNER_STALLED_S:.0f} s, at index {reached}"

    def _let_go(self, now_s: float) -> None:
        """C is committed: who is out hears of it, as far as it can be reached for a while."""
        newest = self.newest
        for node_id in list(self.leaving):
            told = newest is not None and self._progress[node_id].match_index >= newest.index
            late = now_s - self._committed_s >= limits.LEAVING_S
            if told or late or not self._seat.links.boots[node_id]:
                self.leaving.discard(node_id)
                del self._progress[node_id]
        self._note_witnesses()

    def _forget(self, node_id: int) -> None:
        for table in (self._progress, self._moved, self.heard_since):
            table.pop(node_id, None)

    def _new_progress(self, now_s: float) -> Progress:
        sequence = self._seat.links.sequence + 1
        return Progress(self._log.last_index + 1, now_s, caught_up_s=LONG_AGO_S, first_sequence=sequence)


def _without(half: Half, gone: int) -> Half:
    def kept(ids: Iterable[int]) -> tuple[int, ...]:
        return tuple(node_id for node_id in ids if node_id != gone)

    return Half(kept(half.replicas), kept(half.witnesses))
