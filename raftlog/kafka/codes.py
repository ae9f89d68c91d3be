"""Error codes that only Kafka's clients are told; all others are raftlog's own (raftlog/errors.py).

Source: Kafka protocol guide, "Error Codes".
"""

from __future__ import annotations

import enum


class KafkaCode(enum.IntEnum):
    OFFSET_METADATA_TOO_LARGE = 12
    INVALID_COMMIT_OFFSET_SIZE = 28
    TRANSACTIONAL_ID_AUTHORIZATION_FAILED = 53
    FETCH_SESSION_ID_NOT_FOUND = 70
    INVALID_FETCH_SESSION_EPOCH = 71
    LISTENER_NOT_FOUND = 72
    FENCED_LEADER_EPOCH = 74
    ELECTION_NOT_NEEDED = 84
    UNKNOWN_TOPIC_ID = 100
    MISMATCHED_ENDPOINT_TYPE = 114
    UNSUPPORTED_ENDPOINT_TYPE = 115
