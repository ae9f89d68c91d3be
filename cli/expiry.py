"""Certificates that end soon, as those see them who connect: of each node, and of the own directory."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from raftlog.protocol.cluster import NodeMetadata
from raftlog.types import Endpoint
from raftlog.view.diagnosis import Diagnosis

_PATIENCE_S = 3.0
_HAS_EXPIRED = 10  # OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED


class Ending(NamedTuple):
    """When a certificate ends, and where it is. `node_id` None: the own one. `days` is negative once it has ended."""

    node_id: int | None
    place: str
    day: str
    days: int

    @property
    def text(self) -> str:
        if self.days < 0:
            return "its certificate has ended, and is not taken any more"
        return f"its certificate ends on {self.day}, in {self.days} days"

    @property
    def diagnosis(self) -> Diagnosis:
        noun = f"node --ca CA --id {self.node_id}" if self.node_id is not None else "client --ca CA NAME"
        return Diagnosis(
            place=self.place,
            what=self.text,
            meaning="after that day nobody takes it any more: a node cannot be reached, nor reach others",
            advice=f"`raftlog security {noun} --out DIR` renews it; put the files where the old ones are",
        )


def ending_soon(nodes: Sequence[NodeMetadata]) -> list[Ending]:
    """Empty without --security. A node that does not answer has no certificate to be looked at."""
    from raftlog.client.arguments import credentials as chosen
    from raftlog.security.credentials import ENDS_SOON_DAYS

    credentials = chosen(None)
    if credentials is None:
        return []
    found = []
    for node in nodes:
        ends_s = _ends_s(Endpoint(*node.endpoint), credentials.connecting()) if node.alive else None
        if ends_s is not None:
            found.append(_ending(node.node_id, f"node {node.node_id}", ends_s))
    own = credentials.certificate_path
    if own is not None:
        found.append(_ending(None, str(own), _own_ends_s(own)))
    return [each for each in found if each.days < ENDS_SOON_DAYS]


def _ending(node_id: int | None, place: str, ends_s: float) -> Ending:
    day = time.strftime("%Y-%m-%d", time.gmtime(ends_s))
    return Ending(node_id, place, day, int((ends_s - time.time()) // 86_400))


def _ends_s(endpoint: Endpoint, context: ssl.SSLContext) -> float | None:
    """0.0: it has ended, a while ago. None: not known."""
    host = endpoint.host if context.check_hostname else None
    try:
        with (
            socket.create_connection(endpoint, _PATIENCE_S) as raw,
            context.wrap_socket(raw, server_hostname=host) as tls,
        ):
            shown = tls.getpeercert()
    except ssl.SSLCertVerificationError as error:
        return 0.0 if error.verify_code == _HAS_EXPIRED else None
    except OSError:
        return None
    return ssl.cert_time_to_seconds(str(shown["notAfter"])) if shown else None


def _own_ends_s(path: Path) -> float:
    from raftlog.security.certificates import read_facts

    return read_facts(path).ends.timestamp()
