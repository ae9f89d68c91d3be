"""`raftlog export` and `raftlog import`: a topic goes to a directory and comes back as it was, each record once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from raftlog import Admin, Consumer, Producer, TopicPartition
from raftlog.client import NewTopic
from raftlog.client.admin.batches import BatchWriter
from raftlog.node.local import LocalCluster
from raftlog.types import LATEST_TIMESTAMP
from raftlog_cli.log_copy import batches
from tests.cli.command import TIMEOUT_S, run, start, unique
from tests.node.asking import until
from tests.record.log_batches import batch_of, control_of

Seen = list[tuple[int, int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]]


def _read(cluster: LocalCluster, place: TopicPartition) -> Seen:
    seen: Seen = []
    with Consumer(bootstrap_servers=cluster.bootstrap, auto_offset_reset="earliest") as consumer:
        (end,) = consumer.end_offsets([place]).values()
        consumer.assign([place])
        while consumer.position(place) < end:
            for record in consumer.poll(500).get(place, []):
                seen.append((record.offset, record.timestamp_ms, record.key, record.value, record.headers))
    return seen


def _topic(cluster: LocalCluster, compression: str = "none", records: int = 30) -> str:
    """Two partitions, of several batches each."""
    name = unique("copied")
    run(cluster, "topic", "create", name, "--partitions", "2", "--config", "retention.ms=-1")
    with Producer(cluster.bootstrap, linger_ms=0, compression=compression) as producer:
        for number in range(records):
            producer.send(
                name,
                b"v%d" % number * 50,
                key=None if number % 3 else b"k",
                partition=number % 2,
                headers=[("h", b"%d" % number)],
                timestamp_ms=1_000_000_000_000 + number,
            ).result(TIMEOUT_S)
    return name


def _export(cluster: LocalCluster, name: str, directory: Path) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(run(cluster, "export", name, "--to", str(directory), "--json").stdout)
    return shown


@pytest.mark.parametrize(("compression", "target"), [("none", "x"), ("zstd", "x.raftlog")])
def test_a_topic_comes_back_as_it_was(cluster: LocalCluster, tmp_path: Path, compression: str, target: str) -> None:
    name, copy = _topic(cluster, compression), unique("copy")
    shown = _export(cluster, name, tmp_path / target)
    assert [each["end_offset"] for each in shown["partitions"]] == [15, 15]
    run(cluster, "import", copy, "--from", str(tmp_path / target), "--keep-offsets")
    assert [path.name for path in tmp_path.iterdir()] == [target]
    for number in range(2):
        assert _read(cluster, TopicPartition(copy, number)) == _read(cluster, TopicPartition(name, number))
    described = json.loads(run(cluster, "topic", "describe", name, copy, "--json").stdout)["topics"]
    assert described[0]["config"] == described[1]["config"]


def test_an_import_that_is_started_again_writes_nothing_twice(cluster: LocalCluster, tmp_path: Path) -> None:
    name, copy = _topic(cluster), unique("copy")
    _export(cluster, name, tmp_path / "x")
    # As a first import left it that was killed behind four batches of partition 0.
    with Admin(cluster.bootstrap) as admin, BatchWriter(cluster.bootstrap) as writer:
        admin.create_topics([NewTopic(name=copy, partitions=2)])
        writer.begin()
        written = 0
        for found in list(batches(tmp_path / "x" / f"{name}-0" / f"{0:020}.log"))[:4]:
            assert writer.write(TopicPartition(copy, 0), found.data, written) == written
            written += found.header.record_count
    shown = json.loads(run(cluster, "import", copy, "--from", str(tmp_path / "x"), "--json").stdout)
    assert [(each["found_before"], each["records"]) for each in shown["partitions"]] == [
        (written, 15 - written),
        (0, 15),
    ]
    again = json.loads(run(cluster, "import", copy, "--from", str(tmp_path / "x"), "--json").stdout)
    assert [(each["found_before"], each["records"]) for each in again["partitions"]] == [(15, 0), (15, 0)]
    for number in range(2):
        assert _read(cluster, TopicPartition(copy, number)) == _read(cluster, TopicPartition(name, number))


def test_a_topic_with_other_records_is_left_alone(cluster: LocalCluster, tmp_path: Path) -> None:
    name, other = _topic(cluster), _topic(cluster)
    _export(cluster, name, tmp_path / "x")
    with Producer(cluster.bootstrap) as producer:
        producer.send(other, b"more", partition=0).result(TIMEOUT_S)
    refused = run(cluster, "import", other, "--from", str(tmp_path / "x"), code=1).stderr
    assert b"holds other records than the import" in refused
    assert len(_read(cluster, TopicPartition(other, 0))) == 16


def test_an_export_that_was_interrupted_goes_on(cluster: LocalCluster, tmp_path: Path) -> None:
    name, directory = _topic(cluster), tmp_path / "x"
    _export(cluster, name, directory)
    path = directory / f"{name}-0" / f"{0:020}.log"
    whole, manifest = path.read_bytes(), json.loads((directory / "export.json").read_text())
    (directory / "export.json").write_text(json.dumps({**manifest, "complete": False}))
    path.write_bytes(whole[: len(whole) // 2])  # within a batch
    refused = run(cluster, "import", unique("copy"), "--from", str(directory), code=1).stderr
    assert b"is not complete" in refused
    with Producer(cluster.bootstrap) as producer:
        producer.send(name, b"later", partition=0).result(TIMEOUT_S)  # not in an export that has begun
    _export(cluster, name, directory)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("left", [1.0, 0.9, 0.3, 0.01])
def test_one_file_is_gone_on_with(cluster: LocalCluster, tmp_path: Path, left: float) -> None:
    """When it was interrupted, so much was there: all, a partition and a part, a part, half of the first line."""
    name, target = _topic(cluster), tmp_path / "x.raftlog"
    with Admin(cluster.bootstrap) as admin:
        admin.delete_records({TopicPartition(name, 0): 4})
    _export(cluster, name, target)
    whole = target.read_bytes()
    assert b"complete already" in run(cluster, "export", name, "--to", str(target)).stderr
    target.unlink()
    (tmp_path / "x.raftlog.part").write_bytes(whole[: round(len(whole) * left)])
    again = run(cluster, "export", name, "--to", str(target))
    assert (b"going on" in again.stderr) is (left > 0.1)
    assert target.read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == ["x.raftlog"]


def test_one_file_that_was_cut_or_damaged_is_no_import(cluster: LocalCluster, tmp_path: Path) -> None:
    name, target = _topic(cluster), tmp_path / "x.raftlog"
    _export(cluster, name, target)
    whole = target.read_bytes()
    first = whole.index(b"\n") + 1

    def refused() -> bytes:
        return run(cluster, "import", unique("copy"), "--from", str(target), code=1).stderr

    target.write_bytes(whole[:-20])
    assert b"partition 1 ends at offset 14, and records up to 15 belong to it" in refused()
    target.write_bytes(whole[:first])
    assert b"partition 0 ends at offset 0" in refused()
    target.write_bytes(whole[:-3] + b"!" + whole[-2:])
    assert b"the checksum of a batch does not match" in refused()
    target.write_bytes(whole[: first + 7] + b"\x09" + whole[first + 8 :])  # the offset, which has no checksum
    assert b"no batch with offset 0" in refused()
    target.write_bytes(b"hello\n")
    assert b"is no export, or is damaged" in refused()


def test_a_log_that_was_trimmed_moves_down_and_says_so(cluster: LocalCluster, tmp_path: Path) -> None:
    name, copy = _topic(cluster), unique("copy")
    with Admin(cluster.bootstrap) as admin:
        admin.delete_records({TopicPartition(name, 0): 4})
    _export(cluster, name, tmp_path / "x")
    refused = run(cluster, "import", copy, "--from", str(tmp_path / "x"), "--keep-offsets", code=1).stderr
    assert b"the record with offset 4 would get offset 0" in refused
    assert b"offsets have moved down by 4" in run(cluster, "import", copy, "--from", str(tmp_path / "x")).stderr
    there, here = _read(cluster, TopicPartition(name, 0)), _read(cluster, TopicPartition(copy, 0))
    assert [(offset - 4, *rest) for offset, *rest in there] == here


def test_a_copy_with_damage_is_not_imported_beyond_it(cluster: LocalCluster, tmp_path: Path) -> None:
    name = _topic(cluster)
    _export(cluster, name, tmp_path / "x")
    path = tmp_path / "x" / f"{name}-0" / f"{0:020}.log"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    refused = run(cluster, "import", unique("copy"), "--from", str(tmp_path / "x"), code=1).stderr
    assert b"the checksum of a batch does not match" in refused


@pytest.mark.parametrize("left", [-20, 0])
def test_a_copy_that_was_cut_is_no_whole_import(cluster: LocalCluster, tmp_path: Path, left: int) -> None:
    name, copy = _topic(cluster), unique("copy")
    _export(cluster, name, tmp_path / "x")
    path = tmp_path / "x" / f"{name}-1" / f"{0:020}.log"
    whole = path.read_bytes()
    path.write_bytes(whole[:left])
    refused = run(cluster, "import", copy, "--from", str(tmp_path / "x"), code=1).stderr
    assert b"partition 1 ends at offset %d, and records up to 15 belong to it" % (14 if left else 0) in refused
    path.write_bytes(whole)
    run(cluster, "import", copy, "--from", str(tmp_path / "x"))
    assert _read(cluster, TopicPartition(copy, 1)) == _read(cluster, TopicPartition(name, 1))


def test_an_import_that_is_killed_goes_on_where_it_was(cluster: LocalCluster, tmp_path: Path) -> None:
    name, copy = _topic(cluster, records=2000), unique("copy")
    place = TopicPartition(copy, 0)
    _export(cluster, name, tmp_path / "x")
    with Admin(cluster.bootstrap) as admin:
        admin.create_topics([NewTopic(name=copy, partitions=2)])
        killed = start(cluster, "import", copy, "--from", str(tmp_path / "x"))
        until(lambda: admin.list_offsets({place: LATEST_TIMESTAMP})[place] > 0)
        killed.kill()
        killed.communicate()
        assert admin.list_offsets({place: LATEST_TIMESTAMP})[place] < 1000
    run(cluster, "import", copy, "--from", str(tmp_path / "x"))
    assert _read(cluster, place) == _read(cluster, TopicPartition(name, 0))


def test_what_kafkas_consumers_could_read_is_imported_of_its_files(cluster: LocalCluster, tmp_path: Path) -> None:
    """Segments as a broker leaves them: a transaction that was aborted, one that was not, and an uncommitted tail."""
    copy = unique("copy")
    first = [
        batch_of(0, b"plain"),
        batch_of(1, b"committed", producer_id=1, more=0x10),
        batch_of(2, b"aborted", producer_id=2, more=0x10),
    ]
    second = [control_of(3, 1, 1), control_of(4, 2, 0), batch_of(5, b"last"), batch_of(6, b"not committed")]
    for number in range(2):
        (tmp_path / f"orders-{number}").mkdir()
    (tmp_path / "orders-0" / f"{0:020}.log").write_bytes(b"".join(first))
    (tmp_path / "orders-0" / f"{3:020}.log").write_bytes(b"".join(second) + b"\0" * 100)
    (tmp_path / "orders-1" / f"{0:020}.log").write_bytes(b"")
    (tmp_path / "replication-offset-checkpoint").write_text("0\n2\norders 0 6\norders 1 0\n")
    said = run(cluster, "import", copy, "--kafka-log-dir", str(tmp_path), "--source", "orders").stderr
    assert b"offsets have moved by different numbers" in said
    assert [record[3] for record in _read(cluster, TopicPartition(copy, 0))] == [b"plain", b"committed", b"last"]


def test_a_partition_that_is_not_there_is_asked_for(cluster: LocalCluster, tmp_path: Path) -> None:
    (tmp_path / "orders-1").mkdir()
    refused = run(cluster, "import", "orders", "--kafka-log-dir", str(tmp_path), code=1).stderr
    assert b"partition 0 of topic orders is not there: name the directories of the other brokers too" in refused


def test_a_segment_of_apache_kafka_4_4_is_read(cluster: LocalCluster) -> None:
    """Written by the real one: five codecs, two idempotent producers, three transactions, of which t2 was aborted."""
    name = unique("kafka")
    directory = Path(__file__).with_name("kafka_log_dir")
    run(cluster, "import", name, "--kafka-log-dir", str(directory), "--source", "orders")
    codecs = ("None", "gzip", "lz4", "snappy", "zstd")
    wanted = [f"{codec}-{number}" for codec in codecs for number in range(3)]
    wanted += [f"{transaction}-{number}" for transaction in ("t1", "t3") for number in range(2)]
    seen = _read(cluster, TopicPartition(name, 0))
    assert [value for *_, value, _ in seen] == [text.encode() for text in wanted]
    assert seen[0][2] == b"k" and seen[0][4] == [("h", b"1")]
