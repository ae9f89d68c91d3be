"""One replica of one partition: what its worker does in a turn, without sockets, clock or files of its own.

One turn, in this order, each step BEFORE the next (docs/durability.md):

    1 receive     on_raft, on_request: take input, decide, append what a leader sent
    2 tick        elections and timers
    3 append      as leader: all waiting produce requests, one write; DeleteRecords moves the log start
    4 replicate   AppendEntries leave; the leader does not count itself yet
    5 persist     one fdatasync for all that was appended, and `state` when it changed
    6 commit      count what is durable; held votes and success replies leave
    7 answer      acks=1 is durable here, acks=all is committed and on every in-sync replica
    8 serve       fetches, below the high watermark only
    9 keep house  commit bound, roll by age, retention

Nothing that claims durability leaves BEFORE step 5 is over. A disk without room refuses writes and is asked again; any
other StorageError leaves `turn` and must end the worker, since a failed fsync cannot be retried.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from msgspec.structs import replace

from raftlog import limits
from raftlog.clock import NEVER_S, Clock
from raftlog.consensus.member import RaftMember
from raftlog.errors import DiskFullError, ErrorCode, InvalidTimestampError, RaftlogError
from raftlog.histogram import Histogram
from raftlog.partition.batch_inspection import BatchInspection
from raftlog.partition.bounds import Bounds
from raftlog.partition.delete_records import RecordDeletion
from raftlog.partition.duplicates import Taken, WaitingForAcks, admit
from raftlog.partition.held_requests import HeldRequests
from raftlog.partition.housekeeping import Housekeeping
from raftlog.partition.leadership_transfer import LeadershipTransfer
from raftlog.partition.outbox import Outbox, refuse
from raftlog.partition.pending_produces import TIME_OUT_CHECK_S, Answers, Done, Produce
from raftlog.partition.plan_keeper import PlanKeeper
from raftlog.partition.reads import Reads
from raftlog.partition.stages import Stages
from raftlog.partition.status import status_of
from raftlog.protocol import apis
from raftlog.protocol.apis import Api
from raftlog.protocol.envelope import Request
from raftlog.protocol.raft import RaftMessage
from raftlog.protocol.records import ElectLeaderRequest, ElectLeaderResponse, ProduceRequest
from raftlog.record.batch import COMPRESSION_MASK, PRODUCER_ID, BatchHeader, check_batch, with_append_time
from raftlog.storage.index import IndexUsage
from raftlog.storage.log import PartitionLog
from raftlog.storage.producers import judge
from raftlog.types import (
    INTERNAL_TOPICS,
    Buffer,
    CleanupPolicy,
    Plan,
    ReplicaSpec,
    ReplicaStatus,
    TimestampType,
)

_STEPS = ("received", "ticked", "appended", "replicated", "persisted", "committed", "answered", "served")
FAIL_POINTS = tuple(f"turn: {step}" for step in _STEPS)

_ACKS = (-1, 0, 1)


class Replica:
    """Replica `node_id` of the partition `spec`, over an open `log`."""

    def __init__(
        self,
        *,
        node_id: int,
        boot_id: int,
        spec: ReplicaSpec,
        log: PartitionLog,
        clock: Clock,
        rng: random.Random,
        outbox: Outbox,
        fail_point: Callable[[str], None] = lambda name: None,
    ) -> None:
        self.spec = spec
        self.node_id = node_id
        self._topic_id = spec.topic_id
        self._partition = spec.partition
        self._log = log
        self._clock = clock
        self._outbox = outbox
        self._fail_point = fail_point
        self.member = RaftMember(
            node_id=node_id,
            boot_id=boot_id,
            spec=spec,
            log=log,
            rng=rng,
            send=outbox.send_raft,
            now_s=clock.monotonic_s(),
        )
        log.scrubber.refetchable = lambda: self.member.is_held_elsewhere  # BEFORE anything is read
        self._to_append: list[Taken] = []
        self._inspecting = BatchInspection(self._to_append.append, self._refuse_for)
        self._waiting = WaitingForAcks()
        self._reads = Reads(log, self.member, clock, outbox)
        self._bounds = Bounds(log, self.member, self._reads, clock, outbox)
        self._deleting = RecordDeletion(log, self.member, self._reads, clock, outbox, lambda: self.spec)
        self._house = Housekeeping(log, self.member, clock)
        self._answers = Answers()
        self._led_term = 0  # the term in which this replica accepted what waits; 0: none
        self._watermark_index = self.member.commit_index
        self._take_config(spec)
        self._moving = LeadershipTransfer(self.member)
        self._plan = PlanKeeper(self.member)
        self._handlers: dict[Api[Any, Any], Callable[[Request[Any], ErrorCode], None]] = {
            apis.PRODUCE: self._on_produce,
            apis.FETCH: self._reads.on_fetch,
            apis.LOCATE: self._reads.on_locate,
            apis.WATCH: self._reads.on_watch,
            apis.NOTE_SENT: self._reads.on_note_sent,
            apis.LIST_OFFSETS: self._bounds.on_list_offsets,
            apis.OFFSET_FOR_LEADER_EPOCH: self._bounds.on_offset_for_epoch,
            apis.ELECT_LEADER: self._on_elect_leader,
            apis.DESCRIBE_PRODUCERS: self._bounds.on_describe_producers,
            apis.DELETE_RECORDS: self._deleting.on_request,
        }
        self.stages = Stages()
        self.elections = 0  # won by this replica, since its process began
        self.elected_ms = 0  # when it was elected last
        self._refusal = ""  # why the disk takes nothing
        self._retry_disk_s = 0.0
        self._appended = False  # in this turn, as leader
        self._asked = False  # a client wanted something since the last turn that may have slept on it
        self._held = HeldRequests()

    @property
    def errors(self) -> dict[int, int]:
        """Produces of clients that were refused or failed, by error code, since this process began."""
        return self._answers.errors

    @property
    def fetched_bytes(self) -> int:
        """Record batches that clients were sent, from here or by a door, since this process began."""
        return self._reads.fetched_bytes

    @property
    def syncs(self) -> Histogram:
        return self._log.appender.syncs

    @property
    def index_usage(self) -> IndexUsage:
        return self._log.index_usage

    @property
    def unpacked_bytes(self) -> int:
        """To look into batches, since the last turn began: work as that of bytes received."""
        return self._inspecting.spent_bytes

    # --- what the worker and the controller ask -----------------------------------------------
    @property
    def is_leader(self) -> bool:
        return self.member.is_leader

    @property
    def leader_ready(self) -> bool:
        """Leads, and knows its high watermark: its own no-op is committed."""
        return self.member.leader_ready

    @property
    def leader_id(self) -> int:
        return self.member.leader_id

    @property
    def leader_epoch(self) -> int:
        return self.member.term

    @property
    def is_asleep(self) -> bool:
        return self.member.is_asleep

    @property
    def high_watermark(self) -> int:
        """First offset that is not known to be committed here; never goes back."""
        return self._reads.high_watermark

    def read_committed(self, offset: int, max_bytes: int) -> bytes:
        """Whole batches below the high watermark as known here; also on followers. Empty at the end.

        Raises CorruptLogError for damage, noted where it can be refetched: one that replays would end at it each time.
        """
        return self._reads.committed(offset, max_bytes)

    def confirm(self, done: Callable[[ErrorCode], None]) -> None:
        """`done(NONE)` once a majority has said that this replica leads still; an error if it does not."""
        self._reads.confirm(done)

    def delete_head(self, offset: int) -> None:
        """As leader: what lies below is not needed any more. Followers hear of it with the next heartbeat."""
        self.member.delete_head(offset)

    def set_peer(self, node_id: int, boot_id: int) -> None:
        """The current boot id of another replica's worker; 0 when it is gone."""
        self.member.set_peer(node_id, boot_id, self._clock.monotonic_s())

    def set_silent(self, nodes: Iterable[int]) -> None:
        """Nodes that the supervisor does not hear."""
        self.member.set_silent(nodes, self._clock.monotonic_s())

    def stir(self) -> None:
        """Somebody wants something of the group: if it sleeps, it wakes."""
        self.member.stir(self._clock.monotonic_s())

    def set_config(self, spec: ReplicaSpec) -> None:
        """Settings of the topic that changed at run time."""
        self.spec = spec
        self._take_config(spec)
        self._log.set_config(spec.config)

    def _take_config(self, spec: ReplicaSpec) -> None:
        """What each batch is held against."""
        self._batch_bytes_max = spec.config.max_record_bytes
        self._in_sync_min = spec.config.min_insync_replicas
        self._keyed = CleanupPolicy.COMPACT in spec.config.cleanup_policy
        self._appends_time = spec.config.message_timestamp_type is TimestampType.LOG_APPEND_TIME
        self._future_ms = 0  # up to here a timestamp was right when the clock was read last; it is read for a later one

    def hand_over(self) -> None:
        """Pause appends and ask an in-sync follower to lead. Call before a clean stop, again when it did not work."""
        if self.is_leader and not self._moving.under_way:
            self.stir()
            self._moving.begin(self._clock.monotonic_s())

    def heed(self, plan: Plan | None, expected: tuple[int, int]) -> None:
        """What the metadata wants of the partition's voters; as leader, carry it out from now on.

        `expected`: (term, index) of the configuration that its assignment is from, (0, 0): none since the founding. It
        has to be the newest one here, or nothing is begun.
        """
        if plan is not None:
            self.stir()
        self._plan.tell(plan, expected)

    @property
    def why_not(self) -> str:
        """As leader: why it has not begun with what is planned."""
        return self._plan.why_not

    def accept_loss(self) -> None:
        self.member.accept_loss(self._clock.monotonic_s(), renews=self._plan.is_told)

    def stop(self) -> None:
        """A clean end: what is appended becomes durable and the commit bound is written."""
        self._log.state.note_commit(self.member.commit_index)
        self._log.close()

    def next_wakeup_s(self) -> float:
        """Monotonic time at which a turn is due even without input."""
        now_s = self._clock.monotonic_s()
        client_s = min(self._reads.next_deadline_s, self._deleting.next_deadline_s)
        due_s = min(self.member.next_wakeup_s(), client_s, self._house.next_due_s(now_s), self._moving.due_s)
        if self.leader_ready:
            due_s = min(due_s, self._plan.due_s)
        if (
            self._inspecting.count
            or self._may_release
            or (self._to_append and not self._moving.under_way)
            or self._bounds.has_unserved
        ):
            return now_s
        if self._waiting.count:
            due_s = min(due_s, now_s + TIME_OUT_CHECK_S)
        return due_s

    def mark(self) -> tuple[object, ...]:
        """Equal as long as `status` would say the same; cheaper to ask after every turn."""
        log, state = self._log, self._log.state
        return (
            self._reads.high_watermark,
            log.last_index,
            state.log_start_offset,
            state.doubt,
            log.syncs,
            self._refusal,
            log.damage,
            self.member.in_sync,
            self._plan.number,
            self._plan.why_not,
            self._plan.number >= 0 and tuple(self.member.learning.items()),
            self.member.is_asleep,
        )

    def status(self) -> ReplicaStatus:
        return status_of(
            self.spec,
            self.member,
            self._log,
            self._reads.high_watermark,
            self._refusal,
            self._plan.number,
            self.why_not,
        )

    # --- 1 receive -----------------------------------------------------------------------------
    def on_raft(self, message: RaftMessage, payload: Buffer | None) -> None:
        """Take a message of another replica. Raises CorruptLogError when it contradicts what is committed."""
        if message.topic_id == self._topic_id and message.partition == self._partition:
            self.member.receive(message, payload, self._clock.monotonic_s())
            self._notice_role()

    def on_request(self, request: Request[Any]) -> None:
        """Take a client's request; its answer leaves through the outbox, in this turn or a later one."""
        self._asked = True
        if self.member.is_drowsy:
            self.stir()
        if self.member.is_waking:
            self._hold(request)
        else:
            self._take(request)

    def _hold(self, request: Request[Any]) -> None:
        if not self._held.add(request):
            code = ErrorCode.THROTTLING_QUOTA_EXCEEDED
            refuse(self._outbox, request, code, leader_id=self.leader_id, leader_epoch=self.leader_epoch)

    @property
    def _may_release(self) -> bool:
        return len(self._held) > 0 and not self.member.is_waking

    def _take(self, request: Request[Any]) -> None:
        code = ErrorCode.NONE
        if request.topic_id != self._topic_id:
            code = ErrorCode.INCONSISTENT_TOPIC_ID
        elif request.partition != self._partition:
            code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        self._handlers[request.api](request, code)

    def _on_elect_leader(self, request: Request[ElectLeaderRequest], code: ErrorCode) -> None:
        answer = partial(self._move_back, request)
        if code is ErrorCode.NONE:
            self._reads.confirm(answer)
        else:
            answer(code)

    def _move_back(self, request: Request[ElectLeaderRequest], code: ErrorCode) -> None:
        if code is ErrorCode.NONE and not self._moving.move_back(self._clock.monotonic_s()):
            code = ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE
        response = ElectLeaderResponse(error_code=int(code), leader_id=self.leader_id, leader_epoch=self.leader_epoch)
        self._outbox.answer(request, response, None)

    def propose(self, batch: bytes, done: Done) -> None:
        """Append raftlog's own batch; `done(code, base_offset)` is called once, when its outcome is known or lost."""
        now_s = self._clock.monotonic_s()
        produce = Produce(None, 0, -1, now_s + limits.ADMIN_TIMEOUT_MS / 1000, len(batch), done)
        self._take_produce(produce, batch, now_s)

    def _on_produce(self, request: Request[ProduceRequest], code: ErrorCode) -> None:
        now_s = self._clock.monotonic_s()
        body, payload = request.body, request.payload
        timeout_ms = min(max(body.timeout_ms, 0), limits.PRODUCE_TIMEOUT_MAX_MS)
        size_bytes = len(payload[0]) if payload else 0
        acks = body.acks
        produce = Produce(request.session, request.correlation_id, acks, now_s + timeout_ms / 1000, size_bytes, None)
        if not acks:
            produce.begin()
        if code:
            self._refuse(produce, code)
        elif acks not in _ACKS:
            self._refuse(produce, ErrorCode.INVALID_REQUIRED_ACKS, f"acks is 0, 1 or -1 (all), not {acks}")
        elif len(payload) != 1:
            text = f"a produce request carries one batch, not {len(payload)}"
            self._refuse(produce, ErrorCode.INVALID_REQUEST, text)
        else:
            self._take_produce(produce, payload[0], now_s)

    def _take_produce(self, produce: Produce, frame: Buffer, now_s: float) -> None:
        """Check one batch and put it into this turn's append, or refuse it."""
        if not self._led_term:
            self._refuse(produce, ErrorCode.NOT_LEADER_OR_FOLLOWER)
        elif len(frame) > self._batch_bytes_max:
            text = f"a batch of {len(frame)} bytes; max_record_bytes is {self.spec.config.max_record_bytes}"
            self._refuse(produce, ErrorCode.MESSAGE_TOO_LARGE, text)
        elif (
            self._waiting.count + self._inspecting.count + len(self._to_append) >= limits.UNANSWERED_PRODUCES_MAX
            or self._waiting.size_bytes + self._inspecting.size_bytes >= limits.UNANSWERED_PRODUCE_BYTES_MAX
        ):
            self._refuse(produce, ErrorCode.THROTTLING_QUOTA_EXCEEDED)
        elif produce.acks < 0 and self.member.in_sync_count < self._in_sync_min:
            self._refuse(produce, ErrorCode.NOT_ENOUGH_REPLICAS, self._too_few())
        elif self._refusal and now_s < self._retry_disk_s:
            self._refuse(produce, ErrorCode.KAFKA_STORAGE_ERROR, self._refusal)
        else:
            try:
                header = check_batch(frame)
                own = produce.session is None  # raftlog's own batches are stamped here, and known
                if header.max_timestamp_ms > self._future_ms and not own and not self._appends_time:
                    self._check_time(header)
            except RaftlogError as error:
                self._refuse_for(produce, error)
                return
            self.stages.took(now_s)
            if own or not (self._keyed or self._inspecting.count or header.attributes & COMPRESSION_MASK):
                self._to_append.append((produce, frame, header))
            else:
                self._inspecting.take((produce, frame, header), keyed=self._keyed)

    def _check_time(self, header: BatchHeader) -> None:
        """A record of the far future, whose sender took another unit or clock, would keep its segment from retention.

        Raises InvalidTimestampError.
        """
        limit_ms, now_ms = self.spec.config.message_timestamp_after_max_ms, self._clock.wall_ms()
        self._future_ms = now_ms + limit_ms
        if header.max_timestamp_ms > self._future_ms:
            raise InvalidTimestampError(
                f"a record's timestamp {header.max_timestamp_ms} ms is more than message_timestamp_after_max_ms, "
                f"{limit_ms} ms, ahead of this leader's clock, {now_ms} ms; are timestamps in milliseconds?"
            )

    def _too_few(self) -> str:
        """Why acks=all is not to be had now; empty while enough replicas are in sync."""
        count, needed = self.member.in_sync_count, self._in_sync_min
        return "" if count >= needed else f"{count} in sync, min_insync_replicas is {needed}"

    def _refuse_for(self, produce: Produce, error: RaftlogError) -> None:
        self._refuse(produce, error.code, str(error))

    def _refuse(self, produce: Produce, code: ErrorCode, text: str = "") -> None:
        if not produce.acks:
            produce.settle()
            produce = replace(produce, acks=1)  # nobody waits for success; a door ends the connection after an error
        self._answers.put(produce, code, -1, text, self.leader_id, self.leader_epoch)

    def _refuse_number(self, produce: Produce, header: BatchHeader, code: ErrorCode, text: str) -> None:
        """What does not follow in this log may follow in that of whoever leads by now.

        So it is said once a majority has said that this replica leads still: to Kafka's clients it can be the end. And
        only if it is true then: the batch before this one may have come meanwhile, and its producer, told first of that
        one and then of the gap, would take the gap for the end as well (seed 1000002 of the retries).
        """

        def judged(why_not: ErrorCode) -> None:
            if why_not is not ErrorCode.NONE:
                self._refuse(produce, ErrorCode.NOT_LEADER_OR_FOLLOWER)
            elif judge(self._log.producers.get(header[PRODUCER_ID]), header) is code:
                self._refuse(produce, code, text)
            else:
                self._refuse(produce, ErrorCode.REQUEST_TIMED_OUT, "not written: the batch before it came after it")

        if code in (ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, ErrorCode.UNKNOWN_PRODUCER_ID):
            self._reads.confirm(judged)
        else:
            self._refuse(produce, code, text)

    # --- the turn ------------------------------------------------------------------------------
    def turn(self) -> None:
        """Steps 2 to 9 for everything that was received. Raises StorageError when this worker must end."""
        now_s = self._clock.monotonic_s()
        if self._may_release:
            for request in self._held.take():
                self._take(request)
        self._inspecting.step()
        if self._nothing_to_do(now_s):
            return
        self._fail_point("turn: received")
        self.member.tick(now_s)
        self._notice_role()
        self._fail_point("turn: ticked")
        if self.leader_ready:
            self._moving.look(now_s)
        if self._moving.under_way:
            self._moving.step(now_s)
        if self.leader_ready:
            self._plan.step(now_s, handing_over=self._moving.under_way, in_sync_min=self._in_sync_min)
        self.member.advance_change(now_s, handing_over=self._moving.under_way)
        if self._to_append and not self._moving.under_way:
            self._append()
        self._fail_point("turn: appended")
        self._deleting.move()
        self.member.replicate(now_s)
        self._fail_point("turn: replicated")
        try:
            self._persist()
        except DiskFullError as error:
            # What was to follow the sync stays held for the next turn; what was committed before is read all the same.
            self._refuse_writes(error)
            self._send_answers()
            self._answer_others(now_s)
            return
        self._fail_point("turn: persisted")
        self.member.after_persist(now_s)
        self._advance_watermark()
        self._fail_point("turn: committed")
        self._answer_produces(now_s)
        self._fail_point("turn: answered")
        self._answer_others(now_s)
        self._fail_point("turn: served")
        try:
            self._house.keep(now_s, leading=self.leader_ready)
        except DiskFullError as error:
            self._refuse_writes(error)
        if now_s >= self._retry_disk_s:
            self._refusal = ""  # nothing was refused since; a follower has no append that would tell
        if self.is_leader:
            self._rest(now_s)

    def _rest(self, now_s: float) -> None:
        """Nobody waits for anything, or is about to: the group may sleep, once that was so for a while.

        Not what belongs to raftlog itself: a few partitions, with state machines and timers of their own.
        """
        asked, self._asked = self._asked, False
        if asked or not self._is_idle(now_s):
            self.member.stir(now_s)
        else:
            self.member.rest(now_s)

    def _is_idle(self, now_s: float) -> bool:
        return (
            self.spec.topic not in INTERNAL_TOPICS
            and not self._refusal
            and not self._log.damage
            and self._moving.is_content
            and self._plan.plan is None
            and self._reads.next_deadline_s == NEVER_S
            and self._deleting.next_deadline_s == NEVER_S
            and not len(self._held)
            and self._nothing_to_do(now_s)
        )

    def _persist(self) -> None:
        """Step 5."""
        if not self._appended:
            self._log.persist()
            return
        self._appended = False
        self._log.persist()
        self.stages.sync.observe(self._log.appender.last_sync_s)

    def _nothing_to_do(self, now_s: float) -> bool:
        """Most turns of an idle leader: a heartbeat was answered, and nothing follows from it."""
        return (
            not self._waiting.count  # first what is true of no busy leader
            and not self._to_append
            and not self._inspecting.count
            and self.member.is_settled(now_s)
            and not self._answers.by_session
            and not self._moving.under_way
            and (now_s < self._plan.due_s or not self.leader_ready)
            and not self._deleting.has_waiting
            and self._watermark_index == self.member.commit_index
            and now_s < self._reads.next_deadline_s
            and not self._reads.has_unserved
            and not self._bounds.has_unserved
            and not self._house.is_due(now_s)
        )

    def _notice_role(self) -> None:
        """Leadership of one term ended: what waits for it has an unknown outcome."""
        term = self.member.term if self.is_leader else 0
        if term == self._led_term:
            return
        if self._led_term:
            self._waiting.end_all(self._answers)
            for produce, _, _ in self._to_append:
                self._refuse(produce, ErrorCode.NOT_LEADER_OR_FOLLOWER)
            self._to_append.clear()
            for produce in self._inspecting.end_all():
                self._refuse(produce, ErrorCode.NOT_LEADER_OR_FOLLOWER)
            self._moving.end()
            self._plan.end()
            self._reads.refuse_all(ErrorCode.NOT_LEADER_OR_FOLLOWER)
            self._bounds.refuse_all(ErrorCode.NOT_LEADER_OR_FOLLOWER)
            self._deleting.refuse_all(ErrorCode.NOT_LEADER_OR_FOLLOWER)
            self.stages.end()
        if term:
            self.elections += 1
            self.elected_ms = self._clock.wall_ms()
        self._led_term = term

    def _append(self) -> None:
        """Step 3. One write for all; a full disk refuses all of them and leaves the log as it was."""
        began_s = self._clock.monotonic_s()
        self.stages.begin_append(began_s)
        taken = self._to_append.copy()
        self._to_append.clear()  # the list that `_inspecting` adds to
        end_index = self._log.last_index
        taken, repeats = admit(taken, self._log, self._clock, self._refuse_number)
        if self._appends_time:
            taken = self._with_append_time(taken)
        appended = not taken or self._append_new(taken, began_s)
        for repeat in repeats:
            if repeat.batch.raft_index > end_index and not appended:
                self._refuse(repeat.produce, ErrorCode.KAFKA_STORAGE_ERROR, self._refusal)
            else:
                self._waiting.add_repeat(repeat)

    def _with_append_time(self, taken: list[Taken]) -> list[Taken]:
        """Behind what tells repetitions: the leader's time is in the bytes that all replicas hold, and in no others."""
        now_ms = self._clock.wall_ms()
        return [
            (replace(produce, append_ms=now_ms), *with_append_time(frame, header, now_ms))
            for produce, frame, header in taken
        ]

    def _append_new(self, taken: list[Taken], began_s: float) -> bool:
        """False: no room, and all are refused."""
        produces, frames, headers = map(list, zip(*taken, strict=True))
        try:
            runs = self._log.append_as_leader(frames, headers, self.member.term)
        except DiskFullError as error:
            self._refuse_writes(error)
            for produce in produces:
                self._refuse(produce, ErrorCode.KAFKA_STORAGE_ERROR, self._refusal)
            return False
        self._refusal = ""
        self._appended = True
        self.stages.appended(began_s, self._clock.monotonic_s(), self._log.last_index)
        offsets = [offset for run in runs for offset in run.base_offsets]
        self._waiting.add(runs[0].first_index, self.member.term, produces, offsets)
        return True

    def _refuse_writes(self, error: DiskFullError) -> None:
        self._refusal = f"no room on the disk, writes are refused: {error}"
        self._retry_disk_s = self._clock.monotonic_s() + limits.DISK_RETRY_S

    def _advance_watermark(self) -> None:
        if self.member.commit_index != self._watermark_index:
            self._watermark_index = self.member.commit_index
            high_watermark = self._log.offset_after(self._watermark_index)
            assert high_watermark >= self._reads.high_watermark, "the high watermark never goes back"
            self._reads.high_watermark = high_watermark

    def _answer_produces(self, now_s: float) -> None:
        """Step 7."""
        self._waiting.synced(self._answers)
        if self._waiting.count and (text := self._too_few()):
            self._waiting.refuse_all(ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND, text, self._answers)
        acked_index = self.member.acked_index
        self._waiting.acknowledge(acked_index, self._answers)
        if self.stages.awaits(acked_index):
            self.stages.acknowledged(acked_index, self._clock.monotonic_s())
        self._waiting.time_out(now_s, self._answers)
        self._send_answers()

    def _answer_others(self, now_s: float) -> None:
        self._deleting.answer(now_s)
        self._reads.serve(now_s)
        self._bounds.serve(now_s)
        if self._answers.by_session:  # of produces that waited for a majority's word
            self._send_answers()

    def _send_answers(self) -> None:
        answers = self._answers.take()
        if not answers:
            return
        began_s = self._clock.monotonic_s()
        for session, results in answers.items():
            self._outbox.answer_produces(session, results)
        self.stages.answer.observe(self._clock.monotonic_s() - began_s)
