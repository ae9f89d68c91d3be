"""What the controller makes of a request: (response, records). Pure.

The records are what has to be committed before the response is true. No records: the response holds
as it stands, an error or a repetition of what is already so. Every decision is taken on an image that
holds all that was decided before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

from raftlog.config import check_in_sync, check_topic_name, parse_topic_config
from raftlog.controller.image import Image, apply
from raftlog.controller.moves import alter_reassignments, list_reassignments, take_reports
from raftlog.controller.mutations import MutationRequest, earlier_answer, record_of, topic_result
from raftlog.controller.node_changes import register_node, remove_node
from raftlog.controller.offsets_topic import offsets_topic
from raftlog.controller.placement import (
    Assignment,
    check_assignment,
    check_replication_factor,
    largest_factor,
    place,
    place_witnesses,
    warning,
)
from raftlog.controller.records import (
    ClusterRecord,
    MetadataRecord,
    NodeRecord,
    PartitionsRecord,
    TopicDeletedRecord,
    TopicRecord,
)
from raftlog.controller.security_changes import (
    UNGUARDED,
    Guard,
    SecurityAnswer,
    SecurityRequest,
    decide_security,
)
from raftlog.controller.topic_changes import AlteringRequest, change_topic, named_topic
from raftlog.errors import (
    ErrorCode,
    InvalidPartitionsError,
    InvalidRequestError,
    InvalidTopicError,
    RaftlogError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)
from raftlog.limits import (
    DEFAULT_PARTITIONS,
    DEFAULT_REPLICATION_FACTOR,
    PARTITIONS_PER_TOPIC_MAX,
    TOPICS_PER_REQUEST_MAX,
)
from raftlog.protocol.cluster import RemoveNodeRequest, RemoveNodeResponse
from raftlog.protocol.groups import FindCoordinatorRequest, FindCoordinatorResponse
from raftlog.protocol.nodes import FEATURES, RegisterNodeRequest, RegisterNodeResponse
from raftlog.protocol.reassignments import (
    AlterReassignmentsRequest,
    AlterReassignmentsResponse,
    ListReassignmentsRequest,
    ListReassignmentsResponse,
    ReportConfigurationsRequest,
    ReportConfigurationsResponse,
)
from raftlog.protocol.records import InitProducerIdRequest, InitProducerIdResponse
from raftlog.protocol.topics import (
    CreatePartitionsRequest,
    CreateTopicsRequest,
    DeleteTopicsRequest,
    NewTopic,
    TopicIdsRequest,
    TopicIdsResponse,
    TopicResult,
    TopicsResponse,
)
from raftlog.types import OFFSETS_TOPIC, Endpoint

DecidedRequest = (
    TopicIdsRequest
    | MutationRequest
    | RegisterNodeRequest
    | RemoveNodeRequest
    | FindCoordinatorRequest
    | AlterReassignmentsRequest
    | ListReassignmentsRequest
    | ReportConfigurationsRequest
    | SecurityRequest
)
ControllerRequest = DecidedRequest | InitProducerIdRequest
ControllerResponse = (
    TopicIdsResponse
    | TopicsResponse
    | RegisterNodeResponse
    | RemoveNodeResponse
    | InitProducerIdResponse
    | FindCoordinatorResponse
    | AlterReassignmentsResponse
    | ListReassignmentsResponse
    | ReportConfigurationsResponse
    | SecurityAnswer
)


class Founder(NamedTuple):
    node_id: int
    directory_id: str
    endpoint: Endpoint


class Decision(NamedTuple):
    response: ControllerResponse
    records: list[MetadataRecord]


def decide(
    image: Image,
    request: DecidedRequest,
    *,
    live: Collection[int],
    mint_id: Callable[[], bytes],
    guard: Guard = UNGUARDED,
    able: Collection[int] = (),
) -> Decision:
    """`live`: the nodes heard from recently. `mint_id` gives a new topic id. `guard`: who must be left.

    `able`: the nodes that have said that they read all of FEATURES.
    """
    if isinstance(request, MutationRequest):
        return _change_topics(image, request, live, mint_id)
    if isinstance(request, SecurityRequest):
        response, records = decide_security(image, request, mint_id, guard)
        return Decision(response, records)
    match request:
        case TopicIdsRequest():
            return _find_topics(image, request)
        case RegisterNodeRequest():
            return Decision(*register_node(image, request))
        case RemoveNodeRequest():
            return Decision(*remove_node(image, request))
        case FindCoordinatorRequest():
            return _find_coordinator(image, request, live, mint_id)
        case AlterReassignmentsRequest():
            return Decision(*alter_reassignments(image, request, live, able))
        case ListReassignmentsRequest():
            return Decision(list_reassignments(image, request), [])
        case ReportConfigurationsRequest():
            return Decision(*take_reports(image, request))


def _change_topics(
    image: Image, request: MutationRequest, live: Collection[int], mint_id: Callable[[], bytes]
) -> Decision:
    """That it was done is in the batch that does it: whoever leads next recognises its repetition."""
    try:
        earlier = earlier_answer(image, request)
    except RaftlogError as error:
        return Decision(TopicsResponse(error.code, str(error)), [])
    if earlier is not None:
        return Decision(earlier, [])
    match request:
        case CreateTopicsRequest():
            results, records = _create_topics(image, request, live, mint_id)
        case DeleteTopicsRequest():
            results, records = _delete_topics(image, request)
        case _:
            results, records = _alter_topic(image, request, live)
    if not isinstance(request, DeleteTopicsRequest) and request.validate_only:
        for result in results:
            result.topic_id = b""  # nobody will know it by that
        return Decision(TopicsResponse(results=results), [])
    if records:
        records.append(record_of(request, results))
    return Decision(TopicsResponse(results=results), records)


def _find_topics(image: Image, request: TopicIdsRequest) -> Decision:
    found = [image.topics.get(name) for name in request.names]
    topic_ids = [topic.topic_id if topic else b"" for topic in found]
    return Decision(
        TopicIdsResponse(end_offset=image.end_offset, topic_ids=topic_ids),
        [],
    )


def needs_nodes(image: Image, request: DecidedRequest) -> bool:
    """Whether the decision places replicas, for which it has to be known who is alive."""
    match request:
        case CreateTopicsRequest() | CreatePartitionsRequest() | AlterReassignmentsRequest():
            return True
        case FindCoordinatorRequest():
            return OFFSETS_TOPIC not in image.topics
    return False


def found_cluster(cluster_id: str, founders: Collection[Founder]) -> list[MetadataRecord]:
    """The first records of a log: the cluster and all its voters, so that none waits to be registered."""
    ordered = sorted(founders)
    voters = tuple(founder.node_id for founder in ordered)
    return [
        ClusterRecord(cluster_id=cluster_id, voters=voters, features=FEATURES),
        *(
            NodeRecord(node_id=node_id, directory_id=directory_id, endpoint=endpoint)
            for node_id, directory_id, endpoint in ordered
        ),
    ]


def _create_topics(
    image: Image, request: CreateTopicsRequest, live: Collection[int], mint_id: Callable[[], bytes]
) -> tuple[list[TopicResult], list[MetadataRecord]]:
    results: list[TopicResult] = []
    records: list[MetadataRecord] = []
    planned = image
    for index, new in enumerate(request.topics):
        try:
            if index >= TOPICS_PER_REQUEST_MAX:
                raise InvalidRequestError(f"one request creates at most {TOPICS_PER_REQUEST_MAX} topics")
            record = _new_topic(planned, new, live, mint_id)
        except RaftlogError as error:
            results.append(_refused(new.name, error))
            continue
        wanted = len(new.replicas[0]) if new.replicas else new.replication_factor
        if wanted == -1:
            wanted = min(DEFAULT_REPLICATION_FACTOR, len(image.nodes))
        # The next topic of this request is placed beside this one, and may not take its name.
        planned = apply(planned, planned.end_offset, record)
        records.append(record)
        results.append(
            TopicResult(
                name=record.name,
                error_code=ErrorCode.NONE,
                error_text="",
                topic_id=record.topic_id,
                partitions=len(record.replicas),
                replication_factor=len(record.replicas[0]),
                witnesses=_witnesses(record),
                warning=warning(image, live, len(record.replicas[0]), _witnesses(record), wanted),
            )
        )
    return results, records


def _new_topic(image: Image, new: NewTopic, live: Collection[int], mint_id: Callable[[], bytes]) -> TopicRecord:
    check_topic_name(new.name)
    if new.name in image.topics:
        raise TopicAlreadyExistsError(f"topic {new.name} exists")
    config = parse_topic_config(new.config)
    replicas = _placed(image, new, live)
    check_in_sync(config, len(replicas[0]))
    return TopicRecord(
        name=new.name,
        topic_id=mint_id(),
        replicas=replicas,
        config=config,
        witnesses=place_witnesses(image, live=live, replicas=replicas),
    )


def _placed(image: Image, new: NewTopic, live: Collection[int]) -> Assignment:
    """By its sender, or here."""
    if new.replicas and (new.partitions, new.replication_factor) != (-1, -1):
        raise InvalidRequestError("where the replicas are named, partitions and replication factor are left at -1")
    partitions = DEFAULT_PARTITIONS if new.partitions == -1 else new.partitions
    if new.replicas:
        partitions = len(new.replicas)
    if not 1 <= partitions <= PARTITIONS_PER_TOPIC_MAX:
        raise InvalidPartitionsError(
            f"a topic has between 1 and {PARTITIONS_PER_TOPIC_MAX} partitions, not {partitions}"
        )
    if new.replicas:
        return check_assignment(image, live, new.replicas)
    factor = new.replication_factor
    if factor == -1:
        factor = largest_factor(image, live, DEFAULT_REPLICATION_FACTOR)
    check_replication_factor(image, live, factor)
    return place(image, live=live, partitions=partitions, replication_factor=factor)


def _witnesses(record: TopicRecord) -> int:
    return len(record.witnesses[0]) if record.witnesses else 0


def _delete_topics(image: Image, request: DeleteTopicsRequest) -> tuple[list[TopicResult], list[MetadataRecord]]:
    results: list[TopicResult] = []
    records: list[MetadataRecord] = []
    gone: set[str] = set()
    for index, (name, topic_id) in enumerate(request.topics):
        try:
            if index >= TOPICS_PER_REQUEST_MAX:
                raise InvalidRequestError(f"one request deletes at most {TOPICS_PER_REQUEST_MAX} topics")
            if name == OFFSETS_TOPIC:
                raise InvalidTopicError(f"{name} belongs to raftlog itself")
            if name in gone:
                raise UnknownTopicOrPartitionError(f"topic {name} is named twice")
            topic = named_topic(image, name, topic_id)
        except RaftlogError as error:
            results.append(_refused(name, error))
            continue
        gone.add(name)
        records.append(TopicDeletedRecord(name=name, topic_id=topic.topic_id))
        results.append(TopicResult(name=name, error_code=ErrorCode.NONE, error_text="", topic_id=topic.topic_id))
    return results, records


def _alter_topic(
    image: Image, request: AlteringRequest, live: Collection[int]
) -> tuple[list[TopicResult], list[MetadataRecord]]:
    try:
        record = change_topic(image, request, live)
    except RaftlogError as error:
        return [_refused(request.name, error)], []
    if record is None:
        return [topic_result(image.topics[request.name])], []
    result = topic_result(apply(image, image.end_offset, record).topics[request.name])
    if isinstance(record, PartitionsRecord):
        factor = result.replication_factor
        result.warning = warning(image, live, factor, result.witnesses, factor)
    return [result], [record]


def _find_coordinator(
    image: Image, request: FindCoordinatorRequest, live: Collection[int], mint_id: Callable[[], bytes]
) -> Decision:
    topic = image.topics.get(OFFSETS_TOPIC)
    made = [] if topic is not None else [offsets_topic(image, live=live, mint_id=mint_id)]
    found = topic or made[0]
    response = FindCoordinatorResponse(topic_id=found.topic_id, partitions=len(found.replicas))
    return Decision(response, [*made])


def _refused(name: str, error: RaftlogError) -> TopicResult:
    return TopicResult(name=name, error_code=error.code, error_text=str(error))
