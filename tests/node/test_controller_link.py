"""What a door is told when it asks the controller or a supervisor in vain: an error that Kafka's clients retry."""

from __future__ import annotations

import select
from collections.abc import Iterator
from typing import Any

import pytest

from raftlog.errors import ErrorCode
from raftlog.kafka.calls import AnyLeader, Controller, Node
from raftlog.node.controller_link import ControllerLink
from raftlog.protocol import apis
from raftlog.protocol.cluster import MetadataRequest
from raftlog.protocol.records import ElectLeaderRequest
from raftlog.protocol.topics import TopicIdsRequest
from raftlog.types import Endpoint
from tests.node.started import free_port
from tests.patience import WAIT_S


@pytest.fixture
def link() -> Iterator[ControllerLink]:
    link = ControllerLink(Endpoint("127.0.0.1", free_port()))
    yield link
    link.close()


@pytest.mark.parametrize(
    ("target", "api", "body"),
    [
        (Controller(), apis.TOPIC_IDS, TopicIdsRequest(["orders"])),
        (AnyLeader("orders", bytes(16), 0), apis.ELECT_LEADER, ElectLeaderRequest()),
        (Node(), apis.METADATA, MetadataRequest()),
        (Node(Endpoint("127.0.0.1", 1)), apis.METADATA, MetadataRequest()),
    ],
)
def test_where_nobody_answers_the_request_has_timed_out(link: ControllerLink, target: Any, api: Any, body: Any) -> None:
    told: list[Any] = []
    link.ask(target, api, body, 0.2, lambda answer, _payload: told.append(answer))
    assert select.select([link.descriptor], [], [], WAIT_S)[0]
    link.receive()
    (answer,) = told
    assert answer.error_code == ErrorCode.REQUEST_TIMED_OUT
    assert answer.error_text
