"""Admin of groups against a node that loses answers, or has not heard yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from raftlog import Admin, TopicPartition
from raftlog.errors import ErrorCode, GroupIdNotFoundError, NoBrokersAvailableError
from raftlog.protocol import groups as g
from raftlog.protocol.cluster import MetadataRequest, MetadataResponse
from raftlog.protocol.envelope import Request
from raftlog.protocol.records import ProduceResult
from raftlog.protocol.session import Session
from tests.client.fake_node import FakeNode


class Coordinator(FakeNode):
    """Of group `g`. `lost_answers`: to so many deletions; `lagging`: so often it knows no topic.

    `stale`: so often it names topic `t` with another id.
    """

    has_group = True
    lost_answers = 0
    lagging = 0
    stale = 0

    def _handle(self, request: Request[Any], produced: dict[Session, list[ProduceResult]]) -> None:
        match request.body:
            case g.ListGroupsRequest():
                group = g.ListedGroup(group_id="g", protocol_type="", state="Empty", members=0)
                groups = [group] if self.has_group else []
                self._door.answer(request, g.ListGroupsResponse(groups=groups))
            case g.DeleteGroupRequest():
                code = ErrorCode.NONE if self.has_group else ErrorCode.GROUP_ID_NOT_FOUND
                self.has_group = False
                if self.lost_answers:
                    self.lost_answers -= 1
                else:
                    self._door.answer(request, g.DeleteGroupResponse(error_code=int(code)))
            case _:
                super()._handle(request, produced)

    def _metadata(self, request: MetadataRequest) -> MetadataResponse:
        response = super()._metadata(request)
        if self.stale and request.topics == ["t"]:
            self.stale -= 1
            response = replace(response, topics=[replace(topic, topic_id=b"s" * 16) for topic in response.topics])
        if not self.lagging or not request.topics:
            return response
        self.lagging -= 1
        unknown = int(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        topics = [replace(topic, error_code=unknown, partitions=[]) for topic in response.topics]
        return replace(response, topics=topics)


@pytest.fixture
def node() -> Iterator[Coordinator]:
    node = Coordinator()
    yield node
    node.close()


@pytest.fixture
def admin(node: Coordinator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Admin]:
    monkeypatch.setattr("raftlog.client.admin.requester.ADMIN_ATTEMPT_S", 0.3)
    with Admin(node.bootstrap) as admin:
        yield admin


def test_a_deletion_whose_answer_was_lost_is_done(node: Coordinator, admin: Admin) -> None:
    node.lost_answers = 1
    admin.delete_group("g")
    assert not node.lost_answers
    with pytest.raises(GroupIdNotFoundError, match="there is no group g"):
        admin.delete_group("g")


def test_a_node_that_is_cut_off_is_no_witness_of_what_is_not_there(node: Coordinator, admin: Admin) -> None:
    node.confirmed, node.lagging = False, 1000
    asks: list[Callable[[], object]] = [
        admin.list_groups,
        lambda: admin.describe_group("g"),
        lambda: admin.group_offsets("g"),
        lambda: admin.delete_group("g"),
        lambda: admin.set_group_offsets("g", {TopicPartition("t", 0): 1}),
        lambda: admin.describe_topics(["t"]),
    ]
    for ask in asks:
        with pytest.raises(NoBrokersAvailableError, match="node 1 hears no majority of the voters"):
            ask()
    assert not admin.describe_cluster().confirmed
    node.lagging = 0
    assert [group.group_id for group in admin.list_groups()] == ["g"], "what it knows of is there"
    with pytest.raises(NoBrokersAvailableError, match="t cannot be told"):
        admin.set_group_offsets("g", {TopicPartition("t", 0): 1})
    node.confirmed = True
    admin.set_group_offsets("g", {TopicPartition("t", 0): 1})
    assert admin.group_offsets("g") == {TopicPartition("t", 0): 1}


def test_offsets_committed_in_a_topic_that_a_node_has_not_heard_of_are_there(node: Coordinator, admin: Admin) -> None:
    admin.set_group_offsets("g", {TopicPartition("t", 0): 1})
    node.stale = 2
    assert admin.group_offsets("g") == {TopicPartition("t", 0): 1}
    node.stale = 1000
    assert admin.group_offsets("g") == {}, "of a topic that is not there any more, as confirmed nodes say again"
    node.confirmed = False
    with pytest.raises(NoBrokersAvailableError, match="t cannot be told"):
        admin.group_offsets("g")


def test_a_node_that_has_not_heard_of_the_offsets_yet_hides_no_group(node: Coordinator, admin: Admin) -> None:
    node.lagging = 1
    assert [group.group_id for group in admin.list_groups()] == ["g"]
    node.lagging = 1
    admin.delete_group("g")
    assert not node.has_group
