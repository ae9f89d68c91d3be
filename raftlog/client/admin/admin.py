"""Admin: topics, nodes and replicas, one blocking request each. Bounded by `request_timeout_ms`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

from raftlog.client import arguments
from raftlog.client.admin.requester import changed, raise_error_of, result_of
from raftlog.client.admin.security import SecurityAdmin
from raftlog.client.core.call import CONTROLLER, Call
from raftlog.client.core.exchange import A, Q
from raftlog.clock import monotonic_s
from raftlog.errors import (
    ErrorCode,
    InvalidRequestError,
    NoBrokersAvailableError,
    RaftlogError,
    RequestTimedOutError,
    UnknownTopicOrPartitionError,
    error_for,
)
from raftlog.limits import ADMIN_ATTEMPT_S, THROTTLED_S, TOPIC_SETTLE_S
from raftlog.protocol import apis
from raftlog.protocol.apis import Api
from raftlog.protocol.cluster import (
    DescribeReplicasRequest,
    DescribeThrottledRequest,
    DescribeThrottledResponse,
    MetadataResponse,
    RecoverPartitionRequest,
    RemoveNodeRequest,
    TopicMetadata,
)
from raftlog.protocol.reassignments import (
    AlterReassignmentsRequest,
    ListReassignmentsRequest,
    OngoingReassignment,
    Reassignment,
    ReassignmentResult,
)
from raftlog.protocol.records import HIGH_WATERMARK, DeleteRecordsRequest, DeleteRecordsResponse
from raftlog.protocol.report import ThrottledClient
from raftlog.protocol.topics import (
    MUTATION_ID_BYTES,
    CreatePartitionsRequest,
    CreateTopicsRequest,
    DeleteTopicsRequest,
    IncrementalAlterConfigsRequest,
    NewTopic,
    TopicIdsRequest,
    TopicIdsResponse,
    TopicResult,
)
from raftlog.types import INTERNAL_TOPICS, LATEST_TIMESTAMP, Endpoint, ReplicaStatus, TopicPartition

_SETTLE_AGAIN_S = 0.02
R = TypeVar("R", TopicResult, ReassignmentResult)


class Admin(SecurityAdmin):
    """Topics, nodes, replicas, groups, users and rules, asked for and changed: one blocking request per call.

    Whatever fails is raised, as the error of raftlog.errors that says so. Of a call for several, each stands or falls
    alone: the error is that of the first that failed, and its `results` tell what became of each.

    Each method raises NoBrokersAvailableError or RequestTimedOutError when its time is up, or ClosedError. Where the
    `outcome_unknown` of such an error is set, the change may have been made all the same.
    """

    def create_topics(self, topics: Sequence[NewTopic], *, validate_only: bool = False) -> list[TopicResult]:
        """One result per topic, in order. Raises TopicAlreadyExistsError, InvalidTopicError and others.

        When it returns, every node that is reachable knows of them, so that whoever asks next finds them.
        `validate_only`: what would become of it, and nothing does.
        """
        wanted = list(topics)

        def body(mutation_id: bytes, found: TopicIdsResponse) -> CreateTopicsRequest:
            return CreateTopicsRequest(mutation_id, found.end_offset, wanted, self._attempt_ms(), validate_only)

        results = self._change("create topics", [topic.name for topic in wanted], apis.CREATE_TOPICS, body).results
        if validate_only:
            return _all_done(results)
        made = {result.name: result.topic_id for result in results if not result.error_code}
        self._settle(list(made), lambda topic: topic.topic_id == made[topic.name])
        return _all_done(results)

    def delete_topics(self, names: Sequence[str]) -> list[TopicResult]:
        """One result per topic, in order. Raises UnknownTopicOrPartitionError, InvalidTopicError for raftlog's own."""
        wanted = list(names)

        def body(mutation_id: bytes, found: TopicIdsResponse) -> DeleteTopicsRequest:
            topics = list(zip(wanted, found.topic_ids, strict=True))
            return DeleteTopicsRequest(mutation_id, found.end_offset, topics, self._attempt_ms())

        results = self._change("delete topics", wanted, apis.DELETE_TOPICS, body).results
        gone = {result.name: result.topic_id for result in results if not result.error_code}
        self._settle(list(gone), lambda topic: topic.topic_id != gone[topic.name])
        return _all_done(results)

    def alter_topic(
        self, name: str, config: Mapping[str, str], *, reset: Iterable[str] = (), validate_only: bool = False
    ) -> None:
        """Sets these settings of a topic, puts those of `reset` back to their defaults, and leaves the others.

        `validate_only`: whether it could be done, and nothing is.

        Raises UnknownTopicOrPartitionError, InvalidConfigError, InvalidTopicError for raftlog's own topics.
        """
        wanted, put_back = dict(config), list(reset)

        def body(mutation_id: bytes, found: TopicIdsResponse) -> IncrementalAlterConfigsRequest:
            return IncrementalAlterConfigsRequest(
                mutation_id,
                found.end_offset,
                name=name,
                topic_id=found.topic_ids[0],
                config=wanted,
                reset=put_back,
                validate_only=validate_only,
            )

        _all_done(self._change("alter a topic", [name], apis.INCREMENTAL_ALTER_CONFIGS, body).results)

    def create_partitions(self, name: str, partitions: int, *, validate_only: bool = False) -> TopicResult:
        """`partitions`: how many the topic shall have in all; there can only be more. Records stay where they are.

        Keys go to other partitions from then on. When it returns, every node that is reachable knows of them. Raises
        UnknownTopicOrPartitionError, InvalidPartitionsError, InvalidTopicError for raftlog's own topics.
        `validate_only`: what would become of it, and nothing does.
        """

        def body(mutation_id: bytes, found: TopicIdsResponse) -> CreatePartitionsRequest:
            return CreatePartitionsRequest(
                mutation_id,
                found.end_offset,
                name=name,
                topic_id=found.topic_ids[0],
                partitions=partitions,
                validate_only=validate_only,
            )

        (result,) = _all_done(self._change("create partitions", [name], apis.CREATE_PARTITIONS, body).results)
        if validate_only:
            return result
        topic_id = result.topic_id
        self._settle([name], lambda topic: topic.topic_id == topic_id and len(topic.partitions) >= partitions)
        return result

    def alter_partition_reassignments(
        self,
        wanted: Mapping[TopicPartition, Sequence[int] | None],
        *,
        witnesses: Mapping[TopicPartition, Sequence[int]] | None = None,
        bytes_per_s: int = 0,
        validate_only: bool = False,
    ) -> list[ReassignmentResult]:
        """The nodes that partitions shall have, the preferred leader first; None: go back to those that there were.

        One result per partition, in order; each is a plan from then on, which the partition's leader carries out while
        clients go on, and `list_partition_reassignments` has it until it is done. Another wish replaces a plan; the
        same one with another `bytes_per_s`, how fast each leader feeds new replicas (0: LEARNER_BYTES_PER_S), sets it.
        `witnesses`: where they are named; else the controller chooses, and keeps those that there are. `validate_only`:
        what would be said, and nothing is done.

        Raises UnknownTopicOrPartitionError, InvalidReplicaAssignmentError, InvalidConfigError (fewer replicas than
        min_insync_replicas), NoReassignmentInProgressError, UnsupportedVersionError (a node is too old for it).
        """
        places = {arguments.place(place): replicas for place, replicas in wanted.items()}
        named = {arguments.place(place): tuple(ids) for place, ids in (witnesses or {}).items()}
        names = sorted({place.topic for place in places})

        def body(mutation_id: bytes, found: TopicIdsResponse) -> AlterReassignmentsRequest:
            topic_ids = dict(zip(names, found.topic_ids, strict=True))
            changes = [
                Reassignment(
                    topic=place.topic,
                    topic_id=topic_ids[place.topic],
                    partition=place.partition,
                    replicas=None if replicas is None else tuple(replicas),
                    witnesses=named.get(place),
                )
                for place, replicas in places.items()
            ]
            return AlterReassignmentsRequest(
                mutation_id,
                found.end_offset,
                changes=changes,
                bytes_per_s=bytes_per_s,
                validate_only=validate_only,
            )

        return _all_done(self._change("move replicas", names, apis.ALTER_REASSIGNMENTS, body).results)

    def list_partition_reassignments(self, topics: Iterable[str] | None = None) -> list[OngoingReassignment]:
        """The plans that are not carried out yet, by topic and partition; None: of all topics."""
        request = ListReassignmentsRequest(None if topics is None else list(topics))
        return self._ask("list moving replicas", CONTROLLER, apis.LIST_REASSIGNMENTS, request).ongoing

    def _settle(self, names: list[str], knows: Callable[[TopicMetadata], bool]) -> None:
        """Waits until every living node `knows` what became of these topics, at most TOPIC_SETTLE_S."""
        if not names:
            return
        deadline_s = monotonic_s() + TOPIC_SETTLE_S
        behind = [Endpoint(*node.endpoint) for node in self.describe_cluster().nodes if node.alive]
        while behind and monotonic_s() < deadline_s:
            behind = [node for node in behind if not self._node_knows(node, names, knows, deadline_s)]
            if behind:
                time.sleep(_SETTLE_AGAIN_S)

    def _node_knows(
        self, node: Endpoint, names: list[str], knows: Callable[[TopicMetadata], bool], deadline_s: float
    ) -> bool:
        try:
            return all(knows(topic) for topic in self._metadata(names, node, deadline_s).topics)
        except RaftlogError:
            return False  # it is not reachable now

    def delete_records(self, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Deletes what lies below these offsets, permanently; HIGH_WATERMARK (-1): all that can be read now.

        Returns where each log starts now, once that is durable on every in-sync replica. Raises OffsetOutOfRangeError
        beyond the end, PolicyViolationError for a topic that is only compacted, InvalidTopicError for raftlog's own,
        UnknownTopicOrPartitionError. `results` of an error: of each partition that was asked its start, or its error.
        """
        deadline_s = monotonic_s() + self._timeout_s
        # Looked up once: a second attempt must not delete what came after the first, nor what a topic holds that was
        # made anew since.
        offsets = {arguments.place(place): offset for place, offset in offsets.items()}
        names = sorted({place.topic for place in offsets})
        topic_ids = dict(zip(names, self._look_up("delete records", names, deadline_s).topic_ids, strict=True))
        for name, topic_id in topic_ids.items():
            if not topic_id:
                raise UnknownTopicOrPartitionError(f"there is no topic {name}")
        ends = [place for place, offset in offsets.items() if offset == HIGH_WATERMARK]
        offsets = {**offsets, **self._offsets(dict.fromkeys(ends, LATEST_TIMESTAMP), deadline_s, topic_ids)}
        calls = {
            place: _delete_call(place, topic_ids[place.topic], offset, deadline_s) for place, offset in offsets.items()
        }
        for call in calls.values():
            self._engine.submit(call)
        results: dict[TopicPartition, int | RaftlogError] = {}
        for place, call in calls.items():
            try:
                results[place] = changed(call)
            except RaftlogError as error:
                results[place] = error
        for result in results.values():
            if isinstance(result, RaftlogError):
                result.results = results
                raise result
        return {place: start for place, start in results.items() if isinstance(start, int)}

    def list_topics(self) -> list[str]:
        """Names of the users' topics, sorted."""
        return sorted(topic.name for topic in self.describe_topics())

    def describe_topics(self, names: Iterable[str] | None = None, *, internal: bool = False) -> list[TopicMetadata]:
        """All of the users' topics, with `internal` raftlog's own too, or those named.

        Raises UnknownTopicOrPartitionError when one of those named does not exist; its `results` are the others.
        NoBrokersAvailableError: no node knows for certain. All topics are those that the newest node knows; whether
        that one is cut off, `describe_cluster` says.
        """
        if names is not None:
            named = self._topics_named(list(names))
            missing = [topic.name for topic in named if topic.error_code]
            if missing:
                error = UnknownTopicOrPartitionError(f"there is no topic {', '.join(missing)}")
                error.results = [topic for topic in named if not topic.error_code]
                raise error
            return named
        found = self._newest(lambda: self._metadata(None)).topics
        return [topic for topic in found if internal or topic.name not in INTERNAL_TOPICS]

    def describe_cluster(self) -> MetadataResponse:
        """Cluster id, controller, nodes, flush mode. `topics` is empty.

        `confirmed` False: of the nodes that answer none hears a majority of the metadata's voters. What `node_id` says
        then may be old.
        """
        return self._newest(lambda: self._metadata([]))

    def describe_replicas(self, topics: Iterable[str] | None = None) -> list[ReplicaStatus]:
        """What every replica last said of itself; None: of all topics, internal ones included."""
        request = DescribeReplicasRequest(None if topics is None else list(topics))
        return self._newest(lambda: self._ask("describe replicas", None, apis.DESCRIBE_REPLICAS, request)).replicas

    def describe_weak_spots(self) -> dict[int, list[int]]:
        """By node id: where each node that is heard is open though it works, as numbers of Weakness."""
        request = DescribeReplicasRequest([])
        return self._newest(lambda: self._ask("describe nodes", None, apis.DESCRIBE_REPLICAS, request)).weak_spots

    def describe_throttled(self) -> dict[int, list[ThrottledClient]]:
        """By node id: the clients that quotas have held back there. A node that does not answer soon is left out.

        Raises ClusterAuthorizationFailedError.
        """
        deadline_s = monotonic_s() + min(self._timeout_s, THROTTLED_S)
        calls: dict[int, Call[DescribeThrottledRequest, DescribeThrottledResponse]] = {
            node.node_id: Call(
                f"ask node {node.node_id} for throttled clients",
                Endpoint(*node.endpoint),
                apis.DESCRIBE_THROTTLED,
                DescribeThrottledRequest(),
                deadline_s=deadline_s,
                attempt_s=THROTTLED_S,
            )
            for node in self.describe_cluster().nodes
            if node.alive
        }
        for call in calls.values():
            self._engine.submit(call)
        found = {}
        for node_id, call in calls.items():
            with suppress(RequestTimedOutError, NoBrokersAvailableError):
                found[node_id] = result_of(call).throttled
        return found

    def recover_partition(self, topic_id: bytes, partition: int, node: Endpoint) -> None:
        """Tells a node that its replica is the truth of a partition that lost a majority's records.

        What others held beyond it is gone then. Whether it is elected shows in the metadata, within RECOVERY_S: every
        other replica has to run, with an empty disk or not, and none may hold more. InvalidRequestError: it runs none.
        """

        self._ask("recover a partition", node, apis.RECOVER_PARTITION, RecoverPartitionRequest(topic_id, partition))

    def remove_node(self, node_id: int) -> None:
        """The node is of the cluster no more. One that runs ends, and its data directory never comes back.

        Raises BrokerIdNotRegisteredError; InvalidRequestError where it votes for the metadata or holds a replica.
        """

        def build(mutation_id: bytes, since_offset: int) -> RemoveNodeRequest:
            return RemoveNodeRequest(mutation_id, since_offset, node_id=node_id)

        self._change_once("remove a node", apis.REMOVE_NODE, build)

    def _change(self, what: str, names: list[str], api: Api[Q, A], build: Callable[[bytes, TopicIdsResponse], Q]) -> A:
        """Carried out once: ids are looked up BEFORE the first attempt, and all attempts have one mutation id.

        `build(mutation id, topic ids)` makes the request.
        """
        deadline_s = monotonic_s() + self._timeout_s
        while True:
            found = self._look_up(what, names, deadline_s)
            body = build(os.urandom(MUTATION_ID_BYTES), found)
            answer, maybe_done = self._ask_for_change(what, CONTROLLER, api, body, deadline_s)
            if answer.error_code != ErrorCode.INVALID_UPDATE_VERSION:
                raise_error_of(answer)
                return answer
            if maybe_done:
                raise RequestTimedOutError(f"{what}: whether an attempt without an answer did it is not known")

    def _look_up(self, what: str, names: list[str], deadline_s: float) -> TopicIdsResponse:
        found = self._ask(what, CONTROLLER, apis.TOPIC_IDS, TopicIdsRequest(names), deadline_s)
        if len(found.topic_ids) != len(names):
            raise InvalidRequestError(f"{what}: {len(found.topic_ids)} topic ids for {len(names)} names")
        return found

    def _attempt_ms(self) -> int:
        return int(min(self._timeout_s, ADMIN_ATTEMPT_S) * 1000)


def _all_done(results: list[R]) -> list[R]:
    """Raises the error of the first that failed."""
    for result in results:
        if result.error_code:
            error = error_for(result.error_code, result.error_text)
            error.results = results
            raise error
    return results


def _delete_call(
    place: TopicPartition, topic_id: bytes, offset: int, deadline_s: float
) -> Call[DeleteRecordsRequest, DeleteRecordsResponse]:
    return Call(
        f"delete records of {place}",
        place,
        apis.DELETE_RECORDS,
        DeleteRecordsRequest(offset=offset, timeout_ms=int(ADMIN_ATTEMPT_S * 1000)),
        lambda answer, _maybe_done: answer.log_start_offset,
        deadline_s=deadline_s,
        attempt_s=ADMIN_ATTEMPT_S,
        topic_id=topic_id,
    )
