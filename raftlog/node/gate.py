"""What comes through raftlog's own door, judged BEFORE its handler: one rule for each API of the table.

A rule hands a request on as it is, hands it on with an answer that will be screened, or answers a refusal itself. While
there is no user and no rule there is no gate (raftlog/node/dispatch.py), and all of this costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from raftlog.errors import ErrorCode
from raftlog.node.doors.door import answer
from raftlog.protocol import apis
from raftlog.protocol.apis import Api, Served
from raftlog.protocol.audit import event_of
from raftlog.protocol.body import ResponseBody
from raftlog.protocol.cluster import DescribeReplicasResponse, MetadataResponse, TopicMetadata
from raftlog.protocol.envelope import Request
from raftlog.protocol.groups import ListGroupsResponse, OffsetFetchResponse
from raftlog.protocol.records import ProduceResult
from raftlog.protocol.session import Session
from raftlog.protocol.topics import TopicIdsResponse
from raftlog.security.acls import CLUSTER_NAME
from raftlog.security.acls import Operation as Op
from raftlog.security.acls import ResourceType as Kind
from raftlog.security.audit import ACTS, ASKED, DENIED, Event
from raftlog.security.identity import NODE_PREFIX
from raftlog.security.policy import Policy
from raftlog.security.quotas import text_of
from raftlog.types import METADATA_TOPIC, OFFSETS_TOPIC, Buffer

_DENIED = {
    Kind.TOPIC: ErrorCode.TOPIC_AUTHORIZATION_FAILED,
    Kind.GROUP: ErrorCode.GROUP_AUTHORIZATION_FAILED,
    Kind.CLUSTER: ErrorCode.CLUSTER_AUTHORIZATION_FAILED,
}
_LOG_IN = "log in first: this cluster has users, so give user and password, or a client's certificate"


class Denied(Exception):
    """Of `kind` and `name`, which the sender may not do `operation` with."""

    def __init__(self, operation: Op, kind: Kind, name: str) -> None:
        super().__init__()
        self.operation = operation
        self.kind = kind
        self.name = name


class Asker:
    """Whoever has sent a request, and what it may do."""

    def __init__(self, policy: Policy, session: Session) -> None:
        self._policy = policy
        self._session = session

    def may(self, operation: Op, kind: Kind, name: str) -> bool:
        return self._policy.allows(self._session.principal, self._session.host, operation, kind, name)

    def sees(self, topic: str) -> bool:
        if topic == OFFSETS_TOPIC:
            return True  # whoever is in a group has to find who leads its partition there
        if topic == METADATA_TOPIC:
            return self.may(Op.DESCRIBE, Kind.CLUSTER, CLUSTER_NAME)
        return self.may(Op.DESCRIBE, Kind.TOPIC, topic)

    def needs(self, operation: Op, kind: Kind, name: str) -> None:
        """Raises Denied."""
        if not self.may(operation, kind, name):
            raise Denied(operation, kind, name)

    def needs_cluster(self, operation: Op) -> None:
        """Raises Denied."""
        self.needs(operation, Kind.CLUSTER, CLUSTER_NAME)

    def may_any(self, operation: Op, kind: Kind) -> bool:
        return self._policy.allows_any(self._session.principal, self._session.host, operation, kind)


Screen = Callable[[Any], None]
"""Takes out of an answer what its receiver may not see."""
Rule = Callable[[Asker, Request[Any], str], Screen | None]
"""rule(asker, request, topic of the worker that is asked): how its answer is screened. Raises Denied."""


# --- rules -----------------------------------------------------------------------------------------
def _topic(operation: Op) -> Rule:
    """Of the partition whose worker is asked. What the metadata log holds is the cluster's."""

    def rule(asker: Asker, _request: Request[Any], topic: str) -> None:
        if topic == METADATA_TOPIC:
            asker.needs_cluster(Op.CLUSTER_ACTION)
        else:
            asker.needs(operation, Kind.TOPIC, topic)

    return rule


def _cluster(operation: Op) -> Rule:
    def rule(asker: Asker, _request: Request[Any], _topic: str) -> None:
        asker.needs_cluster(operation)

    return rule


def _group(operation: Op) -> Rule:
    def rule(asker: Asker, request: Request[Any], _topic: str) -> None:
        asker.needs(operation, Kind.GROUP, request.body.group_id)

    return rule


def _named_topics(operation: Op, names: Callable[[Any], Iterable[str]]) -> Rule:
    """All of them, or the request is refused as a whole."""

    def rule(asker: Asker, request: Request[Any], _topic: str) -> None:
        for name in names(request.body):
            asker.needs(operation, Kind.TOPIC, name)

    return rule


def _all_of(*rules: Rule) -> Rule:
    def rule(asker: Asker, request: Request[Any], topic: str) -> None:
        for each in rules:
            each(asker, request, topic)

    return rule


def _anybody(_asker: Asker, _request: Request[Any], _topic: str) -> None:
    """Whoever has logged in."""


def _create_topics(asker: Asker, request: Request[Any], _topic: str) -> None:
    if not asker.may(Op.CREATE, Kind.CLUSTER, CLUSTER_NAME):
        for new in request.body.topics:
            asker.needs(Op.CREATE, Kind.TOPIC, new.name)


def _init_producer_id(asker: Asker, _request: Request[Any], _topic: str) -> None:
    if not asker.may_any(Op.WRITE, Kind.TOPIC):
        asker.needs_cluster(Op.IDEMPOTENT_WRITE)


# --- rules with a screen ---------------------------------------------------------------------------
def _metadata(asker: Asker, request: Request[Any], _topic: str) -> Screen:
    """A topic that may not be seen is answered as one that is not there."""
    named = request.body.topics is not None

    def screen(response: MetadataResponse) -> None:
        if named:
            response.topics = [each if asker.sees(each.name) else _absent(each.name) for each in response.topics]
        else:
            response.topics = [each for each in response.topics if asker.sees(each.name)]

    return screen


def _absent(name: str) -> TopicMetadata:
    code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    return TopicMetadata(name=name, topic_id=b"", error_code=code, partitions=[], config={})


def _topic_ids(asker: Asker, request: Request[Any], _topic: str) -> Screen:
    names = list(request.body.names)

    def screen(response: TopicIdsResponse) -> None:
        found = zip(names, response.topic_ids, strict=False)
        response.topic_ids = [topic_id if _knows(asker, name) else b"" for name, topic_id in found]

    return screen


def _knows(asker: Asker, name: str) -> bool:
    """Also who may only change its settings has to name it by its id."""
    return asker.sees(name) or asker.may(Op.ALTER_CONFIGS, Kind.TOPIC, name)


def _describe_replicas(asker: Asker, _request: Request[Any], _topic: str) -> Screen:
    def screen(response: DescribeReplicasResponse) -> None:
        response.replicas = [each for each in response.replicas if asker.sees(each.topic)]
        if not asker.may(Op.DESCRIBE, Kind.CLUSTER, CLUSTER_NAME):
            response.weak_spots = {}

    return screen


def _list_groups(asker: Asker, _request: Request[Any], _topic: str) -> Screen | None:
    if asker.may(Op.DESCRIBE, Kind.CLUSTER, CLUSTER_NAME):
        return None

    def screen(response: ListGroupsResponse) -> None:
        response.groups = [each for each in response.groups if asker.may(Op.DESCRIBE, Kind.GROUP, each.group_id)]

    return screen


def _offset_fetch(asker: Asker, request: Request[Any], _topic: str) -> Screen:
    asker.needs(Op.DESCRIBE, Kind.GROUP, request.body.group_id)

    def screen(response: OffsetFetchResponse) -> None:
        response.offsets = [each for each in response.offsets if asker.sees(each.topic)]

    return screen


RULES: dict[Api[Any, Any], Rule] = {
    apis.PRODUCE: _topic(Op.WRITE),
    apis.FETCH: _topic(Op.READ),
    apis.LIST_OFFSETS: _topic(Op.DESCRIBE),
    apis.DELETE_RECORDS: _topic(Op.DELETE),
    apis.OFFSET_FOR_LEADER_EPOCH: _topic(Op.DESCRIBE),
    apis.DESCRIBE_PRODUCERS: _topic(Op.READ),
    apis.WATCH: _topic(Op.READ),
    apis.LOCATE: _topic(Op.READ),
    apis.NOTE_SENT: _cluster(Op.CLUSTER_ACTION),
    apis.ELECT_LEADER: _cluster(Op.ALTER),
    apis.METADATA: _metadata,
    apis.DESCRIBE_REPLICAS: _describe_replicas,
    apis.DESCRIBE_THROTTLED: _cluster(Op.DESCRIBE),
    apis.RECOVER_PARTITION: _cluster(Op.ALTER),
    apis.NODE_STATE: _cluster(Op.CLUSTER_ACTION),
    apis.IMAGE: _cluster(Op.CLUSTER_ACTION),
    apis.REGISTER_NODE: _cluster(Op.CLUSTER_ACTION),
    apis.FIND_COORDINATOR: _anybody,
    apis.INIT_PRODUCER_ID: _init_producer_id,
    apis.TOPIC_IDS: _topic_ids,
    apis.CREATE_TOPICS: _create_topics,
    apis.DELETE_TOPICS: _named_topics(Op.DELETE, lambda body: [name for name, _ in body.topics]),
    apis.INCREMENTAL_ALTER_CONFIGS: _named_topics(Op.ALTER_CONFIGS, lambda body: [body.name]),
    apis.ALTER_REASSIGNMENTS: _cluster(Op.ALTER),
    apis.LIST_REASSIGNMENTS: _cluster(Op.DESCRIBE),
    apis.REPORT_CONFIGURATIONS: _cluster(Op.CLUSTER_ACTION),
    apis.CREATE_PARTITIONS: _named_topics(Op.ALTER, lambda body: [body.name]),
    apis.DESCRIBE_USERS: _cluster(Op.DESCRIBE),
    apis.ALTER_USERS: _cluster(Op.ALTER),
    apis.DESCRIBE_ACLS: _cluster(Op.DESCRIBE),
    apis.CREATE_ACLS: _cluster(Op.ALTER),
    apis.DELETE_ACLS: _cluster(Op.ALTER),
    apis.DESCRIBE_QUOTAS: _cluster(Op.DESCRIBE_CONFIGS),
    apis.ALTER_QUOTAS: _cluster(Op.ALTER_CONFIGS),
    apis.REMOVE_NODE: _cluster(Op.ALTER),
    apis.JOIN_GROUP: _group(Op.READ),
    apis.SYNC_GROUP: _group(Op.READ),
    apis.HEARTBEAT: _group(Op.READ),
    apis.LEAVE_GROUP: _group(Op.READ),
    apis.DESCRIBE_GROUP: _group(Op.DESCRIBE),
    apis.DELETE_GROUP: _group(Op.DELETE),
    apis.LIST_GROUPS: _list_groups,
    apis.OFFSET_FETCH: _offset_fetch,
    apis.OFFSET_COMMIT: _all_of(
        _group(Op.READ), _named_topics(Op.READ, lambda body: {each.topic for each in body.offsets})
    ),
    apis.OFFSET_DELETE: _all_of(
        _group(Op.DELETE), _named_topics(Op.READ, lambda body: {topic for topic, _ in body.partitions})
    ),
}
BEFORE_LOGIN = (apis.HANDSHAKE, apis.AUTHENTICATE)


class _Screening:
    """In place of the door that a request came through: it screens the answer."""

    def __init__(self, request: Request[Any], screen: Screen) -> None:
        self._request = request
        self._screen = screen

    def answer(self, _request: Any, response: ResponseBody, payload: Buffer | None = None) -> None:
        if not response.error_code:
            self._screen(response)
        answer(self._request, response, payload)

    def answer_produces(self, _session: Session, _results: list[ProduceResult]) -> None:
        raise AssertionError("no answer to a produce is screened")


class Gate:
    """Where nodes have no certificates, whoever reaches this address may be one."""

    def __init__(self, policy: Policy, topic: str, audit: Callable[[Event], None] | None = None) -> None:
        """`topic`: of the worker that it stands in front of; "" of a supervisor. `audit` hears of refusals and acts."""
        self._audit = audit
        self._policy = policy
        self._topic = topic

    def admit(self, request: Request[Any]) -> Request[Any] | None:
        """The request for its handler; None: it is answered."""
        session, api = request.session, request.api
        if api in BEFORE_LOGIN or session.principal.startswith(NODE_PREFIX):
            return request
        if api in apis.OF_NODES and not self._policy.access.certified:
            session.of_node = True
            return request
        if self._audit is not None and api.operation in ACTS:
            self._audit(event_of(session, api.name, ASKED, api.operation, None, _names(request.body)))
        if session.epoch >= 0 and self._policy.has_ended(session.principal, session.epoch):
            self._refuse(request, ErrorCode.SASL_AUTHENTICATION_FAILED, "your user was changed or deleted")
            return None
        if self._policy.demands_login and not session.mechanism:
            self._refuse(request, ErrorCode.SASL_AUTHENTICATION_FAILED, _LOG_IN)
            return None
        if not self._policy.authorizes:
            if api not in apis.OF_NODES:
                return request
            text = f"{api.name} is asked by nodes of this cluster only, not by {session.principal}"
            self._refuse(request, ErrorCode.CLUSTER_AUTHORIZATION_FAILED, text)
            return None
        try:
            screen = RULES[api](Asker(self._policy, session), request, self._topic)
        except Denied as denied:
            what = denied.operation.name
            text = f"{session.principal} may not {what} {denied.kind.name.lower()} {denied.name}"
            self._refuse(request, _DENIED[denied.kind], text)
            return None
        if screen is None:
            return request
        screened = Session(session.connection, session.address, _Screening(request, screen))
        screened.client_id, screened.principal = session.client_id, session.principal
        return msgspec.structs.replace(request, session=screened)

    def _refuse(self, request: Request[Any], code: ErrorCode, text: str) -> None:
        request.session.refused += 1
        if self._audit is not None:
            names = [self._topic] if self._topic and request.api.served is Served.LEADER else _names(request.body)
            api = request.api
            self._audit(event_of(request.session, api.name, DENIED, api.operation, None, names, text))
        answer(request, request.api.refusal(code, text))


def _names(body: Any) -> list[str]:
    """What a request names."""
    found = [getattr(body, "name", ""), getattr(body, "group_id", "")]
    for each in (*getattr(body, "topics", ()), *getattr(body, "credentials", ()), *getattr(body, "deletions", ())):
        found.append(each[0] if isinstance(each, tuple | list) else each.name)
    found += [str(acl.name) for acl in (*getattr(body, "acls", ()), *getattr(body, "filters", ()))]
    found += [text_of(tuple(change.entity)) for change in getattr(body, "changes", ())]
    return [each for each in found if each]
