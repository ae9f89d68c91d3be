"""Changes of what is there: settings and partitions of a topic, asked of the controller; records, of a leader.

The first two are answered by a TopicsResponse with one result. Same style as messages.py.
"""

from __future__ import annotations

from raftlog.protocol.messages import _MutationRequest, _Request, _Response

HIGH_WATERMARK = -1
"""DeleteRecords: all that can be read now."""


class IncrementalAlterConfigsRequest(_MutationRequest, tag="IncrementalAlterConfigs", kw_only=True):
    """`config` sets these settings, `reset` puts those back to their defaults; all others stay (KIP-339)."""

    name: str
    topic_id: bytes
    config: dict[str, str] = {}
    reset: list[str] = []


class CreatePartitionsRequest(_MutationRequest, tag="CreatePartitions", kw_only=True):
    """`partitions`: how many there shall be in all (KIP-195)."""

    name: str
    topic_id: bytes
    partitions: int


class DeleteRecordsRequest(_Request, tag="DeleteRecords", kw_only=True):
    """The log shall start at `offset`, or HIGH_WATERMARK (KIP-107). Answered once no in-sync replica has less."""

    topic_id: bytes
    partition: int
    offset: int
    timeout_ms: int = 30_000


class DeleteRecordsResponse(_Response, tag="DeleteRecordsR", kw_only=True):
    """`log_start_offset`: where the log starts now, which may be beyond what was asked for."""

    log_start_offset: int = -1
    leader_id: int = -1
    leader_epoch: int = -1
