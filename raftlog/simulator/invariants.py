"""What must hold after every step, whatever the faults. A breach raises Broken with the kind that is counted.

The simulator sees everything, so it keeps the one true history: which entry was committed at which index, and which
record was acknowledged at which offset. Entries are known by (term, checksum, base offset) and the numbers of their
producer; on a witness by term alone. Where a log is compacted (`Invariants.compacted`), checksums change, and of an
entry of which nothing is left only the term is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftlog.consensus.voters import VoterSet
from raftlog.protocol import raft as r
from raftlog.record.batch import BatchHeader, split
from raftlog.record.compacted import entries_of, is_filler
from raftlog.storage.witness_log import WitnessLog
from raftlog.types import Doubt, Half

if TYPE_CHECKING:
    from raftlog.consensus.member import RaftMember
    from raftlog.simulator.machine import Machine
    from raftlog.storage.log import PartitionLog

    Log = PartitionLog | WitnessLog

_NO_OP = -1
_NOTHING_LEFT = -2
_UNNUMBERED = (-1, -1, -1, 0)
Numbers = tuple[int, int, int, int]  # producer id, producer epoch, base sequence, offsets
Identity = tuple[int, int, int, Numbers]


class Broken(Exception):
    """An invariant does not hold. `kind` is one of lost, diverged, stuck, two_leaders."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind


def entries_between(log: PartitionLog, first_index: int, end_index: int) -> list[Identity]:
    """The identities of entries [first_index, end_index) as the log would send them."""
    found: list[Identity] = []
    index = first_index
    while index < end_index:
        entries = log.read_entries(index, 1 << 20)
        starts = dict(entries.epoch_starts)
        batches = split(entries.payload or b"")
        at = entries.first_index
        while at < entries.first_index + entries.count:
            if at in starts:
                identity, count = (starts[at], _NO_OP, _NO_OP, _UNNUMBERED), 1
            else:
                header = next(batches)[1]
                identity, count = _identity(header), entries_of(header)
            found.extend([identity] * (at + count - max(at, index)))
            at += count
        index = at
    return found[: end_index - first_index]


def _identity(header: BatchHeader) -> Identity:
    if is_filler(header):
        return header.leader_epoch, _NOTHING_LEFT, _NOTHING_LEFT, _UNNUMBERED
    return header.leader_epoch, header.crc, header.base_offset, (*header[9:12], header.last_offset_delta + 1)


def _may_be_compacted(one: Identity, other: Identity) -> bool:
    """Whether both may be the same entry, one of them compacted, or both."""
    if one[0] != other[0] or _NO_OP in (one[2], other[2]):
        return False
    return _NOTHING_LEFT in (one[2], other[2]) or one[2:] == other[2:]


class Invariants:
    def __init__(self, nodes: list[int], founders: list[int]) -> None:
        self._nodes = nodes
        self.compacted = False  # the topic is
        self._founded = VoterSet(Half(tuple(founders)))
        self._counted: dict[int, tuple[VoterSet, ...]] = {}  # base offset -> whose majority its leader counted
        self.committed: dict[int, Identity] = {}
        self.commit_index = 1
        self.index_at: dict[int, int] = {}  # base offset -> Raft index, of committed batches
        self.leaders: dict[int, int] = {}  # term -> node
        self.checked: dict[int, int] = dict.fromkeys(nodes, 1)  # commit index compared since its last start
        self.held: dict[int, int] = dict.fromkeys(nodes, 1)  # committed and synced here at some time
        self.durable: dict[int, tuple[int, list[tuple[int, int]]]] = dict.fromkeys(nodes, (1, []))
        self.horizons: dict[int, int] = dict.fromkeys(nodes, 2)
        self.damaged: set[int] = set()  # disks that lost synced bytes and are not whole again
        # Of these, where flipped bits still are: (path, position, the wrong byte).
        self.latent: dict[int, list[tuple[str, int, int | None]]] = {}
        self.numbered: dict[int, tuple[int, int]] = {}  # producer id -> epoch and the sequence that is due
        self.configurations: dict[int, tuple[Half, ...]] = {}  # index -> those that are committed
        self.watermarks: dict[int, int] = {}  # leader epoch -> highest watermark served
        self.committed_end = 0  # the offset behind the last committed batch
        self._missed = False  # an entry of which nothing was left when it was first looked at
        self._answered: list[tuple[int, int, tuple[int, ...]]] = []

    # --- after every turn ----------------------------------------------------------------------
    def after_turn(self, machine: Machine) -> None:
        replica = machine.replica
        assert replica is not None
        node_id, member, log = machine.node_id, replica.member, machine.log
        if replica.is_leader:
            self._check_leader(node_id, member.term, log)
        if self._is_latent(machine):
            self._note_durable(node_id, log)
            return
        self.note_commits(machine)
        if member.commit_index < self.checked[node_id]:
            raise Broken("lost", f"the commit index of node {node_id} went back to {member.commit_index}")
        if node_id not in self.damaged:
            self.held[node_id] = max(self.held[node_id], min(member.commit_index, log.state.synced_index))
        elif log.state.doubt is Doubt.NONE and member.commit_index >= self.held[node_id]:
            self.damaged.discard(node_id)
        self._note_durable(node_id, log)
        self._judge_answers()

    def note_commits(self, machine: Machine) -> None:
        """Once more before a turn's housekeeping, which may delete what was committed in it."""
        replica = machine.replica
        if replica is None or machine.node_id in self.latent:
            return  # it is being made, or its log is not looked at
        node_id, committed = machine.node_id, replica.member.commit_index
        if committed > self.checked[node_id]:
            self._check_committed(node_id, machine.log, self.checked[node_id] + 1, committed + 1)
            self._check_configuration(node_id, machine.log, committed)
            self.checked[node_id] = committed

    def _is_latent(self, machine: Machine) -> bool:
        """Whether the log has a wrong byte that nobody has found yet: then it is not looked at."""
        places = self.latent.pop(machine.node_id, [])
        left = [place for place in places if machine.disk.byte_at(*place[:2]) == place[2]]
        if left:
            self.latent[machine.node_id] = left
        return bool(left)

    def _note_durable(self, node_id: int, log: Log) -> None:
        state = log.state
        synced = (log.term_at(state.synced_index) or 0, state.synced_index)
        if node_id in self.damaged and synced < self.durable_end(node_id):
            return  # what it held when its disk was damaged counts: acknowledgements may come later (seed 901243)
        # The terms of what is synced, by epoch start from the horizon on; what stood in front of it was committed.
        starts = [(start.term, start.index) for start in log.epoch_starts]
        epochs = [(state.horizon_prev_term, state.horizon_index - 1), *starts]
        self.durable[node_id] = (state.synced_index, epochs)
        self.horizons[node_id] = state.horizon_index

    def before_crash(self, machine: Machine) -> None:
        """A turn that a fail point ended may have committed and answered before."""
        replica = machine.replica
        assert replica is not None
        self._note_durable(machine.node_id, machine.log)  # a follower may have answered in this turn
        if replica.member.commit_index > self.checked[machine.node_id] and replica.is_leader:
            self.after_turn(machine)

    def _check_leader(self, node_id: int, term: int, log: Log) -> None:
        known = self.leaders.setdefault(term, node_id)
        if known != node_id:
            raise Broken("two_leaders", f"nodes {known} and {node_id} both lead term {term}")
        # A deposed leader that does not know it yet leads an older term; it need not hold what came after.
        if term == max(self.leaders):
            self._check_holds(node_id, log, self.commit_index, f"was elected in term {term}")

    def _check_holds(self, node_id: int, log: Log, index: int, what: str) -> None:
        if index <= 1:
            return
        if log.last_index < index:
            raise Broken("lost", f"node {node_id} {what} and ends at {log.last_index}, before committed {index}")
        known = self.committed.get(index)  # None: only a leader whose log is not looked at has told a witness of it
        if known is not None and index >= log.state.horizon_index and log.term_at(index) != known[0]:
            raise Broken("lost", f"node {node_id} {what} and holds another entry at committed index {index}")

    def _check_committed(self, node_id: int, log: Log, first: int, end: int) -> None:
        first = max(first, log.state.horizon_index)
        if isinstance(log, WitnessLog):
            for index in range(first, end):
                self._check_holds(node_id, log, index, "is a witness")
            return
        for index, identity in enumerate(entries_between(log, first, end), first):
            if index not in self.committed:
                self._missed = self._missed or identity[2] == _NOTHING_LEFT
                self._check_once(index, identity[3])
            known = self.committed.setdefault(index, identity)
            self.index_at.setdefault(identity[2], index)
            self.committed_end = max(self.committed_end, identity[2] + identity[3][3])
            if known != identity and not (self.compacted and _may_be_compacted(known, identity)):
                raise Broken("diverged", f"node {node_id} committed {identity} at index {index}, others {known}")
        self.commit_index = max(self.commit_index, end - 1)

    def _check_configuration(self, node_id: int, log: Log, committed: int) -> None:
        """Whoever has committed so far knows the newest configuration up to there, in front of its horizon too."""
        held = log.configuration_at(committed)
        if held is not None:
            self.configurations.setdefault(held.index, held.halves)
        newest = max((index for index in self.configurations if index <= committed), default=None)
        if (held.index if held is not None else None) != newest:
            raise Broken("diverged", f"node {node_id} has committed {committed} and {held}, others one at {newest}")
        if held is not None and held.halves != self.configurations[held.index]:
            raise Broken("diverged", f"node {node_id} committed {held}, others {self.configurations[held.index]}")

    def _check_once(self, index: int, numbers: Numbers) -> None:
        """Each producer's sequences, without a gap and none twice, in the order of the log."""
        producer_id, epoch, sequence, records = numbers
        if producer_id < 0 or self._missed:
            return
        last_epoch, due = self.numbered.get(producer_id, (-1, 0))
        if (epoch, sequence) != (last_epoch, due) and not (epoch > last_epoch and sequence == 0):
            raise Broken(
                "diverged",
                f"producer {producer_id}: sequence {sequence} of epoch {epoch} is committed at index {index}, "
                f"where {due} of epoch {last_epoch} was due",
            )
        self.numbered[producer_id] = (epoch, sequence + records)

    # --- at a start ------------------------------------------------------------------------------
    def after_start(self, machine: Machine) -> None:
        """An undamaged disk has everything that was committed and synced on it."""
        node_id, log = machine.node_id, machine.log
        self._is_latent(machine)
        self.checked[node_id] = max(log.state.horizon_index - 1, 1)
        held = self.held[node_id]
        if node_id in self.damaged or held <= 1:
            if node_id in self.damaged and log.state.doubt is Doubt.NONE:
                self._check_holds(node_id, log, held, "lost synced bytes, does not doubt itself,")
            return
        self._check_holds(node_id, log, held, "restarted with an undamaged disk")
        self._check_committed(node_id, log, 2, held + 1)

    def forget(self, node_id: int) -> None:
        """Its directory was taken away on purpose: it has promised nothing any more."""
        self.held[node_id] = self.checked[node_id] = 1
        self.durable[node_id], self.horizons[node_id] = (1, []), 2
        self.damaged.discard(node_id)
        self.latent.pop(node_id, None)

    # --- messages and answers --------------------------------------------------------------------
    def on_message(self, machine: Machine, message: r.RaftMessage) -> None:
        """A granted vote that is not doubtful comes from a log with all that this replica promised."""
        if isinstance(message, r.VoteResponse) and message.granted and message.doubt is Doubt.NONE:
            self._check_holds(machine.node_id, machine.log, self.held[machine.node_id], "voted without doubt")

    def on_acknowledged(self, base_offset: int) -> None:
        """acks=all: the entry is committed, and durable on a majority at this moment."""
        index = self.index_at.get(base_offset)
        if index is None and self.damaged:
            return  # its leader's log may be one that is not looked at; the record is judged at the end
        if index is None:
            raise Broken("lost", f"offset {base_offset} was acknowledged and is not committed anywhere")
        holders = [node_id for node_id in self._nodes if self._holds(node_id, index)]
        counted = self._counted.get(base_offset, (self._founded,))
        if not any(voters.is_majority(holders) for voters in counted):
            raise Broken("lost", f"index {index} was acknowledged with durable copies on {holders} only")

    def note_answer(self, leader_id: int, base_offset: int, member: RaftMember) -> None:
        """acks=all leaves in this turn, at whose end it is judged."""
        self._answered.append((leader_id, base_offset, member.in_sync))
        if member.log.halves and base_offset not in self._counted:
            # It was committed by the newest configuration, or by one before, down to the one in front of it.
            index = self.index_at.get(base_offset)
            before = member.log.configuration_at(index) if index is not None else None
            earlier = VoterSet(*before.halves) if before is not None else self._founded
            self._counted[base_offset] = member.voters, earlier

    def _judge_answers(self) -> None:
        """Every in-sync replica whose disk is whole held the entry when its leader answered."""
        answered, self._answered = self._answered, []
        for leader_id, base_offset, in_sync in answered:
            index = self.index_at.get(base_offset)
            if index is None and leader_id in self.damaged:
                continue
            for node_id in in_sync:
                if node_id not in self.damaged and (index is None or not self._holds(node_id, index)):
                    raise Broken(
                        "lost", f"node {leader_id} answered acks=all for {index}; {node_id}, in sync, lacks it"
                    )

    def _holds(self, node_id: int, index: int) -> bool:
        """Entry `index` as it is committed is durable there, or was, until retention deleted it."""
        if index < self.horizons[node_id]:
            return True
        synced_index, starts = self.durable[node_id]
        if starts and index < starts[0][1]:
            return True  # in front of the horizon: it was committed there, and taken by retention
        term = max((term for term, start in starts if start <= index), default=-1)
        return synced_index >= index and term == self.committed[index][0]

    def durable_end(self, node_id: int) -> tuple[int, int]:
        """(term, index) of the last entry that is durable there."""
        synced_index, starts = self.durable[node_id]
        return max((term for term, start in starts if start <= synced_index), default=-1), synced_index

    def on_bound(self, high_watermark: int) -> None:
        """A client is told that all in front of it is committed."""
        if high_watermark > self.committed_end and not self.damaged:
            raise Broken("lost", f"the high watermark {high_watermark} is told, {self.committed_end} is committed")

    def on_watermark(self, leader_epoch: int, high_watermark: int) -> None:
        """Within an epoch and from epoch to epoch, what clients see never goes back."""
        seen = max((mark for epoch, mark in self.watermarks.items() if epoch <= leader_epoch), default=0)
        if high_watermark < seen:
            raise Broken("lost", f"epoch {leader_epoch} served high watermark {high_watermark} after {seen}")
        self.watermarks[leader_epoch] = high_watermark
