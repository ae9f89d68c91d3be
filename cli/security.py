"""`raftlog security`: keys and certificates of a cluster, its nodes and its clients."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import click

from raftlog.errors import ConfigError

from .failure import OneLineError
from .options import json_option
from .output import print_json, print_table

if TYPE_CHECKING:
    from raftlog.security.certificates import Facts

_days_option = click.option("--days", type=int, default=None, metavar="N", help="How long it is valid.  [default: 365]")
_authority_option = click.option(
    "--ca", "authority", required=True, metavar="DIR", help="The directory that `raftlog security init` made."
)


@click.group()
def security() -> None:
    """Make keys and certificates: of a cluster, of its nodes, of its clients.

    \b
    Example, three commands that close a cluster:
        raftlog security init ca
        raftlog security node --ca ca --id 1 --host node-1.example.org
        raftlog security client --ca ca alice

    \b
    Then:
        raftlog node start --id 1 --security node-1 …
        raftlog topic list --security client-alice
    """


@security.command()
@click.argument("directory", metavar="DIR")
@click.option("--cluster", metavar="NAME", help="What the cluster is called in certificates.  [default: drawn]")
@click.option("--days", type=int, default=None, metavar="N", help="How long it is valid.  [default: 3650]")
def init(directory: str, cluster: str | None, days: int | None) -> None:
    """Make the authority of a cluster in DIR.

    Whoever has its key can make nodes and users of this cluster: keep DIR away from the nodes, and in a backup.

    \b
    Example:
        raftlog security init ca --cluster orders-eu
    """
    from raftlog.security.certificates import AUTHORITY_DAYS, make_authority

    name = f"raftlog-{secrets.token_hex(4)}" if cluster is None else cluster
    try:
        facts = make_authority(directory, name, AUTHORITY_DAYS if days is None else days)
    except ConfigError as error:
        raise OneLineError(str(error)) from None
    click.echo(f"made {directory}: the authority of cluster {name}, valid until {_day(facts)}")
    click.echo(f"next: raftlog security node --ca {directory} --id 1 --host HOST")


@security.command()
@_authority_option
@click.option("--id", "node_id", type=int, required=True, metavar="N", help="The node's number in the cluster.")
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="HOST",
    help="A name or address by which clients reach the node; may be repeated. localhost is always one of them.",
)
@click.option("--out", metavar="DIR", help="Where to.  [default: node-N]")
@_days_option
def node(authority: str, node_id: int, hosts: tuple[str, ...], out: str | None, days: int | None) -> None:
    """Make the directory of a node, or renew what is in it.

    Copy the directory to the node's machine; nothing else is needed there. To renew, run the same command again,
    without --host if the hosts are the same: a node that runs takes the new files by itself.

    \b
    Example:
        raftlog security node --ca ca --id 2 --host node-2.example.org --host 10.0.0.2
    """
    from raftlog.security.certificates import LEAF_DAYS, make_node

    directory = f"node-{node_id}" if out is None else out
    try:
        facts = make_node(authority, node_id, hosts, directory, LEAF_DAYS if days is None else days)
    except ConfigError as error:
        raise OneLineError(str(error)) from None
    click.echo(f"made {directory}: {facts.identity}, for {', '.join(facts.hosts)}, valid until {_day(facts)}")
    click.echo(f"next: raftlog node start --id {node_id} --security {directory}")


@security.command()
@_authority_option
@click.argument("name")
@click.option("--out", metavar="DIR", help="Where to.  [default: client-NAME]")
@_days_option
def client(authority: str, name: str, out: str | None, days: int | None) -> None:
    """Make the directory of a client, or renew what is in it. In the cluster the client is the user NAME.

    \b
    Example:
        raftlog security client --ca ca alice
        raftlog topic list --security client-alice
    """
    from raftlog.security.certificates import LEAF_DAYS, make_client

    directory = f"client-{name}" if out is None else out
    try:
        facts = make_client(authority, name, directory, LEAF_DAYS if days is None else days)
    except ConfigError as error:
        raise OneLineError(str(error)) from None
    click.echo(f"made {directory}: {facts.identity}, valid until {_day(facts)}")
    click.echo(f"next: raftlog topic list --security {directory}")


@security.command()
@click.argument("directory", metavar="DIR")
@json_option
def show(directory: str, as_json: bool) -> None:
    """Say whom the certificates in DIR name, and until when.

    \b
    Example:
        raftlog security show node-2
    """
    from raftlog.security.certificates import read_facts

    paths = sorted(Path(directory).glob("*.pem"))
    if not paths:
        raise OneLineError(f"{directory} holds no certificates: `raftlog security --help` says how to make some")
    try:
        found = {path.name: read_facts(path) for path in paths}
    except ConfigError as error:
        raise OneLineError(str(error)) from None
    if as_json:
        print_json({name: _shown(facts) for name, facts in found.items()})
        return
    columns = ["file", "role", "name", "cluster", "valid until", "hosts"]
    rows = []
    for name, facts in found.items():
        who = facts.identity
        named = [who.role, who.name, who.cluster] if who else ["made elsewhere", facts.subject, None]
        rows.append([name, *named, _day(facts), ", ".join(facts.hosts)])
    print_table(columns, rows)


def _shown(facts: Facts) -> dict[str, object]:
    who = facts.identity
    return {
        "role": who.role if who else None,
        "name": who.name if who else None,
        "cluster": who.cluster if who else None,
        "subject": facts.subject,
        "hosts": facts.hosts,
        "starts": facts.starts,
        "ends": facts.ends,
    }


def _day(facts: Facts) -> str:
    return f"{facts.ends:%Y-%m-%d}"
