"""Plain and secured ends, each with each: permissive ones speak to all, under TLS wherever the other can."""

from __future__ import annotations

import random
import socket
import struct
import time
from collections.abc import Iterator

import pytest

import raftlog.network.context as context_options
import raftlog.network.message_server as message_server
from raftlog.network import Context, Link, MessageServer, Poller, SecureLink, Server, StreamLink, StreamServer
from raftlog.network.zmtp import DEALER, GREETING, ROUTER, Zmtp
from raftlog.security.credentials import Credentials
from raftlog.types import Endpoint
from tests.network.turning import Turning
from tests.security.made import Made

HOST = "127.0.0.1"
BOOT_ID = 77
PLAIN, PERMISSIVE, REQUIRED = "plain", "permissive", "required"
MODES = (PLAIN, PERMISSIVE, REQUIRED)
SIZES = (0, 1, 255, 256, 1000, 65_536, 300_000, 2_000_000)


def credentials(made: Made, node_id: int, mode: str) -> Credentials | None:
    if mode == PLAIN:
        return None
    return Credentials.of_node(made.node(node_id), node_id, permissive=mode == PERMISSIVE)


class Ends(Turning):
    """Node 1, which gives everything back, and a link of node 2 to it, in one thread."""

    def __init__(self, made: Made) -> None:
        self._made = made
        self._context = Context()
        self.poller = Poller()
        self.server: Server | MessageServer | None = None
        self.link: Link | SecureLink | None = None
        self.answers: list[list[bytes]] = []

    def serve(self, mode: str, port: int | None = None) -> None:
        own = credentials(self._made, 1, mode)
        self.server = Server(self._context, HOST, port) if own is None else MessageServer(HOST, port, own)
        self.poller.register(self.server)

    def connect(self, mode: str, *, once: bool = False) -> None:
        assert self.server is not None
        endpoint, own = Endpoint(HOST, self.server.port), credentials(self._made, 2, mode)
        if own is None:
            self.link = Link(self._context, endpoint, watched=not once, once=once)
        else:
            self.link = SecureLink(endpoint, own, node_id=1, once=once)
        self.poller.register(self.link)

    @property
    def met(self) -> list[str]:
        """Whom the server knows; "" of a plain one."""
        assert isinstance(self.server, MessageServer)
        return [client.principal for client in self.server.connections.clients.values()]

    def turn(self) -> None:
        for ready in self.poller.poll(0.005):
            if ready is self.server and self.server is not None:
                while (frames := self.server.receive()) is not None:
                    self.server.send(frames[0], frames[1:])
        if self.server is not None:
            self.server.tick()
        if self.link is not None:
            self.link.watch()
            while (frames := self.link.receive()) is not None:
                self.answers.append([bytes(each) for each in frames])

    def exchange(self, rng: random.Random, count: int = 40) -> None:
        """Messages of all sizes come back as they are."""
        link, self.answers = self.link, []
        assert link is not None
        self.until(lambda: link.connected)
        sent = []
        for _ in range(count):
            size = rng.choice(SIZES)
            frames = [rng.randbytes(rng.choice((1, 60, 300, 5000)))] + ([rng.randbytes(size)] if size else [])
            self.until(lambda frames=frames: link.send(frames))  # type: ignore[misc]
            sent.append(frames)
        self.until(lambda: len(self.answers) == len(sent))
        assert self.answers == sent

    def stop_serving(self) -> None:
        if self.server is not None:
            self.poller.unregister(self.server)
            self.server.close()
            self.server = None

    def close(self) -> None:
        self.stop_serving()
        if self.link is not None:
            self.poller.unregister(self.link)
            self.link.close()
        self._context.close()


@pytest.fixture
def ends(made: Made) -> Iterator[Ends]:
    running = Ends(made)
    yield running
    running.close()


PAIRS = [(link, server) for link in MODES for server in MODES if {link, server} != {PLAIN, REQUIRED}]


@pytest.mark.parametrize(("link", "server"), PAIRS, ids=str)
@pytest.mark.parametrize("once", [False, True], ids=["again", "once"])
def test_each_end_speaks_with_each_that_can(ends: Ends, link: str, server: str, once: bool) -> None:
    ends.serve(server)
    ends.connect(link, once=once)
    ends.exchange(random.Random(1))
    if server != PLAIN:
        assert ends.met == ["" if link == PLAIN else "Node:2"]


def test_who_demands_tls_never_speaks_with_a_plain_end(ends: Ends) -> None:
    ends.serve(PLAIN)
    ends.connect(REQUIRED)
    link = ends.link
    assert isinstance(link, SecureLink)
    ends.until(lambda: link.why)
    assert not link.connected and not link.send([b"x"])


def test_a_plain_end_gets_nothing_from_one_that_demands_tls(ends: Ends) -> None:
    ends.serve(REQUIRED)
    ends.connect(PLAIN)
    server = ends.server
    assert isinstance(server, MessageServer)
    ends.until(lambda: server.connections.refusals.ended)
    assert ends.met == [] and server.connections.refusals.last.endswith("it does not speak TLS")


def test_a_permissive_link_follows_its_other_end_from_plain_to_secured_and_back(ends: Ends) -> None:
    ends.serve(PLAIN)
    ends.connect(PERMISSIVE)
    link = ends.link
    assert link is not None and ends.server is not None
    port = ends.server.port
    for mode in (PERMISSIVE, REQUIRED, PERMISSIVE, PLAIN):
        ends.exchange(random.Random(2), 3)
        losses = link.losses
        ends.stop_serving()
        ends.until(lambda losses=losses: link.losses > losses)  # type: ignore[misc]
        ends.serve(mode, port)
        ends.exchange(random.Random(3), 3)
        if mode != PLAIN:
            assert ends.met == ["Node:2"]


def test_a_plain_client_that_says_nothing_stays_connected(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """ZeroMQ asks whether the other end is there, and gives it up if nobody answers."""
    silence_ms = 200
    monkeypatch.setattr(context_options, "HEARTBEAT_MS", silence_ms // 4)
    monkeypatch.setattr(context_options, "SILENCE_MS", silence_ms)
    ends.serve(PERMISSIVE)
    ends.connect(PLAIN)
    link = ends.link
    assert link is not None
    ends.until(lambda: link.connected)
    end_s = time.monotonic() + 5 * silence_ms / 1000
    ends.until(lambda: time.monotonic() > end_s)
    assert link.connected and link.losses == 0


def test_a_plain_client_that_does_not_log_in_is_ended_where_all_have_to(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends.serve(PERMISSIVE)
    ends.connect(PLAIN)
    link, server = ends.link, ends.server
    assert link is not None and isinstance(server, MessageServer)
    ends.until(lambda: ends.met == [""])
    monkeypatch.setattr(message_server, "LOGIN_S", 0.0)
    known = set(server.connections.clients)
    server.connections.demand_login(lambda identity: identity in known)
    server.due_s = time.monotonic()
    ends.exchange(random.Random(1), 3)
    assert link.losses == 0
    known.clear()
    server.due_s = time.monotonic()
    ends.until(lambda: link.losses)
    assert server.connections.refusals.by_reason == {"login": 1}


def test_who_speaks_neither_is_ended(ends: Ends) -> None:
    ends.serve(PERMISSIVE)
    assert ends.server is not None
    longest, command = struct.pack(">BQ", 2, 2**40), struct.pack(">BQ", 6, 2000)
    junk = (b"GET / HTTP/1.1\r\n\r\n" * 5, b"\x16\x03\x01\0\5hello")
    junk += tuple(GREETING + each for each in (b"\0\5hello", longest, command, b"\4\6\5ERROR"))
    for sent in junk:
        with socket.create_connection((HOST, ends.server.port)) as raw:
            raw.sendall(sent)
            raw.setblocking(False)
            ends.until(lambda raw=raw: _is_over(raw))  # type: ignore[misc]


def test_who_asks_without_end_and_takes_no_answer_holds_no_memory(ends: Ends) -> None:
    ends.serve(PERMISSIVE)
    server = ends.server
    assert isinstance(server, MessageServer)
    pings = b"\x04\x0b\x04PING\0\x0aback" * 10_000
    with socket.create_connection((HOST, server.port)) as raw:
        raw.setblocking(False)
        raw.sendall(b"".join(Zmtp(DEALER).replies))
        ends.until(lambda: ends.met == [""])
        (client,) = server.connections.clients.values()
        sent = held_bytes = 0
        while sent < 50_000_000 and not client.stream.closed:  # by the kernel, or as one that takes no answers
            try:
                sent += raw.send(memoryview(pings)[sent % len(pings) :])
            except (BlockingIOError, ConnectionError):
                ends.turn()
            held_bytes = max(held_bytes, client.stream.out_bytes)
        assert held_bytes < 3_000_000


def _is_over(raw: socket.socket) -> bool:
    try:
        return not raw.recv(10_000)
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


# --- ZMTP ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", range(20))
def test_however_the_bytes_come_the_messages_are_the_same(seed: int) -> None:
    rng = random.Random(seed)
    here, there = Zmtp(ROUTER), Zmtp(DEALER)
    there.take(b"".join(here.replies), [])
    assert there.ready
    sent, wire = [], b"".join(there.replies)
    for _ in range(rng.randrange(1, 8)):
        header, size = rng.randbytes(rng.choice((1, 255, 256, 3000))), rng.choice((0, 0, 1, 256, 70_000))
        payload = rng.randbytes(size)
        sent.append((header, payload or None))
        wire += there.lead(header, size) + payload
    found: list[tuple[bytes, object]] = []
    here.replies.clear()
    while wire:
        size = rng.choice((1, 5, 64, 1000, 100_000))
        here.take(wire[:size], found)  # type: ignore[arg-type]
        wire = wire[size:]
    assert [(header, payload and bytes(payload)) for header, payload in found] == sent  # type: ignore[call-overload]
    assert here.rest_bytes == 0


def test_a_ping_is_answered_with_what_it_carries() -> None:
    end = Zmtp(ROUTER)
    end.replies.clear()
    end.take(b"".join(Zmtp(DEALER).replies) + b"\x04\x0b\x04PING\0\x0aback", [])
    assert end.replies == [b"\x04\x09\x04PONGback"]


# --- streams ---------------------------------------------------------------------------------------
class Streams(Turning):
    def __init__(self, own: Credentials | None) -> None:
        self.poller = Poller()
        self.own = own
        self.server = StreamServer(self.poller, HOST, BOOT_ID, None, own)
        self.links: list[StreamLink] = []
        self.received: list[bytes] = []

    def link(self, own: Credentials | None) -> StreamLink:
        link = StreamLink(self.poller, Endpoint(HOST, self.server.port), BOOT_ID, 1, own)
        self.links.append(link)
        return link

    def turn(self) -> None:
        self.server.tick()
        for link in self.links:
            link.tick()
        for ready in self.poller.poll(0.005):
            self.received += [header for header, _ in ready.on_ready()]

    def close(self) -> None:
        for link in self.links:
            link.close()
        self.server.close()


@pytest.mark.parametrize("server", MODES)
@pytest.mark.parametrize("link", MODES)
def test_streams_do_likewise(made: Made, link: str, server: str) -> None:
    streams = Streams(credentials(made, 1, server))
    sender = streams.link(credentials(made, 2, link))
    try:
        if {link, server} == {PLAIN, REQUIRED}:
            streams.until(lambda: sender.why or streams.server.refused)
        else:
            streams.until(lambda: sender.send(b"hello", None) and streams.received)
            assert (sender._secure is not None) == (PLAIN not in (link, server))
        assert set(streams.received) == (set() if {link, server} == {PLAIN, REQUIRED} else {b"hello"})
    finally:
        streams.close()
