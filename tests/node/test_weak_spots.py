"""Where a node says that it is open though it works, and that each of it has words."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftlog.node.settings import parse_settings
from raftlog.node.weak_spots import weak_spots
from raftlog.security.credentials import Credentials
from raftlog.security.policy import Security, User
from raftlog.security.weakness import Weakness
from raftlog.view.weak_spots import name_weak_spots
from tests.security.made import Made

USERS = Security(offset=1, users={"alice": User(credentials=(), epoch=1)})


def found(flags: dict[str, str], security: Security = USERS) -> list[int]:
    return weak_spots(parse_settings({"id": "1", **flags}), None, security, superusers_plain=False)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({}, []),
        ({"listen": "0.0.0.0:7071", "advertise": "h", "insecure": "on"}, [Weakness.OPEN_PORT]),
        ({"kafka-listen": "[::]:9092", "kafka-advertise": "h", "insecure": "on"}, [Weakness.OPEN_PORT]),
        ({"http-listen": "10.0.0.7:8071", "insecure": "on"}, [Weakness.OPEN_HTTP]),
        ({"authorization": "off"}, [Weakness.RULES_OFF]),
    ],
    ids=str,
)
def test_what_a_node_was_started_with_is_weak(flags: dict[str, str], expected: list[int]) -> None:
    assert found(flags) == expected


def test_rules_that_are_not_there_cannot_be_off() -> None:
    assert found({"authorization": "off"}, Security()) == []


def test_a_key_that_was_opened_while_it_is_in_use_is_weak_and_certificates_close_the_port(tmp_path: Path) -> None:
    directory = Made(tmp_path).node(1)
    settings = parse_settings({"id": "1", "listen": "0.0.0.0:7071", "advertise": "h", "security": directory})
    credentials = Credentials.of_node(directory, 1)
    assert weak_spots(settings, credentials, USERS, superusers_plain=False) == []
    (Path(directory) / "node.key").chmod(0o640)
    assert weak_spots(settings, credentials, USERS, superusers_plain=False) == [Weakness.READABLE_KEY]


def test_a_permissive_node_says_so_and_that_its_http_address_asks_nobody(tmp_path: Path) -> None:
    directory = Made(tmp_path).node(1)
    flags = {"id": "1", "http-listen": "10.0.0.7:8071", "security": directory, "permissive": "on"}
    settings = parse_settings(flags)
    assert settings.http_read_only
    credentials = Credentials.of_node(directory, 1, permissive=True)
    found = weak_spots(settings, credentials, Security(), superusers_plain=False)
    assert found == [Weakness.OPEN_HTTP, Weakness.PERMISSIVE]


def test_each_has_words_and_those_of_newer_nodes_are_passed_over() -> None:
    named = name_weak_spots({2: [Weakness.OPEN_HTTP], 1: [*Weakness, 99]})
    assert [each.place for each in named] == ["node 1"] * len(Weakness) + ["node 2"]
    assert all(each.what and each.meaning and each.advice for each in named)
