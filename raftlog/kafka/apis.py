"""The table of Kafka's APIs that the door serves: one row for each. ApiVersions and the docs come from here.

The versions are those that any client of today sends: nothing is taken away at the old end, since aiokafka, kafka-go,
KafkaJS and kcat know no flexible version of Metadata, Fetch or JoinGroup. What is not there, such as transactions, is
not listed, and clients get on without it.
"""

from __future__ import annotations

from typing import NamedTuple

from raftlog.kafka import guards as g
from raftlog.kafka import wire
from raftlog.kafka.calls import Call, Fields, Handler
from raftlog.kafka.guards import Guard
from raftlog.kafka.handlers.cluster import (
    describe_cluster,
    describe_log_dirs,
    find_coordinator,
    init_producer_id,
    unregister_broker,
)
from raftlog.kafka.handlers.committed import offset_commit, offset_delete, offset_fetch
from raftlog.kafka.handlers.configs import alter_configs, describe_configs, incremental_alter_configs
from raftlog.kafka.handlers.elections import elect_leaders
from raftlog.kafka.handlers.groups import (
    delete_groups,
    describe_groups,
    heartbeat,
    join_group,
    leave_group,
    list_groups,
    sync_group,
)
from raftlog.kafka.handlers.metadata import describe_topic_partitions, metadata
from raftlog.kafka.handlers.offsets import (
    delete_records,
    describe_producers,
    list_offsets,
    offset_for_leader_epoch,
)
from raftlog.kafka.handlers.reassignments import alter_partition_reassignments, list_partition_reassignments
from raftlog.kafka.handlers.security import (
    alter_client_quotas,
    alter_users,
    create_acls,
    delete_acls,
    describe_acls,
    describe_client_quotas,
    describe_users,
)
from raftlog.kafka.handlers.topics import create_partitions, create_topics, delete_topics
from raftlog.security.acls import Operation as Op


class KafkaApi(NamedTuple):
    """An API of Kafka's protocol that the door serves.

    `handler` None: those that the broker itself serves without a coroutine, and judges as it does.

    `guard`: what of a request its sender may have, once there are users or rules.
    """

    key: int
    name: str
    first: int
    last: int
    operation: Op
    handler: Handler | None
    guard: Guard


def listed_versions() -> Fields:
    keys = [{"api_key": api.key, "min_version": api.first, "max_version": api.last} for api in APIS]
    return {"api_keys": keys}


async def _api_versions(call: Call) -> Fields:
    session = call.session
    session.software = wire.field(call.request, "client_software_name", "")
    session.software_version = wire.field(call.request, "client_software_version", "")
    return listed_versions()


PRODUCE = KafkaApi(
    0, "Produce", 0, 13, Op.WRITE, None, g.open_to_all
)  # 0 to 2 are listed for librdkafka's sake, and refused
FETCH = KafkaApi(1, "Fetch", 4, 18, Op.READ, None, g.open_to_all)
API_VERSIONS = KafkaApi(18, "ApiVersions", 0, 5, Op.NONE, _api_versions, g.open_to_all)
# Version 0 is listed only: librdkafka 2.0.2 begins a login, with version 1, only where 0 is listed as well.
SASL_HANDSHAKE = KafkaApi(17, "SaslHandshake", 0, 1, Op.NONE, None, g.open_to_all)
SASL_AUTHENTICATE = KafkaApi(36, "SaslAuthenticate", 0, 2, Op.NONE, None, g.open_to_all)
BEFORE_LOGIN = (API_VERSIONS, SASL_HANDSHAKE, SASL_AUTHENTICATE)

APIS = (
    PRODUCE,
    FETCH,
    KafkaApi(
        2, "ListOffsets", 1, 11, Op.DESCRIBE, list_offsets, g.topics(Op.DESCRIBE, "topics", g.TOPIC_IN_PARTITIONS)
    ),
    KafkaApi(3, "Metadata", 0, 13, Op.DESCRIBE, metadata, g.metadata),
    KafkaApi(8, "OffsetCommit", 2, 10, Op.READ, offset_commit, g.offset_commit),
    KafkaApi(9, "OffsetFetch", 1, 10, Op.DESCRIBE, offset_fetch, g.offset_fetch),
    KafkaApi(10, "FindCoordinator", 0, 6, Op.DESCRIBE, find_coordinator, g.find_coordinator),
    KafkaApi(11, "JoinGroup", 0, 9, Op.READ, join_group, g.group(Op.READ)),
    KafkaApi(12, "Heartbeat", 0, 4, Op.READ, heartbeat, g.group(Op.READ)),
    KafkaApi(13, "LeaveGroup", 0, 5, Op.READ, leave_group, g.group(Op.READ)),
    KafkaApi(14, "SyncGroup", 0, 5, Op.READ, sync_group, g.group(Op.READ)),
    KafkaApi(15, "DescribeGroups", 0, 6, Op.DESCRIBE, describe_groups, g.describe_groups),
    KafkaApi(16, "ListGroups", 0, 5, Op.DESCRIBE, list_groups, g.list_groups),
    SASL_HANDSHAKE,
    API_VERSIONS,
    KafkaApi(19, "CreateTopics", 2, 7, Op.CREATE, create_topics, g.create_topics),
    KafkaApi(20, "DeleteTopics", 1, 6, Op.DELETE, delete_topics, g.delete_topics),
    KafkaApi(21, "DeleteRecords", 0, 2, Op.DELETE, delete_records, g.topics(Op.DELETE, "topics", g.TOPIC_IN_RECORDS)),
    KafkaApi(22, "InitProducerId", 0, 5, Op.IDEMPOTENT_WRITE, init_producer_id, g.init_producer_id),
    KafkaApi(
        23,
        "OffsetForLeaderEpoch",
        2,
        4,
        Op.DESCRIBE,
        offset_for_leader_epoch,
        g.topics(Op.DESCRIBE, "topics", g.TOPIC_IN_EPOCHS),
    ),
    KafkaApi(29, "DescribeAcls", 1, 3, Op.DESCRIBE, describe_acls, g.cluster(Op.DESCRIBE, g.no_acls)),
    KafkaApi(30, "CreateAcls", 1, 3, Op.ALTER, create_acls, g.cluster(Op.ALTER, g.no_acls_made)),
    KafkaApi(31, "DeleteAcls", 1, 3, Op.ALTER, delete_acls, g.cluster(Op.ALTER, g.no_acls_deleted)),
    KafkaApi(
        32, "DescribeConfigs", 1, 4, Op.DESCRIBE_CONFIGS, describe_configs, g.configs(Op.DESCRIBE_CONFIGS, "results")
    ),
    KafkaApi(33, "AlterConfigs", 0, 2, Op.ALTER_CONFIGS, alter_configs, g.configs(Op.ALTER_CONFIGS, "responses")),
    KafkaApi(35, "DescribeLogDirs", 1, 5, Op.DESCRIBE, describe_log_dirs, g.cluster(Op.DESCRIBE, g.no_log_dirs)),
    SASL_AUTHENTICATE,
    KafkaApi(37, "CreatePartitions", 0, 3, Op.ALTER, create_partitions, g.topics(Op.ALTER, "results", g.in_topic)),
    KafkaApi(42, "DeleteGroups", 0, 3, Op.DELETE, delete_groups, g.delete_groups),
    KafkaApi(43, "ElectLeaders", 0, 2, Op.ALTER, elect_leaders, g.cluster(Op.ALTER, g.not_elected)),
    KafkaApi(
        44,
        "IncrementalAlterConfigs",
        0,
        1,
        Op.ALTER_CONFIGS,
        incremental_alter_configs,
        g.configs(Op.ALTER_CONFIGS, "responses"),
    ),
    KafkaApi(
        *(45, "AlterPartitionReassignments", 0, 1, Op.ALTER, alter_partition_reassignments),
        g.cluster(Op.ALTER, g.nothing_moved),
    ),
    KafkaApi(
        *(46, "ListPartitionReassignments", 0, 0, Op.DESCRIBE, list_partition_reassignments),
        g.cluster(Op.DESCRIBE, g.nothing_moved),
    ),
    KafkaApi(47, "OffsetDelete", 0, 0, Op.DELETE, offset_delete, g.offset_delete),
    KafkaApi(
        *(48, "DescribeClientQuotas", 0, 1, Op.DESCRIBE_CONFIGS, describe_client_quotas),
        g.cluster(Op.DESCRIBE_CONFIGS, g.no_quotas),
    ),
    KafkaApi(
        *(49, "AlterClientQuotas", 0, 1, Op.ALTER_CONFIGS, alter_client_quotas),
        g.cluster(Op.ALTER_CONFIGS, g.no_quotas_altered),
    ),
    KafkaApi(50, "DescribeUserScramCredentials", 0, 0, Op.DESCRIBE, describe_users, g.cluster(Op.DESCRIBE)),
    KafkaApi(51, "AlterUserScramCredentials", 0, 0, Op.ALTER, alter_users, g.cluster(Op.ALTER, g.no_users_altered)),
    KafkaApi(60, "DescribeCluster", 0, 2, Op.DESCRIBE, describe_cluster, g.open_to_all),
    KafkaApi(
        61, "DescribeProducers", 0, 0, Op.READ, describe_producers, g.topics(Op.READ, "topics", g.TOPIC_IN_PRODUCERS)
    ),
    KafkaApi(64, "UnregisterBroker", 0, 0, Op.ALTER, unregister_broker, g.cluster(Op.ALTER)),
    KafkaApi(75, "DescribeTopicPartitions", 0, 0, Op.DESCRIBE, describe_topic_partitions, g.topic_partitions),
)
BY_KEY = {api.key: api for api in APIS}
