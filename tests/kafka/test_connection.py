"""Bytes of one client become requests, however they are cut; answers leave in the order of the requests."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftlog import limits
from raftlog.kafka.connection import Connection, StrangerError
from raftlog.protocol.session import Session


def _connection() -> Connection:
    return Connection(Session("client"))


def _frames(*bodies: bytes) -> bytes:
    return b"".join(struct.pack(">i", len(body)) + body for body in bodies)


def _received(connection: Connection, data: bytes) -> list[bytes]:
    return [bytes(frame) for frame in connection.receive(data)]


@given(
    st.lists(st.binary(min_size=limits.KAFKA_REQUEST_BYTES_MIN, max_size=60), min_size=1, max_size=6),
    st.lists(st.integers(1, 40), min_size=1, max_size=60),
)
def test_requests_come_whole_however_their_bytes_are_cut(bodies: list[bytes], sizes: list[int]) -> None:
    connection, data, found, at = _connection(), _frames(*bodies), [], 0
    while at < len(data):
        size = sizes[at % len(sizes)]
        found += _received(connection, data[at : at + size])
        at += size
    assert found == bodies
    assert connection.unfinished_bytes == 0


def test_what_is_not_whole_takes_the_memory_of_what_has_come() -> None:
    connection = _connection()
    assert _received(connection, struct.pack(">i", limits.KAFKA_REQUEST_BYTES_MAX) + b"x" * 100) == []
    assert connection.unfinished_bytes == 104


@pytest.mark.parametrize("length", [-1, 0, limits.KAFKA_REQUEST_BYTES_MIN - 1, limits.KAFKA_REQUEST_BYTES_MAX + 1])
@pytest.mark.parametrize("cut", [2, 8])
def test_a_length_that_no_request_has_ends_the_connection(length: int, cut: int) -> None:
    connection, data = _connection(), struct.pack(">i", length) + b"some more"
    with pytest.raises(StrangerError, match=f"a request of {length} bytes"):
        assert _received(connection, data[:cut]) == []
        _received(connection, data[cut:])


@pytest.mark.parametrize(
    ("data", "what"),
    [(b"\x16\x03\x01\x02\x00\x01\x00", "TLS"), (b"GET / HTTP/1.1\r\n\r\n", "HTTP"), (b"PRI * HTTP/2.0", "HTTP")],
)
@pytest.mark.parametrize("cut", [1, 3, 5])
def test_other_protocols_are_told_apart(data: bytes, what: str, cut: int) -> None:
    connection = _connection()
    with pytest.raises(StrangerError, match=f"a client that speaks {what}"):
        assert _received(connection, data[:cut]) == []
        _received(connection, data[cut:])


def test_answers_leave_in_the_order_of_their_requests() -> None:
    connection = _connection()
    first, second, third = connection.reserve(), connection.reserve(), connection.reserve()
    second.buffers = [b"2", b"two"]
    assert connection.take() == []
    first.buffers = [b"1"]
    assert connection.take() == [b"1", b"2", b"two"]
    third.buffers = []
    assert (connection.take(), connection.waiting) == ([], 0)


def test_a_request_without_an_answer_holds_up_no_other() -> None:
    connection = _connection()
    silent, other = connection.reserve(), connection.reserve()
    other.buffers = [b"answer"]
    silent.buffers = []
    assert connection.take() == [b"answer"]
