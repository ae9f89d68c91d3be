"""A door's loop: news come first, and thousands of idle clients cost nothing, since it looks at those that are not."""

from __future__ import annotations

import contextlib
import gc
import select
import socket
import struct
from collections.abc import Iterator

import pytest

from raftlog import limits
from raftlog.kafka.calls import DoorSettings
from raftlog.node import kafka_door
from raftlog.node.kafka_clients import KafkaClient
from raftlog.node.kafka_door import KafkaDoor, Room
from raftlog.security.policy import Access, Security, User
from raftlog.types import Endpoint

API_VERSIONS = struct.pack(">ihhih", 10, 18, 0, 1, -1)
CLIENTS = 30
WAIT_STEPS = 300  # of a loop, each of which waits for what comes


class Time:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic_s(self) -> float:
        self.now_s += 0.001
        return self.now_s


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(kafka_door, "monotonic_s", time.monotonic_s)
    return time


@pytest.fixture
def door(time: Time) -> Iterator[KafkaDoor]:
    with socket.create_server(("127.0.0.1", 0), backlog=2 * CLIENTS) as listener:
        door = KafkaDoor(
            listener, DoorSettings(1), Endpoint("127.0.0.1", 1), Room(10 * CLIENTS, 10 * CLIENTS), Access()
        )
        door.port = listener.getsockname()[1]  # type: ignore[attr-defined]
        door.secure(Security())
        yield door
        door.stop()
        door.run()
        gc.unfreeze()  # as in a process that has no door


@pytest.fixture
def clients(door: KafkaDoor) -> Iterator[list[socket.socket]]:
    """Each has asked for ApiVersions and been answered."""
    made = [socket.create_connection(("127.0.0.1", door.port)) for _ in range(CLIENTS)]  # type: ignore[attr-defined]
    for client in made:
        client.sendall(API_VERSIONS)
        client.setblocking(False)
    waiting = set(made)
    while waiting:
        door.step()
        for client in list(waiting):
            try:
                assert client.recv(10_000)
            except BlockingIOError:
                continue
            waiting.discard(client)
    yield made
    for client in made:
        client.close()


def _pass(door: KafkaDoor, time: Time, seconds: float) -> None:
    for _ in range(int(seconds)):
        time.now_s += 1.0
        door.step()


def test_clients_at_rest_are_looked_at_rarely(
    door: KafkaDoor, clients: list[socket.socket], time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pass(door, time, 2)
    looks = []
    monkeypatch.setattr(KafkaClient, "why_over", lambda client, _now_s: looks.append(client) or "")
    clients[0].sendall(API_VERSIONS[:8])  # not whole: looked at all the time
    _pass(door, time, 40)
    assert 40 <= len(looks) < 40 + 3 * CLIENTS


def test_those_that_stay_idle_too_long_are_ended(door: KafkaDoor, clients: list[socket.socket], time: Time) -> None:
    _pass(door, time, limits.KAFKA_IDLE_S - 100)
    assert door.closed == 0
    clients[0].sendall(API_VERSIONS)
    _pass(door, time, 130)
    assert door.closed == CLIENTS - 1


def test_a_request_that_does_not_go_on_ends_its_connection(
    door: KafkaDoor, clients: list[socket.socket], time: Time
) -> None:
    clients[0].sendall(API_VERSIONS[:8])
    _pass(door, time, limits.KAFKA_REQUEST_S - 2)
    assert door.closed == 0
    _pass(door, time, 5)
    assert door.closed == 1


def test_news_are_taken_in_before_what_clients_have_sent(door: KafkaDoor, clients: list[socket.socket]) -> None:
    """Another node that had heard of it sends clients here."""
    said, told = socket.socketpair()
    served: list[str] = []

    def hear(_events: int) -> None:
        told.recv(1)
        served.append(door.served())

    door.watch_news(told.fileno(), hear)
    before = door.served()
    clients[0].sendall(API_VERSIONS)
    said.sendall(b"!")
    while not served:
        door.step()
    assert served == [before]
    assert door.served() != before
    door.ignore(told.fileno())
    said.close()
    told.close()


def test_who_does_not_log_in_is_disconnected_after_a_while(
    door: KafkaDoor, clients: list[socket.socket], time: Time
) -> None:
    assert clients
    door.secure(Security(offset=1, users={"alice": User(credentials=(), epoch=1)}))
    _pass(door, time, limits.LOGIN_S + 30)
    assert door.closed == CLIENTS


def test_a_connection_with_many_requests_in_flight_is_not_read_on(
    door: KafkaDoor, clients: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "KAFKA_REQUESTS_IN_FLIGHT", 3)
    client = next(iter(door._clients.values()))
    slots = [client.connection.reserve() for _ in range(3)]
    client.write(0.0)
    assert not client._events & select.EPOLLIN
    slots[0].buffers = []
    client.write(0.0)
    assert client._events & select.EPOLLIN


def test_who_is_held_back_is_not_read_and_not_ended_for_what_is_half_there(
    door: KafkaDoor, clients: list[socket.socket]
) -> None:
    client = next(iter(door._clients.values()))
    list(client.connection.receive(API_VERSIONS[:8]))
    client.connection.held = True
    client.write(0.0)
    assert not client._events & select.EPOLLIN
    late_s = client.begun_s + limits.KAFKA_REQUEST_S + 1
    client.active_s = late_s
    assert client.why_over(late_s) == ""
    client.connection.held = False
    assert client.why_over(late_s + 1) == "" and client.why_over(late_s + limits.KAFKA_REQUEST_S + 1)


class Answers:
    """How many a client has got."""

    def __init__(self, client: socket.socket) -> None:
        self._client = client
        self._data = b""

    def count(self) -> int:
        with contextlib.suppress(BlockingIOError):
            self._data += self._client.recv(1 << 20)
        count = at = 0
        while at + 4 <= len(self._data):
            at += 4 + int.from_bytes(self._data[at : at + 4], "big")
            count += at <= len(self._data)
        return count


def test_a_client_that_asks_much_at_once_has_no_more_than_its_turn(
    door: KafkaDoor, clients: list[socket.socket]
) -> None:
    many, other = clients[:2]
    many.sendall(API_VERSIONS * 200)
    other.sendall(API_VERSIONS)
    of_many, of_other = Answers(many), Answers(other)
    for _ in range(WAIT_STEPS):
        door.step()
        if of_other.count():
            break
    assert of_other.count() == 1 and of_many.count() < 50
    for _ in range(WAIT_STEPS):
        if of_many.count() == 200:
            break
        door.step()
    assert of_many.count() == 200


def test_all_that_came_is_answered_though_nothing_more_will(door: KafkaDoor, clients: list[socket.socket]) -> None:
    client = clients[0]
    client.sendall(API_VERSIONS * 50)
    client.shutdown(socket.SHUT_WR)
    answers = Answers(client)
    for _ in range(WAIT_STEPS):
        if answers.count() == 50:
            break
        door.step()
    assert answers.count() == 50


def test_what_a_client_left_half_sent_is_given_up_with_it(door: KafkaDoor, clients: list[socket.socket]) -> None:
    """At once, not when the collector finds it: half a request may be 100 MB."""
    address = "{}:{}".format(*clients[0].getsockname())
    (client,) = [each for each in door._clients.values() if each.connection.session.address == address]
    clients[0].sendall(struct.pack(">ihh", 1 << 20, 0, 9) + bytes(1000))
    for _ in range(WAIT_STEPS):
        if client.connection.unfinished_bytes:
            break
        door.step()
    assert client.connection.unfinished_bytes
    clients[0].close()
    for _ in range(WAIT_STEPS):
        if client not in door._clients.values():
            break
        door.step()
    assert client not in door._clients.values()
    assert client.held_bytes == 0


def test_formats_are_kept_from_the_collector(door: KafkaDoor, clients: list[socket.socket]) -> None:
    """It would look at all of them again and again, and everybody would wait for it."""
    assert gc.get_freeze_count() > 0
