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
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from raftlog.errors import ConfigError
from raftlog.limits import NODE_ID_MAX
from raftlog.types import Endpoint, Flush, split_host_port

SECTION = "node"
KEYS = ("id", "peers", "listen", "advertise", "worker-ports", "data", "flush", "log-level")
LOG_LEVELS = ("debug", "info", "warning", "error")
DEFAULT_HOST = "127.0.0.1"
BASE_PORT = 7070  # node 1 listens on 7071, node 2 on 7072, …
PORT_MAX = 65535


class NodeSettings(NamedTuple):
    """`peers` is empty when not given: then what meta.json remembers holds, else the node stands alone."""

    node_id: int
    peers: dict[int, Endpoint]
    listen: Endpoint
    advertise: Endpoint
    worker_ports: range | None
    data: str
    flush: Flush
    log_level: str


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
    if advertise.host in ("0.0.0.0", "*", "::"):
        raise ConfigError(f"others cannot reach {advertise}: say with --advertise what address they use")
    if peers and set(peers) != {node_id} and advertise in [peers[other] for other in peers if other != node_id]:
        raise ConfigError(f"--peers gives the address {advertise} of node {node_id} to another node as well")
    flush = values.get("flush", Flush.ALWAYS)
    if flush not in list(Flush):
        raise ConfigError(f"--flush is always or os, not {flush!r}")
    log_level = values.get("log-level", "info").lower()
    if log_level not in LOG_LEVELS:
        raise ConfigError(f"--log-level is one of {', '.join(LOG_LEVELS)}, not {log_level!r}")
    data = values.get("data", f"./raftlog-data/{node_id}")
    if data.encode(errors="replace").decode() != data:  # the workers are told it as text
        raise ConfigError(f"--data takes a path in UTF-8, not {data!r}")
    return NodeSettings(
        node_id=node_id,
        peers=peers,
        listen=listen,
        advertise=advertise,
        worker_ports=_parse_ports(values["worker-ports"]) if "worker-ports" in values else None,
        data=data,
        flush=Flush(flush),
        log_level=log_level,
    )


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
