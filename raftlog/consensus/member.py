"""What a member of a Raft group is, whatever its role: log, term, the others, and what it holds back.

A message that claims something durable (a vote, a success reply, anything in a new term) is held until the turn's sync
is over (G5). No clock, socket or file is reached for; the log is the disk.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from raftlog.consensus.doubt import Rejoin
from raftlog.consensus.elections import Elections
from raftlog.consensus.feeding import WitnessFeed
from raftlog.consensus.in_sync import InSync
from raftlog.consensus.progress import Progress
from raftlog.consensus.votes import Vote
from raftlog.protocol import raft as r
from raftlog.storage.log import PartitionLog
from raftlog.types import ReplicaSpec, Role

Payload = bytes | bytearray | memoryview
Send = Callable[[int, r.RaftMessage, Payload | None], None]
NOBODY = -1


class Member:
    def __init__(
        self,
        *,
        node_id: int,
        boot_id: int,
        spec: ReplicaSpec,
        log: PartitionLog,
        rng: random.Random,
        send: Send,
        now_s: float,
    ) -> None:
        self.replicas = spec.replicas  # with records; the preferred leader first
        self.witnesses = spec.witnesses
        self.voters = spec.voters
        assert node_id in self.voters
        self.node_id = node_id
        self.log = log
        self._boot_id = boot_id
        self._topic_id = spec.topic_id
        self._partition = spec.partition
        self._send_now = send
        self._others = tuple(other for other in self.voters if other != node_id)
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
        self._held_index = 0  # as follower: up to where the leader has said that every replica holds the log
        self._copied = (0, 0)  # as follower: (term, purged index) of the leader that an empty log is filled by
        self._heard_leader_s = -1e9
        self._progress: dict[int, Progress] = {}
        self._in_sync: InSync | None = None
        self._feed = WitnessFeed(0)  # as leader
        self.acked_index = 0  # as leader: what acks=all may be answered for
        self._sequence = 0
        self._confirm = False
        self._heard_sequence: tuple[int, int] = (0, 0)  # (leader's term, newest reset taken)
        self._asked_term = 0
        self._prevotes: dict[int, Vote] = {}
        self._votes: dict[int, Vote] = {}
        self._held: list[tuple[int, r.RaftMessage]] = []
        self._asked_terms_s = -1e9
        self._transferred = False
        self._blocked_since_s = now_s
        self._blocked_match = 0
        self._loss_accepted_until_s = 0.0
        self._verified_s = -1e9  # when this leader last read again what a follower could not read
        self._alone_at_start = not self._others  # nobody to wait for: the first tick may stand

    @property
    def role(self) -> Role:
        return self._elections.role

    @property
    def is_leader(self) -> bool:
        return self._elections.is_leader

    @property
    def term(self) -> int:
        return self.log.term

    def _lose_leadership(self) -> None:
        self.leader_id = -1
        self._progress = {}
        self._in_sync = None
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

    def _answer(
        self,
        node_id: int,
        sequence: int,
        *,
        success: bool,
        match_index: int = 0,
        hint_index: int = 0,
        damaged: bool = False,
    ) -> None:
        log = self.log
        self._hold(
            node_id, r.AppendResponse, sequence, success, match_index, hint_index, log.doubt, damaged,
            log.log_start_offset,
        )  # fmt: skip

    def _hold(self, node_id: int, kind: Callable[..., r.RaftMessage], *fields: Any) -> None:
        """A message that claims something durable: it leaves after the sync."""
        boot_id = self._boots.get(node_id, 0)
        if boot_id:
            head = (self._topic_id, self._partition, self.node_id, self._boot_id, boot_id, self.term)
            self._held.append((node_id, kind(*head, *fields)))
