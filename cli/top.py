"""`raftlog top`: what goes on right now, again and again."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import click

from raftlog.errors import ClusterAuthorizationFailedError, RaftlogError

from .connect import open_admin
from .options import COUNT, Seconds, bootstrap_option, json_option
from .output import print_json, size_text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from raftlog import Admin
    from raftlog.view.top import HeldClient, Look, Top

_GROUPS_MAX = 50  # each is several questions, in each look
_HEAD_LINES = 12  # of the screen, beside partitions and groups
_GROUP_LINES = 8
_THROTTLED_LINES = 5
_TABLE_LINES = 4  # of a table beside its rows


@click.command()
@click.option(
    "--every",
    "interval_s",
    type=Seconds(0.2),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How often to look.",
)
@click.option("--count", type=COUNT, metavar="N", help="End after N looks.")
@bootstrap_option
@json_option
def top(interval_s: float, count: int | None, bootstrap: str, as_json: bool) -> None:
    """Show what goes on: nodes, partitions with their rates, groups with their lag, clients above a quota.

    The screen is drawn anew with each look, until Ctrl-C. Partitions with a problem come first, then the
    busiest; groups that are furthest behind come first, and clients that quotas hold back now. With --json,
    or where stdout is no terminal, each look is one line of JSON.

    \b
    Examples:
        raftlog top
        raftlog top --every 5
        raftlog top --json --count 2 | tail -1 | jq '.partitions[0]'
    """
    from raftlog.view.top import top as view

    with open_admin(bootstrap) as admin, _screen(as_json) as draw, contextlib.suppress(KeyboardInterrupt):
        before = None
        while True:
            began_s = time.monotonic()
            now = _look(admin)
            draw(view(before, now))
            before = now
            if count is not None:
                count -= 1
                if not count:
                    return
            time.sleep(max(0.0, interval_s - (time.monotonic() - began_s)))


def _look(admin: Admin) -> Look:
    from raftlog.view.answers import described_group
    from raftlog.view.top import Look

    groups = []
    for listed in admin.list_groups()[:_GROUPS_MAX]:
        with contextlib.suppress(RaftlogError):  # deleted since, or its coordinator moves: it is there in the next look
            groups.append(described_group(admin, listed.group_id))
    throttled = {}
    with contextlib.suppress(ClusterAuthorizationFailedError):  # they are named to who may see the cluster
        throttled = admin.describe_throttled()
    cluster, topics, replicas = admin.describe_cluster(), admin.describe_topics(), admin.describe_replicas()
    return Look(time.monotonic(), cluster, topics, replicas, groups, throttled)


@contextlib.contextmanager
def _screen(as_json: bool) -> Iterator[Callable[[Top], None]]:
    if as_json or not sys.stdout.isatty():

        def write(found: Top) -> None:
            print_json(found)
            sys.stdout.flush()

        yield write
        return
    from rich.live import Live

    with Live(screen=True, auto_refresh=False) as live:
        yield lambda found: live.update(_drawn(found, live.console.height), refresh=True)


def _drawn(found: Top, lines: int) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    controller = "none" if found.controller is None else f"node {found.controller}"
    head = f"cluster {found.cluster_id}, controller {controller}"
    if not found.confirmed:
        head += ", not confirmed by a majority: it may be old"
    room = lines - _HEAD_LINES - len(found.nodes) - min(len(found.groups), _GROUP_LINES)
    held = found.throttled[:_THROTTLED_LINES]
    if held:
        room -= len(held) + _TABLE_LINES
    return Group(
        Text(head),
        _table(
            ("node", "address", "state", "leads", "replicas", "size"),
            [
                (
                    str(node.node),
                    node.address,
                    "up" if node.alive else "silent",
                    str(node.leads),
                    str(node.replicas),
                    size_text(node.size_bytes),
                )
                for node in found.nodes
            ],
        ),
        _table(
            ("partition", "leader", "in sync", "records/s", "bytes/s", "high watermark", "size", ""),
            [
                (
                    each.partition,
                    "none" if each.leader is None else str(each.leader),
                    f"{each.in_sync}/{each.replicas}",
                    _rate_text(each.records_per_s),
                    "–" if each.bytes_per_s is None else size_text(round(each.bytes_per_s)),
                    f"{each.high_watermark:,}",
                    size_text(each.size_bytes),
                    "; ".join(each.problems),
                )
                for each in found.partitions[: max(3, room)]
            ],
        ),
        _table(
            ("group", "state", "members", "lag", "read/s"),
            [
                (each.group, each.state, str(each.members), f"{each.lag:,}", _rate_text(each.read_per_s))
                for each in found.groups[:_GROUP_LINES]
            ],
        ),
        *([_held_table(held)] if held else []),
    )


def _held_table(held: Sequence[HeldClient]) -> RenderableType:
    return _table(
        ("throttled client", "user", "door", "times", "seconds", "s/s"),
        [
            (
                each.client,
                each.user,
                each.door,
                f"{each.times:,}",
                f"{each.seconds:,.1f}",
                "–" if each.held_per_s is None else f"{each.held_per_s:.2f}",
            )
            for each in held
        ],
    )


def _rate_text(rate: float | None) -> str:
    return "–" if rate is None else f"{rate:,.0f}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> RenderableType:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for position, name in enumerate(columns):
        table.add_column(name, justify="left" if position == 0 or not name else "right", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))  # names are no markup
    return table
