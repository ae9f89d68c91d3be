"""Every error that raftlog raises, with Kafka's names and numbers.

    RaftlogError                    code, retriable, invalid_metadata, outcome_unknown, results
    ├── one class per code          e.g. NotLeaderOrFollowerError, raised from an answer by `error_for`
    └── LocalError                  what happened in this process; never raised from an answer
          ├── ClientError           what only a client can say: time-outs, closed, buffer full
          ├── StorageError          what only a disk can say
          │     ├── DiskFullError   no room; nothing was lost; goes on when there is room
          │     └── CorruptLogError bytes on disk that are not what was written
          └── ConfigError           what a user said that cannot be used

`retriable`: the same request may succeed later. `invalid_metadata`: ask for fresh metadata before
trying again. `outcome_unknown`: a write that failed so may have happened all the same. `results`: of a call for
several, what became of each. The docstring of a
class says what the error means and what to do; docs/reference/errors.md is made of them. Source of the
numbers: Kafka protocol guide, "Error Codes".
"""

from __future__ import annotations

import enum
from typing import Any


class ErrorCode(enum.IntEnum):
    UNKNOWN_SERVER_ERROR = -1
    NONE = 0
    OFFSET_OUT_OF_RANGE = 1
    CORRUPT_MESSAGE = 2
    UNKNOWN_TOPIC_OR_PARTITION = 3
    LEADER_NOT_AVAILABLE = 5
    NOT_LEADER_OR_FOLLOWER = 6
    REQUEST_TIMED_OUT = 7
    MESSAGE_TOO_LARGE = 10
    COORDINATOR_LOAD_IN_PROGRESS = 14
    COORDINATOR_NOT_AVAILABLE = 15
    NOT_COORDINATOR = 16
    INVALID_TOPIC_EXCEPTION = 17
    NOT_ENOUGH_REPLICAS = 19
    NOT_ENOUGH_REPLICAS_AFTER_APPEND = 20
    INVALID_REQUIRED_ACKS = 21
    ILLEGAL_GENERATION = 22
    INCONSISTENT_GROUP_PROTOCOL = 23
    INVALID_GROUP_ID = 24
    UNKNOWN_MEMBER_ID = 25
    INVALID_SESSION_TIMEOUT = 26
    REBALANCE_IN_PROGRESS = 27
    TOPIC_AUTHORIZATION_FAILED = 29
    GROUP_AUTHORIZATION_FAILED = 30
    CLUSTER_AUTHORIZATION_FAILED = 31
    INVALID_TIMESTAMP = 32
    UNSUPPORTED_SASL_MECHANISM = 33
    ILLEGAL_SASL_STATE = 34
    UNSUPPORTED_VERSION = 35
    TOPIC_ALREADY_EXISTS = 36
    INVALID_PARTITIONS = 37
    INVALID_REPLICATION_FACTOR = 38
    INVALID_REPLICA_ASSIGNMENT = 39
    INVALID_CONFIG = 40
    NOT_CONTROLLER = 41
    INVALID_REQUEST = 42
    UNSUPPORTED_FOR_MESSAGE_FORMAT = 43
    POLICY_VIOLATION = 44
    OUT_OF_ORDER_SEQUENCE_NUMBER = 45
    DUPLICATE_SEQUENCE_NUMBER = 46
    INVALID_PRODUCER_EPOCH = 47
    KAFKA_STORAGE_ERROR = 56
    SASL_AUTHENTICATION_FAILED = 58
    UNKNOWN_PRODUCER_ID = 59
    NON_EMPTY_GROUP = 68
    GROUP_ID_NOT_FOUND = 69
    UNKNOWN_LEADER_EPOCH = 75
    OFFSET_NOT_AVAILABLE = 78
    MEMBER_ID_REQUIRED = 79
    PREFERRED_LEADER_NOT_AVAILABLE = 80
    GROUP_MAX_SIZE_REACHED = 81
    FENCED_INSTANCE_ID = 82
    NO_REASSIGNMENT_IN_PROGRESS = 85
    GROUP_SUBSCRIBED_TO_TOPIC = 86
    INVALID_RECORD = 87
    THROTTLING_QUOTA_EXCEEDED = 89
    RESOURCE_NOT_FOUND = 91
    DUPLICATE_RESOURCE = 92
    UNACCEPTABLE_CREDENTIAL = 93
    INVALID_UPDATE_VERSION = 95
    BROKER_ID_NOT_REGISTERED = 102
    INCONSISTENT_TOPIC_ID = 103
    INCONSISTENT_CLUSTER_ID = 104

    @classmethod
    def _missing_(cls, value: object) -> ErrorCode:
        """Of a later version, as part of an answer that says more than that."""
        return cls.UNKNOWN_SERVER_ERROR


class RaftlogError(Exception):
    """The root of all. By itself: an error code that this version does not know."""

    code: ErrorCode = ErrorCode.UNKNOWN_SERVER_ERROR
    retriable = False
    invalid_metadata = False
    outcome_unknown = False
    results: Any = ()


class OffsetOutOfRangeError(RaftlogError):
    """The offset is below the log start or beyond the end. Seek, or set `auto_offset_reset`."""

    code = ErrorCode.OFFSET_OUT_OF_RANGE


class LogTruncationError(OffsetOutOfRangeError):
    """The leader epoch in which a position was read is lost, so records that were read may be gone (KIP-320).

    It comes after `raftlog doctor --recover`, or from a committed epoch in which nobody led. Other records may stand
    at the same offsets now: seek to where to go on. With `auto_offset_reset` the consumer does so itself and logs a
    warning.
    """


class CorruptMessageError(RaftlogError):
    """A record batch with a wrong checksum, magic, length or count: damaged on the way, or a client's bug."""

    code = ErrorCode.CORRUPT_MESSAGE


class UnreadableRecordsError(CorruptMessageError):
    """A batch is as it was written, but unpacks to more than 128 MiB or holds no records that decode.

    `offset` is its first. `seek` to `next_offset` to go on behind it.
    """

    code = ErrorCode.INVALID_RECORD

    def __init__(self, reason: str, offset: int, next_offset: int) -> None:
        super().__init__(f"the records at offsets {offset} to {next_offset - 1} cannot be read: {reason}")
        self.reason = reason
        self.offset = offset
        self.next_offset = next_offset


class UnknownTopicOrPartitionError(RaftlogError):
    """There is no such topic or partition, or not yet. `raftlog topic create` makes a topic."""

    code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    retriable = invalid_metadata = True


class LeaderNotAvailableError(RaftlogError):
    """The partition has no leader: an election is going on, or a majority is missing. Clients retry by themselves."""

    code = ErrorCode.LEADER_NOT_AVAILABLE
    retriable = invalid_metadata = True


class NotLeaderOrFollowerError(RaftlogError):
    """The leader moved. Clients follow by themselves."""

    code = ErrorCode.NOT_LEADER_OR_FOLLOWER
    retriable = invalid_metadata = True


class RequestTimedOutError(RaftlogError):
    """No answer in time: the request may have been carried out."""

    code = ErrorCode.REQUEST_TIMED_OUT
    retriable = outcome_unknown = True


class MessageTooLargeError(RaftlogError):
    """A batch is larger than the topic's `max_record_bytes`. Send smaller batches, or raise the setting."""

    code = ErrorCode.MESSAGE_TOO_LARGE


class InvalidTopicError(RaftlogError):
    """The name is no legal topic name: letters, digits, `.`, `_` and `-`, not only dots, 249 at most."""

    code = ErrorCode.INVALID_TOPIC_EXCEPTION


class CoordinatorLoadInProgressError(RaftlogError):
    """A new leader has not replayed its partition of `__consumer_offsets` yet. Clients retry by themselves."""

    code = ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    retriable = True


class CoordinatorNotAvailableError(RaftlogError):
    """The group has no coordinator now. Clients retry by themselves."""

    code = ErrorCode.COORDINATOR_NOT_AVAILABLE
    retriable = invalid_metadata = True


class NotCoordinatorError(RaftlogError):
    """The group's coordinator moved. Clients follow by themselves."""

    code = ErrorCode.NOT_COORDINATOR
    retriable = invalid_metadata = True


class IllegalGenerationError(RaftlogError):
    """The group went on without this member, which joins again. Others read again what it had not committed."""

    code = ErrorCode.ILLEGAL_GENERATION


class InconsistentGroupProtocolError(RaftlogError):
    """The members of the group have no assignor in common. Give all of them one."""

    code = ErrorCode.INCONSISTENT_GROUP_PROTOCOL


class InvalidGroupIdError(RaftlogError):
    """The group id is empty or too long."""

    code = ErrorCode.INVALID_GROUP_ID


class UnknownMemberIdError(RaftlogError):
    """The group does not know this member: it was silent for `session_timeout_ms`, and joins again."""

    code = ErrorCode.UNKNOWN_MEMBER_ID


class InvalidSessionTimeoutError(RaftlogError):
    """The session timeout (`session_timeout_ms`) lies outside of what a coordinator accepts."""

    code = ErrorCode.INVALID_SESSION_TIMEOUT


class RebalanceInProgressError(RaftlogError):
    """The group shares its partitions out anew. Members join again by themselves."""

    code = ErrorCode.REBALANCE_IN_PROGRESS


class NonEmptyGroupError(RaftlogError):
    """The group has members. Stop them first."""

    code = ErrorCode.NON_EMPTY_GROUP


class GroupIdNotFoundError(RaftlogError):
    """There is no group of this name. `raftlog group list` shows them."""

    code = ErrorCode.GROUP_ID_NOT_FOUND


class MemberIdRequiredError(RaftlogError):
    """A new member was given its id, and joins again with it (KIP-394). Clients do so by themselves."""

    code = ErrorCode.MEMBER_ID_REQUIRED


class GroupMaxSizeReachedError(RaftlogError):
    """The group has as many members as a group may have."""

    code = ErrorCode.GROUP_MAX_SIZE_REACHED


class FencedInstanceIdError(RaftlogError):
    """Another process has taken this `group_instance_id` over (KIP-345). Give each member its own."""

    code = ErrorCode.FENCED_INSTANCE_ID


class GroupSubscribedToTopicError(RaftlogError):
    """Members of the group read the topic, so that what they have committed is not deleted. Stop them first."""

    code = ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC


class NotEnoughReplicasError(RaftlogError):
    """Refused before the append: fewer replicas are in sync than `min_insync_replicas`. Start the missing nodes."""

    code = ErrorCode.NOT_ENOUGH_REPLICAS
    retriable = True


class NotEnoughReplicasAfterAppendError(RaftlogError):
    """Replicas left the in-sync ones after the append: the records may be committed or not."""

    code = ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND
    retriable = outcome_unknown = True


class InvalidRequiredAcksError(RaftlogError):
    """The required acks (`acks`) are none of 0, 1 and all."""

    code = ErrorCode.INVALID_REQUIRED_ACKS


class TopicAuthorizationFailedError(RaftlogError):
    """The user may not do this with the topic, whether there is one or not. `raftlog acl add` makes a rule."""

    code = ErrorCode.TOPIC_AUTHORIZATION_FAILED


class GroupAuthorizationFailedError(RaftlogError):
    """The user may not do this with the group. `raftlog acl add` makes a rule."""

    code = ErrorCode.GROUP_AUTHORIZATION_FAILED


class ClusterAuthorizationFailedError(RaftlogError):
    """The user may not do this with the cluster. `raftlog acl add` makes a rule."""

    code = ErrorCode.CLUSTER_AUTHORIZATION_FAILED


class InvalidTimestampError(RaftlogError):
    """A record's time is further ahead than `message_timestamp_after_max_ms` allows; it was not written.

    The timestamp is often in microseconds instead of milliseconds, or a clock is wrong. A batch that says that its time
    is that of the append is refused with this error too.
    """

    code = ErrorCode.INVALID_TIMESTAMP


class UnsupportedSaslMechanismError(RaftlogError):
    """Nobody can log in here in this way. PLAIN is taken over an encrypted connection only."""

    code = ErrorCode.UNSUPPORTED_SASL_MECHANISM


class IllegalSaslStateError(RaftlogError):
    """The cluster has no users, so nobody can log in; or a login is asked for, and something else was sent."""

    code = ErrorCode.ILLEGAL_SASL_STATE


class UnsupportedVersionError(RaftlogError):
    """Client and node have no protocol version in common. Upgrade the older one."""

    code = ErrorCode.UNSUPPORTED_VERSION


class TopicAlreadyExistsError(RaftlogError):
    """A topic of that name exists. `--if-not-exists` accepts it."""

    code = ErrorCode.TOPIC_ALREADY_EXISTS


class InvalidPartitionsError(RaftlogError):
    """A topic has at least 1 partition and at most 256, and never fewer than it had."""

    code = ErrorCode.INVALID_PARTITIONS


class InvalidReplicationFactorError(RaftlogError):
    """The replication factor is below 1, above the number of nodes, or no majority of it would be alive."""

    code = ErrorCode.INVALID_REPLICATION_FACTOR


class InvalidReplicaAssignmentError(RaftlogError):
    """The nodes that were named for partitions cannot hold them: the error says which, and why."""

    code = ErrorCode.INVALID_REPLICA_ASSIGNMENT


class InvalidConfigError(RaftlogError):
    """A topic setting that is unknown, or a value outside of its bounds."""

    code = ErrorCode.INVALID_CONFIG


class NotControllerError(RaftlogError):
    """The controller moved. Clients follow by themselves."""

    code = ErrorCode.NOT_CONTROLLER
    retriable = invalid_metadata = True


class InvalidRequestError(RaftlogError):
    """A request that does not decode or makes no sense: a client's bug."""

    code = ErrorCode.INVALID_REQUEST


class UnsupportedForMessageFormatError(RaftlogError):
    """A record batch that is not magic 2, the only format that raftlog takes."""

    code = ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT


class PolicyViolationError(RaftlogError):
    """The settings do not allow it: records of a compacted topic are not deleted by offset, and no change of users and
    rules may leave nobody who may do everything.
    """

    code = ErrorCode.POLICY_VIOLATION


class OutOfOrderSequenceNumberError(RaftlogError):
    """A batch of an idempotent producer that does not follow its last one in the log; it was not written."""

    code = ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


class DuplicateSequenceNumberError(RaftlogError):
    """A batch that was written so long ago that its offset is forgotten; it was not written again.

    Producers take it for success.
    """

    code = ErrorCode.DUPLICATE_SEQUENCE_NUMBER


class InvalidProducerEpochError(RaftlogError):
    """A newer epoch of the same producer has written already; this batch was not written."""

    code = ErrorCode.INVALID_PRODUCER_EPOCH


class BrokerStorageError(RaftlogError):
    """The partition's disk refuses writes, mostly for lack of room. What was acknowledged is safe."""

    code = ErrorCode.KAFKA_STORAGE_ERROR
    retriable = invalid_metadata = True


class SaslAuthenticationFailedError(RaftlogError):
    """User and password do not belong together, or there is no such user: see `raftlog user list`."""

    code = ErrorCode.SASL_AUTHENTICATION_FAILED


class UnknownProducerIdError(RaftlogError):
    """The partition has forgotten this producer, and the batch is not its first; it was not written.

    It was idle for 7 days, or what was known of it was lost with a disk. Producers go on with a new epoch.
    """

    code = ErrorCode.UNKNOWN_PRODUCER_ID


class ThrottlingQuotaExceededError(RaftlogError):
    """The worker holds as many unanswered requests or bytes as it allows. Clients retry by themselves."""

    code = ErrorCode.THROTTLING_QUOTA_EXCEEDED
    retriable = True


class UnknownLeaderEpochError(RaftlogError):
    """This node led the partition once, was replaced and has not noticed. Clients ask the new leader by themselves."""

    code = ErrorCode.UNKNOWN_LEADER_EPOCH
    retriable = invalid_metadata = True


class OffsetNotAvailableError(RaftlogError):
    """A new leader does not know its high watermark yet. Clients retry by themselves."""

    code = ErrorCode.OFFSET_NOT_AVAILABLE
    retriable = True


class PreferredLeaderNotAvailableError(RaftlogError):
    """The first replica of the partition is not in sync, so it cannot lead now. It leads by itself once it is."""

    code = ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE
    retriable = True


class NoReassignmentInProgressError(RaftlogError):
    """The partition has no plan that could be called off: its replicas are where they shall be."""

    code = ErrorCode.NO_REASSIGNMENT_IN_PROGRESS


class InvalidRecordError(RaftlogError):
    """A record inside a batch breaks a rule, such as one without a key in a compacted topic."""

    code = ErrorCode.INVALID_RECORD


class ResourceNotFoundError(RaftlogError):
    """There is no such user, or the user has no password for this mechanism."""

    code = ErrorCode.RESOURCE_NOT_FOUND


class DuplicateResourceError(RaftlogError):
    """One request names a user twice for the same mechanism."""

    code = ErrorCode.DUPLICATE_RESOURCE


class UnacceptableCredentialError(RaftlogError):
    """Nobody could log in with this credential: too few or too many iterations, or a salt of fewer than 12 bytes."""

    code = ErrorCode.UNACCEPTABLE_CREDENTIAL


class InvalidUpdateVersionError(RaftlogError):
    """What was to be changed is not as it was when it was looked up; nothing was changed. Look again, then decide."""

    code = ErrorCode.INVALID_UPDATE_VERSION


class BrokerIdNotRegisteredError(RaftlogError):
    """The cluster has no node with this id."""

    code = ErrorCode.BROKER_ID_NOT_REGISTERED


class InconsistentTopicIdError(RaftlogError):
    """The topic was deleted and made again under its name. Clients look it up again by themselves."""

    code = ErrorCode.INCONSISTENT_TOPIC_ID
    retriable = invalid_metadata = True


class InconsistentClusterIdError(RaftlogError):
    """The node belongs to another cluster. In a client: all nodes that answer do; make a new client."""

    code = ErrorCode.INCONSISTENT_CLUSTER_ID


class LocalError(RaftlogError):
    """The branch of errors of the process in which they are raised; none of them comes from an answer."""


class ClientError(LocalError):
    """The branch of errors that a client raises on its own account."""


class NoBrokersAvailableError(ClientError):
    """No bootstrap address answered in time, or none that hears a majority of the voters. Is a node running there?"""

    retriable = True


class DeliveryTimeoutError(ClientError):
    """A record was not acknowledged within `delivery_timeout_ms`. If it was ever sent, it may be written."""


class BufferExhaustedError(ClientError):
    """The buffer (`buffer_bytes`) stayed full for `max_block_ms`: the cluster takes less than is sent."""

    retriable = True


class CommitFailedError(ClientError):
    """Not committed: others have this consumer's partitions by now, and read on from its last commit.

    It was too slow (`max_poll_interval_ms`), or away for too long (`session_timeout_ms`).
    """


class DeserializationError(ClientError):
    """A deserializer of the user's raised: the error's `__cause__` is what it raised.

    `topic`, `partition` and `offset` say where. The record comes first again: change the deserializer, or `seek`
    behind it.
    """

    def __init__(self, topic: str, partition: int, offset: int, cause: Exception) -> None:
        super().__init__(
            f"the record at offset {offset} of {topic}-{partition} was not deserialized: {cause!r}; it comes first "
            f"again: change the deserializer, or seek to {offset + 1}"
        )
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.__cause__ = cause


class ClosedError(ClientError):
    """The producer, consumer or admin was used after `close()`."""


class ForkedClientError(ClosedError):
    """The client was made by the parent of this process. Make one in each process, after the fork."""


class StorageError(LocalError):
    """The branch of errors that a disk raises. A failed fsync ends the worker: it is never tried again."""

    code = ErrorCode.KAFKA_STORAGE_ERROR


class DiskFullError(StorageError):
    """No room is left, or a quota is used up. Free some: nothing was lost, and writing goes on by itself."""

    retriable = True


class CorruptLogError(StorageError):
    """Files that cannot be what was written. The replica stops; the others go on."""


class ConfigError(LocalError):
    """A flag, a configuration file or a data directory that cannot be used as it is."""

    code = ErrorCode.INVALID_CONFIG


# Local errors share codes with those of answers, and must not shadow them.
_CLASSES = {int(cls.code): cls for cls in RaftlogError.__subclasses__() if cls is not LocalError}


def error_for(code: int, text: str = "") -> RaftlogError:
    """The exception for a code of an answer. An unknown code gives a plain RaftlogError."""
    cls = _CLASSES.get(code)
    if cls is None:
        return RaftlogError(text or f"error code {code}")
    return cls(text or ErrorCode(code).name)
