"""`raftlog doctor`: what is wrong, what it means, and what to do about it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click
import msgspec

from raftlog.errors import RaftlogError

from .connect import open_admin
from .explain import explain_raftlog_error
from .failure import UnusableError
from .options import CLUSTER_OPTIONS, COUNT, Seconds, bootstrap_option, excludes, json_option
from .output import note, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raftlog import Admin
    from raftlog.node.checkup import Problem
    from raftlog.view.answers import PartitionState
    from raftlog.view.diagnosis import Diagnosis, Loss

_ELECTED_S = 30.0
_PATIENCE_S = 10.0


@click.command()
@click.option("--data", metavar="DIR", type=click.Path(), help="Look into the directory of a node that is stopped.")
@click.option("--repair", is_flag=True, help="With --data: repair what can be repaired without losing a record.")
@click.option("--recover", metavar="TOPIC-PARTITION", help="Show what making one replica the truth would lose.")
@click.option("--from", "source", metavar="NODE", type=COUNT, help="With --recover: the node of that replica.")
@click.option("--accept-data-loss", is_flag=True, help="With --recover: do it.")
@click.option(
    "--timeout",
    "timeout_s",
    type=Seconds(0.1),
    metavar="SECONDS",
    help="Of a cluster that does not answer this long, say that it could not be looked at.  [default: 10]",
)
@bootstrap_option
@json_option
@excludes("--data", ("--recover", "--timeout", *CLUSTER_OPTIONS), "it looks into files, and asks no cluster")
@excludes("--recover", ("--timeout",), "that one bounds the look at a whole cluster")
def doctor(
    data: str | None,
    repair: bool,
    recover: str | None,
    source: int | None,
    accept_data_loss: bool,
    timeout_s: float | None,
    bootstrap: str,
    as_json: bool,
) -> None:
    """Say what is wrong with a cluster or a data directory, and what to do.

    Without --data it asks the cluster: partitions without a leader and why, replicas that are doubtful, silent
    or behind. With --data it reads the files of one node, which must not run: identity, both copies of each
    replica's state, every batch of every segment, the index. Damage on a minority of replicas heals by itself;
    the doctor tells where it does not.

    \b
    --repair mends a bad copy of a state from the other one, removes an index that does not fit, and notes
    damage, so that the replica cuts it at its next start and fetches it again from the others. The records of
    a replica that has no others are never touched.

    \b
    --recover is the way out when a majority of a partition's replicas lost records: no replica may lead then,
    since none can know what the others had acknowledged. Every replica has to run, also with an empty disk
    (a machine that is gone: start a node with its id on an empty directory). The partition
    __cluster_metadata-0 comes first. Without --accept-data-loss it only shows what would be lost.

    Weak spots are named besides: ports and keys that are open to others, rules that are off, superusers who send
    their password. They are how somebody has started it, and no reason for another exit code.

    The exit code is 0 when all is well (or repaired), 1 when something is wrong, 2 when it could not be looked at:
    so this command, with --timeout, is the probe for scripts and monitoring.

    \b
    Examples:
        raftlog doctor
        raftlog doctor --timeout 3 >/dev/null || echo unhealthy
        raftlog doctor --data raftlog-data/1
        raftlog doctor --data raftlog-data/1 --repair
        raftlog doctor --recover orders-0 --from 2
        raftlog doctor --recover orders-0 --from 2 --accept-data-loss
    """
    if repair and data is None:
        raise click.UsageError("--repair needs --data: it works on the files of a node that is stopped")
    if (recover is None) != (source is None) or (accept_data_loss and recover is None):
        raise click.UsageError("--recover TOPIC-PARTITION and --from NODE go together; --accept-data-loss needs both")
    try:
        if data is not None:
            healthy = _check_directory(data, repair, as_json)
        elif recover is not None and source is not None:
            healthy = _recover(bootstrap, recover, source, accept_data_loss, as_json)
        else:
            healthy = _check_cluster(bootstrap, _PATIENCE_S if timeout_s is None else timeout_s, as_json)
    except RaftlogError as error:
        raise UnusableError(explain_raftlog_error(error)) from None
    raise click.exceptions.Exit(0 if healthy else 1)


# --- the files of one node ---------------------------------------------------------------------
def _check_directory(data: str, repair: bool, as_json: bool) -> bool:
    from raftlog.node.checkup import Checkup

    checkup = Checkup(data, repair=repair)
    try:
        problems = checkup.run()
    finally:
        checkup.close()
    healthy = all(problem.repaired for problem in problems)
    if as_json:
        print_json(
            {
                "data": data,
                "healthy": healthy,
                "replicas": checkup.replicas,
                "bytes": checkup.batches_bytes,
                "problems": problems,
            }
        )
        return healthy
    _print_problems(problems)
    click.echo(
        f"{_count(checkup.replicas, 'replica')}, {checkup.batches_bytes} bytes of records read: "
        f"{_count(problems, 'problem')}"
    )
    return healthy


# --- a cluster ---------------------------------------------------------------------------------
def _check_cluster(bootstrap: str, timeout_s: float, as_json: bool) -> bool:
    from raftlog.view.answers import examine

    from .expiry import ending_soon

    with open_admin(bootstrap, timeout_s) as admin:
        cluster = admin.describe_cluster()
        found = examine(admin, cluster)
    problems = [*found.problems, *(each.diagnosis for each in ending_soon(cluster.nodes))]
    found = msgspec.structs.replace(found, healthy=not problems, problems=problems)
    if as_json:
        print_json(found)
    else:
        _print_problems([*found.problems, *found.weak_spots])
        counted = f"{_count(cluster.nodes, 'node')}, {_count(range(found.partitions), 'partition')}"
        weak = f", {_count(found.weak_spots, 'weak spot')}" if found.weak_spots else ""
        click.echo(f"{counted}: {_count(found.problems, 'problem')}{weak}")
    return found.healthy


def _partitions(admin: Admin) -> dict[str, PartitionState]:
    from raftlog.view.answers import partition_states

    return {f"{each.topic}-{each.partition}": each for each in partition_states(admin, admin.describe_cluster())}


def _recover(bootstrap: str, place: str, node_id: int, accepted: bool, as_json: bool) -> bool:
    from raftlog.types import Endpoint
    from raftlog.view.diagnosis import weigh_recovery

    with open_admin(bootstrap) as admin:
        known = _partitions(admin)
        if place not in known:
            raise click.UsageError(f"there is no partition {place}; known are {', '.join(known)}")
        found = known[place]
        if node_id not in {status.node_id for status in found.statuses}:
            raise click.UsageError(f"node {node_id} has no replica of {place}")
        loss = weigh_recovery(place, node_id, found.leader_id, found.statuses)
        done = False
        if accepted and not loss.obstacles:
            endpoint = next(node.endpoint for node in admin.describe_cluster().nodes if node.node_id == node_id)
            admin.recover_partition(found.topic_id, found.partition, Endpoint(*endpoint))
            done = _wait_elected(admin, place)
    if as_json:
        print_json({"recovered": done, "loss": loss})
    else:
        _print_loss(loss)
        if done:
            click.echo(f"{place} has a leader again; `raftlog doctor` tells when its replicas are whole")
        elif loss.obstacles:
            click.echo("not done")
        elif accepted:
            click.echo("it was told, and is not elected yet: `raftlog doctor` tells why; then try again")
        else:
            click.echo("nothing was done: --accept-data-loss does it")
    return done


def _wait_elected(admin: Admin, place: str) -> bool:
    deadline_s = time.monotonic() + _ELECTED_S
    while time.monotonic() < deadline_s:
        try:
            found = _partitions(admin).get(place)
            if found is not None and found.leader_id >= 0:
                return True
        except RaftlogError as error:
            note(str(error))  # while leadership moves; asked again until the deadline
        time.sleep(0.2)
    return False


# --- words ---------------------------------------------------------------------------------------
def _print_problems(problems: Sequence[Problem | Diagnosis]) -> None:
    for problem in problems:
        click.echo(f"{problem.place}: {problem.what}")
        click.echo(f"    means: {problem.meaning}")
        repaired = getattr(problem, "repaired", "")
        click.echo(f"    done:  {repaired}" if repaired else f"    to do: {problem.advice}")


def _print_loss(loss: Loss) -> None:
    click.echo(f"{loss.partition}: node {loss.node} holds records up to offset {loss.log_end_offset} (exclusive)")
    if loss.lost_offsets is not None:
        start, end = loss.lost_offsets
        click.echo(f"    lost: offsets {start} to {end - 1}, {end - start} records")
    elif loss.lost_entries:
        click.echo(f"    lost: from offset {loss.log_end_offset} on, in {loss.lost_entries} batches or more")
    else:
        click.echo("    lost: nothing that is known of; what only lost disks had acknowledged, nobody can know")
    for obstacle in loss.obstacles:
        click.echo(f"    it cannot be done: {obstacle}")


def _count(things: Sequence[object], noun: str) -> str:
    return f"{len(things) or 'no'} {noun}{'' if len(things) == 1 else 's'}"
