"""`raftlog topic`: create, list, describe, change and delete topics."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from raftlog.config import config_for_people
from raftlog.errors import InvalidConfigError, TopicAlreadyExistsError, UnknownTopicOrPartitionError
from raftlog.types import TopicPartition

from .connect import describe_topics, open_admin
from .explain import unknown_partition
from .moves import Wish, accomplish, show, tell, throttle_option, warn_of_less
from .options import COUNT, OFFSET_MAX, PARTITION, bootstrap_option, json_option, parse_pairs
from .output import clear_screen, ending, ids_text, note, print_json, print_table, repeated, size_text, warn

if TYPE_CHECKING:
    from raftlog import Admin
    from raftlog.view.partitions import TopicView

_PATIENCE_S = 3.0  # a leader that does not answer must not keep the others from being shown


@click.group()
def topic() -> None:
    """Create, list, describe, change and delete topics.

    \b
    Example:
        raftlog topic create orders --partitions 3
        raftlog topic list
    """


@topic.command()
@click.argument("name")
@click.option("--partitions", type=COUNT, metavar="N", help="How many partitions.  [default: 1]")
@click.option(
    "--replication-factor",
    type=COUNT,
    metavar="N",
    help="On how many nodes each partition is kept; where there are more, some vote without keeping it.  "
    "[default: 3, or the number of nodes if that is less]",
)
@click.option(
    "--config", "configs", multiple=True, metavar="NAME=VALUE", help="A setting of those above; may be repeated."
)
@click.option("--if-not-exists", is_flag=True, help="A topic of this name, whatever its settings, is no error.")
@bootstrap_option
@json_option
def create(
    name: str,
    partitions: int | None,
    replication_factor: int | None,
    configs: tuple[str, ...],
    if_not_exists: bool,
    bootstrap: str,
    as_json: bool,
) -> None:
    """Create a topic.

    Settings, in Kafka's spelling or with underscores; a time may have a unit (90s, 1h, 7d), and so may a size (512MiB):

    \b
        retention.ms, retention.bytes   how long records stay, and how many bytes of a partition; -1: no limit
        cleanup.policy                  delete, or compact: the last record of each key stays
        max.message.bytes               of the largest batch that a producer may send
        min.insync.replicas             acks=all is refused while fewer replicas are in sync
        segment.ms, segment.bytes, delete.retention.ms, message.timestamp.type, message.timestamp.after.max.ms

    \b
    Examples:
        raftlog topic create orders --partitions 3
        raftlog topic create clicks --config retention.ms=1h --config retention.bytes=1GB
    """
    from raftlog.protocol.topics import NewTopic

    settings = _settings(configs)
    wanted = NewTopic(
        name=name, partitions=partitions or -1, replication_factor=replication_factor or -1, config=settings
    )
    created = True
    with open_admin(bootstrap) as admin:
        try:
            (result,) = admin.create_topics([wanted])
        except TopicAlreadyExistsError as error:
            if not if_not_exists:
                raise
            created = False
            (result,) = error.results
    if result.warning:
        warn(result.warning)
    if as_json:
        shown: dict[str, object] = {"topic": name, "created": created}
        if created:
            shown |= {
                "topic_id": result.topic_id.hex(),
                "partitions": result.partitions,
                "replication_factor": result.replication_factor,
                "witnesses": result.witnesses,
                "warning": result.warning or None,
            }
        print_json(shown)
    elif created:
        click.echo(
            f"created topic {name}: {result.partitions} partition{'s' * (result.partitions > 1)}, "
            f"replication factor {result.replication_factor}{_witnesses_text(result.witnesses)}"
        )
    else:
        click.echo(f"topic {name} exists already")


def _settings(configs: tuple[str, ...], reset: tuple[str, ...] = ()) -> dict[str, str]:
    """As written. Raises click.BadParameter, before a node is asked, for what no topic has."""
    from raftlog.config import change_topic_config
    from raftlog.types import TopicConfig

    settings = dict(parse_pairs(configs, "--config"))
    if len(settings) < len(configs):
        raise click.BadParameter("a setting is given twice", param_hint="--config")
    for option, pairs in (("--reset", {}), ("--config", settings)):
        try:
            change_topic_config(TopicConfig(), pairs, reset)
        except InvalidConfigError as error:
            raise click.BadParameter(str(error), param_hint=option) from None
    return settings


@topic.command("list")
@click.option("--internal", is_flag=True, help="Also the topics of raftlog itself that are there.")
@bootstrap_option
@json_option
def list_(internal: bool, bootstrap: str, as_json: bool) -> None:
    """List the topics.

    Those of raftlog itself, such as __consumer_offsets, are left out, here and by `raftlog topic
    describe` unless they are named.

    \b
    Examples:
        raftlog topic list
        raftlog topic list --internal
    """

    from raftlog.view.answers import topic_list
    from raftlog.view.partitions import cut_off

    with open_admin(bootstrap) as admin:
        cluster = admin.describe_cluster()
        found = topic_list(admin, cluster, internal=internal)
    if cut_off(cluster):
        warn(cut_off(cluster))
    if as_json:
        print_json(found)
    elif found.topics:
        rows = [(each.topic, each.partitions, each.replication_factor) for each in found.topics]
        print_table(("topic", "partitions", "replication factor"), rows)
    else:
        note("there are no topics yet; `raftlog topic create NAME` makes one")


@topic.command()
@click.argument("names", nargs=-1, metavar="[NAME]…")
@click.option("--watch", is_flag=True, help="Again every second, until Ctrl-C.")
@bootstrap_option
@json_option
def describe(names: tuple[str, ...], watch: bool, bootstrap: str, as_json: bool) -> None:
    """Show leaders, replicas, offsets and sizes.

    Of the topics NAME, or of all. SURVIVES is how many more replicas may fail, of those that are in
    sync now, before the partition stops. Sizes are what each leader said last; without a leader, so
    are the offsets. Below the table stands whatever is wrong, and how often replicas cut the end of
    their logs.

    \b
    Examples:
        raftlog topic describe orders
        raftlog topic describe orders --watch
        raftlog topic describe orders --json
    """

    from raftlog.view.answers import described_topics
    from raftlog.view.partitions import cut_off

    with ending(watch), open_admin(bootstrap) as admin, open_admin(bootstrap, _PATIENCE_S) as hasty:
        for _ in repeated() if watch else (None,):
            cluster = admin.describe_cluster()
            topics = describe_topics(admin, names) if names else admin.describe_topics()
            found = described_topics(admin, cluster, topics, hasty)
            if watch and not as_json:
                clear_screen()
            if cut_off(cluster):
                warn(cut_off(cluster))
            if as_json:
                print_json(found)
                sys.stdout.flush()
                continue
            for view in found.topics:
                _print_description(view)
            if not found.topics:
                note("there are no topics yet; `raftlog topic create NAME` makes one")


@topic.command()
@click.argument("name")
@click.option(
    "--partitions",
    type=COUNT,
    metavar="N",
    help="How many it shall have in all: more than now. Keys go to other partitions from then on; records stay.",
)
@click.option(
    "--replication-factor",
    type=COUNT,
    metavar="N",
    help="On how many nodes each partition shall be kept: more, or fewer than now. Returns when it is so.",
)
@throttle_option
@click.option("--config", "configs", multiple=True, metavar="NAME=VALUE", help="Set this; may be repeated.")
@click.option("--reset", multiple=True, metavar="NAME", help="Put this back to its default; may be repeated.")
@bootstrap_option
@json_option
def alter(
    name: str,
    partitions: int | None,
    replication_factor: int | None,
    throttle: int | None,
    configs: tuple[str, ...],
    reset: tuple[str, ...],
    bootstrap: str,
    as_json: bool,
) -> None:
    """Change a topic: settings, partitions, replicas.

    Settings hold at once, also for what is in the log already: a shorter retention deletes records
    within seconds. They are those of `raftlog topic create`. Replicas are copied while clients go on.

    \b
    Examples:
        raftlog topic alter orders --partitions 6
        raftlog topic alter orders --replication-factor 3
        raftlog topic alter orders --config retention.ms=3600000 --reset retention.bytes
    """

    settings = _settings(configs, reset)
    if not settings and not reset and partitions is None and replication_factor is None:
        raise click.UsageError("nothing to change: name --partitions, --replication-factor, --config or --reset")
    with open_admin(bootstrap) as admin:
        if settings or reset:
            admin.alter_topic(name, settings, reset=reset)
        if partitions is not None:
            made = admin.create_partitions(name, partitions)
            if made.warning:
                warn(made.warning)
        if replication_factor is not None:
            _change_factor(admin, name, replication_factor, Wish(yes=True, throttle=throttle, as_json=as_json))
        (altered,) = admin.describe_topics([name])
    config = config_for_people(altered.config)
    if as_json:
        factor = max(len(each.replicas) for each in altered.partitions)
        counts = {"partitions": partitions or len(altered.partitions), "replication_factor": factor}
        print_json({"topic": name, **counts, "config": config})
    else:
        click.echo(f"altered topic {name}")


def _change_factor(admin: Admin, name: str, factor: int, wish: Wish) -> None:
    import msgspec

    from raftlog.types import TopicConfig
    from raftlog.view.moves import change_factor

    (found,) = describe_topics(admin, [name])
    config = msgspec.convert(found.config, TopicConfig)
    accomplish(
        admin,
        wish,
        plan=lambda layout: change_factor(layout, name, factor, config),
        begin=lambda moves: show(moves, wish),
        concerns=lambda move: move.topic == name,
    )


@topic.command()
@click.argument("name")
@click.option("--partition", type=PARTITION, required=True, metavar="P", help="The partition.")
@click.option(
    "--to", "nodes", required=True, metavar="NODE,…", help="The nodes that shall have it, the preferred leader first."
)
@throttle_option
@bootstrap_option
@json_option
def move(name: str, partition: int, nodes: str, throttle: int | None, bootstrap: str, as_json: bool) -> None:
    """Move one partition to other nodes.

    Name all that shall have it, as many as now. It is copied while clients go on, and the command returns when it is
    done; Ctrl-C ends the command, not the move. To move all that a node holds, see `raftlog cluster drain`.

    \b
    Example:
        raftlog topic move orders --partition 3 --to 1,2,4
    """
    from raftlog.view.moves import move as moved

    if not all(part.strip().isdecimal() for part in nodes.split(",")):
        raise click.BadParameter(f"{nodes!r} is no list of nodes, such as 1,2,4", param_hint="--to")
    wanted = [int(part) for part in nodes.split(",")]
    place, wish = TopicPartition(name, partition), Wish(yes=True, throttle=throttle, as_json=as_json)
    with open_admin(bootstrap) as admin:
        (found,) = describe_topics(admin, [name])
        if partition >= len(found.partitions):
            raise unknown_partition(name, partition, len(found.partitions))
        done = accomplish(
            admin,
            wish,
            plan=lambda layout: moved(layout, place, wanted),
            begin=warn_of_less,
            concerns=lambda move: move.place == place,
        )
    tell(done, wish, f"{place} is on nodes {ids_text(wanted)}", topic=name, partition=partition)


@topic.command()
@click.argument("name")
@bootstrap_option
@json_option
def delete(name: str, bootstrap: str, as_json: bool) -> None:
    """Delete a topic and all its records.

    It is done at once, without asking, and cannot be undone.

    \b
    Example:
        raftlog topic delete orders
    """

    with open_admin(bootstrap) as admin:
        try:
            admin.delete_topics([name])
        except UnknownTopicOrPartitionError:
            raise UnknownTopicOrPartitionError(f"topic {name!r} does not exist") from None
    if as_json:
        print_json({"topic": name, "deleted": True})
    else:
        click.echo(f"deleted topic {name}")


@topic.command("delete-records")
@click.argument("name")
@click.option("--partition", type=PARTITION, required=True, metavar="P", help="The partition.")
@click.option(
    "--before",
    required=True,
    metavar="OFFSET|end",
    help="The first record that stays; end: all that can be read now are deleted.",
)
@bootstrap_option
@json_option
def delete_records(name: str, partition: int, before: str, bootstrap: str, as_json: bool) -> None:
    """Delete the oldest records of a partition.

    Everything below the offset is gone at once, for all consumers, and cannot be undone. Offsets
    stay as they are. Disk space comes back by whole segments, and not before they are closed.

    \b
    Examples:
        raftlog topic delete-records orders --partition 0 --before 1000
        raftlog topic delete-records orders --partition 0 --before end
    """
    if before != "end" and not (before.isdecimal() and int(before) <= OFFSET_MAX):
        raise click.BadParameter(f"{before!r} is neither an offset nor end", param_hint="--before")
    from raftlog.protocol.records import HIGH_WATERMARK

    place = TopicPartition(name, partition)
    with open_admin(bootstrap) as admin:
        (found,) = describe_topics(admin, [name])
        if partition >= len(found.partitions):
            raise unknown_partition(name, partition, len(found.partitions))
        start = admin.delete_records({place: HIGH_WATERMARK if before == "end" else int(before)})[place]
    if as_json:
        print_json({"topic": name, "partition": partition, "log_start_offset": start})
    else:
        click.echo(f"{place} starts at offset {start}")


def _witnesses_text(count: int) -> str:
    return f", {count} witness{'es' * (count > 1)} each" if count else ""


def _print_description(view: TopicView) -> None:
    settings = ", ".join(f"{name}={value}" for name, value in sorted(view.config.items()))
    click.echo(f"topic {view.topic} (id {view.topic_id}): {settings}")
    columns = (
        "partition",
        "leader",
        "epoch",
        "replicas",
        "witnesses",
        "isr",
        "log start",
        "high watermark",
        "size",
        "survives",
    )
    print_table(
        columns,
        [
            (
                found.partition,
                found.leader,
                found.leader_epoch,
                ids_text(found.replicas),
                ids_text(found.witnesses),
                ids_text(found.isr),
                found.log_start_offset,
                found.high_watermark,
                size_text(found.size_bytes),
                found.survives_failures,
            )
            for found in view.partitions
        ],
    )
    asleep = sum(found.asleep for found in view.partitions)
    if asleep:
        click.echo(f"asleep, since nothing happens there: {asleep} of {len(view.partitions)} partitions")
    for found in view.partitions:
        for problem in found.problems:
            click.echo(f"partition {found.partition}: {problem}")
        if found.cuts:
            click.echo(f"partition {found.partition}: its replicas have cut the end of their logs {found.cuts} times")
