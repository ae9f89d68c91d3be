"""A member of a group in virtual time: a whole client up to its sockets, and the user who polls it."""

from __future__ import annotations

import contextlib
import random
import threading
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from raftlog.client.core.call import Calls
from raftlog.client.core.exchange import Exchange
from raftlog.client.core.metadata import MetadataCache
from raftlog.client.core.metadata_refresh import Refresher
from raftlog.client.fetcher.fetcher import Fetcher
from raftlog.client.group.assignors import ASSIGNORS
from raftlog.client.group.group import GroupClient
from raftlog.client.group.member import GroupMember
from raftlog.client.group.session import GroupSession
from raftlog.errors import CommitFailedError
from raftlog.protocol.envelope import Request, encode_response
from raftlog.types import Endpoint, TopicPartition
from tests.client.fake_wire import NODE, WORKER_A, WORKER_B, FakeWire, Sent
from tests.requests import session_of

if TYPE_CHECKING:
    from tests.client.group_world import World

SESSION_S = 10.0
MAX_POLL_S = 60.0
FETCH_WAIT_MS = 20_000


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
        self.held: set[TopicPartition] = set()  # as the callbacks have told
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
            reset_policy=world.reset_policy,
            min_bytes=1,
            max_wait_ms=FETCH_WAIT_MS,
            partition_bytes=100_000,
            buffer_bytes=10_000_000,
            request_timeout_s=5.0,
            on_data=lambda: None,
        )
        self.membership = GroupMember(
            "group",
            [ASSIGNORS[name] for name in strategy.split()],
            session_timeout_s=SESSION_S,
            heartbeat_interval_s=3.0,
            max_poll_interval_s=MAX_POLL_S,
            group_instance_id=instance,
            client_id=name,
            now_s=world.now_s,
        )
        self.group = GroupClient(
            self._calls, self.cache, self._refresher, self.fetcher, self.membership, request_timeout_s=30.0
        )
        self.fetcher.on_begun_at_end = self.group.offsets.commit_begun_at_end
        self.reader = GroupSession(self, self.fetcher, self.group, auto_commit_interval_s=5.0, timeout_s=30.0)  # type: ignore[arg-type]
        self.reader.subscribe(
            topics,
            None,
            self._assigned,
            self._gone,
            self._gone,
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
            self._send(sent)
        self._step_at(max(next_s, now_s + 0.001))

    def _deliver_s(self, endpoint: Endpoint, out: bool) -> float | None:
        if self.world.now_s < self._cut_until_s or self.world.rng.random() < self.world.loss:
            return None
        slow = self.world.rng.random() < self.world.loss
        delay_s = self.world.rng.uniform(0, 100 * self.world.delay_s if slow else self.world.delay_s)
        time_s = max(self._latest[endpoint, out], self.world.now_s + delay_s)
        self._latest[endpoint, out] = time_s
        return time_s

    def _send(self, sent: Sent) -> None:
        time_s = self._deliver_s(sent.endpoint, True)
        place = sent.topic_id, sent.partition
        request: Request[Any] = Request(session_of(self), sent.api, sent.number, *place, sent.request)
        if time_s is not None:
            self.world.at(time_s, lambda: self.world.serve(sent.endpoint, request))

    def answer(self, endpoint: Endpoint, request: Request[Any], response: Any, payload: bytes = b"") -> None:
        time_s = self._deliver_s(endpoint, False)
        header = encode_response(request.api, request.correlation_id, response)
        frames = [header, *([payload] if payload else [])]
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

    def _assigned(self, places: list[TopicPartition]) -> None:
        assert self.held.isdisjoint(places), f"{self.name} is told again of {places}"
        self.held.update(places)
        self._may_raise()

    def _gone(self, places: list[TopicPartition]) -> None:
        assert self.held.issuperset(places), f"{self.name} is told of the end of {places}, and has {self.held}"
        self.held.difference_update(places)
        self._may_raise()

    def _may_raise(self) -> None:
        if self.world.raising and self.world.rng.random() < self.world.raising:
            raise OwnFaultError

    def _read(self) -> None:
        with contextlib.suppress(OwnFaultError):
            self.reader.attend()
        reads = set(self.fetcher.states)
        assert self.held == reads, f"{self.name} reads {reads}, and was told of {self.held}"
        if self.paused:
            return
        for state in self.fetcher.states.values():
            if not self.reader.hands_out(self.world.now_s):
                break
            while state.has_records() and (state.index < len(state.records) or state.decode_next()):
                for record in state.take(500):
                    self.world.read[state.place].append((record.offset, self.name))
        if self.world.rng.random() < 0.3:
            with contextlib.suppress(CommitFailedError):  # of what it has lost, as it will be told
                self.reader.commit_async(None, None)
        self.wake()

    def may_hand_out(self) -> list[TopicPartition]:
        if self.dead or not self.reader.hands_out(self.world.now_s):
            return []
        return list(self.fetcher.states)

    def kill(self) -> None:
        self.dead = True

    def leave(self) -> None:
        if self._polling:  # one thread uses a consumer
            self.world.at(self.world.now_s + 0.1, self.leave)
            return
        self._polling = True
        with contextlib.suppress(OwnFaultError):
            self.reader.close(commit=True)
        assert not self.held, f"{self.name} was not told of the end of {self.held}"
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


class OwnFaultError(Exception):
    """Of a callback."""


class _Killed(Exception):
    """The member whose user waits was killed."""
