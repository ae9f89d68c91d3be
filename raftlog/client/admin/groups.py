"""Admin of consumer groups: which there are, who is in them, what they have committed.

A group's coordinator leads one partition of `__consumer_offsets`. Where that topic is not there yet, no group is; only
setting offsets makes it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple, TypeVar

from raftlog.client.admin.requester import Requester, expect
from raftlog.client.core.call import CONTROLLER
from raftlog.client.core.exchange import Answer, Request
from raftlog.client.group.wire import PROTOCOL_TYPE, decode_assignment
from raftlog.clock import monotonic_s
from raftlog.errors import (
    ErrorCode,
    GroupIdNotFoundError,
    InvalidRequestError,
    NonEmptyGroupError,
    RequestTimedOutError,
    UnknownTopicOrPartitionError,
    error_for,
)
from raftlog.limits import GROUP_RETRY_S
from raftlog.protocol import groups as g
from raftlog.protocol.cluster import MetadataResponse, TopicMetadata
from raftlog.types import OFFSETS_TOPIC, TopicPartition

T = TypeVar("T")
_DEAD = "Dead"
# What a group answers that others have used since it was looked up.
_OVERTAKEN = (ErrorCode.INVALID_UPDATE_VERSION, ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.NON_EMPTY_GROUP)


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


class GroupAdmin(Requester):
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

        build = partial(g.OffsetCommitRequest, offsets=committed)
        answer, maybe_done = self._change_group("commit offsets", group_id, made.partitions, build)
        if maybe_done and answer.error_code in _OVERTAKEN:
            places = [(each.topic, each.partition) for each in committed]
            now = self._committed_now(group_id, made.partitions, places)
            if {_bare(each) for each in committed} <= {_bare(each) for each in now.offsets}:
                return
            raise _unknown_outcome(group_id)
        if answer.error_code == ErrorCode.UNKNOWN_MEMBER_ID:
            raise NonEmptyGroupError(f"group {group_id} has members; its offsets are theirs to commit")
        _raise_error_of(answer)

    def delete_group(self, group_id: str) -> None:
        """With all that it has committed. Raises NonEmptyGroupError while it has members, GroupIdNotFoundError."""
        topic = self._offsets_topic()
        if topic is None:
            raise _not_found(group_id)
        answer, maybe_done = self._change_group("delete", group_id, len(topic.partitions), g.DeleteGroupRequest)
        if answer.error_code == ErrorCode.GROUP_ID_NOT_FOUND:
            if maybe_done:
                return  # an attempt without an answer came before: it is the one that deleted the group
            raise _not_found(group_id)
        if maybe_done and answer.error_code in _OVERTAKEN:
            raise _unknown_outcome(group_id)
        if answer.error_code == ErrorCode.NON_EMPTY_GROUP:
            raise NonEmptyGroupError(f"group {group_id} has members")
        _raise_error_of(answer)

    def _change_group(
        self, what: str, group_id: str, partitions: int, build: Callable[..., Request]
    ) -> tuple[Answer, bool]:
        """The answer, and whether an earlier attempt may have been carried out.

        All attempts name the version of the group that was looked up BEFORE the first: none of them takes back what
        its members, or others, have committed since.
        """
        deadline_s = monotonic_s() + self._timeout_s
        while True:
            version = self._committed_now(group_id, partitions, [], deadline_s).version
            answer, maybe_done = self._ask_coordinator(
                what, group_id, partitions, partial(build, version=version), _answered, deadline_s, reads_refusals=True
            )
            if answer.error_code != ErrorCode.INVALID_UPDATE_VERSION or maybe_done or monotonic_s() > deadline_s:
                return answer, maybe_done
            time.sleep(GROUP_RETRY_S)

    def _committed_now(
        self, group_id: str, partitions: int, places: list[tuple[str, int]], deadline_s: float | None = None
    ) -> g.OffsetFetchResponse:
        build = partial(g.OffsetFetchRequest, partitions=places, with_version=True)
        return self._ask_coordinator("fetch offsets", group_id, partitions, build, _fetched, deadline_s)

    def _ask_coordinator(
        self,
        what: str,
        group_id: str,
        partitions: int,
        build: Callable[..., Request],
        read: Callable[..., T],
        deadline_s: float | None = None,
        *,
        reads_refusals: bool = False,
    ) -> T:
        number = g.coordinator_partition(group_id, partitions)

        def request(correlation_id: int, topic_id: bytes) -> Request:
            return build(correlation_id=correlation_id, topic_id=topic_id, partition=number, group_id=group_id)

        place = TopicPartition(OFFSETS_TOPIC, number)
        what = f"{what}, group {group_id}"
        return self._ask(what, place, request, read, deadline_s, reads_refusals=reads_refusals)

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


def _raise_error_of(answer: Answer) -> None:
    if answer.error_code:
        raise error_for(answer.error_code, answer.error_text)


def _answered(answer: Answer, _payload: bytes, maybe_done: bool) -> tuple[Answer, bool]:
    return answer, maybe_done


_described = expect(g.DescribeGroupResponse)
_fetched = expect(g.OffsetFetchResponse)
