"""ElectLeaders: the first replica of a partition, the preferred one, leads again (KIP-460); others are refused."""

from __future__ import annotations

from typing import Any

from raftlog import limits
from raftlog.errors import ErrorCode
from raftlog.kafka import wire
from raftlog.kafka.calls import AnyLeader, Call, Fields, together
from raftlog.kafka.cluster import Cluster
from raftlog.kafka.codes import KafkaCode
from raftlog.kafka.handlers.mutations import error_fields, patience_ms, settle
from raftlog.protocol import apis
from raftlog.protocol.cluster import PartitionMetadata
from raftlog.protocol.records import ElectLeaderRequest
from raftlog.types import TopicPartition

_PREFERRED, _UNCLEAN = 0, 1
_NO_UNCLEAN = "a replica that lacks acknowledged records is only elected by the operator: raftlog doctor --recover"


async def elect_leaders(call: Call) -> Fields:
    """The answer names every partition that was named; of all partitions only those where something was to be done."""
    request = call.request
    kind = wire.field(request, "election_type", _PREFERRED)
    named = request.topic_partitions
    if named is None:
        wanted = [
            TopicPartition(name, each.partition)
            for name, topic in call.cluster.topics.items()
            for each in topic.partitions
        ]
    else:
        wanted = [TopicPartition(topic.topic, partition) for topic in named for partition in topic.partitions]
    results = await _elect(call, wanted, kind, call.now_s + patience_ms(request.timeout) / 1000)
    if named is None:
        needless = int(KafkaCode.ELECTION_NOT_NEEDED)
        results = {place: fields for place, fields in results.items() if fields["error_code"] != needless}
    topics: dict[str, list[dict[str, Any]]] = {}
    for place, fields in results.items():
        topics.setdefault(place.topic, []).append({"partition_id": place.partition, **fields})
    return {"replica_election_results": [{"topic": name, "partition_result": found} for name, found in topics.items()]}


async def _elect(
    call: Call, wanted: list[TopicPartition], kind: int, deadline_s: float
) -> dict[TopicPartition, dict[str, Any]]:
    results: dict[TopicPartition, dict[str, Any]] = {}
    asks: dict[TopicPartition, Any] = {}
    timeout_s = min(deadline_s - call.now_s, limits.ADMIN_ATTEMPT_S)
    for place in wanted:
        partition = call.cluster.partition(*place)
        code, text = _why_not(call.cluster, partition, kind)
        results[place] = error_fields(code, text)
        if not code:
            target = AnyLeader(place.topic, call.cluster.topics[place.topic].topic_id, place.partition)
            asks[place] = call.ask(target, apis.ELECT_LEADER, ElectLeaderRequest(), timeout_s=timeout_s)
    answers = await together(list(asks.values()))
    for place, (answer, _) in zip(asks, answers, strict=True):
        results[place] = error_fields(answer.error_code, answer.error_text)
    moved = [place for place in asks if not results[place]["error_code"]]
    names = {place.topic for place in moved}
    await settle(call, deadline_s, names, lambda cluster: all(_leads(cluster.partition(*place)) for place in moved))
    return results


def _why_not(cluster: Cluster, partition: PartitionMetadata | None, kind: int) -> tuple[int, str]:
    if kind not in (_PREFERRED, _UNCLEAN):
        return ErrorCode.INVALID_REQUEST, f"there are no elections of type {kind}: 0 is preferred"
    if partition is None:
        return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "there is no such partition"
    if kind == _UNCLEAN:
        if partition.leader_id >= 0:
            return KafkaCode.ELECTION_NOT_NEEDED, f"node {partition.leader_id} leads"
        return ErrorCode.INVALID_REQUEST, _NO_UNCLEAN
    preferred = partition.replicas[0]
    if _leads(partition):
        return KafkaCode.ELECTION_NOT_NEEDED, f"node {preferred}, the preferred replica, leads already"
    if not cluster.living([preferred]) or (partition.in_sync and preferred not in partition.in_sync):
        return ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE, f"node {preferred}, the preferred replica, is not in sync"
    return ErrorCode.NONE, ""


def _leads(partition: PartitionMetadata | None) -> bool:
    return partition is not None and partition.leader_id == partition.replicas[0]
