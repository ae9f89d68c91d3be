"""aiokafka, driven by one JSON request a line."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

import aiokafka
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import for_code
from aiokafka.helpers import create_ssl_context
from serving import WAIT_S, Lacking, PollingMember, record, serve, unpacked, unpacked_headers

CODECS = {"none": None, "gzip": "gzip", "snappy": "snappy", "lz4": "lz4", "zstd": "zstd"}


class Share(aiokafka.ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, member: PollingMember) -> None:
        self._member = member

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._member.gained(place.partition for place in assigned)

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        self._member.lost(place.partition for place in revoked)


def _secured(security: dict[str, str] | None) -> dict[str, Any]:
    """Over TLS, as a user by SCRAM, or whom the certificate names. None: in the open."""
    if security is None:
        return {}
    shown = {} if "user" in security else {"certfile": security["certificate"], "keyfile": security["key"]}
    settings: dict[str, Any] = {"ssl_context": create_ssl_context(cafile=security["ca"], **shown)}
    if "user" in security:
        settings |= {"security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512"}
        return settings | {"sasl_plain_username": security["user"], "sasl_plain_password": security["password"]}
    return settings | {"security_protocol": "SSL"}


class AioKafka:
    """Its event loop runs in a thread of its own, so that a member is alive between requests."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._member: PollingMember
        self._consumer: aiokafka.AIOKafkaConsumer
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(2 * WAIT_S)

    def hello(self, bootstrap: str, security: dict[str, str] | None = None) -> dict[str, Any]:
        self._servers = {"bootstrap_servers": bootstrap, **_secured(security)}

        async def started() -> AIOKafkaAdminClient:
            admin = AIOKafkaAdminClient(**self._servers)
            await admin.start()
            return admin

        self._admin = self._wait(started())
        return {
            "client": f"aiokafka {aiokafka.__version__}",
            "codecs": list(CODECS),
            "assignors": ["eager", "static"],
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
        return {"offsets": self._wait(self._produce(topic, records, settings))}

    async def _produce(self, topic: str, records: list[dict[str, Any]], settings: dict[str, Any]) -> list[int] | None:
        async with aiokafka.AIOKafkaProducer(**self._servers, **settings) as producer:
            futures = [
                await producer.send(
                    topic,
                    value=unpacked(each["value"]),
                    key=unpacked(each["key"]),
                    headers=unpacked_headers(each["headers"]),
                    partition=each["partition"],
                    timestamp_ms=each["timestamp"],
                )
                for each in records
            ]
            told = await asyncio.gather(*futures)
        return None if settings.get("acks") == 0 else [each.offset for each in told]

    def consume(self, topic: str, partitions: list[int], start: dict[str, int], count: int) -> dict[str, Any]:
        return {"records": self._wait(self._consume(topic, partitions, start, count))}

    async def _consume(
        self, topic: str, partitions: list[int], start: dict[str, int], count: int
    ) -> list[dict[str, Any]]:
        places = [TopicPartition(topic, partition) for partition in partitions]
        async with aiokafka.AIOKafkaConsumer(**self._servers) as consumer:
            consumer.assign(places)
            starts = dict.fromkeys(places, start.get("offset", 0))
            if "time" in start:
                told = await consumer.offsets_for_times(dict.fromkeys(places, start["time"]))
                starts = {place: at.offset for place, at in told.items()}
            for place, offset in starts.items():
                consumer.seek(place, offset)
            found: list[dict[str, Any]] = []
            async with asyncio.timeout(WAIT_S):
                while len(found) < count:
                    found += await _read(consumer)
        return found

    # --- groups --------------------------------------------------------------------------------
    def join(self, topic: str, group: str, assignor: str = "eager", instance: str | None = None) -> None:
        assert assignor == "eager"

        async def joined() -> aiokafka.AIOKafkaConsumer:
            consumer = aiokafka.AIOKafkaConsumer(
                **self._servers,
                group_id=group,
                group_instance_id=instance,
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                partition_assignment_strategy=[RangePartitionAssignor],
                heartbeat_interval_ms=500,
                session_timeout_ms=10_000,
            )
            consumer.subscribe([topic], listener=Share(self._member))
            await consumer.start()
            return consumer

        self._member = PollingMember(lambda: self._wait(_read(self._consumer)))
        self._consumer = self._wait(joined())
        self._member.start()

    def state(self) -> dict[str, Any]:
        return self._member.state()

    def commit(self) -> None:
        self._member.between_polls(lambda: self._wait(self._consumer.commit()))

    def leave(self) -> None:
        self._member.end(lambda: self._wait(self._consumer.stop()))

    # --- administration ------------------------------------------------------------------------
    def create_topic(
        self, topic: str, total: int, replicas: int, configs: dict[str, str] | None = None, validate: bool = False
    ) -> None:
        new = NewTopic(topic, total, replicas, topic_configs=configs or {})
        told = self._wait(self._admin.create_topics([new], validate_only=validate))
        _refuse(each[1] for each in told.topic_errors)

    def list_topics(self) -> dict[str, Any]:
        return {"topics": self._wait(self._admin.list_topics())}

    def describe_topic(self, topic: str) -> dict[str, Any]:
        (told,) = self._wait(self._admin.describe_topics([topic]))
        return {
            "partitions": {
                str(p["partition"]): {"leader": p["leader"], "replicas": p["replicas"], "isr": p["isr"]}
                for p in told["partitions"]
            }
        }

    def describe_configs(self, topic: str) -> dict[str, Any]:
        (told,) = self._wait(self._admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)]))
        ((error, _, _, _, entries),) = told.resources
        _refuse([error])
        return {"configs": {entry[0]: entry[1] for entry in entries}}

    def replace_configs(self, topic: str, configs: dict[str, str]) -> None:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs)
        for told in self._wait(self._admin.alter_configs([resource])):
            _refuse(each[0] for each in told.resources)

    def create_partitions(self, topic: str, total: int) -> None:
        told = self._wait(self._admin.create_partitions({topic: NewPartitions(total)}))
        _refuse(each[1] for each in told.topic_errors)

    def delete_records(self, topic: str, before: dict[str, int]) -> dict[str, Any]:
        wanted = {TopicPartition(topic, int(p)): RecordsToDelete(offset) for p, offset in before.items()}
        told = self._wait(self._admin.delete_records(wanted))
        return {"low": {str(place.partition): low for place, low in told.items()}}

    def list_offsets(self, topic: str, partitions: list[int], at: str | int) -> dict[str, Any]:
        if at == "max":
            raise Lacking("it does not ask for the newest timestamp")
        return {"offsets": self._wait(self._list_offsets(topic, partitions, at))}

    async def _list_offsets(self, topic: str, partitions: list[int], at: str | int) -> dict[str, int]:
        """By its consumer: its admin client has no such call."""
        places = [TopicPartition(topic, partition) for partition in partitions]
        async with aiokafka.AIOKafkaConsumer(**self._servers) as consumer:
            if at == "earliest":
                found = await consumer.beginning_offsets(places)
            elif at == "latest":
                found = await consumer.end_offsets(places)
            else:
                told = await consumer.offsets_for_times(dict.fromkeys(places, at))
                found = {place: each.offset for place, each in told.items()}
        return {str(place.partition): offset for place, offset in found.items()}

    def list_groups(self) -> dict[str, Any]:
        return {"groups": [each[0] for each in self._wait(self._admin.list_consumer_groups())]}

    def describe_group(self, group: str) -> dict[str, Any]:
        (told,) = self._wait(self._admin.describe_consumer_groups([group]))
        ((error, _, state, _, _, members, *_),) = told.groups
        _refuse([error])
        return {"state": state, "members": [{"partitions": _assigned(member[-1])} for member in members]}

    def group_offsets(self, group: str, topic: str) -> dict[str, Any]:
        told = self._wait(self._admin.list_consumer_group_offsets(group))
        return {"offsets": {str(p.partition): each.offset for p, each in told.items() if p.topic == topic}}

    def delete_topic(self, topic: str) -> None:
        told = self._wait(self._admin.delete_topics([topic]))
        _refuse(each[1] for each in told.topic_error_codes)

    def describe_cluster(self) -> dict[str, Any]:
        told = self._wait(self._admin.describe_cluster())
        return {
            "brokers": {str(each["node_id"]): f"{each['host']}:{each['port']}" for each in told["brokers"]},
            "controller": told["controller_id"],
            "cluster": told["cluster_id"],
        }


def _refuse(codes: Any) -> None:
    """Its admin client hands out answers as they came; their error codes are the caller's to look at."""
    for code in codes:
        if code:
            raise for_code(code)


def _assigned(data: bytes) -> list[int]:
    told = aiokafka.coordinator.protocol.ConsumerProtocolMemberAssignment.decode(data)
    return [partition for _, partitions in told.assignment for partition in partitions]


async def _read(consumer: aiokafka.AIOKafkaConsumer) -> list[dict[str, Any]]:
    return [
        record(each.partition, each.offset, each.key, each.value, each.headers, each.timestamp)
        for batch in (await consumer.getmany(timeout_ms=200)).values()
        for each in batch
    ]


if __name__ == "__main__":
    serve(AioKafka())
