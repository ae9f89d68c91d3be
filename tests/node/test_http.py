"""The HTTP address of a real node: its health, what it answers under /api/, its process and its port."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from raftlog import Admin, Producer, TopicPartition
from raftlog.client import NewTopic
from raftlog.http.catalog import METRICS
from raftlog.node.local import LocalCluster
from raftlog.protocol.records import InitProducerIdRequest
from raftlog.record.batch import split
from raftlog.types import Endpoint
from tests.cli.command import run
from tests.kafka.tcp import FETCH, METADATA, KafkaSocket
from tests.node.asking import ask as ask_natively
from tests.node.asking import create_topic, metadata, until
from tests.node.started import StartedNode, all_gone, free_port, started
from tests.patience import WAIT_S

pytestmark = pytest.mark.cluster


def get(endpoint: Endpoint, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{endpoint}{path}", timeout=WAIT_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def ask(endpoint: Endpoint, path: str) -> tuple[int, Any]:
    code, body = get(endpoint, path)
    return code, json.loads(body)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Three nodes with HTTP addresses, a topic, a group, and a client that a quota has held back."""
    with LocalCluster(nodes=3, directory=tmp_path_factory.mktemp("watched"), http=True, kafka=True) as cluster:
        run(cluster, "topic", "create", "orders", "--partitions", "2")
        with Producer(cluster.bootstrap) as producer:
            for number in range(10):
                producer.send("orders", b"x", partition=number % 2).result(WAIT_S)
        run(cluster, "quota", "set", "--client-id", "held", "--producer-byte-rate", "1000")
        with Producer(cluster.bootstrap, client_id="held") as producer:
            until(lambda: producer.send("orders", os.urandom(2_000), partition=0).result(WAIT_S) and _is_held(cluster))
        run(
            cluster,
            "group",
            "reset-offsets",
            "billing",
            "--topic",
            "orders",
            "--to-offset",
            "2",
            "--create",
            "--execute",
        )
        yield cluster


def _is_held(cluster: LocalCluster) -> list[Any]:
    told = [ask(endpoint, "/api/throttled") for endpoint in cluster.http_endpoints.values()]
    assert [(code, body["node"]) for code, body in told] == [(200, 1), (200, 2), (200, 3)]
    return [client for _, body in told for client in body["throttled"]]


def _arguments() -> tuple[list[str], Endpoint]:
    port = free_port()
    listen = ["--id", "1", "--data", "data", "--listen", f"127.0.0.1:{free_port()}", "--kafka-listen", "none"]
    return [*listen, "--http-listen", f"127.0.0.1:{port}"], Endpoint("127.0.0.1", port)


def _process(node: StartedNode) -> psutil.Process:
    assert until(lambda: "http: started" in node.log_text)
    said = re.findall(r"http: started, process (\d+)", node.log_text)
    return psutil.Process(int(said[-1]))


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("/api/cluster", "cluster status"),
        ("/api/doctor", "doctor"),
        ("/api/topics", "topic list"),
        ("/api/topics/orders", "topic describe orders"),
        ("/api/groups", "group list"),
        ("/api/groups/billing", "group describe billing"),
    ],
)
def test_it_answers_what_the_command_line_prints(watched: LocalCluster, path: str, command: str) -> None:
    def same() -> bool:
        """Sizes and the like travel by gossip: they are the same once nothing goes on."""
        code, body = get(watched.http_endpoints[1], path)
        return code == 200 and body == run(watched, *command.split(), "--json").stdout.decode()

    assert until(same)


def test_a_client_that_a_quota_holds_back_shows_by_name(watched: LocalCluster) -> None:
    (client,) = _is_held(watched)
    assert (client["door"], client["user"], client["client"]) == ("native", "ANONYMOUS", "held")
    assert client["times"] >= 1 and client["seconds"] > 0
    scraped = "".join(get(endpoint, "/metrics")[1] for endpoint in watched.http_endpoints.values())
    assert 'raftlog_throttles_total{door="native",user="ANONYMOUS",client="held"} ' in scraped


def test_what_is_not_there_is_404_and_says_so(watched: LocalCluster) -> None:
    code, body = ask(watched.http_endpoints[2], "/api/topics/nope")
    assert (code, body["error"]) == (404, "UNKNOWN_TOPIC_OR_PARTITION")
    code, body = ask(watched.http_endpoints[2], "/api/groups/a%2Fb")
    assert (code, body) == (404, {"error": "GROUP_ID_NOT_FOUND", "text": "there is no group a/b"})
    assert get(watched.http_endpoints[2], "/nothing")[0] == 404


def test_a_node_is_live_and_ready(watched: LocalCluster) -> None:
    for node_id, endpoint in watched.http_endpoints.items():
        assert ask(endpoint, "/health/live") == (200, {"live": True, "node": node_id})
        assert until(lambda endpoint=endpoint: get(endpoint, "/health/ready")[0] == 200)  # type: ignore[misc]
        assert ask(endpoint, "/health/ready")[1] == {"ready": True, "node": node_id, "reasons": []}
        assert "/health/ready" in get(endpoint, "/")[1]


def test_a_node_without_a_majority_is_live_and_not_ready(fresh_cluster: Any) -> None:
    cluster: LocalCluster = fresh_cluster(nodes=3, http=True)
    endpoint = cluster.http_endpoints[1]
    assert until(lambda: get(endpoint, "/health/ready")[0] == 200)
    cluster.kill(2)
    cluster.kill(3)
    assert until(lambda: get(endpoint, "/health/ready")[0] == 503)
    reasons = ask(endpoint, "/health/ready")[1]["reasons"]
    assert any("hears no majority" in reason for reason in reasons)
    assert get(endpoint, "/health/live")[0] == 200
    cluster.start(2)
    assert until(lambda: get(endpoint, "/health/ready")[0] == 200)


def test_killing_its_process_hurts_nothing_else_and_it_comes_back(tmp_path: Path) -> None:
    arguments, endpoint = _arguments()
    with started(tmp_path, *arguments) as node:
        assert f", HTTP at {endpoint} (" in node.ready()[0]
        process = _process(node)
        others = {each.pid for each in node.descendants()} - {process.pid}
        process.kill()
        assert until(lambda: node.log_text.count("http: started") == 2)
        assert get(endpoint, "/health/live")[0] == 200
        assert others <= {each.pid for each in node.descendants()}
        assert "a process of the HTTP address ended (-9); starting again in 0.1 s" in node.log_text
        assert node.end() == 0


def test_a_node_that_hangs_is_not_live(tmp_path: Path) -> None:
    arguments, endpoint = _arguments()
    with started(tmp_path, *arguments) as node:
        node.ready()
        assert get(endpoint, "/health/live")[0] == 200
        # The command's own process is the supervisor.
        node.process.send_signal(signal.SIGSTOP)
        code, body = ask(endpoint, "/health/live")
        assert (code, body["error"]) == (503, "REQUEST_TIMED_OUT")
        node.process.send_signal(signal.SIGCONT)
        assert until(lambda: get(endpoint, "/health/live")[0] == 200)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_it_ends_with_its_node(tmp_path: Path, number: int) -> None:
    arguments, _ = _arguments()
    with started(tmp_path, *arguments) as node:
        node.ready()
        _process(node)
        processes = node.descendants()
        node.end(number)
        assert all_gone(processes)


def test_a_default_port_that_is_taken_closes_it(tmp_path: Path) -> None:
    node_id = 20_000 + os.getpid() % 2_000  # the default port follows from it
    port = 8070 + node_id
    listen = ["--id", str(node_id), "--data", "data", "--listen", f"127.0.0.1:{free_port()}", "--kafka-listen", "none"]
    with socket.create_server(("127.0.0.1", port)), started(tmp_path, *listen, default_doors=True) as node:
        assert "HTTP" not in node.ready()[0]
        assert f"the HTTP address is closed: cannot listen on 127.0.0.1:{port}" in node.log_text
        assert "open it elsewhere with --http-listen HOST:PORT" in node.log_text


def test_a_port_that_was_asked_for_and_is_taken_ends_the_start(tmp_path: Path) -> None:
    arguments, endpoint = _arguments()
    with socket.create_server((endpoint.host, endpoint.port)), started(tmp_path, *arguments) as node:
        assert f"cannot listen on {endpoint}: Address already in use" in node.fails()


# --- metrics -----------------------------------------------------------------------------------
def scrape(endpoint: Endpoint) -> dict[tuple[str, ...], float]:
    """By name and the values of labels."""
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(get(endpoint, "/metrics")[1])
        for sample in family.samples
    }


def _leader_id(cluster: LocalCluster, topic: str) -> int:
    """0: not known yet."""
    told = metadata(cluster.endpoints[1], [topic])
    return max(told.topics[0].partitions[0].leader_id, 0) if told else 0


def test_bytes_fetched_through_kafkas_door_are_those_that_were_sent(watched: LocalCluster) -> None:
    """A client that reads on is told of more than it takes: what it has not taken is not counted."""
    create_topic(watched.endpoints[1], "half-read", 1, 1)
    leader = until(lambda: _leader_id(watched, "half-read"))
    with Producer(watched.bootstrap, batch_bytes=10_000) as producer:
        sent = [producer.send("half-read", os.urandom(5_000), partition=0) for _ in range(60)]
        for future in sent:
            future.result(WAIT_S)
    offset = taken_bytes = 0
    with KafkaSocket(watched.kafka_endpoints[leader]) as client:
        for _ in range(4):
            wanted = {"partition": 0, "fetch_offset": offset, "partition_max_bytes": 1, "current_leader_epoch": -1}
            topics = [{"topic": "half-read", "partitions": [wanted]}]
            sizes = {"max_wait": 0, "min_bytes": 1, "max_bytes": 1}
            told = client.ask(FETCH, 11, replica_id=-1, session_id=0, session_epoch=-1, topics=topics, **sizes)
            records = bytes(told["responses"][0]["partitions"][0]["records"])
            taken_bytes += len(records)
            offset = list(split(records))[-1][1].next_offset
    assert 20_000 < taken_bytes < 100_000 and offset < 60
    counter = "raftlog_partition_fetched_bytes_total", "0", "half-read"
    assert until(lambda: scrape(watched.http_endpoints[leader])[counter] == taken_bytes)


def test_each_metric_of_the_catalog_comes_from_some_node(watched: LocalCluster) -> None:
    for endpoint in watched.kafka_endpoints.values():
        with KafkaSocket(endpoint) as client:
            client.ask(METADATA, 12, topics=[])
    ask_natively(watched.endpoints[1], InitProducerIdRequest())  # an error, to be counted: a supervisor has none

    def missing() -> set[str]:
        names = {name[0] for endpoint in watched.http_endpoints.values() for name in scrape(endpoint)}
        kinds = {"histogram": "_count", "counter": "_total", "gauge": ""}
        wanted = [metric for metric in METRICS if metric.name != "certificate_end_timestamp_seconds"]  # none here
        return {metric.name for metric in wanted if f"raftlog_{metric.name}{kinds[metric.kind]}" not in names}

    until(lambda: not missing(), instead=lambda: str(missing()))


def test_what_was_written_shows_within_seconds(watched: LocalCluster) -> None:
    with Producer(watched.bootstrap, linger_ms=0) as producer:
        for _ in range(20):
            last = producer.send("orders", b"y" * 100, partition=0).result(WAIT_S)

    def shows() -> bool:
        scraped = [scrape(endpoint) for endpoint in watched.http_endpoints.values()]
        leader = next(each for each in scraped if each["raftlog_partition_leader", "0", "orders"])
        return (
            leader["raftlog_partition_high_watermark", "0", "orders"] == last.offset + 1
            and leader["raftlog_partition_in_sync_replicas", "0", "orders"] == 3
            and leader["raftlog_produce_stage_seconds_count", "sync"] >= 20
            and leader["raftlog_partition_produced_bytes_total", "0", "orders"] > 2000
            and all(each["raftlog_sync_seconds_count",] >= 20 for each in scraped)
        )

    assert until(shows)


def test_lag_is_the_age_of_the_first_record_that_is_not_committed(watched: LocalCluster) -> None:
    now_s = time.time()
    place, ages_s = TopicPartition("lagging", 0), (500, 400, 300, 200)
    run(watched, "topic", "create", "lagging")
    with Producer(watched.bootstrap) as producer, Admin(watched.bootstrap) as admin:
        for age_s in ages_s:
            producer.send("lagging", b"x", timestamp_ms=round((now_s - age_s) * 1000)).result(WAIT_S)

        def lag() -> tuple[float | None, float | None]:
            found = {}
            for endpoint in watched.http_endpoints.values():
                found |= scrape(endpoint)
            name = "slow", "0", "lagging"
            return found.get(("raftlog_group_lag_records", *name)), found.get(("raftlog_group_lag_seconds", *name))

        def behind(records: int, age_s: float) -> bool:
            """Within 2 s of what the schedule says."""
            found, seconds = lag()
            passed_s = time.time() - now_s if records else 0.0
            return found == records and seconds is not None and abs(seconds - age_s - passed_s) < 2

        admin.set_group_offsets("slow", {place: 1})
        until(lambda: behind(3, ages_s[1]), instead=lambda: str(lag()))
        admin.delete_records({place: 2})  # what the group would read first is gone
        until(lambda: behind(2, ages_s[2]), instead=lambda: str(lag()))
        admin.set_group_offsets("slow", {place: 4})
        until(lambda: behind(0, 0), instead=lambda: str(lag()))
        admin.delete_group("slow")
        until(lambda: lag() == (None, None), instead=lambda: str(lag()))


def test_counters_go_on_when_a_worker_is_killed(tmp_path: Path) -> None:
    arguments, endpoint = _arguments()
    name = "raftlog_requests_total", "Produce", "native"
    with started(tmp_path, *arguments) as node:
        node.ready()
        with Producer(str(node.endpoint), linger_ms=0) as producer, Admin(str(node.endpoint)) as admin:
            admin.create_topics([NewTopic(name="orders")])
            for _ in range(10):
                producer.send("orders", b"x").result(WAIT_S)
            until(lambda: scrape(endpoint).get(name) == 10)
            # 0: the node has not heard of its worker's status yet.
            worker = until(lambda: next((status.worker_pid for status in admin.describe_replicas(["orders"])), 0))
            psutil.Process(worker).kill()
            producer.send("orders", b"x").result(WAIT_S)
            assert scrape(endpoint)[name] >= 10
            until(lambda: scrape(endpoint).get(name, 0) >= 11)
            until(lambda: scrape(endpoint).get(("raftlog_partition_elections_total", "0", "orders")) == 2)
