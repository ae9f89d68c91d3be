"""raftlog's own client, through raftlog's own door, driven by one JSON request a line: what it writes and reads is
compared with what Kafka's clients do through theirs."""

from __future__ import annotations

from typing import Any

from serving import WAIT_S, Lacking, PollingMember, record, serve, unpacked, unpacked_headers, until

import raftlog
from raftlog import Admin, Consumer, Producer, TopicPartition
from raftlog.client import NewTopic
from raftlog.errors import UnknownTopicOrPartitionError
from raftlog.types import EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, NEWEST_TIMESTAMP, CleanupPolicy

ASSIGNORS = {"eager": "range", "cooperative": "cooperative-sticky"}
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
POLL_MS = 200
OWN_NAMES = {"max.message.bytes": "max_record_bytes"}  # the others are Kafka's with underscores


class Raftlog:
    def hello(self, bootstrap: str) -> dict[str, Any]:
        self._bootstrap = bootstrap
        self._admin = Admin(bootstrap_servers=bootstrap)
        return {
            "client": f"raftlog {raftlog.__version__}, through its own door",
            "codecs": CODECS,
            "assignors": [*ASSIGNORS, "static"],
        }

    # --- records -------------------------------------------------------------------------------
    def metadata(self, topic: str) -> dict[str, Any]:
        return {"brokers": self.describe_cluster()["brokers"], "partitions": self.describe_topic(topic)["partitions"]}

    def produce(
        self,
        topic: str,
        records: list[dict[str, Any]],
        codec: str | None = None,
        acks: str | None = None,
        idempotent: bool | None = None,
    ) -> dict[str, Any]:
        settings: dict[str, Any] = {"linger_ms": 50}
        settings |= {} if codec is None else {"compression": codec}
        settings |= {} if acks is None else {"acks": acks if acks == "all" else int(acks)}
        settings |= {} if idempotent is None else {"enable_idempotence": idempotent}
        with Producer(bootstrap_servers=self._bootstrap, **settings) as producer:
            try:
                producer.partitions_for(topic)
            except UnknownTopicOrPartitionError:
                raise Lacking("its producer makes no topics") from None
            futures = [
                producer.send(
                    topic,
                    unpacked(each["value"]),
                    unpacked(each["key"]),
                    unpacked_headers(each["headers"]),
                    each["partition"],
                    each["timestamp"],
                )
                for each in records
            ]
            offsets = [future.result(WAIT_S).offset for future in futures]
        return {"offsets": None if acks == "0" else offsets}

    def consume(self, topic: str, partitions: list[int], start: dict[str, int], count: int) -> dict[str, Any]:
        places = [TopicPartition(topic, partition) for partition in partitions]
        starts: dict[TopicPartition, int] = dict.fromkeys(places, start.get("offset", 0))
        found: list[dict[str, Any]] = []
        with Consumer(bootstrap_servers=self._bootstrap) as consumer:
            consumer.assign(places)
            if "time" in start:
                told = consumer.offsets_for_times(dict.fromkeys(places, start["time"]))
                starts = {place: at.offset for place, at in told.items() if at is not None}
            for place, offset in starts.items():
                consumer.seek(place, offset)
            until(lambda: len(found) >= count, lambda: found.extend(_read(consumer)))
        return {"records": found}

    # --- groups --------------------------------------------------------------------------------
    def join(self, topic: str, group: str, assignor: str = "eager", instance: str | None = None) -> None:
        self._consumer = Consumer(
            bootstrap_servers=self._bootstrap,
            group_id=group,
            group_instance_id=instance,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            partition_assignment_strategy=[ASSIGNORS[assignor]],
            heartbeat_interval_ms=500,
            session_timeout_ms=10_000,
        )
        member = PollingMember(lambda: _read(self._consumer))
        self._consumer.subscribe(
            [topic],
            on_assigned=lambda places: member.gained(place.partition for place in places),
            on_revoked=lambda places: member.lost(place.partition for place in places),
        )
        member.start()
        self._member = member

    def state(self) -> dict[str, Any]:
        return self._member.state()

    def commit(self) -> None:
        self._member.between_polls(self._consumer.commit)

    def leave(self) -> None:
        self._member.end(self._consumer.close)

    # --- administration ------------------------------------------------------------------------
    def create_topic(
        self, topic: str, total: int, replicas: int, configs: dict[str, str] | None = None, validate: bool = False
    ) -> None:
        config = {_own(name): value for name, value in (configs or {}).items()}
        wanted = NewTopic(name=topic, partitions=total, replication_factor=replicas, config=config)
        self._admin.create_topics([wanted], validate_only=validate)

    def list_topics(self) -> dict[str, Any]:
        return {"topics": self._admin.list_topics()}

    def describe_topic(self, topic: str) -> dict[str, Any]:
        (told,) = self._admin.describe_topics([topic])
        return {
            "partitions": {
                str(each.partition): {"leader": each.leader_id, "replicas": each.replicas, "isr": each.in_sync}
                for each in told.partitions
            }
        }

    def describe_configs(self, topic: str) -> dict[str, Any]:
        (told,) = self._admin.describe_topics([topic])
        names = {own: name for name, own in OWN_NAMES.items()}
        config = told.config | {"cleanup_policy": str(CleanupPolicy(told.config["cleanup_policy"]).name).lower()}
        return {"configs": {names.get(own, own.replace("_", ".")): str(value) for own, value in config.items()}}

    def alter_configs(self, topic: str, configs: dict[str, str]) -> None:
        self._admin.alter_topic(topic, {_own(name): value for name, value in configs.items()})

    def replace_configs(self, topic: str, configs: dict[str, str]) -> None:
        raise Lacking("it changes what is named")

    def create_partitions(self, topic: str, total: int) -> None:
        self._admin.create_partitions(topic, total)

    def delete_records(self, topic: str, before: dict[str, int]) -> dict[str, Any]:
        told = self._admin.delete_records({TopicPartition(topic, int(p)): offset for p, offset in before.items()})
        return {"low": {str(place.partition): offset for place, offset in told.items()}}

    def list_offsets(self, topic: str, partitions: list[int], at: str | int) -> dict[str, Any]:
        asked = {"earliest": EARLIEST_TIMESTAMP, "latest": LATEST_TIMESTAMP, "max": NEWEST_TIMESTAMP}
        at_ms = at if isinstance(at, int) else asked[at]
        told = self._admin.list_offsets({TopicPartition(topic, partition): at_ms for partition in partitions})
        return {"offsets": {str(place.partition): offset for place, offset in told.items()}}

    def list_groups(self) -> dict[str, Any]:
        return {"groups": [each.group_id for each in self._admin.list_groups()]}

    def describe_group(self, group: str) -> dict[str, Any]:
        told = self._admin.describe_group(group)
        members = [
            {"instance": each.group_instance_id, "partitions": [place.partition for place in each.partitions]}
            for each in told.members
        ]
        return {"state": told.state, "members": members}

    def group_offsets(self, group: str, topic: str) -> dict[str, Any]:
        told = self._admin.group_offsets(group)
        return {"offsets": {str(place.partition): offset for place, offset in told.items() if place.topic == topic}}

    def alter_group_offsets(self, group: str, topic: str, offsets: dict[str, int]) -> None:
        self._admin.set_group_offsets(group, {TopicPartition(topic, int(p)): offset for p, offset in offsets.items()})

    def delete_group(self, group: str) -> None:
        self._admin.delete_group(group)

    def delete_topic(self, topic: str) -> None:
        self._admin.delete_topics([topic])

    def describe_cluster(self) -> dict[str, Any]:
        """Where Kafka's clients reach the nodes: what is compared is what one sees through their door."""
        told = self._admin.describe_cluster()
        return {
            "brokers": {str(node.node_id): str(node.kafka) for node in told.nodes if node.alive},
            "controller": told.controller_id,
            "cluster": told.cluster_id,
        }

    def describe_log_dirs(self, topic: str) -> dict[str, Any]:
        return {"bytes": {str(each.partition): each.size_bytes for each in self._admin.describe_replicas([topic])}}


def _own(name: str) -> str:
    return OWN_NAMES.get(name, name.replace(".", "_"))


def _read(consumer: Consumer) -> list[dict[str, Any]]:
    return [
        record(each.partition, each.offset, each.key, each.value, each.headers, each.timestamp_ms)
        for records in consumer.poll(POLL_MS).values()
        for each in records
    ]


if __name__ == "__main__":
    serve(Raftlog())
