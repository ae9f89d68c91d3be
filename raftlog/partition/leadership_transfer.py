"""Moving the leadership on purpose: before a clean stop, and back to the preferred replica.

Appends pause, the target catches up, and is asked to stand at once. What clients send meanwhile is kept, so that a move
costs them one round trip; after a bounded time without an election appends go on as before. No I/O.
"""

from __future__ import annotations

from raftlog import limits
from raftlog.clock import NEVER_S
from raftlog.consensus.member import RaftMember


class LeadershipTransfer:
    """Of one replica; asked while it leads."""

    def __init__(self, member: RaftMember) -> None:
        self._member = member
        self._wanted: tuple[int, ...] = ()  # whom to ask, best first; empty when nothing moves
        self._asked = False
        self._until_s = 0.0
        self._due_s = NEVER_S
        self._preferred_since_s = NEVER_S
        self._again_s = 0.0
        self._again_wait_s = limits.PREFERRED_LEADER_AGAIN_S

    @property
    def _preferred(self) -> int:
        """The node that should lead when it can; while the voters change, of those who are to be."""
        return self._member.voters.halves[-1].replicas[0]

    @property
    def under_way(self) -> bool:
        """Nothing may be appended."""
        return bool(self._wanted)

    @property
    def is_content(self) -> bool:
        """The preferred replica leads, and nothing is to move."""
        return not self._wanted and not self._member.successors and self._preferred == self._member.node_id

    @property
    def due_s(self) -> float:
        """When `step` is due even without input: at once, and when appends go on, whatever came of the move."""
        return self._due_s

    def begin(self, now_s: float) -> None:
        """Hand over to any in-sync follower, the preferred one first."""
        followers = [node_id for node_id in self._member.in_sync if node_id != self._member.node_id]
        self._start(tuple(sorted(followers, key=lambda node_id: node_id != self._preferred)), now_s)

    def move_back(self, now_s: float) -> bool:
        """The preferred replica is wanted now. False: it is not in sync. Where something moves already, it goes on."""
        if self._preferred not in self._member.in_sync:
            return False
        if not self._wanted and self._preferred != self._member.node_id:
            self._start((self._preferred,), now_s)
        return True

    def look(self, now_s: float) -> None:
        """Once in a while, as leader: has the preferred replica been back and in sync for long enough?

        Before that: must another one lead, so that a change of the voters can end?
        """
        successors = self._member.successors
        if successors and not self._wanted and now_s >= self._again_s:
            self._again_s = now_s + limits.PREFERRED_LEADER_AGAIN_S
            self._start(successors, now_s)
            return
        if self._preferred == self._member.node_id or self._preferred not in self._member.in_sync:
            self._preferred_since_s = NEVER_S
            return
        self._preferred_since_s = min(self._preferred_since_s, now_s)
        if now_s < max(self._preferred_since_s + limits.PREFERRED_LEADER_S, self._again_s) or self._wanted:
            return
        if now_s >= self._again_s + limits.PREFERRED_LEADER_AGAIN_MAX_S:
            self._again_wait_s = limits.PREFERRED_LEADER_AGAIN_S  # the last move back is long ago: it did work
        self._again_s = now_s + self._again_wait_s
        self._again_wait_s = min(2 * self._again_wait_s, limits.PREFERRED_LEADER_AGAIN_MAX_S)
        self._start((self._preferred,), now_s)

    def step(self, now_s: float) -> None:
        """Each turn, appends being paused: ask as soon as one holds the whole log."""
        self._due_s = self._until_s
        if now_s >= self._until_s:
            self._go_on()
        elif not self._asked:
            self._asked = any(self._member.transfer_to(node_id) for node_id in self._wanted)

    def end(self) -> None:
        """Leadership ended, by this move or otherwise."""
        self._go_on()
        self._preferred_since_s = NEVER_S

    def _go_on(self) -> None:
        self._wanted = ()
        self._due_s = NEVER_S

    def _start(self, wanted: tuple[int, ...], now_s: float) -> None:
        self._wanted = wanted
        self._asked = False
        self._due_s = now_s if wanted else NEVER_S  # without anybody to ask, nothing is due
        self._until_s = now_s + limits.MOVE_S
