"""confluent-kafka (librdkafka), driven by one JSON request a line."""

from __future__ import annotations

from typing import Any

import confluent_kafka as ck
from confluent_kafka import admin as ca
from serving import WAIT_S, PollingMember, librdkafka, record, serve, unpacked, unpacked_headers, until

_MOVED = (ck.KafkaError.NOT_LEADER_FOR_PARTITION, ck.KafkaError.LEADER_NOT_AVAILABLE)
ASSIGNORS = {"eager": "range", "cooperative": "cooperative-sticky"}


class Confluent:
    def __init__(self) -> None:
        self._servers: dict[str, Any] = {}
        self._member: PollingMember | None = None

    def hello(self, bootstrap: str, security: dict[str, str] | None = None) -> dict[str, Any]:
        self._servers = librdkafka(bootstrap, security)
        self._admin = ca.AdminClient(self._servers)
        return {
            "client": f"confluent-kafka {ck.__version__}, librdkafka {ck.libversion()[0]}",
            "codecs": ["none", "gzip", "snappy", "lz4", "zstd"],
            "assignors": [*ASSIGNORS, "static"],
        }

    # --- records -------------------------------------------------------------------------------
    def metadata(self, topic: str) -> dict[str, Any]:
        told = self._admin.list_topics(topic, timeout=WAIT_S)
        found = told.topics[topic]
        if found.error:
            raise ck.KafkaException(found.error)
        return {
            "brokers": {str(b.id): f"{b.host}:{b.port}" for b in told.brokers.values()},
            "partitions": {str(p.id): {"leader": p.leader, "replicas": p.replicas} for p in found.partitions.values()},
        }

    def produce(
        self,
        topic: str,
        records: list[dict[str, Any]],
        codec: str | None = None,
        acks: str | None = None,
        idempotent: bool | None = None,
    ) -> dict[str, Any]:
        settings: dict[str, Any] = {**self._servers, "linger.ms": 50}
        settings |= {} if codec is None else {"compression.type": codec}
        settings |= {} if acks is None else {"acks": acks}
        settings |= {} if idempotent is None else {"enable.idempotence": idempotent}
        producer = ck.Producer(settings)
        offsets: list[int | None] = [None] * len(records)
        errors: list[str] = []

        def delivered(place: int, error: Any, message: Any) -> None:
            if error:
                errors.append(str(error))
            else:
                offsets[place] = message.offset()

        for place, each in enumerate(records):
            producer.produce(
                topic,
                value=unpacked(each["value"]),
                key=unpacked(each["key"]),
                headers=unpacked_headers(each["headers"]),
                timestamp=each["timestamp"],
                partition=each["partition"],
                on_delivery=lambda error, message, place=place: delivered(place, error, message),
            )
        left = producer.flush(WAIT_S)
        if errors or left:
            raise RuntimeError(f"{left} records were not delivered; {errors[:1]}")
        return {"offsets": None if acks == "0" else offsets}

    def consume(self, topic: str, partitions: list[int], start: dict[str, int], count: int) -> dict[str, Any]:
        consumer = ck.Consumer(self._consuming("unused", **{"enable.auto.commit": False}))
        places = [ck.TopicPartition(topic, p, start.get("offset", start.get("time", 0))) for p in partitions]
        if "time" in start:
            places = consumer.offsets_for_times(places, timeout=WAIT_S)
        consumer.assign(places)
        found: list[dict[str, Any]] = []
        until(lambda: len(found) >= count, lambda: found.extend(_read(consumer)))
        consumer.close()
        return {"records": found}

    # --- groups --------------------------------------------------------------------------------
    def join(self, topic: str, group: str, assignor: str = "eager", instance: str | None = None) -> None:
        more: dict[str, Any] = {"partition.assignment.strategy": ASSIGNORS[assignor], "enable.auto.commit": False}
        more |= {"group.instance.id": instance} if instance else {}
        self._consumer = ck.Consumer(self._consuming(group, **more))
        member = PollingMember(lambda: _read(self._consumer))
        self._consumer.subscribe(
            [topic],
            on_assign=lambda _, places: member.gained(p.partition for p in places),
            on_revoke=lambda _, places: member.lost(p.partition for p in places),
        )
        member.start()
        self._member = member

    def state(self) -> dict[str, Any]:
        assert self._member
        return self._member.state()

    def commit(self) -> None:
        assert self._member
        self._member.between_polls(lambda: self._consumer.commit(asynchronous=False))

    def leave(self) -> None:
        assert self._member
        self._member.end(self._consumer.close)

    def _consuming(self, group: str, **more: Any) -> dict[str, Any]:
        return {
            **self._servers,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "heartbeat.interval.ms": 500,
            "session.timeout.ms": 10_000,
            **more,
        }

    # --- administration ------------------------------------------------------------------------
    def create_topic(
        self, topic: str, total: int, replicas: int, configs: dict[str, str] | None = None, validate: bool = False
    ) -> None:
        new = ca.NewTopic(topic, total, replicas, config=configs or {})
        _each(self._admin.create_topics([new], validate_only=validate))

    def list_topics(self) -> dict[str, Any]:
        return {"topics": list(self._admin.list_topics(timeout=WAIT_S).topics)}

    def describe_topic(self, topic: str) -> dict[str, Any]:
        (told,) = _each(self._admin.describe_topics(ck.TopicCollection([topic])))
        return {
            "partitions": {
                str(p.id): {
                    "leader": p.leader.id if p.leader else -1,
                    "replicas": [r.id for r in p.replicas],
                    "isr": [r.id for r in p.isr],
                }
                for p in told.partitions
            }
        }

    def describe_configs(self, topic: str) -> dict[str, Any]:
        (told,) = _each(self._admin.describe_configs([ca.ConfigResource(ca.ResourceType.TOPIC, topic)]))
        return {"configs": {name: entry.value for name, entry in told.items()}}

    def alter_configs(self, topic: str, configs: dict[str, str]) -> None:
        entries = [
            ca.ConfigEntry(name, value, incremental_operation=ca.AlterConfigOpType.SET)
            for name, value in configs.items()
        ]
        resource = ca.ConfigResource(ca.ResourceType.TOPIC, topic, incremental_configs=entries)
        _each(self._admin.incremental_alter_configs([resource]))

    def replace_configs(self, topic: str, configs: dict[str, str]) -> None:
        _each(self._admin.alter_configs([ca.ConfigResource(ca.ResourceType.TOPIC, topic, set_config=configs)]))

    def create_partitions(self, topic: str, total: int) -> None:
        _each(self._admin.create_partitions([ca.NewPartitions(topic, total)]))

    def delete_records(self, topic: str, before: dict[str, int]) -> dict[str, Any]:
        places = [ck.TopicPartition(topic, int(p), offset) for p, offset in before.items()]
        done = self._admin.delete_records(places)
        return {"low": {str(p.partition): f.result(WAIT_S).low_watermark for p, f in done.items()}}

    def list_offsets(self, topic: str, partitions: list[int], at: str | int) -> dict[str, Any]:
        specs: dict[Any, Any] = {
            "earliest": ca.OffsetSpec.earliest,
            "latest": ca.OffsetSpec.latest,
            "max": ca.OffsetSpec.max_timestamp,
        }
        spec = specs[at]() if at in specs else ca.OffsetSpec.for_timestamp(at)
        asked = {ck.TopicPartition(topic, p): spec for p in partitions}
        found: dict[int, Any] = {}
        until(lambda: bool(found), lambda: found.update(self._listed(topic, asked)))
        return {
            "offsets": {str(p): each.offset for p, each in found.items()},
            "timestamps": {str(p): each.timestamp for p, each in found.items()},
        }

    def _listed(self, topic: str, asked: dict[Any, Any]) -> dict[int, Any]:
        """{} where a leader has just moved: librdkafka asks the one that it knows, and its user has to ask again."""
        told = self._admin.list_offsets(asked)
        try:
            return {p.partition: f.result(WAIT_S) for p, f in told.items()}
        except ck.KafkaException as error:
            if error.args[0].code() not in _MOVED:
                raise
            self._admin.list_topics(topic, timeout=WAIT_S)  # who leads now
            return {}

    def list_groups(self) -> dict[str, Any]:
        told = self._admin.list_consumer_groups().result(WAIT_S)
        if told.errors:
            raise told.errors[0]
        return {"groups": [g.group_id for g in told.valid]}

    def describe_group(self, group: str) -> dict[str, Any]:
        (told,) = _each(self._admin.describe_consumer_groups([group]))
        return {
            "state": told.state.name,
            "members": [
                {
                    "instance": m.group_instance_id,
                    "partitions": [p.partition for p in m.assignment.topic_partitions] if m.assignment else [],
                }
                for m in told.members
            ],
        }

    def group_offsets(self, group: str, topic: str) -> dict[str, Any]:
        (told,) = _each(self._admin.list_consumer_group_offsets([ck.ConsumerGroupTopicPartitions(group)]))
        return {"offsets": {str(p.partition): p.offset for p in told.topic_partitions if p.topic == topic}}

    def alter_group_offsets(self, group: str, topic: str, offsets: dict[str, int]) -> None:
        places = [ck.TopicPartition(topic, int(p), offset) for p, offset in offsets.items()]
        _each(self._admin.alter_consumer_group_offsets([ck.ConsumerGroupTopicPartitions(group, places)]))

    def delete_group(self, group: str) -> None:
        _each(self._admin.delete_consumer_groups([group]))

    def delete_topic(self, topic: str) -> None:
        _each(self._admin.delete_topics([topic]))

    def describe_cluster(self) -> dict[str, Any]:
        told = self._admin.describe_cluster().result(WAIT_S)
        return {
            "brokers": {str(n.id): f"{n.host}:{n.port}" for n in told.nodes},
            "controller": told.controller.id,
            "cluster": told.cluster_id,
        }

    def elect_leaders(self, topic: str, partition: int) -> None:
        done = self._admin.elect_leaders(ck.ElectionType.PREFERRED, [ck.TopicPartition(topic, partition)])
        for error in done.result(WAIT_S).values():
            if error and error.code() != ck.KafkaError.ELECTION_NOT_NEEDED:
                raise ck.KafkaException(error)


def _each(futures: dict[Any, Any]) -> list[Any]:
    return [future.result(WAIT_S) for future in futures.values()]


def _read(consumer: ck.Consumer) -> list[dict[str, Any]]:
    found = []
    for message in consumer.consume(100, 0.2):
        if message.error():
            raise ck.KafkaException(message.error())
        found.append(
            record(
                message.partition(),
                message.offset(),
                message.key(),
                message.value(),
                message.headers(),
                message.timestamp()[1],
            )
        )
    return found


if __name__ == "__main__":
    serve(Confluent())
