"""`raftlog topic alter`: what changes, what does not, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from raftlog.node.local import LocalCluster
from tests.cli.command import run, unique


def _json(cluster: LocalCluster, *arguments: str) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(run(cluster, *arguments, "--json").stdout)
    return shown


def test_settings_and_partitions_change_and_what_is_described_says_so(cluster: LocalCluster) -> None:
    name = unique("altered")
    run(cluster, "topic", "create", name, "--partitions", "2", "--config", "retention.ms=5000")
    run(cluster, "produce", name, "--partitioner", "round-robin", stdin=b"a\nb\n")
    altered = _json(
        cluster,
        "topic",
        "alter",
        name,
        "--partitions",
        "5",
        "--config",
        "segment.bytes=2048",
        "--config",
        "cleanup.policy=compact,delete",
        "--reset",
        "retention.ms",
    )
    (described,) = _json(cluster, "topic", "describe", name)["topics"]
    assert (altered["topic"], altered["partitions"], altered["config"]) == (name, 5, described["config"])
    assert described["config"]["segment_bytes"] == 2048
    assert described["config"]["retention_ms"] == 7 * 24 * 3600 * 1000
    assert described["config"]["cleanup_policy"] == "compact,delete"
    assert [each["partition"] for each in described["partitions"]] == [0, 1, 2, 3, 4]
    refused = run(cluster, "produce", name, stdin=b"no key\n", code=1).stderr
    assert b"a record without a key" in refused
    keyed = b"1:c\n2:d\n3:e\n4:f\n5:g\n"
    run(cluster, "produce", name, "--partitioner", "round-robin", "--key-separator", ":", stdin=keyed)
    consumed = run(cluster, "consume", name, "--from", "beginning", "--exit-at-end").stdout
    assert sorted(consumed.split()) == [b"a", b"b", b"c", b"d", b"e", b"f", b"g"]
    assert b"cleanup_policy=compact,delete" in run(cluster, "topic", "describe", name).stdout
    run(cluster, "topic", "delete", name)


def test_a_running_worker_obeys_the_new_settings(cluster: LocalCluster) -> None:
    name = unique("obeyed")
    run(cluster, "topic", "create", name)
    assert b"altered topic" in run(cluster, "topic", "alter", name, "--config", "max.message.bytes=1000").stdout
    assert b"max_record_bytes" in run(cluster, "produce", name, stdin=b"x" * 9000, code=1).stderr
    run(cluster, "topic", "alter", name, "--reset", "max.message.bytes")
    run(cluster, "produce", name, stdin=b"x" * 9000)
    run(cluster, "topic", "delete", name)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, b"nothing to change"),
        (["--config", "retention.ms"], 2, b"NAME=VALUE"),
        (["--config", "retention.ms=1", "--config", "retention.ms=2"], 2, b"twice"),
        (["--config", "retention.ms=soon"], 2, b"whole number"),
        (["--config", "cleanup.policy=shred"], 2, b"delete, compact, or compact,delete"),
        (["--reset", "colour"], 2, b"unknown topic config"),
        (["--partitions", "1"], 1, b"has 1 partition"),
        (["--partitions", "100000"], 1, b"at most"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    cluster: LocalCluster, arguments: list[str], code: int, said: bytes
) -> None:
    run(cluster, "topic", "create", "refused-alter", "--if-not-exists")
    assert said in run(cluster, "topic", "alter", "refused-alter", *arguments, code=code).stderr


def test_raftlog_s_own_topics_are_not_altered_and_not_listed_unless_asked_for(cluster: LocalCluster) -> None:
    refused = run(cluster, "topic", "alter", "__consumer_offsets", "--partitions", "30", code=1)
    assert b"belongs to raftlog itself" in refused.stderr
    assert b"__" not in run(cluster, "topic", "list").stdout
    assert b"does not exist" in run(cluster, "topic", "alter", unique("nobody"), "--partitions", "3", code=1).stderr


def test_records_are_deleted_up_to_exactly_the_offset(cluster: LocalCluster) -> None:
    name = unique("trimmed")
    run(cluster, "topic", "create", name)
    run(cluster, "produce", name, stdin=b"a\nb\nc\nd\n")
    delete = ("topic", "delete-records", name, "--partition")
    assert _json(cluster, *delete, "0", "--before", "3") == {"topic": name, "partition": 0, "log_start_offset": 3}
    assert run(cluster, "consume", name, "--from", "beginning", "--exit-at-end").stdout == b"d\n"
    assert b"starts at offset 4" in run(cluster, *delete, "0", "--before", "end").stdout
    assert b"OFFSET_OUT_OF_RANGE" in run(cluster, *delete, "0", "--before", "5", code=1).stderr
    assert b"neither an offset nor end" in run(cluster, *delete, "0", "--before", "-1", code=2).stderr
    assert b"no partition 1" in run(cluster, *delete, "1", "--before", "3", code=1).stderr
    run(cluster, "topic", "alter", name, "--config", "cleanup.policy=compact")
    assert b"POLICY_VIOLATION" in run(cluster, *delete, "0", "--before", "4", code=1).stderr
    run(cluster, "topic", "delete", name)
    assert b"does not exist" in run(cluster, *delete, "0", "--before", "1", code=1).stderr


def test_internal_topics_are_listed_when_asked_for(cluster: LocalCluster) -> None:
    from raftlog import Admin, TopicPartition

    name = unique("internal")
    run(cluster, "topic", "create", name)
    with Admin(cluster.bootstrap) as admin:
        admin.set_group_offsets(name, {TopicPartition(name, 0): 0})  # makes the topic
    listed = [each["topic"] for each in _json(cluster, "topic", "list", "--internal")["topics"]]
    assert "__consumer_offsets" in listed
    assert "__consumer_offsets" not in [each["topic"] for each in _json(cluster, "topic", "list")["topics"]]
    run(cluster, "topic", "delete", name)
