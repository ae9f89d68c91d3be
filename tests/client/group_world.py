"""A group in virtual time: the real coordinator, and members that are whole clients up to their sockets.

Each message is delayed or lost, seeded. A member may be paused, which stops its thread and its user, killed, or slow to
poll. After every event no partition may be handed out by two members, the paused ones included: as soon as it wakes one
hands out what its own clock still allows. Nobody seeks, so that no committed offset may ever go backwards.
"""

from __future__ import annotations

import heapq
import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from raftlog.coordinator.coordinator import Coordinator
from raftlog.errors import ErrorCode
from raftlog.machine.result import Now, Record, Result
from raftlog.protocol import groups as g
from raftlog.protocol.cluster import MetadataRequest, MetadataResponse, NodeMetadata, PartitionMetadata, TopicMetadata
from raftlog.protocol.envelope import Request
from raftlog.protocol.records import FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse
from raftlog.record.batch import encode, stamp
from raftlog.types import LATEST_TIMESTAMP, OFFSETS_TOPIC, Endpoint, TopicPartition
from tests.client.fake_wire import NODE, WORKER_A, WORKER_B
from tests.client.group_member import Member

OFFSETS_ID = b"offsets topic id"


class World:
    def __init__(self, seed: int, topics: dict[str, int], *, loss: float = 0.0, delay_s: float = 0.01) -> None:
        self.rng = random.Random(seed)
        self.now_s = 1000.0
        self.loss = loss
        self.delay_s = delay_s
        self.topics = dict(topics)
        self.producing = True
        self.reset_policy = "earliest"
        self.raising = 0.0  # so often a callback raises
        self.produced: dict[TopicPartition, int] = defaultdict(int)
        self.members: list[Member] = []
        self.read: dict[TopicPartition, list[tuple[int, str]]] = defaultdict(list)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._waiting: dict[TopicPartition, list[Request[FetchRequest]]] = {}
        self._order = 0
        self._ids = 0
        self._log: list[Record] = []
        self.coordinator: Coordinator | None = None
        self._tick_s = float("inf")
        self.elect()

    # --- time ----------------------------------------------------------------------------------
    def at(self, time_s: float, do: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._events, (max(time_s, self.now_s), self._order, do))

    def run(self, seconds: float) -> None:
        self.run_until(lambda: False, seconds)

    def run_until(self, found: Callable[[], bool], seconds: float) -> bool:
        end_s = self.now_s + seconds
        while not found():
            if not self._events or self._events[0][0] > end_s:
                self.now_s = max(self.now_s, end_s)
                return found()
            time_s, _, do = heapq.heappop(self._events)
            self.now_s = max(self.now_s, time_s)
            do()
            self.check()
        return True

    def check(self) -> None:
        owners: dict[TopicPartition, str] = {}
        for member in self.members:
            for place in member.may_hand_out():
                other = owners.setdefault(place, member.name)
                assert other == member.name, f"{self.now_s}: {place} is handed out by {other} and {member.name}"

    # --- records -------------------------------------------------------------------------------
    def produce_every(self, seconds: float) -> None:
        def produce() -> None:
            if not self.producing:
                return
            for topic, count in self.topics.items():
                for partition in range(count):
                    self.produced[TopicPartition(topic, partition)] += 1
                    for request in self._waiting.pop(TopicPartition(topic, partition), []):
                        self._fetch(request, self.now_s)
            self.at(self.now_s + seconds, produce)

        produce()

    def missed(self) -> dict[TopicPartition, list[int]]:
        return {
            place: missing
            for place, end in self.produced.items()
            if (missing := sorted(set(range(end)) - {offset for offset, _ in self.read[place]}))
        }

    # --- the coordinator -----------------------------------------------------------------------
    def elect(self) -> None:
        """Another coordinator, which knows what is in the log."""
        if self.coordinator is not None:
            self._unload(self.coordinator)
        self.coordinator = Coordinator(self._mint)
        for key, value in self._log:
            self.coordinator.apply(0, key, value)
        self.coordinator.load(self._now())
        self._flush()

    def depose(self) -> None:
        """For a while nobody coordinates."""
        assert self.coordinator is not None
        self._unload(self.coordinator)
        self.coordinator = None
        self.at(self.now_s + self.rng.uniform(0.1, 3.0), lambda: self.coordinator or self.elect())

    def _unload(self, coordinator: Coordinator) -> None:
        """What is on its way to the log, or has not left yet, is not done."""
        coordinator.unload(self._now())
        for result in coordinator.outbox.take():
            if result.records:
                self._finish(coordinator, result, ErrorCode.NOT_LEADER_OR_FOLLOWER)
            else:
                self._answer(result, result.response)

    def _finish(self, coordinator: Coordinator, result: Result, code: ErrorCode) -> None:
        coordinator.outbox.finish(result, code, self._now())
        if result.caller is not None:
            refusal = coordinator.refusal(result.caller, code)
            self._answer(result, refusal if code else result.response)

    def _answer(self, result: Result, response: Any) -> None:
        assert result.caller is not None
        self._member_of(result.caller).answer(WORKER_B, result.caller, response)

    def _mint(self, name: str) -> str:
        self._ids += 1
        return f"{name}-{self._ids}"

    def _wall_ms(self) -> int:
        return int(self.now_s * 1000)

    def _now(self) -> Now:
        return Now(self.now_s, self._wall_ms())

    def _tick(self) -> None:
        if self.coordinator is not None and self.coordinator.next_deadline_s <= self.now_s:
            self.coordinator.tick(self._now())
            self._flush()

    def _flush(self) -> None:
        assert self.coordinator is not None
        for result in self.coordinator.outbox.take():
            if result.records:
                self._commit(self.coordinator, result)
            else:
                self._answer(result, result.response)
        due_s = self.coordinator.next_deadline_s
        if due_s < self._tick_s or self._tick_s <= self.now_s:
            self._tick_s = due_s
            self.at(min(due_s, self.now_s + 1000.0), self._tick)

    def _commit(self, coordinator: Coordinator, result: Result) -> None:
        def committed() -> None:
            if self.coordinator is not coordinator:
                return
            before = self._committed(coordinator)
            for key, value in result.records:
                self._log.append((key, value))
                coordinator.apply(0, key, value)
            for key, offset in self._committed(coordinator).items():
                assert before.get(key, 0) <= offset, f"{self.now_s}: {key!r} went from {before[key]} back to {offset}"
            self._finish(coordinator, result, ErrorCode.NONE)
            self._flush()

        self.at(self.now_s + 0.005, committed)

    def _committed(self, coordinator: Coordinator) -> dict[bytes, int]:
        found = {key: coordinator.committed.offset(key) for key in coordinator.committed.offset_keys("group")}
        return {key: value.offset for key, value in found.items() if value is not None}

    # --- requests ------------------------------------------------------------------------------
    def _member_of(self, request: Request[Any]) -> Member:
        member = request.session.connection
        assert isinstance(member, Member)
        return member

    def serve(self, endpoint: Endpoint, request: Request[Any]) -> None:
        response: Any
        match body := request.body:
            case MetadataRequest():
                response = self._metadata([*self.topics, OFFSETS_TOPIC] if body.topics is None else body.topics)
            case g.FindCoordinatorRequest():
                response = g.FindCoordinatorResponse(topic_id=OFFSETS_ID, partitions=1)
            case ListOffsetsRequest():
                end = self.produced[_place(request)]
                offset = end if body.timestamp_ms == LATEST_TIMESTAMP else 0
                response = ListOffsetsResponse(offset=offset, leader_epoch=1)
            case FetchRequest():
                self._fetch(request, self.now_s + body.max_wait_ms / 1000)
                return
            case _:
                if self.coordinator is None:
                    response = request.api.refusal(ErrorCode.NOT_COORDINATOR)
                else:
                    self.coordinator.on_request(request, self._now())
                    self._flush()
                    return
        self._member_of(request).answer(endpoint, request, response)

    def _fetch(self, request: Request[FetchRequest], until_s: float) -> None:
        place, offset = _place(request), request.body.offset
        end = self.produced[place]
        if offset >= end and self.now_s < until_s:
            self._waiting.setdefault(place, []).append(request)
            self.at(until_s, lambda: self._end_wait(place, request))
            return
        found = [
            stamp(encode([(self._wall_ms(), None, b"x")]), offset, 1) for offset in range(offset, min(end, offset + 50))
        ]
        response = FetchResponse(high_watermark=end, log_start_offset=0, leader_epoch=1)
        self._member_of(request).answer(WORKER_A, request, response, b"".join(found))

    def _end_wait(self, place: TopicPartition, request: Request[FetchRequest]) -> None:
        if request in self._waiting.get(place, []):
            self._waiting[place].remove(request)
            self._fetch(request, self.now_s)

    def _metadata(self, names: Iterable[str]) -> MetadataResponse:
        topics = []
        for name in names:
            count = 1 if name == OFFSETS_TOPIC else self.topics.get(name, 0)
            endpoint = WORKER_B if name == OFFSETS_TOPIC else WORKER_A
            topics.append(
                TopicMetadata(
                    name=name,
                    topic_id=topic_id(name) if count else b"",
                    error_code=0 if count else int(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
                    partitions=[
                        PartitionMetadata(
                            partition=number, leader_id=1, leader_epoch=1, endpoint=endpoint, replicas=[1], in_sync=[1]
                        )
                        for number in range(count)
                    ],
                    config={},
                )
            )
        node = NodeMetadata(node_id=1, endpoint=NODE, alive=True, voter=True)
        return MetadataResponse(cluster_id="c", nodes=[node], topics=topics, controller=NODE, confirmed=True)

    # --- members -------------------------------------------------------------------------------
    def join(self, name: str, topics: Iterable[str] | None = None, **options: Any) -> Member:
        member = Member(self, name, tuple(self.topics) if topics is None else tuple(topics), **options)
        self.members.append(member)
        return member

    def owners(self) -> dict[TopicPartition, str]:
        return {place: member.name for member in self.members for place in member.membership.owned}


def topic_id(name: str) -> bytes:
    return OFFSETS_ID if name == OFFSETS_TOPIC else name.encode().ljust(16, b"-")


def _place(request: Request[Any]) -> TopicPartition:
    return TopicPartition(request.topic_id.rstrip(b"-").decode(), request.partition)
