"""MirrorMaker 2 from Apache Kafka into raftlog: topics, settings, records, and the offsets of groups."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from kafka_clients.bench import Bench, equal, holds, same, wait
from kafka_clients.program import FailedError
from kafka_clients.samples import Sample, samples
from kafka_clients.tools import jars

from . import broker
from .process import Process, java, properties
from .stage import Stage, plain

_PARTITIONS = 3
_REMOVED = 6  # records at the beginning of partition 0, so that offsets differ on both sides
_DONE, _MIDWAY = "billing", "reports"  # groups
_AT = 100  # where the second one is in each partition, in Kafka's offsets
_SETTINGS = {"retention.ms": "86400000", "max.message.bytes": "524288"}
_OWN_TO_KAFKA = {"compression.type": "lz4", "flush.messages": "100"}
# What raftlog refuses, and MirrorMaker's own list.
_EXCLUDED = (
    "compression.type,file.delete.delay.ms,flush.*,index.*,local.*,max.compaction.lag.ms,"
    "message.timestamp.before.max.ms,message.timestamp.type,min.cleanable.dirty.ratio,min.compaction.lag.ms,"
    "min.insync.replicas,preallocate,remote.*,segment.index.bytes,segment.jitter.ms,unclean.leader.election.enable,"
    ".*.replication.throttled.replicas"
)


def version() -> str:
    (program,) = jars("maven-connect").glob("connect-mirror-[0-9]*.jar")
    return f"MirrorMaker {program.stem.rpartition('-')[2]} from {broker.version()}"


def run(stage: Stage) -> Iterator[str]:
    with broker.broker(stage.directory) as bootstrap, stage.another(bootstrap) as kafka:
        yield from _run(stage, kafka, bootstrap)


def _run(stage: Stage, kafka: Bench, bootstrap: str) -> Iterator[str]:
    topic = kafka.topic("orders", _PARTITIONS, _SETTINGS | _OWN_TO_KAFKA)
    records = samples(partitions=_PARTITIONS)
    records += plain([f"order {place}" for place in range(600)], partitions=_PARTITIONS, first=len(records))
    kafka.scribe.ask("produce", topic=topic, records=records, codec="zstd")
    kafka.scribe.ask("delete-records", topic=topic, before={"0": _REMOVED})
    ends = {str(partition): len(records) // _PARTITIONS for partition in range(_PARTITIONS)}
    _read_all(kafka, topic, _DONE, len(records) - _REMOVED)
    kafka.scribe.ask("alter-group-offsets", group=_MIDWAY, topic=topic, offsets=dict.fromkeys(ends, _AT))
    copies = _copies(records)
    with _mirror(stage, bootstrap) as mirror:
        mirror.wait(lambda: _count(stage, topic) == len(copies), lambda: f"{_count(stage, topic)} of {len(copies)}")
        same(copies, stage.records(topic, _PARTITIONS))
        yield f"{len(copies)} records in {_PARTITIONS} partitions: keys, values, headers, times"
        found = stage.configs(topic)
        equal("settings", {name: found[name] for name in _SETTINGS}, _SETTINGS)
        yield "the topic's settings, but those that only Kafka has"
        translated = {place: end - _REMOVED if place == "0" else end for place, end in ends.items()}
        mirror.wait(lambda: _offsets(stage, topic, _DONE) == translated, lambda: f"{_offsets(stage, topic, _DONE)}")
        mirror.wait(lambda: len(_offsets(stage, topic, _MIDWAY)) == _PARTITIONS, f"no offsets of {_MIDWAY}")
        midway = _offsets(stage, topic, _MIDWAY)
        bounds = {place: _AT - _REMOVED if place == "0" else _AT for place in midway}
        holds("a group goes on at or before its place", all(midway[p] <= bounds[p] for p in midway), midway)
        yield f"offsets of two groups, one at the end: {translated}, one midway: {midway}"
        mirror.stop()
    more = plain([f"later {place}" for place in range(90)], partitions=_PARTITIONS, first=len(records))
    kafka.scribe.ask("produce", topic=topic, records=more)
    with _mirror(stage, bootstrap) as mirror:
        copies = _copies(records + more)
        mirror.wait(lambda: _count(stage, topic) >= len(copies), lambda: f"{_count(stage, topic)} of {len(copies)}")
        same(copies, stage.records(topic, _PARTITIONS))
        yield f"stopped, {len(more)} records written, started: each record once"
        kafka.scribe.ask("alter-configs", topic=topic, configs={"retention.ms": "3600000"})
        kafka.scribe.ask("create-partitions", topic=topic, total=_PARTITIONS + 1)
        mirror.wait(lambda: stage.configs(topic)["retention.ms"] == "3600000", "a changed setting is not there")
        mirror.wait(lambda: len(_partitions(stage, topic)) == _PARTITIONS + 1, "a new partition is not there")
        yield "a setting that changed in Kafka, and a partition that was added there"
        mirror.stop()
    same(_copies(more), _read_all(stage.bench, topic, _DONE, len(more)))
    yield f"a consumer of the group at the end goes on in raftlog: {len(more)} records, none left out or read twice"


def _mirror(stage: Stage, bootstrap: str) -> Process:
    settings = {
        "clusters": "kafka,raftlog",
        "kafka.bootstrap.servers": bootstrap,
        "raftlog.bootstrap.servers": stage.bootstrap,
        "kafka->raftlog.enabled": "true",
        "kafka->raftlog.sync.group.offsets.enabled": "true",
        "kafka->raftlog.config.properties.exclude": _EXCLUDED,
        "replication.policy.class": "org.apache.kafka.connect.mirror.IdentityReplicationPolicy",
        "sync.group.offsets.interval.seconds": 2,
        "emit.checkpoints.interval.seconds": 2,
        "refresh.topics.interval.seconds": 5,
        "refresh.groups.interval.seconds": 5,
        "sync.topic.configs.interval.seconds": 5,
        "replication.factor": 3,
        "offset-syncs.topic.replication.factor": 1,  # that one is in Kafka, which has one server here
        "kafka.offset.storage.replication.factor": 1,
        "kafka.config.storage.replication.factor": 1,
        "kafka.status.storage.replication.factor": 1,
        "raftlog.offset.storage.partitions": 2,
        "raftlog.status.storage.partitions": 2,
    }
    path = properties(stage.directory / "mirror.properties", settings)
    main = "org.apache.kafka.connect.mirror.MirrorMaker"
    return Process(java(f"{jars('maven-connect')}/*", main, path), stage.directory / "mirror.log")


def _copies(records: list[Sample]) -> list[Sample]:
    """In raftlog, where partition 0 begins with what was not removed."""
    kept = [each for each in records if each["partition"] or each["offset"] >= _REMOVED]
    return [each if each["partition"] else each | {"offset": each["offset"] - _REMOVED} for each in kept]


def _read_all(bench: Bench, topic: str, group: str, count: int) -> list[Sample]:
    """As a member of the group, from where it is; then it commits and leaves."""
    bench.scribe.ask("join", topic=topic, group=group)
    state: dict[str, Any] = {}

    def read() -> bool:
        state.update(bench.scribe.ask("state"))
        return len(state["records"]) >= count

    wait(read, lambda: f"{group} has read {len(state['records'])} of {count} records; {state['failure']}")
    bench.scribe.ask("commit")
    bench.scribe.ask("leave")
    found: list[Sample] = state["records"]
    return found


def _count(stage: Stage, topic: str) -> int:
    with contextlib.suppress(FailedError):  # it is not there yet, or has no leaders
        if topic in stage.bench.scribe.ask("list-topics")["topics"]:
            return sum(stage.ends(topic, _PARTITIONS).values())
    return 0


def _partitions(stage: Stage, topic: str) -> dict[str, Any]:
    found: dict[str, Any] = stage.bench.scribe.ask("metadata", topic=topic)["partitions"]
    return found


def _offsets(stage: Stage, topic: str, group: str) -> dict[str, int]:
    found: dict[str, int] = stage.bench.scribe.ask("group-offsets", group=group, topic=topic)["offsets"]
    return found
