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
@click.option(
    "--kafka-listen",
    metavar="HOST:PORT|none",
    help="Where Kafka's clients are served; none: nowhere. Default: the host of --listen and port 9091 + N.",
)
@click.option(
    "--kafka-advertise",
    metavar="HOST[:PORT]",
    help="The address that Kafka's clients are told. Default: the host of --advertise and the port of --kafka-listen.",
)
@click.option("--kafka-processes", metavar="N", help="Processes that serve Kafka's clients. Default: 1.")
@click.option(
    "--kafka-connections", metavar="N", help="Connections of Kafka's clients at most, in each process. Default: 10000."
)
@click.option(
    "--kafka-connections-per-address",
    metavar="N",
    help="Of these, connections from one address at most. Default: no limit of its own.",
)
@click.option(
    "--auto-create-topics",
    metavar="on|off",
    help="Whether a Kafka client that asks for a topic that is not there makes it. Default: on.",
)
@click.option(
    "--http-listen",
    metavar="HOST:PORT|none",
    help="Where browsers and monitoring look: /metrics, /health/ready, /api; none: nowhere. With --security under TLS, "
    "for the cluster's users; without it asks nobody who he is. "
    "Default: 127.0.0.1 and port 8070 + N.",
)
@click.option(
    "--authorization",
    metavar="on|off",
    help="on: once there is a user or a rule, nobody may do what no rule allows; off: everybody may do everything. "
    "Default: on.",
)
@click.option(
    "--max-reauth-ms",
    metavar="N",
    help="How long a login of Kafka's clients counts: then they log in again on the same connection. "
    "Default: 0, as long as the connection.",
)
@click.option(
    "--oauth-jwks",
    metavar="FILE|URL",
    help="Let Kafka's clients log in with tokens (OAUTHBEARER) that one of these public keys (JWKS) has signed. Needs "
    "--security, --oauth-issuer and --oauth-audience; URL is https://….",
)
@click.option("--oauth-issuer", metavar="TEXT", help="Who has to have issued a token: its claim iss.")
@click.option(
    "--oauth-audience",
    metavar="TEXT",
    multiple=True,
    help="For whom a token has to be: its claim aud. May be given several times; one of them will do.",
)
@click.option("--oauth-principal-claim", metavar="NAME", help="The claim of a token that names the user. Default: sub.")
@click.option(
    "--audit-log",
    metavar="FILE",
    help="Append a line of JSON to FILE for each refusal and each administrative act. Default: none.",
)
@click.option(
    "--superuser",
    metavar="NAME",
    multiple=True,
    help="A user who may do everything. May be given several times.",
)
@click.option(
    "--http-read-only",
    metavar="on|off",
    help="Whether the web console only shows, and changes nothing. Default: on where --http-listen is "
    "no loopback address and there is no --security, else off.",
)
@click.option("--worker-ports", metavar="FROM-TO", help="Ports for the workers, two each. Default: any free ones.")
@click.option(
    "--security",
    metavar="DIR",
    help="This node's key and certificate, of `raftlog security node`: all that comes and goes is encrypted, and who "
    "comes has to show a certificate of the cluster.",
)
@click.option(
    "--permissive",
    is_flag=True,
    help="With --security: take who speaks no TLS as well, while a cluster goes from plain to secured, or back.",
)
@click.option(
    "--insecure",
    is_flag=True,
    help="Listen on addresses that other machines reach without --security: whoever reaches them may do everything.",
)
@click.option("--data", metavar="DIR", help="The data directory. Default: ./raftlog-data/N.")
@click.option(
    "--flush",
    metavar="always|os",
    help="When a write counts as durable: after fdatasync (always, the default), or once the operating "
    "system has it (os).",
)
@click.option(
    "--log-level",
    metavar="LEVEL",
    help="debug, info (the default), warning or error. While it runs, SIGUSR1 makes it say more, SIGUSR2 less.",
)
@click.option("--log-format", metavar="text|json", help="Lines for people (text, the default) or for programs.")
@click.option(
    "--config",
    metavar="FILE",
    help="An INI file with a section [node] and these options as keys, without their dashes; options given here win.",
)
def start(
    node_id: str | None,
    config: str | None,
    superuser: tuple[str, ...],
    oauth_audience: tuple[str, ...],
    permissive: bool,
    insecure: bool,
    **flags: str | None,
) -> None:
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
    given["superuser"] = ";".join(superuser) or None
    given["oauth-audience"] = ";".join(oauth_audience) or None
    try:
        file = read_settings_file(config) if config is not None else {}
        switches = {name: "on" for name, is_set in (("permissive", permissive), ("insecure", insecure)) if is_set}
        settings = parse_settings({**given, "id": node_id, **switches}, file)
    except ConfigError as error:
        raise UnusableError(str(error)) from None
    run_node(settings)
