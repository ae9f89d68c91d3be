"""Streams under TLS: the same messages, and nobody but the node that is meant, before a byte of his is read."""

from __future__ import annotations

import random
import shutil
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

import raftlog.network.stream as stream
from raftlog.errors import ConfigError
from raftlog.network import Poller, StreamLink, StreamServer
from raftlog.network.context import KEPT_FROM_BYTES
from raftlog.network.stream import StreamConnection
from raftlog.security.certificates import make_authority, make_node
from raftlog.security.credentials import Credentials
from raftlog.types import Endpoint
from tests.network.turning import Turning
from tests.security.made import Made, strangers

HOST = "127.0.0.1"
BOOT_ID = 2**61 + 7
STRANGERS = ["another authority", "another cluster", "a client", "a certificate that has ended"]


class End(Turning):
    """Node 1's server, and links of whoever wants to reach it."""

    def __init__(self, credentials: Credentials | None) -> None:
        self.poller = Poller()
        self.server = StreamServer(self.poller, HOST, BOOT_ID, None, credentials)
        self.links: list[StreamLink] = []
        self.received: list[tuple[bytes, bytes | None]] = []

    def link(self, credentials: Credentials | None, node_id: int = 1) -> StreamLink:
        link = StreamLink(self.poller, Endpoint(HOST, self.server.port), BOOT_ID, node_id, credentials)
        self.links.append(link)
        return link

    def turn(self) -> None:
        self.server.tick()
        for link in self.links:
            link.tick()
        for ready in self.poller.poll(0.005):
            for header, payload in ready.on_ready():
                self.received.append((header, None if payload is None else bytes(payload)))

    def close(self) -> None:
        for link in self.links:
            link.close()
        self.server.close()


@pytest.fixture(scope="module")
def two(made: Made) -> Credentials:
    return Credentials.of_node(made.node(2), 2)


@pytest.fixture
def end(one: Credentials) -> Iterator[End]:
    running = End(one)
    yield running
    running.close()
    assert running.poller._items == []


SIZES = (0, 1, 1000, KEPT_FROM_BYTES - 1, KEPT_FROM_BYTES, 300_000, 1_000_000, 5_000_000)


@pytest.mark.parametrize("seed", range(3))
def test_messages_of_all_sizes_arrive_as_they_are_and_in_their_order(end: End, two: Credentials, seed: int) -> None:
    rng = random.Random(seed)
    link = end.link(two)
    end.until(lambda: link.connected)
    sent: list[tuple[bytes, bytes | None]] = []
    for _ in range(60):
        header = rng.randbytes(rng.choice((1, 60, 200, 5000)))
        size = rng.choice(SIZES)
        payload = rng.randbytes(size) if size else None
        end.until(lambda header=header, payload=payload: link.send(header, payload))
        sent.append((header, payload))
        if rng.random() < 0.3:
            end.turn()
    end.until(lambda: len(end.received) == len(sent))
    assert end.received == sent


def test_what_is_decrypted_is_handed_out_even_if_nothing_more_comes(
    end: End, two: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No poll tells of it: a turn that ends in the middle of it would wait for ever."""
    monkeypatch.setattr(stream, "_TURN_BYTES", 1000)
    link = end.link(two)
    end.until(lambda: link.connected)
    for number in range(40):
        assert link.send(b"%d" % number, b"x" * 900)
    end.until(lambda: len(end.received) == 40)


def test_nothing_can_be_read_on_the_way(one: Credentials, two: Credentials) -> None:
    end = End(one)
    seen: list[bytes] = []
    real = socket.socket.send
    link = end.link(two)
    end.until(lambda: link.connected)
    secure = link._secure
    assert secure is not None

    class Watched:
        def send(self, data: bytes) -> int:
            seen.append(bytes(data))
            return real(plain, data)

        def __getattr__(self, name: str) -> object:
            return getattr(plain, name)

    plain = secure._socket
    secure._socket = Watched()  # type: ignore[assignment]
    assert link.send(b"header", b"a secret of twenty-odd bytes")
    end.until(lambda: end.received)
    assert seen and b"secret" not in b"".join(seen)
    end.close()


@pytest.mark.parametrize("who", STRANGERS)
def test_a_stranger_is_closed_before_its_greeting_is_read(
    end: End, made: Made, tmp_path: Path, who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials, why = strangers(made, tmp_path)[who]
    taken: list[int] = []
    monkeypatch.setattr(StreamConnection, "_take", lambda self, size, found: taken.append(size) or True)
    end.link(credentials)
    end.until(lambda: end.server.refused)
    assert why in end.server.why
    assert taken == []


@pytest.mark.parametrize("who", [*STRANGERS, "another node"])
def test_a_link_says_nothing_to_whom_it_does_not_mean(made: Made, two: Credentials, tmp_path: Path, who: str) -> None:
    credentials, why = strangers(made, tmp_path)[who]
    end = End(credentials)
    link = end.link(two)
    end.until(lambda: link.why)
    assert why in link.why
    assert not link.connected and end.received == []
    end.close()


def test_one_without_a_certificate_gets_nowhere(end: End, made: Made) -> None:
    context = ssl.create_default_context(cafile=f"{made.authority}/ca.pem")
    with socket.create_connection((HOST, end.server.port)) as raw:
        raw.setblocking(False)
        bios = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(*bios, server_hostname=HOST)

        def goes_on() -> int:
            try:
                tls.do_handshake()
                tls.write(stream.GREETING.pack(stream.GREETING_MAGIC, BOOT_ID))
            except ssl.SSLWantReadError:
                pass
            raw.send(bios[1].read()) if bios[1].pending else None
            try:
                bios[0].write(raw.recv(65536))
            except BlockingIOError:
                pass
            return end.server.refused

        end.until(goes_on)
    assert "it has shown no certificate" in end.server.why
    assert not end.server._peers


@pytest.mark.parametrize(
    "data", [stream.GREETING.pack(stream.GREETING_MAGIC, BOOT_ID), b"GET / HTTP/1.1\r\n\r\n", bytes(100)]
)
def test_plain_bytes_on_the_port_of_tls_end_the_connection(end: End, data: bytes) -> None:
    with socket.create_connection((HOST, end.server.port)) as raw:
        raw.sendall(data)
        end.until(lambda: end.server.refused)
    assert not end.server._peers and not end.server._strangers


def test_tls_on_a_plain_port_ends_the_connection(two: Credentials) -> None:
    end = End(None)
    link = end.link(two)
    end.until(lambda: link.why)
    assert not link.connected and not end.server._peers
    end.close()


def test_a_handshake_that_is_not_finished_ends_in_time(end: End, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "STREAM_GREETING_S", 0.05)
    with socket.create_connection((HOST, end.server.port)) as raw:
        raw.sendall(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a record that never goes on
        end.until(lambda: end.server._strangers)
        end.until(lambda: not end.server._strangers)


def test_new_files_are_used_for_new_connections_and_old_ones_go_on(tmp_path: Path) -> None:
    made = Made(tmp_path)
    one, two = Credentials.of_node(made.node(1), 1), Credentials.of_node(made.node(2), 2)
    end = End(one)
    old = end.link(two)
    end.until(lambda: old.connected)
    serial = old._secure and old._secure.certificate["serialNumber"]
    make_node(made.authority, 1, [], f"{tmp_path}/node-1")

    def is_renewed() -> bool:
        link = end.link(two)
        end.until(lambda: link.connected)
        found = link._secure and link._secure.certificate["serialNumber"]
        end.links.remove(link)
        link.close()
        return found != serial

    end.until(is_renewed)
    assert old.connected and old.send(b"still there", None)
    end.until(lambda: (b"still there", None) in end.received)
    end.close()


def test_files_that_do_not_fit_are_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raftlog.security.credentials._LOOK_S", 0.0)
    made = Made(tmp_path)
    one, two = Credentials.of_node(made.node(1), 1), Credentials.of_node(made.node(2), 2)
    key = tmp_path / "node-1" / "node.key"
    key.write_bytes((tmp_path / "node-2" / "node.key").read_bytes())
    end = End(one)
    for _ in range(3):
        link = end.link(two)
        end.until(lambda link=link: link.connected)
    assert "its key and its certificate do not fit" in caplog.text
    end.close()


@pytest.mark.parametrize(("broken", "told"), [("ca.pem", "ca.pem"), ("node.key", "node.pem or node.key")])
def test_a_file_that_is_no_certificate_is_named(tmp_path: Path, broken: str, told: str) -> None:
    directory = Made(tmp_path).node(1)
    Path(directory, broken).write_bytes(b"not a PEM file")
    with pytest.raises(ConfigError, match=f"cannot be used: {told} is no PEM file"):
        Credentials.of_node(directory, 1)


def test_an_authority_is_replaced_in_three_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both trusted everywhere, then new certificates, then the new authority alone: somebody is met at any time."""
    monkeypatch.setattr("raftlog.security.credentials._LOOK_S", 0.0)
    made = Made(tmp_path, authority="old")
    directories = [made.node(1), made.node(2)]
    one, two = Credentials.of_node(directories[0], 1), Credentials.of_node(directories[1], 2)
    outdated = Credentials.of_node(shutil.copytree(directories[1], tmp_path / "outdated"), 2)
    make_authority(str(tmp_path / "new"), made.cluster)
    old, new = ((tmp_path / name / "ca.pem").read_bytes() for name in ("old", "new"))
    end = End(one)

    def meets(credentials: Credentials) -> bool:
        link = end.link(credentials)
        refused = end.server.refused
        end.until(lambda: len(end.server._peers) or link.why or end.server.refused > refused)
        met = bool(end.server._peers)
        end.links.remove(link)
        link.close()
        end.until(lambda: not end.server._peers)
        return met

    assert meets(two)
    for directory in directories:
        (Path(directory) / "ca.pem").write_bytes(old + new)
        assert all(meets(two) for _ in range(3))
    for number, directory in enumerate(directories):
        make_node(str(tmp_path / "new"), number + 1, [], directory)
        assert all(meets(two) for _ in range(3))
    for directory in directories:
        (Path(directory) / "ca.pem").write_bytes(new)
        assert all(meets(two) for _ in range(3))
    assert not meets(outdated)
    end.close()
