"""Handshakes that nobody means well: each ends, alone and by the thousand, and who has shown a certificate goes on.

Harmless input only: plain bytes, half handshakes, other names, slow ones.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from raftlog.limits import STRANGERS_MAX
from raftlog.node.local import LocalCluster
from raftlog.types import Endpoint
from tests.kafka.door import encode
from tests.node.asking import until
from tests.node.started import StartedNode, free_port, started
from tests.patience import WAIT_S
from tests.security.made import Made
from tests.security.renegotiation import renegotiates

pytestmark = pytest.mark.cluster
ANSWER_S = 5.0  # within it a healthy client is answered, on a busy machine
SLOW = 1_000
SLOW_S = 3.0
MEMORY_BYTES = 64 * 1024 * 1024  # STRANGERS_MAX handshakes of some 40 KB, at both doors
API_VERSIONS = 18
ALLOW_CLIENT_RENEGOTIATION = 1 << 8  # SSL_OP_ALLOW_CLIENT_RENEGOTIATION, which Python does not name


class Secured(NamedTuple):
    node: StartedNode
    doors: dict[str, Endpoint]
    files: Path

    def context(self, *, shows: bool = True) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.files / "ca.pem")
        if shows:
            context.load_cert_chain(self.files / "client.pem", self.files / "client.key")
        return context

    @property
    def processes(self) -> list[psutil.Process]:
        return [psutil.Process(self.node.process.pid), *self.node.descendants()]

    @property
    def descriptors(self) -> int:
        return sum(each.num_fds() for each in self.processes)

    @property
    def memory_bytes(self) -> int:
        return sum(each.memory_info().rss for each in self.processes)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("hostile")
    made = Made(folder)
    doors = {name: Endpoint("127.0.0.1", free_port()) for name in ("native", "kafka")}
    arguments = ["--id", "1", "--data", "data", "--security", made.node(1)]
    arguments += ["--listen", str(doors["native"]), "--kafka-listen", str(doors["kafka"])]
    with started(folder, *arguments) as node:
        node.ready()
        yield Secured(node, doors, Path(made.client("alice")))


class Healthy:
    """One that has shown its certificate before, and asks again and again."""

    def __init__(self, secured: Secured) -> None:
        raw = socket.create_connection(secured.doors["kafka"], WAIT_S)
        self.socket = secured.context().wrap_socket(raw, server_hostname="127.0.0.1")
        self.asks()

    def asks(self) -> None:
        frame = encode(API_VERSIONS, 0, {})
        began_s = time.monotonic()
        self.socket.sendall(len(frame).to_bytes(4, "big") + frame)
        size = int.from_bytes(self._receive(4), "big")
        self._receive(size)
        assert time.monotonic() - began_s < ANSWER_S

    def _receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            assert more, "a healthy client was disconnected"
            data += more
        return data


def hello(secured: Secured) -> bytes:
    """The first message of a client, as it should be."""
    outgoing = ssl.MemoryBIO()
    client = secured.context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="127.0.0.1")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def ends(connection: socket.socket) -> bool:
    """By the node. An alert of TLS may come first."""
    connection.settimeout(WAIT_S)
    try:
        while connection.recv(65536):
            pass
    except ConnectionError:
        pass
    return True


PLAIN: dict[str, Callable[[bytes], bytes]] = {
    "a request of Kafka's": lambda _: b"\0\0\0\x18\0\x12\0\0\0\0\0\x01\0\x04test",
    "HTTP": lambda _: b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "zeros": lambda _: bytes(2000),
    "a record that is longer than any": lambda _: b"\x16\x03\x01\xff\xff" + bytes(20_000),
    "a record of another kind": lambda _: b"\x17\x03\x03\x00\x20" + bytes(32),
    "a hello that is damaged": lambda whole: whole[:50] + bytes(len(whole) - 50),
    "a hello twice": lambda whole: whole + whole,
}


@pytest.mark.parametrize("door", ["native", "kafka"])
@pytest.mark.parametrize("what", PLAIN)
def test_what_is_no_handshake_ends_at_once(secured: Secured, door: str, what: str) -> None:
    healthy = Healthy(secured)
    with socket.create_connection(secured.doors[door], WAIT_S) as stranger:
        stranger.sendall(PLAIN[what](hello(secured)))
        assert ends(stranger)
    healthy.asks()


@pytest.mark.parametrize("door", ["native", "kafka"])
def test_a_handshake_that_is_cut_anywhere_leaves_nothing(secured: Secured, door: str) -> None:
    healthy, whole = Healthy(secured), hello(secured)
    before = secured.descriptors
    for size in (1, 5, 6, 100, len(whole) - 1, len(whole)):
        for _ in range(5):
            with socket.create_connection(secured.doors[door], WAIT_S) as stranger:
                stranger.sendall(whole[:size])
                if size == len(whole):
                    assert stranger.recv(1), "the node's half of the handshake"
    until(lambda: secured.descriptors <= before, WAIT_S)
    healthy.asks()


@pytest.mark.parametrize("door", ["native", "kafka"])
def test_whatever_name_somebody_asks_for_the_node_shows_its_own(secured: Secured, door: str) -> None:
    context = secured.context()
    context.check_hostname = False
    for name in ("else.example.org", "x" * 63 + ".example.org"):
        raw = socket.create_connection(secured.doors[door], WAIT_S)
        with context.wrap_socket(raw, server_hostname=name) as connection:
            names = dict(connection.getpeercert()["subjectAltName"])  # type: ignore[index, arg-type]
            assert names["URI"] == "urn:raftlog:orders:node:1"


def test_a_second_handshake_is_refused_at_kafkas_door(secured: Secured) -> None:
    """TLS 1.2 has it: a handshake for each few bytes of a client."""
    healthy = Healthy(secured)
    assert not renegotiates(secured.doors["kafka"], int(WAIT_S))
    healthy.asks()


def test_the_client_of_the_test_before_gets_it_where_it_may(secured: Secured) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(secured.files.parent / "node-1" / "node.pem", secured.files.parent / "node-1" / "node.key")
    context.options |= ALLOW_CLIENT_RENEGOTIATION

    def serve() -> None:
        connected, _ = listener.accept()
        with contextlib.suppress(OSError), context.wrap_socket(connected, server_side=True) as connection:
            connection.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve)
        server.start()
        assert renegotiates(Endpoint(*listener.getsockname()), int(WAIT_S))
        server.join(WAIT_S)
    assert not server.is_alive()


def test_raftlogs_own_door_speaks_no_version_of_tls_that_has_a_second_handshake(secured: Secured) -> None:
    context = secured.context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(secured.doors["native"], WAIT_S) as raw, pytest.raises(ssl.SSLError):
        context.wrap_socket(raw, server_hostname="127.0.0.1")


def test_a_client_that_speaks_tls_to_a_plain_port_is_disconnected(cluster: LocalCluster, secured: Secured) -> None:
    whole = hello(secured)
    for endpoint in (cluster.kafka_endpoints or cluster.endpoints).values():
        with socket.create_connection(endpoint, WAIT_S) as stranger:
            stranger.sendall(whole)
            assert ends(stranger)


@pytest.mark.parametrize("door", ["native", "kafka"])
def test_a_thousand_slow_handshakes_are_bounded_and_a_healthy_client_goes_on(secured: Secured, door: str) -> None:
    healthy, whole = Healthy(secured), hello(secured)
    before, memory_bytes = secured.descriptors, secured.memory_bytes
    strangers = []
    for number in range(SLOW):
        strangers.append(socket.create_connection(secured.doors[door], WAIT_S))
        strangers[-1].setblocking(False)
        if number % 50 == 0:
            healthy.asks()
    began_s, most = time.monotonic(), 0
    for at in itertools.count():
        for stranger in strangers:
            try:
                stranger.send(whole[at % len(whole) :][:1])
            except (ConnectionError, BlockingIOError):
                continue  # it had to make room
        healthy.asks()
        most = max(most, secured.descriptors)
        if time.monotonic() - began_s > SLOW_S:
            break
    assert most <= before + STRANGERS_MAX + 50, "the oldest of them make room"
    assert secured.memory_bytes - memory_bytes < MEMORY_BYTES
    Healthy(secured).asks()  # somebody new gets in
    for stranger in strangers:
        stranger.close()
    until(lambda: secured.descriptors <= before + 1, WAIT_S)
    healthy.asks()
