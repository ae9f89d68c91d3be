"""The links of a member to the others of its group: who is at the other end, and what leaves when.

A message that claims something durable (a vote, a success reply, anything in a new term) is held until the turn's sync
is over (G5). One that claims nothing of this member's disk (AppendEntries) leaves at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from raftlog.protocol import raft as r
from raftlog.storage.replica_state import ReplicaState
from raftlog.types import Buffer, ReplicaSpec

Send = Callable[[int, r.RaftMessage, Buffer | None], None]


class Links:
    """All links of one process of a member. They outlive every role."""

    def __init__(self, node_id: int, boot_id: int, spec: ReplicaSpec, state: ReplicaState, send: Send) -> None:
        self._group = (spec.topic_id, spec.partition)
        self._node_id = node_id
        self._boot_id = boot_id
        self._state = state
        self._send = send
        self.boots: defaultdict[int, int] = defaultdict(int)
        """Boot ids of the others' processes, members or not; 0: it is gone."""
        self.sequence = 0  # of the last message that asked for an answer (G3)
        self.held: list[tuple[int, r.RaftMessage]] = []

    def accepts(self, m: r.RaftMessage) -> bool:
        """From the sender's current process to this one. ZeroMQ may hand over what was queued for a dead one."""
        boot_id = m.sender_boot_id
        return m.addressee_boot_id == self._boot_id and boot_id != 0 and self.boots.get(m.sender_id) == boot_id

    def boot_of(self, node_id: int) -> int:
        """Of a member's process, this one among them."""
        return self._boot_id if node_id == self._node_id else self.boots[node_id]

    def next_sequence(self) -> int:
        self.sequence += 1
        return self.sequence

    def send(self, node_id: int, payload: Buffer | None, kind: Callable[..., r.RaftMessage], *fields: Any) -> None:
        """At once, to a process that is there."""
        self._send(node_id, kind(*self._head(node_id), *fields), payload)

    def hold(self, node_id: int, kind: Callable[..., r.RaftMessage], *fields: Any) -> None:
        """G5: it leaves with `release`, AFTER the sync of what it claims."""
        if self.boots.get(node_id, 0):
            self.held.append((node_id, kind(*self._head(node_id), *fields)))

    def answer(
        self,
        m: r.AppendEntries | r.ResetRequest,
        *,
        success: bool,
        match_index: int = 0,
        hint_index: int = 0,
        damaged: bool = False,
    ) -> None:
        state = self._state
        self.hold(
            m.sender_id,
            r.AppendResponse,
            m.sequence,
            success,
            match_index,
            hint_index,
            state.doubt,
            damaged,
            state.log_start_offset,
        )

    def release(self) -> None:
        """All that was appended, and term and vote, are durable."""
        held, self.held = self.held, []
        for node_id, message in held:
            if self.boots[node_id]:
                if isinstance(message, r.AppendResponse):
                    message.doubt = self._state.doubt  # as it is now, not as it was before the sync
                self._send(node_id, message, None)

    def _head(self, node_id: int) -> tuple[bytes, int, int, int, int, int]:
        return (*self._group, self._node_id, self._boot_id, self.boots[node_id], self._state.term)
