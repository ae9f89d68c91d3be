"""How the clients of a run prove who they are, over TLS: by SCRAM, or with a certificate. In Kafka's words.

A program is told the files ca, certificate, key and both (key and certificate in one), and for SCRAM user and password.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from raftlog import Admin
from raftlog.node.local import SUPERUSER, LocalCluster

SCRAM, CERTIFICATE = "scram", "certificate"
_PASSWORD = "a-password"


def prepare(cluster: LocalCluster, chosen: str) -> Mapping[str, str]:
    """Makes the user, if one logs in, who may do everything, and what programs are told."""
    folder = Path(cluster.security)
    both = folder / "both.pem"
    both.touch(mode=0o600)
    both.write_text((folder / "client.key").read_text() + (folder / "client.pem").read_text())
    files = {"ca": "ca.pem", "certificate": "client.pem", "key": "client.key", "both": both.name}
    told = {name: str(folder / file) for name, file in files.items()}
    if chosen == SCRAM:
        with Admin(cluster.bootstrap, security=cluster.security) as admin:
            admin.create_user(SUPERUSER, _PASSWORD)
        told |= {"user": SUPERUSER, "password": _PASSWORD}
    return told
