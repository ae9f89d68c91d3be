"""Keys and certificates: whom they name, who may read them, what `openssl` and Python's `ssl` say of them."""

from __future__ import annotations

import ssl
import stat
import subprocess
from pathlib import Path

import pytest

from raftlog.errors import ConfigError
from raftlog.security.certificates import make_authority, make_client, make_node, read_facts
from raftlog.security.identity import Identity, parse_urn, principal_of, rfc2253, why_no_node


@pytest.fixture
def authority(tmp_path: Path) -> str:
    make_authority(str(tmp_path / "ca"), "orders")
    return str(tmp_path / "ca")


def test_a_node_is_named_by_its_urn_and_hosts(authority: str, tmp_path: Path) -> None:
    facts = make_node(authority, 2, ["node-2.example.org", "10.0.0.2", "fd00::2"], str(tmp_path / "n"))
    assert facts.identity == Identity("orders", "node", "2")
    assert facts.hosts == ["node-2.example.org", "localhost", "10.0.0.2", "fd00::2", "127.0.0.1", "::1"]
    assert sorted(path.name for path in (tmp_path / "n").iterdir()) == ["ca.pem", "node.key", "node.pem"]


def test_openssl_finds_nothing_wrong_with_a_chain(authority: str, tmp_path: Path) -> None:
    make_node(authority, 1, [], str(tmp_path / "n"))
    make_client(authority, "alice", str(tmp_path / "c"))
    for leaf in (tmp_path / "n" / "node.pem", tmp_path / "c" / "client.pem"):
        command = ["openssl", "verify", "-x509_strict", "-CAfile", str(Path(authority) / "ca.pem"), str(leaf)]
        assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_keys_are_for_their_owner_alone(authority: str, tmp_path: Path) -> None:
    make_client(authority, "alice", str(tmp_path / "c"))
    for key in (Path(authority) / "ca.key", tmp_path / "c" / "client.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "c").stat().st_mode) == 0o700


def test_a_key_that_others_can_read_is_refused_with_what_to_do(authority: str, tmp_path: Path) -> None:
    key = Path(authority) / "ca.key"
    key.chmod(0o640)
    with pytest.raises(ConfigError, match=f"chmod 600 {key}"):
        make_client(authority, "alice", str(tmp_path / "c"))


@pytest.mark.parametrize("host", ["bad host!", "", "a,b", "-x", "node..example", "x" * 64])
def test_what_is_no_name_of_a_host_is_refused(authority: str, tmp_path: Path, host: str) -> None:
    with pytest.raises(ConfigError, match="takes a name or an address"):
        make_node(authority, 1, [host], str(tmp_path / "n"))


def test_a_renewal_keeps_hosts_and_makes_another_key(authority: str, tmp_path: Path) -> None:
    first = make_node(authority, 2, ["10.0.0.2"], str(tmp_path / "n"), days=1)
    key = (tmp_path / "n" / "node.key").read_bytes()
    second = make_node(authority, 2, [], str(tmp_path / "n"))
    assert second.hosts == first.hosts
    assert second.ends > first.ends
    assert (tmp_path / "n" / "node.key").read_bytes() != key


def test_nobody_is_overwritten_by_another(authority: str, tmp_path: Path) -> None:
    make_node(authority, 2, [], str(tmp_path / "n"))
    with pytest.raises(ConfigError, match="node 2 of cluster orders: say another --out"):
        make_node(authority, 3, [], str(tmp_path / "n"))
    with pytest.raises(ConfigError, match="holds an authority already"):
        make_authority(authority, "other")


def test_a_renewal_leaves_the_authorities_that_are_trusted(authority: str, tmp_path: Path) -> None:
    make_node(authority, 2, [], str(tmp_path / "n"))
    make_authority(str(tmp_path / "next"), "orders")
    trusted = tmp_path / "n" / "ca.pem"
    trusted.write_bytes(trusted.read_bytes() + (tmp_path / "next" / "ca.pem").read_bytes())
    make_node(authority, 2, [], str(tmp_path / "n"))
    assert trusted.read_bytes().count(b"BEGIN CERTIFICATE") == 2


@pytest.mark.parametrize("name", ["", "a b", "a:b", "../a", "-a", "ü", "a" * 129])
def test_what_is_no_name_is_refused(authority: str, tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="a client's name"):
        make_client(authority, name, str(tmp_path / "c"))


def test_ssl_shows_the_name_that_was_written(authority: str, tmp_path: Path) -> None:
    make_node(authority, 7, [], str(tmp_path / "n"))
    shown = handshake(tmp_path / "n", Path(authority) / "ca.pem")
    assert why_no_node(shown, "orders", 7) == ""
    assert why_no_node(shown, "orders", 8) == "its certificate is node 7's, not node 8's"
    assert why_no_node(shown, "other") == "its certificate is of cluster orders, not other"
    assert principal_of(shown, "orders") == "Node:7"
    assert principal_of(shown, "other") == ""


def handshake(node: Path, trusted: Path) -> dict[str, object]:
    """What a client is shown of the node's certificate."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(node / "node.pem", node / "node.key")
    client = ssl.create_default_context(cafile=str(trusted))
    ends = [ssl.MemoryBIO(), ssl.MemoryBIO()]
    asks = client.wrap_bio(ends[0], ends[1], server_hostname="localhost")
    answers = server.wrap_bio(ends[1], ends[0], server_side=True)
    for each in (asks, answers, asks, answers):
        try:
            each.do_handshake()
        except ssl.SSLWantReadError:
            continue
    shown = asks.getpeercert()
    assert shown
    return shown


@pytest.mark.parametrize(
    "text",
    [
        "urn:raftlog:orders:node:02",
        "urn:raftlog:orders:node:two",
        "urn:raftlog:orders:node:²",
        "urn:raftlog:orders:king:1",
        "urn:raftlog:orders:node",
        "urn:raftlog:orders:client:a:b",
        "urn:raftlog::client:a",
        "urn:other:orders:node:1",
    ],
)
def test_a_urn_that_is_none_of_ours_names_nobody(text: str) -> None:
    assert parse_urn(text) is None


@pytest.mark.parametrize(
    "names", [("urn:raftlog:orders:client:a", "urn:raftlog:orders:client:b"), ("urn:raftlog:orders:node:x",)]
)
def test_a_certificate_with_two_names_or_a_wrong_one_is_nobodys(names: tuple[str, ...]) -> None:
    shown = {"subject": ((("commonName", "a"),),), "subjectAltName": tuple(("URI", name) for name in names)}
    assert principal_of(shown, "orders") == ""
    assert why_no_node(shown, "orders") == "its certificate names no node"


def test_a_certificate_made_elsewhere_is_named_by_its_subject() -> None:
    subject = ((("countryName", "DE"),), (("organizationName", "A, B"),), (("commonName", "alice"),))
    assert rfc2253(subject) == "CN=alice,O=A\\, B,C=DE"
    assert principal_of({"subject": subject}, "orders") == "User:CN=alice,O=A\\, B,C=DE"
    assert rfc2253(((("commonName", " #x "),),)) == "CN=\\ #x\\ "


def test_what_is_no_certificate_is_an_error_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(ConfigError, match=r"is no certificate in PEM"):
        read_facts(tmp_path / "ca.pem")
