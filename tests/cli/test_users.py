"""`raftlog user`, `acl` and `quota` on a node of their own: from the first user on everybody has to say who it is."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import COMMAND, environment
from tests.node.started import free_port, started
from tests.patience import WAIT_S

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]


class Shell:
    """Commands at one node, in a directory with files of passwords."""

    def __init__(self, directory: Path, bootstrap: str) -> None:
        self._directory = directory
        self._bootstrap = bootstrap
        for name in ("root", "alice", "new"):
            (directory / f"{name}.pw").write_text(f"{name}-pw\n")

    def run(self, *arguments: str, user: str = "root", password: str = "", code: int = 0) -> str:
        """`user` "": nobody. What it prints, errors included."""
        variables = environment(self._bootstrap)
        if user:
            variables |= {"RAFTLOG_USER": user, "RAFTLOG_PASSWORD_FILE": f"{password or user}.pw"}
        done = subprocess.run(
            [*COMMAND, *arguments],
            cwd=self._directory,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=WAIT_S,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == code, (done.stdout, done.stderr)
        return done.stdout + done.stderr

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json"))


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    directory, port = tmp_path_factory.mktemp("users"), free_port()
    arguments = ["--id", "1", "--data", "data", "--listen", f"127.0.0.1:{port}", "--superuser", "root"]
    with started(directory, *arguments) as node:
        node.ready()
        found = Shell(directory, f"127.0.0.1:{port}")
        assert "there are no users" in found.run("user", "list", user="")
        refused = found.run("user", "create", "alice", "--new-password-file", "alice.pw", user="", code=1)
        assert "--superuser NAME" in refused
        found.run("user", "create", "root", "--new-password-file", "root.pw", user="")
        yield found


def test_from_the_first_user_on_everybody_has_to_say_who_it_is(shell: Shell) -> None:
    assert "log in first" in shell.run("topic", "list", user="", code=1)
    assert "do not belong together" in shell.run("topic", "list", password="alice", code=1)
    assert "needs a password" in shell.run("topic", "list", "--user", "root", user="", code=1).replace("\n", " ")


def test_a_doctor_who_may_not_look_says_so(shell: Shell) -> None:
    assert "log in first" in shell.run("doctor", user="", code=2)
    assert "do not belong together" in shell.run("doctor", password="alice", code=2)


def test_users_are_made_changed_listed_and_deleted(shell: Shell) -> None:
    assert shell.json("user", "create", "alice", "--new-password-file", "alice.pw") == {
        "user": "alice",
        "created": True,
    }
    assert "is there already" in shell.run("user", "create", "alice", "--new-password-file", "alice.pw", code=2)
    both = ["SCRAM-SHA-256", "SCRAM-SHA-512"]
    assert shell.json("user", "list")["users"] == [
        {"user": "alice", "mechanisms": both},
        {"user": "root", "mechanisms": both},
    ]
    assert "may not" in shell.run("user", "list", user="alice", code=1)
    shell.run("user", "password", "alice", "--new-password-file", "new.pw")
    assert "do not belong together" in shell.run("user", "list", user="alice", code=1)
    assert "may not" in shell.run("user", "list", user="alice", password="new", code=1)
    shell.run("user", "delete", "alice")
    assert "there is no user alice" in shell.run("user", "delete", "alice", code=1)
    assert "there is no user alice" in shell.run("user", "password", "alice", "--new-password-file", "new.pw", code=2)


def test_rules_are_added_found_and_removed(shell: Shell) -> None:
    added = shell.json("acl", "add", "--principal", "bob", "--operation", "Read", "--topic", "orders", "--group", "g")
    assert [(each["principal"], each["resource"], each["name"]) for each in added["added"]] == [
        ("User:bob", "Topic", "orders"),
        ("User:bob", "Group", "g"),
    ]
    shell.run("acl", "add", "--principal", "*", "--operation", "write", "--topic", "or", "--prefixed", "--deny")
    found = shell.json("acl", "list", "--topic", "orders")["rules"]
    assert {(each["principal"], each["permission"], each["pattern"]) for each in found} == {
        ("User:bob", "Allow", "Literal"),
        ("User:*", "Deny", "Prefixed"),
    }
    assert len(shell.json("acl", "list")["rules"]) == 3
    assert len(shell.json("acl", "remove", "--principal", "bob")["removed"]) == 2
    assert "there were no such rules" in shell.run("acl", "remove", "--principal", "bob")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--operation", "Read", "--topic", "t"], "a rule names --principal"),
        (["--principal", "bob", "--operation", "Fly", "--topic", "t"], "'Fly' is none of"),
        (["--principal", "bob", "--operation", "IdempotentWrite", "--topic", "t"], "allows or denies one of"),
        (["--principal", "bob", "--operation", "Read", "--topic", "t", "--host", "localhost"], "a host is an address"),
    ],
)
def test_a_rule_that_makes_no_sense_is_a_wrong_usage(shell: Shell, arguments: list[str], said: str) -> None:
    assert said in " ".join(shell.run("acl", "add", *arguments, code=2).split())


def test_the_last_superuser_stays_while_there_are_rules(shell: Shell) -> None:
    shell.run("acl", "add", "--principal", "bob", "--operation", "Read", "--topic", "orders")
    assert "nobody could change anything any more" in shell.run("user", "delete", "root", code=1)


def test_quotas_are_set_listed_and_removed(shell: Shell) -> None:
    assert "--principal" in shell.run("quota", "set", "--producer-byte-rate", "5", code=2)
    assert "--producer-byte-rate" in shell.run("quota", "set", "--principal", "bob", code=2)
    shell.run("quota", "set", "--principal", "bob", "--producer-byte-rate", "1000")
    told = shell.json("quota", "set", "--principal", "bob", "--consumer-byte-rate", "2000")["quotas"]
    bob = {"principal": "bob", "client_id": None, "producer_byte_rate": 1000, "consumer_byte_rate": 2000}
    assert told == [bob]
    shell.run("quota", "set", "--client-id", "*", "--producer-byte-rate", "7")
    assert ["-", "*", "7", "-"] in [line.split() for line in shell.run("quota", "list").splitlines()]
    assert shell.json("quota", "list", "--principal", "bob")["quotas"] == [bob]
    removed = shell.json("quota", "remove", "--principal", "bob", "--producer-byte-rate")["removed"]
    assert removed == [{**bob, "consumer_byte_rate": None}]
    shell.run("quota", "remove", "--principal", "bob")
    shell.run("quota", "remove", "--client-id", "*")
    assert "no such quotas" in shell.run("quota", "list")
