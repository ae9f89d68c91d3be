"""`raftlog consume --group`: what is written is committed, members share, and the next one goes on."""

from __future__ import annotations

import functools
import json
import signal
import subprocess
import time

import pytest

import raftlog
from raftlog import TopicPartition
from raftlog.node.local import LocalCluster
from raftlog_cli.consume_group import consume_in_group
from raftlog_cli.record_format import Consumed
from raftlog_cli.record_output import Start
from tests.cli.command import run, start, unique
from tests.patience import WAIT_S


@pytest.fixture
def topic(cluster: LocalCluster) -> str:
    name = unique("shared")
    run(cluster, "topic", "create", name, "--partitions", "3")
    return name


def produce(cluster: LocalCluster, topic: str, first: int, end: int) -> list[bytes]:
    lines = [b"%d" % number for number in range(first, end)]
    run(cluster, "produce", topic, "--partitioner", "round-robin", stdin=b"\n".join(lines) + b"\n")
    return lines


def consumed(cluster: LocalCluster, topic: str, group: str, *arguments: str) -> list[bytes]:
    out = run(cluster, "consume", topic, "--group", group, "--exit-at-end", *arguments).stdout
    return sorted(out.split(), key=int)


def lag(cluster: LocalCluster, group: str) -> int:
    (shown,) = json.loads(run(cluster, "group", "describe", group, "--json").stdout)["groups"]
    return int(shown["lag"])


def test_a_group_goes_on_where_it_has_committed(cluster: LocalCluster, topic: str) -> None:
    group = unique("going-on")
    lines = produce(cluster, topic, 0, 30)
    first = consumed(cluster, topic, group, "--from", "beginning", "--max", "10")
    assert len(first) == 10
    assert lag(cluster, group) == 20
    rest = consumed(cluster, topic, group, "--from", "beginning")
    assert sorted(first + rest, key=int) == lines
    assert (consumed(cluster, topic, group, "--from", "beginning"), lag(cluster, group)) == ([], 0)
    assert consumed(cluster, topic, group) == []
    more = produce(cluster, topic, 30, 40)
    assert consumed(cluster, topic, group) == more


def test_without_a_commit_it_starts_as_from_says_at_the_end_by_default(cluster: LocalCluster, topic: str) -> None:
    lines = produce(cluster, topic, 0, 9)
    at_end, at_offset = unique("at-end"), unique("at-offset")
    assert consumed(cluster, topic, at_end) == []
    assert len(consumed(cluster, topic, at_offset, "--from", "2")) == 3
    assert consumed(cluster, topic, unique("by-time"), "--from", "-1h") == lines
    more = produce(cluster, topic, 9, 12)
    assert consumed(cluster, topic, at_end, "--from", "beginning") == more


def test_members_share_and_ctrl_c_commits_what_was_written(cluster: LocalCluster, topic: str) -> None:
    group = unique("sharing")
    members = [start(cluster, "consume", topic, "--group", group, "--from", "beginning") for _ in range(2)]
    try:
        deadline_s = time.monotonic() + WAIT_S
        while time.monotonic() < deadline_s:
            described = run_json(cluster, "group", "list")
            if {"group": group, "state": "Stable", "members": 2} in described["groups"]:
                break
            time.sleep(0.1)
        lines = produce(cluster, topic, 0, 300)
        while lag(cluster, group) or run_json(cluster, "group", "describe", group)["groups"][0]["partitions"] == []:
            assert time.monotonic() < deadline_s + 30
            time.sleep(0.1)
    finally:
        for member in members:
            member.send_signal(signal.SIGINT)
        outputs = [member.communicate(timeout=WAIT_S)[0] for member in members]
    assert [member.returncode for member in members] == [0, 0]
    assert all(outputs), "both had a share"
    assert sorted(b"".join(outputs).split(), key=int) == lines
    assert lag(cluster, group) == 0
    assert consumed(cluster, topic, group, "--from", "beginning") == []


def end(member: subprocess.Popen[bytes], *numbers: int) -> int:
    """By signals one after the other, or by a reader that goes away. The exit code."""
    assert member.stdout is not None
    for number in numbers:
        member.send_signal(number)
    if not numbers:
        member.stdout.close()
    code = member.wait(30)
    assert member.stderr is not None
    err = member.stderr.read()
    assert b"Traceback" not in err, err.decode()
    return code


def test_whatever_ends_a_member_it_commits_what_was_written_and_leaves_the_group(
    cluster: LocalCluster, topic: str
) -> None:
    """Nobody waits for its session to end, which takes 45 s."""
    lines = produce(cluster, topic, 0, 9)
    ends = {
        (signal.SIGTERM,): 128 + signal.SIGTERM,
        (signal.SIGHUP,): 128 + signal.SIGHUP,
        (signal.SIGINT, signal.SIGINT): 0,
        (signal.SIGTERM, signal.SIGTERM): 128 + signal.SIGTERM,
        (): 0,
    }
    groups = [unique("ended") for _ in ends]
    arguments = ("consume", topic, "--from", "beginning", "--group")
    members = [start(cluster, *arguments, group) for group in groups]
    try:
        for group, (numbers, code), member in zip(groups, ends.items(), members, strict=True):
            assert member.stdout is not None
            assert sorted((member.stdout.readline().strip() for _ in lines), key=int) == lines
            assert end(member, *numbers) == code
            with raftlog.Admin(cluster.bootstrap) as admin:
                assert admin.describe_group(group).members == [], f"{numbers} left a member behind"
            assert lag(cluster, group) == 0
    finally:
        for member in members:
            member.kill()
            member.communicate()


def test_a_signal_in_the_middle_of_the_output_cuts_no_line_and_forgets_none(cluster: LocalCluster, topic: str) -> None:
    """What the reader has is committed, to the record: whoever goes on neither misses nor repeats one."""
    produce(cluster, topic, 0, 20_000)
    group = unique("cut")
    member = start(cluster, "consume", topic, "--from", "beginning", "--group", group)
    try:
        assert member.stdout is not None
        read = [member.stdout.readline() for _ in range(300)]  # the pipe is full: it is within a write
        member.send_signal(signal.SIGTERM)
        read += member.stdout.readlines()
        assert member.wait(60) == 128 + signal.SIGTERM
        assert all(line.endswith(b"\n") for line in read)
        with raftlog.Admin(cluster.bootstrap) as admin:
            assert sum(admin.group_offsets(group).values()) == len(read)
    finally:
        member.kill()
        member.communicate()


@pytest.mark.parametrize("written_before", [0, 8], ids=["at-first", "at-last"])
def test_a_member_that_could_not_write_for_too_long_writes_once_more_and_goes_on(
    cluster: LocalCluster,
    topic: str,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
    written_before: int,
) -> None:
    """As one whose reader is a pager that nobody looks at: its partitions are others' by the time it could commit."""
    monkeypatch.setattr(raftlog, "Consumer", functools.partial(raftlog.Consumer, max_poll_interval_ms=1000))
    lines, group = produce(cluster, topic, 0, 9), unique("left-alone")
    places = [TopicPartition(topic, number) for number in range(3)]
    stalls = iter([0.0] * written_before + [2.0])

    def format_value(record: Consumed) -> bytes:
        time.sleep(next(stalls, 0))
        return (record.value or b"") + b"\n"

    consume_in_group(cluster.bootstrap, group, places, Start("beginning", None), True, format_value, None)
    written = capsysbinary.readouterr().out.split()
    assert len(written) > len(lines)
    assert sorted(set(written), key=int) == lines
    assert lag(cluster, group) == 0


def run_json(cluster: LocalCluster, *arguments: str) -> dict[str, list[dict[str, object]]]:
    shown: dict[str, list[dict[str, object]]] = json.loads(run(cluster, *arguments, "--json").stdout)
    return shown


def test_partitions_are_not_chosen_in_a_group(cluster: LocalCluster, topic: str) -> None:
    refused = run(cluster, "consume", topic, "--group", "g", "--partition", "0", code=2)
    assert b"--group and --partition do not go together" in refused.stderr
