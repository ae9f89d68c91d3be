"""A group as it is shown: what is committed of each partition, what is left, and whose it is. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from raftlog.types import TopicPartition

if TYPE_CHECKING:
    from raftlog.client.admin.groups import GroupDescription


class MemberView(msgspec.Struct, frozen=True, kw_only=True):
    """A member of a group. `partitions`: as `topic-number`."""

    member: str
    instance: str | None
    client: str
    partitions: list[str]


class GroupPartitionView(msgspec.Struct, frozen=True, kw_only=True):
    """How far a group has read a partition.

    `lag`: of the offsets that are still there. None: nothing is committed, or the log's bounds are not known.

    `member` None: nobody owns it.
    """

    topic: str
    partition: int
    committed_offset: int | None
    log_start_offset: int | None
    log_end_offset: int | None
    lag: int | None
    member: str | None
    client: str | None


class GroupView(msgspec.Struct, frozen=True, kw_only=True):
    """A group, its members and how far it has read. `lag`: of all partitions together, where it is known."""

    group: str
    state: str
    protocol: str
    generation: int
    coordinator: int | None
    lag: int
    members: list[MemberView]
    partitions: list[GroupPartitionView]


def view_group(
    described: GroupDescription,
    committed: Mapping[TopicPartition, int],
    starts: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
) -> GroupView:
    """`starts`, `ends`: of the logs of those partitions whose leader was asked."""
    owners = {place: member for member in described.members for place in member.partitions}
    partitions = []
    for place in sorted({*committed, *owners}):
        offset, start, end, owner = committed.get(place), starts.get(place), ends.get(place), owners.get(place)
        partitions.append(
            GroupPartitionView(
                topic=place.topic,
                partition=place.partition,
                committed_offset=offset,
                log_start_offset=start,
                log_end_offset=end,
                lag=None if offset is None or start is None or end is None else max(0, end - max(offset, start)),
                member=owner.member_id if owner else None,
                client=owner.client_id if owner else None,
            )
        )
    return GroupView(
        group=described.group_id,
        state=described.state,
        protocol=described.protocol_name,
        generation=described.generation,
        coordinator=described.coordinator if described.coordinator >= 0 else None,
        lag=sum(each.lag or 0 for each in partitions),
        members=[
            MemberView(
                member=member.member_id,
                instance=member.group_instance_id,
                client=member.client_id,
                partitions=[str(place) for place in member.partitions],
            )
            for member in sorted(described.members)
        ],
        partitions=partitions,
    )


def new_offsets(
    wanted: Mapping[TopicPartition, int], starts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
) -> dict[TopicPartition, int]:
    """Each within [log start, log end]."""
    return {place: min(max(offset, starts[place]), ends[place]) for place, offset in wanted.items()}
