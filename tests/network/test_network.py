"""Servers, links and the poller over real loopback sockets."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from raftlog.errors import ConfigError
from raftlog.limits import FRAMES_PER_MESSAGE_MAX
from raftlog.network import Context, Link, Poller, Server
from raftlog.network.context import KEPT_FROM_BYTES
from raftlog.types import Endpoint
from tests.fuzz.talker import greet, read_whole, ready
from tests.patience import WAIT_S


@pytest.fixture
def context() -> Iterator[Context]:
    context = Context()
    yield context
    context.close()


def until(condition: Callable[[], object], seconds: float = WAIT_S) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.002)


def receive(end: Server | Link, seconds: float = 5.0) -> list[bytes]:
    found: list[list[bytes]] = []

    def look() -> bool:
        frames = end.receive()
        if frames is not None:
            found.append(frames)
        return bool(found)

    until(look, seconds)
    return found[0]


def watched(link: Link) -> Link:
    link.watch()
    return link


def test_frames_go_both_ways_untouched(context: Context) -> None:
    server = Server(context, "127.0.0.1")
    link = Link(context, Endpoint("127.0.0.1", server.port))
    large = os.urandom(3_000_000)
    until(lambda: link.send([b"header", large, memoryview(b"tail"), b""]))
    identity, *frames = receive(server)
    assert frames == [b"header", large, b"tail", b""]
    assert server.send(identity, [b"answer", bytearray(b"x" * 100_000)])
    assert receive(link) == [b"answer", b"x" * 100_000]


def test_a_large_frame_is_received_as_writable_memory_of_its_own(context: Context) -> None:
    server = Server(context, "127.0.0.1")
    link = Link(context, Endpoint("127.0.0.1", server.port))
    sent = os.urandom(KEPT_FROM_BYTES)
    until(lambda: link.send([b"header", sent]))
    until(lambda: link.send([b"header", sent]))
    (_, _, first), (_, _, second) = receive(server), receive(server)
    first[:4] = b"\0\0\0\0"
    assert (bytes(first[4:]), bytes(second)) == (sent[4:], sent)
    until(lambda: link.send([b"header", sent[1:]]))
    assert type(receive(server)[2]) is bytes


def test_nothing_waiting_is_none_at_once(context: Context) -> None:
    server = Server(context, "127.0.0.1")
    link = Link(context, Endpoint("127.0.0.1", server.port))
    assert server.receive() is None
    assert link.receive() is None


def test_a_link_without_a_connection_refuses(context: Context) -> None:
    link = Link(context, Endpoint("127.0.0.1", 1))
    assert not link.send([b"lost"])


@pytest.mark.parametrize("host", ["a b", "*", "é", "a/b"])
def test_what_cannot_be_a_host_is_a_clear_error(context: Context, host: str) -> None:
    with pytest.raises(ConfigError, match="is not an address"):
        Link(context, Endpoint(host, 7071), watched=True)


def test_an_answer_to_a_peer_that_left_is_refused(context: Context) -> None:
    server = Server(context, "127.0.0.1")
    link = Link(context, Endpoint("127.0.0.1", server.port))
    until(lambda: link.send([b"hello"]))
    identity = receive(server)[0]
    link.close()

    def refused() -> bool:
        server.receive()
        return not server.send(identity, [b"late"])

    until(refused)


def test_an_unknown_identity_is_refused(context: Context) -> None:
    server = Server(context, "127.0.0.1")
    assert not server.send(b"nobody", [b"x"])


def test_a_watched_link_counts_losses_and_reconnects(context: Context) -> None:
    server = Server(context, "127.0.0.1")
    link = Link(context, Endpoint("127.0.0.1", server.port), watched=True)
    until(lambda: watched(link).connected)
    assert link.losses == 0
    port = server.port
    server.close()
    until(lambda: not watched(link).connected)
    assert link.losses == 1
    server = Server(context, "127.0.0.1", port)
    until(lambda: watched(link).connected)
    until(lambda: link.send([b"again"]))
    assert receive(server)[1:] == [b"again"]


def test_a_link_made_once_hands_out_what_had_arrived_before_it_broke(context: Context) -> None:
    answers = [b"%d" % number for number in range(100)]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        link = Link(context, Endpoint("127.0.0.1", port), once=True)
        # The last answer and the end of the connection leave in one go.
        with listener.accept()[0] as raw:
            greet(raw)
            read_whole(raw, read_whole(raw, 2)[1])  # its READY: what is left unread would reset the connection
            raw.sendall(ready(b"ROUTER") + b"".join(bytes([0, len(answer)]) + answer for answer in answers))
    poller = Poller()
    poller.register(link)

    def over() -> bool:
        poller.poll(0.1)
        link.watch()
        return link.over

    until(over)
    assert not link.connected
    assert [link.receive() for _ in range(101)] == [[answer] for answer in answers] + [None]


def test_a_link_made_once_does_not_come_back(context: Context) -> None:
    server = Server(context, "127.0.0.1")
    endpoint = Endpoint("127.0.0.1", server.port)
    once, again = Link(context, endpoint, once=True), Link(context, endpoint, watched=True)
    for _ in range(3):
        until(lambda: watched(again).connected and (watched(once).connected or once.over))
        server.close()
        until(lambda: not watched(again).connected and watched(once).over)
        server = Server(context, endpoint.host, endpoint.port)
    until(lambda: again.send([b"came back"]))
    assert receive(server)[1:] == [b"came back"]
    assert watched(once).over and not once.connected


def test_a_link_made_once_is_over_when_nobody_is_there(context: Context) -> None:
    for endpoint in (Endpoint("127.0.0.1", 1), Endpoint("no.such.host.invalid", 1)):
        link = Link(context, endpoint, once=True)
        until(lambda link=link: watched(link).over)
        assert link.losses == 0


def test_a_taken_port_is_a_clear_error(context: Context) -> None:
    server = Server(context, "127.0.0.1")
    with pytest.raises(ConfigError, match=f"port {server.port} on 127.0.0.1 is in use"):
        Server(context, "127.0.0.1", server.port)


def test_a_range_gives_its_first_free_port(context: Context) -> None:
    taken = Server(context, "127.0.0.1")
    # The neighbours of an ephemeral port are nearly always free; a longer range makes that certain.
    ports = range(taken.port, taken.port + 20)
    held = [Server(context, "127.0.0.1", ports)]
    assert held[0].port in ports[1:]
    with pytest.raises(ConfigError, match="every port from"):
        for _ in ports:
            held.append(Server(context, "127.0.0.1", ports))


@pytest.mark.parametrize("host", ["203.0.113.7", "no.such.host.invalid"])
def test_a_foreign_host_is_a_clear_error(context: Context, host: str) -> None:
    with pytest.raises(ConfigError, match=host):
        Server(context, host)


def test_localhost_can_be_bound_by_name(context: Context) -> None:
    server = Server(context, "localhost")
    link = Link(context, Endpoint("localhost", server.port))
    until(lambda: link.send([b"x"]))
    assert receive(server)[1:] == [b"x"]


def test_too_many_frames_are_dropped_and_counted(context: Context) -> None:
    server = Server(context, "127.0.0.1")
    link = Link(context, Endpoint("127.0.0.1", server.port))
    until(lambda: link.send([b"first"]))
    assert link.send([b"x"] * (FRAMES_PER_MESSAGE_MAX + 1))
    assert link.send([b"y"] * FRAMES_PER_MESSAGE_MAX)
    assert receive(server)[1:] == [b"first"]
    assert receive(server)[1:] == [b"y"] * FRAMES_PER_MESSAGE_MAX
    assert server.dropped == 1


def test_poll_returns_each_ready_object_once_and_waits_as_long_as_told(context: Context) -> None:
    server = Server(context, "127.0.0.1")
    link = Link(context, Endpoint("127.0.0.1", server.port), watched=True)
    reading, writing = os.pipe()
    poller = Poller()
    poller.register(server)
    poller.register(reading)
    until(lambda: poller.poll(0.1) == [server])  # somebody has connected
    assert server.receive() is None
    started = time.monotonic()
    assert poller.poll(0.05) == []
    assert time.monotonic() - started >= 0.049
    until(lambda: link.send([b"a"]))
    until(lambda: link.send([b"b"]))
    os.write(writing, b"!")
    until(lambda: set(poller.poll(0.1)) == {server, reading})
    poller.unregister(server)
    assert poller.poll(0.0) == [reading]
    os.read(reading, 1)
    poller.register(link)
    until(lambda: poller.poll(0.1) == [link])  # the monitor says that it is connected
    link.watch()
    assert poller.poll(0.0) == []
    os.close(writing)
    assert poller.poll(0.1) == [reading]  # end of file counts as ready
    os.close(reading)


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n" * 100, id="http"),
        pytest.param(b"GET / HTTP/1.1\r\nAccept: text/html, " + bytes(range(256)) * 4, id="http, as ZMTP 1 a message"),
        pytest.param(b"\x16\x03\x01" + bytes(20) + b"\x02\x00x", id="TLS, as ZMTP 1 a message"),
        pytest.param(b"\x01\x00" + b"\x02\x00x", id="ZMTP 1"),
        pytest.param(b"\xff" + bytes(8) + b"\x7f" + b"\x01\x05" + b"\x00\x00" + b"\x00\x01x", id="ZMTP 2"),
    ],
)
def test_who_speaks_no_zmtp_of_today_is_disconnected(context: Context, said: bytes) -> None:
    server = Server(context, "127.0.0.1")
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.settimeout(60)
        raw.sendall(said)
        with contextlib.suppress(ConnectionResetError):
            while raw.recv(100):
                pass
    assert server.receive() is None
    link = Link(context, Endpoint("127.0.0.1", server.port))
    until(lambda: link.send([b"still here"]))
    assert receive(server)[1:] == [b"still here"]
