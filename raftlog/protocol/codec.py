"""Headers to bytes and back. What does not decode raises InvalidRequestError, never anything else."""

from __future__ import annotations

import msgspec

from raftlog.errors import InvalidRequestError
from raftlog.limits import HEADER_BYTES_MAX
from raftlog.protocol import groups as g
from raftlog.protocol import nodes as n
from raftlog.protocol.cluster import (
    DescribeReplicasRequest,
    DescribeReplicasResponse,
    ErrorResponse,
    HandshakeRequest,
    HandshakeResponse,
    MetadataRequest,
    MetadataResponse,
    RecoverPartitionRequest,
    RecoverPartitionResponse,
)
from raftlog.protocol.raft import RaftMessage
from raftlog.protocol.records import (
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    FetchRequest,
    FetchResponse,
    InitProducerIdRequest,
    InitProducerIdResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ProduceRequest,
    ProduceResponse,
)
from raftlog.protocol.topics import (
    CreatePartitionsRequest,
    CreateTopicsRequest,
    DeleteTopicsRequest,
    IncrementalAlterConfigsRequest,
    TopicIdsRequest,
    TopicIdsResponse,
    TopicsResponse,
)

Request = (
    HandshakeRequest
    | MetadataRequest
    | DescribeReplicasRequest
    | RecoverPartitionRequest
    | TopicIdsRequest
    | CreateTopicsRequest
    | DeleteTopicsRequest
    | InitProducerIdRequest
    | IncrementalAlterConfigsRequest
    | CreatePartitionsRequest
    | DeleteRecordsRequest
    | ProduceRequest
    | FetchRequest
    | ListOffsetsRequest
    | g.FindCoordinatorRequest
    | g.GroupRequest
    | n.NodeState
    | n.ImageRequest
    | n.RegisterNodeRequest
)
Response = (
    HandshakeResponse
    | ErrorResponse
    | MetadataResponse
    | DescribeReplicasResponse
    | RecoverPartitionResponse
    | TopicIdsResponse
    | TopicsResponse
    | InitProducerIdResponse
    | ProduceResponse
    | FetchResponse
    | ListOffsetsResponse
    | DeleteRecordsResponse
    | g.FindCoordinatorResponse
    | g.GroupResponse
    | n.NodeState
    | n.ImageResponse
    | n.RegisterNodeResponse
)

_encoder = msgspec.msgpack.Encoder()
_request_decoder: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_raft_decoder: msgspec.msgpack.Decoder[RaftMessage] = msgspec.msgpack.Decoder(RaftMessage)
_response_decoder: msgspec.msgpack.Decoder[Response] = msgspec.msgpack.Decoder(Response)

encode = _encoder.encode


def decode_request(header: bytes) -> Request:
    """What a worker's or a supervisor's socket received."""
    if len(header) > HEADER_BYTES_MAX:
        raise InvalidRequestError(f"a header has at most {HEADER_BYTES_MAX} bytes, this one {len(header)}")
    try:
        return _request_decoder.decode(header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError(f"a header that does not decode: {error}") from None


def decode_raft(header: bytes) -> RaftMessage:
    """What a worker received from the worker of another replica."""
    try:
        return _raft_decoder.decode(header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError(f"a header that does not decode: {error}") from None


def decode_response(header: bytes) -> Response:
    """What a client's link received."""
    try:
        return _response_decoder.decode(header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError(f"an answer that does not decode: {error}") from None
