"""Fetch: what is there comes at once; what is not there is waited for, with one question for each partition."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from raftlog import limits
from raftlog.clock import NEVER_S
from raftlog.errors import ErrorCode
from raftlog.kafka.calls import Leader
from raftlog.kafka.codes import KafkaCode
from raftlog.protocol import apis
from raftlog.protocol.records import LocateResponse, Place, WatchResponse
from tests.kafka.door import cluster, topic, topic_id
from tests.kafka.workbench import Client, Workbench

FETCH = 1
VERSIONS = range(4, 19)
WAIT_MS = 500


def _bench(partitions: int = 1) -> Workbench:
    return Workbench(cluster(topic("orders", leaders=(1,) * partitions)))


def _send(client: Client, version: int = 12, *, offsets: dict[int, int] | None = None, **fields: Any) -> None:
    """`offsets`: by partition."""
    wanted = {0: 5} if offsets is None else offsets
    epoch = fields.pop("epoch", -1)
    partitions = [
        {
            "partition": partition,
            "fetch_offset": offset,
            "partition_max_bytes": fields.get("partition_max_bytes", 1000),
            "current_leader_epoch": epoch,
        }
        for partition, offset in wanted.items()
    ]
    topics = [{"topic": "orders", "topic_id": topic_id(1), "partitions": partitions}] if wanted else []
    named: dict[str, Any] = {"max_wait": WAIT_MS, "min_bytes": 1, "max_bytes": 10_000, "topics": topics}
    client.send(FETCH, version, **{**named, "forgotten_topics_data": [], **fields})


def _read(records: bytes = b"", *, end: int = 5, epoch: int = 5) -> LocateResponse:
    """Of a file that has its content as its name, see Workbench."""
    return LocateResponse(
        high_watermark=end,
        log_start_offset=2,
        leader_id=1,
        leader_epoch=epoch,
        path=records.decode(),
        length=len(records),
    )


def _reads_on(bench: Workbench, client: Client, following: list[str]) -> None:
    """A client that has read at 5 and 6; what the worker then says follows, each of them one record."""
    places = [Place(name, 1, 0, len(name), 8 + number) for number, name in enumerate(following)]
    for offset in (5, 6):
        _send(client, offsets={0: offset})
        asked = bench.take(apis.LOCATE)
        told = msgspec.structs.replace(_read(b"first", end=99), next_offset=offset + 1)
        asked.answer(msgspec.structs.replace(told, following=places if asked.body.ahead else []))
    client.answers()


def _read_at(bench: Workbench, client: Client, offset: int, **fields: Any) -> bytes | None:
    """None: its worker is asked."""
    _send(client, offsets={0: offset}, **fields)
    if bench.asked:
        assert bench.take(apis.LOCATE).body.offset == offset
        assert not bench.asked
        return None
    (answer,) = client.answers()
    code, end, records = _found(answer)[0]
    assert (code, end) == (0, 99)
    return records


def _found(answer: dict[str, Any]) -> dict[int, tuple[int, int, bytes]]:
    return {
        each["partition_index"]: (each["error_code"], each["high_watermark"], each["records"])
        for found in answer["responses"]
        for each in found["partitions"]
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_records_come_at_once_and_untouched(version: int) -> None:
    bench = _bench()
    client = bench.connect()
    _send(client, version)
    asked = bench.take(apis.LOCATE)
    assert asked.target == Leader(topic_id(1), 0)
    assert (asked.body.offset, asked.body.max_bytes) == (5, 1000)
    asked.answer(_read(b"two batches", end=9))
    (answer,) = client.answers()
    assert _found(answer) == {0: (0, 9, b"two batches")}
    (partition,) = answer["responses"][0]["partitions"]
    assert partition["last_stable_offset"] == 9  # read committed: no transaction is open
    assert partition.get("log_start_offset", 2) == 2


def test_a_file_that_has_to_be_asked_for_again_is_once() -> None:
    bench = _bench()
    client = bench.connect()
    bench.opened = False
    _send(client)
    bench.take(apis.LOCATE).answer(_read(b"of a new file", end=9))
    assert client.answers() == []
    bench.opened = True
    bench.take(apis.LOCATE).answer(_read(b"of a new file", end=9))
    assert _found(client.answers()[0]) == {0: (0, 9, b"of a new file")}
    bench.opened = False
    _send(client, max_wait=0)
    for _ in range(2):
        bench.take(apis.LOCATE).answer(_read(b"of files that go", end=9))
    assert _found(client.answers()[0]) == {0: (0, 9, b"")}


def test_who_reads_on_is_answered_from_what_its_worker_told_of_the_places_that_follow() -> None:
    bench = _bench()
    client = bench.connect()
    _send(client)
    assert bench.take(apis.LOCATE).body.ahead == 0  # who has read nothing may want no more
    client = bench.connect()
    _reads_on(bench, client, ["seventh", "eighth"])
    assert [_read_at(bench, client, offset) for offset in (7, 8, 9)] == [b"seventh", b"eighth", None]


@pytest.mark.parametrize(
    "otherwise",
    [
        {"offset": 8},
        {"offset": 7, "partition_max_bytes": 999},
        {"offset": 7, "max_bytes": 100},
        {"offset": 7, "epoch": 6},
    ],
)
def test_who_reads_on_otherwise_has_its_worker_asked(otherwise: dict[str, int]) -> None:
    bench = _bench()
    client = bench.connect()
    _reads_on(bench, client, ["seventh", "eighth"])
    assert _read_at(bench, client, **otherwise) is None


def test_what_was_told_of_places_ends_with_its_time_its_link_and_its_client() -> None:
    bench = _bench()
    client, other = bench.connect(), bench.connect()
    _reads_on(bench, client, ["seventh"])
    assert _read_at(bench, other, 7) is None
    bench.pass_time(limits.KAFKA_AHEAD_S)
    assert _read_at(bench, client, 7) is None

    client = bench.connect()
    _reads_on(bench, client, ["seventh"])
    bench.broker.lost(Leader(topic_id(1), 1))
    bench.broker.lost(Leader(topic_id(1), 0))
    assert _read_at(bench, client, 7) is None

    client = bench.connect()
    _reads_on(bench, client, ["seventh"])
    bench.opened = False
    assert _read_at(bench, client, 7) is None


def test_places_are_known_of_so_many_readers_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "KAFKA_AHEADS_MAX", 2)
    bench = _bench()
    clients = [bench.connect() for _ in range(3)]
    for client in clients:
        _reads_on(bench, client, ["seventh"])
    assert [_read_at(bench, client, 7) for client in clients] == [None, b"seventh", b"seventh"]


def test_nothing_is_waited_for_until_the_time_is_over() -> None:
    bench = _bench()
    client = bench.connect()
    _send(client)
    bench.take(apis.LOCATE).answer(_read())
    assert bench.take(apis.WATCH).body.offset == 5
    bench.pass_time(WAIT_MS / 1000 - 0.01)
    assert client.answers() == []
    bench.pass_time(0.02)
    assert _found(client.answers()[0]) == {0: (0, 5, b"")}


def test_only_a_fetch_that_waits_has_a_timer() -> None:
    """A consumer that reads on would leave thousands of them behind, each with its answer."""
    bench = _bench()
    client = bench.connect()
    _send(client)
    bench.take(apis.LOCATE).answer(_read(b"at once", end=9))
    assert client.answers() and bench.broker.due_s == NEVER_S
    _send(client)
    bench.take(apis.LOCATE).answer(_read())
    assert not client.answers() and bench.broker.due_s == pytest.approx(bench.now_s() + WAIT_MS / 1000)


def test_what_comes_while_it_waits_is_handed_out() -> None:
    bench = _bench()
    client = bench.connect()
    _send(client)
    bench.take(apis.LOCATE).answer(_read())
    bench.take(apis.WATCH).answer(WatchResponse(high_watermark=6))
    bench.take(apis.LOCATE).answer(_read(b"new", end=6))
    assert _found(client.answers()[0]) == {0: (0, 6, b"new")}
    assert not bench.asked


def test_many_that_wait_at_the_end_of_a_partition_are_one_question() -> None:
    bench = _bench()
    first, second = bench.connect(), bench.connect()
    _send(first)
    bench.take(apis.LOCATE).answer(_read())
    watch = bench.take(apis.WATCH)
    for client in (second, first):
        _send(client)
        assert not bench.asked
    watch.answer(WatchResponse(high_watermark=6))
    assert [each.api for each in bench.asked] == [apis.LOCATE] * 3


def test_a_consumer_of_idle_partitions_asks_nobody_again() -> None:
    bench = _bench(100)
    client = bench.connect()
    offsets = dict.fromkeys(range(100), 5)
    _send(client, offsets=offsets, max_bytes=200_000)
    for _ in offsets:
        bench.take(apis.LOCATE).answer(_read())
    assert [each.api for each in bench.asked] == [apis.WATCH] * 100
    bench.pass_time(1)
    assert len(_found(client.answers()[0])) == 100
    bench.asked.clear()
    _send(client, offsets=offsets, max_bytes=200_000)
    assert not bench.asked


def test_too_few_bytes_are_waited_for_and_read_again_with_what_follows() -> None:
    bench = _bench()
    client = bench.connect()
    _send(client, min_bytes=8)
    bench.take(apis.LOCATE).answer(_read(b"four", end=6))
    assert client.answers() == []
    bench.take(apis.WATCH).answer(WatchResponse(high_watermark=7))
    bench.take(apis.LOCATE).answer(_read(b"four more", end=7))
    assert _found(client.answers()[0]) == {0: (0, 7, b"four more")}


def test_an_error_is_told_at_once() -> None:
    bench = _bench(2)
    client = bench.connect()
    _send(client, offsets={0: 5, 1: 5})
    refusal = LocateResponse(error_code=ErrorCode.NOT_LEADER_OR_FOLLOWER, leader_id=2, leader_epoch=8)
    for _ in range(2):
        asked = bench.take(apis.LOCATE)
        if asked.target == Leader(topic_id(1), 0):
            asked.answer(refusal)
        else:
            asked.answer(_read())
    found = _found(client.answers()[0])
    assert found == {0: (ErrorCode.NOT_LEADER_OR_FOLLOWER, -1, b""), 1: (0, 5, b"")}


@pytest.mark.parametrize(
    ("version", "code"), [(12, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION), (13, KafkaCode.UNKNOWN_TOPIC_ID)]
)
def test_a_topic_that_is_not_there_asks_nobody(version: int, code: int) -> None:
    bench = Workbench(cluster(topic("others", 2)))
    client = bench.connect()
    _send(client, version)
    assert not bench.asked
    assert _found(client.answers()[0]) == {0: (code, -1, b"")}


def test_an_older_leader_epoch_is_fenced() -> None:
    bench = _bench()
    client = bench.connect()
    _send(client, epoch=4)
    bench.take(apis.LOCATE).answer(_read(b"records", end=9, epoch=5))
    assert _found(client.answers()[0]) == {0: (KafkaCode.FENCED_LEADER_EPOCH, 9, b"")}


def test_an_answer_is_bounded_and_partitions_take_turns() -> None:
    bench = _bench(4)
    client = bench.connect()
    served = []
    for _ in range(4):
        _send(client, offsets=dict.fromkeys(range(4), 5), max_bytes=100)
        asked = bench.take(apis.LOCATE)
        assert asked.body.max_bytes == 100
        asked.answer(_read(b"x" * 100, end=9))
        (answer,) = client.answers()
        served += [partition for partition, (_, _, records) in _found(answer).items() if records]
        assert not bench.asked
    assert sorted(served) == [0, 1, 2, 3]


def test_a_wait_is_no_longer_than_it_may_be() -> None:
    bench = _bench()
    client = bench.connect()
    _send(client, max_wait=2**31 - 1)
    bench.take(apis.LOCATE).answer(_read())
    bench.pass_time(limits.FETCH_WAIT_MAX_MS / 1000 + 1)
    assert _found(client.answers()[0]) == {0: (0, 5, b"")}


def test_a_session_is_told_only_what_is_new() -> None:
    bench = _bench(2)
    client = bench.connect()
    _send(client, offsets={0: 5, 1: 5}, session_id=0, session_epoch=0, max_wait=0)
    for _ in range(2):
        bench.take(apis.LOCATE).answer(_read())
    (answer,) = client.answers()
    assert len(_found(answer)) == 2
    session_id = answer["session_id"]
    assert session_id > 0
    _send(client, offsets={}, session_id=session_id, session_epoch=1, max_wait=0)
    for records in (b"new", b""):
        bench.take(apis.LOCATE).answer(_read(records, end=6 if records else 5))
    (answer,) = client.answers()
    assert [records for _, _, records in _found(answer).values()] == [b"new"]
    _send(client, offsets={}, session_id=session_id, session_epoch=1)
    (answer,) = client.answers()
    assert answer["error_code"] == KafkaCode.INVALID_FETCH_SESSION_EPOCH


def test_a_session_ends_with_its_connection() -> None:
    bench = _bench()
    client = bench.connect()
    _send(client, session_id=0, session_epoch=0, max_wait=0)
    bench.take(apis.LOCATE).answer(_read())
    session_id = client.answers()[0]["session_id"]
    bench.broker.forget(client.connection)
    other = bench.connect()
    _send(other, offsets={}, session_id=session_id, session_epoch=1)
    assert other.answers()[0]["error_code"] == KafkaCode.FETCH_SESSION_ID_NOT_FOUND
