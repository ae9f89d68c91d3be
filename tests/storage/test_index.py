"""LmdbIndex and its twin agree; a damaged index is thrown away, a full one refuses and resumes."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import lmdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftlog.errors import DiskFullError
from raftlog.storage.index import IndexEntry, IndexUsage, MemoryIndexStore
from raftlog.storage.lmdb_index import LmdbIndex
from tests.patience import WAIT_S


def _entry(number: int) -> IndexEntry:
    return IndexEntry(number * 10, number * 3 + 2, number // 7 + 1, number // 20 * 200, number * 100, number)


_operations = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 5)),
        st.tuples(st.just("commit"), st.integers(0, 600)),
        st.tuples(st.just("truncate"), st.integers(0, 600)),
        st.tuples(st.just("delete_head"), st.integers(0, 600)),
        st.tuples(st.just("floor_offset"), st.integers(0, 700)),
        st.tuples(st.just("floor_index"), st.integers(0, 300)),
        st.tuples(st.just("last_committed"), st.none()),
        st.tuples(st.just("pending"), st.none()),
        st.tuples(st.just("clear"), st.none()),
        st.tuples(st.just("reopen"), st.none()),
    ),
    max_size=30,
)


@given(_operations)
@settings(max_examples=150, deadline=None)
def test_the_memory_index_does_what_the_lmdb_index_does(operations: list[tuple[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        store = MemoryIndexStore()
        real, twin = LmdbIndex(directory + "/index"), store.open("index")
        following = 0
        for what, argument in operations:
            if what == "add":
                last = twin.floor_offset(2**62)
                following = 0 if last is None else last.base_offset // 10 + 1
                for number in range(following, following + argument):
                    real.add(_entry(number))
                    twin.add(_entry(number))
            elif what == "reopen":
                real.close()
                twin.close()
                real, twin = LmdbIndex(directory + "/index"), store.open("index")
            elif argument is None:
                assert getattr(real, what)() == getattr(twin, what)(), what
            else:
                assert getattr(real, what)(argument) == getattr(twin, what)(argument), (what, argument)
        for offset in range(0, 700, 7):
            assert real.floor_offset(offset) == twin.floor_offset(offset)
        real.close()


def _filled(directory: Path, count: int = 500) -> None:
    index = LmdbIndex(str(directory))
    for number in range(count):
        index.add(_entry(number))
    index.commit(2**62)
    index.close()


def test_an_index_whose_reader_died_is_read_whole_once_and_kept_when_it_is_good(tmp_path: Path) -> None:
    _filled(tmp_path / "index")
    (tmp_path / "index" / "reading").write_bytes(b"1")
    index = LmdbIndex(str(tmp_path / "index"))
    assert index.last_committed() == _entry(499)
    index.close()
    assert (tmp_path / "index" / "reading").read_bytes() == b"0"


def test_an_index_is_deleted_when_reading_it_whole_was_deadly(tmp_path: Path) -> None:
    _filled(tmp_path / "index")
    (tmp_path / "index" / "reading").write_bytes(b"2")
    index = LmdbIndex(str(tmp_path / "index"))
    assert index.last_committed() is None
    index.close()
    assert (tmp_path / "index" / "reading").read_bytes() == b"0"


def _killed(directory: Path, last_words: str) -> int:
    """The exit code of a process that opened the index, looked something up, and then did that."""
    program = (
        "import os, signal, sys\n"
        "from raftlog.storage.lmdb_index import LmdbIndex\n"
        "index = LmdbIndex(sys.argv[1])\n"
        "assert index.floor_offset(77).base_offset == 70\n" + last_words
    )
    return subprocess.run([sys.executable, "-c", program, str(directory)], timeout=WAIT_S, check=False).returncode


def test_an_index_survives_a_kill_between_readings(tmp_path: Path) -> None:
    _filled(tmp_path / "index")
    assert _killed(tmp_path / "index", "os.kill(os.getpid(), signal.SIGKILL)") == -signal.SIGKILL
    index = LmdbIndex(str(tmp_path / "index"))
    assert index.last_committed() == _entry(499)
    index.close()


def test_a_file_that_shrinks_under_a_reader_kills_once_and_is_then_thrown_away(tmp_path: Path) -> None:
    _filled(tmp_path / "index", 5_000)
    shrink_and_read = (
        "os.truncate(sys.argv[1] + '/data.mdb', 8192)\nfor offset in range(0, 50_000, 10): index.floor_offset(offset)\n"
    )
    assert _killed(tmp_path / "index", shrink_and_read) == -signal.SIGBUS
    assert (tmp_path / "index" / "reading").read_bytes() == b"1"
    index = LmdbIndex(str(tmp_path / "index"))
    assert index.last_committed() is None
    index.close()


@pytest.mark.parametrize("size", [0, 1, 4096, 8192, 20_000])
def test_a_short_index_is_thrown_away_and_does_not_kill(tmp_path: Path, size: int) -> None:
    _filled(tmp_path / "index")
    os.truncate(tmp_path / "index" / "data.mdb", size)
    index = LmdbIndex(str(tmp_path / "index"))
    assert index.last_committed() is None
    index.add(_entry(1))
    index.commit(2**62)
    assert index.last_committed() == _entry(1)
    index.close()


def test_an_index_that_is_something_else_is_thrown_away(tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "data.mdb").write_bytes(os.urandom(50_000))
    index = LmdbIndex(str(tmp_path / "index"))
    assert index.floor_offset(5) is None
    index.close()


def test_the_map_grows_by_itself(tmp_path: Path) -> None:
    index = LmdbIndex(str(tmp_path / "index"))
    for number in range(30_000):
        index.add(_entry(number))
    index.commit(2**62)
    assert os.stat(tmp_path / "index" / "data.mdb").st_size > 1024 * 1024
    assert index.floor_offset(123_456) == _entry(12_345)
    index.close()


def test_a_map_that_may_not_grow_refuses_loses_nothing_and_resumes(tmp_path: Path) -> None:
    index = LmdbIndex(str(tmp_path / "index"), map_bytes_max=1024 * 1024)
    for number in range(2_000):
        index.add(_entry(number))
    index.commit(2**62)
    for number in range(2_000, 30_000):
        index.add(_entry(number))
    with pytest.raises(DiskFullError):
        index.commit(2**62)
    assert index.last_committed() == _entry(1_999)
    assert index.pending() == 28_000
    assert index.floor_offset(299_999) == _entry(29_999)
    index._map_bytes_max = 2**30
    index.commit(2**62)
    assert index.pending() == 0
    assert index.last_committed() == _entry(29_999)
    index.close()


def test_no_room_for_the_index_is_said_and_keeps_the_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = LmdbIndex(str(tmp_path / "index"))
    index.add(_entry(1))

    class NoRoom:
        def begin(self, write: bool = False) -> object:
            raise lmdb.DiskError("No space left on device")

    environment = index._environment
    index._environment = NoRoom()
    with pytest.raises(DiskFullError):
        index.commit(2**62)
    index._environment = environment
    assert index.pending() == 1
    index.commit(2**62)
    assert index.last_committed() == _entry(1)
    index.close()


@pytest.mark.parametrize("room_bytes", [0, 2], ids=["none", "for the marker only"])
def test_an_index_that_has_no_room_to_be_begun_anew_is_without_entries_until_there_is(
    tmp_path: Path, room_bytes: int
) -> None:
    """A limit on the size of files, as of `prlimit --fsize`, stands for a full disk: both refuse a write."""
    index = LmdbIndex(str(tmp_path / "index"))
    index.add(_entry(1))
    index.commit(100)
    index._environment.close()  # what cannot be read, whatever the reason
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room_bytes, before[1]))
    try:
        assert index.floor_offset(50) is None
        assert index.usage() == IndexUsage(0, 0)
        index.add(_entry(2))
        for refused in (lambda: index.commit(100), index.clear):
            with pytest.raises(DiskFullError, match=rf"{tmp_path}/index\S*: .*(File too large|No space)"):
                refused()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    index.add(_entry(2))
    index.commit(100)
    assert index.floor_offset(50) == _entry(2) and index.usage().map_bytes
    index.close()


def test_an_idle_index_maps_little(tmp_path: Path) -> None:
    index = LmdbIndex(str(tmp_path / "index"))
    assert index._environment.info()["map_size"] <= 1024 * 1024
    assert os.stat(tmp_path / "index" / "data.mdb").st_size <= 16 * 1024
    index.close()


def test_an_index_says_how_much_of_its_map_is_used(tmp_path: Path) -> None:
    index = LmdbIndex(str(tmp_path / "index"))
    before = index.usage()
    for number in range(2_000):
        index.add(_entry(number))
    index.commit(2**62)
    after = index.usage()
    assert after.map_bytes >= (tmp_path / "index" / "data.mdb").stat().st_size >= after.used_bytes
    assert after.used_bytes > before.used_bytes + 2_000 * 60
    index.close()


def test_an_index_that_is_empty_is_not_made_anew_to_be_cleared(tmp_path: Path) -> None:
    """As at each start of a log without records."""
    file = tmp_path / "data.mdb"
    index = LmdbIndex(str(tmp_path))
    made = file.stat().st_ino
    index.clear()
    assert file.stat().st_ino == made
    index.add(_entry(0))
    index.commit(10)
    index.clear()
    assert index.last_committed() is None
    assert index.usage().used_bytes <= 2 * 4096
    index.close()
