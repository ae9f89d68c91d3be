"""Which nodes hold the replicas of a new topic. Pure.

Leaders first: each partition's preferred leader is the node that leads fewest of this topic, then
fewest in all. Followers next, onto the nodes with fewest replicas of this topic, then in all. The
topic comes before the total so that a node which joined empty does not get the whole of every new
topic; the total decides the rest so that many topics of one partition spread as well. Ties go round
robin from the leader, shifted after each round, so that the followers of one leader differ and its
load is shared out when it fails (as Kafka's placement does).

Witnesses last: R replicas get up to R - 1 of them, so that R - 1 nodes may fail, where there are that many more nodes
and where the voters are then of an odd number (one more would not help a majority). They weigh next to nothing, so
they are spread by their own count, over the nodes that hold no records of the partition.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from raftlog.controller.image import Image

Assignment = tuple[tuple[int, ...], ...]


def place(
    image: Image, *, live: Collection[int], partitions: int, replication_factor: int, beside: Assignment = ()
) -> Assignment:
    """One tuple of node ids per new partition, the preferred leader first. `beside`: those that the topic has.

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
    leads = _count(leader_candidates, (replicas[0] for replicas in beside))
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
    holds = _count(candidates, [*leaders, *(node for replicas in beside for node in replicas)])
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
    _even_out(assignment, holds, [replicas[:1] for replicas in assignment])
    return tuple(tuple(replicas) for replicas in assignment)


def witness_count(replication_factor: int, nodes: int) -> int:
    """How many witnesses a partition gets: f for f + 1 replicas on 2 f + 1 nodes."""
    most = max(0, min(replication_factor - 1, nodes - replication_factor))
    return next((count for count in range(most, 0, -1) if (replication_factor + count) % 2), 0)


def place_witnesses(
    image: Image, *, live: Collection[int], replicas: Assignment, beside: Assignment = ()
) -> Assignment:
    """The witnesses of each new partition, placed so; empty where it gets none. `beside`: those that the topic has."""
    registered = sorted(image.nodes)
    count = witness_count(len(replicas[0]), len(registered))
    if not count:
        return ()
    alive = [node for node in registered if node in live]
    candidates = alive if len(alive) >= len(replicas[0]) + count else registered
    in_all = _count(
        candidates, (node for topic in image.topics.values() for nodes in topic.witnesses for node in nodes)
    )
    holds = _count(candidates, (node for nodes in beside for node in nodes))
    position = {node: index for index, node in enumerate(candidates)}
    assignment: list[list[int]] = []
    for partition, holders in enumerate(replicas):
        free = [node for node in candidates if node not in holders]
        free.sort(key=lambda node: (holds[node], in_all[node], (position[node] - partition) % len(candidates)))
        assignment.append(free[:count])
        for node in free[:count]:
            holds[node] += 1
            in_all[node] += 1
    _even_out(assignment, holds, replicas)
    return tuple(tuple(witnesses) for witnesses in assignment)


def _even_out(assignment: list[list[int]], holds: dict[int, int], fixed: Sequence[Sequence[int]]) -> None:
    """Moves what is not `fixed` until no move helps: the last ones had to take what was left to them.

    Every move lowers the sum of the squares of `holds`, so it ends.
    """
    moved = True
    while moved:
        moved = False
        for replicas, stay in zip(assignment, fixed, strict=True):
            for index in range(len(replicas)):
                if replicas[index] in stay:
                    continue
                others = [node for node in holds if node not in replicas and node not in stay]
                lightest = min(others, key=holds.__getitem__, default=None)
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
