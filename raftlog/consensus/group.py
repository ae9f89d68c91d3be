"""One member of a Raft group: replication and the commit rule, around pysyncobj's elections.

The caller's turn gives the order (docs/durability.md):

    receive()…  ->  tick()  ->  [append as leader]  ->  replicate()  ->  log.persist()  ->  after_persist()

What is sent by `replicate` (AppendEntries) may leave BEFORE the local sync, since the leader counts itself only up to
its synced index. Everything that claims durability (votes, success replies, any message in a new term) is held
back and leaves from `after_persist` only (G5). No clock, socket or file is reached for; the log is the disk.

Guards G1 to G11 are named where they stand; docs/architecture.md lists them with what each one prevents.
"""

from __future__ import annotations

from raftlog import limits
from raftlog.consensus.leading import Leading
from raftlog.consensus.member import Payload, Send
from raftlog.consensus.progress import Progress
from raftlog.protocol import raft as r
from raftlog.types import Doubt, Role

__all__ = ["Payload", "RaftGroup", "Send"]


class RaftGroup(Leading):
    """The member `node_id` of the group of `replicas` and `witnesses`. Raises StorageError from the log only."""

    def next_wakeup_s(self) -> float:
        """When `tick` is due even if nothing arrives."""
        if self.is_leader:
            if not self._others or self._in_sync is None:
                return float("inf")
            in_sync_due_s = self._in_sync.due_s(self._progress)
            return min(self._elections.heartbeat_s, in_sync_due_s, self._feed.next_due_s)
        return self._elections.deadline_s

    def is_settled(self, now_s: float) -> bool:
        """Everything here is durable and committed, nothing is held back, and no timer is due."""
        log = self.log
        return (
            not self._held
            and self.commit_index == log.last_index == log.synced_index
            and log.doubt is Doubt.NONE
            and not log.is_state_dirty
            and now_s < self.next_wakeup_s()
            and not (self._alone_at_start and not self.is_leader)
            and all(progress.match_index == log.last_index for progress in self._progress.values())
        )

    def set_peer(self, node_id: int, boot_id: int, now_s: float) -> None:
        """The boot id of another replica's process; 0: it is gone. A new boot may have lost what was unsynced."""
        if self._boots.get(node_id) == boot_id or node_id not in self._boots:
            return
        self._boots[node_id] = boot_id
        if self._is_founder:
            self._elections.hasten(now_s)
        if boot_id == 0 and node_id == self.leader_id:
            # Its supervisor, or a broken connection, says so: no need to sit the time-out out.
            self._heard_leader_s = -1e9
            self._elections.hasten(now_s)
        if self._in_sync is not None:
            self._progress[node_id] = Progress(self.log.last_index + 1, now_s, first_sequence=self._sequence + 1)
            self._in_sync.leave(node_id)

    def receive(self, message: r.RaftMessage, payload: Payload | None, now_s: float) -> None:
        """Take one message of another replica. Anything not from its current boot to ours is dropped."""
        sender = message.sender_id
        if message.addressee_boot_id != self._boot_id or self._boots.get(sender) != message.sender_boot_id:
            return
        if message.sender_boot_id == 0:
            return
        adopted = self._rejoin.hear(sender, message.term)
        if adopted is not None and adopted >= self.term:
            # The vote of that term may have been given before the disk was lost: it counts as spent.
            self._adopt_term(adopted, self.node_id, now_s)
        match message:
            case r.AppendEntries():
                self._on_append(message, payload or b"", now_s)
            case r.AppendResponse():
                self._on_append_response(message, now_s)
            case r.PreVoteRequest():
                self._on_prevote_request(message, now_s)
            case r.PreVoteResponse():
                self._on_prevote_response(message, now_s)
            case r.VoteRequest():
                self._on_vote_request(message, now_s)
            case r.VoteResponse():
                self._on_vote_response(message, now_s)
            case r.ResetRequest():
                self._on_reset(message, payload or b"", now_s)
            case r.TimeoutNow():
                self._on_timeout_now(message)

    def tick(self, now_s: float) -> None:
        """Timers: ask for prevotes, stand for election, step down without a majority, owe a heartbeat."""
        if self._rejoin.mute and now_s - self._asked_terms_s >= limits.HEARTBEAT_S:
            self._asked_terms_s = now_s
            self._ask_prevotes(0)
        deadline_s = self._elections.deadline_s
        if not self.is_leader and deadline_s > 0.0 and (now_s >= deadline_s or self._alone_at_start):
            self._alone_at_start = False
            self._start_prevote(now_s)
        if self.is_leader:
            self._yield_to_all_votes(now_s)
        was = self.role
        if self._elections.tick(now_s, self.commit_index):
            self._stand(now_s)
        if was is Role.LEADER and not self.is_leader:
            self._elections.postpone(now_s)
            self._lose_leadership()

    def after_persist(self, now_s: float) -> None:
        """All that was appended, and term and vote, are durable: count, commit, and let go what was held."""
        if self.is_leader:
            self._advance_commit()
            self._advance_acked(now_s)
            if self.witnesses:
                self._feed_witnesses(now_s)
        self.log.note_commit(self.commit_index)
        self._end_doubt()
        held, self._held = self._held, []
        for node_id, message in held:
            if self._boots[node_id]:
                self._send_now(node_id, self._renewed(message), None)

    def _renewed(self, message: r.RaftMessage) -> r.RaftMessage:
        """An AppendResponse says the doubt as it is now, not as it was before this turn's sync."""
        if isinstance(message, r.AppendResponse):
            message.doubt = self.log.doubt
        return message
