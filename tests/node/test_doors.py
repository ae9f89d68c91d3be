"""What a door makes of bytes, who a session is, and what dispatch does with a request."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import zmq

from raftlog.errors import ErrorCode
from raftlog.limits import LOGIN_BYTES_MAX, PROTOCOL_VERSION
from raftlog.network import Context, Link, Poller, Server
from raftlog.network.context import POLLIN
from raftlog.node.dispatch import Dispatch
from raftlog.node.doors import native
from raftlog.node.doors.native import NativeDoor
from raftlog.node.links import NodeLinks
from raftlog.protocol import apis
from raftlog.protocol.cluster import HandshakeRequest, MetadataRequest, MetadataResponse
from raftlog.protocol.envelope import Request, decode_response, encode_request
from raftlog.protocol.records import FetchRequest, ProduceRequest
from raftlog.types import Endpoint
from tests.client.fake_wire import WORKER_A, FakeCluster
from tests.node.asking import until

GREETING = HandshakeRequest(min_version=PROTOCOL_VERSION, max_version=PROTOCOL_VERSION, client_id="shop")
# As version 1 of the protocol said them.
OLD_REQUESTS = {
    "Handshake": bytes.fromhex("95a948616e647368616b65010101a36f6c64"),
    "Metadata": bytes.fromhex("93a84d657461646174610291a174"),
    "Produce": bytes.fromhex("96a750726f6475636503c4103031323334353637383961626364656600ffcd7530"),
    "nState": bytes.fromhex("9ba66e53746174650207a163a16492a93132372e302e302e31cd1ba0920102900090c2"),
}
OLD_ANSWERS = {
    "HandshakeR": bytes.fromhex("97aa48616e647368616b65520100a00101a163"),
    "MetadataR": bytes.fromhex("9aa94d65746164617461520200a0a163ffc09090a0"),
    "ErrorR": bytes.fromhex("94a64572726f7252ff2abd6120686561646572207468617420646f6573206e6f74206465636f6465"),
}


class Front:
    """A door with a client before it."""

    def __init__(self) -> None:
        self.context = Context()
        self.server = Server(self.context, "127.0.0.1")
        self.door = NativeDoor(self.server, 1, lambda: "c")
        self.link = Link(self.context, Endpoint("127.0.0.1", self.server.port))
        self.heard: list[Request[Any]] = []

    def say(self, header: bytes, *payload: bytes) -> None:
        until(lambda: self.link.send([header, *payload]))

    def ask(self, body: Any, number: int = 7) -> None:
        self.say(encode_request(apis.BY_REQUEST[type(body)], number, body))

    def serve(self, dispatch: Dispatch) -> list[bytes]:
        """The frames of the first answer."""

        def answered() -> list[bytes] | None:
            dispatch.serve(10, float("inf"))
            return self.link.receive()

        return until(answered)


@pytest.fixture
def front() -> Iterator[Front]:
    front = Front()
    yield front
    front.context.close()


def test_a_session_knows_who_greeted_and_ends_with_its_connection(front: Front) -> None:
    front.ask(GREETING)
    _, number, answer = decode_response(front.serve(Dispatch(front.door, "here", {}))[0])
    assert (number, answer.error_code, answer.version, answer.node_id) == (7, 0, PROTOCOL_VERSION, 1)
    (session,) = front.door.sessions.values()
    assert (session.client_id, session.version, session.requests, session.refused) == ("shop", PROTOCOL_VERSION, 1, 0)
    assert session.address.startswith("127.0.0.1:") and session.principal == "User:ANONYMOUS"
    front.link.close()

    def ended() -> bool:
        front.server.connections.tick(0.0)
        return not front.door.sessions

    until(ended)


def test_a_version_that_is_not_spoken_is_refused_by_its_greeting(front: Front) -> None:
    front.ask(HandshakeRequest(min_version=3, max_version=9))
    _, _, answer = decode_response(front.serve(Dispatch(front.door, "here", {}))[0])
    assert answer.error_code == ErrorCode.UNSUPPORTED_VERSION and "version 2" in answer.error_text


@pytest.mark.parametrize("name", OLD_REQUESTS)
def test_version_1_is_refused_in_its_own_words_and_with_one_line(
    front: Front, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    dispatch = Dispatch(front.door, "here", {})
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            front.say(OLD_REQUESTS[name])
            answers = [front.serve(dispatch)[0], front.serve(dispatch)[0]]
            # [tag, correlation id, error code 35, text, …], which ends what its client asks, and what its node says
            assert [answer[1:15].split(b"\xff")[0][1:] for answer in answers] == [b"HandshakeR", b"ErrorR"]
            assert all(b"\xff\x23" in answer and b"use the same release" in answer for answer in answers)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("refused 127.0.0.1:") and "version 1 of the protocol" in line
    assert front.door.refused == 3


@pytest.mark.parametrize("name", OLD_ANSWERS)
def test_a_node_of_version_1_ends_what_a_client_asks_with_a_clear_error(name: str) -> None:
    cluster = FakeCluster()
    outcomes: list[MetadataResponse | None] = []
    asked = cluster.exchange.ask(
        WORKER_A, apis.METADATA, MetadataRequest(), lambda answer, _: outcomes.append(answer), deadline_s=9.0
    )
    assert asked
    cluster.exchange.answered(WORKER_A, [OLD_ANSWERS[name]])
    (refused,) = outcomes
    assert refused is not None and refused.error_code == ErrorCode.UNSUPPORTED_VERSION
    assert refused.error_text == cluster.exchange.trouble
    assert "worker:11 speaks version 1 of the protocol" in refused.error_text


def test_a_node_of_version_1_is_a_refusal_to_another_node(front: Front) -> None:
    links = NodeLinks(front.context, Poller())
    links.set_addresses({2: Endpoint("127.0.0.1", front.server.port)})
    until(lambda: links.send(2, apis.HANDSHAKE, GREETING))
    identity, *_ = until(front.server.receive)
    front.server.send(identity, [OLD_ANSWERS["ErrorR"]])
    ((node_id, answer, _),) = until(links.receive)
    assert (node_id, answer.error_code) == (2, ErrorCode.UNSUPPORTED_VERSION)
    assert "speaks version 1" in answer.error_text


def test_dispatch_counts_and_times_what_a_handler_does(front: Front) -> None:
    def handler(request: Request[MetadataRequest]) -> None:
        front.door.answer(request, MetadataResponse(cluster_id="c"))

    dispatch = Dispatch(front.door, "here", {apis.METADATA: handler})
    for number in (1, 2):
        front.ask(MetadataRequest(topics=["t"]), number)
        api, answered, answer = decode_response(front.serve(dispatch)[0])
        assert (api, answered, answer.cluster_id) == (apis.METADATA, number, "c")
    (route,) = dispatch.served()
    assert (route.api, route.requests) == (apis.METADATA, 2) and route.seconds > 0


def test_what_is_not_served_here_is_refused_with_where_to_send_it(front: Front) -> None:
    dispatch = Dispatch(front.door, "a node's address", {})
    front.say(encode_request(apis.PRODUCE, 5, ProduceRequest(acks=-1, timeout_ms=1)), b"batch")
    _, _, (refused,) = decode_response(front.serve(dispatch)[0])
    assert (refused.correlation_id, refused.error_code) == (5, ErrorCode.INVALID_REQUEST)
    assert refused.error_text == "send Produce to the worker that leads the partition, not to a node's address"
    assert dispatch.served() == []


@pytest.mark.parametrize("api", [apis.METADATA, apis.PRODUCE, apis.JOIN_GROUP], ids=repr)
def test_a_body_that_does_not_decode_is_answered_to_the_one_who_asked(front: Front, api: apis.Api[Any, Any]) -> None:
    front.say(encode_request(api, 9, MetadataRequest())[:31] + b"\xc1")
    answered, number, answer = decode_response(front.serve(Dispatch(front.door, "here", {}))[0])
    assert answered is api
    (answer, number) = (answer[0], answer[0].correlation_id) if api is apis.PRODUCE else (answer, number)
    assert (number, answer.error_code) == (9, ErrorCode.INVALID_REQUEST)


def test_nothing_long_is_decoded_of_who_has_not_logged_in(front: Front) -> None:
    """No such body decodes: it is not looked at."""
    front.door.demand_login(demanded=True)
    dispatch = Dispatch(front.door, "here", {})
    long = b"\xc1" * LOGIN_BYTES_MAX

    def refused(api: apis.Api[Any, Any], body: bytes) -> ErrorCode:
        front.say(encode_request(api, 9, MetadataRequest())[:31] + body)
        return ErrorCode(decode_response(front.serve(dispatch)[0])[2].error_code)

    assert refused(apis.METADATA, long) == ErrorCode.SASL_AUTHENTICATION_FAILED
    assert refused(apis.METADATA, long[:100]) == ErrorCode.INVALID_REQUEST
    assert refused(apis.NODE_STATE, long) == ErrorCode.INVALID_REQUEST  # as long as a cluster is large
    (session,) = front.door.sessions.values()
    session.mechanism = "SCRAM-SHA-256"
    assert refused(apis.METADATA, long) == ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize("asked", [ProduceRequest(acks=-1, timeout_ms=1), FetchRequest(0, 1)], ids=repr)
def test_one_connection_has_so_many_produces_and_fetches_in_flight(
    front: Front, asked: ProduceRequest | FetchRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "REQUESTS_IN_FLIGHT_MAX", 2)
    api = apis.BY_REQUEST[type(asked)]
    waiting: list[Request[Any]] = []
    dispatch = Dispatch(front.door, "here", {api: waiting.append})

    def answered() -> tuple[int, int]:
        _, number, answer = decode_response(front.serve(dispatch)[0])
        answer = answer[0] if api is apis.PRODUCE else answer
        return (answer.correlation_id if api is apis.PRODUCE else number), answer.error_code

    for number in (1, 2, 3):
        front.ask(asked, number)
    assert answered() == (3, ErrorCode.THROTTLING_QUOTA_EXCEEDED)
    front.door.answer(waiting[0], api.response())
    assert answered() == (1, ErrorCode.NONE)
    front.ask(asked, 4)
    front.ask(asked, 5)
    assert answered() == (5, ErrorCode.THROTTLING_QUOTA_EXCEEDED)
    assert [request.correlation_id for request in waiting] == [1, 2, 4]


def test_what_is_told_of_acks_0_is_no_room_for_more(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "REQUESTS_IN_FLIGHT_MAX", 1)
    refused: list[Request[Any]] = []
    dispatch = Dispatch(front.door, "here", {apis.PRODUCE: refused.append})
    front.ask(ProduceRequest(acks=0, timeout_ms=1), 1)
    until(lambda: dispatch.serve(10, float("inf")) or refused)
    front.door.answer(refused[0], apis.PRODUCE.refusal(ErrorCode.NOT_LEADER_OR_FOLLOWER))
    front.serve(dispatch)
    for number in (2, 3):
        front.ask(ProduceRequest(acks=-1, timeout_ms=1), number)
    (answer,) = decode_response(front.serve(dispatch)[0])[2]
    assert (answer.correlation_id, answer.error_code) == (3, ErrorCode.THROTTLING_QUOTA_EXCEEDED)


def test_what_is_too_much_with_acks_0_is_taken_later_and_in_its_order(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "REQUESTS_IN_FLIGHT_MAX", 2)
    taken: list[Request[Any]] = []

    def take(request: Request[Any]) -> None:
        request.session.unacknowledged += 1
        taken.append(request)

    dispatch = Dispatch(front.door, "here", {apis.PRODUCE: take, apis.METADATA: taken.append})

    def serve() -> list[int]:
        dispatch.serve(10, float("inf"))
        return [request.correlation_id for request in taken]

    for number in (1, 2, 3):
        front.ask(ProduceRequest(acks=0, timeout_ms=1), number)
    front.ask(MetadataRequest(), 4)
    until(lambda: serve() == [1, 2])
    assert front.door.is_full
    until(lambda: int(front.server.socket.get(zmq.EVENTS)) & POLLIN)  # the next one has come, and waits
    assert serve() == [1, 2]
    taken[0].session.unacknowledged -= 1
    assert not front.door.is_full
    until(lambda: serve() == [1, 2, 3])
    assert front.door.is_full
    taken[0].session.unacknowledged = 0
    until(lambda: serve() == [1, 2, 3, 4])


def test_so_many_bytes_with_acks_0_fill_a_door_too(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "UNACKNOWLEDGED_BYTES_MAX", 1000)
    taken: list[Request[Any]] = []
    dispatch = Dispatch(front.door, "here", {apis.PRODUCE: taken.append})
    front.ask(ProduceRequest(acks=0, timeout_ms=1), 1)
    until(lambda: dispatch.serve(10, float("inf")) or taken)
    assert not front.door.is_full
    taken[0].session.unacknowledged_bytes = 1000
    front.ask(ProduceRequest(acks=0, timeout_ms=1), 2)
    until(lambda: dispatch.serve(10, float("inf")) or len(taken) == 2)
    assert front.door.is_full


def test_only_who_has_logged_in_or_speaks_as_a_node_is_known(front: Front) -> None:
    front.door.demand_login(demanded=True)
    seen: list[Request[Any]] = []
    dispatch = Dispatch(front.door, "here", {apis.METADATA: seen.append})
    front.ask(MetadataRequest(), 1)
    until(lambda: dispatch.serve(10, float("inf")) or seen)
    identity, session = next(iter(front.door.sessions.items()))
    assert not front.door._is_known(identity) and not front.door._is_known(b"nobody")
    session.of_node = True
    assert front.door._is_known(identity)
    session.of_node, session.mechanism = False, "SCRAM-SHA-256"
    assert front.door._is_known(identity)
