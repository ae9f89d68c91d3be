"""What other clients may send and our own builder does not: read all the same."""

from __future__ import annotations

import pytest

from raftlog.errors import CorruptMessageError
from raftlog.record.batch import BatchBuilder, Record, decode, decode_pairs, read_header
from raftlog.record.compacted import shrunk
from raftlog.record.compression import COMPRESSIONS
from raftlog.record.plain import PlainBatch, read_plain, write_plain
from tests.record.foreign import signed, with_header_name

NAME = b"\xff\xfeh"
READ_AS = "\udcff\udcfeh"


def test_a_header_name_that_is_not_utf_8_is_handed_out_and_gives_its_bytes_back() -> None:
    batch = with_header_name(NAME, b"key")
    (record,) = decode(batch)
    assert record == Record(0, 1_700_000_000_000, b"key", b"value", [(READ_AS, b"x")])
    assert record.headers[0][0].encode("utf-8", "surrogateescape") == NAME
    assert decode_pairs(batch, 0, read_header(batch)) == [(0, b"key", b"value")]


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_compaction_keeps_such_a_name(compression: str) -> None:
    builder = BatchBuilder(compression)
    for number in range(50):
        builder.append(1_000 + number, b"k%d" % number, b"value" * 20, [("ordinary", None)])
    batch = builder.build()
    records = list(decode(batch))
    records[7].headers = [(READ_AS, b"x"), ("ü", None)]
    kept = records[3:30]
    assert list(decode(shrunk(read_header(batch), kept))) == kept


def test_plain_records_are_those_of_the_codec() -> None:
    builder = BatchBuilder()
    fields = [(5, b"k", b"v", [("a", b"b"), ("ü", None)]), (2**40, None, None, []), (-7, b"", b"x" * 70_000, [])]
    for each in fields:
        builder.append(*each)
    header, body = read_header(builder.build()), builder.build()[61:]
    batch = PlainBatch(0, 0, header.base_timestamp_ms, header.max_timestamp_ms, header.record_count)
    assert [tuple(record[1:]) for record in read_plain(body, batch)] == fields
    assert b"".join(write_plain(each[0] - 5, n, *each[1:]) for n, each in enumerate(fields)) == body
    for cut in (0, 1, len(body) // 2, len(body) - 1):
        with pytest.raises(ValueError, match=r"cut short|leaves"):
            list(read_plain(body[:cut], batch))


def test_damage_behind_such_a_name_is_still_an_error() -> None:
    batch = with_header_name(NAME)
    with pytest.raises(CorruptMessageError):
        list(decode(signed(batch[:-2] + b"\x7ex")))
