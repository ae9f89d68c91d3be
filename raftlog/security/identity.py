"""Whom a certificate names. Data: certificates come as the `ssl` module shows those that it has verified.

    urn:raftlog:CLUSTER:node:2         in the subject's alternative names; node 2 of this cluster
    urn:raftlog:CLUSTER:client:alice   a client; its principal is User:alice

A certificate made elsewhere, without such a name, is a client's: its principal is User: and its subject (RFC 2253).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

AUTHORITY, NODE, CLIENT = "authority", "node", "client"
ROLES = (AUTHORITY, NODE, CLIENT)
NAME_MAX_CHARS = 128
USER_PREFIX = "User:"
NODE_PREFIX = "Node:"

_URN = "urn:raftlog:"
_CLUSTER = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]*")
# As RFC 2253 abbreviates them.
_SHORT_NAMES = {
    "commonName": "CN",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "streetAddress": "STREET",
    "domainComponent": "DC",
    "userId": "UID",
}

Certificate = Mapping[str, Any]
"""What SSLObject.getpeercert() returns."""


class Identity(NamedTuple):
    cluster: str
    role: str
    name: str

    @property
    def urn(self) -> str:
        return f"{_URN}{self.cluster}:{self.role}:{self.name}"

    @property
    def principal(self) -> str:
        return (NODE_PREFIX if self.role == NODE else USER_PREFIX) + self.name

    def __str__(self) -> str:
        return f"{self.role} {self.name} of cluster {self.cluster}"


def is_cluster_name(text: str) -> bool:
    return _CLUSTER.fullmatch(text) is not None


def is_client_name(text: str) -> bool:
    return len(text) <= NAME_MAX_CHARS and _NAME.fullmatch(text) is not None


def parse_urn(text: str) -> Identity | None:
    """None: it names nobody."""
    if not text.startswith(_URN):
        return None
    parts = text.removeprefix(_URN).split(":")
    if len(parts) != 3:
        return None
    found = Identity(*parts)
    fits = is_cluster_name(found.cluster) and found.role in ROLES and is_client_name(found.name)
    return found if fits and (found.role != NODE or _is_node_id(found.name)) else None


def _is_node_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and text == str(int(text))


def urns_of(certificate: Certificate) -> list[str]:
    return [
        str(value)
        for kind, value in certificate.get("subjectAltName", ())
        if kind == "URI" and str(value).startswith(_URN)
    ]


def identity_of(certificate: Certificate) -> Identity | None:
    """None: it has no name of ours, or one that cannot be read, or several."""
    urns = urns_of(certificate)
    return parse_urn(urns[0]) if len(urns) == 1 else None


def why_no_node(certificate: Certificate, cluster: str, node_id: int | None = None) -> str:
    """Why the other end is not a node of this cluster; "": it is. `node_id` None: any node of it will do."""
    found = identity_of(certificate)
    if found is None:
        return "its certificate names no node"
    if found.cluster != cluster:
        return f"its certificate is of cluster {found.cluster}, not {cluster}"
    if found.role != NODE:
        return f"its certificate is a {found.role}'s, not a node's"
    if node_id is not None and found.name != str(node_id):
        return f"its certificate is node {found.name}'s, not node {node_id}'s"
    return ""


def principal_of(certificate: Certificate, cluster: str) -> str:
    """Whom a client's certificate names; "": nobody here may be called so."""
    if not urns_of(certificate):
        subject = rfc2253(certificate.get("subject", ()))
        return USER_PREFIX + subject if subject else ""
    found = identity_of(certificate)
    return found.principal if found is not None and found.cluster == cluster and found.role != AUTHORITY else ""


def rfc2253(subject: tuple[tuple[tuple[str, str], ...], ...]) -> str:
    """A subject, as the `ssl` module shows it, as text: the last name first."""
    return ",".join(
        "+".join(f"{_SHORT_NAMES.get(kind, kind)}={_escape(value)}" for kind, value in names)
        for names in reversed(subject)
    )


def _escape(value: str) -> str:
    escaped = "".join(f"\\{each}" if each in ',+"\\<>;' else each for each in value)
    if escaped.startswith((" ", "#")):
        escaped = "\\" + escaped
    return escaped[:-1] + "\\ " if len(escaped) > 1 and escaped.endswith(" ") else escaped
