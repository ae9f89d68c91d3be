"""Tokens at Kafka's door of a real node, with an unchanged client: keys in a file and behind a URL, and new ones."""

from __future__ import annotations

import contextlib
import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic
from kafka.errors import KafkaError
from kafka.net.sasl.oauth import AbstractTokenProvider

from raftlog.errors import ConfigError
from raftlog.limits import KEYS_FETCHED_S
from raftlog.node import jwks
from raftlog.node.jwks import Tokens
from raftlog.security.oauth import TokenError
from tests.node.asking import until
from tests.node.started import free_port, started
from tests.patience import WAIT_S
from tests.security.made import Made
from tests.security.tokens import AUDIENCE, ISSUER, RULES, Issuer, unsigned

THREE_S = 3


class Provider(AbstractTokenProvider):  # type: ignore[misc]
    """Makes one each time it is asked."""

    def __init__(self, make: Any) -> None:
        self._make = make
        self.made = 0

    def token(self) -> str:
        self.made += 1
        return str(self._make())


class Node:
    def __init__(self, address: str, files: Path, issuer: Issuer, jwks: Path) -> None:
        self.address = address
        self.files = files
        self.issuer = issuer
        self.jwks = jwks

    def options(self, make: Any) -> dict[str, Any]:
        return {
            "bootstrap_servers": self.address,
            "security_protocol": "SASL_SSL",
            "ssl_cafile": str(self.files / "ca.pem"),
            "sasl_mechanism": "OAUTHBEARER",
            "sasl_oauth_token_provider": make if isinstance(make, Provider) else Provider(make),
        }


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("tokens")
    made, issuer, keys = Made(folder), Issuer(), folder / "keys.json"
    keys.write_bytes(issuer.jwks)
    native, kafka = free_port(), free_port()
    arguments = ["--id", "1", "--data", "data", "--listen", f"127.0.0.1:{native}", "--security", made.node(1)]
    arguments += ["--kafka-listen", f"127.0.0.1:{kafka}", "--superuser", "root", "--http-listen", "none"]
    arguments += ["--oauth-jwks", str(keys), "--oauth-issuer", ISSUER, "--oauth-audience", AUDIENCE]
    client = Path(made.client("x"))
    with started(folder, *arguments) as running:
        running.ready()
        yield Node(f"127.0.0.1:{kafka}", client, issuer, keys)


@pytest.mark.cluster
def test_an_unchanged_client_writes_with_a_token_and_renews_it_on_its_connection(node: Node) -> None:
    admin = KafkaAdminClient(**node.options(lambda: node.issuer.token(sub="root")))
    admin.create_topics([NewTopic("orders", 1, 1)])
    admin.close()
    provider = Provider(lambda: node.issuer.token(exp=int(time.time()) + THREE_S))
    producer = KafkaProducer(**node.options(provider))
    first = producer.send("orders", b"x").get(WAIT_S)
    before = provider.made
    until(lambda: producer.send("orders", b"y").get(WAIT_S).offset > first.offset and provider.made > before)
    producer.close()


@pytest.mark.cluster
@pytest.mark.parametrize(
    "make",
    [lambda _: unsigned({"alg": "none"}), lambda issuer: issuer.token(exp=1), lambda issuer: issuer.token(aud="else")],
    ids=["unsecured", "expired", "for somebody else"],
)
def test_a_client_with_a_token_that_is_not_good_gets_nowhere(node: Node, make: Any) -> None:
    with pytest.raises(KafkaError):
        KafkaAdminClient(**node.options(lambda: make(node.issuer)), bootstrap_timeout_ms=2000)


@pytest.mark.cluster
def test_new_keys_are_taken_while_the_node_runs(node: Node) -> None:
    fresh = Issuer()
    node.jwks.write_bytes(fresh.jwks)

    def served(issuer: Issuer) -> bool:
        try:
            KafkaAdminClient(**node.options(lambda: issuer.token(sub="root")), bootstrap_timeout_ms=2000).close()
        except KafkaError:
            return False
        return True

    until(lambda: served(fresh))
    assert not served(node.issuer)
    node.jwks.write_bytes(b"{}")  # what cannot be read changes nothing
    assert served(fresh)


# --- where keys come from ----------------------------------------------------------------------------
def test_a_file_without_keys_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        Tokens(RULES)
    (tmp_path / "keys.json").write_text("{}")
    with pytest.raises(ConfigError, match="no key set"):
        jwks.KeyFile(str(tmp_path / "keys.json"))


class Serving(http.server.BaseHTTPRequestHandler):
    bodies: list[bytes] = []
    elsewhere = ""

    def do_GET(self) -> None:
        self.send_response(302 if self.elsewhere else 200)
        if self.elsewhere:
            self.send_header("Location", self.elsewhere)
        self.end_headers()
        self.wfile.write(b"" if self.elsewhere else self.bodies[-1])

    def log_message(self, *_: object) -> None: ...


@contextlib.contextmanager
def serving(elsewhere: str = "") -> Iterator[str]:
    handler = type("Handler", (Serving,), {"bodies": Serving.bodies, "elsewhere": elsewhere})
    server = http.server.HTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/keys"
    finally:
        server.shutdown()
        server.server_close()


def taken(tokens: Tokens, token: str) -> bool:
    try:
        return tokens.check(token).user == "alice"
    except TokenError as error:
        tokens.may_know_soon(error)
        return False


def test_keys_behind_a_url_are_fetched_and_fetched_again_for_a_token_of_a_new_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jwks, "_FETCH_MIN_S", 0.0)
    old, new = Issuer(), Issuer()
    Serving.bodies.append(old.jwks)
    with serving() as url:
        tokens = Tokens(RULES.__class__(jwks=url, issuer=ISSUER, audiences=(AUDIENCE,)))
        until(lambda: taken(tokens, old.token()))
        new.ec.as_dict()
        listed = {**new.listed[1], "kid": "new"}
        new.listed = [listed]
        Serving.bodies.append(new.jwks)
        until(lambda: taken(tokens, new.token({"kid": "new"})), KEYS_FETCHED_S)
        assert not taken(tokens, old.token())
        tokens.close()


def test_nobody_is_followed_to_keys_elsewhere(caplog: pytest.LogCaptureFixture) -> None:
    Serving.bodies.append(Issuer().jwks)
    with serving() as url, serving(elsewhere=url) as wrong:
        source = jwks.KeyUrl(wrong)
        until(lambda: "302" in caplog.text)
        assert not source.keys
        source.close()
