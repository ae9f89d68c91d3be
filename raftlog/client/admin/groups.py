"""Admin of consumer groups: which there are, who is in them, what they have committed.

A group's coordinator leads one partition of `__consumer_offsets`. Where that topic is not there yet, no group is; only
setting offsets makes it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

from raftlog.client.admin.requester import Requester, raise_error_of
from raftlog.client.core.call import CONTROLLER
from raftlog.client.core.exchange import A
from raftlog.clock import monotonic_s
from raftlog.errors import (
    ErrorCode,
    GroupIdNotFoundError,
    InvalidRequestError,
    NonEmptyGroupError,
    RequestTimedOutError,
    UnknownTopicOrPartitionError,
)
from raftlog.limits import GROUP_RETRY_S
from raftlog.protocol import apis
from raftlog.protocol import groups as g
from raftlog.protocol.apis import Api
from raftlog.protocol.cluster import MetadataResponse, TopicMetadata
from raftlog.protocol.consumer_protocol import PROTOCOL_TYPE, decode_assignment
from raftlog.types import OFFSETS_TOPIC, TopicPartition

Q = TypeVar("Q", bound=g.GroupBody)
_DEAD = "Dead"
# What a group answers that others have used since it was looked up.
_OVERTAKEN = (ErrorCode.INVALID_UPDATE_VERSION, ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.NON_EMPTY_GROUP)


class MemberDescription(NamedTuple):
    """A member as its coordinator knows it.

    `partitions`: what it was assigned in this generation; also empty when its group speaks another protocol.
    """

    member_id: str
    group_instance_id: str | None
    client_id: str
    partitions: list[TopicPartition]


class GroupDescription(NamedTuple):
    """A group as its coordinator knows it. `coordinator`: the node; -1 while it is not known."""

    group_id: str
    state: str
    protocol_type: str
    protocol_name: str
    generation: int
    coordinator: int
    members: list[MemberDescription]


class GroupAdmin(Requester):
    """The part of Admin that asks for consumer groups and changes them."""

    def list_groups(self) -> list[g.ListedGroup]:
        """All groups that have members or committed offsets, by name."""
        topic = self._offsets_topic()
        listed: list[g.ListedGroup] = []
        for number in range(len(topic.partitions) if topic else 0):
            place = TopicPartition(OFFSETS_TOPIC, number)
            listed += self._ask("list groups", place, apis.LIST_GROUPS, g.ListGroupsRequest()).groups
        return sorted(listed, key=lambda group: group.group_id)

    def describe_group(self, group_id: str) -> GroupDescription:
        """Raises GroupIdNotFoundError."""
        topic = self._offsets_topic()
        if topic is None:
            raise _not_found(group_id)
        found = self._ask_coordinator(
            "describe", len(topic.partitions), apis.DESCRIBE_GROUP, g.DescribeGroupRequest(group_id=group_id)
        )
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
        found = self._ask_coordinator(
            "fetch offsets", len(topic.partitions), apis.OFFSET_FETCH, g.OffsetFetchRequest(group_id=group_id)
        )
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

        made = self._ask("find the coordinator", CONTROLLER, apis.FIND_COORDINATOR, g.FindCoordinatorRequest())

        def commit(version: bytes) -> g.OffsetCommitRequest:
            return g.OffsetCommitRequest(group_id=group_id, offsets=committed, version=version)

        answer, maybe_done = self._change_group("commit offsets", group_id, made.partitions, apis.OFFSET_COMMIT, commit)
        if maybe_done and answer.error_code in _OVERTAKEN:
            places = [(each.topic, each.partition) for each in committed]
            now = self._committed_now(group_id, made.partitions, places)
            if {_bare(each) for each in committed} <= {_bare(each) for each in now.offsets}:
                return
            raise _unknown_outcome(group_id)
        if answer.error_code == ErrorCode.UNKNOWN_MEMBER_ID:
            raise NonEmptyGroupError(f"group {group_id} has members; its offsets are theirs to commit")
        raise_error_of(answer)

    def delete_group(self, group_id: str) -> None:
        """With all that it has committed. Raises NonEmptyGroupError while it has members, GroupIdNotFoundError."""
        topic = self._offsets_topic()
        if topic is None:
            raise _not_found(group_id)
        answer, maybe_done = self._change_group(
            "delete",
            group_id,
            len(topic.partitions),
            apis.DELETE_GROUP,
            lambda version: g.DeleteGroupRequest(group_id=group_id, version=version),
        )
        if answer.error_code == ErrorCode.GROUP_ID_NOT_FOUND:
            if maybe_done:
                return  # an attempt without an answer came before: it is the one that deleted the group
            raise _not_found(group_id)
        if maybe_done and answer.error_code in _OVERTAKEN:
            raise _unknown_outcome(group_id)
        if answer.error_code == ErrorCode.NON_EMPTY_GROUP:
            raise NonEmptyGroupError(f"group {group_id} has members")
        raise_error_of(answer)

    def _change_group(
        self, what: str, group_id: str, partitions: int, api: Api[Q, A], build: Callable[[bytes], Q]
    ) -> tuple[A, bool]:
        """The answer, and whether an earlier attempt may have been carried out.

        All attempts name the version of the group that was looked up BEFORE the first: none of them takes back what
        its members, or others, have committed since.
        """
        deadline_s = monotonic_s() + self._timeout_s
        while True:
            version = self._committed_now(group_id, partitions, [], deadline_s).version
            place = TopicPartition(OFFSETS_TOPIC, g.coordinator_partition(group_id, partitions))
            answer, maybe_done = self._ask_for_change(
                f"{what}, group {group_id}", place, api, build(version), deadline_s
            )
            overtaken = answer.error_code == ErrorCode.INVALID_UPDATE_VERSION
            if not overtaken or maybe_done or monotonic_s() > deadline_s:
                return answer, maybe_done
            time.sleep(GROUP_RETRY_S)

    def _committed_now(
        self, group_id: str, partitions: int, places: list[tuple[str, int]], deadline_s: float | None = None
    ) -> g.OffsetFetchResponse:
        body = g.OffsetFetchRequest(group_id=group_id, partitions=places, with_version=True)
        return self._ask_coordinator("fetch offsets", partitions, apis.OFFSET_FETCH, body, deadline_s)

    def _ask_coordinator(
        self, what: str, partitions: int, api: Api[Q, A], body: Q, deadline_s: float | None = None
    ) -> A:
        """Of the group that the request names."""
        place = TopicPartition(OFFSETS_TOPIC, g.coordinator_partition(body.group_id, partitions))
        return self._ask(f"{what}, group {body.group_id}", place, api, body, deadline_s)

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


def _unknown_outcome(group_id: str) -> RequestTimedOutError:
    return RequestTimedOutError(
        f"group {group_id} was used by others since an attempt that was not answered; whether that was carried out "
        "before is not known, and nothing of theirs was changed: look at the group, then ask again"
    )


def _bare(committed: g.CommittedOffset) -> tuple[bytes, int, int]:
    return committed.topic_id, committed.partition, committed.offset
