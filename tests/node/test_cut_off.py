"""A node that is cut off from the other nodes, and not from clients, while a topic is deleted and made anew."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from raftlog import Admin, Consumer, NewTopic, Producer, TopicPartition
from raftlog.errors import NoBrokersAvailableError
from raftlog.node.local import LocalCluster
from raftlog.types import Endpoint
from tests.cli.command import run
from tests.node.started import free_port, started
from tests.patience import WAIT_S

pytestmark = pytest.mark.cluster

PLACE = TopicPartition("t", 0)
RECORDS = 600


class CutOff(NamedTuple):
    """`bootstrap`: all three nodes; `alone`: a cluster of which only the node that is cut off answers."""

    bootstrap: list[str]
    alone: LocalCluster


@pytest.fixture(scope="module")
def cut_off(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CutOff]:
    directory = tmp_path_factory.mktemp("cut-off")
    with LocalCluster(3, directory=directory) as cluster:
        others = [str(cluster.endpoints[node_id]) for node_id in (1, 2)]
        with Admin(cluster.bootstrap) as admin, Producer(cluster.bootstrap) as producer:
            _make(admin, 3)
            producer.send("t", b"old", partition=0).result(WAIT_S)
        cluster.kill(3)
        with Admin(others) as admin, Producer(others) as producer:
            admin.delete_topics(["t"])
            _make(admin, 2)
            for sent in [producer.send("t", b"%d" % number, partition=0) for number in range(RECORDS)]:
                sent.result(WAIT_S)
        with _start_cut_off(directory) as endpoint:
            alone = LocalCluster(1, directory=directory, endpoints={3: endpoint})
            yield CutOff([*others, str(endpoint)], alone)


def _make(admin: Admin, replicas: int) -> None:
    admin.create_topics([NewTopic(name="t", partitions=1, replication_factor=replicas)])


@contextlib.contextmanager
def _start_cut_off(directory: Path) -> Iterator[Endpoint]:
    """Node 3, told of ports for the others at which nobody listens."""
    endpoint = Endpoint("127.0.0.1", free_port())
    peers = f"1@127.0.0.1:{free_port()},2@127.0.0.1:{free_port()},3@{endpoint}"
    data = next(path for path in directory.rglob("meta.json") if json.loads(path.read_text())["node_id"] == 3).parent
    with started(directory, "--id", "3", "--peers", peers, "--data", str(data)):
        deadline_s = time.monotonic() + WAIT_S
        while time.monotonic() < deadline_s:
            with contextlib.suppress(NoBrokersAvailableError), Admin(str(endpoint), bootstrap_timeout_ms=1000):
                break
        yield endpoint


def test_a_consumer_reads_the_new_topic_once(cut_off: CutOff) -> None:
    for start in range(3):  # whichever node is asked first
        bootstrap = cut_off.bootstrap[start:] + cut_off.bootstrap[:start]
        with Consumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest") as consumer:
            consumer.assign([PLACE])
            times = _read(consumer, asking_s=2.0)
        assert times == dict.fromkeys(range(RECORDS), 1)


def test_a_group_reads_it_once_and_its_offset_never_goes_back(cut_off: CutOff) -> None:
    with Consumer(
        bootstrap_servers=cut_off.bootstrap, group_id="g", enable_auto_commit=False, auto_offset_reset="earliest"
    ) as consumer:
        consumer.subscribe(["t"])
        times = _read(consumer, asking_s=2.0, commits=True)
    assert times == dict.fromkeys(range(RECORDS), 1)
    for _ in range(30):
        with Admin(cut_off.bootstrap) as admin:
            assert admin.group_offsets("g") == {PLACE: RECORDS}
            assert [group.group_id for group in admin.list_groups()] == ["g"]


def _read(consumer: Consumer, *, asking_s: float, commits: bool = False) -> Counter[int]:
    """Until all is read, and `asking_s` longer, in which each node is asked for metadata."""
    times: Counter[int] = Counter()
    deadline_s = time.monotonic() + WAIT_S
    while time.monotonic() < deadline_s:
        for records in consumer.poll(100).values():
            times.update(record.offset for record in records)
            if commits:
                before = times and max(times) + 1
                consumer.commit()
                assert consumer.position(PLACE) == before
        if len(times) == RECORDS:
            deadline_s = min(deadline_s, time.monotonic() + asking_s)
            consumer._engine.refresher.want()
    return times


def test_a_producer_writes_to_the_new_topic_at_once(cut_off: CutOff) -> None:
    slowest_s = 0.0
    with Producer(cut_off.bootstrap) as producer:
        for _ in range(40):
            began_s = time.monotonic()
            producer._writer.engine.refresher.want()
            offset = producer.send("t", b"x", partition=0).result(WAIT_S).offset
            slowest_s = max(slowest_s, time.monotonic() - began_s)
            assert offset >= RECORDS
    assert slowest_s < 5


def test_the_node_that_is_cut_off_says_so(cut_off: CutOff) -> None:
    says = "node 3, which answers, hears no majority of the voters"
    with ThreadPoolExecutor() as threads:  # each waits for a node that is not cut off
        status, text, described, doctor = (
            threads.submit(run, cut_off.alone, *command.split(), code=code)
            for command, code in (
                ("cluster status --json", 0),
                ("cluster status", 0),
                ("topic describe --json", 0),
                ("doctor --json", 1),
            )
        )
    shown = json.loads(status.result().stdout)
    assert shown["confirmed"] is False and shown["healthy"] is False
    assert shown["problems"][0].startswith(says)
    assert says in text.result().stdout.decode()
    assert json.loads(described.result().stdout)["confirmed"] is False
    assert says in described.result().stderr.decode()
    checked = json.loads(doctor.result().stdout)
    assert checked["confirmed"] is False
    first = checked["problems"][0]
    assert (first["place"], first["what"]) == ("node 3", "it hears no majority of the voters")
    with Admin(cut_off.alone.bootstrap) as admin, pytest.raises(NoBrokersAvailableError, match="node 3 hears no"):
        admin.describe_topics(["made since"])
