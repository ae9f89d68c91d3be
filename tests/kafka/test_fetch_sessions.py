"""A client names its partitions once, and then only what has changed (KIP-227)."""

from __future__ import annotations

import pytest

from raftlog import limits
from raftlog.kafka.codes import KafkaCode
from raftlog.kafka.handlers.fetch_sessions import FetchSession, FetchSessions, Wanted


def _wanted(partition: int, offset: int = 0) -> Wanted:
    return Wanted("orders", partition, offset, 1000, -1)


def _opened(sessions: FetchSessions, owner: str = "one") -> FetchSession:
    session = sessions.open(owner, [_wanted(0), _wanted(1)])
    assert session is not None
    return session


def test_an_incremental_request_names_only_what_has_changed() -> None:
    sessions = FetchSessions()
    session_id = _opened(sessions).session_id
    found = sessions.find("one", session_id, 1)
    assert isinstance(found, FetchSession)
    found.change([_wanted(1, offset=7), _wanted(2)], [("orders", 0)])
    assert [(each.partition, each.offset) for each in found.wanted.values()] == [(1, 7), (2, 0)]


def test_what_the_client_was_told_is_no_news() -> None:
    session = _opened(FetchSessions())
    assert session.has_news(("orders", 0), 5, 0)
    assert not session.has_news(("orders", 0), 5, 0)
    assert session.has_news(("orders", 0), 6, 0)
    session.change([], [("orders", 0)])
    assert session.has_news(("orders", 0), 6, 0)


def test_a_wrong_number_or_epoch_is_refused() -> None:
    sessions = FetchSessions()
    session_id = _opened(sessions).session_id
    assert sessions.find("one", session_id + 1, 1) is KafkaCode.FETCH_SESSION_ID_NOT_FOUND
    assert sessions.find("one", session_id, 2) is KafkaCode.INVALID_FETCH_SESSION_EPOCH
    assert isinstance(sessions.find("one", session_id, 1), FetchSession)
    assert sessions.find("one", session_id, 1) is KafkaCode.INVALID_FETCH_SESSION_EPOCH


def test_a_session_belongs_to_its_connection_and_ends_with_it() -> None:
    sessions = FetchSessions()
    session_id = _opened(sessions).session_id
    assert sessions.find("another", session_id, 1) is KafkaCode.FETCH_SESSION_ID_NOT_FOUND
    sessions.forget("one")
    assert sessions.find("one", session_id, 1) is KafkaCode.FETCH_SESSION_ID_NOT_FOUND
    assert sessions.count == 0


def test_they_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FETCH_SESSIONS_MAX", 2)
    monkeypatch.setattr(limits, "FETCH_SESSION_PARTITIONS_MAX", 2)
    sessions = FetchSessions()
    first = _opened(sessions)
    assert sessions.open("one", [_wanted(each) for each in range(3)]) is None
    _opened(sessions, "two")
    assert sessions.open("three", [_wanted(0)]) is None
    sessions.close("one", first.session_id)
    _opened(sessions, "three")
    assert sessions.count == 2
