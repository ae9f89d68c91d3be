"""Admin of consumer groups: which there are, who is in them, what they have committed.

A group's coordinator leads one partition of `__consumer_offsets`. Where that topic is not there yet, no group is; only
setting offsets makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

from raftlog.client.asking import Asking, expect
from raftlog.client.calls import CONTROLLER
from raftlog.client.consumer_protocol import PROTOCOL_TYPE, decode_assignment
from raftlog.client.exchange import Answer, Request
from raftlog.errors import (
    ErrorCode,
    GroupIdNotFoundError,
    InvalidRequestError,
    NonEmptyGroupError,
    UnknownMemberIdError,
    UnknownTopicOrPartitionError,
    error_for,
)
from raftlog.protocol import groups as g
from raftlog.protocol.messages import MetadataResponse, TopicMetadata
from raftlog.types import OFFSETS_TOPIC, TopicPartition

T = TypeVar("T")
_DEAD = "Dead"


class MemberDescription(NamedTuple):
    """`partitions`: what it was assigned in this generation; empty too when its group speaks another protocol."""

    member_id: str
    group_instance_id: str | None
    client_id: str
    partitions: list[TopicPartition]


class GroupDescription(NamedTuple):
    """`coordinator`: the node; -1 while it is not known."""

    group_id: str
    state: str
    protocol_type: str
    protocol_name: str
    generation: int
    coordinator: int
    members: list[MemberDescription]


class GroupAdmin(Asking):
    def list_groups(self) -> list[g.ListedGroup]:
        """All groups that have members or committed offsets, by name."""
        topic = self._offsets_topic()
        listed: list[g.ListedGroup] = []
        for number in range(len(topic.partitions) if topic else 0):

            def request(correlation_id: int, topic_id: bytes, number: int = number) -> Request:
                return g.ListGroupsRequest(correlation_id=correlation_id, topic_id=topic_id, partition=number)

            place = TopicPartition(OFFSETS_TOPIC, number)
            listed += self._ask("list groups", place, request, expect(g.ListGroupsResponse)).groups
        return sorted(listed, key=lambda group: group.group_id)

    def describe_group(self, group_id: str) -> GroupDescription:
        """Raises GroupIdNotFoundError."""
        topic = self._offsets_topic()
        if topic is None:
            raise _not_found(group_id)
        found = self._ask_coordinator("describe", group_id, len(topic.partitions), g.DescribeGroupRequest, _described)
        if found.state == _DEAD:
            raise _not_found(group_id)
        number = g.coordinator_partition(group_id, len(topic.partitions))
        return GroupDescription(
            group_id=group_id,
            state=found.state,
            protocol_type=found.protocol_type,
            protocol_name=found.protocol_name,
            generation=found.generation_id,
            coordinator=topic.partitions[number].leader_id,
            members=[
                MemberDescription(
                    member_id=member.member_id,
                    group_instance_id=member.group_instance_id,
                    client_id=member.client_id,
                    partitions=_partitions(found.protocol_type, member.assignment),
                )
                for member in found.members
            ],
        )

    def group_offsets(self, group_id: str) -> dict[TopicPartition, int]:
        """What the group has committed: the next offset to read, of each partition of topics that are still there."""
        topic = self._offsets_topic()
        if topic is None:
            return {}
        found = self._ask_coordinator("fetch offsets", group_id, len(topic.partitions), g.OffsetFetchRequest, _fetched)
        committed = {(each.topic, each.topic_id) for each in found.offsets}

        def all_known(response: MetadataResponse) -> bool:
            return committed <= {(topic.name, topic.topic_id) for topic in response.topics}

        names = sorted({each.topic for each in found.offsets})
        topics = self._topics_named(names, all_known) if names else []
        there = {(topic.name, topic.topic_id) for topic in topics}
        # One that was deleted and made again under its name has another id: nothing of it was read.
        return {
            TopicPartition(each.topic, each.partition): each.offset
            for each in found.offsets
            if (each.topic, each.topic_id) in there
        }

    def set_group_offsets(self, group_id: str, offsets: Mapping[TopicPartition, int]) -> None:
        """Commits these, from outside of the group. Raises NonEmptyGroupError while it has members."""
        named = self._topics_named(sorted({topic for topic, _ in offsets}), strict=True)
        ids = {each.name: each for each in named if each.error_code == ErrorCode.NONE}
        committed = []
        for (name, partition), offset in offsets.items():
            if name not in ids or not 0 <= partition < len(ids[name].partitions):
                raise UnknownTopicOrPartitionError(f"there is no partition {name}-{partition}")
            committed.append(
                g.CommittedOffset(
                    topic=name,
                    topic_id=ids[name].topic_id,
                    partition=partition,
                    offset=offset,
                    begun_partitions=len(ids[name].partitions),
                )
            )

        def find(correlation_id: int, _topic_id: bytes) -> Request:
            return g.FindCoordinatorRequest(correlation_id=correlation_id)

        made = self._ask("find the coordinator", CONTROLLER, find, expect(g.FindCoordinatorResponse))

        def build(**fields: object) -> g.OffsetCommitRequest:
            return g.OffsetCommitRequest(**fields, offsets=committed)  # type: ignore[arg-type]

        try:
            self._ask_coordinator("commit offsets", group_id, made.partitions, build, _committed)
        except UnknownMemberIdError:
            raise NonEmptyGroupError(f"group {group_id} has members; its offsets are theirs to commit") from None

    def delete_group(self, group_id: str) -> None:
        """With all that it has committed. Raises NonEmptyGroupError while it has members, GroupIdNotFoundError."""
        topic = self._offsets_topic()
        if topic is None:
            raise _not_found(group_id)
        try:
            self._ask_coordinator(
                "delete", group_id, len(topic.partitions), g.DeleteGroupRequest, _deleted, reads_refusals=True
            )
        except NonEmptyGroupError:
            raise NonEmptyGroupError(f"group {group_id} has members") from None
        except GroupIdNotFoundError:
            raise _not_found(group_id) from None

    def _ask_coordinator(
        self,
        what: str,
        group_id: str,
        partitions: int,
        build: Callable[..., Request],
        read: Callable[..., T],
        *,
        reads_refusals: bool = False,
    ) -> T:
        number = g.coordinator_partition(group_id, partitions)

        def request(correlation_id: int, topic_id: bytes) -> Request:
            return build(correlation_id=correlation_id, topic_id=topic_id, partition=number, group_id=group_id)

        place = TopicPartition(OFFSETS_TOPIC, number)
        return self._ask(f"{what}, group {group_id}", place, request, read, reads_refusals=reads_refusals)

    def _offsets_topic(self) -> TopicMetadata | None:
        """None: no confirmed node knows it. Raises NoBrokersAvailableError where none answers."""
        (topic,) = self._topics_named([OFFSETS_TOPIC])
        return None if topic.error_code else topic


def _not_found(group_id: str) -> GroupIdNotFoundError:
    return GroupIdNotFoundError(f"there is no group {group_id}")


def _partitions(protocol_type: str, assignment: bytes) -> list[TopicPartition]:
    if protocol_type != PROTOCOL_TYPE:
        return []
    try:
        return sorted(decode_assignment(assignment))
    except InvalidRequestError:
        return []  # a member of another kind: its bytes are its own


def _deleted(answer: Answer, payload: bytes, maybe_ours: bool) -> None:
    if maybe_ours and answer.error_code == ErrorCode.GROUP_ID_NOT_FOUND:
        return  # an attempt without an answer came before: it is the one that deleted the group
    if answer.error_code:
        raise error_for(answer.error_code, answer.error_text)
    expect(g.DeleteGroupResponse)(answer, payload, maybe_ours)


_described = expect(g.DescribeGroupResponse)
_fetched = expect(g.OffsetFetchResponse)
_committed = expect(g.OffsetCommitResponse)
