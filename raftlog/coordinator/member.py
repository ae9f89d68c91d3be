"""One member of a group, and the vote for the protocol that all of them speak."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from raftlog.clock import NEVER_S
from raftlog.coordinator.records import MemberValue
from raftlog.errors import InvalidRequestError
from raftlog.limits import REBALANCE_TIMEOUT_MAX_MS
from raftlog.protocol.consumer_protocol import decode_subscription
from raftlog.protocol.envelope import Request
from raftlog.protocol.groups import GroupMember, JoinGroupRequest

Protocols = list[tuple[str, bytes]]


class Member:
    """A member of a consumer group.

    `join` and `sync`: who waits for the answer. While one waits the member lives, though it says nothing.
    """

    def __init__(self, member_id: str, group_instance_id: str | None) -> None:
        self.member_id = member_id
        self.group_instance_id = group_instance_id
        self.client_id = ""
        self.client_host = ""
        self.session_timeout_ms = 0
        self.rebalance_timeout_ms = 0
        self.protocols: Protocols = []
        self.assignment = b""
        self.deadline_s = NEVER_S  # of its session
        self.join: Request[Any] | None = None
        self.sync: Request[Any] | None = None
        self.owes_sync = False  # was told the generation, has not asked for its assignment

    @classmethod
    def of(cls, value: MemberValue) -> Member:
        member = cls(value.member_id, value.group_instance_id)
        member.client_id = value.client_id
        member.client_host = value.client_host
        member.session_timeout_ms = value.session_timeout_ms
        member.rebalance_timeout_ms = value.rebalance_timeout_ms
        member.protocols = value.protocols
        member.assignment = value.assignment
        return member

    def take_wishes(self, request: JoinGroupRequest) -> None:
        self.client_id = request.client_id
        self.client_host = request.client_host
        self.session_timeout_ms = request.session_timeout_ms
        self.rebalance_timeout_ms = min(max(request.rebalance_timeout_ms, 1), REBALANCE_TIMEOUT_MAX_MS)
        self.protocols = request.protocols

    def value(self, assignment: bytes) -> MemberValue:
        return MemberValue(
            member_id=self.member_id,
            group_instance_id=self.group_instance_id,
            client_id=self.client_id,
            session_timeout_ms=self.session_timeout_ms,
            rebalance_timeout_ms=self.rebalance_timeout_ms,
            protocols=self.protocols,
            assignment=assignment,
            client_host=self.client_host,
        )

    @property
    def waits(self) -> bool:
        return self.join is not None or self.sync is not None

    @property
    def size_bytes(self) -> int:
        return size_of(self.protocols)

    def topics(self, protocol_name: str) -> frozenset[str] | None:
        """That it has subscribed to as a consumer; None where its bytes do not say that."""
        try:
            return frozenset(decode_subscription(self.metadata(protocol_name)).topics)
        except InvalidRequestError:
            return None

    def metadata(self, protocol_name: str) -> bytes:
        return next((metadata for name, metadata in self.protocols if name == protocol_name), b"")

    def seen_by_leader(self, protocol_name: str) -> GroupMember:
        metadata = self.metadata(protocol_name)
        return GroupMember(member_id=self.member_id, group_instance_id=self.group_instance_id, metadata=metadata)


def size_of(protocols: Protocols) -> int:
    """What they take in a record, and a little for each."""
    return sum(len(name) + len(metadata) + 8 for name, metadata in protocols)


def spoken_by_all(members: Collection[Member]) -> set[str]:
    """Empty also where there are no members."""
    spoken = [{name for name, _ in member.protocols} for member in members]
    return set.intersection(*spoken) if spoken else set()


def elect_protocol(members: Collection[Member]) -> str:
    """Each member votes for the first on its list that all of them speak; on a tie the first voted for wins."""
    candidates = spoken_by_all(members)
    votes: dict[str, int] = {}
    for member in members:
        vote = next(name for name, _ in member.protocols if name in candidates)
        votes[vote] = votes.get(vote, 0) + 1
    return max(votes, key=votes.__getitem__)
