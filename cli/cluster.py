"""`raftlog cluster`: the cluster as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from raftlog.limits import NODE_ID_MAX

from .connect import open_admin
from .options import bootstrap_option, json_option
from .output import print_json, print_table, size_text

if TYPE_CHECKING:
    from raftlog.view.partitions import NodeView


@click.group()
def cluster() -> None:
    """Look at the cluster as a whole, and take nodes out of it.

    \b
    Example:
        raftlog cluster status
        raftlog cluster remove 4
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

    from raftlog.view.answers import cluster_status

    from .expiry import ending_soon

    with open_admin(bootstrap) as admin:
        found = cluster_status(admin)
        ending = ending_soon(admin.describe_cluster().nodes)
    problems = [*found.problems, *(f"{each.place}: {each.text}" for each in ending)]
    found = msgspec.structs.replace(found, healthy=not problems, problems=problems)
    if as_json:
        print_json(found)
        return
    controller = "none" if found.controller is None else f"node {found.controller}"
    click.echo(f"cluster {found.cluster_id}, controller {controller}, flush {found.flush}")
    _print_nodes(found.nodes)
    click.echo("\n".join(found.problems) if found.problems else "no problems")
    for spot in found.weak_spots:
        click.echo(f"weak: {spot}")


@cluster.command()
@click.argument("node", type=click.IntRange(1, NODE_ID_MAX))
@bootstrap_option
@json_option
def remove(node: int, bootstrap: str, as_json: bool) -> None:
    """Take a node that holds nothing out of the cluster.

    It is done at once, without asking. The node ends if it runs, and never comes back with its data directory; with an
    empty one it joins as a new node. One that holds replicas, or votes for the metadata as those of the first start
    do, is refused.

    \b
    Example:
        raftlog cluster remove 4
    """

    with open_admin(bootstrap) as admin:
        admin.remove_node(node)
    if as_json:
        print_json({"node": node, "removed": True})
    else:
        click.echo(f"removed node {node}")


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
