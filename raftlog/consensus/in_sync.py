"""The in-sync replicas (ISR), as their leader keeps them: who must hold a record before acks=all is answered.

    IN        counted, shown, waited for
    JOINING   waited for already, not shown yet: it holds what the leader held a moment ago, but not yet all that
              was acknowledged
    OUT       not waited for

A follower leaves when its process is gone, when it has owed a success for too long (it is silent, or has no room),
when it has been behind the log end for too long, or when it doubts itself. It comes back by way of JOINING:
acknowledgements wait for it from then on, so a faster majority does not overtake it permanently, and it is a member
once it holds all that was acknowledged. A new leader does not know who was in sync before it, so it begins with all,
and drops those that do not answer or do not reach its own first entry soon.

Raft alone decides what is committed; the ISR only adds to that. Pure: times and progress in, members out.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping

from raftlog import limits
from raftlog.clock import NEVER_S
from raftlog.consensus.progress import Progress
from raftlog.types import Doubt


class _State(enum.Enum):
    OUT = 0
    JOINING = 1
    IN = 2


class InSync:
    """Of one leadership, which began at `now_s` with the entry `epoch_index`."""

    def __init__(self, node_id: int, followers: Iterable[int], epoch_index: int, now_s: float) -> None:
        self._node_id = node_id
        self._epoch_index = epoch_index
        self._began_s = now_s
        self._states = dict.fromkeys(followers, _State.IN)
        self.members: tuple[int, ...] = ()
        """Node ids, the leader's among them, ascending."""
        self._note_members()

    def follow(self, followers: Iterable[int], holders: Collection[int] = ()) -> None:
        """The voters have changed: who is new is waited for at once, who is out is not waited for any more.

        Of the new ones `holders` hold all that was acknowledged, and are members at once: acks=all goes on.
        """
        self._states = {
            node_id: self._states.get(node_id, _State.IN if node_id in holders else _State.JOINING)
            for node_id in followers
        }
        self._note_members()

    def leave(self, node_id: int) -> None:
        """Its process is gone, or another one took its place."""
        if self._states.get(node_id, _State.OUT) is not _State.OUT:
            self._states[node_id] = _State.OUT
            self._note_members()

    def update(self, progress: Mapping[int, Progress], told_index: int, now_s: float) -> None:
        """`told_index`: what this leader acknowledged; who lacks any of it, or of older terms, is no member yet."""
        changed = False
        for node_id, state in self._states.items():
            p = progress[node_id]
            if state is _State.OUT:
                if p.was_heard and self._keeps_up(p, now_s) and now_s - p.caught_up_s < limits.IN_SYNC_JOIN_S:
                    state = _State.JOINING
            elif not self._keeps_up(p, now_s):
                state = _State.OUT
            if state is _State.JOINING and p.match_index >= max(told_index, self._epoch_index):
                state = _State.IN
            if state is not self._states[node_id]:
                self._states[node_id] = state
                changed = True
        if changed:
            self._note_members()

    def lowest_match(self, progress: Mapping[int, Progress], own_index: int) -> int:
        """Up to where everyone who is waited for holds the log, the leader itself up to `own_index`."""
        lowest = own_index
        for node_id, state in self._states.items():
            if state is not _State.OUT:
                lowest = min(lowest, progress[node_id].match_index)
        return lowest

    def due_s(self, progress: Mapping[int, Progress]) -> float:
        """When somebody will have owed a success for too long, if nothing is heard until then."""
        due_s = NEVER_S
        for node_id, state in self._states.items():
            if state is not _State.OUT:
                due_s = min(due_s, progress[node_id].waiting_since_s + _silence_s(progress[node_id]))
        return due_s

    def _keeps_up(self, p: Progress, now_s: float) -> bool:
        if p.doubt is not Doubt.NONE:
            return False
        if p.match_index < self._epoch_index and now_s - self._began_s >= limits.IN_SYNC_FOUND_S:
            return False
        silent = now_s >= p.waiting_since_s + _silence_s(p)
        return not silent and now_s - p.caught_up_s < limits.IN_SYNC_LAG_S

    def _note_members(self) -> None:
        followers = [node_id for node_id, state in self._states.items() if state is _State.IN]
        self.members = tuple(sorted([self._node_id, *followers]))


def _silence_s(p: Progress) -> float:
    return limits.IN_SYNC_SILENT_S if p.was_heard else limits.IN_SYNC_FIRST_S
