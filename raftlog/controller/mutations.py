"""Changes of topics that come again. Pure.

A client that hears no answer sends its change again, and a frame may be late: by then the topic may have been deleted
and made anew, and its settings changed by others. So a change carries a mutation id, the same at each attempt, which
goes into the log with what was changed, in one batch. The image remembers the last MUTATIONS_REMEMBERED_MAX of them:
a change whose id is there has been carried out, is not carried out again, and is answered as it was.

A client says how far the metadata reached before its first attempt (`since_offset`). Where more was forgotten than
that, whether the change was carried out cannot be told, and it is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

from raftlog.controller.image import Image, Mutation, TopicInfo
from raftlog.controller.records import MutationRecord
from raftlog.errors import ErrorCode, InvalidRequestError, InvalidUpdateVersionError
from raftlog.limits import MUTATIONS_REMEMBERED_MAX, TOPICS_PER_REQUEST_MAX
from raftlog.protocol.topics import (
    MUTATION_ID_BYTES,
    CreatePartitionsRequest,
    CreateTopicsRequest,
    DeleteTopicsRequest,
    IncrementalAlterConfigsRequest,
    MutationBody,
    TopicResult,
    TopicsResponse,
)

MutationRequest = CreateTopicsRequest | DeleteTopicsRequest | IncrementalAlterConfigsRequest | CreatePartitionsRequest


def earlier_answer(image: Image, request: MutationRequest) -> TopicsResponse | None:
    """What a repetition has to be answered without a decision; None: the change is new. Raises RaftlogError."""
    mutation = earlier(image, request)
    return None if mutation is None else TopicsResponse(results=_results(image, request, mutation))


def earlier(image: Image, request: MutationBody) -> Mutation | None:
    """That it was carried out. Raises RaftlogError for what cannot be told."""
    if len(request.mutation_id) != MUTATION_ID_BYTES:
        raise InvalidRequestError(f"a mutation id has {MUTATION_ID_BYTES} bytes, this one {len(request.mutation_id)}")
    for mutation in image.mutations:
        if mutation.mutation_id == request.mutation_id:
            return mutation
    if len(image.mutations) >= MUTATIONS_REMEMBERED_MAX and request.since_offset <= image.mutations[0].offset:
        raise InvalidUpdateVersionError("too many changes were made since: whether this one is among them is forgotten")
    return None


def record_of(request: MutationRequest, results: list[TopicResult]) -> MutationRecord:
    """To be committed together with what the change makes."""
    return record_with(request, [result.error_code for result in results[:TOPICS_PER_REQUEST_MAX]])


def record_with(request: MutationBody, codes: Sequence[int]) -> MutationRecord:
    return MutationRecord(mutation_id=request.mutation_id, codes=tuple(codes) if any(codes) else ())


def topic_result(topic: TopicInfo) -> TopicResult:
    return TopicResult(
        name=topic.name,
        error_code=ErrorCode.NONE,
        error_text="",
        topic_id=topic.topic_id,
        partitions=len(topic.replicas),
        replication_factor=len(topic.replicas[0]),
        witnesses=len(topic.witnesses_of(len(topic.replicas) - 1)),
    )


def _results(image: Image, request: MutationRequest, mutation: Mutation) -> list[TopicResult]:
    match request:
        case CreateTopicsRequest():
            named = [(new.name, b"") for new in request.topics]
        case DeleteTopicsRequest():
            named = request.topics
        case _:
            named = [(request.name, request.topic_id)]
    codes = mutation.codes or (ErrorCode.NONE,) * len(named)
    made = range(mutation.offset - codes.count(ErrorCode.NONE), mutation.offset)  # the offsets of its records
    codes += (ErrorCode.INVALID_REQUEST,) * (len(named) - len(codes))  # those that are too many for one request
    results = []
    for (name, topic_id), code in zip(named, codes, strict=True):
        topic = image.topics.get(name)
        result = TopicResult(name=name, error_code=ErrorCode(code), error_text="", topic_id=topic_id)
        if code != ErrorCode.NONE:
            result.error_text = f"{result.error_code.name}, as an earlier attempt was answered"
        elif not isinstance(request, DeleteTopicsRequest):
            is_the_one = topic is not None and (topic.topic_id == topic_id or topic.created_offset in made)
            if topic is not None and is_the_one:
                result = topic_result(topic)
            else:
                # Made or changed by an earlier attempt. What has its name now, if anything, is another topic.
                result.error_code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
                result.error_text = f"topic {name} has been deleted since an earlier attempt of this request"
        results.append(result)
    return results
