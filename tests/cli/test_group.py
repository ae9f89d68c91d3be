"""`raftlog group`: what is shown of groups, and what may be done to them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from raftlog import Admin, Producer, TopicPartition
from raftlog.client.admin.groups import GroupDescription, MemberDescription
from raftlog.errors import GroupIdNotFoundError, NonEmptyGroupError
from raftlog.node.local import LocalCluster
from raftlog.protocol import groups as g
from raftlog.protocol.consumer_protocol import PROTOCOL_TYPE, Subscription, encode_assignment, encode_subscription
from raftlog.view.groups import new_offsets, view_group
from tests.cli.command import run, unique
from tests.node.grouping import Grouping
from tests.patience import WAIT_S


def _json(cluster: LocalCluster, *arguments: str) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(run(cluster, *arguments, "--json").stdout)
    return shown


def _topic(cluster: LocalCluster, records: int = 10) -> str:
    """Two partitions: 0 has `records`, 1 has none; a second apart, up to the year 2001."""
    name = unique("grouped")
    run(cluster, "topic", "create", name, "--partitions", "2", "--config", "retention.ms=-1")
    with Producer(cluster.bootstrap, linger_ms=0) as producer:
        for number in range(records):
            producer.send(name, b"x", partition=0, timestamp_ms=1_000_000_000_000 + number * 1000).result(WAIT_S)
    return name


class _Member:
    """The only member of a group, with an assignment of its own making."""

    def __init__(self, cluster: LocalCluster, group_id: str, *partitions: TopicPartition) -> None:
        self._grouping = Grouping(lambda: cluster.endpoints[1], group_id)
        topics = tuple({place.topic for place in partitions})
        options = {
            "session_timeout_ms": 60_000,
            "rebalance_timeout_ms": 60_000,
            "client_id": "by-hand",
            "protocol_type": PROTOCOL_TYPE,
            "protocols": [("range", encode_subscription(Subscription(topics)))],
        }
        told = self._grouping.ask(g.JoinGroupRequest, member_id="", **options)
        self.joined = self._grouping.ask(g.JoinGroupRequest, member_id=told.member_id, **options)
        self._grouping.sync(self.joined, [(self.joined.member_id, encode_assignment(partitions))])

    def leave(self) -> None:
        leaving = g.LeavingMember(member_id=self.joined.member_id)
        self._grouping.ask(g.LeaveGroupRequest, members=[leaving])


def test_a_group_is_listed_described_and_deleted(cluster: LocalCluster) -> None:
    topic, name = _topic(cluster), unique("readers")
    member = _Member(cluster, name, TopicPartition(topic, 0), TopicPartition(topic, 1))
    assert {"group": name, "state": "Stable", "members": 1} in _json(cluster, "group", "list")["groups"]
    (shown,) = _json(cluster, "group", "describe", name)["groups"]
    assert (shown["group"], shown["state"], shown["protocol"], shown["lag"]) == (name, "Stable", "range", 0)
    assert shown["coordinator"] in (1, 2, 3)
    (described,) = shown["members"]
    assert (described["member"], described["client"]) == (member.joined.member_id, "by-hand")
    assert described["partitions"] == [f"{topic}-0", f"{topic}-1"]
    assert [(each["partition"], each["committed_offset"], each["log_end_offset"]) for each in shown["partitions"]] == [
        (0, None, 10),
        (1, None, 0),
    ]
    refused = run(cluster, "group", "delete", name, code=1).stderr
    assert b"has members" in refused and b"NON_EMPTY_GROUP" in refused
    reset = ("group", "reset-offsets", name, "--topic", topic, "--to-beginning")
    assert b"has 1 member" in run(cluster, *reset, code=1).stderr
    assert b"has 1 member" in run(cluster, *reset, "--execute", code=1).stderr
    member.leave()
    assert b"there is no group" in run(cluster, *reset, "--execute", code=1).stderr, "it has committed nothing"
    run(cluster, *reset, "--execute", "--create")
    (shown,) = _json(cluster, "group", "describe", name)["groups"]
    assert (shown["state"], shown["members"], shown["lag"]) == ("Empty", [], 10)
    assert b"deleted group" in run(cluster, "group", "delete", name).stdout
    assert b"GROUP_ID_NOT_FOUND" in run(cluster, "group", "delete", name, code=1).stderr
    assert b"GROUP_ID_NOT_FOUND" in run(cluster, "group", "describe", name, code=1).stderr
    with Admin(cluster.bootstrap) as admin:
        admin.set_group_offsets(name + "x", {TopicPartition(topic, 0): 1})
    for command in ("describe", "delete"):
        assert b"did you mean " + name.encode() + b"x?" in run(cluster, "group", command, name, code=1).stderr
    run(cluster, "group", "delete", name + "x")
    run(cluster, "topic", "delete", topic)


def test_offsets_are_reset_in_every_way_and_never_beyond_what_exists(cluster: LocalCluster) -> None:
    topic, name = _topic(cluster), unique("reset")
    with Admin(cluster.bootstrap) as admin:
        admin.delete_records({TopicPartition(topic, 0): 2})

        def reset(*how: str, does: str = "--execute") -> list[tuple[int | None, int]]:
            shown = _json(cluster, "group", "reset-offsets", name, "--topic", topic, *how, does)
            assert shown["dry_run"] is (does != "--execute")
            return [(each["before"], each["after"]) for each in shown["partitions"]]

        shifted = ("group", "reset-offsets", name, "--topic", topic, "--shift-by", "1", "--create")
        assert b"could be shifted" in run(cluster, *shifted, code=1).stderr
        assert reset("--to-end", "--create", does="--dry-run") == [(None, 10), (None, 0)]
        shown = run(cluster, "group", "reset-offsets", name, "--topic", topic, "--to-end", "--create")
        assert b"nothing was changed; --execute does it" in shown.stderr
        assert admin.group_offsets(name) == {}, "it was only shown"
        assert reset("--to-end", "--create") == [(None, 10), (None, 0)]
        assert admin.group_offsets(name) == {TopicPartition(topic, 0): 10, TopicPartition(topic, 1): 0}
        assert reset("--shift-by", "-3") == [(10, 7), (0, 0)]
        assert reset("--shift-by", "-100") == [(7, 2), (0, 0)]
        assert reset("--to-offset", "5") == [(2, 5), (0, 0)]
        assert reset("--to-offset", "500") == [(5, 10), (0, 0)]
        assert reset("--to-beginning") == [(10, 2), (0, 0)]
        assert reset("--to-time", "2001-09-09T01:46:43.500Z") == [(2, 4), (0, 0)]
        assert reset("--to-time", "-1h") == [(4, 10), (0, 0)]
        mistyped = ("group", "reset-offsets", name + "x", "--topic", topic, "--to-end")
        for how in ((), ("--execute",)):
            refused = run(cluster, *mistyped, *how, code=1).stderr
            assert f"there is no group {name}x; did you mean {name}?; --create makes it".encode() in refused
        refused = run(cluster, "group", "reset-offsets", name, "--topic", topic + "x", "--to-end", code=1).stderr
        assert f"does not exist; did you mean {topic}?".encode() in refused
        assert name + "x" not in {each.group_id for each in admin.list_groups()}
        plain = run(cluster, "group", "reset-offsets", name, "--topic", topic, "--to-beginning").stdout.decode()
        assert plain.splitlines()[1].split() == [topic, "0", "10", "2"]
    run(cluster, "group", "delete", name)
    run(cluster, "topic", "delete", topic)


@pytest.mark.parametrize(
    ("how", "code", "said"),
    [
        ([], 2, b"exactly one of"),
        (["--to-end", "--to-beginning"], 2, b"exactly one of"),
        (["--to-time", "soon"], 2, b"'soon' is not a time"),
        (["--to-offset", "-1"], 2, b"-1"),
        (["--to-end"], 1, b"does not exist"),
    ],
)
def test_a_reset_that_cannot_be_is_refused_in_one_line(
    cluster: LocalCluster, how: list[str], code: int, said: bytes
) -> None:
    refused = run(cluster, "group", "reset-offsets", "g", "--create", "--topic", "no-such-topic", *how, code=code)
    assert said in refused.stderr


def test_offsets_of_a_topic_made_anew_are_not_those_of_the_old_one(cluster: LocalCluster) -> None:
    topic, name = _topic(cluster), unique("anew")
    place = TopicPartition(topic, 0)
    with Admin(cluster.bootstrap) as admin:
        admin.set_group_offsets(name, {place: 7})
        assert admin.group_offsets(name) == {place: 7}
        run(cluster, "topic", "delete", topic)
        assert admin.group_offsets(name) == {}
        run(cluster, "topic", "create", topic)
        assert admin.group_offsets(name) == {}
        admin.set_group_offsets(name, {place: 0})
        assert admin.group_offsets(name) == {place: 0}
        with pytest.raises(GroupIdNotFoundError):
            admin.describe_group(unique("nobody"))
        admin.delete_group(name)
        member = _Member(cluster, name, place)
        with pytest.raises(NonEmptyGroupError):
            admin.set_group_offsets(name, {place: 0})
        member.leave()
    run(cluster, "topic", "delete", topic)


def test_lag_is_what_is_not_committed_yet_and_idle_members_are_shown() -> None:
    first, second, third = (TopicPartition("t", number) for number in range(3))
    owner = MemberDescription("m1", None, "c1", [first, second])
    idle = MemberDescription("m2", "i2", "c2", [])
    described = GroupDescription("g", "Stable", "consumer", "range", 3, -1, [idle, owner])
    view = view_group(
        described, {first: 4, third: 9}, dict.fromkeys((first, second, third), 0), {first: 10, second: 5, third: 7}
    )
    assert view.coordinator is None
    assert view.lag == 6
    assert [(each.committed_offset, each.log_end_offset, each.lag, each.member) for each in view.partitions] == [
        (4, 10, 6, "m1"),
        (None, 5, None, "m1"),
        (9, 7, 0, None),
    ]
    assert [(each.member, each.partitions) for each in view.members] == [("m1", ["t-0", "t-1"]), ("m2", [])]
    assert new_offsets(
        {first: 0, second: 9, third: 4}, dict.fromkeys((first, second, third), 2), {first: 5, second: 5, third: 5}
    ) == {first: 2, second: 5, third: 4}


def test_lag_does_not_count_what_was_removed() -> None:
    """By retention, or by a deletion of records: nobody can read it any more."""
    place, beyond, unknown = (TopicPartition("t", number) for number in range(3))
    described = GroupDescription("g", "Empty", "", "", 0, 1, [])
    view = view_group(described, {place: 4, beyond: 4, unknown: 4}, {place: 7, beyond: 10}, {place: 10, beyond: 10})
    assert [each.lag for each in view.partitions] == [3, 0, None]
    assert [each.log_start_offset for each in view.partitions] == [7, 10, None]
    assert view.lag == 3
