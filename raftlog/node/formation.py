"""How a node finds out what it is: a founder of a new cluster, a voter of a running one, or a joiner. Pure.

A cluster is formed once every node of `--peers` has been heard from: then each of them lists the
metadata's replica, with the directory ids of all founders, and starts it; the first leader mints
the cluster id. A node may learn that the others formed before it heard from all. Their founders say
whether its directory is the one they counted on: if not, its disk was lost, and with it what it may
have acknowledged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from raftlog.errors import ConfigError
from raftlog.protocol.nodes import NodeState
from raftlog.types import Endpoint


class Wait(NamedTuple):
    reason: str


class Form(NamedTuple):
    """Host a replica of the metadata. `founders`: node id to directory id. cluster_id "": not minted yet."""

    founders: dict[int, str]
    lost_disk: bool
    cluster_id: str


class Join(NamedTuple):
    """Not a voter: follow the cluster and be registered with it."""

    cluster_id: str
    voters: tuple[int, ...]


def decide_forming(
    *, node_id: int, directory_id: str, peers: Mapping[int, Endpoint], heard: Mapping[int, NodeState]
) -> Wait | Form | Join:
    """For a node that hosts no replica of the metadata and knows no cluster. Raises ConfigError.

    `heard`: the last word of every other node, by id.
    """
    formed = [state for state in heard.values() if state.cluster_id or state.founders]
    cluster_ids = {state.cluster_id for state in formed if state.cluster_id}
    if len(cluster_ids) > 1:
        raise ConfigError(f"the nodes in --peers belong to different clusters: {', '.join(sorted(cluster_ids))}")
    if formed:
        return _enter_formed(node_id, directory_id, peers, formed)
    if node_id not in peers:
        return Wait(f"waiting for a running cluster at {_names(peers, set(peers))}")
    for other in sorted(set(peers) - {node_id}):
        state = heard.get(other)
        if state is not None and set(state.voters) != set(peers):
            raise ConfigError(
                f"node {other} was started with --peers of nodes {_ids(state.voters)}, this one with {_ids(peers)}"
            )
    missing = set(peers) - set(heard) - {node_id}
    if missing:
        return Wait(f"waiting to hear from {_names(peers, missing)} before the cluster can form")
    founders = {other: heard[other].directory_id for other in peers if other != node_id}
    return Form({**founders, node_id: directory_id}, lost_disk=False, cluster_id="")


def _enter_formed(
    node_id: int, directory_id: str, peers: Mapping[int, Endpoint], formed: list[NodeState]
) -> Wait | Form | Join:
    voters = set(formed[0].voters)
    cluster_id = next((state.cluster_id for state in formed if state.cluster_id), "")
    if node_id not in voters:
        if not cluster_id:
            return Wait("waiting for the cluster to elect its first leader")
        return Join(cluster_id, tuple(sorted(voters)))
    if set(peers) != voters:
        raise ConfigError(f"the voters of this cluster are nodes {_ids(voters)}; --peers names {_ids(peers)}")
    # Founders may differ in one directory if it was wiped in between: any doubt counts. Those who joined
    # later know nothing of it.
    founding = [dict(state.founders) for state in formed if state.founders]
    counted_on = {founders.get(node_id) for founders in founding}
    founders = {voter: founding[0].get(voter, "") if founding else "" for voter in voters}
    founders[node_id] = directory_id
    return Form(founders, lost_disk=counted_on != {directory_id}, cluster_id=cluster_id)


def check_peers(*, node_id: int, voters: tuple[int, ...], peers: Mapping[int, Endpoint]) -> None:
    """A directory that knows its voters takes no other set of them. Addresses may change. Raises ConfigError."""
    if voters and peers and node_id in voters and set(peers) != set(voters):
        raise ConfigError(
            f"this directory belongs to a cluster whose voters are nodes {_ids(voters)}; --peers names {_ids(peers)}"
        )


def _ids(node_ids: Mapping[int, object] | set[int] | list[int] | tuple[int, ...]) -> str:
    return ", ".join(str(node_id) for node_id in sorted(node_ids))


def _names(peers: Mapping[int, Endpoint], node_ids: set[int]) -> str:
    return ", ".join(f"node {node_id} at {peers[node_id]}" for node_id in sorted(node_ids))
