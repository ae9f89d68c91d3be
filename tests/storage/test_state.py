"""`state`: two copies, never a guess."""

from __future__ import annotations

import random
import struct
from typing import Any

import google_crc32c
import msgspec
import pytest

from raftlog.errors import ConfigError, CorruptLogError
from raftlog.storage.simulated_disk import SimulatedDisk
from raftlog.storage.state import EpochStart, State, StateFile, decode_state, encode_state
from raftlog.types import Half

_STATE = State(
    topic_id=b"t" * 16,
    term=7,
    voted_for=3,
    doubt=1,
    doubt_reason="cut 5 bytes",
    commit_bound=40,
    log_start_offset=5,
    horizon_index=9,
    horizon_prev_term=2,
    horizon_offset=4,
    epoch_starts=[EpochStart(3, 12, 10), EpochStart(7, 30, 25)],
    generation=2,
    truncations=1,
)


def _machine() -> tuple[SimulatedDisk, StateFile]:
    disk = SimulatedDisk()
    disk.make_dir("/d")
    return disk, StateFile(disk, "/d")


def _copies(disk: SimulatedDisk) -> list[State | None]:
    return [decode_state(disk.read_whole(f"/d/state.{copy}")) for copy in "ab"]


def test_a_copy_is_magic_checksum_length_and_msgpack() -> None:
    data = encode_state(State(topic_id=b"\x01\x02"))
    body = data[16:]
    assert data[:16] == b"RAFTLOGS" + struct.pack(">II", google_crc32c.value(body), len(body))
    fields = msgspec.msgpack.decode(body)
    assert fields["topic_id"] == b"\x01\x02"
    assert fields["format_version"] == 1
    assert list(fields) == [
        "topic_id",
        "format_version",
        "sequence",
        "generation",
        "term",
        "voted_for",
        "doubt",
        "doubt_reason",
        "commit_bound",
        "log_start_offset",
        "horizon_index",
        "horizon_prev_term",
        "horizon_offset",
        "epoch_starts",
        "truncations",
        "last_index",
        "corruptions",
        "damaged_index",
        "clean_offset",
        "clean_marks",
        "purged_index",
        "swap",
        "cuts",
        "horizon_configuration",
        "remembered",
    ]


def test_what_was_written_is_read_from_either_copy() -> None:
    disk, file = _machine()
    file.write(_STATE)
    assert _copies(disk) == [_STATE, _STATE]
    for lost in "ab":
        disk, file = _machine()
        file.write(_STATE)
        disk.flip_bit(f"/d/state.{lost}", 30, 2)
        assert StateFile(disk, "/d").load() is not None
        mended = _copies(disk)
        assert mended[0] == mended[1] and mended[0] is not None
        assert (mended[0].term, mended[0].voted_for, mended[0].epoch_starts) == (7, 3, _STATE.epoch_starts)


@pytest.mark.parametrize("position", range(0, 60, 7))
def test_a_flipped_bit_is_found(position: int) -> None:
    data = bytearray(encode_state(_STATE))
    data[position] ^= 1
    assert decode_state(bytes(data)) is None
    assert decode_state(bytes(data[:position])) is None


def test_two_bad_copies_are_an_error_and_not_term_zero() -> None:
    disk, file = _machine()
    file.write(_STATE)
    disk.flip_bit("/d/state.a", 20, 0)
    disk.truncate_durable("/d/state.b", 10)
    with pytest.raises(CorruptLogError):
        StateFile(disk, "/d").load()


def test_one_bad_copy_and_none_is_an_error() -> None:
    disk, file = _machine()
    file.write(_STATE)
    disk.flip_bit("/d/state.b", 20, 0)
    disk.remove("/d/state.a")
    with pytest.raises(CorruptLogError):
        StateFile(disk, "/d").load()


@pytest.mark.parametrize(
    "more",
    [
        {"epoch_starts": [EpochStart(3, 12, 10), EpochStart(3, 15, 11, (Half((1, 2)), Half((1, 3), (4,))))]},
        {"horizon_configuration": EpochStart(2, 8, 4, (Half((1, 2)),))},
        {"remembered": Half((1, 2), (3,))},
    ],
)
def test_a_state_that_knows_of_configurations_has_a_format_that_older_versions_refuse(more: dict[str, Any]) -> None:
    assert _decoded(encode_state(msgspec.structs.replace(_STATE)))["format_version"] == 1
    written = encode_state(msgspec.structs.replace(_STATE, **more))
    assert _decoded(written)["format_version"] == 2
    assert decode_state(written) == msgspec.structs.replace(_STATE, format_version=2, **more)


def test_a_state_of_a_version_without_configurations_opens() -> None:
    fields = _decoded(encode_state(msgspec.structs.replace(_STATE)))
    del fields["horizon_configuration"], fields["remembered"]
    fields["epoch_starts"] = [start[:3] for start in fields["epoch_starts"]]
    body = msgspec.msgpack.encode(fields)
    data = b"RAFTLOGS" + struct.pack(">II", google_crc32c.value(body), len(body)) + body
    assert decode_state(data) == _STATE


def _decoded(data: bytes) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.msgpack.decode(data[16:])
    return fields


def test_a_newer_format_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    disk, file = _machine()
    monkeypatch.setattr("raftlog.storage.state._WITHOUT_CONFIGURATIONS", 3)
    file.write(msgspec.structs.replace(_STATE))
    with pytest.raises(ConfigError, match="newer"):
        StateFile(disk, "/d").load()


def test_the_copy_written_last_before_a_crash_counts_and_is_mended_into_the_other() -> None:
    class StopError(Exception):
        pass

    def stop(name: str) -> None:
        if name == "state.a.durable":
            raise StopError

    disk, file = _machine()
    file.write(msgspec.structs.replace(_STATE))
    newer = msgspec.structs.replace(_STATE, term=8, voted_for=-1)
    stopping = StateFile(disk, "/d", stop)
    stopping.load()
    with pytest.raises(StopError):
        stopping.write(newer)
    disk.crash(random.Random(1))
    loaded = StateFile(disk, "/d").load()
    assert loaded is not None and loaded.term == 8
    # Now nothing is lost with the copy that was written first.
    disk.flip_bit("/d/state.a", 30, 1)
    again = StateFile(disk, "/d").load()
    assert again is not None and again.term == 8


def test_the_commit_bound_alone_goes_to_one_copy_and_the_higher_one_counts() -> None:
    disk, file = _machine()
    state = msgspec.structs.replace(_STATE)
    file.write(state)
    before = disk.syncs
    state.commit_bound = 55
    file.write_commit_bound(state)
    assert disk.syncs - before == 2  # one file, one directory
    assert sorted(copy.commit_bound for copy in _copies(disk) if copy) == [40, 55]
    loaded = StateFile(disk, "/d").load()
    assert loaded is not None and loaded.commit_bound == 55
    disk.flip_bit("/d/state.a", 30, 1)
    older = StateFile(disk, "/d").load()
    assert older is not None and (older.commit_bound, older.term) == (40, 7)
