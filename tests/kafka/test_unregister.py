"""UnregisterBroker: what Kafka's tool asks, and what the controller is asked."""

from __future__ import annotations

from raftlog.errors import ErrorCode
from raftlog.protocol import apis
from raftlog.protocol.cluster import RemoveNodeResponse
from raftlog.protocol.topics import TopicIdsResponse
from tests.kafka.door import Door, cluster


def test_a_broker_is_removed_or_the_reason_is_told() -> None:
    door = Door(cluster())
    door.workers[apis.TOPIC_IDS] = lambda *_: TopicIdsResponse(end_offset=7)
    door.workers[apis.REMOVE_NODE] = lambda *_: RemoveNodeResponse()
    assert door.request("UnregisterBroker", 0, broker_id=4)["error_code"] == 0
    _, asked = door.asked[-1]
    assert (asked.node_id, asked.since_offset) == (4, 7)
    door.workers[apis.REMOVE_NODE] = lambda *_: RemoveNodeResponse(ErrorCode.INVALID_REQUEST, "node 4 holds 1 replica")
    found = door.request("UnregisterBroker", 0, broker_id=4)
    assert (found["error_code"], found["error_message"]) == (42, "node 4 holds 1 replica")
