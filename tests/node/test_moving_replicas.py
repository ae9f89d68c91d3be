"""Replicas of a real cluster move, under load and while nodes die: nothing is lost or doubled, directories follow."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import pytest

from raftlog.client import Admin, Consumer, Producer
from raftlog.errors import NoReassignmentInProgressError, RaftlogError
from raftlog.node.local import LocalCluster
from raftlog.protocol.topics import NewTopic
from raftlog.types import ReplicaStatus, Role, TopicPartition
from tests.node import asking
from tests.patience import WAIT_S

pytestmark = [pytest.mark.timeout(240), pytest.mark.cluster]
NODES = 5
LARGE = 20_000
THREE = ("swap", "off", "rate", "gone", "kill", "controller", "away")


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Nodes 1, 2 and 3 vote for the metadata, and have the topics of THREE, without witnesses.

    Each test leaves all nodes running, and has topics of its own.
    """
    with LocalCluster(nodes=3, directory=tmp_path_factory.mktemp("moving")) as cluster:
        with Admin(cluster.bootstrap) as admin:
            admin.create_topics([NewTopic(name=name, replicas=[(1, 2, 3)]) for name in THREE])
        for _ in range(NODES - 3):
            cluster.add()
        yield cluster


@pytest.fixture
def admin(five: LocalCluster) -> Iterator[Admin]:
    with Admin(five.bootstrap) as admin:
        yield admin


class Load:
    """Writes numbers with acks=all while it lasts, and holds afterwards what is there against what was acked.

    `size`: of each record. With LARGE ones a learner that may have a byte a second does not get there: its first
    message has not all of them.
    """

    def __init__(self, cluster: LocalCluster, topic: str, size: int = 10) -> None:
        self._cluster = cluster
        self._topic = topic
        self._size = size
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self.acked: list[int] = []
        self._sent = 0

    def _write(self) -> None:
        with Producer(self._cluster.bootstrap, linger_ms=1) as producer:
            while not self._ending.is_set():
                numbers = range(self._sent, self._sent + 20)
                self._sent = numbers.stop
                futures = [
                    producer.send(self._topic, (b"%d" % number).ljust(self._size), partition=0) for number in numbers
                ]
                for number, future in zip(numbers, futures, strict=True):
                    try:
                        future.result(WAIT_S)
                    except RaftlogError:
                        continue  # what became of it is not known: it may be there, once
                    self.acked.append(number)

    def __enter__(self) -> Load:
        self._thread.start()
        asking.until(lambda: len(self.acked) > 100)
        return self

    def goes_on(self) -> None:
        """Something that is sent from now on is acknowledged."""
        count = len(self.acked)
        asking.until(lambda: len(self.acked) > count + 40)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._ending.set()
        self._thread.join()
        if error is None:
            found = self.read()
            assert len(set(found)) == len(found), "nothing is doubled"
            assert sorted(found) == found, "nothing is out of order"
            assert set(self.acked) <= set(found), f"lost {sorted(set(self.acked) - set(found))[:10]}"

    def read(self) -> list[int]:
        place = TopicPartition(self._topic, 0)
        with Consumer(bootstrap_servers=self._cluster.bootstrap) as consumer:
            consumer.assign([place])
            consumer.seek(place, 0)
            found: list[int] = []

            def all_read() -> bool:
                for records in consumer.poll(200).values():
                    found.extend(int(record.value or b"") for record in records)
                return bool(found) and found[-1] >= max(self.acked)

            asking.until(all_read)
        return found


def make(admin: Admin, topic: str, *replicas: int) -> None:
    admin.create_topics([NewTopic(name=topic, replicas=[replicas])])


def move(admin: Admin, topic: str, *replicas: int, witnesses: Sequence[int] | None = (), rate: int = 0) -> None:
    place = TopicPartition(topic, 0)
    named = {} if witnesses is None else {place: witnesses}
    admin.alter_partition_reassignments({place: replicas}, witnesses=named, bytes_per_s=rate)


def cancel(admin: Admin, topic: str) -> None:
    admin.alter_partition_reassignments({TopicPartition(topic, 0): None})


def statuses(cluster: LocalCluster, topic: str) -> dict[int, ReplicaStatus]:
    endpoint = cluster.endpoints[min(cluster.pids)]
    return {status.node_id: status for status in asking.statuses(endpoint, topic)}


def leader(cluster: LocalCluster, topic: str) -> int:
    def find() -> int:
        return next((n for n, each in statuses(cluster, topic).items() if each.role == Role.LEADER and each.in_sync), 0)

    return asking.until(find)


def why_not(cluster: LocalCluster, topic: str) -> str:
    groups = [each.group for each in statuses(cluster, topic).values() if each.role == Role.LEADER]
    return next((group.why_not for group in groups if group is not None), "")


def hosts(cluster: LocalCluster, topic: str) -> list[int]:
    """The nodes that have a directory of it."""
    return [n for n in cluster.endpoints if Path(cluster.directory / str(n) / f"{topic}-0").exists()]


def settled(cluster: LocalCluster, admin: Admin, topic: str, *replicas: int, witnesses: tuple[int, ...] = ()) -> None:
    """No plan is left, the nodes have the partition, all of them in sync, and no other one has anything of it."""

    def there() -> bool:
        (found,) = [part for each in admin.describe_topics([topic]) for part in each.partitions]
        return (
            not admin.list_partition_reassignments([topic])
            and found.replicas == list(replicas)
            and found.in_sync == sorted(replicas)
            and found.witnesses == list(witnesses)
            and hosts(cluster, topic) == sorted((*replicas, *witnesses))
        )

    def shown() -> str:
        plans = admin.list_partition_reassignments([topic])
        return f"{hosts(cluster, topic)} {plans} {[each.group for each in statuses(cluster, topic).values()]}"

    asking.until(there, instead=shown)


# --- as asked for ------------------------------------------------------------------------------------
def test_one_of_three_replicas_moves_under_load(five: LocalCluster, admin: Admin) -> None:
    with Load(five, "swap") as load:
        move(admin, "swap", 1, 2, 4)
        settled(five, admin, "swap", 1, 2, 4)
        load.goes_on()


def test_a_partition_grows_to_three_replicas_and_shrinks_to_one_that_did_not_lead(
    five: LocalCluster, admin: Admin
) -> None:
    make(admin, "grows", 1)
    with Load(five, "grows") as load:
        move(admin, "grows", 1, 4, 5)
        settled(five, admin, "grows", 1, 4, 5)
        move(admin, "grows", 4)
        settled(five, admin, "grows", 4)
        load.goes_on()


def test_the_only_replica_moves_and_comes_back(five: LocalCluster, admin: Admin) -> None:
    make(admin, "alone", 5)
    with Load(five, "alone") as load:
        for node_id in (2, 5):
            move(admin, "alone", node_id)
            settled(five, admin, "alone", node_id)
        load.goes_on()


def test_a_witness_and_a_replica_change_places_in_steps(five: LocalCluster, admin: Admin) -> None:
    make(admin, "kinds", 1, 2)
    [status] = [each for each in statuses(five, "kinds").values() if each.role == Role.WITNESS]
    witness = status.node_id
    with Load(five, "kinds") as load:
        move(admin, "kinds", 1, witness, witnesses=(2,))
        settled(five, admin, "kinds", 1, witness, witnesses=(2,))
        load.goes_on()
    assert statuses(five, "kinds")[2].role == Role.WITNESS


# --- called off --------------------------------------------------------------------------------------
def test_a_plan_that_has_not_begun_is_called_off_and_its_node_keeps_nothing(five: LocalCluster, admin: Admin) -> None:
    with Load(five, "off", LARGE) as load:
        move(admin, "off", 1, 2, 5, rate=1)  # a byte a second: the learner never gets there
        asking.until(lambda: hosts(five, "off") == [1, 2, 3, 5] and why_not(five, "off"))
        cancel(admin, "off")
        settled(five, admin, "off", 1, 2, 3)
        with pytest.raises(NoReassignmentInProgressError):
            cancel(admin, "off")
        load.goes_on()


def test_the_rate_is_changed_while_replicas_move(five: LocalCluster, admin: Admin) -> None:
    with Load(five, "rate", LARGE):
        move(admin, "rate", 1, 2, 5, rate=1)
        asking.until(lambda: hosts(five, "rate") == [1, 2, 3, 5] and why_not(five, "rate"))
        move(admin, "rate", 1, 2, 5)
        settled(five, admin, "rate", 1, 2, 5)


def test_a_topic_that_is_deleted_while_it_moves_is_gone_everywhere(five: LocalCluster, admin: Admin) -> None:
    with Load(five, "gone", LARGE):
        pass
    move(admin, "gone", 1, 2, 5, rate=1)
    asking.until(lambda: 5 in hosts(five, "gone"))
    admin.delete_topics(["gone"])
    asking.until(lambda: hosts(five, "gone") == [])
    assert admin.list_partition_reassignments() == []
    make(admin, "gone", 5)
    with Load(five, "gone"):
        pass


# --- while nodes die ---------------------------------------------------------------------------------
def test_the_next_leader_goes_on_and_then_the_target_that_was_killed(five: LocalCluster, admin: Admin) -> None:
    with Load(five, "kill", LARGE) as load:
        move(admin, "kill", 2, 3, 4, rate=1)
        asking.until(lambda: 4 in hosts(five, "kill") and why_not(five, "kill"))
        led = leader(five, "kill")
        five.kill(led)
        asking.until(lambda: leader(five, "kill") != led and why_not(five, "kill"))
        five.kill(4)
        five.start(led)
        move(admin, "kill", 2, 3, 4)
        load.goes_on()
        assert admin.list_partition_reassignments(["kill"])
        five.start(4)
        settled(five, admin, "kill", 2, 3, 4)
        load.goes_on()


def test_the_next_controller_writes_what_the_leader_reports(five: LocalCluster, admin: Admin) -> None:
    with Load(five, "controller") as load:
        controller = admin.describe_cluster().controller_id
        other = next(n for n in (1, 2, 3) if n != controller)
        move(admin, "controller", other, 4, 5)
        five.kill(controller)
        asking.until(lambda: not admin.list_partition_reassignments(["controller"]))
        five.start(controller)
        settled(five, admin, "controller", other, 4, 5)
        load.goes_on()


def test_a_node_that_was_away_while_its_replica_moved_removes_it_and_founds_nothing(
    five: LocalCluster, admin: Admin
) -> None:
    with Load(five, "away") as load:
        five.kill(3)
        move(admin, "away", 4, 5, 1)
        asking.until(lambda: not admin.list_partition_reassignments(["away"]))
        five.start(3)
        settled(five, admin, "away", 4, 5, 1)
        load.goes_on()
