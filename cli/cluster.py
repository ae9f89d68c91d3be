"""`raftlog cluster`: the cluster as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .connect import open_admin
from .options import bootstrap_option, json_option
from .output import print_json, print_table, size_text

if TYPE_CHECKING:
    from .health import NodeView


@click.group()
def cluster() -> None:
    """Look at the cluster as a whole.

    \b
    Example:
        raftlog cluster status
    """


@cluster.command()
@bootstrap_option
@json_option
def status(bootstrap: str, as_json: bool) -> None:
    """Show the nodes, and whatever is wrong.

    A node that does not answer, a partition that has no leader, that lacks replicas, or whose worker
    cannot start, is listed with the reason. Counted for each node: replicas that are doubtful now, damaged
    ends of logs that were cut, and damage that was found; these two stay, also when all is repaired.

    It is for people, and exits with 0 whatever it shows. The probe for scripts is `raftlog doctor`.

    \b
    Examples:
        raftlog cluster status
        raftlog cluster status --json
    """

    from .health import cut_off, replica_problems, view_nodes, view_topic

    with open_admin(bootstrap) as admin:
        found = admin.describe_cluster()
        topics = admin.describe_topics()
        replicas = admin.describe_replicas()
    nodes = view_nodes(found.nodes, topics, replicas)
    problems = [cut_off(found)] if cut_off(found) else []
    problems += [f"node {node.node} does not answer" for node in nodes if not node.alive]
    if found.controller_id < 0:
        problems.append("no controller: topics cannot be created or deleted now")
    described = {topic.name for topic in topics}
    for topic in topics:
        for partition in view_topic(topic, replicas).partitions:
            problems += [f"{topic.name}-{partition.partition}: {text}" for text in partition.problems]
    for replica in replicas:
        if replica.topic not in described:
            problems += [f"{replica.topic}-{replica.partition}: {text}" for text in replica_problems(replica)]
    if as_json:
        print_json(
            {
                "cluster_id": found.cluster_id,
                "controller": found.controller_id if found.controller_id >= 0 else None,
                "flush": found.flush,
                "confirmed": found.confirmed,
                "healthy": not problems,
                "nodes": nodes,
                "topics": len(topics),
                "partitions": sum(len(topic.partitions) for topic in topics),
                "problems": problems,
            }
        )
        return
    controller = f"node {found.controller_id}" if found.controller_id >= 0 else "none"
    click.echo(f"cluster {found.cluster_id}, controller {controller}, flush {found.flush}")
    _print_nodes(nodes)
    click.echo("\n".join(problems) if problems else "no problems")


def _print_nodes(nodes: list[NodeView]) -> None:
    print_table(
        (
            "node",
            "address",
            "state",
            "voter",
            "leads",
            "replicas",
            "witnesses",
            "size",
            "doubtful",
            "cuts",
            "corruptions",
        ),
        [
            (
                node.node,
                node.address,
                "up" if node.alive else "silent",
                "yes" if node.voter else "no",
                node.leads,
                node.replicas,
                node.witnesses,
                size_text(node.size_bytes),
                node.doubtful,
                node.cuts,
                node.corruptions,
            )
            for node in nodes
        ],
    )
