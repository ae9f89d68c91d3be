"""What a host keeps for every machine: when it is loaded, what is told of open fates, who may deny, and cuts."""

from __future__ import annotations

import pytest

from raftlog.errors import ErrorCode
from raftlog.machine.host import Host
from raftlog.node.machines import MACHINES
from raftlog.types import INTERNAL_TOPICS
from tests.machine.names import World, ask_for


def _others(world: World, leader: int) -> set[int]:
    return set(world.cluster.nodes) - {leader}


def _ask(world: World, node_id: int, name: bytes) -> None:
    world.hosts[node_id].on_request(ask_for(name))


def test_every_internal_topic_has_a_machine_and_no_other_topic() -> None:
    assert MACHINES.keys() == INTERNAL_TOPICS


def test_who_does_not_lead_and_who_is_not_loaded_refuse_in_the_words_of_the_log() -> None:
    world = World(3, 1)
    leader = world.cluster.leader().node_id
    other = min(_others(world, leader))
    _ask(world, leader, b"a")
    _ask(world, other, b"a")
    assert [answer.code for answer in world.answers] == [
        ErrorCode.OFFSET_NOT_AVAILABLE,
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
    ]


def test_what_was_given_out_but_not_proposed_when_leadership_ended_is_not_done() -> None:
    world = World(3, 1)
    leader = world.leader()
    world.cluster.away = _others(world, leader)
    world.cluster.settle(0.2)
    _ask(world, leader, b"a")
    while world.cluster.nodes[leader].replica.is_leader:
        world.cluster.settle(0.1)
    world.hosts[leader].after_turn()
    assert [answer.code for answer in world.answers] == [ErrorCode.NOT_LEADER_OR_FOLLOWER]
    assert world.machines[leader].outbox.unfinished == 0
    world.cluster.away = set()
    world.turns(3)
    assert not world.machines[world.leader()].given


def test_what_is_committed_and_not_applied_when_leadership_ends_is_of_open_fate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The host of a replica that leads no more must not say "done" of what its machine has not seen."""
    world = World(3, 1)
    leader = world.leader()
    _ask(world, leader, b"a")
    world.turns()
    with monkeypatch.context() as patch:
        patch.setattr(Host, "_apply", lambda self: None)
        world.turns()
        assert world.cluster.nodes[leader].replica.high_watermark == 1
        assert not world.answers
        world.cluster.away = _others(world, leader)
        while world.cluster.nodes[leader].replica.is_leader:
            world.turns(0.1)
        world.hosts[leader].after_turn()
    assert [answer.code for answer in world.answers] == [ErrorCode.REQUEST_TIMED_OUT]
    world.turns()
    assert world.machines[leader].given == {b"a"}


@pytest.mark.parametrize("pipelines", [True, False])
def test_one_that_decides_on_committed_state_alone_waits_for_a_batch_of_open_fate(pipelines: bool) -> None:
    """min_insync_replicas went under while the batch was on its way: it stays in the log, and may be committed yet."""
    world = World(3, 1)
    leader = world.leader()
    machine = world.machines[leader]
    machine.pipelines = pipelines
    world.cluster.away = _others(world, leader)
    _ask(world, leader, b"a")
    world.turns(0.0)
    world.cluster.settle()
    replica = world.cluster.nodes[leader].replica
    replica._waiting.refuse_all(ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND, "", replica._answers)
    world.hosts[leader].after_turn()
    assert [answer.code for answer in world.answers] == [ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND]
    assert replica.is_leader and replica.high_watermark == 0
    world.answers.clear()
    _ask(world, leader, b"b")
    refused = [answer.code for answer in world.answers]
    assert refused == ([] if pipelines else [ErrorCode.OFFSET_NOT_AVAILABLE])
    world.cluster.away = set()
    world.turns(0.3)
    world.turns()
    assert machine.given == ({b"a", b"b"} if pipelines else {b"a"})
    assert machine.loads == (1 if pipelines else 2)
    _ask(world, leader, b"c")
    world.turns()
    world.turns()
    assert b"c" in machine.given


def test_a_denial_waits_until_a_majority_has_said_who_leads() -> None:
    world = World(3, 1)
    leader = world.leader()
    _ask(world, leader, b"a")
    world.turns()
    world.turns()
    world.answers.clear()
    world.cluster.away = _others(world, leader)
    _ask(world, leader, b"a")
    world.turns()
    assert not world.answers
    world.cluster.away = set()
    world.turns()
    assert [answer.code for answer in world.answers] == [ErrorCode.TOPIC_ALREADY_EXISTS]


def test_a_deposed_machine_forgets_what_it_applied_of_a_log_that_was_cut() -> None:
    world = World(3, 1)
    old = world.leader()
    _ask(world, old, b"kept")
    world.turns()
    world.turns(0.3)
    world.machines[old].given.add(b"cut")  # as if an operator had accepted a loss
    world.cluster.away = _others(world, old)
    _ask(world, old, b"lost")
    world.turns()
    world.turns()
    world.cluster.away = {old}
    new = world.leader()
    _ask(world, new, b"newer")
    world.turns()
    world.cluster.away = set()
    for _ in range(40):
        world.turns()
    assert world.cluster.nodes[old].log.state.truncations > 0
    assert world.machines[old].given == {b"kept", b"newer"}
