"""SaslHandshake and SaslAuthenticate: who gets in, what a failure is told and when, and how long a login counts."""

from __future__ import annotations

from typing import Any

import pytest

from raftlog import limits
from raftlog.kafka.calls import DoorSettings
from raftlog.security.oauth import Token, TokenError, UnknownKeyError
from raftlog.security.passwords import ClientLogin, make_credential
from raftlog.security.policy import NODE_USER, Access, Policy, Security, User
from raftlog.security.scram import Mechanism
from tests.kafka.door import cluster, topic
from tests.kafka.workbench import Client, Workbench

HANDSHAKE, AUTHENTICATE, API_VERSIONS, METADATA = 17, 36, 18, 3
SHA_256, SHA_512 = Mechanism
CREDENTIALS = tuple(make_credential(mechanism, "secret", 4096) for mechanism in Mechanism)
USERS = {name: User(credentials=CREDENTIALS, epoch=3) for name in ("alice", "bob")}
SCRAM = pytest.mark.parametrize("mechanism", list(Mechanism), ids=lambda each: each.text)


def bench(users: dict[str, User] | None = None, *, enforced: bool = True) -> Workbench:
    made = Workbench(cluster(topic("orders")))
    security = Security(offset=1, users=USERS if users is None else users, secret=b"s" * 32)
    access = Access(superusers=("User:alice", "User:bob"), enforced=enforced)
    made.broker.secure(Policy(security, access), [])
    return made


def connect(made: Workbench, *, encrypted: bool = False) -> Client:
    client = made.connect()
    client.connection.session.encrypted = encrypted
    made.broker.begin(client.connection)
    return client


def ask(client: Client, key: int, version: int, **fields: Any) -> dict[str, Any]:
    client.send(key, version, **fields)
    (answer,) = client.answers()
    return answer


def authenticate(client: Client, message: bytes) -> dict[str, Any]:
    return ask(client, AUTHENTICATE, 2, auth_bytes=message)


def log_in(client: Client, user: str = "alice", password: str = "secret", mechanism: Mechanism = SHA_256) -> Any:
    """The answer to the last message; None: it has not come yet."""
    assert ask(client, HANDSHAKE, 1, mechanism=mechanism.text)["error_code"] == 0
    login = ClientLogin(mechanism, user, password)
    first = authenticate(client, login.first())
    assert first["error_code"] == 0
    client.send(AUTHENTICATE, 2, auth_bytes=login.second(first["auth_bytes"]))
    answers = client.answers()
    if answers and not answers[0]["error_code"]:
        login.finish(answers[0]["auth_bytes"])
    return answers[0] if answers else None


def is_served(client: Client) -> bool:
    client.send(METADATA, 12, topics=None)
    return bool(client.answers()) and not client.connection.closing


# --- success ---------------------------------------------------------------------------------------
@SCRAM
def test_a_password_opens_the_door(mechanism: Mechanism) -> None:
    client = connect(bench())
    assert ask(client, API_VERSIONS, 0)["error_code"] == 0
    log_in(client, mechanism=mechanism)
    session = client.connection.session
    assert (session.principal, session.mechanism) == ("User:alice", mechanism.text)
    assert is_served(client)


def test_plain_is_taken_over_an_encrypted_connection_only() -> None:
    client = connect(bench(), encrypted=True)
    assert ask(client, HANDSHAKE, 1, mechanism="PLAIN")["error_code"] == 0
    assert authenticate(client, b"\0alice\0secret")["error_code"] == 0
    assert is_served(client)
    client = connect(bench())
    refused = ask(client, HANDSHAKE, 1, mechanism="PLAIN")
    assert (refused["error_code"], refused["mechanisms"]) == (33, ["SCRAM-SHA-256", "SCRAM-SHA-512"])
    assert client.connection.closing


def test_superusers_who_send_their_password_are_counted() -> None:
    made = bench()
    log_in(connect(made))
    assert made.broker.logins.superusers_plain == 0
    client = connect(made, encrypted=True)
    ask(client, HANDSHAKE, 1, mechanism="PLAIN")
    authenticate(client, b"\0alice\0secret")
    assert made.broker.logins.superusers_plain == 1


def test_before_a_login_a_request_is_small_and_after_it_as_large_as_ever() -> None:
    made = bench()
    client = connect(made)
    size = (limits.LOGIN_BYTES_MAX + 1).to_bytes(4, "big")
    log_in(client)
    made.broker.receive(client.connection, size)
    assert not client.connection.closing
    client = connect(made)
    made.broker.receive(client.connection, size)
    assert "a request of 65537 bytes" in client.connection.closing


def test_whom_a_certificate_names_need_not_log_in() -> None:
    made = bench()
    client = connect(made, encrypted=True)
    client.connection.session.secure("User:alice")
    assert is_served(client) and not client.connection.waits_for_login


# --- failure ---------------------------------------------------------------------------------------
@SCRAM
@pytest.mark.parametrize("user", ["alice", "nobody"])
def test_a_wrong_password_and_an_unknown_user_are_told_the_same_and_late(mechanism: Mechanism, user: str) -> None:
    made = bench()
    client = connect(made)
    assert log_in(client, user, "wrong", mechanism) is None
    assert client.answers() == [] and not client.connection.closing
    made.pass_time(limits.FAILED_LOGIN_S + 0.01)
    (answer,) = client.answers()
    text = (
        f"Authentication failed during authentication due to invalid credentials with SASL mechanism {mechanism.text}"
    )
    assert (answer["error_code"], answer["error_message"]) == (58, text)
    assert client.connection.closing


@pytest.mark.parametrize("message", [b"\0alice\0wrong", b"\0nobody\0secret", b"bob\0alice\0secret", b"x", b"\xff\0\0"])
def test_plain_fails_with_one_text(message: bytes) -> None:
    made = bench()
    client = connect(made, encrypted=True)
    ask(client, HANDSHAKE, 1, mechanism="PLAIN")
    client.send(AUTHENTICATE, 2, auth_bytes=message)
    made.pass_time(1)
    (answer,) = client.answers()
    assert (answer["error_code"], answer["error_message"]) == (
        58,
        "Authentication failed: Invalid username or password",
    )


def test_nobody_is_a_node_here_even_with_what_only_nodes_know() -> None:
    made = bench()
    assert log_in(connect(made), NODE_USER, (b"s" * 32).hex()) is None


def test_failures_of_one_address_wait_for_each_other_and_are_bounded() -> None:
    made = bench()
    clients = [connect(made) for _ in range(limits.FAILED_LOGINS_WAITING_MAX + 5)]
    for client in clients:
        log_in(client, password="wrong")
    assert sum(bool(client.connection.closing) for client in clients) == 5
    made.pass_time(limits.FAILED_LOGIN_S + 0.01)
    assert sum(len(client.answers()) for client in clients) == 1
    made.pass_time(limits.FAILED_LOGIN_S * limits.FAILED_LOGINS_WAITING_MAX)
    assert sum(len(client.answers()) for client in clients) == limits.FAILED_LOGINS_WAITING_MAX - 1
    assert log_in(connect(made), password="wrong") is None  # it is counted anew


def test_the_oldest_handshake_is_listed_for_librdkafka_and_not_taken() -> None:
    client = connect(bench())
    listed = {each["api_key"]: each for each in ask(client, API_VERSIONS, 0)["api_keys"]}
    assert (listed[HANDSHAKE]["min_version"], listed[HANDSHAKE]["max_version"]) == (0, 1)
    assert ask(client, HANDSHAKE, 0, mechanism="SCRAM-SHA-256")["error_code"] == 35
    assert client.connection.closing


def test_who_knows_the_password_does_not_wait_for_who_does_not() -> None:
    made = bench()
    log_in(connect(made), password="wrong")
    client = connect(made)
    assert log_in(client)["error_code"] == 0 and is_served(client)


def test_after_a_failure_nothing_is_taken_any_more() -> None:
    made = bench()
    client = connect(made)
    log_in(client, password="wrong")
    client.send(HANDSHAKE, 1, answered=False, mechanism="SCRAM-SHA-256")
    client.send(METADATA, 12, answered=False, topics=None)
    assert client.answers() == []


def test_a_message_without_a_handshake_and_a_handshake_without_users_are_illegal() -> None:
    client = connect(bench())
    assert authenticate(client, b"n,,n=alice,r=x")["error_code"] == 34
    client = connect(bench({}))
    assert ask(client, HANDSHAKE, 1, mechanism="SCRAM-SHA-256")["error_code"] == 34
    assert is_served(client)


def test_with_authorization_off_nobody_has_to_log_in_and_everybody_may() -> None:
    made = bench(enforced=False)
    client, other = connect(made), connect(made)
    assert is_served(client)
    log_in(other)
    assert is_served(other) and other.connection.session.principal == "User:alice"


# --- again -----------------------------------------------------------------------------------------
def test_a_login_counts_for_a_while_and_is_renewed_on_the_same_connection() -> None:
    made = bench()
    made.broker.settings = DoorSettings(1, max_reauth_ms=6000)
    client = connect(made)
    assert log_in(client)["session_lifetime"] == 6000
    made.pass_time(5)
    log_in(client)
    made.pass_time(5)
    assert is_served(client)
    made.pass_time(2)
    log_in(client)  # also late, where nothing else was asked in between
    assert is_served(client)
    made.pass_time(7)
    assert not is_served(client)


def test_it_stays_the_same_user() -> None:
    made = bench()
    client = connect(made)
    log_in(client)
    assert log_in(client, "bob") is None
    made.pass_time(1)
    (answer,) = client.answers()
    text = "Cannot change principals during re-authentication from User.alice: User.bob"
    assert (answer["error_code"], answer["error_message"]) == (58, text)
    assert client.connection.session.principal == "User:alice"


def test_who_came_before_there_were_users_has_to_log_in_then() -> None:
    made = bench({})
    client = connect(made)
    assert is_served(client)
    security = Security(offset=2, users=USERS)
    made.broker.secure(Policy(security, Access()), [client.connection])
    assert not is_served(client) and "has not logged in" in client.connection.closing


# --- tokens ----------------------------------------------------------------------------------------
START_MS = 1_700_000_000_000


class Checker:
    """The text of a token says what becomes of it: USER:SECONDS is taken, what else is not; NEW of an unknown key."""

    def __init__(self, *, fetches: bool = False) -> None:
        self.fetches = fetches
        self.asked = 0

    def check(self, text: str) -> Token:
        self.asked += 1
        if text == "new" and not (self.fetches and self.asked > 1):
            raise UnknownKeyError("no key is known")
        user, _, seconds = text.replace("new", "alice-60").partition("-")
        if not seconds:
            raise TokenError("the token has expired")
        return Token(user, START_MS + int(seconds) * 1000)

    def may_know_soon(self, error: TokenError) -> bool:
        return self.fetches and isinstance(error, UnknownKeyError)


def token_bench(*, fetches: bool = False, users: dict[str, User] | None = None) -> Workbench:
    made = bench(users)
    made.broker.secure(Policy(made.broker.policy.security, Access(certified=True, superusers=("User:alice",))), [])
    made.broker.tokens = Checker(fetches=fetches)
    return made


def bear(client: Client, token: str, wanted: str = "") -> Any:
    """The answer; None: it has not come yet."""
    assert ask(client, HANDSHAKE, 1, mechanism="OAUTHBEARER")["error_code"] == 0
    authorization = f"a={wanted}" if wanted else ""
    client.send(AUTHENTICATE, 2, auth_bytes=f"n,{authorization},\x01auth=Bearer {token}\x01\x01".encode())
    answers = client.answers()
    return answers[0] if answers else None


def refused(made: Workbench, client: Client) -> str:
    made.pass_time(limits.FAILED_LOGIN_S + 0.01)
    (answer,) = client.answers()
    assert answer["error_code"] == 58 and client.connection.closing
    assert not client.connection.session.mechanism
    return str(answer["error_message"])


@pytest.mark.parametrize("users", [None, {}], ids=["users", "no-users"])
def test_a_token_opens_the_door_until_it_ends(users: dict[str, User] | None) -> None:
    made = token_bench(users=users)
    client = connect(made, encrypted=True)
    answer = bear(client, "alice-60", "alice")
    assert (answer["error_code"], answer["session_lifetime"]) == (0, 60_000)
    session = client.connection.session
    assert (session.principal, session.mechanism, session.epoch) == ("User:alice", "OAUTHBEARER", -1)
    made.pass_time(59)
    assert is_served(client)
    bear(client, "alice-90")
    made.pass_time(30)
    assert is_served(client)
    made.pass_time(2)
    assert not is_served(client) and "expired" in client.connection.closing


def test_a_login_with_a_token_counts_no_longer_than_any_other() -> None:
    made = token_bench()
    made.broker.settings = DoorSettings(1, max_reauth_ms=6000)
    assert bear(connect(made, encrypted=True), "alice-60")["session_lifetime"] == 6000
    assert bear(connect(made, encrypted=True), "alice-3")["session_lifetime"] == 3000


def test_a_token_that_is_not_taken_is_told_why_and_late() -> None:
    made = token_bench()
    client = connect(made, encrypted=True)
    assert bear(client, "x") is None
    assert refused(made, client) == "Authentication failed: the token has expired"


def test_a_message_that_is_no_token_and_one_for_somebody_else_are_refused() -> None:
    made = token_bench()
    client = connect(made, encrypted=True)
    assert bear(client, "alice-60", "bob") is None
    assert "somebody else" in refused(made, client)
    client = connect(made, encrypted=True)
    assert bear(client, "\x01") is None
    assert "no message of OAUTHBEARER" in refused(made, client)


def test_another_user_may_not_take_a_session_over() -> None:
    made = token_bench()
    client = connect(made, encrypted=True)
    bear(client, "alice-60")
    assert bear(client, "bob-60") is None
    made.pass_time(1)
    (answer,) = client.answers()
    assert "from User.alice: User.bob" in answer["error_message"]
    assert client.connection.session.principal == "User:alice"


def test_tokens_are_taken_over_an_encrypted_connection_only_and_where_there_are_keys() -> None:
    assert ask(connect(token_bench()), HANDSHAKE, 1, mechanism="OAUTHBEARER")["error_code"] == 33
    found = ask(connect(bench(), encrypted=True), HANDSHAKE, 1, mechanism="OAUTHBEARER")
    assert (found["error_code"], "OAUTHBEARER" in found["mechanisms"]) == (33, False)


@pytest.mark.parametrize("fetches", [True, False])
def test_a_token_of_a_new_key_is_looked_at_again_where_keys_are_being_fetched(fetches: bool) -> None:
    made = token_bench(fetches=fetches)
    client = connect(made, encrypted=True)
    assert bear(client, "new") is None
    if fetches:
        assert authenticate_late(made, client)["error_code"] == 0 and is_served(client)
    else:
        assert "no key is known" in refused(made, client)


def authenticate_late(made: Workbench, client: Client) -> dict[str, Any]:
    made.pass_time(limits.KEYS_FETCHED_S + 0.01)
    (answer,) = client.answers()
    return answer


def test_what_comes_while_a_token_waits_changes_nothing() -> None:
    made = token_bench(fetches=True)
    client = connect(made, encrypted=True)
    assert bear(client, "new") is None
    client.send(AUTHENTICATE, 2, answered=False, auth_bytes=b"n,,\x01auth=Bearer alice-60\x01\x01")
    client.send(METADATA, 12, answered=False, topics=None)
    assert client.connection.closing and not client.connection.session.mechanism
