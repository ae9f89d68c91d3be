"""Every error that raftlog raises, with Kafka's names and numbers.

    RaftlogError                    code, retriable, invalid_metadata, outcome_unknown
    ├── one class per code          e.g. NotLeaderOrFollowerError, raised from an answer by `error_for`
    ├── ClientError                 what only a client can say: time-outs, closed, buffer full
    └── StorageError                what only a disk can say
          ├── DiskFullError         no room; nothing was lost; goes on when there is room
          └── CorruptLogError       bytes on disk that are not what was written

`retriable`: the same request may succeed later. `invalid_metadata`: ask for fresh metadata before
trying again. `outcome_unknown`: a write that failed so may have happened all the same. Source of the
numbers: Kafka protocol guide, "Error Codes".
"""

from __future__ import annotations

import enum


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
    INVALID_TIMESTAMP = 32
    UNSUPPORTED_VERSION = 35
    TOPIC_ALREADY_EXISTS = 36
    INVALID_PARTITIONS = 37
    INVALID_REPLICATION_FACTOR = 38
    INVALID_CONFIG = 40
    NOT_CONTROLLER = 41
    INVALID_REQUEST = 42
    UNSUPPORTED_FOR_MESSAGE_FORMAT = 43
    POLICY_VIOLATION = 44
    OUT_OF_ORDER_SEQUENCE_NUMBER = 45
    DUPLICATE_SEQUENCE_NUMBER = 46
    INVALID_PRODUCER_EPOCH = 47
    KAFKA_STORAGE_ERROR = 56
    UNKNOWN_PRODUCER_ID = 59
    NON_EMPTY_GROUP = 68
    GROUP_ID_NOT_FOUND = 69
    FENCED_LEADER_EPOCH = 74
    UNKNOWN_LEADER_EPOCH = 75
    OFFSET_NOT_AVAILABLE = 78
    MEMBER_ID_REQUIRED = 79
    GROUP_MAX_SIZE_REACHED = 81
    FENCED_INSTANCE_ID = 82
    INVALID_RECORD = 87
    THROTTLING_QUOTA_EXCEEDED = 89
    INVALID_UPDATE_VERSION = 95
    UNKNOWN_TOPIC_ID = 100
    INCONSISTENT_TOPIC_ID = 103
    INCONSISTENT_CLUSTER_ID = 104


class RaftlogError(Exception):
    """The root. `code` is what an answer carries on the wire."""

    code: ErrorCode = ErrorCode.UNKNOWN_SERVER_ERROR
    retriable = False
    invalid_metadata = False
    outcome_unknown = False


class OffsetOutOfRangeError(RaftlogError):
    code = ErrorCode.OFFSET_OUT_OF_RANGE


class LogTruncationError(OffsetOutOfRangeError):
    """The leader epoch that a position was read in is lost: what was read there may be gone from the log (KIP-320)."""


class CorruptMessageError(RaftlogError):
    """A record batch whose checksum, magic, length or counts are wrong."""

    code = ErrorCode.CORRUPT_MESSAGE


class UnreadableRecordsError(CorruptMessageError):
    """A batch that is as it was written, and that no consumer reads: too large unpacked, or no records inside.

    `offset` is its first, and `next_offset` where reading goes on behind it: `seek` there.
    """

    code = ErrorCode.INVALID_RECORD

    def __init__(self, reason: str, offset: int, next_offset: int) -> None:
        super().__init__(f"the records at offsets {offset} to {next_offset - 1} cannot be read: {reason}")
        self.reason = reason
        self.offset = offset
        self.next_offset = next_offset


class UnknownTopicOrPartitionError(RaftlogError):
    code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    retriable = invalid_metadata = True


class LeaderNotAvailableError(RaftlogError):
    code = ErrorCode.LEADER_NOT_AVAILABLE
    retriable = invalid_metadata = True


class NotLeaderOrFollowerError(RaftlogError):
    code = ErrorCode.NOT_LEADER_OR_FOLLOWER
    retriable = invalid_metadata = True


class RequestTimedOutError(RaftlogError):
    """The outcome of the request is unknown."""

    code = ErrorCode.REQUEST_TIMED_OUT
    retriable = outcome_unknown = True


class MessageTooLargeError(RaftlogError):
    code = ErrorCode.MESSAGE_TOO_LARGE


class InvalidTopicError(RaftlogError):
    code = ErrorCode.INVALID_TOPIC_EXCEPTION


class CoordinatorLoadInProgressError(RaftlogError):
    """A new leader has not replayed its partition of `__consumer_offsets` yet."""

    code = ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    retriable = True


class CoordinatorNotAvailableError(RaftlogError):
    code = ErrorCode.COORDINATOR_NOT_AVAILABLE
    retriable = invalid_metadata = True


class NotCoordinatorError(RaftlogError):
    code = ErrorCode.NOT_COORDINATOR
    retriable = invalid_metadata = True


class IllegalGenerationError(RaftlogError):
    """The group has moved on without this member."""

    code = ErrorCode.ILLEGAL_GENERATION


class InconsistentGroupProtocolError(RaftlogError):
    """No assignor that all members of the group offer."""

    code = ErrorCode.INCONSISTENT_GROUP_PROTOCOL


class InvalidGroupIdError(RaftlogError):
    code = ErrorCode.INVALID_GROUP_ID


class UnknownMemberIdError(RaftlogError):
    code = ErrorCode.UNKNOWN_MEMBER_ID


class InvalidSessionTimeoutError(RaftlogError):
    code = ErrorCode.INVALID_SESSION_TIMEOUT


class RebalanceInProgressError(RaftlogError):
    code = ErrorCode.REBALANCE_IN_PROGRESS


class NonEmptyGroupError(RaftlogError):
    code = ErrorCode.NON_EMPTY_GROUP


class GroupIdNotFoundError(RaftlogError):
    code = ErrorCode.GROUP_ID_NOT_FOUND


class MemberIdRequiredError(RaftlogError):
    """A new member was given its id, and joins again with it (KIP-394)."""

    code = ErrorCode.MEMBER_ID_REQUIRED


class GroupMaxSizeReachedError(RaftlogError):
    code = ErrorCode.GROUP_MAX_SIZE_REACHED


class FencedInstanceIdError(RaftlogError):
    """Another process has taken this group_instance_id over (KIP-345)."""

    code = ErrorCode.FENCED_INSTANCE_ID


class NotEnoughReplicasError(RaftlogError):
    code = ErrorCode.NOT_ENOUGH_REPLICAS
    retriable = True


class NotEnoughReplicasAfterAppendError(RaftlogError):
    code = ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND
    retriable = outcome_unknown = True


class InvalidRequiredAcksError(RaftlogError):
    code = ErrorCode.INVALID_REQUIRED_ACKS


class InvalidTimestampError(RaftlogError):
    """A record is further in the future than message_timestamp_after_max_ms allows; it was not written."""

    code = ErrorCode.INVALID_TIMESTAMP


class UnsupportedVersionError(RaftlogError):
    code = ErrorCode.UNSUPPORTED_VERSION


class TopicAlreadyExistsError(RaftlogError):
    code = ErrorCode.TOPIC_ALREADY_EXISTS


class InvalidPartitionsError(RaftlogError):
    code = ErrorCode.INVALID_PARTITIONS


class InvalidReplicationFactorError(RaftlogError):
    code = ErrorCode.INVALID_REPLICATION_FACTOR


class InvalidConfigError(RaftlogError):
    code = ErrorCode.INVALID_CONFIG


class NotControllerError(RaftlogError):
    code = ErrorCode.NOT_CONTROLLER
    retriable = invalid_metadata = True


class InvalidRequestError(RaftlogError):
    code = ErrorCode.INVALID_REQUEST


class UnsupportedForMessageFormatError(RaftlogError):
    """A record batch that is not magic 2."""

    code = ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT


class PolicyViolationError(RaftlogError):
    """The topic's settings do not allow it."""

    code = ErrorCode.POLICY_VIOLATION


class OutOfOrderSequenceNumberError(RaftlogError):
    """A batch of an idempotent producer that does not follow the last one in the log; it was not written."""

    code = ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


class DuplicateSequenceNumberError(RaftlogError):
    """A batch that was written so long ago that its offset is forgotten; it was not written again."""

    code = ErrorCode.DUPLICATE_SEQUENCE_NUMBER


class InvalidProducerEpochError(RaftlogError):
    """A newer epoch of the same producer has written already; this batch was not written."""

    code = ErrorCode.INVALID_PRODUCER_EPOCH


class BrokerStorageError(RaftlogError):
    """The partition's disk refuses writes; what was acknowledged is safe."""

    code = ErrorCode.KAFKA_STORAGE_ERROR
    retriable = invalid_metadata = True


class UnknownProducerIdError(RaftlogError):
    """The partition remembers nothing of this producer, whose batch is not its first; it was not written."""

    code = ErrorCode.UNKNOWN_PRODUCER_ID


class ThrottlingQuotaExceededError(RaftlogError):
    """The worker holds as many unanswered requests or bytes as it allows; ask again."""

    code = ErrorCode.THROTTLING_QUOTA_EXCEEDED
    retriable = True


class FencedLeaderEpochError(RaftlogError):
    code = ErrorCode.FENCED_LEADER_EPOCH
    retriable = invalid_metadata = True


class UnknownLeaderEpochError(RaftlogError):
    """The request names a newer leader epoch than this leader knows: it was deposed and has not noticed."""

    code = ErrorCode.UNKNOWN_LEADER_EPOCH
    retriable = invalid_metadata = True


class OffsetNotAvailableError(RaftlogError):
    """A new leader that does not know its high watermark yet."""

    code = ErrorCode.OFFSET_NOT_AVAILABLE
    retriable = True


class InvalidRecordError(RaftlogError):
    code = ErrorCode.INVALID_RECORD


class InvalidUpdateVersionError(RaftlogError):
    """A change of something that was looked up and is not as it was then; it was not carried out."""

    code = ErrorCode.INVALID_UPDATE_VERSION


class UnknownTopicIdError(RaftlogError):
    code = ErrorCode.UNKNOWN_TOPIC_ID
    retriable = invalid_metadata = True


class InconsistentTopicIdError(RaftlogError):
    code = ErrorCode.INCONSISTENT_TOPIC_ID
    retriable = invalid_metadata = True


class InconsistentClusterIdError(RaftlogError):
    code = ErrorCode.INCONSISTENT_CLUSTER_ID


class ClientError(RaftlogError):
    """Raised by a client on its own account, never sent."""


class NoBrokersAvailableError(ClientError):
    """No bootstrap address answered within the bounded wait."""

    retriable = True


class DeliveryTimeoutError(ClientError):
    """A record was not acknowledged within `delivery_timeout_ms`; `outcome_unknown` if it was ever sent."""


class BufferExhaustedError(ClientError):
    """`buffer_bytes` stayed full for `max_block_ms`."""

    retriable = True


class CommitFailedError(ClientError):
    """Not committed: the group gave this consumer's partitions to others, who read on from its last commit."""


class DeserializationError(ClientError):
    """A deserializer of the user's raised, which is the `__cause__`. `seek` behind `offset` to go on without it."""

    def __init__(self, topic: str, partition: int, offset: int, cause: Exception) -> None:
        super().__init__(
            f"the record at offset {offset} of {topic}-{partition} was not deserialized: {cause!r}; it comes first "
            f"again: mend the deserializer, or seek to {offset + 1}"
        )
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.__cause__ = cause


class ClosedError(ClientError):
    """The producer, consumer or admin was closed."""


class ForkedClientError(ClosedError):
    """The client was made by the parent of this process: make one in each process, after the fork."""


class StorageError(RaftlogError):
    code = ErrorCode.KAFKA_STORAGE_ERROR


class DiskFullError(StorageError):
    """ENOSPC, EDQUOT or a full LMDB map. Retriable when there is room."""

    retriable = True


class CorruptLogError(StorageError):
    """Bytes on disk that cannot be what was written."""


class ConfigError(RaftlogError):
    """A flag, a configuration file or a data directory that cannot be used as it is."""

    code = ErrorCode.INVALID_CONFIG


def _by_code() -> dict[int, type[RaftlogError]]:
    # Subclasses of the side branches share codes with the wire's classes and must not shadow them.
    return {
        int(cls.code): cls
        for cls in RaftlogError.__subclasses__()
        if cls not in (ClientError, StorageError, ConfigError)
    }


_CLASSES = _by_code()


def error_for(code: int, text: str = "") -> RaftlogError:
    """The exception for a code of an answer. An unknown code gives a plain RaftlogError."""
    cls = _CLASSES.get(code)
    if cls is None:
        return RaftlogError(text or f"error code {code}")
    return cls(text or ErrorCode(code).name)
