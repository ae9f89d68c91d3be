"""What a member of a Raft group keeps while its role changes.

No clock, socket or file is reached for; the log is the disk.
"""

from __future__ import annotations

from raftlog.consensus.doubt import Rejoin
from raftlog.consensus.links import Links
from raftlog.consensus.voters import Vote, VoterSet
from raftlog.errors import CorruptLogError, DiskFullError
from raftlog.storage.log import PartitionLog
from raftlog.storage.witness_log import WitnessLog
from raftlog.types import NO_VOTERS, Doubt, Half

Log = PartitionLog | WitnessLog


class Seat:
    """The place of one process in its group: who it is, its log, how far that is committed, and its links.

    `founded`: who votes as long as the log has no configuration. Nobody does where an empty log replaces one of a group
    that has changed since: what the replica remembers then is whom the metadata names.
    """

    def __init__(self, node_id: int, founded: VoterSet, log: Log, links: Links) -> None:
        self.node_id = node_id
        self._founded = self._voters = founded
        self._halves: tuple[Half, ...] = ()  # whose voters `_voters` are; empty: the founded ones
        self.log = log
        self.links = links
        remembered = log.state.remembered.ids
        if remembered and log.last_index == 1:
            self._founded = self._voters = VoterSet(NO_VOTERS)  # the group has changed since, and may be without it
        known = remembered or self.voters.ids
        self.rejoin = Rejoin([other for other in known if other != node_id], log.state.doubt, strange=not known)
        # The bound was written as min(committed, synced), so whatever of it is here is committed.
        self.commit_index = max(min(log.state.commit_bound, log.last_index), log.state.horizon_index - 1)

    @property
    def voters(self) -> VoterSet:
        """Of the newest configuration of the log, committed or not (Ongaro, section 4.1)."""
        halves = self.log.halves
        if halves is not self._halves:
            self._halves = halves
            self._voters = VoterSet(*halves) if halves else self._founded
        return self._voters

    @property
    def others(self) -> tuple[int, ...]:
        return tuple(other for other in self.voters.ids if other != self.node_id)

    @property
    def vote(self) -> Vote:
        """What this member's vote says of it."""
        state = self.log.state
        return Vote(state.doubt, state.commit_bound, tuple(dict.fromkeys(self.voters.ids + state.remembered.ids)))

    @property
    def is_at_rest(self) -> bool:
        """Everything here is durable and committed."""
        log = self.log
        return (
            self.commit_index == log.last_index == log.state.synced_index
            and log.state.doubt is Doubt.NONE
            and not log.state.is_dirty
        )

    def delete_head(self, log_start_offset: int) -> None:
        """Let what lies below an offset go, never what is not committed here."""
        log = self.log
        if isinstance(log, WitnessLog):
            log.raise_log_start(log_start_offset)  # no records; but who is elected next hears of it from this witness
            return
        try:
            log.delete_head(min(log_start_offset, log.offset_after(self.commit_index)), self.commit_index)
        except DiskFullError:
            return  # even deleting writes `state`; the next heartbeat asks again

    def truncate(self, index: int) -> None:
        """A leader has other entries from `index` on."""
        self.check_not_committed(index)
        self.log.truncate_from(index)

    def check_not_committed(self, index: int) -> None:
        """The leader has another entry there. What was committed is not its to take back: never silently refused."""
        if index <= self.commit_index:
            raise CorruptLogError(
                f"the leader of term {self.log.state.term} contradicts the committed entry {index} "
                f"(committed up to {self.commit_index}); nothing was cut"
            )

    def end_doubt(self, match_index: int) -> None:
        """If it is over. `match_index`: up to where this log is known to equal the leader's."""
        log = self.log
        if log.state.doubt is Doubt.NONE or not self.rejoin.is_over(
            log.state.term, log.state.synced_index, match_index, self.commit_index
        ):
            return
        doubt, reason = log.state.doubt, log.state.doubt_reason
        log.state.set_doubt(Doubt.NONE, "")
        try:
            log.persist()  # BEFORE the first acknowledgement that counts
        except DiskFullError:
            log.state.set_doubt(doubt, reason)  # not written, so not over: the next turn tries again
