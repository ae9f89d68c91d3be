"""Flow control towards one follower (G3, G4): what it holds, what is under way, what to send next.

    PROBE       one message at a time until the follower says where the logs agree
    REPLICATE   a window of messages; what is in flight is not sent again

A refusal empties the window and goes back to PROBE; so does a window without progress. Data and times in, decisions
out; no I/O.
"""

from __future__ import annotations

import enum
from collections import deque

from raftlog import limits
from raftlog.clock import LONG_AGO_S, NEVER_S
from raftlog.types import Doubt


class Mode(enum.Enum):
    PROBE = "probe"
    REPLICATE = "replicate"


class Progress:
    """Indexes are Raft indexes; `match_index` is durable on the follower and equal to the leader's log."""

    __slots__ = (
        "_bytes",
        "_floor",
        "_in_flight",
        "_last_sequence",
        "_mark_index",
        "_mark_s",
        "_moved_s",
        "_owed_index",
        "_probe_s",
        "answered_sequence",
        "caught_up_s",
        "doubt",
        "log_start_offset",
        "match_index",
        "mode",
        "next_index",
        "replied_s",
        "waiting_since_s",
    )

    def __init__(
        self, next_index: int, now_s: float, *, caught_up_s: float = LONG_AGO_S, first_sequence: int = 0
    ) -> None:
        """`first_sequence`: of the first message of this leadership to it."""
        self.mode = Mode.PROBE
        self.next_index = next_index  # the first Raft index that is sent next; match_index < next_index
        self.match_index = 0  # up to it its log is the leader's, on its disk; it only grows
        self.doubt = Doubt.NONE  # what it said of itself last
        self.log_start_offset = 0  # where its log starts, durably, as it said last
        self.replied_s = now_s  # when it answered last, whatever it said
        self.caught_up_s = caught_up_s  # the last time at which it is known to have held all of the leader's log
        self.waiting_since_s = NEVER_S  # since then it owes the leader a success
        self.answered_sequence = 0  # the last message that it answered in this term
        self._last_sequence = 0  # of the message that left last
        self._owed_index = 0  # the last index that it owes a success for
        self._mark_index = next_index - 1  # holding this, it held all that the leader had at _mark_s
        self._mark_s = now_s
        self._in_flight: deque[tuple[int, int]] = deque()  # (sequence, bytes)
        self._bytes = 0  # in flight
        self._moved_s = now_s  # when the first of what is in flight was sent, or the last answer took something off it
        self._probe_s = -1.0  # when the outstanding probe left; below 0: none is out
        # Refusals of messages before this one are of an older window. Of an older leadership as well: a follower that
        # has just adopted this term refuses what the last one sent, and says so with this term (seed 4580).
        self._floor = first_sequence

    def may_send(self, now_s: float) -> bool:
        """Whether entries (REPLICATE) or a probe may leave now."""
        if self.mode is Mode.PROBE:
            return self._probe_s < 0 or now_s - self._probe_s >= limits.HEARTBEAT_S
        return len(self._in_flight) < limits.APPEND_WINDOW_MESSAGES and self._bytes < limits.APPEND_WINDOW_BYTES

    def note_sent(self, sequence: int, last_index: int, size_bytes: int, now_s: float) -> None:
        """A message that carries entries up to `last_index` left, or a probe or heartbeat with none."""
        self._last_sequence = sequence
        if self.waiting_since_s > now_s:
            self.waiting_since_s = now_s
            self._owed_index = last_index
        if self.mode is Mode.PROBE:
            self._probe_s = now_s
            return
        if last_index < self.next_index:
            return  # a heartbeat: it carries nothing that could be lost
        if not self._in_flight:
            self._moved_s = now_s
        self._in_flight.append((sequence, size_bytes))
        self._bytes += size_bytes
        self.next_index = last_index + 1

    def on_success(self, sequence: int, match_index: int, now_s: float, next_sequence: int) -> None:
        """The follower holds everything up to `match_index`, durably."""
        self._hear(sequence, now_s)
        if match_index >= self._owed_index and sequence >= self._last_sequence:
            self.waiting_since_s = NEVER_S
        elif match_index >= self._owed_index or match_index > self.match_index:
            self.waiting_since_s = now_s
            self._owed_index = max(self.next_index - 1, match_index)
        while self._in_flight and self._in_flight[0][0] <= sequence:
            self._bytes -= self._in_flight.popleft()[1]
            self._moved_s = now_s
        self.match_index = max(self.match_index, match_index)
        if self.mode is Mode.PROBE and sequence >= self._floor:
            self.mode = Mode.REPLICATE
            self._probe_s = -1.0
            self._floor = next_sequence  # other probes may be out; a late refusal of one says nothing new
            self.next_index = self.match_index + 1
            self._moved_s = now_s
        self.next_index = max(self.next_index, self.match_index + 1)

    def on_refusal(self, sequence: int, hint_index: int, last_index: int, now_s: float, next_sequence: int) -> bool:
        """The logs do not agree at the asked place. False when the answer is older than this window (G3)."""
        self._hear(sequence, now_s)
        if sequence < self._floor:
            return False
        # Everything sent so far belongs to the window that is given up: each of its messages will be
        # refused too, and must not start a probe of its own.
        self._to_probe(next_sequence)
        self.next_index = max(self.match_index + 1, min(hint_index, last_index + 1))
        return True

    def note_log_end(self, last_index: int, now_s: float) -> None:
        """The leader's log ends at `last_index` now. One that is always a little behind held all of it a little ago."""
        if self.match_index >= last_index:
            self.caught_up_s = now_s
        elif self.match_index >= self._mark_index:
            self.caught_up_s = self._mark_s
        else:
            return
        self._mark_index, self._mark_s = last_index, now_s

    @property
    def was_heard(self) -> bool:
        """It has answered in this term."""
        return self.answered_sequence > 0

    def _hear(self, sequence: int, now_s: float) -> None:
        self.replied_s = now_s
        self.answered_sequence = max(self.answered_sequence, sequence)

    def on_time(self, now_s: float, next_sequence: int) -> None:
        """A window that has not moved for a bounded time is lost."""
        if self._in_flight and now_s - self._moved_s >= limits.APPEND_LOST_AFTER_S:
            self._to_probe(next_sequence)
            self.next_index = self.match_index + 1

    def probe_from(self, next_index: int, next_sequence: int) -> None:
        """Give the window up, as when the follower has fallen behind the horizon."""
        self._to_probe(next_sequence)
        self.next_index = next_index

    def _to_probe(self, floor: int) -> None:
        self.mode = Mode.PROBE
        self._in_flight.clear()
        self._bytes = 0
        self._probe_s = -1.0
        self._floor = floor
