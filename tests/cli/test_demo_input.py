"""The demo sends every line, each under an id of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftlog.errors import ConfigError
from raftlog_cli.demo_input import find_files, records


def test_lines_of_a_file_get_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(b"one\n\nthree\r\nno newline")
    files = find_files(str(path))
    name = str(path).encode()
    assert list(records(files)) == [
        (name + b":1", b"one"),
        (name + b":2", b""),
        (name + b":3", b"three\r"),
        (name + b":4", b"no newline"),
    ]


def test_the_standard_library_has_some_hundred_thousand_lines_with_unique_ids() -> None:
    files = find_files(None)
    total = sum(each.lines for each in files)
    assert total > 100_000
    assert not [each for each in files if b"site-packages" in each.name]
    assert len({each.name for each in files}) == len(files)


def test_a_file_without_lines_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    with pytest.raises(ConfigError, match="--file"):
        find_files(str(path))


def test_a_file_that_grows_is_sent_as_it_was_counted_and_one_that_shrinks_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(b"1\n2\n")
    files = find_files(str(path))
    path.write_bytes(b"1\n2\n3\n")
    assert len(list(records(files))) == 2
    path.write_bytes(b"1\n")
    with pytest.raises(ConfigError, match="shorter"):
        list(records(files))
