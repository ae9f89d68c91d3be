"""What a log knows of the idempotent producers that wrote to it. Pure: batch headers in, verdicts out.

An idempotent producer has an id and an epoch, and numbers its records in each partition: a batch carries the sequence
of its first record. From the newest batch of a producer follows which batch may come next, and from its last
PRODUCER_BATCHES_MAX ones where a batch that comes again stands already (KIP-98, KIP-360).

    no such producer     only sequence 0 may begin           else UNKNOWN_PRODUCER_ID
    an older epoch                                           INVALID_PRODUCER_EPOCH
    a newer epoch        only sequence 0 may begin           else OUT_OF_ORDER_SEQUENCE_NUMBER
    the same epoch       what follows the newest batch       is taken
                         one of the last batches again       is answered with its offset
                         an older one again                  DUPLICATE_SEQUENCE_NUMBER
                         anything else                       OUT_OF_ORDER_SEQUENCE_NUMBER

The table follows the log's end, and is a function of the log: knowing the batches of any *suffix* of it is safe, since
what is forgotten is refused. A hole is not: an older batch taken for the newest would let a later one in twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import NamedTuple

from raftlog.errors import ErrorCode
from raftlog.limits import PRODUCER_BATCHES_MAX, PRODUCER_CROWDED_IDLE_MS, PRODUCER_IDLE_MS, PRODUCERS_MAX
from raftlog.record.batch import (
    BASE_SEQUENCE,
    LAST_OFFSET_DELTA,
    PRODUCER_EPOCH,
    PRODUCER_ID,
    RECORD_COUNT,
    BatchHeader,
)

_SEQUENCES = 2**31  # behind the last one comes 0
_new = tuple.__new__

Placed = tuple[BatchHeader, int, int]
"""A batch with its base offset and Raft index."""


class KnownBatch(NamedTuple):
    first_sequence: int
    last_sequence: int
    base_offset: int
    raft_index: int


class ProducerState(NamedTuple):
    """One producer in one log. `batches`: the newest ones of its epoch, newest last, at least one.

    `taken_ms` is the wall clock of this replica when it took the newest: records may carry any time.
    """

    epoch: int
    taken_ms: int
    batches: tuple[KnownBatch, ...]


def judge(state: ProducerState | None, header: BatchHeader) -> KnownBatch | ErrorCode:
    """NONE: the batch may be appended. A KnownBatch: it stands there already."""
    epoch, first = header[PRODUCER_EPOCH], header[BASE_SEQUENCE]
    if epoch < 0 or first < 0:
        return ErrorCode.INVALID_RECORD
    if state is None:
        return ErrorCode.UNKNOWN_PRODUCER_ID if first else ErrorCode.NONE
    if epoch != state[0]:
        if epoch < state[0]:
            return ErrorCode.INVALID_PRODUCER_EPOCH
        return ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER if first else ErrorCode.NONE
    newest = state[2][-1][1]
    if first == (newest + 1) % _SEQUENCES:
        return ErrorCode.NONE
    last = _last_sequence(header)
    for known in state[2]:
        if known[0] == first and known[1] == last:
            return known
    # A batch that reaches beyond the newest is not in the log as a whole, wherever it begins.
    written = _is_at_or_before(first, newest) and _is_at_or_before(last, newest)
    return ErrorCode.DUPLICATE_SEQUENCE_NUMBER if written else ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def following(state: ProducerState | None, run: Sequence[Placed], now_ms: int) -> ProducerState:
    """The state once these batches, consecutive ones of one producer and epoch, are in the log.

    Whether they may be is judge's to say.
    """
    epoch = run[0][0][PRODUCER_EPOCH]
    newest = tuple(
        [
            _new(KnownBatch, (header[BASE_SEQUENCE], _last_sequence(header), base_offset, raft_index))
            for header, base_offset, raft_index in run[-PRODUCER_BATCHES_MAX:]
        ]
    )
    if state is not None and state[0] == epoch and len(newest) < PRODUCER_BATCHES_MAX:
        newest = (*state[2][len(newest) - PRODUCER_BATCHES_MAX :], *newest)
    return ProducerState(epoch, now_ms, newest)


def next_sequence(header: BatchHeader) -> int:
    """Of the batch that may follow."""
    return (header[BASE_SEQUENCE] + header[RECORD_COUNT]) % _SEQUENCES


def _last_sequence(header: BatchHeader) -> int:
    return (header[BASE_SEQUENCE] + header[LAST_OFFSET_DELTA]) % _SEQUENCES


def _is_at_or_before(sequence: int, newest: int) -> bool:
    return (newest - sequence) % _SEQUENCES < _SEQUENCES // 2


class Producers:
    """The producers of one log, in the order of their newest batches, which is the same on every replica.

    `complete`: nothing in front of what this log still holds was lost. A log whose head was deleted and whose
    snapshot cannot be read does not know who wrote there.
    """

    def __init__(self, states: dict[int, ProducerState] | None = None, *, complete: bool = True) -> None:
        self.states = states if states is not None else {}
        self.complete = complete

    def get(self, producer_id: int) -> ProducerState | None:
        return self.states.get(producer_id)

    @property
    def last_index(self) -> int:
        """Raft index of the newest batch of all; -1 when there is none."""
        for state in reversed(self.states.values()):
            return state.batches[-1].raft_index
        return -1

    def note(self, header: BatchHeader, base_offset: int, raft_index: int, now_ms: int) -> None:
        """A batch with a producer id is in the log."""
        self._note_run([(header, base_offset, raft_index)], now_ms)

    def note_all(
        self, headers: Sequence[BatchHeader], base_offsets: Iterable[int], first_index: int, now_ms: int
    ) -> None:
        """`note` for those of consecutive batches that have a producer id; a producer's batches in a row at once."""
        run: list[Placed] = []
        run_id = run_epoch = -1
        for place, base_offset in enumerate(base_offsets):
            header = headers[place]
            if header[PRODUCER_ID] < 0:
                continue
            if run and (header[PRODUCER_ID] != run_id or header[PRODUCER_EPOCH] != run_epoch):
                self._note_run(run, now_ms)
                run = []
            run_id, run_epoch = header[PRODUCER_ID], header[PRODUCER_EPOCH]
            run.append((header, base_offset, first_index + place))
        if run:
            self._note_run(run, now_ms)

    def _note_run(self, run: list[Placed], now_ms: int) -> None:
        states = self.states
        producer_id = run[0][0][PRODUCER_ID]
        states[producer_id] = following(states.pop(producer_id, None), run, now_ms)
        if len(states) > PRODUCERS_MAX:
            del states[next(iter(states))]  # the leader has seen to it that this one is idle

    def has_room(self, new: int, now_ms: int) -> bool:
        """Whether one more producer may begin, beside `new` others: those whom it would push out are long idle."""
        excess = len(self.states) + new + 1 - PRODUCERS_MAX
        if excess <= 0:
            return True
        pushed_out = next(islice(self.states.values(), excess - 1, None), None)
        return pushed_out is not None and now_ms - pushed_out.taken_ms >= PRODUCER_CROWDED_IDLE_MS

    def expire(self, now_ms: int) -> None:
        """Forgets those who wrote nothing for PRODUCER_IDLE_MS."""
        states = self.states
        while states:
            producer_id = next(iter(states))
            if now_ms - states[producer_id].taken_ms < PRODUCER_IDLE_MS:
                return
            del states[producer_id]

    def forget_all(self) -> None:
        """A part of the log could not be read: what was known in front of it may be out of date."""
        self.states.clear()
        self.complete = False
