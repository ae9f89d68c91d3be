"""Where a group's committed offsets would go: an Admin is asked, and nothing is changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from raftlog.types import EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, TopicPartition
from raftlog.view.groups import new_offsets

if TYPE_CHECKING:
    from raftlog.client.admin.admin import Admin


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One of them is set. `time_ms`: the first record at or after it. `shift_by`: from what is committed."""

    beginning: bool = False
    end: bool = False
    offset: int | None = None
    time_ms: int | None = None
    shift_by: int | None = None

    def given(self) -> int:
        return sum(
            (self.beginning, self.end, *(each is not None for each in (self.offset, self.time_ms, self.shift_by)))
        )


class Reset(msgspec.Struct, frozen=True, kw_only=True):
    """A change of what a group has committed.

    `before`: what is committed, of all topics. `after`: what would be; empty where there is nothing to shift.
    """

    before: dict[TopicPartition, int]
    after: dict[TopicPartition, int]


def plan_reset(admin: Admin, group: str, places: Sequence[TopicPartition], target: Target) -> Reset:
    """Of these partitions. What lies outside of the records that there are becomes the first or the end."""
    starts = admin.list_offsets(dict.fromkeys(places, EARLIEST_TIMESTAMP))
    ends = admin.list_offsets(dict.fromkeys(places, LATEST_TIMESTAMP))
    before = admin.group_offsets(group)
    if target.time_ms is not None:
        found = admin.list_offsets(dict.fromkeys(places, target.time_ms))
        wanted = {place: ends[place] if offset < 0 else offset for place, offset in found.items()}
    elif target.shift_by is not None:
        wanted = {place: before[place] + target.shift_by for place in places if place in before}
    elif target.offset is not None:
        wanted = dict.fromkeys(places, target.offset)
    else:
        wanted = starts if target.beginning else ends
    return Reset(before=before, after=new_offsets(wanted, starts, ends))
