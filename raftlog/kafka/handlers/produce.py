"""Produce: batches pass untouched to the workers that lead their partitions.

Order within a partition is the order of arrival: the next request is handed on before the last one is answered. A
request with acks=0 has no answer; an error then closes the connection, as in Kafka, so that the client looks for the
leader again.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from raftlog import limits
from raftlog.errors import ErrorCode
from raftlog.kafka.calls import Leader
from raftlog.kafka.codes import KafkaCode
from raftlog.kafka.produce_messages import (
    FIRST_VERSION,
    TOPIC_IDS_FROM,
    Produce,
    Topic,
    read_produce,
    write_written,
)
from raftlog.kafka.request_reader import UnreadableRequestError
from raftlog.protocol import apis
from raftlog.protocol.records import ProduceRequest, ProduceResult
from raftlog.security.acls import Operation, ResourceType
from raftlog.security.audit import DENIED, NO_RULE

if TYPE_CHECKING:
    from raftlog.kafka.broker import Broker, Incoming
    from raftlog.types import Buffer

_UNKNOWN_NAME, _UNKNOWN_ID = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, KafkaCode.UNKNOWN_TOPIC_ID
_GRACE_S = 5.0  # a worker answers in time itself


class Produces:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def serve(self, incoming: Incoming, frame: memoryview, at: int) -> None:
        version = incoming.version
        if version < FIRST_VERSION:
            raise UnreadableRequestError(f"Produce version {version}, which is older than batches")
        request = read_produce(version, frame, at)
        call = _ProduceCall(self._broker, incoming, request)
        if request.transactional_id is not None:
            call.refuse_all(KafkaCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
            return
        timeout_ms = min(max(request.timeout_ms, 0), limits.PRODUCE_TIMEOUT_MAX_MS)
        # With acks=0 the worker is asked for the answer that the client does not want. A worker that was silent could
        # not be told from one that is gone, and each record would end its connection after a while.
        body = ProduceRequest(request.acks or 1, timeout_ms)
        timeout_s = timeout_ms / 1000 + _GRACE_S
        cluster, ask = self._broker.cluster, self._broker.backend.ask
        policy, session = self._broker.policy, incoming.connection.session
        place = 0
        for topic, partitions in request.topics:
            known = cluster.topic_of_id(topic) if isinstance(topic, bytes) else cluster.topics.get(topic)
            name = known.name if known is not None else topic
            denied = (
                policy.authorizes
                and isinstance(name, str)
                and not policy.allows(session.principal, session.host, Operation.WRITE, ResourceType.TOPIC, name)
            )
            if denied:
                names = [str(name)]
                self._broker.note(session, "Produce", DENIED, Operation.WRITE, ResourceType.TOPIC, names, NO_RULE)
            for index, records in partitions:
                told = partial(call.told, place)
                place += 1
                if denied:
                    told(ProduceResult(error_code=ErrorCode.TOPIC_AUTHORIZATION_FAILED), None)
                elif known is None:
                    named = version < TOPIC_IDS_FROM
                    told(ProduceResult(error_code=_UNKNOWN_NAME if named else _UNKNOWN_ID), None)
                elif records is None:
                    told(ProduceResult(error_code=ErrorCode.INVALID_RECORD), None)
                else:
                    ask(Leader(known.topic_id, index), apis.PRODUCE, body, records, timeout_s, told)
        call.begun()


class _ProduceCall:
    """One request whose partitions are written one by one."""

    __slots__ = ("_broker", "_incoming", "_missing", "_request", "_results")

    def __init__(self, broker: Broker, incoming: Incoming, request: Produce) -> None:
        self._broker = broker
        self._incoming = incoming
        self._request = request
        count = sum(len(partitions) for _, partitions in request.topics)
        self._results: list[ProduceResult | None] = [None] * count  # in the order of the request's partitions
        self._missing = count + 1  # the request itself is one: it is complete once all of it was asked

    def refuse_all(self, code: int) -> None:
        self._results = [ProduceResult(error_code=code)] * len(self._results)
        self._missing = 0
        self._finish()

    def told(self, place: int, result: ProduceResult, _payload: Buffer | None) -> None:
        self._results[place] = result
        self._missing -= 1
        if not self._missing:
            self._finish()

    def begun(self) -> None:
        self._missing -= 1
        if not self._missing or not self._request.acks:
            self._finish()

    def _finish(self) -> None:
        incoming = self._incoming
        if not self._request.acks:
            self._finish_unacknowledged()
            return
        results = iter(self._results)
        told = [
            (topic, [(index, result) for (index, _), result in zip(partitions, results, strict=False) if result])
            for topic, partitions in self._request.topics
        ]
        if any(result and result.error_code for result in self._results):
            throttle_ms = self._broker.throttle_ms(incoming.connection)
            fields = {"responses": [_topic_fields(*each) for each in told], "throttle_time": throttle_ms}
            self._broker.answer(incoming, fields)
            return
        written = [
            (topic, [(index, result.base_offset, result.append_ms) for index, result in each]) for topic, each in told
        ]
        throttle_ms = self._broker.throttle_ms(incoming.connection)
        self._broker.send(incoming, [write_written(incoming.version, incoming.correlation_id, written, throttle_ms)])

    def _finish_unacknowledged(self) -> None:
        incoming = self._incoming
        if incoming.slot.buffers is None:
            self._broker.answer(incoming, None)
            incoming.slot.buffers = []
        failed = [result for result in self._results if result and result.error_code > 0]
        if failed:
            self._broker.close(incoming.connection, f"a produce request with acks=0 failed: {failed[0].error_text}")


def _topic_fields(topic: Topic, results: list[tuple[int, ProduceResult]]) -> dict[str, Any]:
    return {
        "topic_id" if isinstance(topic, bytes) else "name": topic,
        "partition_responses": [_partition_fields(index, result) for index, result in results],
    }


def _partition_fields(index: int, result: ProduceResult) -> dict[str, Any]:
    code = result.error_code
    if code == ErrorCode.THROTTLING_QUOTA_EXCEEDED:
        code = ErrorCode.NOT_ENOUGH_REPLICAS  # nothing was written, and every client sends it again in a moment
    fields: dict[str, Any] = {
        "index": index,
        "error_code": code,
        "base_offset": result.base_offset,
        "log_append_time": None if result.append_ms < 0 else result.append_ms,
        "log_start_offset": -1,
        "error_message": result.error_text or None,
    }
    if result.leader_id >= 0 and result.error_code:
        fields["current_leader"] = {"leader_id": result.leader_id, "leader_epoch": result.leader_epoch}
    return fields
