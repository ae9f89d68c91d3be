"""Which producer id, epoch and sequence a batch is sent with, so that partitions write it once. No sockets.

A batch gets its numbers when it is first taken to be sent, and keeps them as long as it may have been written: then a
repetition is known for what it is. A sequence is *burnt* when its batch is given up, or when the partition does not
take it any more: what follows it would never be taken. Then, once nothing of that epoch can have been written without
its outcome being known, the partition's next epoch begins with sequence 0, and what was certainly not written is
numbered anew (KIP-360). Each partition counts epochs of its own: they mean nothing elsewhere.
"""

from __future__ import annotations

from typing import Any

from raftlog.client.core.call import CONTROLLER, Call, Calls
from raftlog.client.producer.batch import PendingBatch
from raftlog.errors import ClusterAuthorizationFailedError, RaftlogError
from raftlog.limits import ADMIN_TIMEOUT_MS, PRODUCER_ID_ATTEMPT_S, RETRY_BACKOFF_MAX_S
from raftlog.protocol import apis
from raftlog.protocol.records import InitProducerIdRequest

_SEQUENCES = 2**31  # behind the last one comes 0
_EPOCH_MAX = 2**15 - 1


class ProducerIds:
    """The id of one producer, asked for when it is first needed. Used by the client's thread."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._call: Call[Any, Any] | None = None
        self._retry_s = 0.0
        self._value: int | None = None
        self.error: RaftlogError | None = None  # why there is none yet

    def get(self, now_s: float) -> int | None:
        """None until the controller has answered."""
        if self._value is None and self._call is not None and self._call.future.done():
            call, self._call = self._call, None
            error = call.future.exception()
            if error is None:
                self._value = call.future.result()
            elif isinstance(error, RaftlogError):
                self.error, self._retry_s = error, now_s + RETRY_BACKOFF_MAX_S
            else:
                raise error
        if self._value is None and self._call is None and now_s >= self._retry_s:
            deadline_s = now_s + ADMIN_TIMEOUT_MS / 1000
            self._call = Call(
                "producer id",
                CONTROLLER,
                apis.INIT_PRODUCER_ID,
                InitProducerIdRequest(),
                lambda answer, _maybe_done: answer.producer_id,
                deadline_s=deadline_s,
                attempt_s=PRODUCER_ID_ATTEMPT_S,
            )
            self._calls.add(self._call)
        return self._value

    @property
    def refusal(self) -> RaftlogError | None:
        """Why there will be none, as the controller has just said: the user may not write."""
        refused = self._call is None and isinstance(self.error, ClusterAuthorizationFailedError)
        return self.error if refused else None

    def spent(self, producer_id: int) -> None:
        """Some partition has used up the epochs of this id."""
        if self._value == producer_id:
            self._value = None


class SequenceNumbers:
    """The numbers of one partition's batches. `burnt`: nothing new is numbered before the next epoch begins."""

    __slots__ = ("_next_sequence", "burnt", "epoch", "producer_id")

    def __init__(self) -> None:
        self.producer_id = -1  # not known yet
        self.epoch = 0
        self.burnt = False
        self._next_sequence = 0

    def begin(self, producer_id: int) -> None:
        self.producer_id = producer_id
        self.epoch = self._next_sequence = 0
        self.burnt = False

    def begin_next_epoch(self, ids: ProducerIds) -> None:
        """Nothing may be in flight, and nothing of the old epoch be of unknown outcome."""
        if self.epoch == _EPOCH_MAX:
            ids.spent(self.producer_id)
            self.producer_id = -1
            return
        self.epoch += 1
        self._next_sequence = 0
        self.burnt = False

    def number(self, batch: PendingBatch) -> None:
        """Gives the batch the next numbers, unless it has numbers that hold."""
        if self.has_numbered(batch):
            return
        batch.number(self.producer_id, self.epoch, self._next_sequence)
        self._next_sequence = (self._next_sequence + batch.count) % _SEQUENCES

    def has_numbered(self, batch: PendingBatch) -> bool:
        return batch.producer_id == self.producer_id and batch.producer_epoch == self.epoch

    def gave_up(self, batch: PendingBatch) -> None:
        """No further attempt is made, and the batch was not acknowledged."""
        if batch.producer_id >= 0 and self.has_numbered(batch):
            self.burnt = True
