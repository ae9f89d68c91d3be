"""Founding, entering and joining: what a node makes of what it hears."""

from __future__ import annotations

import pytest

from raftlog.errors import ConfigError
from raftlog.node.formation import Form, Join, Wait, check_peers, decide_forming
from raftlog.protocol.nodes import NodeState
from raftlog.types import Endpoint

PEERS = {node_id: Endpoint("127.0.0.1", 7070 + node_id) for node_id in (1, 2, 3)}
FOUNDERS = [(1, "d1"), (2, "d2"), (3, "d3")]


def state(
    node_id: int,
    *,
    cluster_id: str = "",
    voters: tuple[int, ...] = (1, 2, 3),
    founders: list[tuple[int, str]] | None = None,
) -> NodeState:
    return NodeState(
        node_id=node_id,
        boot_id=1,
        cluster_id=cluster_id,
        directory_id=f"d{node_id}",
        endpoint=Endpoint("127.0.0.1", 7070 + node_id),
        voters=list(voters),
        founders=founders or [],
        image_offset=0,
        workers=[],
    )


def decide(
    *heard: NodeState, node_id: int = 1, directory_id: str = "d1", peers: dict[int, Endpoint] = PEERS
) -> Wait | Form | Join:
    return decide_forming(node_id=node_id, directory_id=directory_id, peers=peers, heard={s.node_id: s for s in heard})


def test_a_node_alone_forms_at_once() -> None:
    assert decide(peers={1: PEERS[1]}) == Form({1: "d1"}, lost_disk=False, cluster_id="")


def test_every_node_must_have_been_heard_from() -> None:
    assert isinstance(decide(), Wait)
    waiting = decide(state(2))
    assert isinstance(waiting, Wait)
    assert "node 3" in waiting.reason
    assert "node 2" not in waiting.reason
    assert decide(state(2), state(3)) == Form({1: "d1", 2: "d2", 3: "d3"}, lost_disk=False, cluster_id="")


def test_nodes_with_different_peers_do_not_form() -> None:
    with pytest.raises(ConfigError, match="node 2 was started with --peers of nodes 1, 2,"):
        decide(state(2, voters=(1, 2)), state(3))


def test_one_whose_others_formed_first_follows_with_the_directory_they_counted_on() -> None:
    formed = decide(state(2, founders=FOUNDERS))
    assert formed == Form(dict(FOUNDERS), lost_disk=False, cluster_id="")
    named = decide(state(2, founders=FOUNDERS, cluster_id="c"))
    assert named == Form(dict(FOUNDERS), lost_disk=False, cluster_id="c")


def test_a_voter_with_another_directory_than_its_founding_one_has_lost_its_disk() -> None:
    decision = decide(state(2, founders=FOUNDERS, cluster_id="c"), directory_id="fresh")
    assert isinstance(decision, Form)
    assert decision.lost_disk
    assert decision.founders[1] == "fresh"


def test_one_founder_that_counted_on_another_directory_is_enough_for_doubt() -> None:
    other = [(1, "fresh"), (2, "d2"), (3, "d3")]
    decision = decide(state(2, founders=FOUNDERS), state(3, founders=other), directory_id="fresh")
    assert isinstance(decision, Form)
    assert decision.lost_disk


def test_a_joiner_that_is_a_running_cluster_s_only_witness_cannot_excuse_a_lost_disk() -> None:
    # Node 4 is no founder: it knows the voters, and says nothing of their directories.
    decision = decide(state(4, cluster_id="c", founders=[]))
    assert isinstance(decision, Form)
    assert decision.lost_disk


def test_a_joiner_heard_beside_a_founder_casts_no_doubt() -> None:
    decision = decide(state(4, cluster_id="c"), state(2, founders=FOUNDERS, cluster_id="c"))
    assert decision == Form(dict(FOUNDERS), lost_disk=False, cluster_id="c")


def test_a_voter_may_not_come_with_other_peers() -> None:
    with pytest.raises(ConfigError, match="voters of this cluster are nodes 1, 2, 3; --peers names 1"):
        decide(state(2, founders=FOUNDERS, cluster_id="c"), peers={1: PEERS[1], 2: PEERS[2]})


def test_a_new_id_joins_a_running_cluster() -> None:
    joined = decide(state(2, founders=FOUNDERS, cluster_id="c"), node_id=4, directory_id="d4")
    assert joined == Join("c", (1, 2, 3))


def test_a_new_id_that_counts_itself_among_the_peers_joins_as_well() -> None:
    peers = {**PEERS, 4: Endpoint("127.0.0.1", 7074)}
    joined = decide(state(2, founders=FOUNDERS, cluster_id="c"), node_id=4, directory_id="d4", peers=peers)
    assert joined == Join("c", (1, 2, 3))


def test_a_joiner_waits_for_a_cluster_that_has_a_name() -> None:
    assert isinstance(decide(node_id=4), Wait)
    assert isinstance(decide(state(2), node_id=4), Wait)
    assert isinstance(decide(state(2, founders=FOUNDERS), node_id=4), Wait)


def test_nodes_of_different_clusters_cannot_both_be_meant() -> None:
    with pytest.raises(ConfigError, match="different clusters"):
        decide(state(2, cluster_id="a"), state(3, cluster_id="b"))


def test_a_directory_with_voters_takes_no_other_peers() -> None:
    check_peers(node_id=1, voters=(1, 2, 3), peers={})
    check_peers(node_id=1, voters=(1, 2, 3), peers=PEERS)
    check_peers(node_id=4, voters=(1, 2, 3), peers={2: PEERS[2]})
    check_peers(node_id=1, voters=(), peers={1: PEERS[1]})
    with pytest.raises(ConfigError, match=r"--peers names 1, 2$"):
        check_peers(node_id=1, voters=(1, 2, 3), peers={1: PEERS[1], 2: PEERS[2]})
