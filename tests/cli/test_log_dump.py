"""A segment is shown whole, and the first bad byte is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from raftlog.record.batch import BatchBuilder, encode, stamp
from raftlog_cli.main import raftlog
from tests.record.foreign import with_header_name

NAME = "00000000000000000000.00000000000000000002.log"


def _segment(tmp_path: Path) -> tuple[Path, list[bytes]]:
    batches = []
    offset = 0
    for compression in ("none", "zstd"):
        builder = BatchBuilder(compression)
        for number in range(3):
            builder.append(1_700_000_000_000 + number, b"k%d" % number, b"\xff" * 40, [("h", b"x")])
        batches.append(stamp(builder.build(), offset, 5))
        offset += 3
    path = tmp_path / NAME
    path.write_bytes(b"".join(batches))
    return path, batches


def _dump(path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(raftlog, ["log", "dump", str(path), *arguments])


def test_batches_and_records_are_shown(tmp_path: Path) -> None:
    path, batches = _segment(tmp_path)
    result = _dump(path)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"position 0: offsets 0 to 2, 3 records, {len(batches[0])} bytes, epoch 5, none, crc ")
    assert lines[0].endswith(" ok")
    assert lines[1].startswith("  offset 0 2023-11-14T22:13:20.000+00:00 key=b'k0' value=b'\\xff")
    assert f"position {len(batches[0])}: offsets 3 to 5" in lines[4]
    assert "zstd" in lines[4]
    assert lines[-1] == f"{path.stat().st_size} bytes, 2 batches, 6 records"


def test_json_is_one_object(tmp_path: Path) -> None:
    path, batches = _segment(tmp_path)
    result = _dump(path, "--json")
    assert result.stdout.count("\n") == 1
    shown = json.loads(result.stdout)
    assert [batch["base_offset"] for batch in shown["batches"]] == [0, 3]
    assert [batch["crc_ok"] for batch in shown["batches"]] == [True, True]
    assert shown["batches"][1]["records"][2]["offset"] == 5
    assert shown["batches"][1]["records"][2]["key"] == "k2"
    assert shown["batches"][0]["records"][0]["value_encoding"] == "base64"
    assert (shown["size_bytes"], shown["first_bad_byte"]) == (sum(map(len, batches)), None)


def test_the_first_bad_byte_is_named_and_what_follows_is_shown(tmp_path: Path) -> None:
    path, batches = _segment(tmp_path)
    data = bytearray(path.read_bytes())
    data[len(batches[0]) - 1] ^= 1
    path.write_bytes(data)
    result = _dump(path, "--json")
    assert result.exit_code == 1
    shown = json.loads(result.stdout)
    assert [batch["crc_ok"] for batch in shown["batches"]] == [False, True]
    assert shown["batches"][0]["records"] == []
    assert shown["first_bad_byte"] == 0
    assert "first bad byte is at position 0: the checksum" in result.stderr
    assert "WRONG" in _dump(path).stdout


def test_a_torn_tail_is_named(tmp_path: Path) -> None:
    path, batches = _segment(tmp_path)
    path.write_bytes(path.read_bytes()[:-5])
    result = _dump(path)
    assert result.exit_code == 1
    assert f"first bad byte is at position {len(batches[0])}" in result.stderr


def test_what_is_no_segment_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.log", tmp_path):
        result = _dump(path)
        assert result.exit_code == 1
        assert result.stderr.startswith("raftlog: error: ")
        assert result.stderr.count("\n") == 1


def test_an_empty_segment_is_sound(tmp_path: Path) -> None:
    path = tmp_path / NAME
    path.touch()
    assert _dump(path).stdout == "0 bytes, 0 batches, 0 records\n"


@pytest.mark.parametrize(
    ("timestamp_ms", "shown"),
    [
        (1_700_000_000_000_000_000, "1700000000000000000 ms"),
        (2**63 - 1, f"{2**63 - 1} ms"),
        (-1, "1969-12-31T23:59:59.999+00:00"),
        (-(2**63), f"{-(2**63)} ms"),
    ],
)
def test_any_timestamp_is_shown(tmp_path: Path, timestamp_ms: int, shown: str) -> None:
    builder = BatchBuilder()
    builder.append(timestamp_ms, b"k", b"v")
    path = tmp_path / NAME
    path.write_bytes(stamp(builder.build(), 0, 1))
    result = _dump(path)
    assert result.exit_code == 0, result.output
    assert f"  offset 0 {shown} key=b'k'" in result.stdout
    (batch,) = json.loads(_dump(path, "--json").stdout)["batches"]
    assert batch["records"][0]["timestamp_ms"] == timestamp_ms


def test_a_gap_of_a_foreign_compacted_segment_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "00000000000000000150.log"
    path.write_bytes(stamp(encode([(1, b"k", b"v")]), 150, 0) + stamp(encode([(1, b"k", b"w")]), 153, 0))
    result = _dump(path)
    assert result.exit_code == 0, result.output
    assert "gap of 2 offsets in front" in result.stdout
    assert [batch["gap"] for batch in json.loads(_dump(path, "--json").stdout)["batches"]] == [0, 2]
    path.write_bytes(stamp(encode([(1, b"k", b"v")]), 150, 0) + stamp(encode([(1, b"k", b"w")]), 149, 0))
    assert _dump(path).exit_code == 1


def test_a_header_name_that_is_not_utf_8_is_shown(tmp_path: Path) -> None:
    path = tmp_path / NAME
    path.write_bytes(stamp(with_header_name(b"h\xff"), 0, 1))
    result = _dump(path)
    assert result.exit_code == 0, result.output
    assert r"headers=[('h\udcff', b'x')]" in result.stdout
    (batch,) = json.loads(_dump(path, "--json").stdout)["batches"]
    assert batch["problem"] is None
    assert batch["records"][0]["headers"] == [{"name": "aP8=", "name_encoding": "base64", "value": "x"}]
