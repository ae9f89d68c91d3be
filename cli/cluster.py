"""`raftlog cluster`: the cluster as a whole."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click
import msgspec

from .connect import open_admin
from .moves import (
    MB,
    NODE,
    Wish,
    accomplish,
    change_ongoing,
    check_dead,
    chosen,
    look,
    note_vote,
    ongoing,
    propose,
    show,
    show_ongoing,
    tell,
    throttle_option,
    yes_option,
)
from .options import bootstrap_option, excludes, json_option
from .output import clear_screen, ending, print_json, print_table, repeated, size_text

if TYPE_CHECKING:
    from raftlog import Admin
    from raftlog.view.layout import Layout, Move
    from raftlog.view.partitions import NodeView


@click.group()
def cluster() -> None:
    """Look at the cluster as a whole, move replicas between its nodes, and take nodes out of it.

    \b
    Example:
        raftlog cluster status
        raftlog cluster drain 4
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
@click.argument("node", type=NODE)
@yes_option
@throttle_option
@bootstrap_option
@json_option
def drain(node: int, yes: bool, throttle: int | None, bootstrap: str, as_json: bool) -> None:
    """Move all that a node holds to the others.

    Replicas are copied while clients go on: nothing is refused, and nothing is lost where a node fails meanwhile. What
    moves is shown first, and done once it is confirmed; the command returns when the node is empty. Ctrl-C ends it, and
    the moves go on. A dead node is drained from the copies that the others have.

    The node still gets replicas of new topics: `raftlog cluster remove` takes it out.

    \b
    Examples:
        raftlog cluster drain 2
        raftlog cluster drain 2 --yes --throttle 20
    """
    from raftlog.view import moves

    wish = Wish(yes, throttle, as_json)
    with open_admin(bootstrap) as admin:
        done = _emptied(admin, node, wish, lambda layout: moves.drain(layout, node))
        note_vote(admin, node)
    tell(done, wish, f"node {node} is empty", node=node)


@cluster.command()
@click.argument("node", type=NODE)
@click.option("--with", "successor", type=NODE, required=True, metavar="NODE", help="The node that takes its place.")
@yes_option
@throttle_option
@bootstrap_option
@json_option
def replace(node: int, successor: int, yes: bool, throttle: int | None, bootstrap: str, as_json: bool) -> None:
    """Move all that a node holds, alive or dead, to another one.

    As `raftlog cluster drain`, but to one node, except for what that has already. Start the new node first.

    \b
    Example:
        raftlog cluster replace 2 --with 5
    """
    from raftlog.view import moves

    wish = Wish(yes, throttle, as_json)
    with open_admin(bootstrap) as admin:
        done = _emptied(admin, node, wish, lambda layout: moves.replace(layout, node, successor))
        note_vote(admin, node)
    tell(done, wish, f"node {successor} has what node {node} had", node=node, successor=successor)


@cluster.command()
@click.option("--dry-run", is_flag=True, help="Show what would move, and move nothing.")
@yes_option
@throttle_option
@bootstrap_option
@json_option
def balance(dry_run: bool, yes: bool, throttle: int | None, bootstrap: str, as_json: bool) -> None:
    """Move replicas until all nodes hold as much as each other.

    As few bytes as do it: the numbers of replicas and witnesses differ by one at most then, and bytes by a tenth or so,
    as far as the sizes of partitions allow. After a node joined, or another one was drained and came back.

    \b
    Examples:
        raftlog cluster balance --dry-run
        raftlog cluster balance --yes
    """
    from raftlog.view.balance import balance as balanced

    wish, even = Wish(yes, throttle, as_json), "the nodes hold as much as each other"
    with open_admin(bootstrap) as admin:
        if dry_run:
            planned = balanced(look(admin))
            if planned:
                show(planned, wish)
            tell(planned, wish, "nothing was moved" if planned else even, dry_run=True)
            return
        asked: list[Move] = []

        def ask(moves: list[Move]) -> None:
            propose(moves, wish, "Move them?")
            asked.extend(moves)

        # Once it is asked for: what grows meanwhile is for the next time.
        done = accomplish(admin, wish, lambda layout: [] if asked else balanced(layout), ask, lambda _: True)
    tell(done, wish, even)


@cluster.command("moves")
@click.argument("places", nargs=-1, metavar="[TOPIC-PARTITION]…")
@click.option("--cancel", is_flag=True, help="Call them off: replicas stay, or go back to, where they were.")
@click.option("--throttle", type=MB, metavar="MB", help="From now on so many MB a second of each partition's leader.")
@click.option("--watch", is_flag=True, help="Again every second, until Ctrl-C.")
@bootstrap_option
@json_option
@excludes("--watch", ("--cancel", "--throttle"), "they change what is shown, once")
@excludes("--cancel", ("--throttle",), "what is called off copies nothing")
def moves_(
    places: tuple[str, ...], cancel: bool, throttle: int | None, watch: bool, bootstrap: str, as_json: bool
) -> None:
    """Show what moves, and change it.

    How much is copied, and what a partition's leader waits for, if it waits. Of all partitions that move, or those
    named, such as orders-3. What has moved is listed no more.

    \b
    Examples:
        raftlog cluster moves --watch
        raftlog cluster moves orders-3 --cancel
        raftlog cluster moves --throttle 20
    """
    with ending(watch), open_admin(bootstrap) as admin:
        for _ in repeated() if watch else (None,):
            found = chosen(ongoing(admin), places)
            if watch and not as_json:
                clear_screen()
            if cancel or throttle is not None:
                change_ongoing(admin, found, cancel=cancel, throttle=throttle)
                found = chosen(ongoing(admin), ())
            if as_json:
                print_json(found)
                sys.stdout.flush()
            else:
                show_ongoing(found)


@cluster.command()
@click.argument("node", type=NODE)
@click.option("--dead", is_flag=True, help="It was lost: its replicas are made anew on the others first.")
@yes_option
@bootstrap_option
@json_option
def remove(node: int, dead: bool, yes: bool, bootstrap: str, as_json: bool) -> None:
    """Take a node that holds nothing out of the cluster.

    It is done at once, without asking. The node ends if it runs, and never comes back with its data directory; with an
    empty one it joins as a new node. One that holds replicas is refused: `raftlog cluster drain` moves them, and so
    does --dead where its machine is gone for good. One that votes for the metadata, as those of the first start do,
    is refused as well.

    \b
    Examples:
        raftlog cluster remove 4
        raftlog cluster remove 4 --dead
    """
    from raftlog.view import moves

    moved: list[Move] = []
    with open_admin(bootstrap) as admin:
        if dead:
            check_dead(admin, node)
            moved = _emptied(admin, node, Wish(yes, None, as_json), lambda layout: moves.drain(layout, node))
        admin.remove_node(node)
    if as_json:
        print_json({"node": node, "removed": True} | ({"moved": moved} if dead else {}))
    else:
        click.echo(f"removed node {node}")


def _emptied(admin: Admin, node: int, wish: Wish, plan: Callable[[Layout], list[Move]]) -> list[Move]:
    """What was moved."""
    return accomplish(
        admin,
        wish,
        plan,
        begin=lambda moves: propose(moves, wish, f"Move them away from node {node}?"),
        concerns=lambda move: node in move.old_replicas + move.old_witnesses,
        without=[node],
    )


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
