"""`raftlog node`: run a node of a cluster."""

from __future__ import annotations

import click

from .failure import UnusableError


@click.group()
def node() -> None:
    """Run a node of a cluster.

    \b
    Example:
        raftlog node start --id 1
    """


@node.command()
@click.option("--id", "node_id", metavar="N", help="This node's number in the cluster; the first one is 1.")
@click.option(
    "--peers",
    metavar="ID@HOST:PORT,…",
    help="The nodes that form the cluster, this one included; or running nodes of a cluster to join. "
    "Remembered after the first start. Default: this node alone.",
)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    help="Where to listen. Default: this node's address in --peers, else 127.0.0.1 and port 7070 + N.",
)
@click.option(
    "--advertise",
    metavar="HOST[:PORT]",
    help="The address by which others reach this node, where it is another: containers, NAT, VMs. "
    "Default: its address in --peers, else --listen.",
)
@click.option("--worker-ports", metavar="FROM-TO", help="Ports for the workers, two each. Default: any free ones.")
@click.option("--data", metavar="DIR", help="The data directory. Default: ./raftlog-data/N.")
@click.option(
    "--flush",
    metavar="always|os",
    help="When a write counts as durable: after fdatasync (always, the default), or once the operating "
    "system has it (os).",
)
@click.option("--log-level", metavar="LEVEL", help="debug, info (the default), warning or error.")
@click.option(
    "--config",
    metavar="FILE",
    help="An INI file with a section [node] and these options as keys, without their dashes; options given here win.",
)
def start(node_id: str | None, config: str | None, **flags: str | None) -> None:
    """Run a node until SIGTERM or Ctrl-C.

    It prints one line on stdout when it is ready; its log goes to stderr.

    \b
    Examples:
        raftlog node start --id 1
        raftlog node start --id 1 --peers 1@127.0.0.1:7071,2@127.0.0.1:7072,3@127.0.0.1:7073
        raftlog node start --id 4 --peers 1@127.0.0.1:7071          joins that cluster
        raftlog node start --config node.ini --data /var/lib/raftlog/1
    """
    from raftlog.errors import ConfigError
    from raftlog.node.main import run_node
    from raftlog.node.settings import parse_settings, read_settings_file

    given = {name.replace("_", "-"): value for name, value in flags.items()}
    try:
        file = read_settings_file(config) if config is not None else {}
        settings = parse_settings({**given, "id": node_id}, file)
    except ConfigError as error:
        raise UnusableError(str(error)) from None
    run_node(settings)
