"""A witness of one partition: what its worker does in a turn. The twin of Replica, without records and clients.

    1 receive   on_raft: take what the leader sent, decide, note index and term of each entry
    2 tick      forget a leader that is silent; a witness never stands
    3 persist   `state` when it changed, once for all of the turn
    4 answer    votes and success replies leave

Nothing that claims durability leaves BEFORE step 3 is over. A client that asks here is told who leads.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

from raftlog import limits
from raftlog.clock import Clock
from raftlog.consensus.member import RaftMember
from raftlog.errors import DiskFullError, ErrorCode
from raftlog.partition.housekeeping import REST_S
from raftlog.partition.outbox import Outbox, refuse
from raftlog.partition.status import group_of
from raftlog.protocol.envelope import Request
from raftlog.protocol.raft import RaftMessage
from raftlog.storage.witness_log import WitnessLog
from raftlog.types import Buffer, ReplicaSpec, ReplicaStatus, Role


class Witness:
    """The witness `node_id` of the partition `spec`, over an open `log`."""

    is_leader = leader_ready = False
    unpacked_bytes = 0

    def __init__(
        self,
        *,
        node_id: int,
        boot_id: int,
        spec: ReplicaSpec,
        log: WitnessLog,
        clock: Clock,
        rng: random.Random,
        outbox: Outbox,
        fail_point: Callable[[str], None] = lambda name: None,
    ) -> None:
        self.spec = spec
        self.node_id = node_id
        self._log = log
        self._clock = clock
        self._outbox = outbox
        self._fail_point = fail_point
        self.member = RaftMember(
            node_id=node_id,
            boot_id=boot_id,
            spec=spec,
            log=log,
            rng=rng,
            send=outbox.send_raft,
            now_s=clock.monotonic_s(),
        )
        self._refusal = ""  # why the disk takes nothing
        self._bound_due_s = 0.0

    # --- what the worker asks ------------------------------------------------------------------
    @property
    def leader_id(self) -> int:
        return self.member.leader_id

    @property
    def leader_epoch(self) -> int:
        return self.member.term

    @property
    def is_asleep(self) -> bool:
        return self.member.is_asleep

    def set_peer(self, node_id: int, boot_id: int) -> None:
        """The current boot id of another replica's worker; 0 when it is gone."""
        self.member.set_peer(node_id, boot_id, self._clock.monotonic_s())

    def set_silent(self, nodes: Iterable[int]) -> None:
        """Nodes that the supervisor does not hear."""
        self.member.set_silent(nodes, self._clock.monotonic_s())

    def stir(self) -> None:
        """Somebody wants something of the group: if it sleeps, it wakes."""
        self.member.stir(self._clock.monotonic_s())

    def hand_over(self) -> None:
        """There is nothing to hand over."""

    def accept_loss(self) -> None:
        """Never the truth of a partition: it holds no records."""

    def stop(self) -> None:
        """A clean end: what is known becomes durable, the commit bound with it."""
        self._log.state.note_commit(self.member.commit_index)
        self._log.close()

    def next_wakeup_s(self) -> float:
        """Monotonic time at which a turn is due even without input."""
        due_s = self.member.next_wakeup_s()
        if self._refusal or self._log.state.is_bound_due:
            due_s = min(due_s, max(self._bound_due_s, self._clock.monotonic_s() + REST_S))
        return due_s

    def mark(self) -> tuple[object, ...]:
        """Equal as long as `status` would say the same."""
        log = self._log
        return (log.last_index, log.last_term, log.state.doubt, log.syncs, self._refusal, self.member.is_asleep)

    def status(self) -> ReplicaStatus:
        log, spec = self._log, self.spec
        return ReplicaStatus(
            topic=spec.topic,
            topic_id=spec.topic_id,
            partition=spec.partition,
            node_id=self.node_id,
            role=Role.WITNESS,
            leader_id=self.leader_id,
            leader_epoch=self.leader_epoch,
            doubt=log.state.doubt,
            doubt_reason=log.state.doubt_reason,
            error=self._refusal,
            fsyncs=log.syncs,
            truncations=log.state.truncations,
            corruptions=log.state.corruptions,
            cuts=log.state.cuts,
            last_index=log.last_index,
            last_term=log.last_term,
            commit_bound=log.state.commit_bound,
            group=group_of(self.member),
            asleep=self.member.is_asleep,
        )

    # --- input -----------------------------------------------------------------------------------
    def on_raft(self, message: RaftMessage, payload: Buffer | None) -> None:
        """Take a message of another replica. Raises CorruptLogError when it contradicts what is committed."""
        if message.topic_id == self.spec.topic_id and message.partition == self.spec.partition:
            self.member.receive(message, payload, self._clock.monotonic_s())

    def on_request(self, request: Request[Any]) -> None:
        """A witness serves nobody: the answer names the leader."""
        code = ErrorCode.NOT_LEADER_OR_FOLLOWER
        if request.topic_id != self.spec.topic_id:
            code = ErrorCode.INCONSISTENT_TOPIC_ID
        elif request.partition != self.spec.partition:
            code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        self.stir()
        refuse(self._outbox, request, code, leader_id=self.leader_id, leader_epoch=self.leader_epoch)

    # --- the turn ----------------------------------------------------------------------------------
    def turn(self) -> None:
        """Steps 2 to 4. Raises StorageError when this worker must end."""
        now_s = self._clock.monotonic_s()
        self._fail_point("turn: received")
        self.member.tick(now_s)
        self._fail_point("turn: ticked")
        try:
            self._log.persist()
            self._fail_point("turn: persisted")
            self.member.after_persist(now_s)
            self._fail_point("turn: committed")
            if self._log.state.is_bound_due and now_s >= self._bound_due_s:
                self._bound_due_s = now_s + limits.COMMIT_BOUND_S
                self._log.state.write_commit_bound()
        except DiskFullError as error:
            # What was to follow the sync stays held, and is tried again in a later turn.
            self._refusal = f"no room on the disk: {error}"
            self._bound_due_s = now_s + limits.DISK_RETRY_S
        else:
            self._refusal = ""
