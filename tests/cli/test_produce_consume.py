"""What `raftlog produce` takes, `raftlog consume` gives back, byte for byte; and how both end."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import time
import zlib
from pathlib import Path

import pytest

from raftlog.node.local import LocalCluster
from tests.cli.command import COMMAND, environment, run, start, unique
from tests.patience import WAIT_S


@pytest.fixture
def topic(cluster: LocalCluster) -> str:
    name = unique("records")
    run(cluster, "topic", "create", name, "--partitions", "2")
    return name


def _all(cluster: LocalCluster, topic: str, *arguments: str) -> bytes:
    return run(cluster, "consume", topic, "--from", "beginning", "--exit-at-end", *arguments).stdout


def _objects(output: bytes) -> list[dict[str, object]]:
    return [json.loads(line) for line in output.splitlines()]


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_a_file_comes_back_line_by_line(cluster: LocalCluster, topic: str, tmp_path: Path, compression: str) -> None:
    path = tmp_path / "lines.txt"
    lines = [b"line %d \xe2\x82\xac %s" % (number, b"x" * (number % 90)) for number in range(3_000)]
    path.write_bytes(b"\n".join(lines) + b"\n")
    done = run(cluster, "produce", topic, "--file", str(path), "--partition", "1", "--compression", compression)
    assert done.stdout == b""
    assert b"produced 3,000 records" in done.stderr
    assert b"acknowledged 3,000, acks=all" in done.stderr
    assert _all(cluster, topic) == path.read_bytes()
    assert _all(cluster, topic, "--partition", "0") == b""


def test_keys_and_headers_come_back(cluster: LocalCluster, topic: str) -> None:
    run(
        cluster,
        "produce",
        topic,
        "--key-separator",
        r"\t",
        "--header",
        "a=1",
        "--header",
        "b=x=y",
        stdin=b"k1\tv1\nk2\tv2\tw\n\tempty key\nk4\t\n",
    )
    found = {record["key"]: record for record in _objects(_all(cluster, topic, "--json"))}
    assert {key: record["value"] for key, record in found.items()} == {
        "k1": "v1",
        "k2": "v2\tw",
        "": "empty key",
        "k4": "",
    }
    headers = [{"name": "a", "value": "1"}, {"name": "b", "value": "x=y"}]
    assert [record["headers"] for record in found.values()] == [headers] * 4
    assert abs(int(str(found["k1"]["timestamp_ms"])) - time.time() * 1000) < 60_000


def test_null_delimited_binary_comes_back_as_bytes_and_as_base64(cluster: LocalCluster, topic: str) -> None:
    binary = bytes(range(1, 256))
    run(cluster, "produce", topic, "--null-delimited", "--partition", "0", stdin=binary + b"\0two\nlines\0")
    assert _all(cluster, topic, "--format", r"%v\0") == binary + b"\0two\nlines\0"
    first, second = _objects(_all(cluster, topic, "--json"))
    assert base64.b64decode(str(first["value"])) == binary
    assert first["value_encoding"] == "base64"
    assert (second["value"], second["key"]) == ("two\nlines", None)


def test_formats_are_written_with_their_escapes(cluster: LocalCluster, topic: str) -> None:
    run(cluster, "produce", topic, "--partition", "1", "--key-separator", ":", stdin=b"k:v\nK:V\n")
    shown = _all(cluster, topic, "--format", r"%t\t%p %o\x7c%k=%v 100%%\n").decode()
    assert shown == f"{topic}\t1 0|k=v 100%\n{topic}\t1 1|K=V 100%\n"


def test_an_offset_a_partition_and_a_number_choose_the_records(cluster: LocalCluster, topic: str) -> None:
    run(cluster, "produce", topic, "--partition", "0", stdin=b"".join(b"%d\n" % number for number in range(100)))
    shown = run(cluster, "consume", topic, "--from", "40", "--partition", "0", "--max", "3").stdout
    assert shown == b"40\n41\n42\n"
    refused = run(cluster, "consume", topic, "--from", "101", "--partition", "0", code=1)
    assert f"{topic}-0 has offsets 0 to 100 (exclusive), not 101".encode() in refused.stderr


def test_several_topics_are_read_together(cluster: LocalCluster, topic: str) -> None:
    other = unique("other")
    run(cluster, "produce", topic, stdin=b"one\n")
    run(cluster, "produce", other, "--create", stdin=b"two\n")
    shown = run(cluster, "consume", topic, other, "--from", "beginning", "--exit-at-end", "--format", r"%t %v\n").stdout
    assert sorted(shown.decode().splitlines()) == sorted([f"{topic} one", f"{other} two"])


def test_what_comes_later_is_shown_from_the_end_on_and_ctrl_c_is_clean(cluster: LocalCluster, topic: str) -> None:
    run(cluster, "produce", topic, stdin=b"before\n")
    with start(cluster, "consume", topic) as consumer:
        assert consumer.stdout is not None
        # Until the consumer has found the end, what is sent counts as "before".
        line = b""
        deadline_s = time.monotonic() + WAIT_S
        while not line and time.monotonic() < deadline_s:
            run(cluster, "produce", topic, stdin=b"after\n")
            line = _line_within(consumer, 1.0)
        assert line == b"after\n"
        consumer.send_signal(signal.SIGINT)
        assert consumer.wait(WAIT_S) == 0
        assert consumer.stderr is not None
        assert consumer.stderr.read() == b""


def _line_within(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    import select

    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], seconds)
    return process.stdout.readline() if ready else b""


@pytest.mark.parametrize("count", [1, 50_000])
def test_a_reader_that_goes_ends_the_consumer_cleanly(cluster: LocalCluster, topic: str, count: int) -> None:
    """With one record it has nothing more to write and has to notice all the same."""
    run(cluster, "produce", topic, stdin=b"a line of some length\n" * count)
    command = " ".join(COMMAND)
    done = subprocess.run(
        ["bash", "-c", f"{command} consume {topic} --from beginning | head -1; echo ${{PIPESTATUS[0]}}"],
        capture_output=True,
        env=environment(cluster.bootstrap),
        timeout=WAIT_S,
        check=True,
    )
    assert (done.stdout, done.stderr) == (b"a line of some length\n0\n", b"")


def test_a_topic_that_is_not_there_is_refused_with_the_command_that_creates_it(cluster: LocalCluster) -> None:
    name = unique("missing")
    for arguments in (["produce", name], ["consume", name], ["topic", "describe", name]):
        done = run(cluster, *arguments, stdin=b"x\n", code=1)
        assert done.stdout == b""
        assert done.stderr.count(b"\n") == 1
        assert f"raftlog topic create {name}".encode() in done.stderr


def test_create_makes_the_topic_once(cluster: LocalCluster) -> None:
    name = unique("made")
    run(cluster, "produce", name, "--create", stdin=b"1\n")
    run(cluster, "produce", name, "--create", stdin=b"2\n")
    assert _all(cluster, name) == b"1\n2\n"


def test_a_partition_that_is_not_there_is_refused(cluster: LocalCluster, topic: str) -> None:
    for arguments in (["produce", topic], ["consume", topic]):
        done = run(cluster, *arguments, "--partition", "2", stdin=b"x\n", code=1)
        assert b"there is no partition 2" in done.stderr


def test_a_line_without_key_ends_the_command_and_says_which(cluster: LocalCluster, topic: str) -> None:
    done = run(cluster, "produce", topic, "--key-separator", ":", stdin=b"a:1\nb\nc:3\n", code=1)
    assert b"record 2 has no key separator" in done.stderr
    assert _all(cluster, topic) == b"1\n"


def test_a_record_that_is_too_large_fails_alone(cluster: LocalCluster, topic: str) -> None:
    large = b"x" * 2_000_000
    done = run(cluster, "produce", topic, "--partition", "0", stdin=b"a\n" + large + b"\nb\n", code=1)
    assert b"1 of 3 records were not acknowledged; record 2:" in done.stderr
    assert _all(cluster, topic) == b"a\nb\n"


@pytest.mark.parametrize("acks", ["0", "1", "all"])
def test_every_kind_of_acknowledgement(cluster: LocalCluster, topic: str, acks: str) -> None:
    done = run(cluster, "produce", topic, "--acks", acks, "--partition", "0", "--json", stdin=b"a\nb\n")
    (summary,) = _objects(done.stdout)
    assert (summary["records"], summary["failed"], summary["acks"]) == (2, 0, acks)
    deadline_s = time.monotonic() + WAIT_S
    while (shown := _all(cluster, topic)) != b"a\nb\n" and time.monotonic() < deadline_s:
        time.sleep(0.1)  # with acks=0 nobody said yet that it is there
    assert shown == b"a\nb\n"


def test_partitioners_choose_the_partition(cluster: LocalCluster, topic: str, tmp_path: Path) -> None:
    keys = [b"alpha", b"beta", b"gamma", b"delta", b"omega"]
    lines = b"".join(key + b":v\n" for key in keys)
    run(cluster, "produce", topic, "--key-separator", ":", "--partitioner", "crc32", stdin=lines)
    found = {str(record["key"]).encode(): record["partition"] for record in _objects(_all(cluster, topic, "--json"))}
    assert found == {key: zlib.crc32(key) % 2 for key in keys}

    (tmp_path / "mine.py").write_text("def last(key, partitions):\n    return partitions[-1]\n")
    done = subprocess.run(
        [*COMMAND, "produce", topic, "--partitioner", "mine:last"],
        input=b"from a function\n",
        cwd=tmp_path,
        env=environment(cluster.bootstrap),
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == 0
    assert b"from a function\n" in _all(cluster, topic, "--partition", "1")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupting_a_producer_reports_what_was_acknowledged(
    cluster: LocalCluster, topic: str, number: signal.Signals
) -> None:
    with start(cluster, "produce", topic) as producer:
        assert producer.stdin is not None
        producer.stdin.write(b"first\n")
        producer.stdin.flush()
        deadline_s = time.monotonic() + WAIT_S
        while _all(cluster, topic) != b"first\n":
            assert time.monotonic() < deadline_s
        producer.send_signal(number)
        assert producer.wait(WAIT_S) == 128 + number
        assert producer.stderr is not None
        assert b"acknowledged 1, acks=all" in producer.stderr.read()


@pytest.mark.parametrize(
    "arguments",
    [["produce", "a"], ["consume", "a"], ["topic", "list"], ["topic", "create", "a"], ["cluster", "status"]],
)
def test_a_cluster_that_does_not_answer_is_reported_in_bounded_time(arguments: list[str]) -> None:
    start_s = time.monotonic()
    done = subprocess.run(
        [*COMMAND, *arguments, "--bootstrap", "127.0.0.1:1"],
        input=b"x\n",
        capture_output=True,
        timeout=WAIT_S,
        check=False,
    )
    assert time.monotonic() - start_s < 25
    assert done.returncode == 1
    assert done.stdout == b""
    assert done.stderr.count(b"\n") == 1
    assert b"127.0.0.1:1" in done.stderr
    assert b"raftlog node start" in done.stderr
