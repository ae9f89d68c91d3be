"""Fetch and Watch of one replica: answered by a leader that knows its high watermark, by nobody else.

A fetch hands out whole batches straight from the log, never decoded, all below the high watermark. One that finds
nothing waits for records or for its deadline (long poll).

A leader that was deposed without noticing (it hung, or is cut off) still knows records that are committed, and may hand
them out. What it does not know is where the log ends or starts by now. So

    a majority has answered a heartbeat of this term   BEFORE   an answer leaves that denies or bounds something

that is OFFSET_OUT_OF_RANGE, and every answer of bounds.py (Raft's ReadIndex). An empty fetch says neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from raftlog import limits
from raftlog.clock import Clock
from raftlog.consensus.member import RaftMember
from raftlog.errors import CorruptLogError, ErrorCode, OffsetOutOfRangeError
from raftlog.partition.fetches import WaitingFetch, WaitingFetches
from raftlog.partition.outbox import Outbox
from raftlog.partition.watches import Watches
from raftlog.protocol import apis
from raftlog.protocol.envelope import Request
from raftlog.protocol.records import (
    FetchRequest,
    FetchResponse,
    LocateRequest,
    LocateResponse,
    NoteSentRequest,
    NoteSentResponse,
    Place,
    WatchRequest,
    WatchResponse,
)
from raftlog.record.batch import read_header, split
from raftlog.storage.log import PartitionLog
from raftlog.storage.reader import Extent
from raftlog.types import Buffer

_LOCATED_BYTES = 16 * 1024  # what a place that is found costs beside bytes that are read


class Reads:
    """The fetches of a replica, and who waits until a majority has confirmed its leadership.

    `high_watermark` is set by the replica, once per turn.
    """

    def __init__(self, log: PartitionLog, member: RaftMember, clock: Clock, outbox: Outbox) -> None:
        self.high_watermark = log.offset_after(member.commit_index)
        self.fetched_bytes = 0
        self._log = log
        self._member = member
        self._clock = clock
        self._outbox = outbox
        self._fetches = WaitingFetches()
        self._watches = Watches(self._answer_watch)
        self._confirming: list[tuple[int, Callable[[ErrorCode], None]]] = []
        self._unserved = False

    @property
    def has_unserved(self) -> bool:
        """Something came since the last turn and may be answered at once, or waits for an answer of the followers."""
        moved = self._watches.is_due(self._log.state.log_start_offset)
        return self._unserved or bool(self._confirming) or moved

    @property
    def next_deadline_s(self) -> float:
        """Now, where a turn had more to serve than one may."""
        if self._unserved:
            return 0.0
        return min(self._fetches.next_deadline_s, self._watches.next_deadline_s)

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
        code = code or self.why_not_to(request.body.leader_epoch)
        wait_ms = min(max(request.body.max_wait_ms, 0), limits.FETCH_WAIT_MAX_MS)
        self._judge_fetch(WaitingFetch(request, request.body, self._clock.monotonic_s() + wait_ms / 1000), code)

    def on_locate(self, request: Request[LocateRequest], code: ErrorCode) -> None:
        body = request.body
        code = code or self.why_not_to(body.leader_epoch)
        fetch = FetchRequest(body.offset, body.max_bytes, skip_empty=True)
        self._judge_fetch(WaitingFetch(request, fetch, self._clock.monotonic_s()), code)

    def _judge_fetch(self, waiting: WaitingFetch, code: ErrorCode) -> None:
        if code is ErrorCode.NONE and not self._is_in_range(waiting.fetch.offset):
            self.confirm(partial(self._judge_range, waiting))
        else:
            self._take_fetch(waiting, code)

    def _is_in_range(self, offset: int) -> bool:
        return self._log.state.log_start_offset <= offset <= self.high_watermark

    def _judge_range(self, waiting: WaitingFetch, code: ErrorCode) -> None:
        """This replica leads still, and the high watermark may have come to the offset since it was asked."""
        if code is ErrorCode.NONE and not self._is_in_range(waiting.fetch.offset):
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

    def on_note_sent(self, request: Request[NoteSentRequest], code: ErrorCode) -> None:
        """Whoever leads by now: they were this replica's records."""
        if code is ErrorCode.NONE:
            self.fetched_bytes += max(request.body.sent_bytes, 0)
        self._outbox.answer(request, NoteSentResponse(error_code=int(code)), None)

    def on_watch(self, request: Request[WatchRequest], code: ErrorCode) -> None:
        code = code or self.why_not_to(request.body.leader_epoch)
        if code is not ErrorCode.NONE or 0 <= request.body.leader_epoch < self._member.term:
            self._answer_watch(request, code)
        else:
            self._watches.add(request, self._log.state.log_start_offset, self._clock.monotonic_s())
            self._unserved = True

    def _answer_watch(self, request: Request[WatchRequest], code: ErrorCode) -> None:
        response = WatchResponse(
            error_code=int(code),
            high_watermark=self.high_watermark,
            log_start_offset=self._log.state.log_start_offset,
            leader_id=self._member.leader_id,
            leader_epoch=self._member.term,
        )
        self._outbox.answer(request, response, None)

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

    def why_not(self) -> ErrorCode:
        if not self._member.is_leader:
            return ErrorCode.NOT_LEADER_OR_FOLLOWER
        # Until its own no-op is committed a new leader's high watermark may be behind its predecessor's.
        return ErrorCode.NONE if self._member.leader_ready else ErrorCode.OFFSET_NOT_AVAILABLE

    def why_not_to(self, leader_epoch: int) -> ErrorCode:
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
        if not len(self._fetches) and not len(self._watches):
            return
        code = self.why_not()
        if code is not ErrorCode.NONE:
            self.refuse_all(code)
            return
        self._watches.tell(self.high_watermark, self._log.state.log_start_offset, now_s)
        if len(self._fetches):
            self._serve_fetches(now_s)

    def _serve_fetches(self, now_s: float) -> None:
        left_bytes = limits.FETCHED_BYTES_PER_TURN
        ready = self._fetches.take_ready(self.high_watermark, now_s)
        for number, waiting in enumerate(ready):
            if left_bytes <= 0:
                self._fetches.put_back(ready[number:])
                self._unserved = True
                return
            left_bytes -= self._serve_one(waiting, now_s)

    def _serve_one(self, waiting: WaitingFetch, now_s: float) -> int:
        """How much of what a turn may read that took, in bytes."""
        fetch = waiting.fetch
        offset = max(fetch.offset, waiting.skipped_to)
        if offset >= self.high_watermark:
            self._answer_fetch(waiting, ErrorCode.NONE)
            return 0
        max_bytes = min(max(fetch.max_bytes, 1), limits.FETCH_BYTES_MAX)
        try:
            found = self._find(waiting, offset, max_bytes)
            if found is None:
                offset = self._log.skip_empty(offset, self.high_watermark, limits.SKIPPED_BATCHES_PER_TURN)
                self._go_on_from(waiting._replace(skipped_to=offset), now_s)
                return limits.FETCHED_BYTES_PER_TURN  # the others have the next turn
        except OffsetOutOfRangeError:
            self.confirm(partial(self._judge_range, waiting))  # the log start has moved while it waited
            return 0
        except CorruptLogError as error:
            self._answer_fetch(waiting, self._damaged(), text=str(error))
            if self._log.damage is None:
                self._log.verify_offset(fetch.offset)
            return 0
        if isinstance(found, Extent):
            places = [found, *self._find_ahead(waiting.request.body, found.next_offset, max_bytes)]
            self._answer_fetch(waiting, ErrorCode.NONE, places=places)
            return _LOCATED_BYTES * len(places)
        if len(found) < min(fetch.min_bytes, max_bytes) and self._may_grow(waiting, found, now_s):
            self._fetches.add(waiting._replace(seen_end=self.high_watermark))
        else:
            self._answer_fetch(waiting, ErrorCode.NONE, found)
        return len(found)

    def _find(self, waiting: WaitingFetch, offset: int, max_bytes: int) -> bytes | Extent | None:
        """None: a batch without records, which is to be left out."""
        if waiting.request.api is apis.LOCATE:
            return self._log.locate(offset, max_bytes, self.high_watermark)
        data = self._log.read(offset, max_bytes, self.high_watermark, verify=waiting.fetch.verify)
        return None if waiting.fetch.skip_empty and not read_header(data).record_count else data

    def _find_ahead(self, asked: FetchRequest | LocateRequest, offset: int, max_bytes: int) -> Iterator[Extent]:
        """What a reader would ask for next. It is in doubt or needs a decision: left to when it is asked for."""
        wanted = min(asked.ahead, limits.LOCATED_AHEAD_MAX) if isinstance(asked, LocateRequest) else 0
        for _ in range(wanted):
            if offset >= self.high_watermark:
                return
            try:
                extent = self._log.locate(offset, max_bytes, self.high_watermark)
            except (CorruptLogError, OffsetOutOfRangeError):
                return
            if extent is None:
                return
            yield extent
            offset = extent.next_offset

    def _go_on_from(self, waiting: WaitingFetch, now_s: float) -> None:
        """Behind batches without records: there may be more of them, or nothing yet."""
        if waiting.skipped_to < self.high_watermark:
            self._fetches.add(waiting)
            self._unserved = True
        elif waiting.deadline_s <= now_s:
            self._answer_fetch(waiting, ErrorCode.NONE)
        else:
            self._fetches.add(waiting)

    def _may_grow(self, waiting: WaitingFetch, data: Buffer, now_s: float) -> bool:
        """A closed segment's records are all that a fetch is given of it, as in Kafka.

        Nor does what ends where the next batch does not fit: who is behind would be held up at each of those.
        """
        if waiting.deadline_s <= now_s or waiting.fetch.offset < self._log.active_base_offset:
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
        self._watches.refuse_all(code)
        for waiting in self._fetches.take_all():
            self._answer_fetch(waiting, code)

    def _answer_fetch(
        self,
        waiting: WaitingFetch,
        code: ErrorCode,
        data: Buffer | None = None,
        *,
        text: str = "",
        places: Sequence[Extent] = (),
    ) -> None:
        bounds: dict[str, Any] = {
            "error_code": int(code),
            "error_text": text,
            "high_watermark": self.high_watermark,
            "log_start_offset": self._log.state.log_start_offset,
            "leader_id": self._member.leader_id,
            "leader_epoch": self._member.term,
        }
        if waiting.request.api is apis.LOCATE:
            located: dict[str, Any] = {}
            if places:
                located = {**places[0]._asdict(), "following": [Place(*each) for each in places[1:]]}
            self._outbox.answer(waiting.request, LocateResponse(**bounds, **located), None)
        else:
            self.fetched_bytes += 0 if data is None else len(data)
            self._outbox.answer(waiting.request, FetchResponse(**bounds), data)
