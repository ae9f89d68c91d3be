"""What the controller makes of nodes that come and go: (response, records). Pure."""

from __future__ import annotations

from raftlog.controller.image import Image, NodeInfo
from raftlog.controller.mutations import earlier, record_with
from raftlog.controller.records import MetadataRecord, NodeRecord, NodeRemovedRecord
from raftlog.errors import (
    BrokerIdNotRegisteredError,
    InconsistentClusterIdError,
    InvalidRequestError,
    RaftlogError,
)
from raftlog.limits import NODE_ID_MAX
from raftlog.protocol.cluster import RemoveNodeRequest, RemoveNodeResponse
from raftlog.protocol.nodes import RegisterNodeRequest, RegisterNodeResponse, is_endpoint

_NAMED_MAX = 3  # of the partitions that an error tells of


def register_node(image: Image, request: RegisterNodeRequest) -> tuple[RegisterNodeResponse, list[MetadataRecord]]:
    try:
        _check_registered(image, request)
    except RaftlogError as error:
        return RegisterNodeResponse(error.code, str(error)), []
    known = image.nodes.get(request.node_id)
    if known is not None and (known.directory_id, known.endpoint) == (request.directory_id, request.endpoint):
        return RegisterNodeResponse(), []
    record = NodeRecord(node_id=request.node_id, directory_id=request.directory_id, endpoint=request.endpoint)
    return RegisterNodeResponse(), [record]


def _check_registered(image: Image, request: RegisterNodeRequest) -> None:
    """Raises the RaftlogError that refuses it."""
    if request.cluster_id != image.cluster_id:
        raise InconsistentClusterIdError(f"this is cluster {image.cluster_id}, not {request.cluster_id}")
    if not 1 <= request.node_id <= NODE_ID_MAX:
        raise InvalidRequestError(f"a node id lies between 1 and {NODE_ID_MAX}, not {request.node_id}")
    if not is_endpoint(request.endpoint):
        raise InvalidRequestError(f"{request.endpoint} is not an address")
    if request.features < image.features:
        raise InvalidRequestError(
            f"node {request.node_id} runs a raftlog that is too old for this cluster, where replicas move: upgrade it"
        )
    if request.directory_id in image.removed:
        raise InvalidRequestError(f"node {request.node_id} was removed from the cluster with this data directory")


def remove_node(image: Image, request: RemoveNodeRequest) -> tuple[RemoveNodeResponse, list[MetadataRecord]]:
    try:
        if earlier(image, request) is not None:
            return RemoveNodeResponse(), []
        node = _removable(image, request.node_id)
    except RaftlogError as error:
        return RemoveNodeResponse(error.code, str(error)), []
    record = NodeRemovedRecord(node_id=node.node_id, directory_id=node.directory_id)
    return RemoveNodeResponse(), [record, record_with(request, [])]


def _removable(image: Image, node_id: int) -> NodeInfo:
    """Raises BrokerIdNotRegisteredError, InvalidRequestError."""
    node = image.nodes.get(node_id)
    if node is None:
        raise BrokerIdNotRegisteredError(f"the cluster has no node {node_id}")
    if node_id in image.voters:
        raise InvalidRequestError(f"node {node_id} votes for the metadata, and its voters are fixed")
    held = [f"{topic.name}-{partition}" for topic, partition in image.hosted_by(node_id)]
    held += [
        f"{topic.name}-{partition}"
        for topic in image.topics.values()
        for partition, moves in topic.moves.items()
        if moves.plan is not None
        and node_id in [each for half in moves.plan.then for each in half.ids]
        and node_id not in topic.named_of(partition).ids
    ]
    if held:
        names = ", ".join(held[:_NAMED_MAX]) + (", ..." if len(held) > _NAMED_MAX else "")
        raise InvalidRequestError(
            f"node {node_id} holds {len(held)} replica{'s' * (len(held) > 1)} ({names}): only an empty one can go; "
            f"`raftlog cluster drain {node_id}` moves them to others"
        )
    return node
