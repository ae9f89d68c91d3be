"""Users, their sessions, and an example of each request that a gate judges."""

from __future__ import annotations

import typing
from typing import Any

import msgspec

from raftlog.protocol import apis
from raftlog.protocol.apis import Api
from raftlog.protocol.envelope import NO_TOPIC, Request
from raftlog.protocol.groups import CommittedOffset
from raftlog.protocol.session import Session
from raftlog.protocol.topics import NewTopic
from raftlog.security.acls import AclFilter
from raftlog.security.passwords import make_credential
from raftlog.security.policy import User
from raftlog.security.quotas import EntityFilter
from raftlog.security.scram import Mechanism

USERS = {
    name: User(credentials=(make_credential(Mechanism.SCRAM_SHA_256, "x", 4096),), epoch=5)
    for name in ("alice", "root")
}
COMMITTED = CommittedOffset(topic="orders", topic_id=NO_TOPIC, partition=0, offset=1, leader_epoch=1, metadata="")
GIVEN: dict[Api[Any, Any], dict[str, Any]] = {
    apis.CREATE_TOPICS: {"topics": [NewTopic(name="orders")]},
    apis.DELETE_TOPICS: {"topics": [("orders", NO_TOPIC)]},
    apis.OFFSET_COMMIT: {"offsets": [COMMITTED]},
    apis.OFFSET_DELETE: {"partitions": [("orders", 0)]},
    apis.TOPIC_IDS: {"names": ["orders", "hidden"]},
    apis.DESCRIBE_ACLS: {"filter": AclFilter()},
    apis.DESCRIBE_QUOTAS: {"filter": EntityFilter()},
}
SAMPLES: dict[Any, Any] = {str: "orders", int: 0, bytes: NO_TOPIC, bool: False}


class Heard:
    """A door that keeps the answers."""

    def __init__(self) -> None:
        self.answers: list[Any] = []

    def answer(self, request: Any, response: Any, payload: Any = None) -> None:
        self.answers.append(response)

    def answer_produces(self, session: Session, results: Any) -> None:
        self.answers += results


def session_of(user: str, epoch: int = 5) -> Session:
    session = Session("connection", "10.0.0.7:50000", Heard())
    if user:
        session.principal, session.mechanism, session.epoch = f"User:{user}", "SCRAM-SHA-256", epoch
    return session


def request_of(api: Api[Any, Any], session: Session, **given: Any) -> Request[Any]:
    hints = typing.get_type_hints(api.request)
    fields = {
        field.name: SAMPLES.get(hints[field.name], [])
        for field in msgspec.structs.fields(api.request)
        if field.required
    }
    if "group_id" in hints:
        fields["group_id"] = "readers"
    return Request(session, api, 1, NO_TOPIC, -1, api.request(**{**fields, **GIVEN.get(api, {}), **given}))
