"""Record batches as they are: read from a partition without unpacking them, and written to one, each once.

For copies of topics. A batch that is written has a producer's id and sequence like any other, so that asking again
writes it no second time.
"""

from __future__ import annotations

from raftlog.client.admin.requester import Requester, result_of
from raftlog.client.core.call import CONTROLLER, Call
from raftlog.clock import monotonic_s
from raftlog.errors import RaftlogError
from raftlog.limits import ADMIN_ATTEMPT_S, ADMIN_TIMEOUT_MS, COPY_FETCH_BYTES, COPY_REQUEST_S
from raftlog.protocol import apis
from raftlog.protocol.records import (
    FetchRequest,
    InitProducerIdRequest,
    InitProducerIdResponse,
    ProduceRequest,
    ProduceResult,
)
from raftlog.record.batch import numbered, read_header
from raftlog.types import TopicPartition

_SEQUENCES = 2**31  # a sequence goes on with 0 behind the last one
_ACKS_ALL = -1


class BatchReader(Requester):
    """Reads committed batches."""

    def read(self, place: TopicPartition, offset: int, *, verify: bool = False) -> bytes:
        """Whole batches from the one with `offset` on; empty where there is none yet. Fillers are batches too.

        `verify`: what was read before does not match its checksum; the leader looks at its disk.
        Raises OffsetOutOfRangeError, RequestTimedOutError.
        """
        call = Call(
            f"read {place}",
            place,
            apis.FETCH,
            FetchRequest(offset, COPY_FETCH_BYTES, verify=verify),
            deadline_s=monotonic_s() + COPY_REQUEST_S,
            attempt_s=ADMIN_ATTEMPT_S,
            read_payload=lambda answer, payload: bytes(payload),
        )
        self._engine.submit(call)
        data: bytes = result_of(call)
        return data


class BatchWriter(Requester):
    """Writes batches, those of a partition one after the other: in order, and each once.

    One producer, with a sequence for each partition. Threads may write to different partitions at the same time.
    """

    _producer = InitProducerIdResponse()

    def begin(self) -> None:
        """Call it once, BEFORE the first `write`."""
        self._producer = self._ask("get a producer id", CONTROLLER, apis.INIT_PRODUCER_ID, InitProducerIdRequest())

    def write(self, place: TopicPartition, batch: bytes, sequence: int) -> int:
        """Where it stands now. `sequence`: how many records this writer has written there. Raises RaftlogError."""
        producer = self._producer
        assert producer.producer_id >= 0, "begin comes first"
        sent = numbered(batch, producer.producer_id, producer.producer_epoch, sequence % _SEQUENCES)
        call: Call[ProduceRequest, ProduceResult] = Call(
            f"write to {place}",
            place,
            apis.PRODUCE,
            ProduceRequest(_ACKS_ALL, ADMIN_TIMEOUT_MS),
            deadline_s=monotonic_s() + COPY_REQUEST_S,
            attempt_s=ADMIN_ATTEMPT_S,
            payload=sent,
        )
        self._engine.submit(call)
        written: ProduceResult = result_of(call)
        if written.base_offset < 0:
            raise RaftlogError(f"{place}: a batch of {read_header(batch).record_count} records was written nowhere")
        return written.base_offset
