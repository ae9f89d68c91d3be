"""Clients and nodes under TLS: whole messages both ways, certificates, bounds, and those who never finish."""

from __future__ import annotations

import random
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import raftlog.network.message_server as message_server
from raftlog.errors import ConfigError
from raftlog.network import MessageServer, Poller, SecureLink
from raftlog.security.credentials import Credentials
from raftlog.types import Endpoint
from tests.network.turning import WAIT_S, Turning
from tests.security.made import Made, strangers

HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def alice(made: Made) -> Credentials:
    return Credentials.read(made.client("alice"))


class Ends(Turning):
    """A server that gives everything back, and links to it, in one thread."""

    def __init__(self, credentials: Credentials, host: str = HOST) -> None:
        self.poller = Poller()
        self.server = MessageServer(host, None, credentials)
        self.poller.register(self.server)
        self.links: list[SecureLink] = []
        self.answers: list[list[bytes]] = []
        self.gives_back = True

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.server.host, self.server.port)

    @property
    def principals(self) -> list[str]:
        return [client.principal for client in self.server.connections.clients.values()]

    def link(self, credentials: Credentials) -> SecureLink:
        link = SecureLink(self.endpoint, credentials)
        self.links.append(link)
        self.poller.register(link)
        return link

    def turn(self) -> None:
        self.server.tick()
        for ready in self.poller.poll(0.005):
            if ready is self.server and self.gives_back:
                while (frames := self.server.receive()) is not None:
                    self.server.send(frames[0], frames[1:])
        for link in self.links:
            link.watch()
            while (frames := link.receive()) is not None:
                self.answers.append([bytes(each) for each in frames])

    def close(self) -> None:
        for link in self.links:
            self.poller.unregister(link)
            link.close()
        self.poller.unregister(self.server)
        self.server.close()


@pytest.fixture
def ends(one: Credentials) -> Iterator[Ends]:
    running = Ends(one)
    yield running
    running.close()


@pytest.mark.parametrize("seed", range(3))
def test_messages_of_all_sizes_come_back_as_they_are(ends: Ends, alice: Credentials, seed: int) -> None:
    rng = random.Random(seed)
    link = ends.link(alice)
    ends.until(lambda: link.connected)
    sent = []
    for _ in range(40):
        size = rng.choice((0, 1, 1000, 65_536, 300_000, 2_000_000))
        frames = [rng.randbytes(rng.choice((1, 60, 5000)))] + ([rng.randbytes(size)] if size else [])
        ends.until(lambda frames=frames: link.send(frames))
        sent.append(frames)
    ends.until(lambda: len(ends.answers) == len(sent))
    assert ends.answers == sent
    assert ends.principals == ["User:alice"]


def test_a_round_that_leaves_something_is_followed_by_another(ends: Ends, alice: Credentials) -> None:
    """What was read and not handed out yet makes the descriptor readable: nothing else would tell of it."""
    link = ends.link(alice)
    ends.until(lambda: ends.principals)
    ends.gives_back = False
    for number in range(50):
        assert link.send([b"%d" % number])
    found = []
    while len(found) < 50:
        assert ends.server in ends.poller.poll(WAIT_S)
        frames = ends.server.receive()
        if frames is not None:
            found.append(int(frames[1]))
    assert found == list(range(50))


@pytest.mark.parametrize("who", ["another authority", "another cluster", "a certificate that has ended"])
def test_a_stranger_is_closed_before_a_byte_of_it_is_read(ends: Ends, made: Made, tmp_path: Path, who: str) -> None:
    credentials, _ = strangers(made, tmp_path)[who]
    ends.link(credentials)
    ends.until(lambda: ends.server.connections.refusals.ended)
    assert "certificate" in ends.server.connections.refusals.last
    assert ends.principals == []


def test_a_client_talks_to_a_node_of_its_cluster_only(made: Made, alice: Credentials, tmp_path: Path) -> None:
    for who, (credentials, _) in strangers(made, tmp_path).items():
        if who == "another node":
            continue  # for a client one node is as good as another
        ends = Ends(credentials)
        link = ends.link(alice)
        ends.until(lambda link=link: link.why)
        assert "certificate" in link.why, (who, link.why)
        assert not link.connected
        ends.close()


def test_a_host_that_the_certificate_does_not_name_is_refused(one: Credentials, alice: Credentials) -> None:
    ends = Ends(one, host="127.0.0.2")
    link = ends.link(alice)
    ends.until(lambda: link.why)
    assert link.why == "its certificate is not good: IP address mismatch, certificate is not valid for '127.0.0.2'"
    ends.close()


def test_a_name_that_nobody_knows_is_said(ends: Ends, alice: Credentials) -> None:
    link = SecureLink(Endpoint("no-such-host.invalid", 1), alice, once=True)
    deadline_s = time.monotonic() + WAIT_S
    while not link.over and time.monotonic() < deadline_s:
        link.watch()
    assert link.why == "no-such-host.invalid is no address and no name that is known here"
    link.close()


def test_plain_bytes_are_closed_and_counted(ends: Ends) -> None:
    with socket.create_connection(ends.endpoint) as raw:
        raw.sendall(b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03" + bytes(53))  # ZeroMQ's greeting
        ends.until(lambda: ends.server.connections.refusals.ended)
    assert ends.server.connections.refusals.last == "127.0.0.1: it does not speak TLS"


def test_one_without_a_certificate_is_told_so(ends: Ends, made: Made) -> None:
    context = ssl.create_default_context(cafile=f"{made.authority}/ca.pem")
    bios = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(*bios, server_hostname=HOST)
    with socket.create_connection(ends.endpoint) as raw:
        raw.setblocking(False)

        def goes_on() -> int:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                pass
            if bios[1].pending:
                raw.send(bios[1].read())
            try:
                bios[0].write(raw.recv(65536))
            except BlockingIOError:
                pass
            return ends.server.connections.refusals.ended

        ends.until(goes_on)
    assert ends.server.connections.refusals.last == "127.0.0.1: it has shown no certificate"


def test_handshakes_that_do_not_end_make_room_for_each_other_only(
    ends: Ends, alice: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message_server, "STRANGERS_MAX", 8)
    link = ends.link(alice)
    ends.until(lambda: link.connected)
    opened = [socket.create_connection(ends.endpoint) for _ in range(50)]
    for each in opened:
        each.sendall(b"\x16\x03\x01\x02\x00\x01")
    ends.until(lambda: ends.server.connections.refusals.ended >= 42)
    assert len(ends.server._strangers) == 8
    assert link.send([b"still here"])
    ends.until(lambda: ends.answers == [[b"still here"]])
    monkeypatch.setattr(message_server, "HANDSHAKE_S", 0.05)
    ends.until(lambda: not ends.server._strangers)
    assert ends.principals == ["User:alice"]
    for each in opened:
        each.close()


def test_a_host_has_a_share_of_the_connections(ends: Ends, alice: Credentials, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_server, "CONNECTIONS_PER_ADDRESS_MAX", 3)
    link = ends.link(alice)
    ends.until(lambda: ends.principals)
    strangers = [socket.create_connection(ends.endpoint) for _ in range(3)]
    ends.until(lambda: ends.server.connections.refusals.ended)
    assert ends.server.connections.refusals.last == "127.0.0.1: it has 3 connections"
    for stranger in strangers:
        stranger.close()
    ends.until(lambda: not ends.server._strangers)
    ends.link(alice)
    ends.until(lambda: len(ends.principals) == 2)
    assert link.losses == 0


def test_one_that_takes_none_of_its_answers_ends(
    ends: Ends, alice: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message_server, "CLIENT_SILENT_S", 0.2)
    link = ends.link(alice)
    ends.until(lambda: ends.principals)
    (identity,) = ends.server.connections.clients
    gone: list[bytes] = []
    ends.server.connections.on_gone = gone.append
    ends.links.clear()  # nobody reads any more
    ends.poller.unregister(link)
    while ends.server.send(identity, [b"answer", bytes(8_000_000)]):
        pass
    ends.until(lambda: gone)
    assert gone == [identity]
    assert ends.server.connections.refusals.last == "127.0.0.1: it does not take its answers"
    link.close()


def test_a_link_that_broke_is_made_again(one: Credentials, alice: Credentials) -> None:
    ends = Ends(one)
    link = ends.link(alice)
    ends.until(lambda: ends.principals)
    for client in list(ends.server._known.values()):
        ends.server._end(client)
    ends.until(lambda: link.losses == 1)
    ends.until(lambda: link.connected)
    ends.close()


def test_a_link_for_once_is_over(ends: Ends, alice: Credentials) -> None:
    link = SecureLink(ends.endpoint, alice, once=True)
    ends.links.append(link)
    ends.poller.register(link)
    ends.until(lambda: ends.principals)
    for client in list(ends.server._known.values()):
        ends.server._end(client)
    ends.until(lambda: link.over)
    assert link.why == "the connection broke"


def test_a_taken_port_is_an_error(ends: Ends, one: Credentials) -> None:
    with pytest.raises(ConfigError, match=f"port {ends.server.port} on 127.0.0.1 is in use"):
        MessageServer(HOST, ends.server.port, one)
