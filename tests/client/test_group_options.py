"""What a consumer takes of a group's settings, and refuses at once."""

from __future__ import annotations

from typing import Any

import pytest

from raftlog import Consumer, TopicPartition
from tests.client.fake_node import fake_node


@pytest.mark.parametrize(
    "options",
    [
        {"heartbeat_interval_ms": 45_000},
        {"heartbeat_interval_ms": 0},
        {"session_timeout_ms": float("inf")},
        {"max_poll_interval_ms": 0},
        {"max_poll_interval_ms": float("inf")},
        {"max_poll_interval_ms": float("nan")},
        {"auto_commit_interval_ms": -1},
        {"auto_commit_interval_ms": float("inf")},
        {"partition_assignment_strategy": []},
        {"partition_assignment_strategy": "range"},
        {"partition_assignment_strategy": ["sticky"]},
        {"group_instance_id": "\udcff"},
    ],
    ids=str,
)
def test_settings_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Consumer("t", bootstrap_servers="127.0.0.1:1", group_id="g", bootstrap_timeout_ms=100, **options)


def test_what_needs_a_group_says_so() -> None:
    with fake_node() as node, Consumer("t", bootstrap_servers=node.bootstrap) as consumer:
        for call in (consumer.commit, consumer.commit_async, lambda: consumer.committed([TopicPartition("t", 0)])):
            with pytest.raises(ValueError, match="group_id"):
                call()
        with pytest.raises(ValueError, match="group_id"):
            consumer.subscribe(pattern="t.*")
        with pytest.raises(ValueError, match="group_id"):
            consumer.subscribe(["t"], on_revoked=print)


def test_names_or_a_pattern_but_not_both() -> None:
    with fake_node() as node, Consumer(bootstrap_servers=node.bootstrap, group_id="g") as consumer:
        for names, pattern in (([], None), (["t"], "t.*")):
            with pytest.raises(ValueError, match="to topics, or to a pattern"):
                consumer.subscribe(names, pattern=pattern)
        with pytest.raises(ValueError, match="not a pattern"):
            consumer.subscribe(pattern="(")
        consumer.subscribe(["t"])
        assert consumer.subscription() == {"t"}
        consumer.unsubscribe()
        assert consumer.subscription() == set()
