"""`raftlog demo --groups`: one group of three members and one of a single member read 100 thousand records.

While these flow, a member of the first is killed (SIGKILL), another paused (SIGSTOP) until it is replaced and then
woken, and one added. Members are processes; what each handed out, and when, is judged in demo_groups_judge.py.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from raftlog.errors import RaftlogError
from raftlog.types import Flush, TopicPartition

from .demo_groups_judge import judge
from .group_member import HandOut, Plan, value_of
from .output import print_json, print_table
from .own_cluster import own_cluster
from .stages import Stages

if TYPE_CHECKING:
    from raftlog import Admin
    from raftlog.node.local import LocalCluster

NODES = 3
TOPIC = "demo-groups"
PARTITIONS = 6
RECORDS = 100_000
FIRST, SECOND = "shared", "alone"
SESSION_TIMEOUT_MS = 3_000
_FLOW_S = 20.0  # how long the records flow at the least
_HELD = 0.85  # of them; the rest flows once the added member has its share
_BURST = 200  # records between two looks at the clock
_LOOK_S = 0.1
_CHANGE_S = 25.0  # longest wait for a member to be replaced, or to have its share
_STALLED_S = 30.0  # nothing new for this long: what is missing is missed


class Member:
    """A member's process, and what it has handed out so far."""

    def __init__(self, name: str, group_id: str, bootstrap: str, directory: Path) -> None:
        self.name = name
        self.group_id = group_id
        self.fate = ""
        self.hand_outs: list[HandOut] = []
        self._errors = directory / f"{name}.log"
        with open(self._errors, "wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "raftlog_cli.group_member"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        plan = Plan(
            bootstrap=bootstrap,
            topic=TOPIC,
            partitions=PARTITIONS,
            group_id=group_id,
            name=name,
            session_timeout_ms=SESSION_TIMEOUT_MS,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(plan) + b"\n")
        self._process.stdin.flush()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with contextlib.suppress(msgspec.DecodeError):  # the last line of one that was killed
                self.hand_outs.append(msgspec.json.decode(line, type=HandOut))

    def signal(self, number: int, fate: str) -> None:
        self._process.send_signal(number)
        self.fate = fate

    @property
    def failure(self) -> str:
        """Why it ended although nobody killed it; empty while it runs."""
        if self._process.poll() is None or self._process.returncode == -signal.SIGKILL:
            return ""
        last = self._errors.read_text(errors="replace").strip().splitlines()[-1:]
        return f"{self.name} ended by itself: {''.join(last) or self._process.returncode}"

    @property
    def handed(self) -> int:
        return sum(each.end - each.start for each in list(self.hand_outs))

    @property
    def partitions(self) -> list[int]:
        return sorted({each.partition for each in list(self.hand_outs)})

    def leave(self) -> None:
        """Ends it cleanly, or at once when that takes too long; all that it said is read."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_CHANGE_S)
        self.kill()
        self._reader.join()
        self._process.stdout.close()

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


class Flow(threading.Thread):
    """Sends all records, evenly over _FLOW_S, and remembers what became of them."""

    def __init__(self, bootstrap: str) -> None:
        super().__init__(name="raftlog-demo-flow", daemon=True)
        self.acked = 0
        self.failures: list[str] = []
        self.rest = threading.Event()  # set: the last part may follow
        self._bootstrap_servers = bootstrap
        self._stopping = threading.Event()

    def run(self) -> None:
        from raftlog import Producer

        try:
            with Producer(bootstrap_servers=self._bootstrap_servers, acks="all") as producer:
                start_s = time.monotonic()
                for number in range(RECORDS):
                    offset, partition = divmod(number, PARTITIONS)
                    value = value_of(partition, offset, PARTITIONS)
                    producer.send(TOPIC, value, partition=partition).add_done_callback(self._done)
                    if number == RECORDS * _HELD:
                        self.rest.wait()
                    due_s = start_s + _FLOW_S * number / RECORDS
                    if number % _BURST == 0 and self._stopping.wait(due_s - time.monotonic()):
                        return
                producer.flush()
        except RaftlogError as error:
            self.failures.append(f"the records could not be sent: {error}")

    def _done(self, future: object) -> None:
        error = future.exception()  # type: ignore[attr-defined]
        if error is None:
            self.acked += 1
        elif not self.failures:
            self.failures.append(f"a record could not be sent: {error}")

    def stop(self) -> None:
        self._stopping.set()
        self.rest.set()
        if self.is_alive():
            self.join()


def run_groups_demo(directory: Path, stages: Stages, as_json: bool, *, secure: bool) -> None:
    """Raises RaftlogError when the demo fails."""
    stages.say(f"starting {NODES} nodes")
    with own_cluster(NODES, directory, Flush.ALWAYS, secure=secure) as cluster:
        run = _Run(cluster, directory, stages)
        with run:
            run.read_all()
        run.report(as_json)


class _Run:
    def __init__(self, cluster: LocalCluster, directory: Path, stages: Stages) -> None:
        from raftlog import Admin

        self._bootstrap = cluster.bootstrap
        self._directory = directory
        self._stages = stages
        self._admin: Admin = Admin(bootstrap_servers=cluster.bootstrap)
        self._members: list[Member] = []
        self._flow = Flow(cluster.bootstrap)
        self._failures: list[str] = []
        self._rebalances = 0

    def __enter__(self) -> None:
        from raftlog.protocol.topics import NewTopic

        self._admin.create_topics([NewTopic(name=TOPIC, partitions=PARTITIONS, replication_factor=NODES)])

    def __exit__(self, *_: object) -> None:
        self._flow.stop()
        for member in self._members:
            member.kill()
        self._admin.close()

    def _add(self, name: str, group_id: str = FIRST) -> Member:
        member = Member(name, group_id, self._bootstrap, self._directory)
        self._members.append(member)
        return member

    # --- the story ---------------------------------------------------------------------------
    def read_all(self) -> None:
        killed, paused, steady = (self._add(f"member-{number}") for number in (1, 2, 3))
        alone = self._add("loner", SECOND)
        self._wait("the members did not get their shares", lambda: self._shares() == {2})
        self._stages.begin("reading", RECORDS)
        self._flow.start()
        self._wait_for_flow(0.15, killed, paused, steady, alone)
        killed.signal(signal.SIGKILL, "killed")
        self._stages.say(f"killed {killed.name} (SIGKILL) at {self._flow.acked:,} records")
        self._wait(f"{killed.name} was not replaced", lambda: self._is_without(killed))
        self._wait_for_flow(0.4, paused)
        paused.signal(signal.SIGSTOP, "paused")
        self._stages.say(f"paused {paused.name} (SIGSTOP) at {self._flow.acked:,} records")
        self._wait(f"{paused.name} was not replaced", lambda: self._is_without(paused))
        self._wait_for_reading(steady)  # it has all six partitions now
        paused.signal(signal.SIGCONT, "paused, replaced, woken")
        self._stages.say(f"woke {paused.name} (SIGCONT) at {self._flow.acked:,} records")
        self._wait_for_reading(paused)
        self._wait_for_flow(0.7, paused)
        added = self._add("member-4")
        added.fate = "added"
        self._stages.say(f"added {added.name} at {self._flow.acked:,} records")
        self._wait("the added member got no share", lambda: self._shares() == {2})
        self._flow.rest.set()
        self._flow.join()
        self._failures += self._flow.failures
        self._wait_for_end()
        self._rebalances = self._admin.describe_group(FIRST).generation
        for member in self._members:
            member.leave()
        self._stages.finish()

    def _shares(self) -> set[int]:
        """How many partitions the members of the first group have; {} while it is at no rest."""
        with contextlib.suppress(RaftlogError):
            described = self._admin.describe_group(FIRST)
            if described.state == "Stable" and len(described.members) == 3:
                return {len(member.partitions) for member in described.members}
        return set()

    def _is_without(self, member: Member) -> bool:
        with contextlib.suppress(RaftlogError):
            described = self._admin.describe_group(FIRST)
            owned = [place for each in described.members for place in each.partitions]
            others = all(each.client_id != member.name for each in described.members)
            return others and described.state == "Stable" and len(set(owned)) == PARTITIONS
        return False

    def _wait(self, complaint: str, condition: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + _CHANGE_S
        while not condition():
            self._check()
            if time.monotonic() > deadline_s:
                raise RaftlogError(f"the demo failed: {complaint} within {_CHANGE_S:.0f} s")
            time.sleep(_LOOK_S)

    def _wait_for_reading(self, member: Member) -> None:
        before = member.handed
        self._wait(f"{member.name} was handed nothing", lambda: member.handed > before)

    def _wait_for_flow(self, share: float, *reading: Member) -> None:
        """Until so much of all is acknowledged. These members must be at work by then, or their fate proves nothing."""
        self._wait("the records did not flow", lambda: self._flow.acked >= share * RECORDS)
        for member in reading:
            self._wait(f"{member.name} was handed nothing", lambda member=member: member.handed > 0)  # type: ignore[misc]

    def _check(self) -> None:
        self._stages.advance(self._flow.acked)
        failures = [member.failure for member in self._members if member.failure]
        if failures:
            raise RaftlogError(f"the demo failed: {'; '.join(failures)}")

    def _wait_for_end(self) -> None:
        """Until both groups have committed all, or nothing new comes any more: the judge counts what is missing."""
        ends = {TopicPartition(TOPIC, number): _end(number) for number in range(PARTITIONS)}
        progress, progress_s = -1, time.monotonic()
        while time.monotonic() - progress_s < _STALLED_S:
            self._check()
            if all(self._admin.group_offsets(group_id) == ends for group_id in (FIRST, SECOND)):
                return
            handed = sum(member.handed for member in self._members)
            if handed != progress:
                progress, progress_s = handed, time.monotonic()
            time.sleep(_LOOK_S)

    # --- the judgement -----------------------------------------------------------------------
    def report(self, as_json: bool) -> None:
        by_group = {
            group_id: {member.name: member.hand_outs for member in self._members if member.group_id == group_id}
            for group_id in (FIRST, SECOND)
        }
        verdict = judge([_end(number) for number in range(PARTITIONS)], by_group[FIRST], by_group[SECOND])
        figures = verdict._asdict() | {"rebalances": self._rebalances}
        figures.pop("wrong")
        if as_json:
            print_json(figures)
        else:
            rows = [
                (each.name, each.group_id, ",".join(map(str, each.partitions)), each.handed, each.fate)
                for each in self._members
            ]
            print_table(("member", "group", "partitions", "records", "fate"), rows)
            print_table(("figure", "value"), [(name.replace("_", " "), value) for name, value in figures.items()])
        failures = self._failures + verdict.failures()
        if failures:
            raise RaftlogError(f"the demo failed: {'; '.join(failures)}")
        if not as_json:
            click.echo(
                "a member was killed, one paused and replaced, one added: no record was missed, and no partition had "
                "two owners at a time"
            )


def _end(partition: int) -> int:
    """How many records it is sent."""
    return (RECORDS - partition + PARTITIONS - 1) // PARTITIONS
