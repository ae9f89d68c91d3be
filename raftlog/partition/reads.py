"""Fetch and ListOffsets of one replica: answered by a leader that knows its high watermark, by nobody else.

A fetch hands out whole batches straight from the log, never decoded, all below the high watermark. One that finds
nothing waits for records or for its deadline (long poll).

A leader that was deposed without noticing (it hung, or is cut off) still knows records that are committed, and may hand
them out. What it does not know is where the log ends or starts by now. So

    a majority has answered a heartbeat of this term   BEFORE   an answer leaves that denies or bounds something

that is OFFSET_OUT_OF_RANGE and every ListOffsets (Raft's ReadIndex). An empty fetch says neither.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from raftlog import limits
from raftlog.clock import Clock
from raftlog.consensus.member import RaftMember
from raftlog.errors import CorruptLogError, ErrorCode, OffsetOutOfRangeError
from raftlog.partition.fetches import WaitingFetch, WaitingFetches
from raftlog.partition.outbox import Outbox
from raftlog.partition.time_searches import TimeSearches
from raftlog.protocol.envelope import Request
from raftlog.protocol.records import FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse
from raftlog.record.batch import split
from raftlog.storage.log import PartitionLog
from raftlog.types import EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, Buffer


class Reads:
    """`high_watermark` is set by the replica, once per turn."""

    def __init__(self, log: PartitionLog, member: RaftMember, clock: Clock, outbox: Outbox) -> None:
        self.high_watermark = log.offset_after(member.commit_index)
        self._log = log
        self._member = member
        self._clock = clock
        self._outbox = outbox
        self._fetches = WaitingFetches()
        self._searches = TimeSearches(log)
        self._confirming: list[tuple[int, Callable[[ErrorCode], None]]] = []
        self._unserved = False

    @property
    def has_unserved(self) -> bool:
        """Something came since the last turn and may be answered at once, or waits for an answer of the followers."""
        return self._unserved or bool(self._confirming)

    @property
    def next_deadline_s(self) -> float:
        """Now, where a turn had more to serve than one may."""
        return 0.0 if self._unserved else self._fetches.next_deadline_s

    def committed(self, offset: int, max_bytes: int) -> bytes:
        """Whole batches for raftlog itself, checked. Raises CorruptLogError, noted where it can be refetched."""
        if offset >= self.high_watermark:
            return b""
        try:
            return self._log.read(offset, max_bytes, self.high_watermark, verify=True)
        except CorruptLogError:
            self._log.verify_offset(offset)
            raise

    def on_fetch(self, request: Request[FetchRequest], code: ErrorCode) -> None:
        code = code or self._why_not_to(request.body.leader_epoch)
        wait_ms = min(max(request.body.max_wait_ms, 0), limits.FETCH_WAIT_MAX_MS)
        waiting = WaitingFetch(request, self._clock.monotonic_s() + wait_ms / 1000)
        if code is ErrorCode.NONE and not self._is_in_range(request.body.offset):
            self.confirm(partial(self._judge_range, waiting))
        else:
            self._take_fetch(waiting, code)

    def _is_in_range(self, offset: int) -> bool:
        return self._log.state.log_start_offset <= offset <= self.high_watermark

    def _judge_range(self, waiting: WaitingFetch, code: ErrorCode) -> None:
        """This replica leads still, and the high watermark may have come to the offset since it was asked."""
        if code is ErrorCode.NONE and not self._is_in_range(waiting.request.body.offset):
            code = ErrorCode.OFFSET_OUT_OF_RANGE
        self._take_fetch(waiting, code)

    def _take_fetch(self, waiting: WaitingFetch, code: ErrorCode) -> None:
        if code is ErrorCode.NONE and len(self._fetches) >= limits.WAITING_FETCHES_MAX:
            code = ErrorCode.THROTTLING_QUOTA_EXCEEDED
        if code is not ErrorCode.NONE:
            self._answer_fetch(waiting, code)
        else:
            self._fetches.add(waiting)
            self._unserved = True

    def on_list_offsets(self, request: Request[ListOffsetsRequest], code: ErrorCode) -> None:
        answer = partial(self._answer_offsets, request)
        code = code or self._why_not_to(request.body.leader_epoch)
        if code is ErrorCode.NONE:
            self.confirm(answer)
        else:
            answer(code)

    def confirm(self, done: Callable[[ErrorCode], None]) -> None:
        """`done(NONE)` when a majority has said that this replica still leads; an error when it does not.

        Only now is it true what this replica knew of the end of its log when it was asked: nobody had led since.
        """
        code = self.why_not()
        if code is ErrorCode.NONE and len(self._confirming) >= limits.WAITING_FETCHES_MAX:
            code = ErrorCode.THROTTLING_QUOTA_EXCEEDED
        if code is ErrorCode.NONE:
            # Ends by itself: a leader whose majority does not answer steps down, and refuses what waits.
            self._confirming.append((self._member.ask_confirmation(), done))
            self._unserved = True  # asked behind a turn, it has the next one come at once: the heartbeats leave there
        else:
            done(code)

    def _answer_offsets(self, request: Request[ListOffsetsRequest], code: ErrorCode) -> None:
        answer = partial(self._send_offsets, request)
        timestamp_ms = request.body.timestamp_ms
        if code is not ErrorCode.NONE:
            answer(code, None)
        elif timestamp_ms == LATEST_TIMESTAMP:
            answer(code, (self.high_watermark, -1))
        elif timestamp_ms == EARLIEST_TIMESTAMP:
            answer(code, (self._log.state.log_start_offset, -1))
        elif timestamp_ms < 0:
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
        )
        self._outbox.answer(request, response, None)

    def why_not(self) -> ErrorCode:
        if not self._member.is_leader:
            return ErrorCode.NOT_LEADER_OR_FOLLOWER
        # Until its own no-op is committed a new leader's high watermark may be behind its predecessor's.
        return ErrorCode.NONE if self._member.leader_ready else ErrorCode.OFFSET_NOT_AVAILABLE

    def _why_not_to(self, leader_epoch: int) -> ErrorCode:
        """`leader_epoch`: somebody led in it, as the client knows."""
        code = self.why_not()
        deposed = code is not ErrorCode.NOT_LEADER_OR_FOLLOWER and leader_epoch > self._member.term
        return ErrorCode.UNKNOWN_LEADER_EPOCH if deposed else code

    def _damaged(self) -> ErrorCode:
        """To be asked again, of whoever leads once this replica refetches; unless nobody else holds the record."""
        return ErrorCode.CORRUPT_MESSAGE if self._log.damage is not None else ErrorCode.KAFKA_STORAGE_ERROR

    def serve(self, now_s: float) -> None:
        """Step 8. Raises CorruptLogError, with the fetch answered, when a record is damaged and can be refetched."""
        self._unserved = False
        if self._confirming:
            self._answer_confirmed()
        if self._searches.count:
            self._search(now_s)
        if not len(self._fetches):
            return
        code = self.why_not()
        if code is not ErrorCode.NONE:
            self.refuse_all(code)
            return
        left_bytes = limits.FETCHED_BYTES_PER_TURN
        ready = self._fetches.take_ready(self.high_watermark, now_s)
        for number, waiting in enumerate(ready):
            if left_bytes <= 0:
                self._fetches.put_back(ready[number:])
                self._unserved = True
                return
            fetch = waiting.request.body
            if fetch.offset >= self.high_watermark:
                self._answer_fetch(waiting, ErrorCode.NONE)
                continue
            max_bytes = min(max(fetch.max_bytes, 1), limits.FETCH_BYTES_MAX)
            try:
                data = self._log.read(fetch.offset, max_bytes, self.high_watermark, verify=fetch.verify)
            except OffsetOutOfRangeError:
                self.confirm(partial(self._judge_range, waiting))  # the log start has moved while it waited
                continue
            except CorruptLogError as error:
                self._answer_fetch(waiting, self._damaged(), text=str(error))
                if self._log.damage is None:
                    self._log.verify_offset(fetch.offset)
                continue
            left_bytes -= len(data)
            if len(data) < min(fetch.min_bytes, max_bytes) and self._may_grow(waiting, data, now_s):
                self._fetches.add(waiting._replace(seen_end=self.high_watermark))
                continue
            self._answer_fetch(waiting, ErrorCode.NONE, data)

    def _search(self, now_s: float) -> None:
        code = self.why_not()
        if code is ErrorCode.NONE:
            self._searches.step(self.high_watermark, now_s)
        else:
            self._searches.refuse_all(code)
        self._unserved = self._unserved or self._searches.count > 0

    def _may_grow(self, waiting: WaitingFetch, data: Buffer, now_s: float) -> bool:
        """A closed segment's records are all that a fetch is given of it, as in Kafka.

        Nor does what ends where the next batch does not fit: who is behind would be held up at each of those.
        """
        if waiting.deadline_s <= now_s or waiting.request.body.offset < self._log.active_base_offset:
            return False
        *_, (_, last) = split(data)
        return last.next_offset >= self.high_watermark

    def _answer_confirmed(self) -> None:
        waiting, self._confirming = self._confirming, []
        for asked, done in waiting:
            if self._member.confirmed(asked):
                done(self.why_not())
            else:
                self._confirming.append((asked, done))

    def refuse_all(self, code: ErrorCode) -> None:
        """Answer everything that waits with an error."""
        confirming, self._confirming = self._confirming, []
        for _, done in confirming:
            done(code)
        self._searches.refuse_all(code)
        for waiting in self._fetches.take_all():
            self._answer_fetch(waiting, code)

    def _answer_fetch(
        self, waiting: WaitingFetch, code: ErrorCode, data: Buffer | None = None, *, text: str = ""
    ) -> None:
        response = FetchResponse(
            error_code=int(code),
            error_text=text,
            high_watermark=self.high_watermark,
            log_start_offset=self._log.state.log_start_offset,
            leader_id=self._member.leader_id,
            leader_epoch=self._member.term,
        )
        self._outbox.answer(waiting.request, response, data)
