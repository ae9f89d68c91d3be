"""Kafka's clients of the simulator, as small as can be: an idempotent producer and a reader, in bytes.

    Metadata 7    who leads, in which epoch
    Produce 8     numbered batches, five in flight; whatever is not acknowledged is sent again, in order
    Fetch 11      from one offset to the next, with a fetch session or without, with the leader's epoch or without

Each has one connection at a time, and expects answers in the order of its requests.
"""

from __future__ import annotations

import random
import struct
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from raftlog.errors import CorruptMessageError, ErrorCode
from raftlog.kafka.codes import KafkaCode
from raftlog.record.batch import BatchBuilder, decode
from raftlog.simulator.invariants import Broken
from raftlog.simulator.keyed_records import held

if TYPE_CHECKING:
    from raftlog.protocol.body import ResponseBody
    from raftlog.protocol.envelope import Request
    from raftlog.protocol.records import ProduceResult
    from raftlog.simulator.kafka_door import Pipe, SimulatedDoor
    from raftlog.simulator.world import World

_PRODUCE, _FETCH, _METADATA = (0, 8), (1, 11), (3, 7)
_TIMEOUT_S = 3.0
_AGAIN_S = 0.1
_UNACKED_MAX = 5
_DUPLICATE_SEQUENCE = 46
_OUT_OF_ORDER = (45, 59)  # a sequence that does not follow; a producer that is not known
_RETRIED = frozenset({3, 5, 6, 7, 19, 20, 56, 74, 75, 78, *_OUT_OF_ORDER})
_NO_OFFSET = -1


class _Fields:
    """Reads an answer from its beginning to its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, form: str) -> int:
        (value,) = struct.unpack_from(">" + form, self._data, self._at)
        self._at += struct.calcsize(form)
        return int(value)

    def bytes(self, size_form: str) -> bytes:
        size = max(0, self.take(size_form))
        self._at += size
        return self._data[self._at - size : self._at]

    def skip(self, forms: str) -> None:
        self._at += struct.calcsize(">" + forms)


class _Written(NamedTuple):
    error_code: int
    base_offset: int


class _Fetched(NamedTuple):
    """What an answer to a fetch says of the partition.

    `high_watermark` None: the answer has nothing of the partition.
    """

    error_code: int
    session_id: int
    high_watermark: int | None
    records: bytes


def _read_leader(fields: _Fields) -> tuple[int, int]:
    """(node, epoch); node -1: nobody."""
    fields.skip("i")
    for _ in range(fields.take("i")):
        fields.skip("i")
        fields.bytes("h")
        fields.skip("i")
        fields.bytes("h")
    fields.bytes("h")
    fields.skip("i")
    for _ in range(fields.take("i")):
        fields.skip("h")
        fields.bytes("h")
        fields.skip("b")
        for _ in range(fields.take("i")):
            fields.skip("hi")
            return fields.take("i"), fields.take("i")
    return -1, -1


def _read_written(fields: _Fields) -> _Written:
    fields.skip("i")
    fields.bytes("h")
    fields.skip("ii")
    return _Written(fields.take("h"), fields.take("q"))


def _read_fetched(fields: _Fields) -> _Fetched:
    fields.skip("i")
    code, session_id = fields.take("h"), fields.take("i")
    if code or not fields.take("i"):
        return _Fetched(code, session_id, None, b"")
    fields.bytes("h")
    fields.skip("ii")
    code, high_watermark = fields.take("h"), fields.take("q")
    fields.skip("qqii")
    return _Fetched(code, session_id, high_watermark, fields.bytes("i"))


class KafkaClient:
    """Looks for the leader, and for another one whenever it is sent away or hears nothing."""

    def __init__(self, name: str, world: World, doors: dict[int, SimulatedDoor], rng: random.Random) -> None:
        self.name = name
        self.stopped = False
        self._world = world
        self._events = world.events
        self._doors = doors
        self._rng = rng
        self._pipe: Pipe | None = None
        self._node = 0
        self._epoch = -1
        self._last_id = 0
        self._awaited: deque[tuple[int, Callable[[_Fields], None]]] = deque()
        self._events.after(rng.random(), self._look_for_leader)

    # --- one connection ----------------------------------------------------------------------------
    def _connect(self, node: int) -> bool:
        self._leave()
        self._node = node
        self._pipe = self._doors[node].accept(self, self._rng)
        return self._pipe is not None

    def _leave(self) -> None:
        if self._pipe is not None:
            self._pipe.leave()
        self._pipe = None
        self._awaited.clear()

    def _ask(self, api: tuple[int, int], body: bytes, told: Callable[[_Fields], None]) -> None:
        assert self._pipe is not None
        self._last_id = number = self._last_id + 1
        name = self.name.encode()
        frame = struct.pack(">hhih", *api, number, len(name)) + name + body
        self._awaited.append((number, told))
        pipe = self._pipe
        pipe.asked.append((number, api))
        pipe.send(struct.pack(">i", len(frame)) + frame)
        self._events.after(_TIMEOUT_S, lambda: self._give_up(pipe, number))

    def _give_up(self, pipe: Pipe, number: int) -> None:
        if pipe is self._pipe and any(number == awaited for awaited, _ in self._awaited):
            self.on_broken(pipe)

    def on_broken(self, pipe: Pipe) -> None:
        if pipe is self._pipe:
            self._leave()
            self._again()

    def _again(self, delay_s: float = 0.0) -> None:
        """The leader is another one, or none, or out of reach."""
        self._leave()
        self._events.after(delay_s + self._rng.random() * _AGAIN_S, self._look_for_leader)

    def _look_for_leader(self) -> None:
        if self._pipe is not None:
            return
        if not self._connect(self._rng.choice(self._world.node_ids)):
            self._again()
            return
        topic = self._topic
        self._ask(_METADATA, struct.pack(">i", 1) + topic + b"\0", self._found)

    def _found(self, fields: _Fields) -> None:
        node, self._epoch = _read_leader(fields)
        if node > 0 and (node == self._node or self._connect(node)):
            self._begin()
        else:
            self._again(_AGAIN_S)

    @property
    def _topic(self) -> bytes:
        name = self._world.spec.topic.encode()
        return struct.pack(">h", len(name)) + name

    def _begin(self) -> None:
        """It is connected to whoever leads, as far as it was told."""
        raise NotImplementedError

    # --- answers -----------------------------------------------------------------------------------
    def on_leaving(self, pipe: Pipe, answers: bytes) -> None:
        for fields in _split(answers):
            number = fields.take("i")
            due, api = pipe.asked.popleft()
            if number != due:
                raise Broken("diverged", f"{self.name} was answered request {number} where {due} was due")
            self._judge(api, fields)

    def _judge(self, api: tuple[int, int], fields: _Fields) -> None:
        """What this answer says has to be true when it leaves its door."""
        invariants = self._world.invariants
        if api == _PRODUCE:
            written = _read_written(fields)
            if not written.error_code and written.base_offset >= 0:
                invariants.on_acknowledged(written.base_offset)
        elif api == _FETCH:
            fetched = _read_fetched(fields)
            if fetched.high_watermark is not None and not fetched.error_code:
                invariants.on_bound(fetched.high_watermark)

    def on_answers(self, pipe: Pipe, answers: bytes) -> None:
        for fields in _split(answers):
            if pipe is not self._pipe:
                return  # it has left this connection meanwhile
            fields.skip("i")
            _, told = self._awaited.popleft()
            told(fields)

    def on_response(self, request: Request[Any], response: ResponseBody, payload: bytes | None) -> None:
        raise AssertionError("its answers come through a door")

    def on_produced(self, results: list[ProduceResult]) -> None:
        raise AssertionError("its answers come through a door")

    def waits_for_all(self, correlation_id: int) -> bool:
        raise AssertionError("its answers come through a door")


def _split(answers: bytes) -> list[_Fields]:
    """Each answer without its length."""
    found = []
    while answers:
        end = 4 + struct.unpack_from(">i", answers)[0]
        found.append(_Fields(answers[4:end]))
        answers = answers[end:]
    return found


# --- producer --------------------------------------------------------------------------------------
class KafkaProducer(KafkaClient):
    """Never gives up: in the end all that it has sent is there, once and in order."""

    def __init__(
        self, name: str, producer_id: int, world: World, doors: dict[int, SimulatedDoor], rng: random.Random
    ) -> None:
        super().__init__(name, world, doors, rng)
        self.acked_count = 0
        self._producer_id = producer_id
        self._think_s = rng.choice((0.01, 0.05, 0.2))
        self._window = rng.choice((1, 3, 5))
        self._next_batch = self._next_sequence = 0
        self._unacked: dict[int, tuple[bytes, int]] = {}  # number -> batch and its records, in order
        self._in_flight: list[int] = []
        self._rewinds = False  # once nothing is in flight all is sent again
        self._events.after(rng.random(), self._next)

    def _next(self) -> None:
        if self.stopped:
            return
        if len(self._unacked) < 2 * _UNACKED_MAX:
            self._unacked[self._next_batch] = self._made(self._next_batch)
            self._next_batch += 1
            self._pump()
        self._events.after(self._rng.expovariate(1 / self._think_s), self._next)

    def _made(self, number: int) -> tuple[bytes, int]:
        records = self._rng.choice((1, 1, 2, 5))
        builder = BatchBuilder()
        for place in range(records):
            value = self._value(number) + b"%d:" % place + bytes(self._rng.choice((0, 50, 2000)))
            builder.append(1_700_000_000_000 + number, None, value)
        builder.number(self._producer_id, 0, self._next_sequence)
        self._next_sequence += records
        return builder.build(), records

    def _value(self, number: int) -> bytes:
        return b"%s:%d:" % (self.name.encode(), number)

    def _begin(self) -> None:
        self._in_flight.clear()
        self._rewinds = False
        self._pump()

    def _leave(self) -> None:
        super()._leave()
        self._rewinds = True  # until it is connected to a leader again nothing is sent

    def _pump(self) -> None:
        if self._pipe is None or self._rewinds:
            return
        for number, (batch, _) in list(self._unacked.items()):
            if number in self._in_flight:
                continue
            if len(self._in_flight) >= self._window:
                return
            self._in_flight.append(number)
            timeout_ms = int(_TIMEOUT_S * 1000)
            body = struct.pack(">hhii", -1, -1, timeout_ms, 1) + self._topic
            body += struct.pack(">iii", 1, 0, len(batch)) + batch
            self._ask(_PRODUCE, body, lambda fields, number=number: self._written(number, _read_written(fields)))  # type: ignore[misc]

    def _written(self, number: int, written: _Written) -> None:
        self._in_flight.remove(number)
        code = written.error_code
        if code in (ErrorCode.NONE, _DUPLICATE_SEQUENCE):
            self._take(number, written.base_offset)
        elif code not in _RETRIED:
            raise Broken("stuck", f"batch {number} of {self.name} was refused with {code}")
        elif code in _OUT_OF_ORDER and number == next(iter(self._unacked)) and not self._rewinds:
            raise Broken("lost", f"batch {number} of {self.name}, whose predecessors are acknowledged, does not follow")
        else:
            self._rewinds = True
        if not self._rewinds:
            self._pump()
        elif not self._in_flight:
            self._again()

    def _take(self, number: int, base_offset: int) -> None:
        _, records = self._unacked.pop(number)
        self.acked_count += 1
        if base_offset != _NO_OFFSET:
            mine = (self._value(number), records)
            known = self._world.acked.setdefault(base_offset, mine)
            if known != mine:
                raise Broken("diverged", f"offset {base_offset} was given to {known[0]!r} and {mine[0]!r}")

    def judge(self, contents: dict[int, bytes]) -> None:
        """Once each, in the order of sending."""
        prefix = self.name.encode() + b":"
        parts = [value.split(b":") for _, value in sorted(contents.items()) if value.startswith(prefix)]
        found = [(int(each[1]), int(each[2])) for each in parts]
        if found != sorted(set(found)):
            raise Broken("diverged", f"records of {self.name} are doubled or out of order")


# --- reader ----------------------------------------------------------------------------------------
class KafkaReader(KafkaClient):
    """A client that reads through Kafka's door. `due` is the offset that has to come next."""

    def __init__(self, name: str, world: World, doors: dict[int, SimulatedDoor], rng: random.Random) -> None:
        super().__init__(name, world, doors, rng)
        self.due = 0
        self._knows_epochs = rng.random() < 0.5
        self._wants_session = rng.random() < 0.5
        self._session_id = self._session_epoch = 0
        self._max_bytes = rng.choice((1000, 10_000, 1 << 20))
        self._wait_ms = rng.choice((50, 100, 500))

    def at_end(self, end_offset: int) -> bool:
        return self.due >= end_offset

    def _begin(self) -> None:
        self._session_id, self._session_epoch = 0, 0 if self._wants_session else -1
        self._fetch()

    def _fetch(self) -> None:
        body = struct.pack(">iiiib", -1, self._wait_ms, 1, 1 << 20, 0)
        body += struct.pack(">iii", self._session_id, self._session_epoch, 1) + self._topic
        epoch = self._epoch if self._knows_epochs else -1
        body += struct.pack(">iiiqqi", 1, 0, epoch, self.due, -1, self._max_bytes)
        self._ask(_FETCH, body + struct.pack(">ih", 0, 0), lambda fields: self._fetched(_read_fetched(fields)))

    def _fetched(self, fetched: _Fetched) -> None:
        code = fetched.error_code
        if code == ErrorCode.OFFSET_OUT_OF_RANGE:
            raise Broken("lost", f"{self.name} was told that {self.due} is out of range")
        if code in (KafkaCode.FETCH_SESSION_ID_NOT_FOUND, KafkaCode.INVALID_FETCH_SESSION_EPOCH):
            self._begin()
            return
        if code:
            if code not in _RETRIED:
                raise Broken("stuck", f"{self.name} was refused with {code}")
            self._again(_AGAIN_S)
            return
        self._take(fetched.records)
        if self._wants_session:
            self._session_id, self._session_epoch = fetched.session_id, self._session_epoch + 1
        if self._rng.random() < 0.02:
            self._again()  # as a process that is started again, and goes on where this one was
        else:
            self._fetch()

    def _take(self, records: bytes) -> None:
        try:
            found = list(decode(records)) if records else []
        except CorruptMessageError:
            return  # of a damaged disk, and asked for again
        for record in found:
            if record.offset < self.due:
                continue  # a batch begins in front of what was asked for
            if record.offset > self.due:
                raise Broken("lost", f"{self.name} was given {record.offset} where {self.due} was due")
            name = held(record).name
            known = self._world.read.setdefault(record.offset, name)
            if known != name:
                raise Broken("diverged", f"offset {record.offset} was read as {known!r} and as {name!r}")
            self.due += 1
