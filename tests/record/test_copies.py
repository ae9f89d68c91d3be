"""What a log holds and no producer may send is made fit to be sent, or left out."""

from __future__ import annotations

import pytest

from raftlog.errors import CorruptMessageError
from raftlog.record.batch import (
    check_batch,
    decode,
    encode,
    numbered,
    read_header,
    stamp,
    with_append_time,
)
from raftlog.record.copies import Transactions, as_produced
from tests.record.log_batches import batch_of, control_of, with_attributes


def _produced(batch: bytes, first_offset: int = 0) -> bytes | None:
    return as_produced(batch, 0, read_header(batch), first_offset)


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_what_a_producer_sent_stays_as_it_is(compression: str) -> None:
    batch = batch_of(7, b"a" * 500, b"b" * 500, compression=compression)
    assert _produced(batch) == batch


def test_control_batches_and_fillers_have_nothing_for_anybody() -> None:
    assert _produced(control_of(7, 1, 1)) is None
    assert _produced(batch_of(7, b"a"), first_offset=8) is None


def test_records_of_a_transaction_become_plain_ones() -> None:
    batch = batch_of(7, b"a", b"b", producer_id=9, more=0x10)
    with pytest.raises(Exception, match="transactional"):
        check_batch(batch)
    produced = _produced(batch)
    assert produced is not None
    check_batch(produced)
    assert [(r.timestamp_ms, r.key, r.value, r.headers) for r in decode(produced)] == [
        (1_000, b"k", b"a", [("h", b"x")]),
        (1_001, b"k", b"b", [("h", b"x")]),
    ]


def test_the_brokers_time_becomes_that_of_each_record() -> None:
    plain = batch_of(7, b"a", b"b")
    batch = bytes(with_append_time(plain, read_header(plain), 77_000)[0])
    produced = _produced(batch)
    assert produced is not None
    check_batch(produced)
    assert [r.timestamp_ms for r in decode(produced)] == [77_000, 77_000]


def test_records_below_the_first_wanted_one_are_left_out() -> None:
    produced = _produced(batch_of(7, b"a", b"b", b"c"), first_offset=8)
    assert produced is not None
    check_batch(produced)
    assert [r.value for r in decode(produced)] == [b"b", b"c"]


def test_what_was_committed_counts_and_what_was_aborted_or_never_ended_does_not() -> None:
    log = [
        batch_of(0, b"plain"),
        batch_of(1, b"committed", producer_id=1, more=0x10),
        batch_of(2, b"aborted", producer_id=2, more=0x10),
        control_of(3, 1, 1),
        control_of(4, 2, 0),
        batch_of(5, b"open", producer_id=1, more=0x10),
        batch_of(6, b"committed later", producer_id=2, more=0x10),
        control_of(7, 2, 1),
    ]
    transactions = Transactions()
    for batch in log:
        transactions.feed(batch, 0, read_header(batch))
    counted = [batch for batch in log if transactions.counts(read_header(batch)) and _produced(batch)]
    assert [r.value for batch in counted for r in decode(batch)] == [b"plain", b"committed", b"committed later"]


def test_a_control_batch_that_says_nothing_is_damage() -> None:
    batch = stamp(with_attributes(numbered(encode([(5, b"x", b"")]), 1, 0, -1), 0x30), 0, 3)
    with pytest.raises(CorruptMessageError, match="offset 0 does not say what it controls"):
        Transactions().feed(batch, 0, read_header(batch))
