"""Streams between workers: messages in their order, broken connections, and what is no stream of ours."""

from __future__ import annotations

import contextlib
import errno
import random
import socket
import threading
import time
from collections.abc import Iterator

import psutil
import pytest

import raftlog.network.stream as stream
from raftlog.errors import ConfigError
from raftlog.limits import FRAME_BYTES_MAX, HEADER_BYTES_MAX
from raftlog.network import Poller, StreamLink, StreamServer
from raftlog.network.context import KEPT_FROM_BYTES
from raftlog.network.stream import LENGTHS
from raftlog.types import Endpoint
from tests.network.turning import Turning
from tests.patience import WAIT_S

HOST = "127.0.0.1"
BOOT_ID = 2**61 + 7
GREETING = stream.GREETING.pack(stream.GREETING_MAGIC, BOOT_ID)


class End(Turning):
    """One thread that serves both ends, as each worker serves its own."""

    def __init__(self, host: str = HOST) -> None:
        self.host = host
        self.poller = Poller()
        self.server = StreamServer(self.poller, host, BOOT_ID)
        self.received: list[tuple[bytes, bytes | None]] = []
        self.links: list[StreamLink] = []

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.host, self.server.port)

    def link(self, endpoint: Endpoint | None = None, boot_id: int = BOOT_ID) -> StreamLink:
        link = StreamLink(self.poller, endpoint or self.endpoint, boot_id)
        self.links.append(link)
        return link

    def connected(self) -> StreamLink:
        link = self.link()
        self.until(lambda: link.connected)
        return link

    @property
    def connections(self) -> int:
        return len(self.server._strangers) + len(self.server._peers)

    def turn(self) -> None:
        self.server.tick()
        for link in self.links:
            link.tick()
        for ready in self.poller.poll(0.005):
            for header, payload in ready.on_ready():
                if payload is not None and len(payload) >= KEPT_FROM_BYTES:
                    assert isinstance(payload, memoryview) and not payload.readonly
                self.received.append((header, payload if payload is None else bytes(payload)))

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
    late = StreamServer(end.poller, HOST, BOOT_ID, range(port, port + 1))
    end.until(lambda: link.connected)
    assert link.send(b"taken", b"payload")
    end.until(lambda: end.received)
    assert end.received == [(b"taken", b"payload")]
    late.close()


def test_after_a_break_it_connects_again_and_no_half_of_a_message_is_left(end: End) -> None:
    link = end.connected()
    end.until(lambda: end.server._peers)
    large = random.Random(1).randbytes(30_000_000)
    assert link.send(b"half", large)  # more than the sockets hold
    assert link._queue
    (connection,) = end.server._peers
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
    answers = threading.Event()

    def slow(host: str, *_: object) -> list[tuple[object, ...]]:
        looked_up.append(host)
        assert answers.wait(WAIT_S), "the thread that waits for the answer is the one that gives it"
        if len(looked_up) == 1:
            raise socket.gaierror("not now")
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (HOST, 0))]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    link = end.link(Endpoint("node.example", end.server.port))
    end.until(lambda: looked_up)
    for _ in range(20):
        end.turn()
    assert not link.connected
    answers.set()
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
        end.until(lambda: end.connections == 2)
        stranger.sendall(sent)
        with contextlib.suppress(OSError):  # closed by the server already
            stranger.shutdown(socket.SHUT_WR)
        end.until(lambda: end.connections == 1)
    assert link.send(b"heard", None)
    end.until(lambda: end.received)
    assert end.received == [(b"heard", None)]


def test_strangers_that_say_nothing_do_not_keep_peers_out(end: End, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "STREAM_STRANGERS_MAX", 3)
    first = end.connected()
    assert first.send(b"first", None)
    end.until(lambda: end.received)
    with contextlib.ExitStack() as strangers:
        for _ in range(12):
            strangers.enter_context(socket.create_connection(end.endpoint))
        second = end.connected()
        assert second.send(b"second", None) and first.send(b"first again", None)
        end.until(lambda: len(end.received) == 3)
        assert len(end.server._strangers) <= 3 and len(end.server._peers) == 2
    assert first.connected and second.connected


def test_a_length_that_a_stranger_announces_takes_no_memory(end: End) -> None:
    """Nor does one of a peer, before its bytes come."""
    with contextlib.ExitStack() as connections:
        for greeting in (b"RLSTRM1\n", stream.GREETING.pack(stream.GREETING_MAGIC, BOOT_ID + 1)):
            raw = connections.enter_context(socket.create_connection(end.endpoint))
            raw.sendall(greeting + LENGTHS.pack(4, 20_000_000) + b"abcd")
            end.until(lambda raw=raw: closed(raw))
        assert not end.connections
        before_bytes = resident_bytes()
        raw = connections.enter_context(socket.create_connection(end.endpoint))
        raw.sendall(GREETING + LENGTHS.pack(4, 60_000_000) + b"abcd")
        end.until(lambda: any(each.payload_bytes for each in end.server._peers))
        assert resident_bytes() - before_bytes < 10_000_000


def closed(raw: socket.socket) -> bool:
    raw.setblocking(False)
    try:
        return raw.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def resident_bytes() -> int:
    return psutil.Process().memory_info().rss


@pytest.mark.parametrize(
    ("sent", "limit"),
    [
        (b"", "STREAM_GREETING_S"),
        (GREETING[:9], "STREAM_GREETING_S"),
        (GREETING + b"\0", "STREAM_SILENT_S"),
        (GREETING + LENGTHS.pack(9, 0) + b"half", "STREAM_SILENT_S"),
        (GREETING + LENGTHS.pack(4, 70_000) + b"headpart", "STREAM_SILENT_S"),
        (GREETING + LENGTHS.pack(4, 70_000) + b"headpart", "STREAM_MESSAGE_S"),
        (GREETING + LENGTHS.pack(90_000, 0) + b"headpart", "STREAM_MESSAGE_S"),
    ],
)
def test_what_does_not_go_on_is_dropped(end: End, monkeypatch: pytest.MonkeyPatch, sent: bytes, limit: str) -> None:
    """A byte now and then is no help where the whole message takes too long."""
    monkeypatch.setattr(stream, limit, 0.3)
    monkeypatch.setattr(stream, "_LOOK_S", 0.05)
    link = end.connected()
    assert link.send(b"first", None)
    end.until(lambda: end.received)
    with socket.create_connection(end.endpoint) as raw:
        raw.sendall(sent)
        end.until(lambda: end.connections == 2)

        def is_over() -> bool:
            if limit == "STREAM_MESSAGE_S":
                with contextlib.suppress(ConnectionError):
                    raw.send(b"x")
            return closed(raw)

        end.until(is_over)
    assert link.connected and link.send(b"an idle connection stays", None)
    end.until(lambda: len(end.received) == 2)


def test_messages_that_go_on_are_not_cut_off_by_their_number(end: End, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a message is half of the next one, over and over: each of them is in time."""
    monkeypatch.setattr(stream, "STREAM_MESSAGE_S", 0.3)
    monkeypatch.setattr(stream, "_LOOK_S", 0.02)
    message = LENGTHS.pack(4, 0) + b"word"
    with socket.create_connection(end.endpoint) as raw:
        raw.sendall(GREETING + message[:5])
        began_s = time.monotonic()
        while time.monotonic() < began_s + 1.0:
            raw.sendall(message[5:] + message[:5])
            end.turn()
        assert len(end.server._peers) == 1 and not closed(raw)


def test_the_unfinished_messages_of_longest_standing_make_room(end: End, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "STREAM_UNFINISHED_BYTES_MAX", 7_000_000)
    link = end.connected()
    assert link.send(b"first", None)
    end.until(lambda: end.received)
    with contextlib.ExitStack() as connections:
        raws = []
        for _ in range(5):
            raws.append(connections.enter_context(socket.create_connection(end.endpoint)))
            raws[-1].sendall(GREETING + LENGTHS.pack(4, 3_000_000) + b"head")
            end.until(lambda raws=raws: any(each.payload_bytes for each in list(end.server._peers)[-1:]))
        end.until(lambda: [closed(raw) for raw in raws] == [True, True, True, False, False])
        assert sum(each.payload_bytes for each in end.server._peers) <= 7_000_000
    assert link.connected


def test_a_port_that_another_boot_has_taken_over_is_not_asked_again_at_once(end: End) -> None:
    link = end.link(boot_id=BOOT_ID + 1)
    connects = 0
    began_s = time.monotonic()
    was = False
    while time.monotonic() < began_s + 1.0:
        end.turn()
        connects += link.connected and not was
        was = link.connected
    assert 1 <= connects <= 12
    assert not end.server._peers


def test_out_of_descriptors_the_port_is_left_alone_for_a_moment(end: End, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be ready all the time, and keep a core busy."""
    monkeypatch.setattr(stream, "_LOOK_S", 0.1)
    asked = 0

    class Exhausted:
        def __init__(self, real: socket.socket) -> None:
            self.real = real

        def accept(self) -> None:
            nonlocal asked
            asked += 1
            raise OSError(errno.EMFILE, "Too many open files")

        def __getattr__(self, name: str) -> object:
            return getattr(self.real, name)

    listener = end.server._listener
    end.server._listener = Exhausted(listener)  # type: ignore[assignment]
    link = end.link()
    began_s = time.monotonic()
    while time.monotonic() < began_s + 0.5:
        end.turn()
    assert 1 <= asked <= 8
    end.server._listener = listener
    end.until(lambda: link.connected and end.server._peers)


def test_an_ipv6_address() -> None:
    end = End("::1")
    link = end.connected()
    assert link.send(b"header", b"payload")
    end.until(lambda: end.received)
    assert end.received == [(b"header", b"payload")]
    end.close()


def test_a_port_in_use_and_an_address_of_another_machine_are_said() -> None:
    poller = Poller()
    server = StreamServer(poller, HOST, BOOT_ID)
    with pytest.raises(ConfigError, match=f"port {server.port} on {HOST} is in use"):
        StreamServer(poller, HOST, BOOT_ID, range(server.port, server.port + 1))
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1"):
        StreamServer(poller, "192.0.2.1", BOOT_ID)
    server.close()
