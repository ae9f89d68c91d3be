"""One member of a Raft group: replication and the commit rule, around pysyncobj's elections.

The caller's turn gives the order (docs/durability.md):

    receive()…  ->  tick()  ->  [append as leader]  ->  replicate()  ->  log.persist()  ->  after_persist()

What is sent by `replicate` (AppendEntries) may leave BEFORE the local sync, since the leader counts itself only up to
its synced index. Everything that claims durability (votes, success replies, any message in a new term) is held
back and leaves from `after_persist` only (G5). No clock, socket or file is reached for; the log is the disk.

Guards G1 to G11 are named where they stand; docs/architecture.md lists them with what each one prevents.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from raftlog import limits
from raftlog.consensus.doubt import Rejoin
from raftlog.consensus.elections import Elections
from raftlog.consensus.progress import Mode, Progress
from raftlog.consensus.votes import Outcome, Vote, majority, outcome
from raftlog.errors import CorruptLogError, CorruptMessageError, DiskFullError
from raftlog.protocol import raft as r
from raftlog.record.batch import BatchHeader, check_crc, split
from raftlog.storage.log import PartitionLog
from raftlog.types import Doubt, Role

Payload = bytes | bytearray | memoryview
Send = Callable[[int, r.RaftMessage, Payload | None], None]
_NOBODY = -1


class RaftGroup:
    """The member `node_id` of the group of `replicas`, over `log`. Raises StorageError from the log only."""

    def __init__(
        self,
        *,
        node_id: int,
        boot_id: int,
        replicas: tuple[int, ...],
        topic_id: bytes,
        partition: int,
        log: PartitionLog,
        rng: random.Random,
        send: Send,
        now_s: float,
    ) -> None:
        assert node_id in replicas
        self.node_id = node_id
        self.replicas = replicas
        self.log = log
        self._boot_id = boot_id
        self._topic_id = topic_id
        self._partition = partition
        self._send_now = send
        self._others = tuple(other for other in replicas if other != node_id)
        self._boots: dict[int, int] = dict.fromkeys(self._others, 0)
        self._elections = Elections(node_id, self._others, log, rng, now_s)
        # The bound was written as min(committed, synced), so whatever of it is here is committed.
        self.commit_index = max(min(log.commit_bound, log.last_index), log.horizon_index - 1)
        self.leader_id = -1
        self.epoch_index = 0  # the no-op of this replica's own leadership
        self.refused_batches = 0  # batches from a leader that failed their checksum here
        self._all_votes_index = 0
        self._rejoin = Rejoin(self._others, log.doubt)
        self._match_index = 0  # as follower: up to where this log is known to equal the leader's
        self._heard_leader_s = -1e9
        self._progress: dict[int, Progress] = {}
        self._sequence = 0
        self._heard_sequence: tuple[int, int] = (0, 0)  # (leader's term, newest reset taken)
        self._asked_term = 0
        self._prevotes: dict[int, Vote] = {}
        self._votes: dict[int, Vote] = {}
        self._held: list[tuple[int, r.RaftMessage]] = []
        self._asked_terms_s = -1e9
        self._transferred = False
        self._blocked_since_s = now_s

    # --- what the rest of raftlog asks --------------------------------------------------------
    @property
    def role(self) -> Role:
        return self._elections.role

    @property
    def is_leader(self) -> bool:
        return self._elections.is_leader

    @property
    def term(self) -> int:
        return self.log.term

    @property
    def leader_ready(self) -> bool:
        """This leader's own no-op is committed, so its commit index is not older than any before it."""
        return self.is_leader and self.commit_index >= self.epoch_index

    def match_of(self, node_id: int) -> Progress | None:
        """As leader: what is known of a follower."""
        return self._progress.get(node_id)

    def next_wakeup_s(self) -> float:
        """When `tick` is due even if nothing arrives."""
        if self.is_leader:
            return self._elections.heartbeat_s
        return self._elections.deadline_s

    # --- input -------------------------------------------------------------------------------
    def set_peer(self, node_id: int, boot_id: int, now_s: float) -> None:
        """The boot id of another replica's process; 0: it is gone. A new boot may have lost what was unsynced."""
        if self._boots.get(node_id) == boot_id or node_id not in self._boots:
            return
        self._boots[node_id] = boot_id
        if self.is_leader:
            self._progress[node_id] = Progress(self.log.last_index + 1, now_s)

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
                self._on_reset(message, now_s)
            case r.TimeoutNow():
                self._on_timeout_now(message)

    def transfer_to(self, node_id: int) -> bool:
        """Ask a follower that holds the whole log to stand at once. The caller has paused appends."""
        progress = self._progress.get(node_id)
        ready = progress is not None and progress.doubt is Doubt.NONE
        if not ready or progress.match_index != self.log.last_index or not self._boots[node_id]:  # type: ignore[union-attr]
            return False
        self._hold(node_id, r.TimeoutNow)
        return True

    def delete_head(self, log_start_offset: int) -> None:
        """Let whole segments below an offset go, never what is not committed here."""
        try:
            self.log.delete_head(min(log_start_offset, self.log.offset_after(self.commit_index)))
        except DiskFullError:
            return  # even deleting writes `state`; the next heartbeat asks again

    # --- decide ------------------------------------------------------------------------------
    def tick(self, now_s: float) -> None:
        """Timers: ask for prevotes, stand for election, step down without a majority, owe a heartbeat."""
        if self._rejoin.mute and now_s - self._asked_terms_s >= limits.HEARTBEAT_S:
            self._asked_terms_s = now_s
            self._ask_prevotes(0)
        if not self.is_leader and 0.0 < self._elections.deadline_s <= now_s:
            self._start_prevote(now_s)
        if self.is_leader:
            self._yield_to_all_votes(now_s)
        was = self.role
        if self._elections.tick(now_s, self.commit_index):
            self._stand(now_s)
        if was is Role.LEADER and not self.is_leader:
            self._elections.postpone(now_s)
            self._lose_leadership()

    def replicate(self, now_s: float) -> None:
        """As leader: send what each follower's window allows, and heartbeats when due."""
        heartbeat = self._elections.take_heartbeat()
        if not self.is_leader:
            return
        for node_id in self._others:
            if not self._boots[node_id]:
                continue
            progress = self._progress[node_id]
            progress.on_time(now_s, self._sequence + 1)
            if progress.mode is Mode.PROBE:
                if progress.may_send(now_s):
                    self._send_append(node_id, progress, now_s, with_entries=False)
                continue
            sent = False
            while progress.next_index <= self.log.last_index and progress.may_send(now_s):
                if not self._send_append(node_id, progress, now_s, with_entries=True):
                    break
                sent = True
            if heartbeat and not sent:
                self._send_append(node_id, progress, now_s, with_entries=False)

    # --- after the sync ------------------------------------------------------------------------
    def after_persist(self, now_s: float) -> None:
        """All that was appended, and term and vote, are durable: count, commit, and let go what was held."""
        if self.is_leader:
            self._advance_commit()
        self.log.note_commit(self.commit_index)
        self._end_doubt()
        held, self._held = self._held, []
        for node_id, message in held:
            if self._boots[node_id]:
                self._send_now(node_id, self._renewed(message), None)

    def _renewed(self, message: r.RaftMessage) -> r.RaftMessage:
        """An AppendResponse says the doubt as it is now, not as it was before this turn's sync."""
        if isinstance(message, r.AppendResponse):
            message.doubt = int(self.log.doubt)
        return message

    # --- elections -----------------------------------------------------------------------------
    def _start_prevote(self, now_s: float) -> None:
        """G11: ask whether an election could be won before disturbing anybody with a new term."""
        self._elections.postpone(now_s)
        if self._rejoin.mute:
            return
        self.leader_id = -1
        self._asked_term = self.term + 1
        self._prevotes = {self.node_id: self._own_vote()}
        self._ask_prevotes(self._asked_term)
        self._count_prevotes()

    def _ask_prevotes(self, asked_term: int) -> None:
        for other in self._others:
            self._hold(other, r.PreVoteRequest, asked_term, self.log.last_index, self.log.last_term)

    def _count_prevotes(self) -> None:
        if outcome(self._prevotes, self.replicas, self.log.last_index) in (Outcome.MAJORITY, Outcome.ALL):
            self._elections.expire()

    def _stand(self, now_s: float) -> None:
        """pysyncobj has just begun a new term with a vote for ourselves."""
        self.leader_id = -1
        self._prevotes = {}
        self._asked_term = 0
        self._votes = {self.node_id: self._own_vote()}
        self._rejoin.on_vote(self.term)
        transfer, self._transferred = self._transferred, False
        for other in self._others:
            self._hold(other, r.VoteRequest, self.log.last_index, self.log.last_term, transfer)
        self._count_votes(now_s)

    def _count_votes(self, now_s: float) -> None:
        result = outcome(self._votes, self.replicas, self.log.last_index)
        if result in (Outcome.MAJORITY, Outcome.ALL):
            self._lead(result is Outcome.ALL, now_s)

    def _lead(self, by_all: bool, now_s: float) -> None:
        if by_all and self.log.doubt is not Doubt.NONE:
            self.log.set_doubt(Doubt.NONE, "")
        try:
            # Syncs the batches before it, THEN `state` with term, vote and this epoch start. BEFORE any batch of it.
            self.epoch_index = self.log.append_epoch_start(self.term)
        except DiskFullError:
            self._follow_nobody(now_s)  # the vote stands; somebody with room may win the next term
            return
        self._elections.become_leader(now_s)
        self._blocked_since_s = now_s
        self.leader_id = self.node_id
        self._all_votes_index = self.epoch_index if by_all else 0
        self._rejoin.on_append(self.term, self.epoch_index, self._all_votes_index)
        self._progress = {other: Progress(self.epoch_index, now_s) for other in self._others}

    def _lose_leadership(self) -> None:
        self.leader_id = -1
        self._progress = {}
        self._match_index = 0

    def _follow_nobody(self, now_s: float) -> None:
        was_leader = self.is_leader
        self._elections.become_follower(now_s)
        if was_leader:
            self._elections.postpone(now_s)
            self._lose_leadership()
        self.leader_id = -1

    def _adopt_term(self, term: int, voted_for: int, now_s: float) -> None:
        self._follow_nobody(now_s)
        self._elections.adopt_term(term, voted_for, now_s)
        self._match_index = 0
        self._votes = {}

    def _yield_to_all_votes(self, now_s: float) -> None:
        """With a majority in doubt nothing can commit, and so no doubt can end: only an election by all helps.

        A leader that reaches every replica and has been blocked like this for a while steps down for one.
        """
        sure = sum(p.doubt is Doubt.NONE for p in self._progress.values()) + (self.log.doubt is Doubt.NONE)
        reachable = all(now_s - p.replied_s < limits.ELECTION_TIMEOUT_MIN_S for p in self._progress.values())
        if sure >= majority(len(self.replicas)) or not reachable or self.commit_index >= self.log.last_index:
            self._blocked_since_s = now_s
        elif now_s - self._blocked_since_s >= limits.ELECTION_TIMEOUT_MAX_S:
            self._follow_nobody(now_s)

    def _own_vote(self) -> Vote:
        return Vote(self.log.doubt, self.log.commit_bound)

    def _candidate_is_current(self, last_term: int, last_index: int) -> bool:
        return (last_term, last_index) >= (self.log.last_term, self.log.last_index)

    def _leader_is_alive(self, now_s: float) -> bool:
        """G11, stickiness: a leader was heard within the shortest time-out, or is this replica itself."""
        if self.is_leader:
            heard = sum(now_s - p.replied_s < limits.ELECTION_TIMEOUT_MIN_S for p in self._progress.values())
            return heard + 1 >= majority(len(self.replicas))
        return now_s - self._heard_leader_s < limits.ELECTION_TIMEOUT_MIN_S

    def _on_prevote_request(self, m: r.PreVoteRequest, now_s: float) -> None:
        granted = (
            m.asked_term > self.term
            and not self._rejoin.mute
            and not self._leader_is_alive(now_s)
            and self._candidate_is_current(m.last_term, m.last_index)
        )
        vote = self._own_vote()
        self._hold(m.sender_id, r.PreVoteResponse, m.asked_term, granted, int(vote.doubt), vote.bound)

    def _on_prevote_response(self, m: r.PreVoteResponse, now_s: float) -> None:
        if m.term > self.term and not self._rejoin.mute:
            self._adopt_term(m.term, _NOBODY, now_s)
        elif m.granted and m.asked_term == self._asked_term == self.term + 1 and not self.is_leader:
            self._prevotes[m.sender_id] = Vote(Doubt(m.doubt), m.bound)
            self._count_prevotes()

    def _on_vote_request(self, m: r.VoteRequest, now_s: float) -> None:
        if self._rejoin.mute or (self._leader_is_alive(now_s) and not m.transfer and m.term > self.term):
            return
        if m.term > self.term:
            self._adopt_term(m.term, _NOBODY, now_s)
        granted = (
            m.term == self.term
            and self.role is Role.FOLLOWER
            and self.log.voted_for in (_NOBODY, m.sender_id)
            and self._candidate_is_current(m.last_term, m.last_index)
        )
        vote = self._own_vote()
        if granted:
            self._rejoin.on_vote(m.term)
            self._elections.adopt_term(m.term, m.sender_id, now_s)
            self._elections.postpone(now_s)
        self._hold(m.sender_id, r.VoteResponse, granted, int(vote.doubt), vote.bound)

    def _on_vote_response(self, m: r.VoteResponse, now_s: float) -> None:
        if m.term > self.term:
            self._adopt_term(m.term, _NOBODY, now_s)
        elif m.granted and m.term == self.term and self.role is Role.CANDIDATE:
            self._votes[m.sender_id] = Vote(Doubt(m.doubt), m.bound)
            self._count_votes(now_s)

    def _on_timeout_now(self, m: r.TimeoutNow) -> None:
        if m.term == self.term and m.sender_id == self.leader_id and not self._rejoin.mute:
            self._transferred = True
            self._elections.expire()

    # --- leader ----------------------------------------------------------------------------------
    def _send_append(self, node_id: int, progress: Progress, now_s: float, *, with_entries: bool) -> bool:
        """One AppendEntries. False when nothing left (the follower is behind the horizon: a reset went instead)."""
        log = self.log
        prev_index = progress.next_index - 1
        if prev_index < log.horizon_index - 1:
            self._send_reset(node_id, progress, now_s)
            return False
        prev_term = log.term_at(prev_index)
        assert prev_term is not None
        count, epoch_starts, payload = 0, [], None
        if with_entries:
            entries = log.read_entries(progress.next_index, limits.APPEND_MESSAGE_BYTES)
            count, epoch_starts, payload = entries.count, entries.epoch_starts, entries.payload
        self._sequence += 1
        message = r.AppendEntries(
            self._topic_id, self._partition, self.node_id, self._boot_id, self._boots[node_id], self.term,
            self._sequence, prev_index, prev_term, self.commit_index, count, epoch_starts,
            log.log_start_offset, log.last_index, self._all_votes_index,
        )  # fmt: skip
        size_bytes = len(payload) if payload is not None else 0
        progress.note_sent(self._sequence, prev_index + count, size_bytes, now_s)
        self._send_now(node_id, message, payload)
        return True

    def _send_reset(self, node_id: int, progress: Progress, now_s: float) -> None:
        log = self.log
        self._sequence += 1
        if progress.mode is Mode.REPLICATE:
            progress.probe_from(progress.next_index, self._sequence)
        message = r.ResetRequest(
            self._topic_id, self._partition, self.node_id, self._boot_id, self._boots[node_id], self.term,
            self._sequence, log.horizon_index, log.horizon_prev_term, log.offset_after(log.horizon_index - 1),
        )  # fmt: skip
        progress.note_sent(self._sequence, 0, 0, now_s)
        self._send_now(node_id, message, None)

    def _on_append_response(self, m: r.AppendResponse, now_s: float) -> None:
        if m.term > self.term:
            self._adopt_term(m.term, _NOBODY, now_s)
            return
        if not self.is_leader or m.term < self.term:
            return  # G3: an answer to another term's message
        progress = self._progress[m.sender_id]
        progress.doubt = Doubt(m.doubt)
        self._elections.note_response(m.sender_id, now_s)
        if m.success:
            if m.match_index > self.log.last_index:
                raise CorruptLogError(
                    f"replica {m.sender_id} holds index {m.match_index} of term {m.term}, beyond its leader's end"
                )
            progress.on_success(m.sequence, m.match_index, now_s, self._sequence + 1)
            if progress.match_index >= self.commit_index:
                progress.caught_up_s = now_s
        else:
            progress.on_refusal(m.sequence, m.hint_index, self.log.last_index, now_s, self._sequence + 1)

    def _advance_commit(self) -> None:
        """G5: the highest index of this term that a majority holds durably, ourselves up to the synced index."""
        held = [p.match_index for p in self._progress.values() if p.doubt is Doubt.NONE]
        if self.log.doubt is Doubt.NONE:
            held.append(self.log.synced_index)
        needed = majority(len(self.replicas))
        if len(held) < needed:
            return
        held.sort(reverse=True)
        index = held[needed - 1]
        if index > self.commit_index and self.log.term_at(index) == self.term:
            self.commit_index = index

    # --- follower ----------------------------------------------------------------------------------
    def _accept_leader(self, sender: int, term: int, now_s: float) -> None:
        assert not (self.is_leader and term == self.term), "two leaders in one term"
        if term > self.term:
            # The vote of a term whose leader is known can only have gone to it.
            self._adopt_term(term, sender, now_s)
        elif self.role is not Role.FOLLOWER:
            self._follow_nobody(now_s)
        self.leader_id = sender
        self._asked_term = 0
        self._transferred = False
        self._heard_leader_s = now_s
        self._elections.postpone(now_s)

    def _on_append(self, m: r.AppendEntries, payload: Payload, now_s: float) -> None:
        if m.term < self.term:
            self._answer(m.sender_id, m.sequence, success=False)  # G3: it carries our term
            return
        self._accept_leader(m.sender_id, m.term, now_s)
        self._rejoin.on_append(m.term, m.last_index, m.all_votes_index)
        log = self.log
        if m.prev_index > log.last_index:
            self._answer(m.sender_id, m.sequence, success=False, hint_index=log.last_index + 1)
            return
        # Below the horizon everything is committed, hence equal on all replicas.
        if m.prev_index >= log.horizon_index - 1 and log.term_at(m.prev_index) != m.prev_term:
            hint = log.first_index_of_term(m.prev_index)
            self._answer(m.sender_id, m.sequence, success=False, hint_index=max(hint, self.commit_index + 1))
            return
        if m.entries:
            try:
                self._store(m, payload)
            except (CorruptMessageError, DiskFullError) as error:
                # Not answered: the leader's window runs out and it comes again. A full disk shows in the status.
                if isinstance(error, CorruptMessageError):
                    self.refused_batches += 1
                return
        last_new = m.prev_index + m.entries
        self._match_index = max(self._match_index, last_new)
        self._commit_up_to(m.commit_index, last_new)
        if m.log_start_offset > log.log_start_offset:
            self.delete_head(m.log_start_offset)
        self._answer(m.sender_id, m.sequence, success=True, match_index=last_new)

    def _commit_up_to(self, leader_commit_index: int, last_shown_index: int) -> None:
        """G2: never beyond what this message showed to be equal to the leader's log."""
        self.commit_index = max(self.commit_index, min(leader_commit_index, last_shown_index))

    def _store(self, m: r.AppendEntries, payload: Payload) -> None:
        """G1: what is here already is skipped; only a conflict truncates; the rest is appended."""
        headers = _checked(payload, m.entries - len(m.epoch_starts))
        index, batch = m.prev_index + 1, 0
        end = m.prev_index + m.entries + 1
        starts = dict(m.epoch_starts)
        while index < end:
            term = starts[index] if index in starts else headers[batch][1].leader_epoch
            if not self._is_present(index, term):
                break
            batch += index not in starts
            index += 1
        if index == end:
            return
        if index <= self.log.last_index:
            self._truncate(index)
        while index < end:
            if index in starts:
                assert starts[index] <= m.term
                self.log.append_epoch_start(starts[index])
                index += 1
                continue
            stop = min((start for start in starts if start > index), default=end)
            group = headers[batch : batch + stop - index]
            first = group[0][0]
            last_position, last_header = group[-1]
            self.log.append_as_follower(
                index,
                memoryview(payload)[first : last_position + last_header.batch_bytes],
                [header for _, header in group],
            )
            batch += stop - index
            index = stop

    def _is_present(self, index: int, term: int) -> bool:
        if index > self.log.last_index:
            return False
        return index < self.log.horizon_index or self.log.term_at(index) == term

    def _truncate(self, index: int) -> None:
        if index <= self.commit_index:
            raise CorruptLogError(
                f"the leader of term {self.term} contradicts the committed entry {index} "
                f"(committed up to {self.commit_index}); nothing was cut"
            )
        self.log.truncate_from(index)

    def _on_reset(self, m: r.ResetRequest, now_s: float) -> None:
        if m.term < self.term:
            self._answer(m.sender_id, m.sequence, success=False)
            return
        self._accept_leader(m.sender_id, m.term, now_s)
        if (m.term, m.sequence) <= self._heard_sequence:
            return  # G3: a reset older than the last one taken
        self._heard_sequence = (m.term, m.sequence)
        log = self.log
        last_kept = m.horizon_index - 1
        if last_kept >= log.horizon_index - 1 and log.term_at(last_kept) == m.prev_term:
            self._answer(m.sender_id, m.sequence, success=True, match_index=last_kept)
            return
        if last_kept <= max(self.commit_index, log.commit_bound) and log.doubt is Doubt.NONE:
            raise CorruptLogError(
                f"the leader of term {m.term} asks to start over at index {m.horizon_index}, "
                f"which contradicts what is committed here (up to {self.commit_index})"
            )
        log.reset_to(m.horizon_index, m.prev_term, m.base_offset)
        self._match_index = last_kept
        self._commit_up_to(last_kept, last_kept)
        self._answer(m.sender_id, m.sequence, success=True, match_index=last_kept)

    def _end_doubt(self) -> None:
        log = self.log
        if log.doubt is Doubt.NONE:
            return
        match_index = self.epoch_index if self.is_leader else self._match_index
        if self._rejoin.is_over(self.term, log.synced_index, match_index, self.commit_index):
            log.set_doubt(Doubt.NONE, "")
            log.persist()  # BEFORE the first acknowledgement that counts

    # --- sending -------------------------------------------------------------------------------------
    def _answer(
        self, node_id: int, sequence: int, *, success: bool, match_index: int = 0, hint_index: int = 0
    ) -> None:
        self._hold(node_id, r.AppendResponse, sequence, success, match_index, hint_index, int(self.log.doubt))

    def _hold(self, node_id: int, kind: Callable[..., r.RaftMessage], *fields: Any) -> None:
        """A message that claims something durable: it leaves after the sync."""
        boot_id = self._boots.get(node_id, 0)
        if boot_id:
            head = (self._topic_id, self._partition, self.node_id, self._boot_id, boot_id, self.term)
            self._held.append((node_id, kind(*head, *fields)))


def _checked(payload: Payload, expected: int) -> list[tuple[int, BatchHeader]]:
    """The batches of an AppendEntries. A follower checks each CRC BEFORE it appends."""
    batches = list(split(payload))
    if len(batches) != expected:
        raise CorruptMessageError(f"{len(batches)} batches where {expected} were announced")
    for position, header in batches:
        if not check_crc(payload, position, header):
            raise CorruptMessageError(f"the batch at offset {header.base_offset} does not match its checksum")
    return batches
