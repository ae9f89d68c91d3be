"""A group in virtual time: the real coordinator, and members that are whole clients up to their sockets.

Each message is delayed or lost, seeded. A member may be paused, which stops its thread and its user, killed, or slow to
poll. After every event no partition may be handed out by two members, the paused ones included: as soon as it wakes one
hands out what its own clock still allows.
"""

from __future__ import annotations

import heapq
import random
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any

from raftlog.client.assignors import ASSIGNORS
from raftlog.client.calls import Calls
from raftlog.client.exchange import Exchange
from raftlog.client.fetcher import Fetcher
from raftlog.client.group import Group
from raftlog.client.group_reader import GroupReader
from raftlog.client.membership import Membership
from raftlog.client.metadata import MetadataCache
from raftlog.client.refresher import Refresher
from raftlog.coordinator.coordinator import Coordinator
from raftlog.coordinator.outbox import Proposal
from raftlog.errors import ErrorCode
from raftlog.protocol import codec
from raftlog.protocol import groups as g
from raftlog.protocol.messages import (
    FetchRequest,
    FetchResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    MetadataRequest,
    MetadataResponse,
    NodeMetadata,
    PartitionMetadata,
    TopicMetadata,
)
from raftlog.record.batch import encode, stamp
from raftlog.types import LATEST_TIMESTAMP, OFFSETS_TOPIC, Endpoint, TopicPartition
from tests.client.fake_wire import NODE, WORKER_A, WORKER_B, FakeWire

OFFSETS_ID = b"offsets topic id"
SESSION_S = 10.0
MAX_POLL_S = 60.0
FETCH_WAIT_MS = 20_000


class World:
    def __init__(self, seed: int, topics: dict[str, int], *, loss: float = 0.0, delay_s: float = 0.01) -> None:
        self.rng = random.Random(seed)
        self.now_s = 1000.0
        self.loss = loss
        self.delay_s = delay_s
        self.topics = dict(topics)
        self.producing = True
        self.produced: dict[TopicPartition, int] = defaultdict(int)
        self.members: list[Member] = []
        self.read: dict[TopicPartition, list[tuple[int, str]]] = defaultdict(list)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._waiting: dict[TopicPartition, list[tuple[Member, FetchRequest]]] = {}
        self._order = 0
        self._ids = 0
        self._log: list[tuple[bytes, bytes | None]] = []
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
                    for member, request in self._waiting.pop(TopicPartition(topic, partition), []):
                        self._fetch(member, request, self.now_s)
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
            self.coordinator.unload(self.now_s)
            self._flush()
        self.coordinator = Coordinator(self._mint)
        for key, value in self._log:
            self.coordinator.committed.apply(key, value)
        self.coordinator.load(self.now_s, self._wall_ms())
        self._flush()

    def depose(self) -> None:
        """For a while nobody coordinates."""
        assert self.coordinator is not None
        self.coordinator.unload(self.now_s)
        self._flush()
        self.coordinator = None
        self.at(self.now_s + self.rng.uniform(0.1, 3.0), lambda: self.coordinator or self.elect())

    def _mint(self, name: str) -> str:
        self._ids += 1
        return f"{name}-{self._ids}"

    def _wall_ms(self) -> int:
        return int(self.now_s * 1000)

    def _tick(self) -> None:
        if self.coordinator is not None and self.coordinator.next_deadline_s <= self.now_s:
            self.coordinator.tick(self.now_s, self._wall_ms())
            self._flush()

    def _flush(self) -> None:
        assert self.coordinator is not None
        answers, self.coordinator.outbox.answers = self.coordinator.outbox.answers, []
        for member, response in answers:
            assert isinstance(member, Member)
            member.answer(WORKER_B, response)
        proposals, self.coordinator.outbox.proposals = self.coordinator.outbox.proposals, []
        for proposal in proposals:
            self._commit(self.coordinator, proposal)
        due_s = self.coordinator.next_deadline_s
        if due_s < self._tick_s or self._tick_s <= self.now_s:
            self._tick_s = due_s
            self.at(min(due_s, self.now_s + 1000.0), self._tick)

    def _commit(self, coordinator: Coordinator, proposal: Proposal) -> None:
        def committed() -> None:
            if self.coordinator is not coordinator:
                return
            for key, value in proposal.records:
                self._log.append((key, value))
                coordinator.committed.apply(key, value)
            coordinator.on_outcome(proposal, ErrorCode.NONE, self.now_s, self._wall_ms())
            self._flush()

        self.at(self.now_s + 0.005, committed)

    # --- requests ------------------------------------------------------------------------------
    def serve(self, member: Member, endpoint: Endpoint, request: Any) -> None:
        response: Any
        payload = b""
        match request:
            case MetadataRequest():
                names = [*self.topics, OFFSETS_TOPIC] if request.topics is None else request.topics
                response = self._metadata(request.correlation_id, names)
            case g.FindCoordinatorRequest():
                response = g.FindCoordinatorResponse(
                    correlation_id=request.correlation_id, topic_id=OFFSETS_ID, partitions=1
                )
            case ListOffsetsRequest():
                end = self.produced[TopicPartition(*_place(request))]
                offset = end if request.timestamp_ms == LATEST_TIMESTAMP else 0
                response = ListOffsetsResponse(correlation_id=request.correlation_id, offset=offset)
            case FetchRequest():
                self._fetch(member, request, self.now_s + request.max_wait_ms / 1000)
                return
            case _:
                if self.coordinator is None:
                    response = g.HeartbeatResponse(
                        correlation_id=request.correlation_id, error_code=int(ErrorCode.NOT_COORDINATOR)
                    )
                else:
                    self.coordinator.on_request(member, request, self.now_s, self._wall_ms())
                    self._flush()
                    return
        member.answer(endpoint, response, payload)

    def _fetch(self, member: Member, request: FetchRequest, until_s: float) -> None:
        place = TopicPartition(*_place(request))
        end = self.produced[place]
        if request.offset >= end and self.now_s < until_s:
            self._waiting.setdefault(place, []).append((member, request))
            self.at(until_s, lambda: self._end_wait(place, member, request))
            return
        found = [
            stamp(encode([(self._wall_ms(), None, b"x")]), offset, 1)
            for offset in range(request.offset, min(end, request.offset + 50))
        ]
        response = FetchResponse(
            correlation_id=request.correlation_id, error_code=0, high_watermark=end, log_start_offset=0
        )
        member.answer(WORKER_A, response, b"".join(found))

    def _end_wait(self, place: TopicPartition, member: Member, request: FetchRequest) -> None:
        if (member, request) in self._waiting.get(place, []):
            self._waiting[place].remove((member, request))
            self._fetch(member, request, self.now_s)

    def _metadata(self, correlation_id: int, names: Iterable[str]) -> MetadataResponse:
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
        return MetadataResponse(
            correlation_id=correlation_id, cluster_id="c", nodes=[node], topics=topics, controller=NODE
        )

    # --- members -------------------------------------------------------------------------------
    def join(self, name: str, topics: Iterable[str] | None = None, **options: Any) -> Member:
        member = Member(self, name, tuple(self.topics) if topics is None else tuple(topics), **options)
        self.members.append(member)
        return member

    def owners(self) -> dict[TopicPartition, str]:
        return {place: member.name for member in self.members for place in member.membership.owned}


def topic_id(name: str) -> bytes:
    return OFFSETS_ID if name == OFFSETS_TOPIC else name.encode().ljust(16, b"-")


def _place(request: FetchRequest | ListOffsetsRequest) -> tuple[str, int]:
    return request.topic_id.rstrip(b"-").decode(), request.partition


class Member:
    """The engine's twin as well: its thread is stepped by events, and a user who waits lets the world go on."""

    def __init__(
        self,
        world: World,
        name: str,
        topics: tuple[str, ...],
        *,
        strategy: str = "cooperative-sticky",
        instance: str | None = None,
        poll_s: float = 0.5,
    ) -> None:
        self.world = world
        self.name = name
        self.poll_s = poll_s
        self.topics = topics
        self.busy_s = 0.0  # so long the user does something else, before the next poll
        self._cut_until_s = 0.0
        self.paused = False
        self.dead = False
        self.told: list[tuple[str, list[TopicPartition]]] = []
        self._latest: dict[tuple[Endpoint, bool], float] = defaultdict(float)  # messages of a link keep their order
        self._step_s = float("inf")
        self._polling = False
        self._wire = FakeWire(NODE, WORKER_A, WORKER_B)
        self._exchange = Exchange(self._wire, name)
        self.cache = MetadataCache()
        self._refresher = Refresher(self._exchange, self.cache, [NODE], frozenset(topics), random.Random(1))
        self._calls = Calls(self._exchange, self.cache, self._refresher)
        self.fetcher = Fetcher(
            self._exchange,
            self.cache,
            self._refresher,
            reset_policy="earliest",
            min_bytes=1,
            max_wait_ms=FETCH_WAIT_MS,
            partition_bytes=100_000,
            buffer_bytes=10_000_000,
            request_timeout_s=5.0,
            on_data=lambda: None,
        )
        self.membership = Membership(
            "group",
            [ASSIGNORS[strategy]],
            session_timeout_s=SESSION_S,
            heartbeat_interval_s=3.0,
            max_poll_interval_s=MAX_POLL_S,
            group_instance_id=instance,
            client_id=name,
            now_s=world.now_s,
        )
        self.group = Group(
            self._calls, self.cache, self._refresher, self.fetcher, self.membership, request_timeout_s=30.0
        )
        self.reader = GroupReader(self, self.fetcher, self.group, auto_commit_interval_s=5.0, timeout_s=30.0)  # type: ignore[arg-type]
        self.reader.subscribe(
            topics,
            None,
            lambda places: self.told.append(("assigned", places)),
            lambda places: self.told.append(("revoked", places)),
            lambda places: self.told.append(("lost", places)),
        )
        world.at(world.now_s, self._poll)

    # --- what the engine is to the reader -------------------------------------------------------
    def now_s(self) -> float:
        return self.world.now_s

    def wake(self) -> None:
        self._step_at(self.world.now_s)

    def result(self, future: Future[Any]) -> Any:
        self.world.run_until(lambda: self.dead or (future.done() and not self.paused), 10_000.0)
        if self.dead:
            raise _Killed
        return future.result()

    def wait_until(self, _changed: threading.Condition, found: Callable[[], bool], timeout_s: float) -> None:
        self.world.run_until(found, timeout_s)

    # --- the client's thread --------------------------------------------------------------------
    def _step_at(self, time_s: float) -> None:
        if time_s < self._step_s:
            self._step_s = time_s
            self.world.at(time_s, self._step)

    def _step(self) -> None:
        if self.world.now_s < self._step_s or self.dead or self.paused:
            return
        now_s = self.world.now_s
        self._step_s = float("inf")
        if self._exchange.expire(now_s):
            self._refresher.want()
        parts = (self.group, self.fetcher, self._calls, self._refresher)
        next_s = min(min(part.step(now_s) for part in parts), self._exchange.next_wakeup_s(), now_s + 5.0)
        for sent in self._wire.take():
            self._send(sent.endpoint, sent.request)
        self._step_at(max(next_s, now_s + 0.001))

    def _deliver_s(self, endpoint: Endpoint, out: bool) -> float | None:
        if self.world.now_s < self._cut_until_s or self.world.rng.random() < self.world.loss:
            return None
        slow = self.world.rng.random() < self.world.loss
        delay_s = self.world.rng.uniform(0, 100 * self.world.delay_s if slow else self.world.delay_s)
        time_s = max(self._latest[endpoint, out], self.world.now_s + delay_s)
        self._latest[endpoint, out] = time_s
        return time_s

    def _send(self, endpoint: Endpoint, request: Any) -> None:
        time_s = self._deliver_s(endpoint, True)
        if time_s is not None:
            self.world.at(time_s, lambda: self.world.serve(self, endpoint, request))

    def answer(self, endpoint: Endpoint, response: Any, payload: bytes = b"") -> None:
        time_s = self._deliver_s(endpoint, False)
        frames = [codec.encode(response), *([payload] if payload else [])]
        if time_s is not None:
            self.world.at(time_s, lambda: self._receive(endpoint, frames))

    def _receive(self, endpoint: Endpoint, frames: list[bytes]) -> None:
        if self.dead:
            return
        if self.paused:
            self.world.at(self.world.now_s + 0.1, lambda: self._receive(endpoint, frames))
            return
        self._exchange.answered(endpoint, frames)
        self._step_at(self.world.now_s)

    # --- the user -------------------------------------------------------------------------------
    def _poll(self) -> None:
        if self.dead:
            return
        if not self.paused and not self._polling:
            self._polling = True
            try:
                self._read()
            except _Killed:
                return
            finally:
                self._polling = False
        busy_s, self.busy_s = self.busy_s, 0.0
        self.world.at(self.world.now_s + self.world.rng.uniform(0.5, 1.5) * self.poll_s + busy_s, self._poll)

    def _read(self) -> None:
        self.reader.attend()
        if self.paused:
            return
        for state in self.fetcher.states.values():
            if not self.reader.hands_out(self.world.now_s):
                break
            while state.has_records() and (state.index < len(state.records) or state.decode_next()):
                for record in state.take(500):
                    self.world.read[state.place].append((record.offset, self.name))
        self.wake()

    def may_hand_out(self) -> list[TopicPartition]:
        if self.dead or not self.reader.hands_out(self.world.now_s):
            return []
        return list(self.fetcher.states)

    def kill(self) -> None:
        self.dead = True

    def leave(self) -> None:
        self.reader.close(commit=True)
        self.dead = True

    def cut(self, seconds: float) -> None:
        """From everybody: what is sent is lost, both ways."""
        self._cut_until_s = self.world.now_s + seconds

    def pause(self, seconds: float) -> None:
        self.paused = True

        def wake() -> None:
            self.paused = False
            self._step_s = float("inf")
            self.wake()

        self.world.at(self.world.now_s + seconds, wake)


class _Killed(Exception):
    """The member whose user waits was killed."""
