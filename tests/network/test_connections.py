"""What connections of a Server may hold: answers that are not taken, messages without an end, connections as such."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterator

import pytest

import raftlog.network.connections as connections
import raftlog.network.context as context
from raftlog.clock import NEVER_S, monotonic_s
from raftlog.network import Context, Server
from raftlog.types import Endpoint
from tests.fuzz.talker import READY, greet
from tests.patience import WAIT_S

MEGABYTE = bytes(1_000_000)
WHOLE = b"\0\5hello"  # one short frame, the last of its message


class End:
    """A server, and clients that speak ZeroMQ byte by byte, so that they can leave off anywhere."""

    def __init__(self) -> None:
        self.context = Context()
        self.server = Server(self.context, "127.0.0.1")
        self.raws: list[socket.socket] = []
        self.received: list[list[bytes]] = []

    def client(self, said: bytes = WHOLE) -> socket.socket:
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        raw.connect(Endpoint("127.0.0.1", self.server.port))
        raw.settimeout(10)
        greet(raw)
        raw.sendall(READY + said)
        self.raws.append(raw)
        return raw

    def met(self) -> tuple[socket.socket, bytes]:
        """A client, and what the server knows it by."""
        before = len(self.received)
        raw = self.client()
        self.until(lambda: len(self.received) > before)
        return raw, self.received[-1][0]

    def turn(self) -> None:
        while (frames := self.server.receive()) is not None:
            self.received.append(frames)

    def tick(self) -> None:
        self.server.due_s = monotonic_s()
        self.server.tick()

    def until(self, found: Callable[[], object]) -> None:
        deadline_s = time.monotonic() + WAIT_S
        while not found():
            self.turn()
            assert time.monotonic() < deadline_s, "waited in vain"
            time.sleep(0.005)

    def close(self) -> None:
        for raw in self.raws:
            raw.close()
        self.context.close()


@pytest.fixture
def end(monkeypatch: pytest.MonkeyPatch) -> Iterator[End]:
    monkeypatch.setattr(context, "HEARTBEAT_MS", 0)  # these clients answer none, and would be gone after a while
    made = End()
    yield made
    made.close()


def is_over(raw: socket.socket) -> bool:
    raw.settimeout(0.05)
    try:
        while raw.recv(1_000_000):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


def test_a_client_that_does_not_read_is_disconnected_at_a_bound(end: End, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "CLIENT_WAITING_BYTES_MAX", 20_000_000)
    raw, identity = end.met()
    other, other_identity = end.met()
    sent = 0
    while end.server.send(identity, [b"header", MEGABYTE]):
        sent += 1
        assert sent < 60
    assert 19 <= sent < 30  # the kernel took some
    assert end.server.connections.refusals.ended == 1
    end.until(lambda: not end.server.send(identity, [b"gone"]))
    assert is_over(raw)
    assert end.server.send(other_identity, [b"answer"]) and not is_over(other)
    assert end.server.connections._waiting_bytes < 1000


def test_small_answers_that_are_not_read_count_as_well(end: End, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "CLIENT_WAITING_BYTES_MAX", 5_000_000)
    _, identity = end.met()
    sent = 0
    while end.server.send(identity, [bytes(2000)]):
        sent += 1
        assert sent < 19_000
    assert end.server.connections.refusals.ended == 1


def test_large_answers_beyond_the_bound_are_refused_and_the_client_stays(
    end: End, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "CLIENT_WAITING_BYTES_MAX", 20_000_000)
    raw, identity = end.met()
    large = bytes(3_000_000)
    sent = 0
    while end.server.send(identity, [large]):
        sent += 1
        assert sent < 30
    assert end.server.send(identity, [b"a refusal is small"]) and end.server.connections.refusals.ended == 0
    is_over(raw)  # reads
    end.until(lambda: end.server.send(identity, [large]))


def test_a_client_that_reads_is_sent_any_amount(end: End, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "CLIENT_WAITING_BYTES_MAX", 5_000_000)
    raw, identity = end.met()
    for _ in range(40):
        assert end.server.send(identity, [b"header", MEGABYTE])
        came = 0
        while came < 1_000_000:
            came += len(raw.recv(1_000_000))
    assert end.server.connections.refusals.ended == 0


def test_all_clients_together_are_bounded_and_go_on_when_some_have_read(
    end: End, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "CLIENT_WAITING_BYTES_MAX", 20_000_000)
    monkeypatch.setattr(connections, "CLIENTS_WAITING_BYTES_MAX", 30_000_000)
    monkeypatch.setattr(connections, "_LOOK_AT_ALL_S", 0.0)
    slow = [end.met() for _ in range(3)]
    payload = bytes(2_000_000)
    for _, identity in slow:
        for _ in range(9):
            end.server.send(identity, [payload])
    assert end.server.connections._waiting_bytes <= 30_000_000
    _, identity = end.met()
    end.until(lambda: not end.server.send(identity, [payload]))  # the kernel holds some of each, unread
    assert end.server.send(identity, [b"a refusal is small"])
    assert end.server.connections.refusals.ended == 0

    def has_room() -> bool:
        for raw, _ in slow:
            is_over(raw)  # reads
        return end.server.send(identity, [payload])

    end.until(has_room)
    # Those who let their answers wait for long make room.
    monkeypatch.setattr(connections, "CLIENT_SILENT_S", 0.1)
    for _, slow_identity in slow:
        for _ in range(9):
            end.server.send(slow_identity, [payload])
    end.until(lambda: not end.server.send(identity, [payload]) or end.server.connections.refusals.ended)
    end.until(lambda: end.server.send(identity, [payload]) and end.server.connections.refusals.ended)


def test_a_client_that_takes_nothing_for_long_is_disconnected(end: End, monkeypatch: pytest.MonkeyPatch) -> None:
    raw, identity = end.met()
    _, reader = end.met()
    for _ in range(10):
        assert end.server.send(identity, [MEGABYTE])
    assert end.server.send(reader, [b"answer"])
    monkeypatch.setattr(connections, "CLIENT_SILENT_S", 0.3)

    def ended() -> int:
        end.tick()
        return end.server.connections.refusals.ended

    end.until(ended)
    assert is_over(raw)
    time.sleep(0.4)
    end.tick()
    assert end.server.send(reader, [b"still there"]) and end.server.connections.refusals.ended == 1


def frame(size: int, *, more: bool) -> bytes:
    return bytes([2 + more]) + struct.pack(">Q", size) + bytes(size)


def test_a_message_whose_end_does_not_come_is_dropped_at_a_bound(end: End, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_SCAN_FROM_BYTES", 0)
    monkeypatch.setattr(connections, "_UNFINISHED_ONE_BYTES_MAX", 3_000_000)
    whole = end.client(frame(100, more=True) + frame(2_900_000, more=False))
    half = end.client(frame(2_000_000, more=True))
    stranger = end.client(b"".join(frame(100_000, more=True) for _ in range(40)))
    known = end.client(WHOLE + frame(4_000_000, more=True))
    end.until(lambda: len(end.received) == 2)

    def ended() -> bool:
        end.turn()
        end.tick()
        return end.server.connections.refusals.ended == 2

    end.until(ended)
    assert is_over(stranger) and is_over(known)
    assert not is_over(whole) and not is_over(half)
    half.sendall(frame(10, more=False))
    end.until(lambda: len(end.received) == 3)


def test_a_process_that_grows_looks_again_soon(end: End, monkeypatch: pytest.MonkeyPatch) -> None:
    resident_bytes = 100_000_000
    monkeypatch.setattr(connections, "_resident_bytes", lambda: resident_bytes)

    end.met()

    def due_in_s() -> float:
        end.tick()
        return round(end.server.due_s - monotonic_s(), 1)

    end.tick()
    assert due_in_s() == 1.0
    for _ in range(3):
        resident_bytes += 20_000_000
        assert due_in_s() == 0.1
    resident_bytes += 1_000_000
    assert due_in_s() == 1.0


def test_a_server_looks_at_nothing_until_somebody_connects_and_again_once_all_are_gone(end: End) -> None:
    assert end.server.due_s == NEVER_S
    stranger = socket.create_connection(("127.0.0.1", end.server.port))  # who never says a word
    end.raws.append(stranger)
    end.until(lambda: end.server.due_s < NEVER_S)
    end.tick()
    assert end.server.due_s < NEVER_S
    stranger.close()

    def rests() -> bool:
        end.tick()
        return end.server.due_s == NEVER_S

    end.until(rests)
    end.met()
    assert end.server.due_s < NEVER_S


def test_unfinished_messages_of_many_connections_are_bounded(end: End, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_SCAN_FROM_BYTES", 0)
    monkeypatch.setattr(connections, "UNFINISHED_BYTES_MAX", 3_000_000)
    raws = [end.client(frame(1_000_000, more=True)) for _ in range(5)]

    def ended() -> bool:  # nobody receives: a process whose strangers never end a message is not woken by them
        end.tick()
        return sum(map(is_over, raws)) == 3

    end.until(ended)
    time.sleep(0.1)
    end.turn()
    end.tick()
    assert end.server.connections.refusals.ended == 3


def test_connections_are_bounded_and_those_that_say_nothing_go_first(end: End) -> None:
    end.server.connections._connections_max = 4
    _, identity = end.met()
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(("127.0.0.1", end.server.port))) for _ in range(12)]
        # They wait in the kernel until ZeroMQ has taken them.

        def bounded() -> bool:
            end.turn()
            end.tick()
            return sum(map(is_over, silent)) >= 9

        end.until(bounded)
        assert end.server.send(identity, [b"still there"])


def test_a_host_has_a_share_of_the_connections_and_those_that_ended_do_not_count(
    end: End, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "CONNECTIONS_PER_ADDRESS_MAX", 3)
    known = [end.met() for _ in range(3)]
    one_more = end.client()
    end.until(lambda: end.server.connections.refusals.ended)
    assert is_over(one_more) and not any(is_over(raw) for raw, _ in known)
    assert end.server.connections.refusals.last == "127.0.0.1: it has 3 connections"
    assert len(end.server.connections.clients) == 3
    known[0][0].close()

    def gets_in() -> bool:
        raw, identity = end.met()
        return identity in end.server.connections.clients and not is_over(raw)

    end.until(gets_in)
    assert all(end.server.send(identity, [b"still there"]) for _, identity in known[1:])


def test_who_has_to_log_in_and_does_not_is_ended(end: End, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LOGIN_S", 0.3)
    monkeypatch.setattr(connections, "_STRANGERS_S", 0.0)
    (good, known), (bad, _) = end.met(), end.met()
    found = end.server.connections
    with contextlib.ExitStack() as stack:
        silent = [end.client(b""), stack.enter_context(socket.create_connection(("127.0.0.1", end.server.port)))]
        found.demand_login(lambda identity: identity == known)

        def all_over() -> bool:
            end.tick()
            return all(map(is_over, [bad, *silent]))

        end.until(all_over)
    assert not is_over(good) and list(found.clients) == [known]
    assert found.refusals.by_reason == {"login": 3}
    assert found.refusals.last.startswith("127.0.0.1: it has not logged in for ")


def test_nobody_is_ended_who_need_not_log_in(end: End, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LOGIN_S", 0.0)
    monkeypatch.setattr(connections, "_STRANGERS_S", 0.0)
    raw, _ = end.met()
    end.server.connections.demand_login(lambda identity: False)
    end.server.connections.demand_login(None)
    end.tick()
    assert not is_over(raw) and not end.server.connections.refusals.ended


def test_the_time_to_log_in_begins_when_it_is_demanded(end: End, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LOGIN_S", 1000.0)
    raw, identity = end.met()
    end.server.connections.clients[identity].begun_s -= 2000.0
    for _ in range(2):
        end.server.connections.demand_login(lambda identity: False)  # the second time it only changes who is known
        end.tick()
    assert not is_over(raw)
