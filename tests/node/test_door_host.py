"""Kafka's door as its supervisor sees it: its address, its processes, which are twins here, and what they are told."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator

import pytest

from raftlog.errors import ConfigError
from raftlog.limits import WORKER_BACKOFF_MAX_S, WORKER_BACKOFF_MIN_S, WORKER_STABLE_S, WORKER_STOP_S
from raftlog.node import channel as ch
from raftlog.node.door_host import DoorHost, kafka_door
from raftlog.node.log_lines import LogStyle
from raftlog.node.settings import parse_settings
from raftlog.protocol.cluster import MetadataResponse
from raftlog.security.policy import Access
from tests.node.started import free_port
from tests.node.twin import TwinChild

NEWS = ch.ClusterNews(cluster=MetadataResponse(cluster_id="c"), workers=[(b"t" * 16, 0, 7)])
LATER = ch.ClusterNews(cluster=MetadataResponse(cluster_id="c"), workers=[(b"t" * 16, 0, 8)])


class Bench:
    def __init__(self, processes: int = 1, **flags: str) -> None:
        self.port = free_port()
        self.children: list[TwinChild] = []
        self.configs: list[ch.DoorConfig] = []
        listen = {"id": "3", "listen": "127.0.0.1:7000", "kafka-listen": f"127.0.0.1:{self.port}"}
        settings = parse_settings({**listen, "kafka-processes": str(processes), **flags})
        self.host = DoorHost(kafka_door(settings, start=self._start))

    def _start(self, config: ch.DoorConfig, listener: socket.socket) -> TwinChild:
        assert listener.getsockname() == ("127.0.0.1", self.port)
        self.configs.append(config)
        self.children.append(TwinChild(100 + len(self.children), ch.ToDoor))
        return self.children[-1]

    def tick(self, now_s: float) -> None:
        self.host.tick(self.host.descriptors(), now_s)

    def heard(self, child: int = -1) -> list[object]:
        return self.children[child].end.receive()

    def close(self) -> None:
        self.host.stop(0.0)
        for child in self.children:
            child.end.close()
            child.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


def test_its_processes_are_told_how_they_were_wanted() -> None:
    bench = Bench(
        2,
        **{
            "kafka-connections": "7",
            "kafka-connections-per-address": "2",
            "auto-create-topics": "off",
            "data": "d",
            "superuser": "root",
        },
    )
    bench.tick(0.0)
    wanted = ch.DoorConfig(
        node_id=3,
        node=parse_settings({"id": "3", "listen": "127.0.0.1:7000"}).listen,
        data="d",
        connections_max=7,
        connections_per_address=2,
        auto_create_topics=False,
        max_reauth_ms=0,
        log_style=LogStyle("info", "text"),
        access=Access(superusers=("User:root",)),
    )
    assert bench.configs == [wanted, wanted]
    bench.close()


def test_news_that_cannot_wait_leave_at_once(bench: Bench) -> None:
    """Before other nodes are told: a client that they send here has to be known."""
    bench.tick(0.0)
    bench.host.tell(NEWS, 1.0)
    bench.host.hurry(1.0)
    assert bench.heard() == [NEWS]
    bench.host.hurry(1.0)
    bench.tick(9.0)
    assert bench.heard() == []
    bench.host.tell(LATER, 9.0)
    bench.host.hurry(9.0)
    assert bench.heard() == [LATER]


def test_news_reach_all_processes_and_those_that_start_later() -> None:
    bench = Bench(2)
    bench.tick(0.0)
    bench.host.tell(NEWS, 1.0)
    bench.tick(bench.host.next_due_s)
    assert bench.heard(0) == bench.heard(1) == [NEWS]
    bench.children[0].exit(-9)
    bench.tick(2.0)
    bench.tick(bench.host.next_due_s)
    assert len(bench.children) == 3
    assert bench.heard() == [NEWS] and bench.heard(1) == []
    bench.close()


def test_many_changes_within_10_ms_are_one_piece_of_news(bench: Bench) -> None:
    bench.tick(0.0)
    bench.host.tell(NEWS, 1.0)
    bench.tick(1.0)
    assert bench.heard() == [NEWS]
    bench.host.tell(LATER, 1.001)
    bench.host.tell(NEWS, 1.002)
    bench.host.tell(LATER, 1.003)
    bench.tick(1.009)
    assert bench.heard() == []
    assert bench.host.next_due_s == pytest.approx(1.01)
    bench.tick(1.01)
    assert bench.heard() == [LATER]
    bench.host.tell(LATER, 2.0)
    bench.tick(2.0)
    assert bench.heard() == []


def test_one_that_ends_again_and_again_is_started_ever_more_slowly(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    now_s, delay_s = 0.0, WORKER_BACKOFF_MIN_S
    bench.tick(now_s)
    for _ in range(10):
        bench.children[-1].exit(-9)
        bench.tick(now_s)
        assert bench.host.next_due_s == pytest.approx(now_s + delay_s)
        now_s = bench.host.next_due_s
        bench.tick(now_s - 0.001)
        assert bench.host.ended
        bench.tick(now_s)
        assert not bench.host.ended
        delay_s = min(2 * delay_s, WORKER_BACKOFF_MAX_S)
    assert "a process of Kafka's door ended (-9); starting again in 0.1 s" in caplog.text
    bench.children[-1].exit(1)
    bench.tick(now_s + WORKER_STABLE_S)
    assert bench.host.next_due_s == pytest.approx(now_s + WORKER_STABLE_S + WORKER_BACKOFF_MIN_S)


def test_one_whose_channel_breaks_is_killed(bench: Bench) -> None:
    bench.tick(0.0)
    bench.children[0].end.close()
    bench.tick(0.1)
    assert bench.children[0].killed


def test_it_stops_with_its_node_and_is_killed_where_it_does_not(bench: Bench) -> None:
    bench.tick(0.0)
    bench.host.stop(10.0)
    assert bench.heard() == [ch.Stop()]
    bench.tick(10.0 + WORKER_STOP_S - 0.1)
    assert not bench.children[0].killed
    bench.tick(10.0 + WORKER_STOP_S)
    assert bench.children[0].killed
    assert bench.host.next_due_s == float("inf"), "the poller waits until it has ended"
    bench.tick(20.0)
    assert bench.host.ended
    bench.tick(100.0)
    assert len(bench.children) == 1, "nothing starts again"


def test_what_is_impatient_is_killed_at_once(bench: Bench) -> None:
    bench.tick(0.0)
    bench.host.stop(10.0)
    bench.host.kill_all()
    bench.tick(10.0)
    assert bench.children[0].killed


def test_a_default_port_that_is_taken_closes_it(caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    settings = parse_settings({"id": "1"})._replace(kafka_listen=parse_settings({"id": "1"}).listen._replace(port=port))
    with socket.create_server(("127.0.0.1", port)), caplog.at_level(logging.WARNING):
        host = DoorHost(kafka_door(settings))
    assert host.endpoint is None and host.ended and host.next_due_s == float("inf")
    host.tell(NEWS, 0.0)
    host.tick([], 0.0)
    assert [record.message for record in caplog.records] == [
        f"Kafka's door is closed: cannot listen on 127.0.0.1:{port}: Address already in use; "
        "open it elsewhere with --kafka-listen HOST:PORT"
    ]


def test_an_address_that_was_asked_for_is_had_or_the_start_ends() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(ConfigError, match="Address already in use"):
        DoorHost(kafka_door(parse_settings({"id": "1", "kafka-listen": f"127.0.0.1:{other.getsockname()[1]}"})))
    with pytest.raises(ConfigError, match="is not an IPv4 or IPv6 address"):
        DoorHost(kafka_door(parse_settings({"id": "1", "kafka-listen": "no.such.host:21000"})))


@pytest.mark.parametrize(("listen", "connect"), [("[::1]", "::1"), ("[::]", "::1"), ("[::]", "127.0.0.1")])
def test_it_listens_on_ipv6(listen: str, connect: str) -> None:
    port = free_port()
    host = DoorHost(
        kafka_door(parse_settings({"id": "1", "kafka-listen": f"{listen}:{port}", "kafka-advertise": "[::1]"}))
    )
    assert str(host.endpoint) == f"[::1]:{port}"
    with socket.create_connection((connect, port), timeout=10):
        pass
    host.stop(0.0)
