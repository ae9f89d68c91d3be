"""The door for Kafka's clients, as a process of a real node: opened, closed, killed, spoken to in other languages."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from raftlog import Admin, Producer
from raftlog.client import NewTopic
from raftlog.node.local import LocalCluster
from raftlog.types import Endpoint
from tests.kafka.tcp import API_VERSIONS, FETCH, METADATA, PRODUCE, KafkaSocket
from tests.node.started import StartedNode, all_gone, free_port, started
from tests.patience import WAIT_S

pytestmark = pytest.mark.cluster


def _arguments(kafka: int | None = None) -> tuple[list[str], Endpoint]:
    port = kafka or free_port()
    listen = ["--id", "1", "--data", "data", "--listen", f"127.0.0.1:{free_port()}"]
    return [*listen, "--kafka-listen", f"127.0.0.1:{port}"], Endpoint("127.0.0.1", port)


def _until(come: Callable[[], object]) -> bool:
    deadline_s = time.monotonic() + WAIT_S
    while not come():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.02)
    return True


def _door(node: StartedNode) -> psutil.Process:
    """The process that says it is the door."""
    said = re.search(r"kafka: started, process (\d+)", node.log_text)
    assert said, node.log_text
    return psutil.Process(int(said[1]))


def _brokers(endpoint: Endpoint) -> list[tuple[int, str, int]]:
    """Empty where there is no door."""
    try:
        with KafkaSocket(endpoint) as client:
            found = client.ask(METADATA, 12, topics=[])
    except OSError:
        return []
    return [(each["node_id"], each["host"], each["port"]) for each in found["brokers"]]


def test_a_node_opens_it_and_names_itself_as_a_broker(tmp_path: Path) -> None:
    arguments, endpoint = _arguments()
    with started(tmp_path, *arguments) as node:
        assert f", for Kafka's clients at {endpoint} (" in node.ready()[0]
        assert _brokers(endpoint) == [(1, *endpoint)]
        with KafkaSocket(endpoint) as client:
            listed = {each["api_key"]: each for each in client.ask(API_VERSIONS, 3)["api_keys"]}
            assert (listed[PRODUCE]["min_version"], listed[FETCH]["max_version"]) == (0, 18)
        assert node.end() == 0
        assert "served: ApiVersions 1, Metadata 1" in node.log_text


def test_killing_it_breaks_connections_and_nothing_else(tmp_path: Path) -> None:
    arguments, endpoint = _arguments()
    with started(tmp_path, *arguments) as node:
        node.ready()
        assert _until(lambda: _brokers(endpoint))
        with Admin(str(node.endpoint)) as admin:
            admin.create_topics([NewTopic(name="orders")])
        with KafkaSocket(endpoint) as client, Producer(bootstrap_servers=str(node.endpoint)) as producer:
            assert producer.send("orders", b"before").result(WAIT_S).offset == 0
            door = _door(node)
            others = {each.pid for each in node.descendants()} - {door.pid}
            door.kill()
            assert client.is_ended()
            assert producer.send("orders", b"while it is away").result(WAIT_S).offset == 1
            assert _until(lambda: _brokers(endpoint) == [(1, *endpoint)])
            assert others <= {each.pid for each in node.descendants()}
        assert "a process of Kafka's door ended (-9); starting again in 0.1 s" in node.log_text
        assert node.end() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_it_ends_with_its_node(tmp_path: Path, number: int) -> None:
    arguments, endpoint = _arguments()
    with started(tmp_path, *arguments, "--kafka-processes", "2") as node:
        node.ready()
        assert _until(lambda: node.log_text.count("kafka: started") == 2)
        processes = node.descendants()
        with KafkaSocket(endpoint) as client:
            assert client.ask(METADATA, 12, topics=[])["brokers"]
            node.end(number)
            assert client.is_ended()
        assert all_gone(processes)


def test_a_port_that_was_asked_for_and_is_taken_ends_the_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        arguments, endpoint = _arguments(other.getsockname()[1])
        with started(tmp_path, *arguments) as node:
            assert f"cannot listen on {endpoint}: Address already in use" in node.fails()


def test_a_default_port_that_is_taken_closes_it(tmp_path: Path) -> None:
    node_id = 20_000 + os.getpid() % 2_000  # the default port follows from it
    taken = socket.create_server(("127.0.0.1", 9091 + node_id))
    arguments = [
        "--id",
        str(node_id),
        "--data",
        "data",
        "--listen",
        f"127.0.0.1:{free_port()}",
        "--http-listen",
        "none",
    ]
    with taken, started(tmp_path, *arguments, default_doors=True) as node:
        assert "Kafka" not in node.ready()[0]
        assert f"Kafka's door is closed: cannot listen on 127.0.0.1:{9091 + node_id}" in node.log_text
        assert "open it elsewhere with --kafka-listen HOST:PORT" in node.log_text


def test_none_has_none(tmp_path: Path) -> None:
    listen = ["--listen", f"127.0.0.1:{free_port()}"]
    with started(tmp_path, "--id", "1", "--data", "data", *listen, "--kafka-listen", "none") as node:
        assert "Kafka" not in node.ready()[0]
        assert "Kafka" not in node.log_text


def test_a_stranger_is_told_apart_and_nobody_else_notices(tmp_path: Path) -> None:
    arguments, endpoint = _arguments()
    with started(tmp_path, *arguments) as node:
        node.ready()
        with KafkaSocket(endpoint) as client:
            for said in (
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
                b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
                b"\x7f\xff\xff\xff\x00\x00\x00\x00",
            ):
                with KafkaSocket(endpoint) as stranger:
                    stranger.socket.sendall(said)
                    assert stranger.is_ended()
                assert client.ask(METADATA, 12, topics=[])["brokers"]
        assert _until(
            lambda: re.search(r"ended \d connections, the last one of 127.0.0.1:\d+ \(no name\): ", node.log_text)
        )


def test_there_are_no_more_connections_than_were_wanted(tmp_path: Path) -> None:
    arguments, endpoint = _arguments()
    with started(tmp_path, *arguments, "--kafka-connections", "2") as node:
        node.ready()
        with KafkaSocket(endpoint) as first, KafkaSocket(endpoint) as second:
            for client in (first, second):
                assert client.ask(METADATA, 12, topics=[])["brokers"]
            with KafkaSocket(endpoint) as third:
                assert third.is_ended()
            assert first.ask(METADATA, 12, topics=[])["brokers"]
        assert _until(lambda: "there are 2 connections, see --kafka-connections" in node.log_text)
        assert _until(lambda: _brokers(endpoint))


def test_one_address_has_no_more_connections_than_it_may(tmp_path: Path) -> None:
    arguments, endpoint = _arguments()
    with started(tmp_path, *arguments, "--kafka-connections-per-address", "1") as node:
        node.ready()
        with KafkaSocket(endpoint) as first:
            assert first.ask(METADATA, 12, topics=[])["brokers"]
            with KafkaSocket(endpoint) as second:
                assert second.is_ended()
            assert first.ask(METADATA, 12, topics=[])["brokers"]
            with KafkaSocket(endpoint, source="127.0.0.2") as other:
                assert other.ask(METADATA, 12, topics=[])["brokers"]
        assert _until(lambda: "127.0.0.1: it has 1 connections, see --kafka-connections-per-address" in node.log_text)
        assert _until(lambda: _brokers(endpoint))


def test_it_speaks_ipv6(tmp_path: Path) -> None:
    with LocalCluster(nodes=1, directory=tmp_path, host="::1", kafka=True) as cluster:
        (endpoint,) = cluster.kafka_endpoints.values()
        assert _brokers(endpoint) == [(1, "::1", endpoint.port)]


def test_every_door_names_every_broker_that_lives(tmp_path: Path) -> None:
    with LocalCluster(nodes=3, directory=tmp_path, kafka=True) as cluster:
        cluster.add()
        wanted = [(node_id, *endpoint) for node_id, endpoint in cluster.kafka_endpoints.items()]
        assert len(wanted) == 4
        for endpoint in cluster.kafka_endpoints.values():
            assert _until(lambda endpoint=endpoint: _brokers(endpoint) == wanted)
        cluster.kill(4)
        for endpoint in list(cluster.kafka_endpoints.values())[:3]:
            assert _until(lambda endpoint=endpoint: _brokers(endpoint) == wanted[:3])
