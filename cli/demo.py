"""`raftlog demo`: kill the leader in the middle of a stream, read everything back, and judge every record."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from raftlog.errors import ConfigError, RaftlogError
from raftlog.types import Flush

from .demo_blow import Blow
from .demo_clients import DemoClient, NativeClient, kafka_client
from .demo_input import SourceFile, find_files, records
from .demo_judge import PARTITIONS, AckGaps, Judge, Verdict
from .ending import ended_by_signals
from .options import excludes, json_option
from .output import print_json, print_table
from .own_cluster import own_cluster, temporary_directory
from .stages import Stages

if TYPE_CHECKING:
    from raftlog.node.local import LocalCluster

NODES = 3
TOPIC = "demo"
_STALLED_S = 30.0  # reading what is known to be there never takes longer to go on
_PROGRESS_EVERY_RECORDS = 1_000


@click.command()
@click.option("--file", "path", metavar="PATH", help="Send the lines of this file.  [default: Python's own sources]")
@click.option("--data", metavar="DIR", help="Keep the nodes' data here.  [default: a directory that is removed]")
@click.option("--groups", is_flag=True, help="Show consumer groups instead: members are killed, paused and added.")
@click.option("--kafka", is_flag=True, help="Work through the nodes' door for Kafka's clients, with one of those.")
@click.option(
    "--secure", is_flag=True, help="All of it encrypted, and with certificates: nodes, clients, Kafka's door."
)
@json_option
@excludes("--groups", ("--file",), "its records are its own")
@excludes("--groups", ("--kafka",), "its members are raftlog's own")
def demo(path: str | None, data: str | None, groups: bool, kafka: bool, secure: bool, as_json: bool) -> None:
    """Kill a leader in the middle of a stream and show that nothing is lost.

    Three nodes are started on free ports of this machine, with one topic of 3 partitions, 3 replicas
    and acks=all. Every line is sent with an id of its own. When half of them are acknowledged, the
    node that leads partition 0 is killed (SIGKILL) with requests under way; later it is started
    again. In the end every partition is read from offset 0, and every id is looked for.

    The exit code is 0 only if nothing that was acknowledged is lost or out of order, no offset is
    missing, no send failed, and the killed node did lead. failover_ms is the longest time without an
    acknowledgement on a partition that the killed node led.

    With --groups, 100 thousand records flow through 6 partitions to a group of three members and to
    one of a single member. One of the three is killed, one paused for longer than its session, and
    one added. The exit code is 0 only if both groups were handed every record and no partition was
    handed out by two members of a group at a time. What a member had not committed when it died is
    handed out again: rereads.

    With --kafka the records are written and read by one of Kafka's clients: confluent-kafka where it
    is installed, else kafka-python.

    \b
    Examples:
        raftlog demo
        raftlog demo --groups
        raftlog demo --kafka
        raftlog demo --secure
        raftlog demo --file /var/log/syslog --data ./demo-data
        raftlog demo --json
    """
    if kafka:
        kafka_client("")  # not after the nodes have started
    with contextlib.ExitStack() as stack:
        stack.enter_context(ended_by_signals())
        files = [] if groups else find_files(path)
        directory = _given(data) if data else stack.enter_context(temporary_directory("demo-"))
        stages = stack.enter_context(Stages())
        if groups:
            from .demo_groups import run_groups_demo

            run_groups_demo(directory, stages, as_json, secure=secure)
            return
        stages.say(f"starting {NODES} nodes")
        cluster = stack.enter_context(own_cluster(NODES, directory, Flush.ALWAYS, kafka=kafka, secure=secure))
        client = kafka_client(cluster.kafka_bootstrap, cluster.security) if kafka else NativeClient(cluster.bootstrap)
        run = _Run(cluster, client, files, stages)
        run.produce()
        run.consume()
    run.report(as_json)


def _given(data: str) -> Path:
    directory = Path(data)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ConfigError(f"{data} is not an empty directory; remove it, or name another with --data")
    directory.mkdir(parents=True, exist_ok=True)
    return directory.resolve()


class _Run:
    def __init__(self, cluster: LocalCluster, client: DemoClient, files: list[SourceFile], stages: Stages) -> None:
        self._cluster = cluster
        self._client = client
        self._files = files
        self._stages = stages
        self._judge = Judge([(each.name, each.lines) for each in files])
        self._gaps = AckGaps()
        self._lock = threading.Lock()
        self._failed_sends = 0
        self._first_failure = ""
        self._blow = Blow(cluster, TOPIC, self._judge, self._gaps, stages)
        self._produce_s = 0.0
        self._consume_s = 0.0

    # --- producing ---------------------------------------------------------------------------
    def produce(self) -> None:
        records_total = self._judge.records
        # Not all is sent before the kill, or a small input would be acknowledged as a whole by then.
        hold_at = records_total * 3 // 4
        self._create_topic()
        start_s = time.monotonic()
        self._stages.begin("producing", records_total)
        with self._client.produce(TOPIC) as producer, self._blow:
            for index, (key, value) in enumerate(records(self._files)):
                if index == hold_at:
                    self._blow.wait_until_aimed()
                partition = self._judge.partition_of(index)
                self._judge.sent(index, value)
                producer.send(partition, key, value, functools.partial(self._done, index, partition))
                if index % _PROGRESS_EVERY_RECORDS == 0:
                    self._stages.advance(self._judge.acked)
                if self._failed_sends:
                    break  # the demo has failed; what comes after proves nothing
            producer.flush()
            self._stages.finish()
            self._produce_s = time.monotonic() - start_s
            self._blow.finish()

    def _create_topic(self) -> None:
        from raftlog import Admin
        from raftlog.protocol.topics import NewTopic

        with Admin(bootstrap_servers=self._cluster.bootstrap) as admin:
            admin.create_topics([NewTopic(name=TOPIC, partitions=PARTITIONS, replication_factor=NODES)])

    def _done(self, index: int, partition: int, error: BaseException | None, offset: int) -> None:
        """Called by the client's thread, or by ours when the record was acknowledged before we looked."""
        with self._lock:
            if error is None:
                self._gaps.acknowledged(partition, time.monotonic())
                self._judge.acknowledged(index, offset)
                return
            self._failed_sends += 1
            self._blow.stop()
            self._first_failure = self._first_failure or str(error) or type(error).__name__

    # --- reading back ------------------------------------------------------------------------
    def consume(self) -> None:
        start_s = progress_s = time.monotonic()
        with self._client.read(TOPIC, PARTITIONS) as reader:
            ends = reader.ends
            left = {partition: end for partition, end in ends.items() if end}
            self._stages.begin("reading back", sum(ends.values()))
            while left:
                found = reader.poll()
                for record in found:
                    self._judge.read(*record)
                    if record.offset + 1 >= ends[record.partition]:
                        left.pop(record.partition, None)
                self._stages.advance(self._judge.consumed)
                if found:
                    progress_s = time.monotonic()
                elif time.monotonic() - progress_s > _STALLED_S:
                    break  # the judge counts what is missing
        self._consume_s = time.monotonic() - start_s
        for partition, end in ends.items():
            self._judge.end(partition, end)

    # --- the judgement -----------------------------------------------------------------------
    def report(self, as_json: bool) -> None:
        verdict = self._judge.verdict()
        failover_ms = self._gaps.failover_ms(self._blow.led)
        figures: dict[str, int | str | None] = {
            "records": verdict.records,
            "acked": verdict.acked,
            "consumed": verdict.consumed,
            "lost": verdict.lost,
            "duplicated": verdict.duplicated,
            "out_of_order": verdict.out_of_order,
            "produce_records_per_s": _rate(verdict.acked, self._produce_s),
            "consume_records_per_s": _rate(verdict.consumed, self._consume_s),
            "failover_ms": failover_ms,
            "flush": str(Flush.ALWAYS),
        }
        if as_json:
            print_json(figures)
        else:
            print_table(("figure", "value"), [(name.replace("_", " "), value) for name, value in figures.items()])
        failures = self._failures(verdict, failover_ms)
        if failures:
            raise RaftlogError(f"the demo failed: {'; '.join(failures)}")
        if not as_json:
            click.echo(
                f"node {self._blow.victim}, which led partition 0, was killed in the middle and started again: "
                f"nothing that was acknowledged is lost, doubled or out of order"
            )

    def _failures(self, verdict: Verdict, failover_ms: int | None) -> list[str]:
        failures = verdict.failures()
        if self._failed_sends:
            failures.append(f"{self._failed_sends:,} sends failed, the first with: {self._first_failure}")
        if verdict.acked + self._failed_sends < verdict.records:
            failures.append(f"{verdict.records - verdict.acked - self._failed_sends:,} sends were never answered")
        failures += self._blow.failures
        if failover_ms is None and not self._blow.failures:
            failures.append("nothing was acknowledged on the partitions that the killed node led after it was killed")
        return failures


def _rate(count: int, seconds: float) -> int:
    return round(count / seconds) if seconds > 0 else 0
