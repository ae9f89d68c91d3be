"""Streams between workers: messages in their order, broken connections, and what is no stream of ours."""

from __future__ import annotations

import contextlib
import random
import socket
import time
from collections.abc import Callable, Iterator

import pytest

import raftlog.network.stream as stream
from raftlog.errors import ConfigError
from raftlog.limits import FRAME_BYTES_MAX, HEADER_BYTES_MAX
from raftlog.network import Poller, StreamLink, StreamServer
from raftlog.network.context import KEPT_FROM_BYTES
from raftlog.network.stream import GREETING, LENGTHS
from raftlog.types import Endpoint

WAIT_S = 10.0
HOST = "127.0.0.1"


class End:
    """One thread that serves both ends, as each worker serves its own."""

    def __init__(self) -> None:
        self.poller = Poller()
        self.server = StreamServer(self.poller, HOST)
        self.received: list[tuple[bytes, bytes | None]] = []
        self.links: list[StreamLink] = []

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(HOST, self.server.port)

    def link(self, endpoint: Endpoint | None = None) -> StreamLink:
        link = StreamLink(self.poller, endpoint or self.endpoint)
        self.links.append(link)
        return link

    def connected(self) -> StreamLink:
        link = self.link()
        self.until(lambda: link.connected)
        return link

    def turn(self) -> None:
        for link in self.links:
            link.tick()
        for ready in self.poller.poll(0.005):
            for header, payload in ready.on_ready():
                if payload is not None and len(payload) >= KEPT_FROM_BYTES:
                    assert isinstance(payload, memoryview) and not payload.readonly
                self.received.append((header, payload if payload is None else bytes(payload)))

    def until(self, found: Callable[[], object]) -> None:
        deadline_s = time.monotonic() + WAIT_S
        while not found():
            self.turn()
            assert time.monotonic() < deadline_s, f"waited in vain for {found}"

    def close(self) -> None:
        for link in self.links:
            link.close()
        self.server.close()


@pytest.fixture
def end() -> Iterator[End]:
    made = End()
    yield made
    made.close()
    assert made.poller._items == []


SIZES = (0, 1, 1000, KEPT_FROM_BYTES - 1, KEPT_FROM_BYTES, KEPT_FROM_BYTES + 1, 300_000, 1_000_000, 5_000_000)


@pytest.mark.parametrize("seed", range(4))
def test_messages_of_all_sizes_arrive_as_they_are_and_in_their_order(end: End, seed: int) -> None:
    rng = random.Random(seed)
    link = end.connected()
    sent: list[tuple[bytes, bytes | None]] = []
    for _ in range(60):
        header = rng.randbytes(rng.choice((1, 60, 200, 5000, 300_000 if seed == 3 else 90)))
        size = rng.choice(SIZES)
        payload = rng.randbytes(size) if size else None
        end.until(lambda header=header, payload=payload: link.send(header, payload))
        sent.append((header, payload))
        if rng.random() < 0.3:
            end.turn()
    end.until(lambda: len(end.received) == len(sent))
    assert end.received == sent


def test_any_pieces_in_which_tcp_hands_it_out_give_the_same_messages(end: End) -> None:
    rng = random.Random(5)
    sent = [
        (rng.randbytes(rng.randrange(1, 50)), rng.randbytes(size) or None) for size in (0, 10, 70_000, 0, 65_536, 3)
    ]
    data = GREETING + b"".join(
        LENGTHS.pack(len(header), len(payload or b"")) + header + (payload or b"") for header, payload in sent
    )
    for _ in range(5):
        end.received.clear()
        with socket.create_connection(end.endpoint) as raw:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            at = 0
            while at < len(data):
                size = rng.choice((1, 2, 7, 9, 50, 1000, 40_000))
                raw.sendall(data[at : at + size])
                at += size
                end.turn()
            end.until(lambda: len(end.received) == len(sent))
        assert end.received == sent


def test_the_largest_header_and_an_empty_payload(end: End) -> None:
    link = end.connected()
    header = b"h" * HEADER_BYTES_MAX
    assert link.send(header, b"") and link.send(b"next", None)
    end.until(lambda: len(end.received) == 2)
    assert end.received == [(header, None), (b"next", None)]


def test_nothing_is_taken_while_there_is_no_connection_and_it_comes_by_itself(end: End) -> None:
    with socket.socket() as reserved:
        reserved.bind((HOST, 0))
        port = reserved.getsockname()[1]
    link = end.link(Endpoint(HOST, port))
    assert not link.send(b"lost", None)
    for _ in range(20):
        end.turn()
    assert not link.connected and not link.send(b"lost", None)
    late = StreamServer(end.poller, HOST, range(port, port + 1))
    end.until(lambda: link.connected)
    assert link.send(b"taken", b"payload")
    end.until(lambda: end.received)
    assert end.received == [(b"taken", b"payload")]
    late.close()


def test_after_a_break_it_connects_again_and_no_half_of_a_message_is_left(end: End) -> None:
    link = end.connected()
    end.until(lambda: end.server._connections)
    large = random.Random(1).randbytes(30_000_000)
    assert link.send(b"half", large)  # more than the sockets hold
    assert link._queue
    (connection,) = end.server._connections
    connection.close()
    end.until(lambda: not link.connected)
    end.until(lambda: link.connected)
    assert link.send(b"whole", b"x")
    end.until(lambda: end.received)
    assert end.received == [(b"whole", b"x")]


def test_a_peer_that_takes_nothing_is_refused_more_than_a_bound_and_the_rest_arrives(
    end: End, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "STREAM_QUEUE_BYTES_MAX", 20_000_000)
    link = end.connected()
    taken = 0
    while link.send(b"%d" % taken, bytes(1_000_000)):
        taken += 1
        assert taken < 100
    assert taken >= 20
    end.until(lambda: len(end.received) == taken)
    assert [int(header) for header, _ in end.received] == list(range(taken))
    assert link.send(b"again", None)


def test_a_host_name_is_looked_up_beside_the_thread(end: End, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up = []

    def slow(host: str, *_: object) -> list[tuple[object, ...]]:
        looked_up.append(host)
        time.sleep(0.2)
        if len(looked_up) == 1:
            raise socket.gaierror("not now")
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (HOST, 0))]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    began_s = time.monotonic()
    link = end.link(Endpoint("node.example", end.server.port))
    assert time.monotonic() - began_s < 0.1
    end.until(lambda: link.connected)
    assert looked_up == ["node.example"] * 2


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        GREETING[:3] + b"?",
        GREETING + LENGTHS.pack(HEADER_BYTES_MAX + 1, 0),
        GREETING + LENGTHS.pack(0, 0),
        GREETING + LENGTHS.pack(1, FRAME_BYTES_MAX + 1),
        random.Random(2).randbytes(4096),
        b"",
        GREETING + LENGTHS.pack(100, 70_000) + b"half",
        GREETING + LENGTHS.pack(4, 70_000) + b"half of the payload",
    ],
)
def test_what_is_no_stream_ends_its_connection_only(end: End, sent: bytes) -> None:
    link = end.connected()
    with socket.create_connection(end.endpoint) as stranger:
        end.until(lambda: len(end.server._connections) == 2)
        stranger.sendall(sent)
        with contextlib.suppress(OSError):  # closed by the server already
            stranger.shutdown(socket.SHUT_WR)
        end.until(lambda: len(end.server._connections) == 1)
    assert link.send(b"heard", None)
    end.until(lambda: end.received)
    assert end.received == [(b"heard", None)]


def test_strangers_that_say_nothing_do_not_keep_peers_out(end: End, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "STREAM_CONNECTIONS_MAX", 3)
    first = end.connected()
    assert first.send(b"first", None)
    end.until(lambda: end.received)
    with contextlib.ExitStack() as strangers:
        for _ in range(6):
            strangers.enter_context(socket.create_connection(end.endpoint))
        second = end.connected()
        assert second.send(b"second", None) and first.send(b"first again", None)
        end.until(lambda: len(end.received) == 3)
        assert len(end.server._connections) <= 3


def test_a_port_in_use_and_an_address_of_another_machine_are_said() -> None:
    poller = Poller()
    server = StreamServer(poller, HOST)
    with pytest.raises(ConfigError, match=f"every port from {server.port} to {server.port}"):
        StreamServer(poller, HOST, range(server.port, server.port + 1))
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1"):
        StreamServer(poller, "192.0.2.1")
    server.close()
