"""Records written, read and deleted: asked of the worker that leads the partition. Producer ids: of the controller."""

from __future__ import annotations

from raftlog.protocol.body import Body, ResponseBody


class InitProducerIdRequest(Body):
    """A producer id that nobody had before, for an idempotent producer. Its epochs are its own to count."""


class InitProducerIdResponse(ResponseBody):
    producer_id: int = -1
    producer_epoch: int = -1


class ProduceRequest(Body):
    """One record batch in payload frame 1. acks: 0, 1, or -1 for all."""

    acks: int
    timeout_ms: int


class ProduceResult(ResponseBody):
    """The answer to one Produce. The leader hint is set with NOT_LEADER_OR_FOLLOWER.

    All answers to one client of one turn of the worker leave together: the body behind the envelope, whose correlation
    id is 0, is an array of these.
    """

    correlation_id: int = 0
    base_offset: int = -1  # on error
    leader_id: int = -1
    leader_epoch: int = -1


class FetchRequest(Body):
    """Long poll: answered when min_bytes are there or after max_wait_ms.

    The payload holds whole batches from the one that contains `offset`, at least one even if it is
    larger than max_bytes, all below the high watermark. The first batch may begin below `offset`.
    `verify`: the last answer did not match its checksum; the leader reads again and checks what it sends.
    `leader_epoch`: the newest one of which the client has read or been answered, -1: none. A leader of an older one
    answers UNKNOWN_LEADER_EPOCH (KIP-320).
    """

    offset: int
    max_bytes: int
    min_bytes: int = 1
    max_wait_ms: int = 500
    verify: bool = False
    leader_epoch: int = -1


class FetchResponse(ResponseBody):
    """`high_watermark` is what this leader knows of, which may have been deposed: no bound of the log."""

    high_watermark: int = -1
    log_start_offset: int = -1
    leader_id: int = -1
    leader_epoch: int = -1


class ListOffsetsRequest(Body):
    """timestamp_ms: LATEST_TIMESTAMP, EARLIEST_TIMESTAMP, or a time: first record at or after it.

    The leader first makes sure, by a round of heartbeats, that it still leads, so that the answer covers everything
    acknowledged before the request. `leader_epoch` as in Fetch.
    """

    timestamp_ms: int
    leader_epoch: int = -1


class ListOffsetsResponse(ResponseBody):
    """offset -1: no record at or after the time."""

    offset: int = -1
    timestamp_ms: int = -1
    leader_id: int = -1
    leader_epoch: int = -1


HIGH_WATERMARK = -1
"""DeleteRecords: all that can be read now."""


class DeleteRecordsRequest(Body, kw_only=True):
    """The log shall start at `offset`, or HIGH_WATERMARK (KIP-107). Answered once no in-sync replica has less."""

    offset: int
    timeout_ms: int = 30_000


class DeleteRecordsResponse(ResponseBody, kw_only=True):
    """`log_start_offset`: where the log starts now, which may be beyond what was asked for."""

    log_start_offset: int = -1
    leader_id: int = -1
    leader_epoch: int = -1
