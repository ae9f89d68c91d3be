"""A broker with users and rules, and an example of each request that it judges."""

from __future__ import annotations

from typing import Any

from raftlog.kafka import apis
from raftlog.kafka.apis import APIS, KafkaApi
from raftlog.security.acls import Acl
from raftlog.security.passwords import make_credential
from raftlog.security.policy import Access, Policy, Security, User
from raftlog.security.scram import Mechanism
from raftlog.types import OFFSETS_TOPIC
from tests.kafka.door import cluster, topic
from tests.kafka.workbench import Client, Workbench

PASSWORD = make_credential(Mechanism.SCRAM_SHA_256, "secret", 4096)
USERS = {name: User(credentials=(PASSWORD,), epoch=5) for name in ("alice", "root")}


def part(index: str = "partition_index", **fields: Any) -> list[dict[str, Any]]:
    return [{index: 0, **fields}]


def named(name: str = "name", **fields: Any) -> list[dict[str, Any]]:
    return [{name: "orders", **fields}]


# A request of each API that names a topic or a group, in its newest version but where one with names is meant.
REQUESTS: dict[str, tuple[int, dict[str, Any]]] = {
    "Produce": (12, {"acks": -1, "timeout": 1, "topic_data": named(partition_data=[{"index": 0, "records": b"x"}])}),
    "Fetch": (12, {"topics": named("topic", partitions=part("partition"))}),
    "ListOffsets": (7, {"topics": named(partitions=part(timestamp=-1))}),
    "Metadata": (12, {"topics": named(), "allow_auto_topic_creation": False}),
    "OffsetCommit": (9, {"group_id": "readers", "topics": named(partitions=part())}),
    "OffsetFetch": (9, {"groups": [{"group_id": "readers", "topics": named(partition_indexes=[0])}]}),
    "FindCoordinator": (4, {"coordinator_keys": ["readers"]}),
    "JoinGroup": (9, {"group_id": "readers"}),
    "Heartbeat": (4, {"group_id": "readers"}),
    "LeaveGroup": (5, {"group_id": "readers"}),
    "SyncGroup": (5, {"group_id": "readers"}),
    "DescribeGroups": (5, {"groups": ["readers"]}),
    "CreateTopics": (7, {"topics": named(num_partitions=1, replication_factor=1), "timeout": 1000}),
    "DeleteTopics": (6, {"topics": named(topic_id=None), "timeout": 1000}),
    "DeleteRecords": (2, {"topics": named(partitions=part(offset=0)), "timeout": 1000}),
    "InitProducerId": (4, {"transactional_id": None}),
    "OffsetForLeaderEpoch": (4, {"topics": named("topic", partitions=part("partition"))}),
    "DescribeAcls": (3, {"resource_type_filter": 1, "operation": 1, "permission_type": 1}),
    "CreateAcls": (3, {"creations": [{"resource_type": 2, "resource_name": "orders", "principal": "User:alice"}]}),
    "DeleteAcls": (3, {"filters": [{"resource_type_filter": 2}]}),
    "DescribeConfigs": (4, {"resources": [{"resource_type": 2, "resource_name": "orders"}]}),
    "AlterConfigs": (2, {"resources": [{"resource_type": 2, "resource_name": "orders"}]}),
    "IncrementalAlterConfigs": (1, {"resources": [{"resource_type": 2, "resource_name": "orders"}]}),
    "DescribeLogDirs": (4, {"topics": None}),
    "CreatePartitions": (3, {"topics": named(count=2), "timeout": 1000}),
    "DeleteGroups": (2, {"groups_names": ["readers"]}),
    "ElectLeaders": (2, {"topic_partitions": named("topic", partitions=[0]), "timeout": 1000}),
    "AlterPartitionReassignments": (1, {"topics": named(partitions=part(replicas=[1])), "timeout": 1000}),
    "ListPartitionReassignments": (0, {"topics": None, "timeout": 1000}),
    "OffsetDelete": (0, {"group_id": "readers", "topics": named(partitions=part())}),
    "DescribeClientQuotas": (1, {"components": [], "strict": False}),
    "AlterClientQuotas": (1, {"entries": [{"entity": [{"entity_type": "user", "entity_name": "x"}], "ops": []}]}),
    "DescribeUserScramCredentials": (0, {"users": None}),
    "AlterUserScramCredentials": (0, {"deletions": [{"name": "alice", "mechanism": 1}]}),
    "DescribeProducers": (0, {"topics": named(partition_indexes=[0])}),
    "UnregisterBroker": (0, {"broker_id": 4}),
    "DescribeTopicPartitions": (0, {"topics": named()}),
    "ListGroups": (4, {}),
    "DescribeCluster": (1, {}),
}
JUDGED = [api for api in APIS if api not in apis.BEFORE_LOGIN]


class Secured(Workbench):
    """Three topics, and users with these rules."""

    def __init__(self, *acls: Acl, users: dict[str, User] | None = None) -> None:
        super().__init__(cluster(topic("orders", 1), topic("other", 2), topic(OFFSETS_TOPIC, 3)))
        self.users = USERS if users is None else users
        self.allow(*acls)

    def allow(self, *acls: Acl) -> None:
        self.broker.secure(
            Policy(Security(offset=9, users=self.users, acls=acls), Access(superusers=("User:root",))), []
        )

    def connect_as(self, user: str) -> Client:
        client = self.connect()
        session = client.connection.session
        session.principal, session.mechanism, session.epoch = f"User:{user}", "SCRAM-SHA-256", 5
        return client


def ask(client: Client, api: KafkaApi, **changed: Any) -> None:
    version, fields = REQUESTS[api.name]
    client.send(api.key, version, **{**fields, **changed})
