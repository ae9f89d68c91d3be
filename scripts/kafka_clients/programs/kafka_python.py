"""kafka-python, driven by one JSON request a line."""

from __future__ import annotations

from typing import Any

import kafka
from kafka import TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, OffsetSpec
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.structs import OffsetAndMetadata
from serving import WAIT_S, Lacking, PollingMember, record, serve, unpacked, unpacked_headers, until

ASSIGNORS = {"eager": RangePartitionAssignor, "cooperative": CooperativeStickyAssignor}
ELECTION_NOT_NEEDED = 84  # it leads already
CODECS = {"none": None, "gzip": "gzip", "snappy": "snappy", "lz4": "lz4", "zstd": "zstd"}


class Share(kafka.ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, member: PollingMember) -> None:
        self._member = member

    def on_partitions_assigned(self, assigned: list[TopicPartition]) -> None:
        self._member.gained(place.partition for place in assigned)

    def on_partitions_revoked(self, revoked: list[TopicPartition]) -> None:
        self._member.lost(place.partition for place in revoked)


def _secured(security: dict[str, str] | None) -> dict[str, Any]:
    """Over TLS, as a user by SCRAM, or whom the certificate names. None: in the open."""
    if security is None:
        return {}
    settings: dict[str, Any] = {"ssl_cafile": security["ca"]}
    if "user" in security:
        settings |= {"security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512"}
        return settings | {"sasl_plain_username": security["user"], "sasl_plain_password": security["password"]}
    settings |= {"ssl_certfile": security["certificate"], "ssl_keyfile": security["key"]}
    return settings | {"security_protocol": "SSL"}


class KafkaPython:
    def hello(self, bootstrap: str, security: dict[str, str] | None = None) -> dict[str, Any]:
        self._servers = {"bootstrap_servers": bootstrap, **_secured(security)}
        self._admin = KafkaAdminClient(**self._servers)
        return {
            "client": f"kafka-python {kafka.__version__}",
            "codecs": list(CODECS),
            "assignors": [*ASSIGNORS, "static"],
            "record_lacks": ["null-headers"],
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
        settings |= {} if codec is None else {"compression_type": CODECS[codec]}
        settings |= {} if acks is None else {"acks": acks if acks == "all" else int(acks)}
        settings |= {} if idempotent is None else {"enable_idempotence": idempotent}
        producer = kafka.KafkaProducer(**self._servers, **settings)
        futures = [
            producer.send(
                topic,
                value=unpacked(each["value"]),
                key=unpacked(each["key"]),
                headers=unpacked_headers(each["headers"]),
                partition=each["partition"],
                timestamp_ms=each["timestamp"],
            )
            for each in records
        ]
        offsets = [future.get(WAIT_S).offset for future in futures]
        producer.close()
        return {"offsets": None if acks == "0" else offsets}

    def consume(self, topic: str, partitions: list[int], start: dict[str, int], count: int) -> dict[str, Any]:
        consumer = kafka.KafkaConsumer(**self._servers, group_id=None)
        places = [TopicPartition(topic, partition) for partition in partitions]
        consumer.assign(places)
        if "time" in start:
            starts = {
                p: at.offset for p, at in consumer.offsets_for_times(dict.fromkeys(places, start["time"])).items()
            }
        else:
            starts = dict.fromkeys(places, start["offset"])
        for place, offset in starts.items():
            consumer.seek(place, offset)
        found: list[dict[str, Any]] = []
        until(lambda: len(found) >= count, lambda: found.extend(_read(consumer)))
        consumer.close()
        return {"records": found}

    # --- groups --------------------------------------------------------------------------------
    def join(self, topic: str, group: str, assignor: str = "eager", instance: str | None = None) -> None:
        self._consumer = kafka.KafkaConsumer(
            **self._servers,
            group_id=group,
            group_instance_id=instance,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            partition_assignment_strategy=[ASSIGNORS[assignor]],
            heartbeat_interval_ms=500,
            session_timeout_ms=10_000,
        )
        self._member = PollingMember(lambda: _read(self._consumer))
        self._consumer.subscribe([topic], listener=Share(self._member))
        self._member.start()

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
        new = {"num_partitions": total, "replication_factor": replicas, "configs": configs or {}}
        self._admin.create_topics({topic: new}, validate_only=validate)

    def list_topics(self) -> dict[str, Any]:
        return {"topics": self._admin.list_topics()}

    def describe_topic(self, topic: str) -> dict[str, Any]:
        (told,) = self._admin.describe_topics([topic])
        return {
            "partitions": {
                str(p["partition_index"]): {
                    "leader": p["leader_id"],
                    "replicas": p["replica_nodes"],
                    "isr": p["isr_nodes"],
                }
                for p in told["partitions"]
            }
        }

    def describe_configs(self, topic: str) -> dict[str, Any]:
        told = self._admin.describe_configs([_topic(topic)], config_filter="all")
        return {"configs": {name: each["value"] for name, each in told["topic"][topic].items()}}

    def alter_configs(self, topic: str, configs: dict[str, str]) -> None:
        _refuse(self._admin.alter_configs([_topic(topic, configs)], raise_on_unknown=False)["topic"].values())

    def replace_configs(self, topic: str, configs: dict[str, str]) -> None:
        raise Lacking("its AlterConfigs sends the settings that it was not given as well, so that they stay")

    def create_partitions(self, topic: str, total: int) -> None:
        self._admin.create_partitions({topic: total})

    def delete_records(self, topic: str, before: dict[str, int]) -> dict[str, Any]:
        done = self._admin.delete_records({TopicPartition(topic, int(p)): offset for p, offset in before.items()})
        return {"low": {str(place.partition): told["low_watermark"] for place, told in done.items()}}

    def list_offsets(self, topic: str, partitions: list[int], at: str | int) -> dict[str, Any]:
        specs: dict[Any, Any] = {
            "earliest": OffsetSpec.EARLIEST,
            "latest": OffsetSpec.LATEST,
            "max": OffsetSpec.MAX_TIMESTAMP,
        }
        told = self._admin.list_partition_offsets({TopicPartition(topic, p): specs.get(at, at) for p in partitions})
        return {
            "offsets": {str(place.partition): each.offset for place, each in told.items()},
            "timestamps": {str(place.partition): each.timestamp for place, each in told.items()},
        }

    def list_groups(self) -> dict[str, Any]:
        return {"groups": [each["group_id"] for each in self._admin.list_groups()]}

    def describe_group(self, group: str) -> dict[str, Any]:
        told = self._admin.describe_groups([group])[group]
        return {
            "state": told["group_state"],
            "members": [
                {
                    "instance": member["group_instance_id"],
                    "partitions": [
                        partition
                        for topic in (member["member_assignment"] or {}).get("assigned_partitions", [])
                        for partition in topic["partitions"]
                    ],
                }
                for member in told["members"]
            ],
        }

    def group_offsets(self, group: str, topic: str) -> dict[str, Any]:
        told = self._admin.list_group_offsets({group: None})[group]
        return {"offsets": {str(p.partition): each.offset for p, each in told.items() if p.topic == topic}}

    def alter_group_offsets(self, group: str, topic: str, offsets: dict[str, int]) -> None:
        wanted = {TopicPartition(topic, int(p)): OffsetAndMetadata(offset, "", -1) for p, offset in offsets.items()}
        _refuse(self._admin.alter_group_offsets(group, wanted).values())

    def delete_group_offsets(self, group: str, topic: str, partitions: list[int]) -> None:
        places = [TopicPartition(topic, partition) for partition in partitions]
        _refuse(self._admin.delete_group_offsets(group, places).values())

    def delete_group(self, group: str) -> None:
        _refuse(self._admin.delete_groups([group]).values())

    def delete_topic(self, topic: str) -> None:
        self._admin.delete_topics([topic])

    def describe_cluster(self) -> dict[str, Any]:
        told = self._admin.describe_cluster()
        return {
            "brokers": {str(each["broker_id"]): f"{each['host']}:{each['port']}" for each in told["brokers"]},
            "controller": told["controller_id"],
            "cluster": told["cluster_id"],
        }

    def describe_log_dirs(self, topic: str) -> dict[str, Any]:
        return {
            "bytes": {
                str(partition["partition_index"]): partition["partition_size"]
                for broker in self._admin.describe_log_dirs([topic])
                for folder in broker["log_dirs"]
                for found in folder["topics"]
                if found["name"] == topic
                for partition in found["partitions"]
            }
        }

    def describe_producers(self, topic: str, partition: int) -> dict[str, Any]:
        place = TopicPartition(topic, partition)
        told = self._admin.describe_producers([place])[place]
        return {"producers": [each.producer_id for each in told.active_producers]}

    def elect_leaders(self, topic: str, partition: int) -> None:
        told = self._admin.elect_leaders(0, {topic: [partition]}, raise_errors=False)
        for result in told.replica_election_results:
            for each in result.partition_result:
                if each.error_code not in (0, ELECTION_NOT_NEEDED):
                    raise RuntimeError(f"error {each.error_code}: {each.error_message}")


def _topic(name: str, configs: dict[str, str] | None = None) -> ConfigResource:
    return ConfigResource(ConfigResourceType.TOPIC, name, configs)


def _refuse(errors: Any) -> None:
    for error in errors:
        if error not in ("OK", kafka.errors.NoError):
            raise RuntimeError(str(error))


def _read(consumer: kafka.KafkaConsumer) -> list[dict[str, Any]]:
    return [
        record(each.partition, each.offset, each.key, each.value, each.headers, each.timestamp)
        for batch in consumer.poll(200).values()
        for each in batch
    ]


if __name__ == "__main__":
    serve(KafkaPython())
