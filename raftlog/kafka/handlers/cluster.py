"""DescribeCluster, FindCoordinator, InitProducerId, DescribeLogDirs, UnregisterBroker: of the cluster, or this node."""

from __future__ import annotations

from typing import Any

from raftlog import limits
from raftlog.errors import ErrorCode
from raftlog.kafka import wire
from raftlog.kafka.calls import Call, Controller, Fields, Node
from raftlog.kafka.cluster import Cluster
from raftlog.kafka.codes import KafkaCode
from raftlog.kafka.handlers.metadata import (
    NOT_ASKED,
    broker_fields,
    cluster_operations,
    controller_id,
    first_news,
)
from raftlog.kafka.handlers.mutations import change_once, error_fields, is_led, wait_until
from raftlog.protocol import apis
from raftlog.protocol.cluster import DescribeReplicasRequest, DescribeReplicasResponse, RemoveNodeRequest
from raftlog.protocol.groups import FindCoordinatorRequest, FindCoordinatorResponse, coordinator_partition
from raftlog.protocol.records import InitProducerIdRequest, InitProducerIdResponse
from raftlog.types import NOBODY, OFFSETS_TOPIC, ReplicaStatus, Role

NO_TRANSACTIONS = "there are no transactions yet: use the producer without a transactional id"
_BROKERS, _CONTROLLERS = 1, 2
_GROUP, _TRANSACTION = 0, 1


# --- DescribeCluster -------------------------------------------------------------------------------
async def describe_cluster(call: Call) -> Fields:
    await first_news(call)
    request, cluster = call.request, call.cluster
    endpoint_type = wire.field(request, "endpoint_type", _BROKERS)
    if endpoint_type != _BROKERS:
        known = endpoint_type == _CONTROLLERS
        code = KafkaCode.MISMATCHED_ENDPOINT_TYPE if known else KafkaCode.UNSUPPORTED_ENDPOINT_TYPE
        text = "the controller has no address of its own: ask the brokers"
        return {"error_code": int(code), "error_message": text, "endpoint_type": _BROKERS}
    brokers = broker_fields(cluster)
    if wire.field(request, "include_fenced_brokers", False):
        brokers += _fenced(cluster)
    return {
        "endpoint_type": _BROKERS,
        "cluster_id": cluster.cluster_id,
        "controller_id": controller_id(cluster),
        "brokers": brokers,
        "cluster_authorized_operations": (
            cluster_operations(call) if request.include_cluster_authorized_operations else NOT_ASKED
        ),
    }


def _fenced(cluster: Cluster) -> list[dict[str, Any]]:
    """Nodes that are not heard from, where their last address is known."""
    return [
        {"broker_id": node.node_id, "host": node.kafka.host, "port": node.kafka.port, "is_fenced": True}
        for node in cluster.nodes.values()
        if not node.alive and node.kafka is not None
    ]


# --- FindCoordinator -------------------------------------------------------------------------------
async def find_coordinator(call: Call) -> Fields:
    request = call.request
    key_type = wire.field(request, "key_type", _GROUP)
    keys = wire.field(request, "coordinator_keys", None)
    found = [await _coordinator(call, key_type, key) for key in ([request.key] if keys is None else keys)]
    # Before version 4 there is one key, and its coordinator is the answer itself.
    return {"coordinators": found} if keys is not None else found[0]


async def _coordinator(call: Call, key_type: int, key: str) -> dict[str, Any]:
    if key_type == _TRANSACTION:
        return _nobody(key, KafkaCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, NO_TRANSACTIONS)
    if key_type != _GROUP:
        return _nobody(key, ErrorCode.INVALID_REQUEST, f"there are no coordinators of type {key_type}")
    if OFFSETS_TOPIC not in call.cluster.topics:
        await _make_offsets_topic(call)
    cluster = call.cluster
    topic = cluster.topics.get(OFFSETS_TOPIC)
    if topic is not None:
        leader_id = topic.partitions[coordinator_partition(key, len(topic.partitions))].leader_id
        for broker in cluster.brokers:
            if broker.node_id == leader_id:
                return {
                    "key": key,
                    "node_id": broker.node_id,
                    "host": broker.endpoint.host,
                    "port": broker.endpoint.port,
                    "error_code": 0,
                }
    return _nobody(key, ErrorCode.COORDINATOR_NOT_AVAILABLE, "the group has no coordinator now")


async def _make_offsets_topic(call: Call) -> None:
    """Once, by the controller, whoever asks; what has gone wrong shows in the topic that is not there."""
    deadline_s = call.now_s + limits.KAFKA_CREATE_S
    made: FindCoordinatorResponse
    made, _ = await call.ask(
        Controller(), apis.FIND_COORDINATOR, FindCoordinatorRequest(), timeout_s=limits.KAFKA_CREATE_S
    )
    if not made.error_code:
        await wait_until(call, deadline_s, lambda cluster: is_led(cluster, OFFSETS_TOPIC, made.topic_id))


def _nobody(key: str, code: int, text: str) -> dict[str, Any]:
    return {"key": key, "node_id": NOBODY, "host": "", "port": -1, "error_code": int(code), "error_message": text}


# --- InitProducerId --------------------------------------------------------------------------------
async def init_producer_id(call: Call) -> Fields:
    """A new id each time: a client that counts on from an old one loses nothing by another."""
    request = call.request
    none = {"producer_id": -1, "producer_epoch": -1}
    old = (wire.field(request, "producer_id", -1), wire.field(request, "producer_epoch", -1))
    if request.transactional_id == "" or (old[0] < 0) != (old[1] < 0):
        return {"error_code": int(ErrorCode.INVALID_REQUEST), **none}
    if request.transactional_id is not None:
        return {"error_code": int(KafkaCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED), **none}
    answer: InitProducerIdResponse
    # Answered soon, whatever the answer is: to some clients one that does not come in time is the end of a producer.
    answer, _ = await call.ask(
        Controller(), apis.INIT_PRODUCER_ID, InitProducerIdRequest(), timeout_s=limits.KAFKA_COORDINATOR_S
    )
    if answer.error_code:
        # There is no controller now. This is what Kafka's clients ask again for.
        return {"error_code": int(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS), **none}
    return {"producer_id": answer.producer_id, "producer_epoch": answer.producer_epoch}


# --- DescribeLogDirs -------------------------------------------------------------------------------
async def describe_log_dirs(call: Call) -> Fields:
    """The one directory of this node, and its replicas that hold records."""
    wanted = None
    if call.request.topics is not None:
        wanted = {topic.topic: set(topic.partitions) for topic in call.request.topics}
    body = DescribeReplicasRequest(None if wanted is None else list(wanted))
    answer: DescribeReplicasResponse
    answer, _ = await call.ask(Node(), apis.DESCRIBE_REPLICAS, body, timeout_s=limits.ADMIN_ATTEMPT_S)
    if answer.error_code:
        return {"error_code": answer.error_code, "results": []}
    topics: dict[str, list[dict[str, Any]]] = {}
    for status in answer.replicas:
        if _is_here(call, status) and (wanted is None or status.partition in wanted[status.topic]):
            topics.setdefault(status.topic, []).append(_replica(status))
    total_bytes, usable_bytes = call.volume_bytes()
    result = {
        "log_dir": call.settings.data_directory,
        "topics": [{"name": name, "partitions": partitions} for name, partitions in topics.items()],
        "total_bytes": total_bytes,
        "usable_bytes": usable_bytes,
    }
    return {"results": [result]}


def _is_here(call: Call, status: ReplicaStatus) -> bool:
    here = status.node_id == call.settings.node_id and status.topic in call.cluster.topics
    return here and status.role is not Role.WITNESS


def _replica(status: ReplicaStatus) -> dict[str, Any]:
    lag = max(status.high_watermark - status.log_end_offset, 0)
    return {"partition_index": status.partition, "partition_size": status.size_bytes, "offset_lag": lag}


# --- UnregisterBroker ------------------------------------------------------------------------------
async def unregister_broker(call: Call) -> Fields:
    node_id = int(call.request.broker_id)
    answer = await change_once(
        call, apis.REMOVE_NODE, lambda mutation_id, end: RemoveNodeRequest(mutation_id, end, node_id=node_id)
    )
    return error_fields(answer.error_code, answer.error_text)
