"""Streams are cut into exactly the records that their delimiters say."""

from __future__ import annotations

import io
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftlog.errors import MessageTooLargeError
from raftlog_cli import input as record_input
from raftlog_cli.input import split, split_key


class Dribble(io.BytesIO):
    """Gives what it holds in pieces of the given sizes, as a pipe does."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        super().__init__(data)
        self._sizes = sizes

    def read1(self, size: int | None = -1) -> bytes:
        return super().read1(self._sizes.pop() if self._sizes else size)


@given(data=st.binary(max_size=200).map(lambda data: data.replace(b"\x01", b"\n")), sizes=st.lists(st.integers(1, 9)))
def test_splitting_does_not_depend_on_how_the_bytes_arrive(data: bytes, sizes: list[int]) -> None:
    expected = data.split(b"\n")
    if not expected[-1]:
        expected.pop()
    assert list(split(Dribble(data, sizes), b"\n")) == expected


def test_empty_records_are_records_but_the_end_is_none() -> None:
    assert list(split(io.BytesIO(b"\n\na\n"), b"\n")) == [b"", b"", b"a"]
    assert list(split(io.BytesIO(b""), b"\n")) == []


def test_newlines_are_data_when_zero_bytes_delimit() -> None:
    assert list(split(io.BytesIO(b"a\nb\0c\r\n"), b"\0")) == [b"a\nb", b"c\r\n"]


def test_a_slow_pipe_is_followed_record_by_record() -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as stream:
        pieces = split(stream, b"\n")
        feeder = threading.Timer(0, os.write, (writing, b"first\nsec"))
        feeder.start()
        assert next(pieces) == b"first"  # although "second" has not come yet
        feeder.join()
        os.write(writing, b"ond")
        os.close(writing)
        assert list(pieces) == [b"second"]


def test_a_record_without_end_is_refused_before_it_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_input, "RECORD_BYTES_MAX", 10)
    with pytest.raises(MessageTooLargeError):
        list(split(Dribble(b"x" * 50, [5] * 10), b"\n"))


def test_the_first_separator_parts_key_and_value() -> None:
    assert split_key(b"k:v:w", b":") == (b"k", b"v:w")
    assert split_key(b":v", b":") == (b"", b"v")
    assert split_key(b"k::v", b"::") == (b"k", b"v")
    assert split_key(b"kv", b":") is None
