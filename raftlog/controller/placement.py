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

Living nodes come first. A node that joined once and is gone would be a voter that never votes: with two of them as
witnesses of three replicas the first node that stops takes the majority along. So no witness is placed on a node that
is away, and a replica only where too few others are alive and a majority of the replicas is: it works at once, survives
no less than with one replica fewer, and has its copy when the node is back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from raftlog.controller.image import Image
from raftlog.errors import InvalidReplicaAssignmentError, InvalidReplicationFactorError

Assignment = tuple[tuple[int, ...], ...]


def living(image: Image, live: Collection[int]) -> list[int]:
    """The registered nodes that are alive, sorted."""
    return sorted(node for node in image.nodes if node in live)


def largest_factor(image: Image, live: Collection[int], most: int) -> int:
    """Of the replication factors up to `most` the largest of which a majority of the replicas is alive; 1 or more."""
    alive = len(living(image, live))
    return next(count for count in range(min(len(image.nodes), most), 0, -1) if alive >= count // 2 + 1 or count == 1)


def check_replication_factor(image: Image, live: Collection[int], factor: int) -> None:
    """Raises InvalidReplicationFactorError where no majority of the replicas would be alive."""
    alive = living(image, live)
    if factor < 1:
        raise InvalidReplicationFactorError(f"a replication factor is 1 or more, not {factor}")
    if factor > len(image.nodes):
        raise InvalidReplicationFactorError(
            f"replication factor {factor} needs as many nodes; the cluster has {len(image.nodes)}"
        )
    if factor // 2 + 1 > len(alive):
        raise InvalidReplicationFactorError(
            f"replication factor {factor} needs {factor // 2 + 1} living nodes; {len(alive)} of {len(image.nodes)} "
            f"are alive, {_nodes_text(image, live)} not"
        )


def check_assignment(
    image: Image, live: Collection[int], replicas: Sequence[Sequence[int]], factor: int | None = None
) -> Assignment:
    """Replicas that somebody else has placed, as many of each partition; `factor`: as many as the topic has.

    Raises InvalidReplicaAssignmentError.
    """
    factor = len(replicas[0]) if factor is None else factor
    for partition, nodes in enumerate(replicas):
        unknown = [node for node in nodes if node not in image.nodes]
        alive = sum(node in live for node in nodes)
        reason = ""
        if not nodes:
            reason = "has no replica"
        elif len(set(nodes)) < len(nodes):
            reason = f"names a node twice: {list(nodes)}"
        elif unknown:
            reason = f"names node {unknown[0]}, which the cluster does not have"
        elif len(nodes) != factor:
            reason = f"has {len(nodes)} replicas where others have {factor}"
        elif alive < factor // 2 + 1:
            reason = f"needs {factor // 2 + 1} living nodes; {alive} of {list(nodes)} are alive"
        if reason:
            raise InvalidReplicaAssignmentError(f"new partition {partition}, counted from 0, {reason}")
    return tuple(tuple(nodes) for nodes in replicas)


def survives(replicas: int, witnesses: int, away: int = 0) -> int:
    """How many of a partition's nodes may fail, where `away` replicas are not alive and all others are in sync."""
    majority = (replicas + witnesses) // 2 + 1
    return min(replicas + witnesses - away - majority, replicas - away - 1)


def warning(image: Image, live: Collection[int], replicas: int, witnesses: int, wanted: int) -> str:
    """Why a partition placed now survives fewer failures than its replication factor promises; "" where it does not.

    `wanted`: the replication factor that it would have were all registered nodes alive.
    """
    best = survives(wanted, witness_count(wanted, len(image.nodes)))
    now = survives(replicas, witnesses, max(0, replicas - len(living(image, live))))
    later = survives(replicas, witnesses)
    if now < best:
        until = f"{later or 'none'} when they are back" if later > now else "this stays so when they are back"
        return (
            f"a partition survives {_failures_text(now)} instead of {best}, since {_nodes_text(image, live)} not "
            f"alive; {until}"
        )
    if replicas == 2 and not witnesses:
        return (
            "with replication factor 2 on two nodes a partition survives no failure, since both replicas are needed "
            "for a majority; a third node would be its witness"
        )
    return ""


def _nodes_text(image: Image, live: Collection[int]) -> str:
    away = [str(node) for node in sorted(image.nodes) if node not in live]
    return f"node {away[0]} is" if len(away) == 1 else f"nodes {', '.join(away[:-1])} and {away[-1]} are"


def _failures_text(count: int) -> str:
    return f"{count or 'no'} failure{'s' * (count > 1)}"


def place(
    image: Image, *, live: Collection[int], partitions: int, replication_factor: int, beside: Assignment = ()
) -> Assignment:
    """One tuple of node ids per new partition, the preferred leader first. `beside`: those that the topic has.

    Nodes that are not alive are taken only where there are too few others, and lead nothing.
    """
    registered = sorted(image.nodes)
    leader_candidates = living(image, live)
    assert 1 <= replication_factor <= len(registered) and partitions >= 1 and leader_candidates
    away = [node for node in registered if node not in leader_candidates]
    candidates = sorted(leader_candidates + away[: max(0, replication_factor - len(leader_candidates))])

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
    candidates = living(image, live)
    count = witness_count(len(replicas[0]), len(candidates))
    if not count:
        return ()
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
