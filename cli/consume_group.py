"""`raftlog consume --group`: a member of a consumer group, whose records go to stdout BEFORE they are committed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from raftlog.errors import CommitFailedError, RaftlogError
from raftlog.types import TopicPartition

from .record_format import Formatter
from .record_output import Offsets, Reading, Start, copy_records

if TYPE_CHECKING:
    from raftlog import Consumer

_COMMIT_S = 1.0  # so much is written again at the most after a kill
_LOOK_S = 0.5  # at what the other members have committed


def consume_in_group(
    bootstrap: str,
    group: str,
    partitions: Sequence[TopicPartition],
    start: Start,
    exit_at_end: bool,
    formatter: Formatter,
    max_records: int | None,
) -> None:
    """As a member of `group`, of the topics that these partitions are of."""
    from raftlog import Consumer

    with Consumer(
        bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False, auto_offset_reset="earliest"
    ) as consumer:
        share = _Share(consumer, partitions, start, exit_at_end=exit_at_end)
        consumer.subscribe(
            sorted({place.topic for place in partitions}),
            on_assigned=share.assigned,
            on_revoked=share.revoked,
            on_lost=share.lost,
        )
        # Whatever ends it: leaving the group commits what was written, as each revocation does.
        copy_records(share, formatter, max_records)


class _Share(Reading):
    """The partitions that this member has at the time. The end is reached when the group has read up to it."""

    def __init__(
        self, consumer: Consumer, partitions: Sequence[TopicPartition], start: Start, *, exit_at_end: bool
    ) -> None:
        known = consumer.end_offsets(partitions)
        beginnings = consumer.beginning_offsets(partitions)
        # Where there are no records nobody commits anything.
        ends = {place: end for place, end in known.items() if end > beginnings[place]}
        super().__init__(consumer, ends if exit_at_end else None)
        self._known_ends = known
        self._start = start
        self._written: dict[TopicPartition, int] = {}
        self._commit_due_s = time.monotonic() + _COMMIT_S
        self._asked: set[TopicPartition] = set()  # of which others' commits were looked at last
        self._behind: set[TopicPartition] = set()  # those of them whose end was not committed
        self._look_due_s = 0.0

    # --- callbacks of the consumer -----------------------------------------------------------
    def assigned(self, partitions: Sequence[TopicPartition]) -> None:
        """One that was not there when the command began is read from its first record on."""
        committed = self.consumer.committed(partitions)
        self._written.update({place: entry.offset for place, entry in committed.items() if entry is not None})
        fresh = [place for place, entry in committed.items() if entry is None and place in self._known_ends]
        if fresh:
            for place, offset in self._start.offsets(self.consumer, fresh, self._known_ends).items():
                self.consumer.seek(place, offset)
                self._written[place] = offset  # committed too, so that a successor does not begin later

    def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        self.commit(wait=False)  # the consumer waits for it, some seconds at the most, BEFORE it gives them up
        self.lost(partitions)

    def lost(self, partitions: Sequence[TopicPartition]) -> None:
        for place in partitions:
            self._written.pop(place, None)

    # --- copying -----------------------------------------------------------------------------
    def written(self, positions: Offsets) -> None:
        self._written.update(positions)
        if time.monotonic() >= self._commit_due_s:
            self.commit(wait=False)

    def commit(self, *, wait: bool = True) -> None:
        """What cannot be committed now is written once more, by whoever has the partition next."""
        self._commit_due_s = time.monotonic() + _COMMIT_S
        if not self._written:
            return
        commit = self.consumer.commit if wait else self.consumer.commit_async
        try:
            commit(dict(self._written))
        except CommitFailedError:
            self._written.clear()  # its partitions are others', or will be
        except RaftlogError:
            pass  # the next commit has it as well

    def behind(self) -> list[TopicPartition]:
        """At the end it commits first: one that has lost its partitions is not there, it may not know that yet."""
        behind = self._behind_now()
        if not behind:
            self.commit()
            behind = self._behind_now()
        return behind

    def _behind_now(self) -> list[TopicPartition]:
        ends, mine = self.ends or {}, self.consumer.assignment()
        others = {place for place in ends if place not in mine}
        if others - self._asked or (others and time.monotonic() >= self._look_due_s):
            self._look_due_s = time.monotonic() + _LOOK_S
            self._asked = others
            committed = self.consumer.committed(others)
            found = {place: entry.offset for place, entry in committed.items() if entry is not None}
            self._behind = {place for place in others if found.get(place, -1) < ends[place]}
        own = [place for place in ends if place in mine and self._written.get(place, -1) < ends[place]]
        return own + sorted(self._behind & others)
