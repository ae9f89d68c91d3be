"""What a user says when starting a node: flags and an INI file, checked. Reads no other file, opens nothing.

    [node]
    id = 1
    peers = 1@127.0.0.1:7071, 2@127.0.0.1:7072, 3@127.0.0.1:7073
    flush = always

Every key of the file is spelled as its flag is, without the dashes in front; flags win.
"""

from __future__ import annotations

import configparser
import ipaddress
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from raftlog.errors import ConfigError, InvalidRequestError
from raftlog.limits import KAFKA_CONNECTIONS, NODE_ID_MAX
from raftlog.node.log_lines import LOG_FORMATS, LOG_LEVELS, LogStyle
from raftlog.security.acls import USER
from raftlog.security.oauth import TokenRules
from raftlog.security.policy import Access, principal_of
from raftlog.types import Endpoint, Flush, split_host_port

SECTION = "node"
KEYS = (
    "id",
    "peers",
    "listen",
    "advertise",
    "kafka-listen",
    "kafka-advertise",
    "kafka-processes",
    "kafka-connections",
    "kafka-connections-per-address",
    "auto-create-topics",
    "http-listen",
    "http-read-only",
    "max-reauth-ms",
    "oauth-jwks",
    "oauth-issuer",
    "oauth-audience",
    "oauth-principal-claim",
    "authorization",
    "superuser",
    "audit-log",
    "worker-ports",
    "security",
    "permissive",
    "insecure",
    "data",
    "flush",
    "log-level",
    "log-format",
)
DEFAULT_HOST = "127.0.0.1"
BASE_PORT = 7070  # node 1 listens on 7071, node 2 on 7072, …
KAFKA_BASE_PORT = 9091  # and for Kafka's clients on 9092, 9093, …
HTTP_BASE_PORT = 8070  # and for browsers and monitoring on 8071, 8072, …
_PROCESSES_MAX = 64
_CONNECTIONS_MAX = 1_000_000
_REAUTH_MAX_MS = 7 * 24 * 3600 * 1000
PORT_MAX = 65535
_ANYWHERE = ("0.0.0.0", "*", "::")


class NodeSettings(NamedTuple):
    """The settings that a node starts with.

    `peers` is empty when not given: then what meta.json remembers holds, else the node stands alone.

    `kafka_listen` None: no door for Kafka's clients. `kafka_asked`: that address was asked for, and is no default.
    `http_listen`, `http_asked`: the same of the HTTP address.
    `security`: the directory with this node's key and certificate; "": nothing is encrypted and nobody has to prove
    who he is. `permissive`: who speaks no TLS is taken as well, as without it.
    """

    node_id: int
    peers: dict[int, Endpoint]
    listen: Endpoint
    advertise: Endpoint
    kafka_listen: Endpoint | None
    kafka_asked: bool
    kafka_advertise: Endpoint | None
    kafka_processes: int
    kafka_connections: int
    kafka_connections_per_address: int
    auto_create_topics: bool
    http_listen: Endpoint | None
    http_asked: bool
    http_read_only: bool
    max_reauth_ms: int
    access: Access
    worker_ports: range | None
    security: str
    permissive: bool
    insecure: bool
    data: str
    flush: Flush
    log_style: LogStyle


def read_settings_file(path: str) -> dict[str, str]:
    """The [node] section of an INI file. Raises ConfigError."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(Path(path).read_text(), source=path)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not a text file") from None
    except configparser.MissingSectionHeaderError as error:
        raise ConfigError(f"{path}, line {error.lineno}: the file has to begin with the line [{SECTION}]") from None
    except configparser.ParsingError as error:
        raise ConfigError(f"{path}, line {error.errors[0][0]}: this is not KEY = VALUE") from None
    except (configparser.DuplicateOptionError, configparser.DuplicateSectionError) as error:
        what = getattr(error, "option", None) or f"[{error.section}]"
        raise ConfigError(f"{path}, line {error.lineno}: {what} stands there twice") from None
    others = [section for section in parser.sections() if section != SECTION]
    if others or SECTION not in parser:
        raise ConfigError(f"{path} has one section, [{SECTION}]; found {others or 'none'}")
    values = {key.replace("_", "-"): value for key, value in parser[SECTION].items()}
    unknown = sorted(set(values) - set(KEYS))
    if unknown:
        raise ConfigError(f"{path}: unknown key {unknown[0]!r}; known are {', '.join(KEYS)}")
    return values


def parse_settings(flags: Mapping[str, str | None], file: Mapping[str, str] | None = None) -> NodeSettings:
    """`flags` by their names without dashes in front. Raises ConfigError, which names the flag."""
    values = {**(file or {}), **{key: value for key, value in flags.items() if value is not None}}
    if "id" not in values:
        raise ConfigError("--id is missing: every node has a number, the first one is 1")
    node_id = _number(values["id"], "--id", 1, NODE_ID_MAX)
    peers = _parse_peers(values["peers"]) if "peers" in values else {}
    own = peers.get(node_id, Endpoint(DEFAULT_HOST, BASE_PORT + node_id))
    if node_id not in peers and "listen" not in values and own.port > PORT_MAX:
        raise ConfigError(f"--id {node_id} has no default port: give --listen or its address in --peers")
    listen = parse_endpoint(values["listen"], "--listen", default_port=own.port) if "listen" in values else own
    if "advertise" in values:
        advertise = parse_endpoint(values["advertise"], "--advertise", default_port=listen.port)
    else:
        advertise = own if node_id in peers else listen
    if advertise.host in _ANYWHERE:
        raise ConfigError(f"others cannot reach {advertise}: say with --advertise what address they use")
    if peers and set(peers) != {node_id} and advertise in [peers[other] for other in peers if other != node_id]:
        raise ConfigError(f"--peers gives the address {advertise} of node {node_id} to another node as well")
    kafka_listen, kafka_advertise = _parse_kafka(values, node_id, listen, advertise)
    http_listen = _parse_http(values, node_id, {listen, advertise, kafka_listen})
    flush = values.get("flush", Flush.ALWAYS)
    if flush not in list(Flush):
        raise ConfigError(f"--flush is always or os, not {flush!r}")
    log_level = values.get("log-level", "info").lower()
    if log_level not in LOG_LEVELS:
        raise ConfigError(f"--log-level is one of {', '.join(LOG_LEVELS)}, not {log_level!r}")
    log_format = values.get("log-format", "text")
    if log_format not in LOG_FORMATS:
        raise ConfigError(f"--log-format is text or json, not {log_format!r}")
    data = values.get("data", f"./raftlog-data/{node_id}")
    if data.encode(errors="replace").decode() != data:  # the workers are told it as text
        raise ConfigError(f"--data takes a path in UTF-8, not {data!r}")
    return NodeSettings(
        node_id=node_id,
        peers=peers,
        listen=listen,
        advertise=advertise,
        kafka_listen=kafka_listen,
        kafka_asked="kafka-listen" in values,
        kafka_advertise=kafka_advertise,
        kafka_processes=_number(values.get("kafka-processes", "1"), "--kafka-processes", 1, _PROCESSES_MAX),
        kafka_connections=_number(
            values.get("kafka-connections", str(KAFKA_CONNECTIONS)), "--kafka-connections", 1, _CONNECTIONS_MAX
        ),
        kafka_connections_per_address=_number(
            values.get("kafka-connections-per-address", str(_CONNECTIONS_MAX)),
            *("--kafka-connections-per-address", 1, _CONNECTIONS_MAX),
        ),
        auto_create_topics=_switch(values, "auto-create-topics"),
        http_listen=http_listen,
        http_asked="http-listen" in values,
        http_read_only=_parse_read_only(values, http_listen),
        max_reauth_ms=_number(values.get("max-reauth-ms", "0"), "--max-reauth-ms", 0, _REAUTH_MAX_MS),
        access=_parse_access(values),
        worker_ports=_parse_ports(values["worker-ports"]) if "worker-ports" in values else None,
        security=values.get("security", ""),
        permissive=_parse_permissive(values),
        insecure=_switch(values, "insecure", "off"),
        data=data,
        flush=Flush(flush),
        log_style=LogStyle(log_level, log_format),
    )


def _switch(values: Mapping[str, str], key: str, default: str = "on") -> bool:
    value = values.get(key, default)
    if value not in ("on", "off"):
        raise ConfigError(f"--{key} is on or off, not {value!r}")
    return value == "on"


def _parse_permissive(values: Mapping[str, str]) -> bool:
    permissive = _switch(values, "permissive", "off")
    if permissive and not values.get("security"):
        raise ConfigError("--permissive needs --security DIR: without it a node takes plain connections only")
    return permissive


def _parse_access(values: Mapping[str, str]) -> Access:
    return Access(
        superusers=_parse_superusers(values.get("superuser", "")),
        enforced=_switch(values, "authorization"),
        certified=bool(values.get("security")) and not _parse_permissive(values),
        audit_log=values.get("audit-log", ""),
        tokens=_parse_tokens(values),
    )


def _parse_superusers(text: str) -> tuple[str, ...]:
    """As principals: users by their names, with `;` between them, since a certificate's name may have commas."""
    from raftlog.security.passwords import check_user  # commands read these settings, too

    names = [name.strip().removeprefix(f"{USER}:") for name in text.split(";") if name.strip()]
    for name in names:
        try:
            check_user(name)
        except InvalidRequestError as error:
            raise ConfigError(f"--superuser: {error}") from None
    return tuple(principal_of(name) for name in names)


def _parse_tokens(values: Mapping[str, str]) -> TokenRules | None:
    """Whose tokens are taken: all of it has to be said, since an issuer makes tokens for others, too."""
    keys = [key for key in KEYS if key.startswith("oauth-") and values.get(key)]
    if not keys:
        return None
    missing = [key for key in ("oauth-jwks", "oauth-issuer", "oauth-audience") if key not in keys]
    if missing:
        raise ConfigError(f"--{missing[0]} is missing: --oauth-jwks, --oauth-issuer and --oauth-audience go together")
    if not values.get("security"):
        raise ConfigError("--oauth-jwks needs --security: whoever reads a token can use it")
    jwks = values["oauth-jwks"].removeprefix("file://")
    if "://" in jwks:
        url = urlsplit(jwks)
        if url.scheme != "https" and not (url.scheme == "http" and is_loopback(url.hostname or "")):
            raise ConfigError(f"--oauth-jwks takes a file or https://…, not {jwks!r}: who can change keys makes tokens")
    return TokenRules(
        jwks=jwks,
        issuer=values["oauth-issuer"],
        audiences=tuple(each.strip() for each in values["oauth-audience"].split(";") if each.strip()),
        principal_claim=values.get("oauth-principal-claim", "sub"),
    )


def _parse_read_only(values: Mapping[str, str], http_listen: Endpoint | None) -> bool:
    """Where HTTP asks nobody who he is: elsewhere than on loopback nothing is changed unless told so."""
    asks_nobody = not values.get("security") or _parse_permissive(values)
    open_to_all = http_listen is not None and not is_loopback(http_listen.host) and asks_nobody
    return _switch(values, "http-read-only", "on" if open_to_all else "off")


def check_closed(settings: NodeSettings) -> None:
    """Raises ConfigError where strangers could come in, unless the user has said that they may."""
    if settings.insecure:
        return
    advice = "give --security DIR (`raftlog security --help` says how to make it), or --insecure to let everybody in"
    for endpoint in (settings.listen, settings.kafka_listen, settings.http_listen):
        if endpoint is not None and not settings.security and not is_loopback(endpoint.host):
            raise ConfigError(f"{endpoint} can be reached from other machines: {advice}")


def _parse_kafka(
    values: Mapping[str, str], node_id: int, listen: Endpoint, advertise: Endpoint
) -> tuple[Endpoint | None, Endpoint | None]:
    """Where the door for Kafka's clients listens, and what they are told: by default the node's hosts."""
    if values.get("kafka-listen", "").strip() == "none":
        return None, None
    port = KAFKA_BASE_PORT + node_id
    if "kafka-listen" in values:
        door = parse_endpoint(values["kafka-listen"], "--kafka-listen", default_port=port if port <= PORT_MAX else None)
    elif port <= PORT_MAX:
        door = Endpoint(listen.host, port)
    else:
        return None, None
    if door in (listen, advertise) and "kafka-listen" in values:
        raise ConfigError(f"--kafka-listen is {door}, where the node's own clients are served: give it another port")
    if "kafka-advertise" in values:
        told = parse_endpoint(values["kafka-advertise"], "--kafka-advertise", default_port=door.port)
    else:
        told = Endpoint(advertise.host if door.host == listen.host else door.host, door.port)
    if told.host in _ANYWHERE:
        raise ConfigError(f"Kafka's clients cannot reach {told}: say with --kafka-advertise what address they use")
    return door, told


def _parse_http(values: Mapping[str, str], node_id: int, taken: Collection[Endpoint | None]) -> Endpoint | None:
    """By default only this machine reaches it, whoever may reach the node: a console is asked for."""
    text = values.get("http-listen", "")
    if text.strip() == "none":
        return None
    port = HTTP_BASE_PORT + node_id if HTTP_BASE_PORT + node_id <= PORT_MAX else None
    if not text:
        return Endpoint(DEFAULT_HOST, port) if port else None
    endpoint = parse_endpoint(text, "--http-listen", default_port=port)
    if endpoint in taken:
        raise ConfigError(f"--http-listen is {endpoint}, where clients are served: give it another port")
    return endpoint


def parse_endpoint(text: str, flag: str, *, default_port: int | None = None) -> Endpoint:
    try:
        host, port = split_host_port(text.strip())
    except ValueError as error:
        raise ConfigError(f"{flag}: {error}") from None
    if not port and default_port is not None and not text.strip().endswith(":"):
        port = str(default_port)
    if not host or not port or any(character.isspace() or character in "/@," for character in host):
        raise ConfigError(f"{flag} takes HOST:PORT, not {text.strip()!r}")
    return Endpoint(host, _number(port, flag, 1, PORT_MAX))


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _parse_peers(text: str) -> dict[int, Endpoint]:
    peers: dict[int, Endpoint] = {}
    for item in filter(None, (part.strip() for part in text.replace("\n", ",").split(","))):
        number, separator, address = item.partition("@")
        if not separator:
            raise ConfigError(f"--peers takes ID@HOST:PORT,…, not {item!r}")
        node_id = _number(number, "--peers", 1, NODE_ID_MAX)
        if node_id in peers:
            raise ConfigError(f"--peers names node {node_id} twice")
        endpoint = parse_endpoint(address, "--peers")
        if endpoint in peers.values():
            raise ConfigError(f"--peers gives the address {endpoint} to two nodes")
        peers[node_id] = endpoint
    if not peers:
        raise ConfigError("--peers takes ID@HOST:PORT,… and names at least one node")
    return peers


def _parse_ports(text: str) -> range:
    first, separator, last = text.partition("-")
    if not separator:
        raise ConfigError(f"--worker-ports takes FROM-TO, not {text!r}")
    start, end = (_number(port, "--worker-ports", 1, PORT_MAX) for port in (first, last))
    if end < start:
        raise ConfigError(f"--worker-ports {text} is empty")
    if end == start:
        raise ConfigError(f"--worker-ports {text} is one port, and a worker needs two")
    return range(start, end + 1)


def _number(text: str, flag: str, low: int, high: int) -> int:
    try:
        number = int(text)
    except ValueError:
        raise ConfigError(f"{flag} takes a whole number, not {text.strip()!r}") from None
    if not low <= number <= high:
        raise ConfigError(f"{flag} lies between {low} and {high}, not {number}")
    return number
