"""Flags and the INI file: what is taken, what is refused, and which wins."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftlog.errors import ConfigError
from raftlog.node.settings import is_loopback, parse_settings, read_settings_file
from raftlog.security.oauth import TokenRules
from raftlog.types import Endpoint, Flush

THREE = "1@127.0.0.1:7071,2@127.0.0.1:7072,3@127.0.0.1:7073"


def test_an_id_alone_is_a_node_on_loopback() -> None:
    settings = parse_settings({"id": "1"})
    assert settings.listen == settings.advertise == Endpoint("127.0.0.1", 7071)
    assert settings.data == "./raftlog-data/1"
    assert settings.flush is Flush.ALWAYS
    assert settings.peers == {}
    assert settings.worker_ports is None


def test_the_own_address_is_the_one_in_peers() -> None:
    settings = parse_settings({"id": "2", "peers": THREE.replace(",", " ,\n ")})
    assert settings.listen == settings.advertise == Endpoint("127.0.0.1", 7072)
    assert sorted(settings.peers) == [1, 2, 3]


def test_a_joiner_listens_at_its_own_default_port() -> None:
    assert parse_settings({"id": "4", "peers": THREE}).listen == Endpoint("127.0.0.1", 7074)


def test_listen_and_advertise_may_differ() -> None:
    settings = parse_settings({"id": "1", "listen": "0.0.0.0:9000", "advertise": "db1.example"})
    assert settings.listen == Endpoint("0.0.0.0", 9000)
    assert settings.advertise == Endpoint("db1.example", 9000)


def test_peers_names_the_address_for_others_and_listen_the_one_to_bind() -> None:
    settings = parse_settings({"id": "1", "peers": THREE, "listen": "0.0.0.0"})
    assert settings.listen == Endpoint("0.0.0.0", 7071)
    assert settings.advertise == Endpoint("127.0.0.1", 7071)


def test_ipv6_addresses_are_written_in_brackets() -> None:
    peers = "1@[::1]:7071,2@[0:0:0:0:0:0:0:1]:7072,3@[2001:db8::3]:7073"
    settings = parse_settings({"id": "1", "peers": peers, "listen": "[::]"})
    assert settings.listen == Endpoint("::", 7071) and str(settings.listen) == "[::]:7071"
    assert settings.advertise == Endpoint("::1", 7071)
    assert [str(each) for each in settings.peers.values()] == ["[::1]:7071", "[::1]:7072", "[2001:db8::3]:7073"]
    assert parse_settings({"id": "1", "listen": "[::1]:9000"}).advertise == Endpoint("::1", 9000)


def test_worker_ports_are_a_range_with_both_ends() -> None:
    assert parse_settings({"id": "1", "worker-ports": "8000-8003"}).worker_ports == range(8000, 8004)


OAUTH = {"security": "d", "oauth-issuer": "i", "oauth-audience": "a;b"}


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({}, "--id"),
        ({"id": "one"}, "--id"),
        ({"id": "0"}, "--id"),
        ({"id": "70000"}, "--listen"),
        ({"id": "1", "peers": "127.0.0.1:7071"}, "ID@HOST:PORT"),
        ({"id": "1", "peers": ","}, "--peers"),
        ({"id": "1", "peers": "1@a:1,1@b:2"}, "twice"),
        ({"id": "1", "peers": "1@a:1,2@a:1"}, "two nodes"),
        ({"id": "1", "peers": "1@a:99999"}, "--peers"),
        ({"id": "4", "peers": THREE, "listen": "127.0.0.1:7071"}, "another node"),
        ({"id": "1", "listen": "nonsense:"}, "--listen"),
        ({"id": "1", "listen": "0.0.0.0:7071"}, "--advertise"),
        ({"id": "1", "listen": "[::]:7071"}, "--advertise"),
        ({"id": "1", "listen": "::1:7071"}, "--listen: .* in brackets"),
        ({"id": "1", "listen": "::1"}, "in brackets"),
        ({"id": "1", "listen": "[::1"}, "--listen"),
        ({"id": "1", "listen": "[::1]7071"}, "--listen"),
        ({"id": "1", "listen": "[127.0.0.1]:7071"}, "not an IPv6 address"),
        ({"id": "1", "listen": "[fe80::1%eth0]:7071"}, "zone"),
        ({"id": "1", "peers": "1@[::1]:1,2@[0::1]:1"}, "two nodes"),
        ({"id": "1", "kafka-listen": ":"}, "--kafka-listen"),
        ({"id": "1", "kafka-listen": "::1:9092"}, "--kafka-listen: .* in brackets"),
        ({"id": "60000", "listen": "a:1", "kafka-listen": "a"}, "--kafka-listen takes HOST:PORT"),
        ({"id": "1", "kafka-listen": "127.0.0.1:7071"}, "--kafka-listen is 127.0.0.1:7071"),
        ({"id": "1", "kafka-listen": "0.0.0.0:9092"}, "--kafka-advertise"),
        ({"id": "1", "kafka-advertise": "[::]:9092"}, "--kafka-advertise"),
        ({"id": "1", "kafka-advertise": "a:b"}, "--kafka-advertise"),
        ({"id": "1", "kafka-processes": "0"}, "--kafka-processes"),
        ({"id": "1", "kafka-connections": "many"}, "--kafka-connections"),
        ({"id": "1", "auto-create-topics": "yes"}, "--auto-create-topics is on or off"),
        ({"id": "1", "worker-ports": "9000"}, "FROM-TO"),
        ({"id": "1", "worker-ports": "9000-8000"}, "empty"),
        ({"id": "1", "worker-ports": "9000-9000"}, "needs two"),
        ({"id": "1", "data": "\udcff"}, "--data"),
        ({"id": "1", "flush": "sometimes"}, "--flush"),
        ({"id": "1", "log-level": "loud"}, "--log-level"),
        ({"id": "1", "oauth-jwks": "f"}, "--oauth-issuer is missing"),
        ({"id": "1", "oauth-principal-claim": "azp"}, "--oauth-jwks is missing"),
        ({"id": "1", "permissive": "on"}, "--permissive needs --security DIR"),
        ({"id": "1", "oauth-jwks": "f", "oauth-issuer": "i", "oauth-audience": "a"}, "needs --security"),
        ({"id": "1", **OAUTH, "oauth-jwks": "http://keys.example.org/"}, "takes a file or https"),
        ({"id": "1", **OAUTH, "oauth-jwks": "ftp://keys.example.org/"}, "takes a file or https"),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_refused_by_the_name_of_its_flag(flags: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        parse_settings(flags)


def test_kafkas_clients_are_served_at_the_nodes_host_and_a_port_that_follows_from_its_id() -> None:
    settings = parse_settings({"id": "3"})
    assert settings.kafka_listen == settings.kafka_advertise == Endpoint("127.0.0.1", 9094)
    assert (settings.kafka_asked, settings.kafka_processes, settings.auto_create_topics) == (False, 1, True)
    settings = parse_settings({"id": "1", "listen": "[::]:7071", "advertise": "db1.example"})
    assert settings.kafka_listen == Endpoint("::", 9092)
    assert settings.kafka_advertise == Endpoint("db1.example", 9092)


def test_where_kafkas_clients_are_served_and_what_they_are_told_may_be_said() -> None:
    settings = parse_settings({"id": "1", "kafka-listen": "[::1]", "kafka-advertise": "kafka.example"})
    assert settings.kafka_asked
    assert settings.kafka_listen == Endpoint("::1", 9092)
    assert settings.kafka_advertise == Endpoint("kafka.example", 9092)
    assert parse_settings({"id": "1", "kafka-listen": "10.0.0.1:19092"}).kafka_advertise == Endpoint("10.0.0.1", 19092)
    settings = parse_settings({"id": "1", "kafka-listen": "0.0.0.0:19092", "kafka-advertise": "a"})
    assert settings.kafka_advertise == Endpoint("a", 19092)


def test_a_node_may_have_no_door_for_kafkas_clients() -> None:
    settings = parse_settings({"id": "1", "kafka-listen": "none"})
    assert settings.kafka_listen is settings.kafka_advertise is None
    assert parse_settings({"id": "60000", "listen": "127.0.0.1:7071"}).kafka_listen is None, "no such port"


def test_a_node_that_has_taken_the_default_port_of_the_door_itself_may_start() -> None:
    settings = parse_settings({"id": "1", "listen": "127.0.0.1:9092"})
    assert settings.kafka_listen == settings.listen and not settings.kafka_asked


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "node.ini"
    path.write_text(f"[node]\nid = 1\npeers = {THREE}\nflush = os\nworker_ports = 8000-8010\n")
    settings = parse_settings({"id": "3", "flush": None, "data": "/srv/raftlog"}, read_settings_file(str(path)))
    assert settings.node_id == 3
    assert settings.flush is Flush.OS
    assert settings.data == "/srv/raftlog"
    assert settings.worker_ports == range(8000, 8011)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has one section, [node]; found none"),
        ("id = 1", "line 1: the file has to begin with the line [node]"),
        ("[node]\nid = 1\nspeed = 11\n", "unknown key 'speed'; known are id,"),
        ("[server]\nid = 1\n", "has one section, [node]; found ['server']"),
        ("[node]\nid = 1\nid = 2\n", "line 3: id stands there twice"),
        ("[node]\nid = 1\n[node]\nflush = os\n", "line 3: [node] stands there twice"),
        ("[node]\n\nid", "line 3: this is not KEY = VALUE"),
    ],
)
def test_a_file_that_says_something_else_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "node.ini"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        read_settings_file(str(path))
    assert said in str(refused.value) and str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_file_says_all_of_kafkas_door(tmp_path: Path) -> None:
    path = tmp_path / "node.ini"
    path.write_text(
        "[node]\nid = 1\nkafka-listen = 127.0.0.1:19092\nkafka-advertise = a:1\nkafka-processes = 2\n"
        "kafka-connections = 50\nauto-create-topics = off\n"
    )
    settings = parse_settings({}, read_settings_file(str(path)))
    assert settings.kafka_listen == Endpoint("127.0.0.1", 19092) and settings.kafka_asked
    assert settings.kafka_advertise == Endpoint("a", 1)
    assert (settings.kafka_processes, settings.kafka_connections, settings.auto_create_topics) == (2, 50, False)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="absent"):
        read_settings_file(str(tmp_path / "absent.ini"))


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("localhost", True), ("0.0.0.0", False), ("db1", False)],
)
def test_only_loopback_is_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    ("jwks", "found"),
    [
        ("keys.json", "keys.json"),
        ("file:///k.json", "/k.json"),
        ("https://a/k", "https://a/k"),
        ("http://[::1]:80/k", "http://[::1]:80/k"),
    ],
)
def test_keys_for_tokens_are_a_file_or_a_url_that_nobody_else_can_change(jwks: str, found: str) -> None:
    tokens = parse_settings({"id": "1", **OAUTH, "oauth-jwks": jwks}).access.tokens
    assert tokens == TokenRules(jwks=found, issuer="i", audiences=("a", "b"), principal_claim="sub")
