"""The audit log: what a line says, that lines are bounded, and that a file may be moved away."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from raftlog.node import audit
from raftlog.node.audit import AuditLog
from raftlog.node.gate import Gate
from raftlog.protocol import apis
from raftlog.protocol.audit import event_of
from raftlog.security.acls import Operation, ResourceType
from raftlog.security.audit import ASKED, DENIED, NO_RULE
from raftlog.security.policy import Access, Policy, Security
from tests.kafka.guarded import JUDGED as KAFKAS
from tests.kafka.guarded import Secured, ask
from tests.node.gate_requests import USERS, request_of, session_of


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def denied(name: str = "orders") -> Any:
    return event_of(session_of("alice"), "Produce", DENIED, Operation.WRITE, ResourceType.TOPIC, [name], NO_RULE)


def test_a_line_says_who_from_where_what_on_what_and_why(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    AuditLog(str(path), 2, "kafka").write(denied())
    (line,) = lines(path)
    assert line.pop("time").endswith("Z")
    assert line == {
        "node": 2,
        "door": "kafka",
        "outcome": "denied",
        "principal": "User:alice",
        "host": "10.0.0.7",
        "request": "Produce",
        "mechanism": "SCRAM-SHA-256",
        "operation": "Write",
        "resource": "Topic",
        "names": ["orders"],
        "why": NO_RULE,
    }
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_was_moved_away_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    log = AuditLog(str(path), 1, "kafka")
    log.write(denied())
    path.rename(tmp_path / "old.log")
    log.write(denied("other"))
    assert [line["names"] for line in lines(path)] == [["other"]]


def test_what_a_client_can_make_it_write_is_bounded_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "audit.log"
    log = AuditLog(str(path), 1, "kafka")
    now_s = 100.0
    monkeypatch.setattr(audit.SystemClock, "monotonic_s", lambda _clock: now_s)
    for _ in range(1000):
        log.write(denied())
    assert len(lines(path)) == 200
    now_s += 1
    log.write(denied())
    left_out, last = lines(path)[200:]
    assert left_out["request"] == "800 lines" and last["request"] == "Produce"


def test_a_file_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    AuditLog(str(tmp_path / "absent" / "audit.log"), 1, "kafka").write(denied())


# --- the doors -------------------------------------------------------------------------------------
@pytest.mark.parametrize("api", KAFKAS, ids=lambda api: api.name)
def test_each_refusal_of_kafkas_door_is_an_event(api: Any) -> None:
    bench = Secured()
    events: list[Any] = []
    bench.broker.audit = events.append
    client = bench.connect_as("alice")
    ask(client, api)
    outcomes = {event.outcome for event in events}
    told_less = ("ListGroups", "DescribeCluster")
    assert (DENIED in outcomes) == (api.name not in told_less)
    assert all(event.request == api.name and event.principal == "User:alice" for event in events)


def test_an_administrative_act_is_an_event_and_reading_is_none() -> None:
    bench = Secured()
    events: list[Any] = []
    bench.broker.audit = events.append
    client = bench.connect_as("root")
    for api in KAFKAS:
        ask(client, api)
    acts = {event.request: event for event in events}
    assert {event.outcome for event in events} == {ASKED}
    assert {"CreateTopics", "DeleteTopics", "CreateAcls", "AlterUserScramCredentials", "AlterConfigs"} <= acts.keys()
    assert not {"Produce", "Fetch", "Metadata", "DescribeAcls"} & acts.keys()
    assert acts["DeleteTopics"].names == ["orders"]
    assert acts["AlterUserScramCredentials"].names == ["alice"]


def test_the_own_door_likewise() -> None:
    events: list[Any] = []
    policy = Policy(Security(offset=1, users=USERS), Access(superusers=("User:root",)))
    gate = Gate(policy, "orders", events.append)
    gate.admit(request_of(apis.PRODUCE, session_of("alice")))
    gate.admit(request_of(apis.DELETE_TOPICS, session_of("root")))
    gate.admit(request_of(apis.FETCH, session_of("root")))
    assert [(event.outcome, event.request, event.names) for event in events] == [
        (DENIED, "Produce", ["orders"]),
        (ASKED, "DeleteTopics", ["orders"]),
    ]
    assert "User:alice may not WRITE topic orders" in events[0].why
