"""The load client of the bench, a process of its own: `python -m raftlog_cli.bench_load`.

It stands between neither producer nor consumer and the cluster: batches are encoded before the clock
runs, fetched batches are not parsed, and `in_flight` requests are kept under way to each leader. A
latency is the time from handing a request to the socket to having its answer; at a fixed rate, the time
from when the request was due, so that what a slow answer holds back counts as late too.

    stdin   a Plan (JSON, one line); then "go" for the measured part
    stdout  a line after the warm-up; then a Result (JSON, one line)

It ends when stdin closes, so that the counters of its sockets can be read until then.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import time
from array import array
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from raftlog import Consumer
from raftlog.client.arguments import credentials
from raftlog.clock import SystemClock
from raftlog.errors import ErrorCode, RaftlogError, RequestTimedOutError, error_for
from raftlog.network import Context, Link, Poller, SecureLink, keep_freed_memory
from raftlog.protocol import apis
from raftlog.protocol.apis import Api
from raftlog.protocol.envelope import decode_response, encode_request
from raftlog.protocol.records import FetchRequest, ListOffsetsRequest, ProduceRequest
from raftlog.record.batch import BatchBuilder
from raftlog.types import LATEST_TIMESTAMP, Endpoint, TopicPartition

FETCH_BYTES = 1024 * 1024
_BATCHES = 16  # different ones, sent in turn, so that no cache sees the same bytes over and over
_REQUEST_TIMEOUT_MS = 30_000
_DRAIN_S = 30.0  # for what is under way at the end
_SILENT_S = 10.0  # a leader that answers nothing for this long ends the run
_LOOK_S = 0.002  # while a link is not connected yet, or its queue is full
_PACED_LOOK_S = 0.0001  # at a fixed rate, for answers
_POLL_RECORDS = 5_000


class Leader(msgspec.Struct, frozen=True):
    partition: int
    host: str
    port: int


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do.

    `mode`: "produce", "fill" (produce `records` to each partition and end), "fetch" (of `records` there) or "decode"
    (the same with a `Consumer`, which takes every record out of its batch).

    `take_bytes`: how much each run fetches, rounded up to a whole batch; 0 for as much as the time allows.
    `rate`: records a second that are offered to all leaders together; 0 for as many as `in_flight` allows.
    """

    mode: str
    bootstrap: str
    topic: str
    topic_id: bytes
    leaders: list[Leader]
    record_size: int
    batch_records: int
    in_flight: int
    acks: int
    warm_up_s: float
    seconds: float
    records: int = 0
    take_bytes: int = 0
    rate: int = 0


class Result(msgspec.Struct, kw_only=True):
    """Of the measured part. `latencies_ms` are p50, p99 and p999; None when nothing was answered.

    `drained`: records that were under way at its end, and answered later.
    """

    requests: int
    records: int
    seconds: float
    cpu_s: float
    p50_ms: float | None
    p99_ms: float | None
    p999_ms: float | None
    drained: int = 0
    error: str = ""


Frames = Sequence[bytes]


class Work(Protocol):
    """What is asked of one leader, and what its answers are worth."""

    def messages(self, correlation_id: int) -> list[Frames]:
        """What makes up the next request; empty when all were sent."""
        ...

    def answered(self, frames: list[bytes]) -> list[tuple[int, int]]:
        """(correlation id, records) of each request that is answered. Raises the error that came instead."""
        ...


class ProduceWork:
    def __init__(self, plan: Plan, partition: int, batches: list[bytes]) -> None:
        self._plan = plan
        self._partition = partition
        self._batches = batches
        self._request = ProduceRequest(acks=plan.acks, timeout_ms=_REQUEST_TIMEOUT_MS)
        self._left = -(-plan.records // plan.batch_records) if plan.mode == "fill" else -1

    def messages(self, correlation_id: int) -> list[Frames]:
        if self._left == 0:
            return []
        self._left -= 1
        return [self.produce(correlation_id)]

    def produce(self, correlation_id: int) -> Frames:
        header = encode_request(apis.PRODUCE, correlation_id, self._request, self._plan.topic_id, self._partition)
        return header, self._batches[correlation_id % _BATCHES]

    def answered(self, frames: list[bytes]) -> list[tuple[int, int]]:
        api, _, results = decode_response(frames[0])
        if api is not apis.PRODUCE:
            raise _unexpected(api, results)
        for result in results:
            if result.error_code:
                raise _unexpected(api, result)
        records = self._plan.batch_records
        return [(result.correlation_id, records) for result in results]


class UnansweredWork:
    """acks=0: rounds of `in_flight` batches and a question for the log's end, which bounds what is under way.

    What a round is worth is how far the end has moved since the round before.
    """

    def __init__(self, plan: Plan, partition: int, batches: list[bytes]) -> None:
        self._plan = plan
        self._partition = partition
        self._produce = ProduceWork(plan, partition, batches).produce
        self._end = -1

    def messages(self, correlation_id: int) -> list[Frames]:
        question = ListOffsetsRequest(timestamp_ms=LATEST_TIMESTAMP)
        header = encode_request(apis.LIST_OFFSETS, correlation_id, question, self._plan.topic_id, self._partition)
        return [*map(self._produce, range(self._plan.in_flight)), (header,)]

    def answered(self, frames: list[bytes]) -> list[tuple[int, int]]:
        api, number, response = decode_response(frames[0])
        if api is not apis.LIST_OFFSETS or response.error_code:
            raise _unexpected(api, response)
        moved = response.offset - self._end if self._end >= 0 else 0
        self._end = response.offset
        return [(number, moved)]


class FetchWork:
    """Fetches that follow each other without waiting: all batches are equally long, so offsets are known ahead.

    At the end of what was filled in it starts over at offset 0.
    """

    def __init__(self, plan: Plan, partition: int, batch_bytes: int) -> None:
        self._plan = plan
        self._partition = partition
        self._batch_bytes = batch_bytes
        self._batches = plan.records // plan.batch_records
        self._batches_per_fetch = max(1, FETCH_BYTES // batch_bytes)
        self._next_batch = 0
        self.asked_bytes = 0  # in this run

    def messages(self, correlation_id: int) -> list[Frames]:
        batches = self._batches_per_fetch
        if self._plan.take_bytes:
            batches = min(batches, -(-(self._plan.take_bytes - self.asked_bytes) // self._batch_bytes))
            if batches <= 0:
                return []
        offset = self._next_batch * self._plan.batch_records
        self._next_batch += batches
        self.asked_bytes += batches * self._batch_bytes
        if self._next_batch >= self._batches:
            self._next_batch = 0
        request = FetchRequest(offset=offset, max_bytes=batches * self._batch_bytes)
        return [(encode_request(apis.FETCH, correlation_id, request, self._plan.topic_id, self._partition),)]

    def answered(self, frames: list[bytes]) -> list[tuple[int, int]]:
        api, number, response = decode_response(frames[0])
        if api is not apis.FETCH or response.error_code:
            raise _unexpected(api, response)
        batches = sum(map(len, frames[1:])) // self._batch_bytes
        return [(number, batches * self._plan.batch_records)]


def _unexpected(api: Api[Any, Any] | None, response: Any) -> RaftlogError:
    code = getattr(response, "error_code", 0)
    if code:
        return error_for(code, response.error_text)
    return RaftlogError(f"{api} was answered, which was not asked")


class Pipe:
    """One leader, to which up to `limit` requests are under way.

    `interval_s`: one is due each time that it has passed; 0: as soon as there is room.
    """

    def __init__(self, link: Link | SecureLink, work: Work, limit: int, interval_s: float) -> None:
        self.link = link
        self._work = work
        self._limit = limit
        self._interval_s = interval_s
        self.due_s = 0.0
        self._unsent: deque[Frames] = deque()
        self._sending = -1
        self.started: dict[int, float] = {}

    def fill(self) -> bool:
        """False when the link takes no more although requests are left to send."""
        while self._unsent or len(self.started) < self._limit:
            if not self._unsent:
                if self._interval_s and self.due_s > time.perf_counter():
                    return True
                messages = self._work.messages(self._sending + 1)
                if not messages:
                    return True
                self._sending += 1
                self._unsent.extend(messages)
            now = time.perf_counter()
            if not self.link.send(self._unsent[0]):
                return False
            self._unsent.popleft()
            if not self._unsent:
                self.started[self._sending] = self.due_s if self._interval_s else now
                self.due_s += self._interval_s
        return True

    def drain(self, latencies_s: array[float]) -> tuple[int, int]:
        """Requests and records answered by now."""
        requests = records = 0
        if isinstance(self.link, SecureLink):
            self.link.watch()
        while (frames := self.link.receive()) is not None:
            now = time.perf_counter()
            for correlation_id, worth in self._work.answered(frames):
                latencies_s.append(now - self.started.pop(correlation_id))
                requests += 1
                records += worth
        return requests, records


class Load:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._context = Context()
        self._credentials = credentials(None)
        self._poller = Poller()
        batches = encode_batches(plan)
        self._unanswered = plan.acks == 0 and plan.mode == "produce"
        limit = 2 if self._unanswered else plan.in_flight
        interval_s = plan.batch_records * len(plan.leaders) / plan.rate if plan.rate else 0.0
        self._pipes: dict[int, Pipe] = {}
        self._fetches: list[FetchWork] = []
        for leader in plan.leaders:
            link = self._link(Endpoint(leader.host, leader.port))
            self._poller.register(link)
            self._pipes[id(link)] = Pipe(link, self._work(leader.partition, batches), limit, interval_s)

    def _link(self, endpoint: Endpoint) -> Link | SecureLink:
        return SecureLink(endpoint, self._credentials) if self._credentials else Link(self._context, endpoint)

    def _work(self, partition: int, batches: list[bytes]) -> Work:
        if self._plan.mode == "fetch":
            self._fetches.append(FetchWork(self._plan, partition, len(batches[0])))
            return self._fetches[-1]
        if self._unanswered:
            return UnansweredWork(self._plan, partition, batches)
        return ProduceWork(self._plan, partition, batches)

    def run(self, seconds: float) -> Result:
        """Keeps the pipes full for that long, or until all is sent; then waits for what is under way.

        Only what is answered before the end counts. Raises what a leader answered instead of success.
        """
        for fetch in self._fetches:
            fetch.asked_bytes = 0
        latencies_s = array("d")
        requests = records = 0
        cpu_s = time.process_time()
        start_s = heard_s = now_s = time.perf_counter()
        for pipe in self._pipes.values():
            pipe.due_s = start_s
        while now_s < start_s + seconds:
            filled = [pipe.fill() for pipe in self._pipes.values()]
            full = all(filled)
            if self._plan.rate:
                self._wait_until_due()
            elif not any(pipe.started for pipe in self._pipes.values()) and full:
                break  # all was sent and answered
            for ready in self._poller.poll(0.0 if self._plan.rate else 0.1 if full else _LOOK_S):
                answered, worth = self._pipes[id(ready)].drain(latencies_s)
                requests += answered
                records += worth
                heard_s = now_s
            now_s = time.perf_counter()
            if now_s - heard_s > _SILENT_S:
                raise RequestTimedOutError(f"no leader answered for {_SILENT_S:.0f} s")
        cpu_s = time.process_time() - cpu_s
        took_s = now_s - start_s
        counted = sorted(latencies_s)
        drained = self._drain()
        if self._unanswered:
            counted = []  # a round's time is no request's latency
            requests *= self._plan.in_flight
        return Result(
            requests=requests,
            records=records,
            seconds=took_s,
            cpu_s=cpu_s,
            p50_ms=percentile_ms(counted, 0.5),
            p99_ms=percentile_ms(counted, 0.99),
            p999_ms=percentile_ms(counted, 0.999),
            drained=drained,
        )

    def _wait_until_due(self) -> None:
        """The next request, or for a short time where there is no room: a poll would wait for whole milliseconds."""
        wait_s = min(pipe.due_s for pipe in self._pipes.values()) - time.perf_counter()
        time.sleep(wait_s if 0 < wait_s < _PACED_LOOK_S else _PACED_LOOK_S)

    def _drain(self) -> int:
        """Records answered meanwhile."""
        end_s = time.perf_counter() + _DRAIN_S
        ignored = array("d")
        records = 0
        while any(pipe.started for pipe in self._pipes.values()):
            if time.perf_counter() > end_s:
                raise RequestTimedOutError(f"requests were not answered within {_DRAIN_S:.0f} s")
            for ready in self._poller.poll(0.1):
                records += self._pipes[id(ready)].drain(ignored)[1]
        return records


class Decoding:
    """A consumer of all partitions, which begins again wherever it has read what was filled in."""

    def __init__(self, plan: Plan, consumer: Consumer) -> None:
        self._places = [TopicPartition(plan.topic, leader.partition) for leader in plan.leaders]
        self._end = plan.records
        self._consumer = consumer
        consumer.assign(self._places)
        for place in self._places:
            consumer.seek(place, 0)

    def run(self, seconds: float) -> Result:
        records = 0
        cpu_s = time.process_time()
        start_s = heard_s = now_s = time.perf_counter()
        while now_s < start_s + seconds:
            polled = self._consumer.poll(timeout_ms=200, max_records=_POLL_RECORDS)
            now_s = time.perf_counter()
            if polled:
                heard_s = now_s
            elif now_s - heard_s > _SILENT_S:
                raise RequestTimedOutError(f"no leader answered for {_SILENT_S:.0f} s")
            for place, found in polled.items():
                records += len(found)
                if found[-1].offset >= self._end - 1:
                    self._consumer.seek(place, 0)
        return Result(
            requests=0,
            records=records,
            seconds=now_s - start_s,
            cpu_s=time.process_time() - cpu_s,
            p50_ms=None,
            p99_ms=None,
            p999_ms=None,
        )


def encode_batches(plan: Plan) -> list[bytes]:
    """Batches of random values, all equally long."""
    batches = []
    now_ms = SystemClock().wall_ms()  # one for all: a delta of another width would make another length
    for _ in range(_BATCHES):
        builder = BatchBuilder()
        for _ in range(plan.batch_records):
            taken = builder.append(now_ms, None, os.urandom(plan.record_size))
            assert taken, "more than one batch can hold"
        batches.append(builder.build())
    return batches


def percentile_ms(ordered_s: Sequence[float], share: float) -> float | None:
    """Nearest rank, of seconds in rising order; None of nothing."""
    if not ordered_s:
        return None
    return 1000 * ordered_s[min(len(ordered_s) - 1, math.ceil(share * len(ordered_s)) - 1)]


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the whole group; the parent ends us
    line = sys.stdin.buffer.readline()
    if not line:
        return  # the parent has gone
    plan = msgspec.json.decode(line, type=Plan)
    keep_freed_memory()
    try:
        with contextlib.ExitStack() as stack:
            load: Load | Decoding
            if plan.mode == "decode":
                load = Decoding(plan, stack.enter_context(Consumer(bootstrap_servers=plan.bootstrap)))
            else:
                load = Load(plan)
            if plan.warm_up_s:
                load.run(plan.warm_up_s)
            print("warm", flush=True)
            if not sys.stdin.buffer.readline():
                return
            result = load.run(plan.seconds)
    except RaftlogError as error:
        text = str(error) or ErrorCode(error.code).name
        result = Result(requests=0, records=0, seconds=0, cpu_s=0, p50_ms=None, p99_ms=None, p999_ms=None, error=text)
    print(msgspec.json.encode(result).decode(), flush=True)
    sys.stdin.buffer.read()


if __name__ == "__main__":
    main()
