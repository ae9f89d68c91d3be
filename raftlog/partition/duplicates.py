"""Batches of idempotent producers: which of a turn are new, which stand in the log already, and who waits for those.

A repetition is answered with the offset of the batch that it repeats, once *that* batch meets the acks of the
repetition. It waits like any other produce, and ends with an unknown outcome when leadership does. No I/O.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from raftlog.clock import Clock
from raftlog.errors import ErrorCode
from raftlog.partition.pending_produces import Answers, Produce, WaitingProduces
from raftlog.record.batch import BASE_SEQUENCE, LAST_OFFSET_DELTA, PRODUCER_EPOCH, PRODUCER_ID, BatchHeader
from raftlog.storage.log import PartitionLog
from raftlog.storage.producers import KnownBatch, Placed, ProducerState, following, judge, next_sequence
from raftlog.types import Buffer

Taken = tuple[Produce, Buffer, BatchHeader]
Refuse = Callable[[Produce, BatchHeader, ErrorCode, str], None]

_WHY = {
    ErrorCode.INVALID_RECORD: "a producer id without an epoch and a sequence",
    ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER: "the batch does not follow the last one of its producer",
    ErrorCode.DUPLICATE_SEQUENCE_NUMBER: "the batch was written before; its offset is forgotten",
    ErrorCode.INVALID_PRODUCER_EPOCH: "a newer epoch of the producer has written since",
    ErrorCode.UNKNOWN_PRODUCER_ID: "nothing of this producer is known here, and the batch is not its first",
    ErrorCode.THROTTLING_QUOTA_EXCEEDED: "as many producers as can be remembered have written recently",
}
_LOST = "; what was known of producers could not be recovered here"


class Repeat(NamedTuple):
    produce: Produce
    batch: KnownBatch


def admit(taken: list[Taken], log: PartitionLog, clock: Clock, refuse: Refuse) -> tuple[list[Taken], list[Repeat]]:
    """The batches to append, and the repetitions among `taken`.

    In order, each against the log's end as the ones before it leave it. Changes nothing: whether the append
    succeeds is not known yet.
    """
    if max([header[PRODUCER_ID] for _, _, header in taken]) < 0:
        return taken, []
    now_ms = clock.wall_ms()
    producers, next_index, next_offset = log.producers, log.last_index + 1, log.log_end_offset
    new: list[Taken] = []
    repeats: list[Repeat] = []
    changed: dict[int, ProducerState] = {}
    begun = 0
    run: list[Placed] = []  # batches of one producer that follow each other: most of a turn's do
    run_id = run_epoch = due = -1
    for each in taken:
        produce, _, header = each
        producer_id = header[PRODUCER_ID]
        if producer_id >= 0:
            if producer_id != run_id or header[BASE_SEQUENCE] != due or header[PRODUCER_EPOCH] != run_epoch:
                if run:
                    changed[run_id] = following(changed.get(run_id) or producers.get(run_id), run, now_ms)
                    run, run_id = [], -1
                state = changed.get(producer_id) or producers.get(producer_id)
                verdict = judge(state, header)
                if verdict is ErrorCode.NONE and state is None:
                    if producers.has_room(begun, now_ms):
                        begun += 1
                    else:
                        verdict = ErrorCode.THROTTLING_QUOTA_EXCEEDED
                if isinstance(verdict, KnownBatch):
                    repeats.append(Repeat(produce, verdict))
                    continue
                if verdict is not ErrorCode.NONE:
                    lost = verdict is ErrorCode.UNKNOWN_PRODUCER_ID and not producers.complete
                    refuse(produce, header, verdict, _WHY[verdict] + (_LOST if lost else ""))
                    continue
                run_id, run_epoch = producer_id, header[PRODUCER_EPOCH]
            run.append((header, next_offset, next_index))
            due = next_sequence(header)
        new.append(each)
        next_index += 1
        next_offset += header[LAST_OFFSET_DELTA] + 1
    return new, repeats


class WaitingForAcks(WaitingProduces):
    """Also acks=1, until the turn's sync, and those that repeat a batch, until that batch meets their acks."""

    def __init__(self) -> None:
        super().__init__()
        self._synced_next: list[tuple[Produce, int]] = []
        self._repeats: list[Repeat] = []

    def add(self, first_index: int, term: int, produces: list[Produce], base_offsets: list[int]) -> None:
        super().add(first_index, term, produces, base_offsets)
        for produce, base_offset in zip(produces, base_offsets, strict=True):
            if produce.acks == 1:
                self._synced_next.append((produce, base_offset))

    def add_repeat(self, repeat: Repeat) -> None:
        if repeat.produce.acks == 1:
            self._synced_next.append((repeat.produce, repeat.batch.base_offset))
        elif repeat.produce.acks < 0:
            self._repeats.append(repeat)
            self.count += 1
        else:
            repeat.produce.settle()

    def synced(self, answers: Answers) -> None:
        """What was added so far is durable on the leader."""
        for produce, base_offset in self._synced_next:
            answers.put(produce, ErrorCode.NONE, base_offset)
        self._synced_next.clear()

    def acknowledge(self, acked_index: int, answers: Answers) -> None:
        super().acknowledge(acked_index, answers)
        for produce, batch in self._take(lambda repeat: repeat.batch.raft_index <= acked_index):
            answers.put(produce, ErrorCode.NONE, batch.base_offset)

    def end_all(self, answers: Answers) -> None:
        super().end_all(answers)
        ended = [produce for produce, _ in self._synced_next + self._take(lambda repeat: True)]
        self._synced_next.clear()
        for produce in ended:
            answers.put(produce, ErrorCode.REQUEST_TIMED_OUT, -1, "leadership was lost; the outcome is unknown")

    def time_out(self, now_s: float, answers: Answers) -> None:
        super().time_out(now_s, answers)
        for produce, _ in self._take(lambda repeat: repeat.produce.deadline_s <= now_s):
            answers.put(produce, ErrorCode.REQUEST_TIMED_OUT, -1, "not acknowledged in time; the outcome is open")

    def refuse_all(self, code: ErrorCode, text: str, answers: Answers) -> None:
        super().refuse_all(code, text, answers)
        for produce, _ in self._take(lambda repeat: True):
            answers.put(produce, code, -1, text)

    def _take(self, ready: Callable[[Repeat], bool]) -> list[Repeat]:
        if not self._repeats:
            return []
        taken = [repeat for repeat in self._repeats if ready(repeat)]
        if taken:
            self._repeats = [repeat for repeat in self._repeats if not ready(repeat)]
            self.count -= len(taken)
        return taken
