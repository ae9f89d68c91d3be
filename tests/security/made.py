"""Directories of nodes and clients, made as an operator makes them; and certificates that no operator should make."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from raftlog.security import certificates
from raftlog.security.certificates import make_authority, make_client, make_node
from raftlog.security.credentials import Credentials
from raftlog.security.identity import Identity

CLUSTER = "orders"


class Made:
    """One authority, and what it has signed."""

    def __init__(self, folder: Path, cluster: str = CLUSTER, authority: str = "ca") -> None:
        self.folder = folder
        self.cluster = cluster
        self.authority = str(folder / authority)
        make_authority(self.authority, cluster)

    def node(self, node_id: int) -> str:
        directory = str(self.folder / f"node-{node_id}")
        make_node(self.authority, node_id, ["127.0.0.1"], directory)
        return directory

    def client(self, name: str) -> str:
        directory = str(self.folder / f"client-{name}")
        make_client(self.authority, name, directory)
        return directory


def strangers(made: Made, folder: Path) -> dict[str, tuple[Credentials, str]]:
    """Who must not get in as node 1, and what is said of each by whom it meets."""
    elsewhere = Made(folder / "elsewhere", CLUSTER)
    same_authority = Made(folder / "same", "other")
    # The authority of `made`, which has signed for another cluster: only the name tells.
    other = folder / "other-cluster"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certificates, "_issuer", _issuing(made, Identity("other", "node", "1")))
        make_node(made.authority, 1, [], str(other))
    past = folder / "past"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certificates, "_CLOCKS_DIFFER", datetime.timedelta(days=3))
        patch.setattr(certificates, "_builder", _ended(certificates._builder))
        make_node(made.authority, 1, [], str(past))
    del same_authority
    return {
        "another authority": (unchecked(elsewhere.node(1), made), "its certificate is not good"),
        "another cluster": (unchecked(str(other), made), "its certificate is of cluster other, not orders"),
        "a client": (unchecked(made.client("mallory"), made), "its certificate"),
        "a certificate that has ended": (unchecked(str(past), made), "its certificate is not good"),
        "another node": (unchecked(made.node(9), made), "its certificate is node 9's, not node 1's"),
    }


def _issuing(made: Made, identity: Identity):  # type: ignore[no-untyped-def]
    issuer = certificates._issuer

    def issue(authority: str, role: str, name: str):  # type: ignore[no-untyped-def]
        return identity, issuer(authority, role, name)[1]

    return issue


def _ended(builder):  # type: ignore[no-untyped-def]
    def build(*arguments):  # type: ignore[no-untyped-def]
        made = builder(*arguments)
        made._not_valid_after = datetime.datetime.now(datetime.UTC).replace(tzinfo=None) - datetime.timedelta(days=1)
        return made

    return build


class Unchecked(Credentials):
    """Of somebody who does not look at his own files, nor at whom he meets."""

    is_node = True

    def _meet_oneself(self, peers: object, connecting: object) -> None:
        pass

    def why_no_node(self, certificate: object, node_id: int | None = None) -> str:
        return ""


def unchecked(directory: str, made: Made) -> Credentials:
    """He trusts the authority of those whom he wants to meet."""
    trusted = Path(directory) / "ca.pem"
    trusted.write_bytes(trusted.read_bytes() + (Path(made.authority) / "ca.pem").read_bytes())
    return Unchecked.read(directory)
