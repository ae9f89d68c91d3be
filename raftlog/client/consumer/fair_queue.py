"""Whose records come next: partitions take turns, so that a busy one does not keep the others from being read.

Used by the user's thread with the fetcher's lock held, which it gives up while it waits.
"""

from __future__ import annotations

from raftlog.client.core.engine import Engine
from raftlog.client.fetcher.fetcher import Fetcher
from raftlog.client.fetcher.partition_state import ConsumerRecord, PartitionState
from raftlog.client.group.session import GroupSession
from raftlog.clock import NEVER_S, monotonic_s
from raftlog.errors import ClosedError, CorruptMessageError, UnreadableRecordsError


class FairQueue:
    """The order in which partitions hand out records to the user's thread."""

    def __init__(self, engine: Engine, fetcher: Fetcher, group: GroupSession | None) -> None:
        self._engine = engine
        self._fetcher = fetcher
        self._group = group
        self._turn = 0
        self._made_room = False
        self._seen_changes = 0
        self._until_s = NEVER_S
        self._then_until_s = NEVER_S  # once a record was handed out
        self._closed = False

    def close(self) -> bool:
        """Ends a wait in another thread. False: it was closed before."""
        with self._fetcher.lock:
            was_closed, self._closed = self._closed, True
            self._fetcher.changed.notify_all()
        return not was_closed

    def next_state(self, deadline_s: float | None) -> PartitionState | None:
        """The next partition in turn that has decoded records. None: nothing there or in time, or the group waits.

        Raises what went wrong with a partition, but not without a deadline: then records have been taken already, and
        would be lost by it.
        """
        while True:
            if self._closed:
                raise ClosedError("the consumer is closed")
            now_s = monotonic_s()
            if self._group is not None:
                self._group.here(now_s)
                if self._group.wants_attention(now_s):
                    return None
            states = list(self._fetcher.states.values())
            if deadline_s is not None:
                self._raise_errors(states)
            if self._group is None or self._group.hands_out(now_s):
                for step in range(len(states)):
                    state = states[(self._turn + step) % len(states)]
                    if not state.paused and self._has_decoded(state):
                        self._turn = (self._turn + step + 1) % len(states)
                        if self._group is not None:
                            self._seen_changes, self._until_s = self._group.changes, self._group.hands_out_until_s()
                            self._then_until_s = min(self._until_s, self._group.commit_due_s)
                        return state
            if deadline_s is None:
                return None
            left_s = deadline_s - monotonic_s()
            if left_s <= 0:
                return None
            self.wake_if_room()
            self._fetcher.changed.wait(min(left_s, 1.0))
            if self._group is not None and monotonic_s() >= self._group.commit_due_s:
                return None

    def next_record(self, state: PartitionState) -> ConsumerRecord | None:
        """The next decoded one of what `next_state` found. None: used up, or something else comes first."""
        with self._fetcher.lock:
            index = state.index
            records = state.records
            if index >= len(records) or state.paused or not state.assigned or self._disturbed():
                return None
            record = records[index]
            state.index = index = index + 1
            state.position = record.offset + 1 if index < len(records) else state.after_records
            self._until_s = self._then_until_s
            return record

    def _disturbed(self) -> bool:
        if self._group is None:
            return False
        now_s = monotonic_s()
        self._group.here(now_s)
        return self._group.changes != self._seen_changes or now_s >= self._until_s

    def wake_if_room(self) -> None:
        if self._made_room:
            self._made_room = False
            self._engine.wake()

    def _has_decoded(self, state: PartitionState) -> bool:
        if state.index < len(state.records):
            return True
        if not state.payloads:
            return False
        held_bytes = state.buffered_bytes
        try:
            found = state.decode_next()
        except UnreadableRecordsError as error:
            self._fetcher.unreadable(state, error)
            return False
        except CorruptMessageError as error:
            self._fetcher.corrupt(state, error)
            return False
        self._made_room = self._made_room or state.buffered_bytes < held_bytes
        state.corrupt_fetches = 0
        return found

    def _raise_errors(self, states: list[PartitionState]) -> None:
        self._engine.check_open()
        for state in states:
            if state.error is not None and not state.has_records():
                error, state.error = state.error, None
                raise error.with_traceback(None)
        unknown = self._fetcher.unknown_topic(monotonic_s())
        if unknown is not None:
            raise unknown
