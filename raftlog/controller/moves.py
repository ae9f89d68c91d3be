"""What the controller makes of replicas that shall move, and of what leaders report: (response, records). Pure.

    plan          committed BEFORE a leader may begin with it
    assignment    what a leader has reported as committed, never ahead of it; a report that is older changes nothing

The partition's own configuration wins, what the metadata has is a wish: so a plan is never refused for what its leader
could say against it now, and a partition follows its leader even where no plan wants that.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from raftlog.config import check_in_sync
from raftlog.controller.image import Image, TopicInfo, apply
from raftlog.controller.mutations import earlier, record_with
from raftlog.controller.placement import living, place_witnesses, witness_count
from raftlog.controller.records import (
    AssignmentRecord,
    FeaturesRecord,
    MetadataRecord,
    PlanCalledOffRecord,
    PlanRecord,
)
from raftlog.controller.topic_changes import named_topic
from raftlog.errors import (
    ErrorCode,
    InconsistentClusterIdError,
    InvalidReplicaAssignmentError,
    InvalidRequestError,
    InvalidTopicError,
    NoReassignmentInProgressError,
    RaftlogError,
    UnknownTopicOrPartitionError,
    UnsupportedVersionError,
)
from raftlog.limits import REASSIGNMENTS_PER_REQUEST_MAX
from raftlog.protocol.nodes import FEATURES
from raftlog.protocol.reassignments import (
    AlterReassignmentsRequest,
    AlterReassignmentsResponse,
    ConfigurationReport,
    ListReassignmentsRequest,
    ListReassignmentsResponse,
    OngoingReassignment,
    Reassignment,
    ReassignmentResult,
    ReportConfigurationsRequest,
    ReportConfigurationsResponse,
)
from raftlog.types import INTERNAL_TOPICS, METADATA_TOPIC, Half


def alter_reassignments(
    image: Image, request: AlterReassignmentsRequest, live: Collection[int], able: Collection[int]
) -> tuple[AlterReassignmentsResponse, list[MetadataRecord]]:
    """`able`: the nodes that have said that they read configurations."""
    try:
        mutation = earlier(image, request)
        if mutation is not None:
            return _as_before(request, mutation.codes), []
        if len(request.changes) > REASSIGNMENTS_PER_REQUEST_MAX:
            text = f"one request moves at most {REASSIGNMENTS_PER_REQUEST_MAX} partitions, not {len(request.changes)}"
            raise InvalidRequestError(text)
        if request.bytes_per_s < 0:
            raise InvalidRequestError(f"bytes per second are 0, for the default, or more, not {request.bytes_per_s}")
        records = _features(image, able)
    except RaftlogError as error:
        return AlterReassignmentsResponse(error.code, str(error)), []
    results: list[ReassignmentResult] = []
    planned = image
    for change in request.changes:
        result = ReassignmentResult(topic=change.topic, partition=change.partition)
        results.append(result)
        try:
            record = _change(planned, change, live, request.bytes_per_s)
        except RaftlogError as error:
            result.error_code, result.error_text = error.code, str(error)
            continue
        if record is not None:
            planned = apply(planned, planned.end_offset, record)
            records.append(record)
    response = AlterReassignmentsResponse(results=results)
    if request.validate_only or all(isinstance(record, FeaturesRecord) for record in records):
        return response, []
    records.append(record_with(request, [result.error_code for result in results]))
    return response, records


def _features(image: Image, able: Collection[int]) -> list[MetadataRecord]:
    """That all nodes read configurations goes into the log once. Raises UnsupportedVersionError.

    A node that does not would count entries one too low, or end at records of the metadata that it does not know.
    """
    if image.features >= FEATURES:
        return []
    silent = sorted(image.nodes.keys() - set(able))
    if silent:
        raise UnsupportedVersionError(
            f"node {silent[0]} has not said that its raftlog can move replicas: upgrade it and start it, or remove it; "
            "until the first move every node has to be heard once"
        )
    return [FeaturesRecord(features=FEATURES)]


def _as_before(request: AlterReassignmentsRequest, codes: tuple[int, ...]) -> AlterReassignmentsResponse:
    told = [ErrorCode(code) for code in codes] or [ErrorCode.NONE] * len(request.changes)
    results = [
        ReassignmentResult(
            topic=change.topic,
            partition=change.partition,
            error_code=code,
            error_text=f"{code.name}, as an earlier attempt was answered" if code else "",
        )
        for change, code in zip(request.changes, told, strict=False)
    ]
    return AlterReassignmentsResponse(results=results)


def _change(
    image: Image, change: Reassignment, live: Collection[int], bytes_per_s: int
) -> PlanRecord | PlanCalledOffRecord | None:
    """None: it is so already. Raises the RaftlogError that refuses it."""
    if change.topic == METADATA_TOPIC:
        raise InvalidTopicError("the voters of the metadata are fixed")
    topic, partition = named_topic(image, change.topic, change.topic_id), change.partition
    if not 0 <= partition < len(topic.replicas):
        raise UnknownTopicOrPartitionError(f"topic {topic.name} has {len(topic.replicas)} partitions, no {partition}")
    plan = topic.plan_of(partition)
    present = topic.half_of(partition)
    if change.replicas is None:
        if plan is None:
            raise NoReassignmentInProgressError(f"{topic.name}-{partition} has no plan: its replicas do not move")
        wish = present
    else:
        wish = _wish(image, topic, change, live)
        check_in_sync(topic.config, len(wish.replicas))
    if wish.replicas == present.replicas and (plan is not None or wish == present):
        if plan is None or plan.called_off:
            return None
        witnesses = present.witnesses
        if len(witnesses) < plan.witnesses_before:  # a step has taken some away
            chosen = choose_witnesses(image, topic, partition, present.replicas, live)
            witnesses = chosen[: plan.witnesses_before]
        # Also where none is away yet: the step that takes it away may be committed already.
        back = (Half(present.replicas, witnesses),) if plan.witnesses_before else ()
        return PlanCalledOffRecord(
            name=topic.name, topic_id=topic.topic_id, partition=partition, number=plan.number, then=back
        )
    if plan is not None and (plan.wish, plan.called_off, plan.bytes_per_s) == (wish, False, bytes_per_s):
        return None
    first, *then = _steps(present, wish)
    _check_kinds(topic, partition, [first, *then])
    return PlanRecord(
        name=topic.name,
        topic_id=topic.topic_id,
        partition=partition,
        replicas=first.replicas,
        witnesses=first.witnesses,
        bytes_per_s=bytes_per_s,
        then=tuple(then),
    )


def _steps(present: Half, wish: Half) -> list[Half]:
    """One, unless a node becomes a replica that is a witness, or the other way round: it leaves first.

    On the way the partition survives no more failures than its replicas alone allow.
    """
    staying = tuple(node_id for node_id in present.witnesses if node_id not in wish.replicas)
    coming = tuple(node_id for node_id in wish.witnesses if node_id not in present.replicas)
    steps = []
    if staying != present.witnesses:
        steps.append(_odd(Half(present.replicas, staying)))
    if coming != wish.witnesses:
        steps.append(_odd(Half(wish.replicas, coming)))
    return [*steps, wish]


def _odd(half: Half) -> Half:
    """One witness more would not help a majority."""
    return half if len(half.ids) % 2 else Half(half.replicas, half.witnesses[:-1])


def _check_kinds(topic: TopicInfo, partition: int, steps: Sequence[Half]) -> None:
    """Of those whom plans that may be under way name. Raises InvalidReplicaAssignmentError."""
    present, named = topic.half_of(partition), topic.named_of(partition)
    under_way = Half(
        tuple(n for n in named.replicas if n not in present.replicas),
        tuple(n for n in named.witnesses if n not in present.witnesses),
    )
    for half in steps:
        if {*half.replicas} & {*under_way.witnesses} or {*half.witnesses} & {*under_way.replicas}:
            raise InvalidReplicaAssignmentError(
                f"{topic.name}-{partition} has a plan with the same nodes in other places: call it off first"
            )


def _wish(image: Image, topic: TopicInfo, change: Reassignment, live: Collection[int]) -> Half:
    """Raises InvalidReplicaAssignmentError."""
    assert change.replicas is not None
    place = f"{topic.name}-{change.partition}"
    if not change.replicas:
        raise InvalidReplicaAssignmentError(f"{place} needs a replica")
    witnesses = change.witnesses
    if witnesses is None:
        witnesses = choose_witnesses(image, topic, change.partition, change.replicas, live)
    wish = Half(change.replicas, witnesses)
    if len(set(wish.ids)) < len(wish.ids):
        raise InvalidReplicaAssignmentError(f"{place} names a node twice: {list(wish.ids)}")
    unknown = [node_id for node_id in wish.ids if node_id not in image.nodes]
    if unknown:
        raise InvalidReplicaAssignmentError(f"{place} names node {unknown[0]}, which the cluster does not have")
    named = topic.named_of(change.partition)
    dead = [node_id for node_id in wish.ids if node_id not in named.ids and node_id not in live]
    if dead:
        raise InvalidReplicaAssignmentError(f"{place} shall move to node {dead[0]}, which is not alive: start it first")
    alive = sum(node_id in live for node_id in wish.ids)
    if alive <= len(wish.ids) // 2:
        raise InvalidReplicaAssignmentError(f"of the new nodes {list(wish.ids)} of {place} no majority is alive")
    return wish


def choose_witnesses(
    image: Image, topic: TopicInfo, partition: int, replicas: tuple[int, ...], live: Collection[int]
) -> tuple[int, ...]:
    """Those that there are stay where they can; the others are placed as those of a new partition.

    A node that has a replica now comes last: its place changes in a step of its own. raftlog's own topics have none.
    """
    if topic.name in INTERNAL_TOPICS:
        return ()
    present = topic.replicas[partition]
    free = [n for n in living(image, live) if n not in replicas]
    count = witness_count(len(replicas), len(replicas) + len(free))
    kept = [n for n in topic.witnesses_of(partition) if n in free][:count]
    placed = place_witnesses(image, live={*free, *replicas}, replicas=(replicas,), beside=topic.witnesses)
    others = [n for nodes in placed for n in nodes if n not in kept]
    others += [n for n in free if n not in kept and n not in others]
    others.sort(key=lambda node_id: node_id in present)
    return tuple((kept + others)[:count])


def list_reassignments(image: Image, request: ListReassignmentsRequest) -> ListReassignmentsResponse:
    names = None if request.topics is None else frozenset(request.topics)
    ongoing = [
        OngoingReassignment(
            topic=topic.name,
            topic_id=topic.topic_id,
            partition=partition,
            number=plan.number,
            replicas=topic.replicas[partition],
            witnesses=topic.witnesses_of(partition),
            target_replicas=plan.wish.replicas,
            target_witnesses=plan.wish.witnesses,
            called_off=plan.called_off,
            bytes_per_s=plan.bytes_per_s,
        )
        for _, topic in sorted(image.topics.items())
        for partition in sorted(topic.moves)
        if (names is None or topic.name in names) and (plan := topic.plan_of(partition)) is not None
    ]
    return ListReassignmentsResponse(ongoing=ongoing)


def take_reports(
    image: Image, request: ReportConfigurationsRequest
) -> tuple[ReportConfigurationsResponse, list[MetadataRecord]]:
    if request.cluster_id != image.cluster_id:
        text = f"this is cluster {image.cluster_id}, not {request.cluster_id}"
        return ReportConfigurationsResponse(InconsistentClusterIdError.code, text), []
    records: list[MetadataRecord] = []
    planned = image
    for report in request.reports[:REASSIGNMENTS_PER_REQUEST_MAX]:
        if _is_news(planned, report):
            record = AssignmentRecord(
                name=report.topic,
                topic_id=report.topic_id,
                partition=report.partition,
                replicas=report.half.replicas,
                witnesses=report.half.witnesses,
                term=report.term,
                index=report.index,
            )
            planned = apply(planned, planned.end_offset, record)
            records.append(record)
    return ReportConfigurationsResponse(), records


def _is_news(image: Image, report: ConfigurationReport) -> bool:
    topic = image.topics.get(report.topic)
    if topic is None or topic.topic_id != report.topic_id or not 0 <= report.partition < len(topic.replicas):
        return False
    if not report.half.replicas:
        return False
    moves = topic.moves.get(report.partition)
    return (report.term, report.index) > (moves.configuration if moves is not None else (0, 0))
