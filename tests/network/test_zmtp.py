"""ZMTP as a worker speaks it: with ZeroMQ's own links, and with those who send anything."""

from __future__ import annotations

import os
import select
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import raftlog.network.context as context_module
from raftlog.clock import monotonic_s
from raftlog.limits import FRAME_BYTES_MAX, HANDSHAKE_S, LOGIN_S
from raftlog.network import Context, Link, MessageServer, MessageStream
from raftlog.network.context import KEPT_FROM_BYTES
from raftlog.network.refusals import HANDSHAKES, LOGIN, UNFINISHED
from raftlog.network.zmtp import ROUTER, Zmtp
from raftlog.types import Endpoint
from tests.fuzz.talker import GREETING, READY
from tests.network.turning import Turning

WHOLE = b"\0\5hello"  # one short frame, the last of its message


class End(Turning):
    """A server, links of ZeroMQ, and clients that send bytes."""

    def __init__(self) -> None:
        self.context = Context()
        self.server = MessageServer("127.0.0.1", None)
        self.raws: list[socket.socket] = []
        self.received: list[list[Any]] = []

    def link(self, *, once: bool = False) -> Link:
        return Link(self.context, Endpoint("127.0.0.1", self.server.port), once=once)

    def raw(self, said: bytes) -> socket.socket:
        made = socket.create_connection(("127.0.0.1", self.server.port))
        self.raws.append(made)
        made.sendall(said)
        return made

    def turn(self) -> None:
        select.select([self.server.socket], [], [], 0.01)
        while (frames := self.server.receive()) is not None:
            self.received.append(frames)

    def hears(self, raw: socket.socket) -> bytes | None:
        """What came; b"" at the end of the connection, None when nothing has come."""
        self.turn()
        if not select.select([raw], [], [], 0)[0]:
            return None
        try:
            return raw.recv(1_000_000)
        except ConnectionError:
            return b""

    def is_over(self, raw: socket.socket) -> bool:
        return self.hears(raw) == b""

    def tick(self, after_s: float = 0.0) -> None:
        self.server.due_s = monotonic_s()
        for client in [*self.server._strangers.values(), *self.server._known.values()]:
            client.begun_s -= after_s
        self.server.tick()

    def close(self) -> None:
        for raw in self.raws:
            raw.close()
        self.server.close()
        self.context.close()


@pytest.fixture
def end() -> Iterator[End]:
    made = End()
    yield made
    made.close()


def test_a_link_of_zeromq_asks_and_hears_whatever_the_sizes(end: End) -> None:
    link = end.link()
    sizes = [0, 1, 255, 256, 70_000, KEPT_FROM_BYTES, 3_000_000]
    for size in sizes:
        payload = os.urandom(size)
        end.until(lambda payload=payload: link.send([b"header", payload]))  # type: ignore[misc]
        end.until(lambda: end.received)
        identity, *frames = end.received.pop()
        assert frames == [b"header", payload]
        assert end.server.send(identity, [b"answer", payload])
        heard: list[object] = []
        end.until(lambda: heard.append(link.receive()) or heard[-1])  # noqa: B023
        assert heard[-1] == ([b"answer", payload] if size else [b"answer"])
    assert end.server.send(identity, [b"alone"])
    end.until(lambda: heard.append(link.receive()) or heard[-1] == [b"alone"])


def test_a_large_frame_is_writable_memory_of_its_own(end: End) -> None:
    sent = os.urandom(KEPT_FROM_BYTES)
    end.raw(GREETING + READY + b"\1\6header" + struct.pack(">BQ", 2, len(sent)) + sent)
    end.until(lambda: end.received)
    _, _, frame = end.received[0]
    frame[:4] = b"\0\0\0\0"
    assert bytes(frame[4:]) == sent[4:]


def test_a_silent_link_is_kept_since_its_heartbeats_are_answered(end: End, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context_module, "HEARTBEAT_MS", 50)
    monkeypatch.setattr(context_module, "SILENCE_MS", 150)
    link = end.link(once=True)
    end.until(lambda: link.watch() or link.connected)
    until_s = monotonic_s() + 1.0
    end.until(lambda: monotonic_s() > until_s)
    link.watch()
    assert link.connected and not link.over
    assert link.send([b"still there"])
    end.until(lambda: end.received)


def test_a_link_hears_of_the_end_of_its_server(end: End) -> None:
    link = end.link(once=True)
    end.until(lambda: link.watch() or link.connected)
    end.turn()
    for client in list(end.server._known.values()):
        end.server._end(client)
    end.until(lambda: link.watch() or link.over)


def test_a_ping_is_answered_with_its_context(end: End) -> None:
    raw = end.raw(GREETING + READY + b"\4\x0c\x04PING\0\x64where")
    heard = bytearray()
    end.until(lambda: heard.extend(end.hears(raw) or b"") or heard.endswith(b"\4\x0a\x04PONGwhere"))
    assert heard.startswith(GREETING)


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"\1\0",  # ZMTP 1, without an identity
        b"\xff\0\0\0\0\0\0\0\1\x7f\1\5\0\0",  # ZMTP 2
        GREETING.replace(b"NULL\0", b"PLAIN"),
        GREETING + WHOLE,  # a message before READY
        GREETING + READY + struct.pack(">BQ", 2, FRAME_BYTES_MAX + 1),
        GREETING + b"\6" + struct.pack(">Q", 1_000_000),
    ],
)
def test_who_speaks_something_else_is_disconnected_and_the_others_are_served(end: End, said: bytes) -> None:
    raw = end.raw(said)
    end.until(lambda: end.is_over(raw))
    assert not end.received
    end.raw(GREETING + READY + WHOLE)
    end.until(lambda: end.received)


def test_of_more_than_two_frames_the_header_is_heard_and_the_connection_lives(end: End) -> None:
    end.raw(GREETING + READY + b"\1\1a" + b"\1\1b" * 300 + b"\0\1c" + b"\1\1d\0\1e")
    end.until(lambda: len(end.received) == 2)
    assert [frames[1:] for frames in end.received] == [[b"a"], [b"d", b"e"]]


def test_who_does_not_finish_its_greeting_is_disconnected(end: End) -> None:
    raw = end.raw(GREETING[:30])
    end.until(lambda: end.hears(raw))
    end.tick(HANDSHAKE_S + 1)
    end.until(lambda: end.is_over(raw))
    assert end.server.connections.refusals.by_reason[HANDSHAKES] == 1


def test_who_has_to_log_in_and_does_not_is_ended(end: End) -> None:
    raw = end.raw(GREETING + READY + WHOLE)
    other = end.raw(GREETING + READY + WHOLE)
    end.until(lambda: len(end.received) == 2)
    known = end.server._known[min(end.server._known)].identity
    end.server.connections.demand_login(lambda identity: identity == known)
    end.tick(LOGIN_S + 1)
    end.until(lambda: end.is_over(raw) != end.is_over(other))
    assert end.server.connections.refusals.by_reason[LOGIN] == 1
    assert list(end.server.connections.clients) == [known]


def test_a_message_whose_end_does_not_come_is_bounded(end: End, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raftlog.network.message_server._UNFINISHED_ONE_BYTES_MAX", 2_000_000)
    raw = end.raw(GREETING + READY + b"\1\6header" + struct.pack(">BQ", 2, 9_000_000) + bytes(1_900_000))
    end.until(lambda: any(client.stream.rest_bytes > 1_800_000 for client in end.server._known.values()))
    raw.sendall(bytes(200_000))
    end.until(lambda: end.is_over(raw))
    assert end.server.connections.refusals.by_reason[UNFINISHED] == 1


@given(
    messages=st.lists(st.lists(st.integers(0, 600), min_size=1, max_size=2), min_size=1, max_size=8),
    cuts=st.lists(st.integers(1, 400), max_size=30),
)
def test_messages_are_the_same_wherever_the_bytes_are_cut(messages: list[list[int]], cuts: list[int]) -> None:
    said, wanted = bytearray(GREETING + READY), []
    for sizes in messages:
        frames = [bytes([number % 256]) * size for number, size in enumerate(sizes)]
        wanted.append((frames[0], frames[1] if len(frames) > 1 else None))
        for number, frame in enumerate(frames):
            more = int(number + 1 < len(frames))
            said += bytes((more, len(frame))) if len(frame) < 256 else struct.pack(">BQ", more | 2, len(frame))
            said += frame
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        stream = MessageStream(ours, lambda descriptor, events: None, Zmtp(ROUTER))
        found = []
        at = 0
        for cut in [*cuts, len(said)]:
            theirs.sendall(said[at : at + cut])
            at += cut
            found += stream.receive()
        assert found == wanted
        assert stream.rest_bytes == 0
        assert not stream.closed
