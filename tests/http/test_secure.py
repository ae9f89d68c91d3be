"""The HTTP address of a node with --security: TLS, the cluster's users, its rules. Asked by curl, as people ask."""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families

from raftlog import Admin, NewTopic, Producer
from raftlog.errors import SaslAuthenticationFailedError
from raftlog.limits import FAILED_LOGIN_S, STRANGERS_MAX
from raftlog.protocol.security import Behalf
from raftlog.security.acls import CLUSTER_NAME, Acl, Operation, ResourceType
from raftlog.types import Endpoint
from tests.http.browser import Tab, chromium
from tests.node.asking import until
from tests.node.started import StartedNode, free_port, started
from tests.patience import WAIT_S
from tests.security.made import Made

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]
JSON = "Content-Type: application/json"


class Secure(NamedTuple):
    """A node with a topic that alice reads, one that she does not, and a user who may only look at the cluster."""

    node: StartedNode
    made: Made
    endpoint: Endpoint
    admin: Admin
    audit: Path

    def curl(self, path: str, *options: str) -> tuple[int, str]:
        command = ["curl", "--silent", "--max-time", "30", "--cacert", f"{self.made.authority}/ca.pem"]
        command += ["--write-out", "\n%{http_code}", *options, f"https://{self.endpoint}{path}"]
        body, _, code = subprocess.run(command, capture_output=True, text=True, check=False).stdout.rpartition("\n")
        return int(code), body

    def ask(self, user: str, path: str, *options: str) -> tuple[int, Any]:
        code, body = self.curl(path, "--user", f"{user}:{user}-pw", *options)
        return code, json.loads(body)

    def act(self, user: str, name: str, *options: str, **body: object) -> tuple[int, Any]:
        return self.ask(user, f"/api/acts/{name}", "--header", JSON, "--data", json.dumps(body), *options)

    def heard(self, **wanted: object) -> bool:
        """Whether the audit log has a line with all of this."""
        lines = [json.loads(line) for line in self.audit.read_text().splitlines()]
        return any(all(line.get(name) == value for name, value in wanted.items()) for line in lines)


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    folder = tmp_path_factory.mktemp("secure")
    made, audit = Made(folder), folder / "audit.jsonl"
    port, native = free_port(), free_port()
    options = ["--id", "1", "--data", "data", "--listen", f"127.0.0.1:{native}", "--kafka-listen", "none"]
    options += ["--http-listen", f"127.0.0.1:{port}", "--security", made.node(1)]
    options += ["--superuser", "root", "--audit-log", str(audit)]
    with started(folder, *options) as node:
        node.ready()
        with Admin(f"127.0.0.1:{native}", security=made.client("root")) as admin:
            admin.create_user("root", "root-pw")
            for user in ("alice", "prometheus", "nobody"):
                admin.create_user(user, f"{user}-pw")
            admin.create_topics([NewTopic(name="orders"), NewTopic(name="hidden")])
            describe = {"principal": "User:prometheus", "operation": Operation.DESCRIBE, "name": CLUSTER_NAME}
            admin.create_acls(
                [
                    Acl(
                        resource_type=ResourceType.TOPIC,
                        name="orders",
                        principal="User:alice",
                        operation=Operation.READ,
                    ),
                    Acl(resource_type=ResourceType.CLUSTER, **describe),
                ]
            )
            with Producer(f"127.0.0.1:{native}", security=made.client("root")) as producer:
                producer.send("orders", b"first").result(WAIT_S)
                producer.send("hidden", b"secret").result(WAIT_S)
            yield Secure(node, made, Endpoint("127.0.0.1", port), admin, audit)


@pytest.mark.parametrize(
    "path", ["/", "/metrics", "/api/console", "/api/topics", "/api/records/orders", "/console/console.js", "/nothing"]
)
def test_who_does_not_say_who_he_is_is_told_nothing(secure: Secure, path: str) -> None:
    code, body = secure.curl(path, "--include")
    assert code == 401
    assert 'www-authenticate: basic realm="raftlog"' in body.lower()
    assert "orders" not in body.partition("\n\n")[2]


def test_probes_need_no_user(secure: Secure) -> None:
    assert secure.curl("/health/live")[0] == 200
    until(lambda: secure.curl("/health/ready")[0] == 200)


def test_without_tls_it_answers_nothing(secure: Secure) -> None:
    with socket.create_connection(secure.endpoint, 10) as plain:
        plain.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = plain.recv(1000)
    assert not answer.startswith(b"HTTP")


def test_rules_decide_what_is_shown(secure: Secure) -> None:
    assert [each["topic"] for each in secure.ask("alice", "/api/topics")[1]["topics"]] == ["orders"]
    assert {each["topic"] for each in secure.ask("root", "/api/topics")[1]["topics"]} == {"orders", "hidden"}
    assert secure.ask("nobody", "/api/topics")[1]["topics"] == []
    assert len(secure.ask("alice", "/api/records/orders")[1]["records"]) == 1
    hidden, absent = (secure.ask("alice", f"/api/records/{name}") for name in ("hidden", "absent"))
    assert (hidden[0], hidden[1]["text"]) == (absent[0], absent[1]["text"].replace("absent", "hidden"))
    # It may be seen that there is a topic, and its records may not.
    assert secure.ask("prometheus", "/api/records/orders")[0] == 404
    assert secure.ask("alice", "/api/console")[1]["principal"] == "User:alice"


def test_rules_decide_what_is_done_and_both_are_written_down(secure: Secure) -> None:
    code, answer = secure.act("alice", "create-topic", topic="mine", preview=False)
    assert (code, answer["error"]) == (403, "TOPIC_AUTHORIZATION_FAILED")
    assert secure.act("root", "create-topic", topic="mine", preview=False)[0] == 200
    assert "mine" in secure.admin.list_topics()
    common = {"host": "127.0.0.1", "request": "CreateTopics", "mechanism": "BASIC", "names": ["mine"]}
    assert secure.heard(outcome="denied", principal="User:alice", **common)
    assert secure.heard(outcome="asked", principal="User:root", **common)


def test_the_console_shows_a_user_what_is_for_him(secure: Secure) -> None:
    alice = {"username": "alice", "password": "alice-pw"}
    with chromium() as browser:
        tab = Tab(browser, f"https://{secure.endpoint}", http_credentials=alice, ignore_https_errors=True)
        page = tab.open("")
        assert tab.text("footer").startswith("Shown to User:alice by node 1")
        page = tab.open("topics")
        assert page.locator("tbody tr").count() == 1
        tab.open("topics/orders/records")
        page.get_by_text("first", exact=True).wait_for()
        tab.close()


def test_a_scrape_needs_describe_on_the_cluster(secure: Secure) -> None:
    code, body = secure.curl("/metrics", "--user", "prometheus:prometheus-pw")
    assert code == 200
    (marks,) = (
        each for each in text_string_to_metric_families(body) if each.name == "raftlog_partition_high_watermark"
    )
    assert {sample.labels["topic"] for sample in marks.samples} >= {"orders", "hidden"}
    assert secure.ask("alice", "/metrics")[0] == 403
    assert secure.heard(outcome="denied", principal="User:alice", request="GET /metrics", door="http")


def test_only_a_node_asks_in_the_name_of_somebody_else(secure: Secure) -> None:
    files, root = secure.made.client("alice"), Behalf("User:root", "127.0.0.1", "BASIC")
    with pytest.raises(SaslAuthenticationFailedError, match="only a node"):
        Admin(str(secure.node.endpoint), security=files, user=root)
    behalf = Behalf("Node:1", "127.0.0.1", "CERTIFICATE")  # a node is no user
    with pytest.raises(SaslAuthenticationFailedError, match="only a node"):
        Admin(str(secure.node.endpoint), security=str(secure.made.folder / "node-1"), user=behalf)


def test_a_certificate_says_who_one_is_too(secure: Secure) -> None:
    files = secure.made.client("alice")
    shown = ("--cert", f"{files}/client.pem", "--key", f"{files}/client.key")
    code, body = secure.curl("/api/topics", *shown)
    assert code == 200 and [each["topic"] for each in json.loads(body)["topics"]] == ["orders"]
    node = secure.made.folder / "node-1"
    assert secure.curl("/api/topics", "--cert", f"{node}/node.pem", "--key", f"{node}/node.key")[0] == 401


@pytest.mark.parametrize("header", ["Origin: https://evil.example", "Sec-Fetch-Site: cross-site"])
def test_a_page_of_another_site_does_nothing_with_a_browsers_password(secure: Secure, header: str) -> None:
    code, _ = secure.act("root", "create-topic", "--header", header, topic="forged", preview=False)
    assert code == 403
    assert "forged" not in secure.admin.list_topics()
    assert secure.heard(outcome="denied", request="POST /api/acts/create-topic", door="http")


@pytest.mark.parametrize("given", ["alice:wrong", "absent:absent-pw", "alice:", ":"])
def test_a_wrong_password_is_refused_late_and_written_down(secure: Secure, given: str) -> None:
    began_s = time.monotonic()
    code, body = secure.curl("/api/topics", "--user", given)
    assert (code, json.loads(body)["text"]) == (401, "user and password do not belong together")
    assert time.monotonic() - began_s >= FAILED_LOGIN_S
    user = given.partition(":")[0]
    assert secure.heard(outcome="denied", request="Login", door="http", **({"names": [user]} if user else {}))


def test_wrong_passwords_hold_up_nobody_who_is_known(secure: Secure) -> None:
    assert secure.ask("alice", "/api/console")[0] == 200
    urls = [f"https://{secure.endpoint}/api/console"] * 6
    guess = ["curl", "--silent", "--parallel", "--parallel-immediate", "--insecure", "--user", "alice:wrong"]
    with subprocess.Popen([*guess, "--write-out", "\n%{http_code}\n", *urls], stdout=subprocess.PIPE) as guessing:
        while guessing.poll() is None:
            assert secure.ask("alice", "/api/console")[0] == 200
        assert guessing.stdout is not None
        assert re.findall(rb"^\d{3}$", guessing.stdout.read(), re.M) == [b"401"] * 6


def test_a_user_who_is_changed_or_deleted_is_out_at_once(secure: Secure) -> None:
    secure.admin.create_user("dave", "dave-pw")
    until(lambda: secure.ask("dave", "/api/topics")[0] == 200)
    secure.admin.create_user("dave", "other-pw")
    until(lambda: secure.ask("dave", "/api/topics")[0] == 401)
    assert secure.curl("/api/topics", "--user", "dave:other-pw")[0] == 200
    secure.admin.delete_user("dave")
    until(lambda: secure.curl("/api/topics", "--user", "dave:other-pw")[0] == 401)


def test_strangers_by_the_hundred_make_room_for_each_other_only(secure: Secure) -> None:
    idle = [socket.create_connection(secure.endpoint, 10) for _ in range(STRANGERS_MAX + 50)]
    try:
        assert secure.ask("alice", "/api/topics")[0] == 200
        idle[0].settimeout(10)
        assert idle[0].recv(10) == b"", "the oldest has ended"
    finally:
        for each in idle:
            each.close()


def test_a_renewed_certificate_is_shown_without_a_restart(secure: Secure) -> None:
    def shown() -> str:
        return ssl.get_server_certificate(secure.endpoint, timeout=10)

    before = shown()
    secure.made.node(1)
    until(lambda: shown() != before)
    assert secure.ask("alice", "/api/topics")[0] == 200
