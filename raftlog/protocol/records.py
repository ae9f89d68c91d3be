"""Records written, read and deleted: asked of the worker that leads the partition. Producer ids: of the controller."""

from __future__ import annotations

import msgspec

from raftlog.protocol.body import Body, ResponseBody


class InitProducerIdRequest(Body):
    """A producer id that nobody had before, for an idempotent producer. Its epochs are its own to count."""


class InitProducerIdResponse(ResponseBody):
    producer_id: int = -1
    producer_epoch: int = -1


class ProduceRequest(Body):
    """One record batch in payload frame 1. acks: 0, answered only where it is refused; 1; or -1 for all."""

    acks: int
    timeout_ms: int


class ProduceResult(ResponseBody):
    """The answer to one Produce. The leader hint is set with NOT_LEADER_OR_FOLLOWER.

    `throttle_ms`: a quota is used up: how long this worker should be sent nothing. Who asks for no answers is told
    with an answer to correlation id 0.

    `append_ms`: the records' time, where the topic's type of time is LogAppendTime; -1: it is not, or a repetition.

    All answers to one client of one turn of the worker leave together: the body behind the envelope, whose correlation
    id is 0, is an array of these.
    """

    correlation_id: int = 0
    base_offset: int = -1  # on error
    leader_id: int = -1
    leader_epoch: int = -1
    append_ms: int = -1
    throttle_ms: int = 0


class FetchRequest(Body):
    """Long poll: answered when min_bytes are there or after max_wait_ms.

    The payload holds whole batches from the one that contains `offset`, at least one even if it is
    larger than max_bytes, all below the high watermark. The first batch may begin below `offset`.
    `verify`: the last answer did not match its checksum; the leader reads again and checks what it sends.
    `leader_epoch`: the newest one of which the client has read or been answered, -1: none. A leader of an older one
    answers UNKNOWN_LEADER_EPOCH (KIP-320).
    `skip_empty`: for readers that do not get past a batch without records, as compaction leaves them. The answer begins
    with the next one that has any, which may lie behind `offset`.
    """

    offset: int
    max_bytes: int
    min_bytes: int = 1
    max_wait_ms: int = 500
    verify: bool = False
    leader_epoch: int = -1
    skip_empty: bool = False


class FetchResponse(ResponseBody):
    """Records of a partition, and the bounds of its log.

    `high_watermark` is what this leader knows of, which may have been deposed: no bound of the log.

    `throttle_ms`: a quota is used up: how long this worker should be asked for no records.
    """

    high_watermark: int = -1
    log_start_offset: int = -1
    leader_id: int = -1
    leader_epoch: int = -1
    throttle_ms: int = 0


class LocateRequest(Body):
    """Where the batches lie that a Fetch would answer: for a process of the same machine, which sends them itself.

    What is found is as in a Fetch with `skip_empty` that does not wait, or a little less. It stays true: the bytes at
    that place of that file do not change while the connection to the worker stands, though another file may get the
    name. So who opens the file and finds `inode` asks once more: if path and inode are the same again, it is the file,
    and its descriptor serves for all later answers that name both.
    `ahead`: so many more places are wanted that follow each other, each as the next such request would be answered.
    """

    offset: int
    max_bytes: int
    leader_epoch: int = -1
    ahead: int = 0


class Place(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A place in a segment file.

    `length` bytes from `position` on are whole batches, and `next_offset` is behind them.
    """

    path: str
    inode: int
    position: int
    length: int
    next_offset: int


class LocateResponse(ResponseBody):
    """Where the records lie that a fetch would read.

    `length` bytes from `position` on are whole batches, and `next_offset` is behind them; 0: there is nothing yet.
    `following`: where those lie that come next. The rest as in FetchResponse.
    """

    high_watermark: int = -1
    log_start_offset: int = -1
    leader_id: int = -1
    leader_epoch: int = -1
    path: str = ""
    inode: int = 0
    position: int = 0
    length: int = 0
    next_offset: int = -1
    following: list[Place] = []


class NoteSentRequest(Body):
    """Of the records whose places a process of the same machine was told, it has sent so many bytes to clients.

    It says so now and then, since it may be told of more than anybody takes.
    """

    sent_bytes: int


class NoteSentResponse(ResponseBody):
    pass


class WatchRequest(Body):
    """Answered when there is something at `offset`, or the log starts elsewhere, or in another leader epoch; or later.

    For who waits at the end of many partitions: one question for each, however many wait there. `log_start_offset` and
    `leader_epoch` are what is known of them, -1: whatever they are now. A session that asks again is answered both.
    """

    offset: int
    leader_epoch: int = -1
    log_start_offset: int = -1


class WatchResponse(ResponseBody):
    """As in FetchResponse. Where nothing has changed it comes after some minutes all the same."""

    high_watermark: int = -1
    log_start_offset: int = -1
    leader_id: int = -1
    leader_epoch: int = -1


class ListOffsetsRequest(Body):
    """timestamp_ms: LATEST_TIMESTAMP, EARLIEST_TIMESTAMP, NEWEST_TIMESTAMP, or a time: first record at or after it.

    The leader first makes sure, by a round of heartbeats, that it still leads, so that the answer covers everything
    acknowledged before the request. `leader_epoch` as in Fetch.
    """

    timestamp_ms: int
    leader_epoch: int = -1


class ListOffsetsResponse(ResponseBody):
    """offset -1: no record at or after the time. `record_epoch`: the leader epoch in which that offset was written."""

    offset: int = -1
    timestamp_ms: int = -1
    leader_id: int = -1
    leader_epoch: int = -1
    record_epoch: int = -1


class OffsetForLeaderEpochRequest(Body):
    """Where the records of leader epoch `epoch` end (KIP-101): who has read beyond that has read what is lost.

    The leader makes sure that it still leads, as for ListOffsets. `leader_epoch` as in Fetch.
    """

    epoch: int
    leader_epoch: int = -1


class OffsetForLeaderEpochResponse(ResponseBody):
    """Where a leader epoch ends in the leader's log.

    `epoch`: that one, or the last one before it; `end_offset`: where the next one begins. Both -1: it is a newer one
    than any that this leader knows.
    """

    epoch: int = -1
    end_offset: int = -1
    leader_id: int = -1
    leader_epoch: int = -1


class ElectLeaderRequest(Body):
    """The preferred replica shall lead again, if it is in sync (KIP-460). It does so by itself some seconds later.

    Answered once it is asked to stand; who leads then is known from the metadata. NONE also where it leads already.
    """


class ElectLeaderResponse(ResponseBody):
    leader_id: int = -1
    leader_epoch: int = -1


class ActiveProducer(msgspec.Struct, array_like=True, kw_only=True):
    """An idempotent producer that a partition knows.

    `last_ms`: when the leader, or this replica as a follower, took its newest batch, by its own clock.
    """

    producer_id: int
    producer_epoch: int
    last_sequence: int
    last_ms: int


class DescribeProducersRequest(Body):
    """The idempotent producers that the partition's log remembers (KIP-664)."""


class DescribeProducersResponse(ResponseBody):
    producers: list[ActiveProducer] = []
    leader_id: int = -1
    leader_epoch: int = -1


HIGH_WATERMARK = -1
"""DeleteRecords: all that can be read now."""


class DeleteRecordsRequest(Body, kw_only=True):
    """The log shall start at `offset`, or HIGH_WATERMARK (KIP-107). Answered once no in-sync replica has less."""

    offset: int
    timeout_ms: int = 30_000


class DeleteRecordsResponse(ResponseBody, kw_only=True):
    """The answer to DeleteRecords.

    `log_start_offset`: where the log starts now, which may be beyond what was asked for.
    """

    log_start_offset: int = -1
    leader_id: int = -1
    leader_epoch: int = -1
