"""The blow of the demo: aim at the leader of partition 0, kill its node under load, start it again."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Self

from raftlog.errors import RaftlogError

from .demo_judge import AckGaps, Judge
from .stages import Stages

if TYPE_CHECKING:
    from raftlog import Admin
    from raftlog.node.local import LocalCluster

_LOOK_S = 0.0005  # how soon "half is acknowledged" and "a request is under way" are noticed
_LOOK_METADATA_S = 0.05
_LEADER_S = 30.0
_TAKE_OVER_S = 20.0  # longest wait for new leaders before the node is started again all the same


class Blow(threading.Thread):
    """A thread, since producing goes on meanwhile and may block on the very partition that was hit.

    Use it as a context manager: leaving it ends the thread. Afterwards `victim` is the node that was
    killed, `led` the partitions that it led, and `failures` why it proves nothing.
    """

    def __init__(self, cluster: LocalCluster, topic: str, judge: Judge, gaps: AckGaps, stages: Stages) -> None:
        super().__init__(name="raftlog-demo-blow", daemon=True)
        self.victim = -1
        self.led: list[int] = []
        self.failures: list[str] = []
        self._cluster = cluster
        self._topic = topic
        self._judge = judge
        self._gaps = gaps
        self._stages = stages
        self._aimed = threading.Event()
        self._answered = threading.Event()
        self._stopped = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.join()

    def stop(self) -> None:
        self._stopped.set()

    def wait_until_aimed(self) -> None:
        """Until half is acknowledged and the node to be killed is known: what is sent next is hit."""
        self._aimed.wait()

    def finish(self) -> None:
        """Everything sent has its outcome. Waits until the node runs again."""
        self._answered.set()
        self.join()

    def run(self) -> None:
        from raftlog import Admin

        try:
            with Admin(bootstrap_servers=self._cluster.bootstrap) as admin:
                self._strike(admin)
        except (RaftlogError, OSError) as error:
            self.failures.append(f"the leader could not be killed or started again: {error}")
        finally:
            self._aimed.set()

    def _strike(self, admin: Admin) -> None:
        half = self._judge.records // 2
        while self._judge.acked < half:
            if self._stopped.wait(_LOOK_S):
                return
        epochs = self._aim(admin)
        # It is stopped BEFORE more is sent: what comes next is not answered until it is killed, however late we look.
        self._cluster.pause(self.victim)
        self._aimed.set()
        while self._judge.sent_of[0] <= self._judge.acked_of[0]:
            if self._answered.is_set() or self._stopped.wait(_LOOK_S):
                self._cluster.resume(self.victim)
                if self._answered.is_set():
                    self.failures.append("no request was under way to partition 0 when its leader was to be killed")
                return
        acked = self._judge.acked
        self._gaps.killed_s = time.monotonic()
        self._cluster.kill(self.victim)
        self._stages.say(f"killed node {self.victim}, leader of {_partitions(self.led)}, at {acked:,} acknowledged")
        self._wait_for_new_leaders(admin, epochs)
        self._cluster.start(self.victim)
        self._stages.say(f"started node {self.victim} again")

    def _aim(self, admin: Admin) -> dict[int, int]:
        """Sets `victim` and `led`; returns the leader epoch of each partition that it leads."""
        deadline_s = time.monotonic() + _LEADER_S
        while time.monotonic() < deadline_s and not self._stopped.wait(_LOOK_METADATA_S):
            (topic,) = admin.describe_topics([self._topic])
            leaders = {each.partition: each.leader_id for each in topic.partitions}
            if leaders.get(0, -1) >= 0:
                self.victim = leaders[0]
                self.led = sorted(number for number, leader in leaders.items() if leader == self.victim)
                return {each.partition: each.leader_epoch for each in topic.partitions if each.partition in self.led}
        raise RaftlogError("partition 0 has no leader")

    def _wait_for_new_leaders(self, admin: Admin, epochs: dict[int, int]) -> None:
        """Until others lead what the victim led, and acknowledge. Else the victim did not lead at all."""
        deadline_s = time.monotonic() + _TAKE_OVER_S
        waiting = set(self.led)
        taken_s = 0.0
        while time.monotonic() < deadline_s and not self._stopped.wait(_LOOK_METADATA_S):
            if waiting:
                waiting -= self._taken_over(admin, epochs)
                taken_s = time.monotonic()
            elif self._judge.acked == self._judge.records or all(
                self._gaps.resumed(each, taken_s) for each in self.led
            ):
                return
        if waiting:
            self.failures.append(
                f"nobody took {_partitions(sorted(waiting))} over from node {self.victim} within {_TAKE_OVER_S:.0f} s"
            )

    def _taken_over(self, admin: Admin, epochs: dict[int, int]) -> set[int]:
        try:
            (topic,) = admin.describe_topics([self._topic])
        except RaftlogError:  # the node that was asked may be the one that was killed
            return set()
        return {
            each.partition
            for each in topic.partitions
            if each.leader_id not in (-1, self.victim) and each.leader_epoch > epochs.get(each.partition, -1)
        }


def _partitions(numbers: list[int]) -> str:
    return f"partition{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"
