"""Passwords are proved and not stored; who does not exist is told from nobody."""

from __future__ import annotations

import hashlib

import pytest

from raftlog.errors import InvalidRequestError
from raftlog.security.passwords import ClientLogin, ServerLogin, check_user, make_credential, proves
from raftlog.security.policy import NODE_USER, Access, Policy, Security, User
from raftlog.security.scram import Credential, LoginError, Mechanism, check_credential, credential_of

BOTH = pytest.mark.parametrize("mechanism", list(Mechanism), ids=lambda each: each.text)


def log_in(mechanism: Mechanism, credential: Credential, password: str, user: str = "alice") -> ServerLogin:
    server, client = ServerLogin(mechanism, lambda _user: credential), ClientLogin(mechanism, user, password)
    client.finish(server.step(client.second(server.step(client.first()))))
    return server


@BOTH
def test_the_right_password_logs_in(mechanism: Mechanism) -> None:
    server = log_in(mechanism, make_credential(mechanism, "secret"), "secret")
    assert server.done and server.user == "alice"


@BOTH
def test_a_wrong_password_does_not(mechanism: Mechanism) -> None:
    with pytest.raises(LoginError):
        log_in(mechanism, make_credential(mechanism, "secret"), "Secret")


@BOTH
def test_what_kafkas_tools_send_is_the_same_credential(mechanism: Mechanism) -> None:
    made = make_credential(mechanism, "secret", 4096)
    salted = hashlib.pbkdf2_hmac(mechanism.hash_name, b"secret", made.salt, 4096)
    assert credential_of(mechanism, salted, made.salt, 4096) == made


@BOTH
def test_a_password_as_it_is_can_be_checked(mechanism: Mechanism) -> None:
    credential = make_credential(mechanism, "secret")
    assert proves(credential, "secret") and not proves(credential, "secret ") and not proves(credential, "")


@pytest.mark.parametrize(
    "message",
    [b"", b"\xff\xfe", b"n,,n=,r=x", b"n,,n=alice,r=x,tokenauth=true", b"n,a=bob,n=alice,r=x", b"\0alice\0secret"],
)
def test_a_message_that_is_none_fails_the_login_and_nothing_else(message: bytes) -> None:
    with pytest.raises(LoginError):
        ServerLogin(Mechanism.SCRAM_SHA_256, lambda _user: make_credential(Mechanism.SCRAM_SHA_256, "x")).step(message)


@pytest.mark.parametrize("name", ["", "a\0b", "ª", "a" * 256, "raft\u200blog"])
def test_a_name_that_clients_may_send_differently_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequestError):
        check_user(name)


@pytest.mark.parametrize("name", ["alice", "alice@example.org", "CN=alice,O=x", "jürgen", "a b"])
def test_other_names_are_taken(name: str) -> None:
    check_user(name)


@pytest.mark.parametrize(
    "change",
    [{"iterations": 4095}, {"iterations": 16_385}, {"salt": b"x" * 8}, {"stored_key": b"short"}, {"server_key": b""}],
    ids=str,
)
def test_a_credential_that_nobody_could_log_in_with_is_refused(change: dict[str, object]) -> None:
    good = make_credential(Mechanism.SCRAM_SHA_256, "x", 4096)
    check_credential(good)
    fields = {name: getattr(good, name) for name in good.__struct_fields__}
    with pytest.raises(InvalidRequestError):
        check_credential(Credential(**{**fields, **change}))


# --- who does not exist ----------------------------------------------------------------------------
def policy() -> Policy:
    credential = make_credential(Mechanism.SCRAM_SHA_256, "secret")
    return Policy(Security(users={"alice": User(credentials=(credential,), epoch=7)}, secret=b"s" * 32), Access())


def first_answer(user: str) -> dict[str, str]:
    server = ServerLogin(Mechanism.SCRAM_SHA_256, lambda name: policy().credential(name, Mechanism.SCRAM_SHA_256))
    answer = server.step(ClientLogin(Mechanism.SCRAM_SHA_256, user, "x").first()).decode()
    return dict(each.split("=", 1) for each in answer.split(","))  # type: ignore[misc]


def test_the_first_answer_does_not_tell_whether_there_is_such_a_user() -> None:
    known, unknown, again = first_answer("alice"), first_answer("bob"), first_answer("bob")
    assert known.keys() == unknown.keys() and known["i"] == unknown["i"]
    assert len(known["s"]) == len(unknown["s"])
    assert unknown["s"] == again["s"] != first_answer("carol")["s"]


def test_nobody_logs_in_as_who_does_not_exist() -> None:
    with pytest.raises(LoginError):
        log_in(Mechanism.SCRAM_SHA_256, policy().credential("bob", Mechanism.SCRAM_SHA_256), "")
    assert not proves(policy().any_credential("bob"), "")


def test_a_node_logs_in_with_what_only_nodes_know() -> None:
    credential = policy().credential_of_nodes(Mechanism.SCRAM_SHA_256)
    assert log_in(Mechanism.SCRAM_SHA_256, credential, (b"s" * 32).hex(), NODE_USER).done


def test_a_session_ends_with_each_change_of_its_user_and_one_without_a_user_does_not() -> None:
    assert not policy().has_ended("User:alice", 7)
    assert policy().has_ended("User:alice", 6)
    assert policy().has_ended("User:bob", 7)
    assert not policy().has_ended("User:bob", -1)
