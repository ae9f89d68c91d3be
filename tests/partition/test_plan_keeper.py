"""What a leader does with a plan that it is told of, again and again until it is carried out or called off."""

from __future__ import annotations

from raftlog import limits
from raftlog.consensus.change import WhyNot
from raftlog.types import Half, Plan, ReplicaStatus
from tests.consensus.messages import appended
from tests.partition.harness import Cluster, Node

FOUNDED = (0, 0)


def told(cluster: Cluster, plan: Plan | None, expected: tuple[int, int] = FOUNDED) -> None:
    """Every supervisor tells its worker; who leads acts."""
    for node in cluster.nodes.values():
        node.replica.heed(plan, expected)


def plan(*replicas: int, number: int = 5, called_off: bool = False, bytes_per_s: int = 0) -> Plan:
    return Plan(number=number, target=Half(replicas), called_off=called_off, bytes_per_s=bytes_per_s)


def written(cluster: Cluster, count: int = 3, size: int = 10) -> Node:
    leader = cluster.leader()
    appended(cluster, leader, *(bytes(size) for _ in range(count)))
    return leader


def group(node: Node) -> tuple[tuple[int, int], list[tuple[int, ...]]]:
    """The committed configuration: (term, index), and the replicas of each half."""
    status: ReplicaStatus = node.replica.status()
    assert status.group is not None
    return (status.group.term, status.group.index), [half.replicas for half in status.group.halves]


def configurations(node: Node) -> int:
    log = node.log
    return len(log.configurations_in(1, log.last_index + 1))


def test_learners_are_fed_and_the_change_begins_and_ends_by_itself() -> None:
    cluster = Cluster(3)
    leader = written(cluster)
    cluster.join(4)
    told(cluster, plan(1, 2, 4))
    cluster.settle(5.0)
    configuration, halves = group(leader)
    assert halves == [(1, 2, 4)] and configuration > FOUNDED
    told(cluster, None, configuration)
    cluster.settle(1.0)
    assert group(leader)[0] == configuration, "nothing more is done"
    assert cluster.nodes[3].replica.status().group.names is False


def test_the_status_says_why_it_has_not_begun_and_how_far_learners_are() -> None:
    cluster = Cluster(3)
    leader = written(cluster)
    told(cluster, plan(1, 2, 4))
    cluster.settle(1.0)
    status = leader.replica.status().group
    assert status is not None
    assert (status.plan, status.learners) == (5, ((4, 0),))
    assert status.why_not == WhyNot.LEARNER_DOUBTS.value


def test_the_next_leader_goes_on() -> None:
    cluster = Cluster(3)
    leader = written(cluster)
    told(cluster, plan(1, 2, 3, 4))
    cluster.settle(1.0)
    leader.replica.hand_over()
    cluster.settle(1.0)
    assert cluster.leader() is not leader
    cluster.join(4)
    cluster.settle(5.0)
    assert group(cluster.leader())[1] == [(1, 2, 3, 4)]


def test_called_off_before_it_began_a_configuration_of_its_own_refuses_who_asks_late() -> None:
    cluster = Cluster(3)
    leader = written(cluster)
    cluster.join(4)
    told(cluster, plan(1, 2, 4, called_off=True))
    cluster.settle(2.0)
    configuration, halves = group(leader)
    assert halves == [(1, 2, 3)] and configuration > FOUNDED
    told(cluster, plan(1, 2, 4, called_off=True))
    cluster.settle(2.0)
    assert configurations(leader) == 1, "once"
    told(cluster, plan(1, 2, 4))  # a supervisor that has not heard that it was called off
    cluster.settle(5.0)
    assert group(leader) == (configuration, [(1, 2, 3)])
    told(cluster, plan(1, 2, 4, number=9), configuration)
    cluster.settle(5.0)
    assert group(leader)[1] == [(1, 2, 4)]


def test_called_off_while_both_halves_vote_it_goes_back() -> None:
    cluster = Cluster(3)
    leader = written(cluster)
    cluster.join(4)
    told(cluster, plan(1, 2, 3, 4))
    while not leader.log.halves:
        cluster.settle(0.05)
    assert len(leader.log.halves) == 2
    cluster.away.add(4)
    told(cluster, plan(1, 2, 3, 4, called_off=True))
    cluster.settle(3.0)
    assert group(leader)[1] == [(1, 2, 3)]


def test_learners_have_the_rate_of_the_plan() -> None:
    cluster = Cluster(3)
    leader = written(cluster, count=4, size=600_000)
    cluster.join(4)
    told(cluster, plan(1, 2, 3, 4, bytes_per_s=1000))
    cluster.settle(3.0)
    assert dict(leader.replica.status().group.learners)[4] < leader.log.last_index
    told(cluster, plan(1, 2, 3, 4, number=6))
    cluster.settle(5.0)
    assert group(leader)[1] == [(1, 2, 3, 4)]


def test_a_learner_that_stalls_is_left_alone_for_a_while_and_tried_again() -> None:
    cluster = Cluster(3)
    leader = written(cluster)
    told(cluster, plan(1, 2, 3, 4))
    cluster.settle(limits.LEARNER_STALLED_S + 2.0)
    status = leader.replica.status().group
    assert status is not None and status.learners == () and "has not come on for 60 s" in status.why_not
    cluster.join(4)
    cluster.settle(limits.LEARNER_STALLED_S + 5.0)
    assert group(leader)[1] == [(1, 2, 3, 4)]
