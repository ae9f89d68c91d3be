"""What a door sends from: files by path and inode, open no longer than they are needed."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftlog import limits
from raftlog.node.kafka_clients import KafkaClient
from raftlog.node.segment_files import FilePiece, SegmentFiles, Tally
from raftlog.protocol.records import LocateResponse
from raftlog.types import Endpoint

DATA = bytes(range(256)) * 40_000


def _place(path: Path, position: int, length: int) -> LocateResponse:
    return LocateResponse(path=str(path), inode=path.stat().st_ino, position=position, length=length)


def _piece(files: SegmentFiles, place: LocateResponse, now_s: float = 0.0, tally: Tally | None = None) -> FilePiece:
    """As for a door that asks again where it is told to."""
    tally = tally or Tally()
    piece = files.piece(place, tally, now_s) or files.piece(place, tally, now_s)
    assert piece is not None
    return piece


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "segment.log"
    path.write_bytes(DATA)
    return path


def _open_files(path: Path) -> int:
    count = 0
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # what lists them is one of them, and closed by now
            count += os.readlink(f"/proc/self/fd/{number}").startswith(str(path))
    return count


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Of one TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as door, socket.create_connection(door.getsockname()) as far:
        near, _ = door.accept()
        with near:
            yield near, far


def test_a_removed_file_is_sent_from_while_a_piece_of_it_is_left(path: Path) -> None:
    files = SegmentFiles()
    piece = _piece(files, _place(path, 256, 1000))
    place = _place(path, 0, 10)
    path.unlink()
    files.close_idle(limits.KAFKA_SEGMENT_FILE_S)
    assert files.piece(place, Tally(), limits.KAFKA_SEGMENT_FILE_S) is None
    assert _open_files(path) == 1
    near, far = socket.socketpair()
    with near, far:
        assert piece.send(near.fileno()) == 1000
        assert far.recv(2000) == DATA[256:1256]
    del piece
    assert _open_files(path) == 0


def test_a_file_is_sent_from_once_its_worker_has_named_it_again(path: Path) -> None:
    files = SegmentFiles()
    place = _place(path, 0, 100)
    assert files.piece(place, Tally(), 0.0) is None
    piece = files.piece(place, Tally(), 0.0)
    assert piece is not None and len(piece) == 100


def test_another_file_at_the_same_path_is_not_sent(path: Path) -> None:
    files = SegmentFiles()
    place = _place(path, 0, 100)
    other = path.with_suffix(".new")
    other.write_bytes(b"compacted")
    other.replace(path)
    assert files.piece(place, Tally(), 0.0) is None
    assert _open_files(path) == 0


def test_a_file_is_opened_once_and_closed_when_idle(path: Path) -> None:
    files = SegmentFiles()
    for now_s in range(5):
        files.piece(_place(path, now_s, 10), Tally(), float(now_s))
    assert _open_files(path) == 1
    files.close_idle(4 + limits.KAFKA_SEGMENT_FILE_S - 1)
    assert _open_files(path) == 1
    files.close_idle(4 + limits.KAFKA_SEGMENT_FILE_S)
    assert _open_files(path) == 0


def test_descriptors_are_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "KAFKA_SEGMENT_FILES", 2)
    files = SegmentFiles()
    for number in range(4):
        each = path.with_name(f"segment-{number}.log")
        each.write_bytes(DATA[:100])
        files.piece(_place(each, 0, 10), Tally(), 0.0)
    assert _open_files(path.parent) == 2


def test_a_client_gets_buffers_and_pieces_in_their_order(path: Path, ends: tuple[socket.socket, socket.socket]) -> None:
    files = SegmentFiles()
    near, far = ends
    client = KafkaClient(near, Endpoint("127.0.0.1", 1), 0.0, lambda _descriptor, _events: None)
    piece = _piece(files, _place(path, 1000, 5_000_000))
    client.connection.reserve().buffers = [b"head", piece, bytearray(b"tail")]
    client.connection.reserve().buffers = [b"next"]
    got = bytearray()
    expected = b"head" + DATA[1000:5_001_000] + b"tail" + b"next"
    while len(got) < len(expected):
        assert client.write(1.0)
        got += far.recv(1 << 20)
    assert got == expected
    assert client.held_bytes == 0


def test_a_file_that_is_too_short_ends_the_connection(path: Path, ends: tuple[socket.socket, socket.socket]) -> None:
    files = SegmentFiles()
    near, _far = ends
    client = KafkaClient(near, Endpoint("127.0.0.1", 1), 0.0, lambda _descriptor, _events: None)
    piece = _piece(files, _place(path, len(DATA) - 10, 20))
    client.connection.reserve().buffers = [piece]
    assert not client.write(1.0)


def test_pieces_take_no_memory_of_the_door(path: Path, ends: tuple[socket.socket, socket.socket]) -> None:
    near, _far = ends
    client = KafkaClient(near, Endpoint("127.0.0.1", 1), 0.0, lambda _descriptor, _events: None)
    piece = _piece(SegmentFiles(), _place(path, 0, len(DATA)))
    client.connection.reserve().buffers = [b"head", piece]
    assert client.write(0.0)
    assert len(piece) > 0, "the socket takes less"
    assert client.held_bytes == 0
    assert "took none of its answers" in client.why_over(limits.CLIENT_SILENT_S + 1)


def test_what_was_sent_counts_and_what_only_waits_does_not(
    path: Path, ends: tuple[socket.socket, socket.socket]
) -> None:
    near, far = ends
    client = KafkaClient(near, Endpoint("127.0.0.1", 1), 0.0, lambda _descriptor, _events: None)
    tally = Tally()
    piece = _piece(SegmentFiles(), _place(path, 0, len(DATA)), tally=tally)
    client.connection.reserve().buffers = [b"head", piece]
    assert client.write(0.0)
    assert 0 < tally.sent_bytes == len(DATA) - len(piece) < len(DATA)
    while len(piece):
        assert far.recv(1 << 20)
        assert client.write(0.0)
    assert tally.sent_bytes == len(DATA)


def test_what_is_read_to_be_encrypted_counts(path: Path) -> None:
    tally = Tally()
    piece = _piece(SegmentFiles(), _place(path, 0, 1000), tally=tally)
    assert piece.read(600) == DATA[:600]
    assert tally.sent_bytes == 600
