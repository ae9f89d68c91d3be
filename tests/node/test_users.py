"""Users and rules on a real node: through both doors, with unchanged clients, from the first user to a deleted one."""

from __future__ import annotations

import contextlib
import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.errors import KafkaTimeoutError
from kafka.errors import TopicAuthorizationFailedError as KafkaTopicError

from raftlog import Admin, Consumer, Producer
from raftlog.client import NewTopic
from raftlog.errors import (
    ClusterAuthorizationFailedError,
    PolicyViolationError,
    SaslAuthenticationFailedError,
    TopicAuthorizationFailedError,
)
from raftlog.network import Context, Link
from raftlog.protocol import apis
from raftlog.protocol.cluster import MetadataRequest
from raftlog.protocol.envelope import decode_response, encode_request
from raftlog.protocol.security import AuthenticateRequest
from raftlog.security.acls import Acl, AclFilter, Operation, ResourceType
from raftlog.security.passwords import ClientLogin
from raftlog.security.scram import Mechanism
from raftlog.types import Endpoint
from tests.node.asking import exchange, until
from tests.node.started import StartedNode, free_port, started
from tests.patience import WAIT_S

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]
GONE_S = 5.0  # a deleted user's sessions have ended by then


class Secured(NamedTuple):
    """A node with users root, who may do everything, and alice, who may use topic orders and group readers."""

    node: StartedNode
    native: str
    kafka: str
    http: int

    def admin(self, user: str = "root", password: str = "root-pw") -> Admin:
        return Admin(self.native, user=user, password=password)

    def kafka_options(self, user: str = "alice", password: str = "alice-pw", **others: Any) -> dict[str, Any]:
        return {
            "bootstrap_servers": self.kafka,
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_plain_username": user,
            "sasl_plain_password": password,
            **others,
        }


def allow(principal: str, operation: Operation, name: str, kind: ResourceType = ResourceType.TOPIC) -> Acl:
    return Acl(resource_type=kind, name=name, principal=principal, operation=operation)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    native, kafka, http = free_port(), free_port(), free_port()
    arguments = ["--id", "1", "--data", "data", "--listen", f"127.0.0.1:{native}"]
    arguments += ["--http-listen", f"127.0.0.1:{http}"]
    arguments += ["--kafka-listen", f"127.0.0.1:{kafka}", "--superuser", "root", "--max-reauth-ms", "2000"]
    with started(tmp_path_factory.mktemp("secured"), *arguments) as node:
        node.ready()
        with Admin(f"127.0.0.1:{native}") as admin:
            with pytest.raises(PolicyViolationError):  # nobody could undo it
                admin.create_user("alice", "alice-pw")
            admin.create_user("root", "root-pw")
        found = Secured(node, f"127.0.0.1:{native}", f"127.0.0.1:{kafka}", http)
        with found.admin() as admin:
            admin.create_user("alice", "alice-pw")
            admin.create_topics([NewTopic(name="orders"), NewTopic(name="hidden")])
            group = allow("User:alice", Operation.READ, "readers", ResourceType.GROUP)
            admin.create_acls([allow("User:alice", each, "orders") for each in (Operation.READ, Operation.WRITE)])
            admin.create_acls([group])
        yield found


def test_through_its_own_door_a_user_does_what_it_may_and_sees_nothing_else(secured: Secured) -> None:
    who = {"user": "alice", "password": "alice-pw"}
    with Producer(secured.native, **who) as producer:
        producer.send("orders", b"one").result(WAIT_S)
    with Consumer(
        bootstrap_servers=secured.native, group_id="readers", auto_offset_reset="earliest", **who
    ) as consumer:
        consumer.subscribe(["orders"])
        assert next(iter(consumer)).value == b"one"
    with secured.admin("alice", "alice-pw") as admin:
        assert admin.list_topics() == ["orders"]
        with pytest.raises(ClusterAuthorizationFailedError):
            admin.list_users()
        with pytest.raises(TopicAuthorizationFailedError):
            admin.delete_topics(["orders"])
        with pytest.raises(TopicAuthorizationFailedError):
            admin.create_topics([NewTopic(name="more")])


def test_a_wrong_password_or_none_gets_nowhere(secured: Secured) -> None:
    with pytest.raises(SaslAuthenticationFailedError):
        secured.admin("alice", "wrong")
    with pytest.raises(SaslAuthenticationFailedError, match="log in first"):
        Admin(secured.native)
    host, _, port = secured.native.partition(":")
    frames = exchange(Endpoint(host, int(port)), [encode_request(apis.METADATA, 1, MetadataRequest())])
    _, _, answer = decode_response(frames[0])
    assert (answer.error_code, answer.topics, answer.nodes) == (58, [], [])
    metrics = f"http://127.0.0.1:{secured.http}/metrics"
    counted = re.compile(r'raftlog_failed_logins_total\{door="node"\} [1-9]')
    until(lambda: counted.search(urllib.request.urlopen(metrics, timeout=WAIT_S).read().decode()))


def test_before_it_has_logged_in_nobody_is_heard_at_length(secured: Secured) -> None:
    host, _, port = secured.native.partition(":")
    asked = encode_request(apis.METADATA, 1, MetadataRequest(topics=["t" * 200] * 400))
    frames = exchange(Endpoint(host, int(port)), [asked], WAIT_S)
    _, number, answer = decode_response(frames[0])
    assert (number, answer.error_code) == (1, 58)
    assert answer.error_text == "log in first: before that a request has at most 65536 bytes"


def test_a_login_that_is_begun_anew_on_the_same_connection_is_another_one(secured: Secured) -> None:
    mechanism, login = Mechanism.SCRAM_SHA_256, ClientLogin(Mechanism.SCRAM_SHA_256, "alice", "alice-pw")
    host, _, port = secured.native.partition(":")
    context = Context()
    link = Link(context, Endpoint(host, int(port)))

    def told(data: bytes) -> Any:
        request = encode_request(apis.AUTHENTICATE, 1, AuthenticateRequest(mechanism.text, data))
        until(lambda: link.send([request]))
        return decode_response(until(link.receive)[0])[2]

    try:
        # Until what another test got wrong from this address is forgiven.
        until(lambda: not told(ClientLogin(mechanism, "alice", "alice-pw").first()).error_code)
        answer = told(login.second(told(login.first()).data))
        login.finish(answer.data)
        assert (answer.error_code, answer.done) == (0, True)
    finally:
        link.close()
        context.close()


def test_an_unchanged_client_of_kafkas_logs_in_and_is_told_what_it_may_not(secured: Secured) -> None:
    producer = KafkaProducer(**secured.kafka_options())
    try:
        producer.send("orders", b"two").get(WAIT_S)
        with pytest.raises(KafkaTopicError):
            producer.send("hidden", b"x").get(WAIT_S)
        end_s = time.monotonic() + 5  # longer than a login counts: it is renewed on the way
        while time.monotonic() < end_s:
            producer.send("orders", b"more").get(WAIT_S)
            time.sleep(0.1)
    finally:
        producer.close()
    options = secured.kafka_options(group_id="readers", auto_offset_reset="earliest", consumer_timeout_ms=10_000)
    consumer = KafkaConsumer("orders", **options)
    try:
        assert consumer.topics() == {"orders"}
        assert next(consumer).value
    finally:
        consumer.close()


def test_users_and_rules_of_one_door_are_those_of_the_other(secured: Secured) -> None:
    admin = KafkaAdminClient(**secured.kafka_options("root", "root-pw"))
    try:
        described = admin.describe_user_scram_credentials(["alice"])
        assert "alice" in str(described)
    finally:
        admin.close()
    with secured.admin() as own:
        assert [each.name for each in own.list_users()] == ["alice", "root"]
        assert len(own.list_acls(AclFilter(name="orders"))) == 2


def test_a_deleted_users_sessions_end_within_seconds(secured: Secured) -> None:
    with secured.admin() as admin:
        admin.create_user("bob", "bob-pw")
        admin.create_acls([allow("User:bob", Operation.WRITE, "orders")])
        kafka = KafkaProducer(**secured.kafka_options("bob", "bob-pw", max_block_ms=1000, retries=0))
        own = Producer(secured.native, user="bob", password="bob-pw", acks=1, retries=0)
        other = KafkaProducer(**secured.kafka_options())
        try:
            kafka.send("orders", b"x").get(WAIT_S)
            own.send("orders", b"x").result(WAIT_S)
            other.send("orders", b"x").get(WAIT_S)
            admin.delete_user("bob")
            began_s = time.monotonic()

            def is_cut(send: Any) -> bool:
                try:
                    send()
                except Exception:  # noqa: BLE001 - whatever a client makes of it
                    return True
                return False

            until(lambda: is_cut(lambda: kafka.send("orders", b"x").get(1)))
            until(lambda: is_cut(lambda: own.send("orders", b"x").result(1)))
            assert time.monotonic() - began_s < GONE_S + 2  # the clients' own patience is in it
            other.send("orders", b"x").get(WAIT_S)
        finally:
            with contextlib.suppress(KafkaTimeoutError):  # what it could not send
                kafka.close(0)
            own.close()
            other.close()


def test_users_are_there_after_a_restart(tmp_path: Path) -> None:
    native = free_port()
    arguments = ["--id", "1", "--data", "data", "--listen", f"127.0.0.1:{native}", "--superuser", "root"]
    with started(tmp_path, *arguments) as node:
        node.ready()
        with Admin(f"127.0.0.1:{native}") as admin:
            admin.create_user("root", "root-pw")
        node.end()
    with started(tmp_path, *arguments) as node:
        node.ready()
        with pytest.raises(SaslAuthenticationFailedError):
            Admin(f"127.0.0.1:{native}")
        with Admin(f"127.0.0.1:{native}", user="root", password="root-pw") as admin:
            assert [each.name for each in admin.list_users()] == ["root"]
        assert "nobody may do what no rule allows" in node.log_text
