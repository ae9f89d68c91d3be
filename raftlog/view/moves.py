"""What has to move so that a node is empty, a node takes another's place, or a topic has more replicas. Pure.

A layout and a wish in, moves out; nothing is done here. What is impossible is said in words, before anything moves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from raftlog.config import check_in_sync
from raftlog.errors import (
    BrokerIdNotRegisteredError,
    InvalidReplicaAssignmentError,
    InvalidReplicationFactorError,
    UnknownTopicOrPartitionError,
)
from raftlog.types import TopicConfig, TopicPartition
from raftlog.view.layout import Layout, Move

_NAMED_MAX = 3  # of the topics that an error tells of


def drain(layout: Layout, node_id: int) -> list[Move]:
    """All that the node holds goes to others. The layout is one `without` it.

    Raises BrokerIdNotRegisteredError, InvalidReplicationFactorError where too few nodes are left.
    """
    _check_known(layout, node_id)
    return _empty(layout, node_id, None)


def replace(layout: Layout, node_id: int, successor: int) -> list[Move]:
    """All that the node holds goes to `successor`, and where that holds it already, to others.

    The layout is one `without` the node. Raises as `drain` does, and InvalidReplicaAssignmentError.
    """
    _check_known(layout, node_id)
    _check_known(layout, successor)
    if successor == node_id:
        raise InvalidReplicaAssignmentError(f"node {node_id} cannot take its own place: name another")
    if successor not in layout.candidates:
        raise InvalidReplicaAssignmentError(f"node {successor} is not alive: start it first")
    return _empty(layout, node_id, successor)


def change_factor(layout: Layout, topic: str, factor: int, config: TopicConfig) -> list[Move]:
    """Each partition of the topic gets this many replicas; its leader stays one, and so do those in sync.

    Raises InvalidReplicationFactorError, InvalidConfigError below `min_insync_replicas`.
    """
    if factor > len(layout.candidates):
        raise InvalidReplicationFactorError(
            f"replication factor {factor} needs as many living nodes, of which there are {len(layout.candidates)}"
        )
    check_in_sync(config, factor)
    for place in sorted(place for place in layout.held if place.topic == topic):
        replicas = _kept(layout, place, factor)
        while len(replicas) < factor:
            added = layout.least_loaded(place, replicas)
            assert added is not None, "there are as many candidates"
            replicas.append(added)
        if tuple(replicas) != layout.halves[place].replicas:
            layout.assign(place, replicas)
    return layout.moves()


def move(layout: Layout, place: TopicPartition, nodes: Sequence[int]) -> list[Move]:
    """One partition to these nodes, the preferred leader first: as many as it has now.

    Raises UnknownTopicOrPartitionError, BrokerIdNotRegisteredError, InvalidReplicaAssignmentError.
    """
    held = layout.held.get(place)
    if held is None:
        raise UnknownTopicOrPartitionError(f"there is no partition {place}")
    for node_id in nodes:
        _check_known(layout, node_id)
    if len(set(nodes)) < len(nodes):
        raise InvalidReplicaAssignmentError(f"a node is named twice: {_ids(nodes)}")
    factor = len(held.half.replicas)
    if len(nodes) != factor:
        raise InvalidReplicaAssignmentError(
            f"{place} has {factor} replica{'s' * (factor > 1)}, not {len(nodes)}: name as many nodes; `raftlog topic "
            f"alter {place.topic} --replication-factor {len(nodes)}` changes how many there are"
        )
    away = [node_id for node_id in nodes if node_id not in held.half.replicas and node_id not in layout.candidates]
    if away:
        raise InvalidReplicaAssignmentError(f"node {away[0]} is not alive, so it can copy nothing: start it first")
    layout.assign(place, nodes)
    return layout.moves()


def _kept(layout: Layout, place: TopicPartition, factor: int) -> list[int]:
    """At most `factor` of a partition's replicas, in their order: the leader, then those in sync on idle nodes."""
    held = layout.held[place]

    def worth(node_id: int) -> tuple[bool, bool, bool, int, int]:
        return (
            node_id != held.leader_id,
            node_id not in held.in_sync,
            node_id not in layout.candidates,
            layout.replicas[node_id],
            node_id,
        )

    best = sorted(held.half.replicas, key=worth)[:factor]
    return [node_id for node_id in held.half.replicas if node_id in best]


def _empty(layout: Layout, node_id: int, successor: int | None) -> list[Move]:
    places = layout.of_node(node_id)
    left = len(layout.candidates)
    too_many = {place.topic for place in places if len(layout.halves[place].replicas) > _room(layout, place)}
    if too_many:
        raise InvalidReplicationFactorError(
            f"{_names(too_many)} more replicas than the living nodes that are left without node {node_id}: {left}; "
            "start another node first, or lower the replication factor (raftlog topic alter)"
        )
    for place in places:
        replicas = list(layout.halves[place].replicas)
        if node_id in replicas:
            position = replicas.index(node_id)
            others = replicas[:position] + replicas[position + 1 :]
            fits = successor is not None and successor not in others
            taker = successor if fits else layout.least_loaded(place, others)
            assert taker is not None, "there is room"
            replicas[position] = taker
        layout.assign(place, replicas, _witnesses(layout, place, node_id, successor, replicas))
    return layout.moves()


def _witnesses(
    layout: Layout, place: TopicPartition, node_id: int, successor: int | None, replicas: Sequence[int]
) -> list[int] | None:
    """The successor votes where the node did; None: as the layout says."""
    half = layout.halves[place]
    if node_id not in half.witnesses or successor is None or successor in half.ids or successor in replicas:
        return None
    return [successor if witness == node_id else witness for witness in half.witnesses]


def _room(layout: Layout, place: TopicPartition) -> int:
    """How many replicas the partition can have: on living nodes, and on those where it is."""
    stays = {node_id for node_id in layout.halves[place].replicas if node_id not in layout.without}
    return len(stays | set(layout.candidates))


def _check_known(layout: Layout, node_id: int) -> None:
    if node_id not in layout.nodes:
        raise BrokerIdNotRegisteredError(f"the cluster has no node {node_id}; its nodes are {_ids(layout.nodes)}")


def _names(topics: Iterable[str]) -> str:
    names = sorted(topics)
    shown = ", ".join(names[:_NAMED_MAX]) + (", ..." if len(names) > _NAMED_MAX else "")
    return f"topic {shown} has" if len(names) == 1 else f"topics {shown} have"


def _ids(nodes: Sequence[int]) -> str:
    return ", ".join(map(str, nodes))
