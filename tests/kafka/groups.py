"""A door whose groups have a real coordinator, and members that speak Kafka's protocol to it."""

from __future__ import annotations

from typing import Any

import msgspec

from raftlog.kafka.calls import Leader, Target, Told
from raftlog.protocol import apis
from raftlog.protocol.apis import Api, Served
from raftlog.protocol.body import Body
from raftlog.protocol.cluster import MetadataRequest, MetadataResponse
from raftlog.types import OFFSETS_TOPIC, Buffer
from tests.coordinator.driver import Driver
from tests.kafka.door import Begun, Door, cluster, topic, topic_id

ORDERS_ID, OFFSETS_ID = topic_id(1), topic_id(9)
ORDERS = topic("orders", 1, (1, 1))

# What one client sends, by API.
KAFKA_GO = {"JoinGroup": 2, "SyncGroup": 0, "Heartbeat": 0, "LeaveGroup": 0, "OffsetCommit": 2, "OffsetFetch": 1}
KAFKAJS = {"JoinGroup": 5, "SyncGroup": 3, "Heartbeat": 3, "LeaveGroup": 3, "OffsetCommit": 5, "OffsetFetch": 4}
LIBRDKAFKA = {"JoinGroup": 5, "SyncGroup": 3, "Heartbeat": 3, "LeaveGroup": 1, "OffsetCommit": 9, "OffsetFetch": 9}
SARAMA = {"JoinGroup": 7, "SyncGroup": 5, "Heartbeat": 4, "LeaveGroup": 4, "OffsetCommit": 8, "OffsetFetch": 7}
JAVA = {"JoinGroup": 9, "SyncGroup": 5, "Heartbeat": 4, "LeaveGroup": 5, "OffsetCommit": 10, "OffsetFetch": 10}
CLIENTS = {"kafka-go": KAFKA_GO, "kafkajs": KAFKAJS, "librdkafka": LIBRDKAFKA, "sarama": SARAMA, "java": JAVA}


class GroupDoor(Door):
    """Of the one node that coordinates. `settle`: what was sent is carried out, committed and answered.

    An API with an entry in `workers` is answered by that, in place of the coordinator.
    """

    def __init__(self) -> None:
        super().__init__(cluster(ORDERS, topic(OFFSETS_TOPIC, 9, (1,))))
        self.driver = Driver()
        self._waiting: dict[int, tuple[Api[Any, Any], Told]] = {}
        self.confirmed = True
        self.newest = [ORDERS]  # the topics, as the node knows them
        self.workers[apis.METADATA] = self._metadata

    def _metadata(self, _target: Target, body: MetadataRequest) -> MetadataResponse:
        found = [each for each in self.newest if body.topics is None or each.name in body.topics]
        return MetadataResponse(topics=found, confirmed=self.confirmed)

    def ask(
        self, target: Target, api: Api[Any, Any], body: Body, payload: Buffer | None, timeout_s: float, told: Told
    ) -> None:
        if api.served is not Served.COORDINATOR or api in self.workers:
            super().ask(target, api, body, payload, timeout_s, told)
            return
        assert target == Leader(OFFSETS_ID, 0)
        self.asked.append((target, body))
        travelled = api.decode_request(msgspec.msgpack.encode(body))
        self._waiting[self.driver.send(lambda: travelled)] = api, told

    def settle(self) -> None:
        answers = self.driver.answers
        self.driver.commit()
        while ready := [number for number in self._waiting if number in answers]:
            for number in ready:
                api, told = self._waiting.pop(number)
                told(api.decode_response(msgspec.msgpack.encode(answers[number])), None)
            self.driver.commit()

    def call(self, name: str, version: int, **fields: Any) -> dict[str, Any]:
        begun = self.begin(name, version, **fields)
        self.settle()
        assert begun.answer is not None, f"{name} is not answered"
        return begun.answer

    def pass_time(self, seconds: float) -> None:
        self.driver.advance(seconds)
        self.settle()


class KafkaMember:
    """One consumer of the group. `versions`: what its client sends. It knows what it was told last."""

    def __init__(self, door: GroupDoor, versions: dict[str, int], **fields: Any) -> None:
        """`fields`: of its JoinGroup, where they differ from those here."""
        self.door = door
        self.versions = versions
        self.group_id = fields.pop("group_id", "readers")
        self.instance_id = fields.pop("group_instance_id", None)
        self.wishes: dict[str, Any] = {
            "session_timeout": 10_000,
            "rebalance_timeout": 30_000,
            "protocol_type": "consumer",
            "protocols": [{"name": "range", "metadata": b"orders"}],
            **fields,
        }
        self.id = ""
        self.generation = -1
        self.protocol = ""
        self.leads = False
        self.members: list[str] = []
        self._join: Begun | None = None
        self._sync: Begun | None = None

    @property
    def _identity(self) -> dict[str, Any]:
        return {"group_id": self.group_id, "member_id": self.id, "group_instance_id": self.instance_id}

    def begin(self, name: str, **fields: Any) -> Begun:
        begun = self.door.begin(name, self.versions[name], **{**self._identity, **fields})
        self.door.settle()
        return begun

    def call(self, name: str, **fields: Any) -> dict[str, Any]:
        answer = self.begin(name, **fields).answer
        assert answer is not None
        return answer

    def join_once(self) -> dict[str, Any] | None:
        self._join = self.begin("JoinGroup", **self.wishes)
        return self._join.answer

    def join(self) -> None:
        """In as many rounds as its version has; `joined` says what came of it."""
        answer = self.join_once()
        if answer is not None and answer["error_code"] == 79:
            self.id = answer["member_id"]
            self.join()

    def joined(self) -> dict[str, Any]:
        assert self._join is not None and self._join.answer is not None, "the group waits for somebody"
        answer = self._join.answer
        if not answer["error_code"]:
            self.id, self.generation = answer["member_id"], answer["generation_id"]
            self.protocol = answer["protocol_name"]
            self.leads = answer["leader"] == self.id
            self.members = [member["member_id"] for member in answer["members"]]
        return answer

    @property
    def waits(self) -> bool:
        return self._join is not None and self._join.answer is None

    def sync(self, assignments: dict[str, bytes] | None = None) -> None:
        listed = [{"member_id": name, "assignment": share} for name, share in (assignments or {}).items()]
        fields = {"protocol_type": "consumer", "protocol_name": self.protocol, "assignments": listed}
        self._sync = self.begin("SyncGroup", generation_id=self.generation, **fields)

    def synced(self) -> dict[str, Any]:
        assert self._sync is not None and self._sync.answer is not None, "the leader has not assigned yet"
        return self._sync.answer

    def heartbeat(self) -> int:
        code: int = self.call("Heartbeat", generation_id=self.generation)["error_code"]
        return code

    def leave(self) -> dict[str, Any]:
        leaving = {"member_id": self.id, "group_instance_id": self.instance_id}
        return self.call("LeaveGroup", members=[leaving])

    def commit(self, *offsets: int, **fields: Any) -> list[int]:
        """Of `orders`, from partition 0 on. The error code of each."""
        partitions = [{"partition_index": each, "committed_offset": offset} for each, offset in enumerate(offsets)]
        topics = [{"name": "orders", "topic_id": ORDERS_ID, "partitions": partitions}]
        generation = {"generation_id_or_member_epoch": self.generation}
        (told,) = self.call("OffsetCommit", **{"topics": topics, **generation, **fields})["topics"]
        return [each["error_code"] for each in told["partitions"]]

    def committed(self) -> list[int]:
        """Of both partitions of `orders`."""
        topics = [{"name": "orders", "topic_id": ORDERS_ID, "partition_indexes": [0, 1]}]
        answer = self.call("OffsetFetch", topics=topics, groups=[{"group_id": self.group_id, "topics": topics}])
        (told,) = answer.get("groups", [answer])[0]["topics"]
        return [each["committed_offset"] for each in told["partitions"]]


def form(*members: KafkaMember) -> None:
    """One generation of these, each with its own id as its share."""
    for member in members:
        member.join()
    members[0].door.pass_time(0.2)
    for member in members:
        assert member.joined()["error_code"] == 0
    for member in sorted(members, key=lambda each: each.leads):  # the leader last
        member.sync({each: each.encode() for each in member.members})
    assert [member.synced()["assignment"] for member in members] == [member.id.encode() for member in members]
