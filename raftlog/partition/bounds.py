"""ListOffsets, OffsetForLeaderEpoch, DescribeProducers: what bounds a partition, or denies that there is more.

a majority has answered a heartbeat of this term   BEFORE   any of these answers leaves           (reads.py)
"""

from __future__ import annotations

from functools import partial

from raftlog.clock import Clock
from raftlog.consensus.member import RaftMember
from raftlog.errors import ErrorCode
from raftlog.partition.outbox import Outbox
from raftlog.partition.reads import Reads
from raftlog.partition.time_searches import TimeSearches
from raftlog.protocol.envelope import Request
from raftlog.protocol.records import (
    ActiveProducer,
    DescribeProducersRequest,
    DescribeProducersResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
)
from raftlog.storage.log import PartitionLog
from raftlog.types import EARLIEST_LOCAL_TIMESTAMP, EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, NEWEST_TIMESTAMP

_NO_EPOCH = -1


class Bounds:
    """Of one replica. `reads` knows the high watermark, and who leads."""

    def __init__(self, log: PartitionLog, member: RaftMember, reads: Reads, clock: Clock, outbox: Outbox) -> None:
        self._log = log
        self._member = member
        self._reads = reads
        self._clock = clock
        self._outbox = outbox
        self._searches = TimeSearches(log)

    @property
    def has_unserved(self) -> bool:
        """The next turn has to come at once."""
        return self._searches.count > 0

    def serve(self, now_s: float) -> None:
        if not self._searches.count:
            return
        code = self._reads.why_not()
        if code is ErrorCode.NONE:
            self._searches.step(self._reads.high_watermark, now_s)
        else:
            self._searches.refuse_all(code)

    def refuse_all(self, code: ErrorCode) -> None:
        self._searches.refuse_all(code)

    # --- ListOffsets -----------------------------------------------------------------------------
    def on_list_offsets(self, request: Request[ListOffsetsRequest], code: ErrorCode) -> None:
        answer = partial(self._answer_offsets, request)
        code = code or self._reads.why_not_to(request.body.leader_epoch)
        if code is ErrorCode.NONE:
            self._reads.confirm(answer)
        else:
            answer(code)

    def _answer_offsets(self, request: Request[ListOffsetsRequest], code: ErrorCode) -> None:
        answer = partial(self._send_offsets, request)
        timestamp_ms = request.body.timestamp_ms
        if code is not ErrorCode.NONE:
            answer(code, None)
        elif timestamp_ms == LATEST_TIMESTAMP:
            answer(code, (self._reads.high_watermark, -1))
        elif timestamp_ms in (EARLIEST_TIMESTAMP, EARLIEST_LOCAL_TIMESTAMP):
            answer(code, (self._log.state.log_start_offset, -1))
        elif timestamp_ms < 0 and timestamp_ms != NEWEST_TIMESTAMP:
            answer(ErrorCode.INVALID_REQUEST, None)
        else:
            self._searches.add(timestamp_ms, answer, self._clock.monotonic_s())

    def _send_offsets(
        self, request: Request[ListOffsetsRequest], code: ErrorCode, found: tuple[int, int] | None
    ) -> None:
        offset, timestamp_ms = found or (-1, -1)
        response = ListOffsetsResponse(
            error_code=int(code),
            offset=offset,
            timestamp_ms=timestamp_ms,
            leader_id=self._member.leader_id,
            leader_epoch=self._member.term,
            record_epoch=_NO_EPOCH if found is None else self._log.epoch_of_offset(offset),
        )
        self._outbox.answer(request, response, None)

    # --- OffsetForLeaderEpoch --------------------------------------------------------------------
    def on_offset_for_epoch(self, request: Request[OffsetForLeaderEpochRequest], code: ErrorCode) -> None:
        answer = partial(self._answer_epoch, request)
        code = code or self._reads.why_not_to(request.body.leader_epoch)
        if code is ErrorCode.NONE:
            self._reads.confirm(answer)
        else:
            answer(code)

    def _answer_epoch(self, request: Request[OffsetForLeaderEpochRequest], code: ErrorCode) -> None:
        epoch, end_offset = _NO_EPOCH, -1
        if code is ErrorCode.NONE:
            epoch, end_offset = self._end_of_epoch(request.body.epoch)
        response = OffsetForLeaderEpochResponse(
            error_code=int(code),
            epoch=epoch,
            end_offset=end_offset,
            leader_id=self._member.leader_id,
            leader_epoch=self._member.term,
        )
        self._outbox.answer(request, response, None)

    def _end_of_epoch(self, epoch: int) -> tuple[int, int]:
        """As Kafka: an epoch in front of all that are known ends where the first of these begins."""
        if not 0 <= epoch <= self._member.term:
            return _NO_EPOCH, -1
        held, next_start = self._log.epoch_before(epoch)
        # The last epoch ends at what is committed, or a reader might be told of records that go again.
        end_offset = self._reads.high_watermark if next_start is None else next_start
        return (epoch if held is None else held), min(end_offset, self._reads.high_watermark)

    # --- DescribeProducers -----------------------------------------------------------------------
    def on_describe_producers(self, request: Request[DescribeProducersRequest], code: ErrorCode) -> None:
        answer = partial(self._answer_producers, request)
        if code is ErrorCode.NONE:
            self._reads.confirm(answer)
        else:
            answer(code)

    def _answer_producers(self, request: Request[DescribeProducersRequest], code: ErrorCode) -> None:
        known = self._log.producers.states if code is ErrorCode.NONE else {}
        response = DescribeProducersResponse(
            error_code=int(code),
            producers=[
                ActiveProducer(
                    producer_id=producer_id,
                    producer_epoch=state.epoch,
                    last_sequence=state.batches[-1].last_sequence,
                    last_ms=state.taken_ms,
                )
                for producer_id, state in known.items()
            ],
            leader_id=self._member.leader_id,
            leader_epoch=self._member.term,
        )
        self._outbox.answer(request, response, None)
