"""Which requests of a browser are not its user's: those that another site's page makes it send. Pure.

A page of another site cannot read the answers of a node, but it can make a browser send requests, and with DNS
rebinding it can even read them: its own name then leads to the node's address.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from raftlog.types import split_host_port

_SAFE = ("GET", "HEAD")
_JSON = "application/json"


def why_refused(method: str, headers: Mapping[str, str], *, on_loopback: bool) -> str:
    """ "": it is not. `headers` are looked up as they are written in HTTP's RFCs.

    `on_loopback`: the node listens on this machine only, where no name but localhost can be meant.
    """
    host = headers.get("Host", "")
    if on_loopback and not _is_of_loopback(host):
        return f"this address is for localhost, and {host!r} is another name: a web site may hide behind it"
    if method in _SAFE:
        return ""
    # A browser adds a user's password, and his certificate, by itself to whatever a page makes it send.
    if headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        return "the page of another site has sent this"
    origin = headers.get("Origin")
    if origin is not None and origin.partition("://")[2].lower() != host.lower():
        return f"a page of {origin} has sent this"
    if headers.get("Content-Type", "").partition(";")[0].strip().lower() != _JSON:
        return f"only {_JSON} is taken"
    return ""


def _is_of_loopback(host_and_port: str) -> bool:
    """localhost, or any address: it cannot be rebound."""
    try:
        host, _ = split_host_port(host_and_port)
    except ValueError:
        return False
    if host.lower() == "localhost" or host.lower().endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
