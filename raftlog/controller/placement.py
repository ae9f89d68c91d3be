"""Which nodes hold the replicas of a new topic. Pure.

Leaders first: each partition's preferred leader is the node that leads fewest of this topic, then
fewest in all. Followers next, onto the nodes with fewest replicas of this topic, then in all. The
topic comes before the total so that a node which joined empty does not get the whole of every new
topic; the total decides the rest so that many topics of one partition spread as well. Ties go round
robin from the leader, shifted after each round, so that the followers of one leader differ and its
load is shared out when it fails (as Kafka's placement does).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from raftlog.controller.image import Image

Assignment = tuple[tuple[int, ...], ...]


def place(image: Image, *, live: Collection[int], partitions: int, replication_factor: int) -> Assignment:
    """One tuple of node ids per partition, the preferred leader first.

    Nodes that are not live are used only when there are too few others, and never as preferred
    leaders unless none is live.
    """
    registered = sorted(image.nodes)
    assert 1 <= replication_factor <= len(registered) and partitions >= 1
    alive = [node for node in registered if node in live]
    candidates = alive if len(alive) >= replication_factor else registered
    leader_candidates = alive or registered

    every_assignment = [replicas for topic in image.topics.values() for replicas in topic.replicas]
    leaders_in_all = _count(registered, (replicas[0] for replicas in every_assignment))
    replicas_in_all = _count(registered, (node for replicas in every_assignment for node in replicas))

    leaders: list[int] = []
    leads = dict.fromkeys(leader_candidates, 0)
    for _ in range(partitions):
        leader = min(
            leader_candidates,
            key=lambda node: (leads[node], leaders_in_all[node], replicas_in_all[node], node),
        )
        leads[leader] += 1
        leaders_in_all[leader] += 1
        replicas_in_all[leader] += 1
        leaders.append(leader)

    # Counting all leaders before the first follower keeps the replicas of the topic even as well.
    holds = _count(candidates, leaders)
    position = {node: index for index, node in enumerate(candidates)}
    assignment: list[list[int]] = []
    for partition, leader in enumerate(leaders):
        shift = partition // len(candidates)
        replicas = [leader]
        for _ in range(replication_factor - 1):
            follower = min(
                (node for node in candidates if node not in replicas),
                key=lambda node: (
                    holds[node],
                    replicas_in_all[node],
                    (position[node] - position[leader] - 1 - shift) % len(candidates),
                ),
            )
            holds[follower] += 1
            replicas_in_all[follower] += 1
            replicas.append(follower)
        assignment.append(replicas)
    _even_out(assignment, holds)
    return tuple(tuple(replicas) for replicas in assignment)


def _even_out(assignment: list[list[int]], holds: dict[int, int]) -> None:
    """Moves followers until no move helps: the last ones had to take what their leader left them.

    Every move lowers the sum of the squares of `holds`, so it ends.
    """
    moved = True
    while moved:
        moved = False
        for replicas in assignment:
            for index in range(1, len(replicas)):
                lightest = min((node for node in holds if node not in replicas), key=holds.__getitem__, default=None)
                if lightest is not None and holds[lightest] + 2 <= holds[replicas[index]]:
                    holds[replicas[index]] -= 1
                    holds[lightest] += 1
                    replicas[index] = lightest
                    moved = True


def _count(nodes: Collection[int], occurrences: Iterable[int]) -> dict[int, int]:
    counts = dict.fromkeys(nodes, 0)
    for node in occurrences:
        if node in counts:
            counts[node] += 1
    return counts
