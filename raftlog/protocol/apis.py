"""The table of APIs: one row for each request that there is.

A row says what the API is called, its key on the wire, the bodies of request and answer, who serves it, and the
operation that its sender has to be authorized for. Codec, dispatch, refusals, the client's typed answers and
docs/reference/apis.md come from here: a new API is a row, two bodies and a handler (docs/protocol.md, "A new API").

Keys below 1000 are Kafka's own for what is Kafka's as well; those from 1000 on are raftlog's.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, Generic, TypeVar

import msgspec

from raftlog.protocol import cluster as c
from raftlog.protocol import groups as g
from raftlog.protocol import nodes as n
from raftlog.protocol import reassignments as m
from raftlog.protocol import records as r
from raftlog.protocol import security as s
from raftlog.protocol import topics as t
from raftlog.protocol.body import Body, ResponseBody
from raftlog.security.acls import Operation

Q = TypeVar("Q", bound=Body)
A = TypeVar("A", bound=ResponseBody)


class Served(Enum):
    """Who answers, as an error names it."""

    ANY = "any address"
    NODE = "a node's address"
    CONTROLLER = "the controller's worker"
    COORDINATOR = "the worker of the group's coordinator"
    LEADER = "the worker that leads the partition"


class Api(Generic[Q, A]):
    """One row. Equal to itself alone, so that it is a fast key of a dict."""

    __slots__ = ("decode_request", "decode_response", "key", "name", "operation", "request", "response", "served")

    def __init__(
        self, name: str, key: int, request: type[Q], response: type[A], served: Served, operation: Operation
    ) -> None:
        self.name = name
        self.key = key
        self.request = request
        self.response = response
        self.served = served
        self.operation = operation
        answer: Any = list[r.ProduceResult] if response is r.ProduceResult else response
        self.decode_request: Callable[[Any], Q] = msgspec.msgpack.Decoder(request).decode
        self.decode_response: Callable[[Any], Any] = msgspec.msgpack.Decoder(answer).decode

    def refusal(self, code: int, text: str = "", *, leader_id: int = -1, leader_epoch: int = -1) -> A:
        """The answer that says no more than an error, and who leads where such an answer has room for it."""
        fields: dict[str, Any] = {"error_code": int(code), "error_text": text}
        if leader_id >= 0 and "leader_id" in self.response.__struct_fields__:
            fields |= {"leader_id": leader_id, "leader_epoch": leader_epoch}
        return self.response(**fields)

    def __repr__(self) -> str:
        return f"Api({self.name})"


_ANY, _NODE, _CONTROLLER, _COORDINATOR, _LEADER = Served
_Op = Operation

PRODUCE = Api("Produce", 0, r.ProduceRequest, r.ProduceResult, _LEADER, _Op.WRITE)
FETCH = Api("Fetch", 1, r.FetchRequest, r.FetchResponse, _LEADER, _Op.READ)
LIST_OFFSETS = Api("ListOffsets", 2, r.ListOffsetsRequest, r.ListOffsetsResponse, _LEADER, _Op.DESCRIBE)
METADATA = Api("Metadata", 3, c.MetadataRequest, c.MetadataResponse, _NODE, _Op.DESCRIBE)
OFFSET_COMMIT = Api("OffsetCommit", 8, g.OffsetCommitRequest, g.OffsetCommitResponse, _COORDINATOR, _Op.READ)
OFFSET_FETCH = Api("OffsetFetch", 9, g.OffsetFetchRequest, g.OffsetFetchResponse, _COORDINATOR, _Op.DESCRIBE)
FIND_COORDINATOR = Api(
    "FindCoordinator", 10, g.FindCoordinatorRequest, g.FindCoordinatorResponse, _CONTROLLER, _Op.DESCRIBE
)
JOIN_GROUP = Api("JoinGroup", 11, g.JoinGroupRequest, g.JoinGroupResponse, _COORDINATOR, _Op.READ)
HEARTBEAT = Api("Heartbeat", 12, g.HeartbeatRequest, g.HeartbeatResponse, _COORDINATOR, _Op.READ)
LEAVE_GROUP = Api("LeaveGroup", 13, g.LeaveGroupRequest, g.LeaveGroupResponse, _COORDINATOR, _Op.READ)
SYNC_GROUP = Api("SyncGroup", 14, g.SyncGroupRequest, g.SyncGroupResponse, _COORDINATOR, _Op.READ)
DESCRIBE_GROUP = Api("DescribeGroup", 15, g.DescribeGroupRequest, g.DescribeGroupResponse, _COORDINATOR, _Op.DESCRIBE)
LIST_GROUPS = Api("ListGroups", 16, g.ListGroupsRequest, g.ListGroupsResponse, _COORDINATOR, _Op.DESCRIBE)
CREATE_TOPICS = Api("CreateTopics", 19, t.CreateTopicsRequest, t.TopicsResponse, _CONTROLLER, _Op.CREATE)
DELETE_TOPICS = Api("DeleteTopics", 20, t.DeleteTopicsRequest, t.TopicsResponse, _CONTROLLER, _Op.DELETE)
DELETE_RECORDS = Api("DeleteRecords", 21, r.DeleteRecordsRequest, r.DeleteRecordsResponse, _LEADER, _Op.DELETE)
INIT_PRODUCER_ID = Api(
    "InitProducerId", 22, r.InitProducerIdRequest, r.InitProducerIdResponse, _CONTROLLER, _Op.IDEMPOTENT_WRITE
)
OFFSET_FOR_LEADER_EPOCH = Api(
    "OffsetForLeaderEpoch",
    23,
    r.OffsetForLeaderEpochRequest,
    r.OffsetForLeaderEpochResponse,
    _LEADER,
    _Op.DESCRIBE,
)
DESCRIBE_ACLS = Api("DescribeAcls", 29, s.DescribeAclsRequest, s.DescribeAclsResponse, _CONTROLLER, _Op.DESCRIBE)
CREATE_ACLS = Api("CreateAcls", 30, s.CreateAclsRequest, s.SecurityResponse, _CONTROLLER, _Op.ALTER)
DELETE_ACLS = Api("DeleteAcls", 31, s.DeleteAclsRequest, s.DeleteAclsResponse, _CONTROLLER, _Op.ALTER)
AUTHENTICATE = Api("SaslAuthenticate", 36, s.AuthenticateRequest, s.AuthenticateResponse, _ANY, _Op.NONE)
CREATE_PARTITIONS = Api("CreatePartitions", 37, t.CreatePartitionsRequest, t.TopicsResponse, _CONTROLLER, _Op.ALTER)
ELECT_LEADER = Api("ElectLeader", 43, r.ElectLeaderRequest, r.ElectLeaderResponse, _LEADER, _Op.ALTER)
DELETE_GROUP = Api("DeleteGroup", 42, g.DeleteGroupRequest, g.DeleteGroupResponse, _COORDINATOR, _Op.DELETE)
INCREMENTAL_ALTER_CONFIGS = Api(
    "IncrementalAlterConfigs", 44, t.IncrementalAlterConfigsRequest, t.TopicsResponse, _CONTROLLER, _Op.ALTER_CONFIGS
)
ALTER_REASSIGNMENTS = Api(
    *("AlterPartitionReassignments", 45, m.AlterReassignmentsRequest, m.AlterReassignmentsResponse),
    *(_CONTROLLER, _Op.ALTER),
)
LIST_REASSIGNMENTS = Api(
    *("ListPartitionReassignments", 46, m.ListReassignmentsRequest, m.ListReassignmentsResponse),
    *(_CONTROLLER, _Op.DESCRIBE),
)
OFFSET_DELETE = Api("OffsetDelete", 47, g.OffsetDeleteRequest, g.OffsetDeleteResponse, _COORDINATOR, _Op.DELETE)
DESCRIBE_QUOTAS = Api(
    *("DescribeClientQuotas", 48, s.DescribeQuotasRequest, s.DescribeQuotasResponse),
    *(_CONTROLLER, _Op.DESCRIBE_CONFIGS),
)
ALTER_QUOTAS = Api("AlterClientQuotas", 49, s.AlterQuotasRequest, s.SecurityResponse, _CONTROLLER, _Op.ALTER_CONFIGS)
DESCRIBE_USERS = Api(
    "DescribeUserScramCredentials", 50, s.DescribeUsersRequest, s.DescribeUsersResponse, _CONTROLLER, _Op.DESCRIBE
)
ALTER_USERS = Api("AlterUserScramCredentials", 51, s.AlterUsersRequest, s.SecurityResponse, _CONTROLLER, _Op.ALTER)
DESCRIBE_PRODUCERS = Api(
    "DescribeProducers", 61, r.DescribeProducersRequest, r.DescribeProducersResponse, _LEADER, _Op.READ
)
REMOVE_NODE = Api("UnregisterBroker", 64, c.RemoveNodeRequest, c.RemoveNodeResponse, _CONTROLLER, _Op.ALTER)

HANDSHAKE = Api("Handshake", 1000, c.HandshakeRequest, c.HandshakeResponse, _ANY, _Op.NONE)
TOPIC_IDS = Api("TopicIds", 1001, t.TopicIdsRequest, t.TopicIdsResponse, _CONTROLLER, _Op.DESCRIBE)
DESCRIBE_REPLICAS = Api(
    "DescribeReplicas", 1002, c.DescribeReplicasRequest, c.DescribeReplicasResponse, _NODE, _Op.DESCRIBE
)
RECOVER_PARTITION = Api(
    "RecoverPartition", 1003, c.RecoverPartitionRequest, c.RecoverPartitionResponse, _NODE, _Op.ALTER
)
WATCH = Api("Watch", 1004, r.WatchRequest, r.WatchResponse, _LEADER, _Op.READ)
LOCATE = Api("Locate", 1005, r.LocateRequest, r.LocateResponse, _LEADER, _Op.READ)
NOTE_SENT = Api("NoteSent", 1007, r.NoteSentRequest, r.NoteSentResponse, _LEADER, _Op.CLUSTER_ACTION)
DESCRIBE_THROTTLED = Api(
    "DescribeThrottled", 1006, c.DescribeThrottledRequest, c.DescribeThrottledResponse, _NODE, _Op.DESCRIBE
)
NODE_STATE = Api("NodeState", 1010, n.NodeState, n.NodeStateResponse, _NODE, _Op.CLUSTER_ACTION)
IMAGE = Api("Image", 1011, n.ImageRequest, n.ImageResponse, _NODE, _Op.CLUSTER_ACTION)
REGISTER_NODE = Api(
    "RegisterNode", 1012, n.RegisterNodeRequest, n.RegisterNodeResponse, _CONTROLLER, _Op.CLUSTER_ACTION
)
REPORT_CONFIGURATIONS = Api(
    *("ReportConfigurations", 1013, m.ReportConfigurationsRequest, m.ReportConfigurationsResponse),
    *(_CONTROLLER, _Op.CLUSTER_ACTION),
)

APIS: tuple[Api[Any, Any], ...] = tuple(value for value in list(globals().values()) if isinstance(value, Api))
OF_NODES = (NODE_STATE, IMAGE, REGISTER_NODE, REPORT_CONFIGURATIONS)
"""What nodes ask each other, also where no certificate says that they are nodes."""
BY_KEY = {api.key: api for api in APIS}
BY_REQUEST = {api.request: api for api in APIS}
