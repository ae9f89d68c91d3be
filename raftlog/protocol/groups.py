"""What group members, group tools and the coordinator say to each other: Kafka's classic protocol, message for message.

A group lives in partition `coordinator_partition(group_id, n)` of `__consumer_offsets`, which has n partitions; the
worker that leads it is the group's coordinator. Envelopes name that partition as Produce's name their own, so that a
worker refuses what is not its own. FindCoordinator goes to the controller, which makes the topic at its first use.

Subscription and assignment bytes belong to the members. The coordinator looks inside for one thing: which topics a
member of type "consumer" has subscribed to (raftlog/protocol/consumer_protocol.py).
"""

from __future__ import annotations

import zlib

import msgspec

from raftlog.protocol.body import Body, ResponseBody


def coordinator_partition(group_id: str, partitions: int) -> int:
    """Of `__consumer_offsets`, which keeps the number of partitions that it was made with."""
    return zlib.crc32(group_id.encode()) % partitions


class GroupBody(Body, kw_only=True):
    """What is asked of one group."""

    group_id: str


# --- controller ------------------------------------------------------------------------------
class FindCoordinatorRequest(Body, kw_only=True):
    """Makes `__consumer_offsets` where it is not there yet."""


class FindCoordinatorResponse(ResponseBody, kw_only=True):
    topic_id: bytes = b""
    partitions: int = 0


# --- membership ------------------------------------------------------------------------------
class JoinGroupRequest(GroupBody, kw_only=True):
    """member_id "": a new member, which is told its id with MEMBER_ID_REQUIRED and joins again (KIP-394).

    `protocols`: (name, subscription), the one that the member likes best first. Answered once all members have joined,
    or those that have not are given up after the longest rebalance_timeout_ms among them.
    `one_round`: a client from before KIP-394, which is a member at once. `client_host`: as tools show it.
    """

    session_timeout_ms: int
    rebalance_timeout_ms: int
    member_id: str
    group_instance_id: str | None = None  # static membership (KIP-345)
    protocol_type: str
    protocols: list[tuple[str, bytes]]
    client_id: str = ""
    one_round: bool = False
    client_host: str = ""


class GroupMember(msgspec.Struct, array_like=True, kw_only=True):
    member_id: str
    group_instance_id: str | None = None
    metadata: bytes = b""


class JoinGroupResponse(ResponseBody, kw_only=True):
    """The new generation of the group, told to a member.

    `members` only for the leader, who assigns.

    `skip_assignment`: it leads, but this generation has its assignment already (KIP-814).
    """

    generation_id: int = -1
    protocol_type: str = ""
    protocol_name: str = ""
    leader: str = ""
    member_id: str = ""
    members: list[GroupMember] = []
    skip_assignment: bool = False


class SyncGroupRequest(GroupBody, kw_only=True):
    """A member asks for its share of a generation. `assignments`: (member id, assignment), from the leader alone."""

    generation_id: int
    member_id: str
    group_instance_id: str | None = None
    protocol_type: str = ""
    protocol_name: str = ""
    assignments: list[tuple[str, bytes]] = []


class SyncGroupResponse(ResponseBody, kw_only=True):
    protocol_type: str = ""
    protocol_name: str = ""
    assignment: bytes = b""


class HeartbeatRequest(GroupBody, kw_only=True):
    """The member lives, and its user polls. The answer says when it has to join again."""

    generation_id: int
    member_id: str
    group_instance_id: str | None = None


class HeartbeatResponse(ResponseBody, kw_only=True):
    """REBALANCE_IN_PROGRESS: join again."""


class LeavingMember(msgspec.Struct, array_like=True, kw_only=True):
    """A static member may be named by its instance id alone."""

    member_id: str = ""
    group_instance_id: str | None = None


class LeaveGroupRequest(GroupBody, kw_only=True):
    """These leave at once; their partitions need not wait for the end of their sessions."""

    members: list[LeavingMember]


class LeaveGroupResponse(ResponseBody, kw_only=True):
    """One error code per member, in the order asked for."""

    member_error_codes: list[int] = []


# --- committed offsets -----------------------------------------------------------------------
NO_OFFSET = -1


class CommittedOffset(msgspec.Struct, array_like=True, kw_only=True):
    """What a group has committed, or is to commit, of a partition.

    `offset` is the next one to read. `topic_id`: a topic made anew under the name has another, and no offset yet.

    NO_OFFSET, in a commit: the group has none there any more.
    `begun_partitions`: how many the topic had when the group began to read it; the others came later. -1: not known.
    """

    topic: str
    topic_id: bytes
    partition: int
    offset: int
    leader_epoch: int = -1
    metadata: str = ""
    begun_partitions: int = -1


class OffsetCommitRequest(GroupBody, kw_only=True):
    """generation_id -1 and member_id "": from outside of the group, taken only while it has no members.

    `version`: what is committed of the group has to be as it was when OffsetFetchResponse gave this version, or nothing
    is committed (INVALID_UPDATE_VERSION). None: whatever it is.
    `committer_id`, `sequence`: a random number of the consumer, and the number of this commit of its; one that comes
    late does not take back a later one. -1: no order is known.
    """

    generation_id: int = -1
    member_id: str = ""
    group_instance_id: str | None = None
    offsets: list[CommittedOffset]
    version: bytes | None = None
    committer_id: int = -1
    sequence: int = -1


class OffsetCommitResponse(ResponseBody, kw_only=True):
    """Committed to the log, all of them, or none with one error."""


class OffsetFetchRequest(GroupBody, kw_only=True):
    """A group's committed offsets are asked for. `partitions` None: all that the group has committed."""

    partitions: list[tuple[str, int]] | None = None
    with_version: bool = False


class OffsetFetchResponse(ResponseBody, kw_only=True):
    """Only those partitions for which something is committed.

    `version`: of all that is committed of the group, if asked for; b"" where nothing is.
    """

    offsets: list[CommittedOffset] = []
    version: bytes = b""


# --- tools -----------------------------------------------------------------------------------
class ListGroupsRequest(Body, kw_only=True):
    """The groups of one partition of `__consumer_offsets`; all of them: ask each of its leaders."""


class ListedGroup(msgspec.Struct, array_like=True, kw_only=True):
    group_id: str
    protocol_type: str
    state: str
    members: int


class ListGroupsResponse(ResponseBody, kw_only=True):
    groups: list[ListedGroup] = []


class DescribeGroupRequest(GroupBody, kw_only=True):
    """State, generation and members of one group."""


class DescribedMember(msgspec.Struct, array_like=True, kw_only=True):
    member_id: str
    group_instance_id: str | None
    client_id: str
    metadata: bytes
    assignment: bytes
    client_host: str = ""


class DescribeGroupResponse(ResponseBody, kw_only=True):
    """A group and its members. `state` "Dead" for a group that is not there."""

    group_id: str = ""
    state: str = ""
    protocol_type: str = ""
    protocol_name: str = ""
    generation_id: int = -1
    members: list[DescribedMember] = []


class DeleteGroupRequest(GroupBody, kw_only=True):
    """Refused with NON_EMPTY_GROUP while it has members, and where `version` is not that of the group any more.

    So a request that comes again, or late, deletes no group that was made anew under the name. None: whatever it is.
    """

    version: bytes | None


class DeleteGroupResponse(ResponseBody, kw_only=True):
    pass


class OffsetDeleteRequest(GroupBody, kw_only=True):
    """What the group has committed for these partitions is forgotten; its members' topics are left alone."""

    partitions: list[tuple[str, int]]


class OffsetDeleteResponse(ResponseBody, kw_only=True):
    """One error code per partition, in the order asked for: 0, or GROUP_SUBSCRIBED_TO_TOPIC."""

    partition_error_codes: list[int] = []
