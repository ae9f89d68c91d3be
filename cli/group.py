"""`raftlog group`: consumer groups, what they have read and what is left, and offsets set by hand."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from raftlog.errors import (
    GroupIdNotFoundError,
    NonEmptyGroupError,
    RaftlogError,
)
from raftlog.types import TopicPartition
from raftlog.view.groups import GroupView

from .connect import describe_topics, open_admin
from .explain import did_you_mean
from .options import DISTANCE, OFFSET, bootstrap_option, check_group, excludes, json_option
from .output import note, print_json, print_table
from .time_argument import parse_when

if TYPE_CHECKING:
    from raftlog import Admin


@click.group()
def group() -> None:
    """Look at consumer groups, delete them, move their offsets.

    \b
    Example:
        raftlog group list
        raftlog group describe billing
    """


@group.command("list")
@bootstrap_option
@json_option
def list_(bootstrap: str, as_json: bool) -> None:
    """List the groups.

    Those that have members, and those that have committed offsets.

    \b
    Example:
        raftlog group list
    """
    from raftlog.view.answers import group_list

    with open_admin(bootstrap) as admin:
        found = group_list(admin)
    if as_json:
        print_json(found)
    elif found.groups:
        print_table(("group", "state", "members"), [(each.group, each.state, each.members) for each in found.groups])
    else:
        note("there are no groups yet")


@group.command()
@click.argument("names", nargs=-1, metavar="[GROUP]…", callback=check_group)
@bootstrap_option
@json_option
def describe(names: tuple[str, ...], bootstrap: str, as_json: bool) -> None:
    """Show members, committed offsets and lag.

    Of the groups GROUP, or of all. LAG is how many offsets of a partition are not committed yet, of
    those that have not been removed: records that retention or a deletion has removed do not count, nor
    would they be read. A member without a partition is idle.

    \b
    Examples:
        raftlog group describe billing
        raftlog group describe billing --json
    """
    from raftlog.view.answers import DescribedGroups, described_group

    with open_admin(bootstrap) as admin:
        views = []
        for name in dict.fromkeys(names or (each.group_id for each in admin.list_groups())):
            with _naming_the_nearest(admin, name):
                views.append(described_group(admin, name))
    if as_json:
        print_json(DescribedGroups(groups=views))
        return
    for view in views:
        _print_description(view)
    if not views:
        note("there are no groups yet")


@group.command()
@click.argument("name", metavar="GROUP", callback=check_group)
@bootstrap_option
@json_option
def delete(name: str, bootstrap: str, as_json: bool) -> None:
    """Delete a group and all that it has committed.

    Not while it has members. The records that it read stay where they are.

    \b
    Example:
        raftlog group delete billing
    """

    with open_admin(bootstrap) as admin, _naming_the_nearest(admin, name):
        admin.delete_group(name)
    if as_json:
        print_json({"group": name, "deleted": True})
    else:
        click.echo(f"deleted group {name}")


@group.command("reset-offsets")
@click.argument("name", metavar="GROUP", callback=check_group)
@click.option("--topic", required=True, metavar="TOPIC", help="The topic; all of its partitions are meant.")
@click.option("--to-beginning", is_flag=True, help="To the first record that is still there.")
@click.option("--to-end", is_flag=True, help="Behind the last record.")
@click.option("--to-offset", type=OFFSET, metavar="N", help="To this offset, in each partition.")
@click.option("--to-time", metavar="WHEN", help="To the first record at or after, say, 2026-11-22T10:00 or -1h.")
@click.option("--shift-by", type=DISTANCE, metavar="N", help="By N records from what is committed; below 0: back.")
@click.option("--execute", is_flag=True, help="Do it.")
@click.option("--dry-run", is_flag=True, expose_value=False, help="Only show what would be done: the default.")
@click.option("--create", is_flag=True, help="Make the group if there is none.")
@bootstrap_option
@json_option
@excludes("--execute", ("--dry-run",), "it is done, or only shown")
def reset_offsets(
    name: str,
    topic: str,
    to_beginning: bool,
    to_end: bool,
    to_offset: int | None,
    to_time: str | None,
    shift_by: int | None,
    execute: bool,
    create: bool,
    bootstrap: str,
    as_json: bool,
) -> None:
    """Move a group's committed offsets, once --execute is given.

    Without it, it only shows what would be done. Not while the group has members. One of the --to
    options or --shift-by says where; what lies outside of the records that there are becomes the first
    or the end.

    \b
    Examples:
        raftlog group reset-offsets billing --topic orders --to-time -1h
        raftlog group reset-offsets billing --topic orders --to-beginning --execute
        raftlog group reset-offsets billing --topic orders --shift-by -100 --execute
    """
    from raftlog.view.resets import Target, plan_reset

    since_ms = None if to_time is None else _since_ms(to_time)
    target = Target(beginning=to_beginning, end=to_end, offset=to_offset, time_ms=since_ms, shift_by=shift_by)
    if target.given() != 1:
        raise click.UsageError("exactly one of --to-beginning, --to-end, --to-offset, --to-time and --shift-by")

    with open_admin(bootstrap) as admin:
        _check_group_may_be_reset(admin, name, create=create)
        plan = plan_reset(admin, name, _partitions(admin, topic), target)
        if not plan.after:
            raise RaftlogError(
                f"group {name} has committed nothing of topic {topic} that could be shifted; "
                "say where with --to-beginning, --to-end, --to-offset or --to-time"
            )
        if execute:
            admin.set_group_offsets(name, plan.after)
    _print_reset(name, plan.before, plan.after, as_json, execute)


def _check_group_may_be_reset(admin: Admin, name: str, *, create: bool) -> None:
    names = [each.group_id for each in admin.list_groups()]
    if name in names:
        count = len(admin.describe_group(name).members)
        if count:
            raise NonEmptyGroupError(f"group {name} has {count} member{'s' * (count > 1)}")
    elif not create:
        raise GroupIdNotFoundError(f"there is no group {name}{did_you_mean(name, names)}; --create makes it")


@contextlib.contextmanager
def _naming_the_nearest(admin: Admin, name: str) -> Iterator[None]:
    try:
        yield
    except GroupIdNotFoundError:
        names = [each.group_id for each in admin.list_groups()]
        raise GroupIdNotFoundError(f"there is no group {name}{did_you_mean(name, names)}") from None


def _since_ms(to_time: str) -> int:
    try:
        return parse_when(to_time, round(time.time() * 1000))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--to-time") from None


def _partitions(admin: Admin, topic: str) -> list[TopicPartition]:
    (found,) = describe_topics(admin, [topic])
    return [TopicPartition(topic, number) for number in range(len(found.partitions))]


def _print_description(view: GroupView) -> None:
    count = len(view.members)
    protocol = f", {view.protocol}, generation {view.generation}" if view.protocol else ""
    click.echo(
        f"group {view.group}: {view.state}, {count} member{'s' * (count != 1)}{protocol}, "
        f"coordinator {'not known' if view.coordinator is None else f'node {view.coordinator}'}"
    )
    rows: list[Sequence[str | int | None]] = [
        (each.topic, each.partition, each.committed_offset, each.log_end_offset, each.lag, each.member, each.client)
        for each in view.partitions
    ]
    rows += [("", None, None, None, None, each.member, each.client) for each in view.members if not each.partitions]
    print_table(("topic", "partition", "committed", "log end", "lag", "member", "client"), rows)


def _print_reset(
    name: str,
    before: Mapping[TopicPartition, int],
    after: Mapping[TopicPartition, int],
    as_json: bool,
    executed: bool,
) -> None:
    rows = [(place.topic, place.partition, before.get(place), offset) for place, offset in sorted(after.items())]
    if as_json:
        names = ("topic", "partition", "before", "after")
        shown = [dict(zip(names, row, strict=True)) for row in rows]
        print_json({"group": name, "dry_run": not executed, "partitions": shown})
        return
    print_table(("topic", "partition", "before", "after"), rows)
    if not executed:
        note("nothing was changed; --execute does it")
