"""Group requests to a running cluster, one by one, as a client that knows the protocol and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raftlog.errors import ErrorCode
from raftlog.protocol import groups as g
from raftlog.types import OFFSETS_TOPIC, Endpoint
from tests.node.asking import ask, controller, leaders, until

TOPIC_ID = b"orders-topic-id-"
_MOVES = (
    ErrorCode.NOT_COORDINATOR,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.REQUEST_TIMED_OUT,
)


class Grouping:
    """`node()` gives the address of a node that lives."""

    def __init__(self, node: Callable[[], Endpoint], group_id: str = "readers") -> None:
        self._node = node
        self.group_id = group_id
        self.found = until(self._find)
        self.partition = g.coordinator_partition(group_id, self.found.partitions)

    def _find(self) -> g.FindCoordinatorResponse | None:
        answer = ask(controller(self._node()), g.FindCoordinatorRequest())
        return answer if isinstance(answer, g.FindCoordinatorResponse) and not answer.error_code else None

    def coordinator(self) -> Endpoint:
        return until(lambda: leaders(self._node(), OFFSETS_TOPIC)).get(self.partition)  # type: ignore[return-value]

    def send(self, make: Callable[..., Any], timeout_s: float = 5.0, **fields: Any) -> Any:
        """One answer of whoever leads now, or None."""
        if make is not g.ListGroupsRequest:
            fields["group_id"] = self.group_id
        place = {"topic_id": self.found.topic_id, "partition": self.partition}
        return ask(self.coordinator(), make(**fields), timeout_s, **place)

    def ask(self, make: Callable[..., Any], **fields: Any) -> Any:
        """The first answer that is not about who coordinates."""

        def attempt() -> Any:
            answer = self.send(make, timeout_s=1.0, **fields)
            return answer if answer is not None and answer.error_code not in _MOVES else None

        return until(attempt)

    def commit(self, offset: int, partition: int = 0, **fields: Any) -> Any:
        committed = g.CommittedOffset(topic="orders", topic_id=TOPIC_ID, partition=partition, offset=offset)
        return self.ask(g.OffsetCommitRequest, offsets=[committed], **fields)

    def fetched(self) -> dict[int, int]:
        answer = self.ask(g.OffsetFetchRequest)
        assert not answer.error_code, answer
        return {committed.partition: committed.offset for committed in answer.offsets}

    def join(self, session_timeout_ms: int = 30_000) -> g.JoinGroupResponse:
        """As the only member of the group: joined, with all assigned to itself."""
        options = {"session_timeout_ms": session_timeout_ms, "rebalance_timeout_ms": 10_000, "client_id": "test"}
        options |= {"protocol_type": "consumer", "protocols": [("range", b"orders")]}
        told = self.ask(g.JoinGroupRequest, member_id="", **options)
        assert told.error_code == ErrorCode.MEMBER_ID_REQUIRED, told
        joined: g.JoinGroupResponse = self.ask(g.JoinGroupRequest, member_id=told.member_id, **options)
        assert not joined.error_code and joined.leader == joined.member_id, joined
        synced = self.sync(joined, [(joined.member_id, b"all of it")])
        assert synced.assignment == b"all of it", synced
        return joined

    def sync(self, joined: g.JoinGroupResponse, assignments: list[tuple[str, bytes]]) -> g.SyncGroupResponse:
        answer: g.SyncGroupResponse = self.ask(
            g.SyncGroupRequest,
            generation_id=joined.generation_id,
            member_id=joined.member_id,
            assignments=assignments,
        )
        return answer

    def heartbeat(self, joined: g.JoinGroupResponse) -> int:
        answer = self.ask(g.HeartbeatRequest, generation_id=joined.generation_id, member_id=joined.member_id)
        return int(answer.error_code)
