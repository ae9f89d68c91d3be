"""Streams within a node: whole messages in their order, ends that break or are slow, and what is no message."""

from __future__ import annotations

import os
import random
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator

import pytest

from raftlog.limits import FRAME_BYTES_MAX, HEADER_BYTES_MAX
from raftlog.network import Context, Link, LocalServer, MessageStream, Poller, connect_local, local, message_stream
from raftlog.network.context import KEPT_FROM_BYTES
from raftlog.types import Endpoint
from tests.patience import WAIT_S

LENGTHS = struct.Struct(">II")


class Ends:
    """The two ends of a stream, and what each waits for."""

    def __init__(self) -> None:
        self.boot_id = random.SystemRandom().getrandbits(62)
        self.server = LocalServer(self.boot_id)
        self.waits: dict[int, int] = {}
        asking = connect_local(self.boot_id, self.waits.__setitem__)
        accepted = self.server.accept()
        assert asking is not None and accepted is not None
        self.asking = asking
        self.serving = MessageStream(accepted, self.waits.__setitem__)

    def received(self, count: int) -> list[tuple[bytes, bytes | None]]:
        """By the serving end, while the asking one goes on where it waits to send."""
        found: list[tuple[bytes, bytes | None]] = []

        def come() -> bool:
            if self.waits.get(self.asking.fileno(), 0) & select.POLLOUT:
                self.asking.flush()
            for header, payload in self.serving.receive():
                assert not (isinstance(payload, memoryview) and len(payload) < KEPT_FROM_BYTES), "keeps others' bytes"
                found.append((header, None if payload is None else bytes(payload)))
            return len(found) >= count or self.serving.closed

        until(come)
        return found

    def close(self) -> None:
        for end in (self.asking, self.serving, self.server):
            end.close()


def until(come: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not come():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.0005)


def raw(header: bytes, payload: bytes = b"") -> bytes:
    return LENGTHS.pack(len(header), len(payload)) + header + payload


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.close()


@pytest.fixture
def stranger(ends: Ends) -> Iterator[socket.socket]:
    """Says to `ends.serving` whatever a test likes."""
    ends.serving.close()
    theirs, ours = socket.socketpair()
    ours.setblocking(False)
    ends.serving = MessageStream(ours, ends.waits.__setitem__)
    with theirs:
        yield theirs


@pytest.mark.parametrize("seed", range(4))
def test_messages_of_all_sizes_arrive_as_they_are_and_in_their_order(ends: Ends, seed: int) -> None:
    rng = random.Random(seed)
    sizes = (0, 1, 200, 10_000, KEPT_FROM_BYTES - 1, KEPT_FROM_BYTES, 600_000, 5_000_000)
    sent = []
    for number in range(100):
        message = (
            rng.randbytes(rng.randrange(1, 300)),
            rng.randbytes(rng.choice(sizes[: 8 if number % 20 else 5])) or None,
        )
        sent.append(message)
        assert ends.asking.put(*message)
        if rng.random() < 0.3:
            ends.asking.flush()
    ends.asking.flush()
    assert ends.received(len(sent)) == sent


def test_what_is_put_in_one_turn_leaves_with_one_system_call(ends: Ends) -> None:
    for number in range(100):
        assert ends.asking.put(b"%d" % number, b"payload")
    assert ends.serving.receive() == []
    ends.asking.flush()
    assert [int(header) for header, _ in ends.serving.receive()] == list(range(100))


def test_one_byte_at_a_time_gives_the_same_messages(ends: Ends, stranger: socket.socket) -> None:
    found = []
    for byte in raw(b"head", b"payload") + raw(b"x") + raw(b"y", b"z" * 40):
        stranger.send(bytes([byte]))
        found += ends.serving.receive()
    assert found == [(b"head", b"payload"), (b"x", None), (b"y", b"z" * 40)]


def test_a_slow_end_is_waited_for_and_refused_more_than_a_bound(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_stream, "MESSAGES_WAITING_BYTES_MAX", 8_000_000)
    taken = 0
    while ends.asking.put(b"%d" % taken, bytes(1_000_000)):
        taken += 1
        ends.asking.flush()
        assert taken < 30
    assert taken >= 8
    assert ends.waits[ends.asking.fileno()] == select.POLLIN | select.POLLOUT
    assert [int(header) for header, _ in ends.received(taken)] == list(range(taken))
    assert ends.waits[ends.asking.fileno()] == select.POLLIN
    assert ends.asking.put(b"again", None) and not ends.asking.closed


def test_one_turn_reads_no_more_than_its_share(ends: Ends) -> None:
    for number in range(40):
        assert ends.asking.put(b"%d" % number, bytes(1_000_000))
    ends.asking.flush()
    while len(once := ends.serving.receive()) < 3:
        ends.asking.flush()
    assert sum(len(payload or b"") for _, payload in once) < 8_000_000


@pytest.mark.parametrize("closes", ["asking", "serving"])
def test_the_other_end_is_gone(ends: Ends, closes: str) -> None:
    gone, left = (ends.asking, ends.serving) if closes == "asking" else (ends.serving, ends.asking)
    assert gone.put(b"last", b"words")
    gone.flush()
    gone.close()
    assert left.receive() == [(b"last", b"words")]
    assert left.receive() == [] and left.closed
    assert not left.put(b"lost", None)


def test_sending_to_one_that_is_gone_closes(ends: Ends) -> None:
    ends.serving.close()
    assert ends.asking.put(b"lost", None)
    ends.asking.flush()
    assert ends.asking.closed


@pytest.mark.parametrize(
    "lengths",
    [(0, 0), (0, 5), (HEADER_BYTES_MAX + 1, 0), (2**32 - 1, 2**32 - 1), (1, FRAME_BYTES_MAX + 1)],
)
def test_lengths_that_no_message_has_end_the_stream(
    ends: Ends, stranger: socket.socket, lengths: tuple[int, int]
) -> None:
    stranger.send(raw(b"before") + LENGTHS.pack(*lengths) + bytes(100))
    assert ends.serving.receive() == [(b"before", None)]
    assert ends.serving.closed


def test_no_memory_is_taken_for_what_a_length_announces(ends: Ends, stranger: socket.socket) -> None:
    stranger.send(LENGTHS.pack(HEADER_BYTES_MAX, FRAME_BYTES_MAX) + b"h")
    assert ends.serving.receive() == [] and not ends.serving.closed
    assert sum(map(len, ends.serving._rest)) == LENGTHS.size + 1


def test_any_bytes_give_messages_or_an_end(ends: Ends, stranger: socket.socket) -> None:
    rng = random.Random(3)
    for _ in range(1_000):
        good = b"".join(raw(rng.randbytes(rng.randrange(1, 9)), rng.randbytes(rng.randrange(9))) for _ in range(3))
        damaged = bytearray(good)
        for _ in range(rng.randrange(4)):
            damaged[rng.randrange(len(damaged))] = rng.choice((0, 1, 0x7F, 0xFF, rng.randrange(256)))
        at = rng.randrange(len(damaged))
        theirs, ours = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            stream = MessageStream(ours, ends.waits.__setitem__)
            for piece in (damaged[:at], damaged[at:]):
                theirs.sendall(piece)
                for header, _ in stream.receive():
                    assert len(header) >= 1
        stream.receive()
        assert stream.closed
        stream.close()


def test_a_boot_that_is_gone_or_takes_nobody_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert connect_local(1, {}.__setitem__) is None
    monkeypatch.setattr(local, "LOCAL_STREAMS_MAX", 1)
    server = LocalServer(2**61 + 12345)
    streams = [connect_local(2**61 + 12345, {}.__setitem__) for _ in range(4)]
    assert streams[0] is not None and streams[-1] is None
    for stream in streams:
        if stream is not None:
            stream.close()
    server.close()
    assert connect_local(2**61 + 12345, {}.__setitem__) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_another_user_is_not_served(ends: Ends) -> None:
    process = os.fork()
    if not process:
        code = 1
        try:
            os.setuid(65534)
            stranger = socket.socket(socket.AF_UNIX)
            stranger.connect(local._address(ends.boot_id))
            stranger.settimeout(WAIT_S)
            code = 0 if stranger.recv(1) == b"" else 2
        finally:
            os._exit(code)
    until(lambda: bool(select.select([ends.server], [], [], 0)[0]))
    assert ends.server.accept() is None
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0


@pytest.mark.parametrize("beside_zeromq", [False, True])
def test_a_poller_tells_when_there_is_room_again(beside_zeromq: bool) -> None:
    """As it is asked by a stream whose other end was slow, in a worker and in a supervisor."""
    poller = Poller()
    context = Context()
    link = Link(context, Endpoint("127.0.0.1", 1))
    if beside_zeromq:
        poller.register(link)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        stream = MessageStream(ours, lambda descriptor, events: poller.watch(descriptor, stream, events))
        poller.watch(ours.fileno(), stream, select.POLLIN)
        stream.put(b"header", bytes(1_000_000))
        stream.flush()
        assert stream.out_bytes
        assert poller.poll(0) == []
        taken = 0
        while taken < 1_000_000:
            taken += len(theirs.recv(1_000_000))
            if stream.out_bytes:
                assert poller.poll(5) == [stream]
                stream.flush()
        assert not stream.out_bytes
    link.close()
    context.close()
