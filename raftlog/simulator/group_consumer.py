"""Consumers of a group, whole clients up to their sockets, whose coordinator runs on the simulated machines.

The topic that they read is a function of time, beyond any fault: what is tested is who reads, and what is committed.
A seat is a place in the group: its consumer hangs, dies or leaves now and then, and another one comes.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any

from raftlog.client.core.call import Calls
from raftlog.client.fetcher.fetcher import Fetcher
from raftlog.client.fetcher.partition_state import EARLIEST
from raftlog.client.group.assignors import ASSIGNORS
from raftlog.client.group.group import GroupClient
from raftlog.client.group.member import GroupMember
from raftlog.client.group.session import GroupSession
from raftlog.clock import NEVER_S
from raftlog.errors import CommitFailedError, ErrorCode, FencedInstanceIdError, RaftlogError
from raftlog.protocol import apis
from raftlog.protocol.cluster import MetadataResponse, PartitionMetadata, TopicMetadata
from raftlog.protocol.envelope import Request
from raftlog.protocol.groups import FindCoordinatorResponse
from raftlog.protocol.records import FetchResponse, ListOffsetsResponse
from raftlog.record.batch import encode, stamp
from raftlog.simulator.client_link import LinkedClient
from raftlog.simulator.group_ledger import GROUP, GroupLedger, Offsets
from raftlog.types import LATEST_TIMESTAMP, Endpoint, TopicPartition

if TYPE_CHECKING:
    from raftlog.simulator.world import World

PARTITIONS = 4
_TOPIC = "orders"
_TOPIC_ID = b"the read topic!!"
_DATA = Endpoint("data", 0)  # who has the records
_RECORDS_PER_S = 20.0
_SESSION_S = 4.0
_MAX_POLL_S = 8.0
_HANGS, _DIES, _LEAVES = 0.006, 0.003, 0.003  # of the polls
_ASKS = 0.2  # of the polls: what is committed?
_STATIC = 0.3  # of the seats: who comes next is the same member


class Seat:
    """One consumer after the other."""

    def __init__(self, name: str, world: World, ledger: GroupLedger, rng: random.Random, assignor: str) -> None:
        self.name = name
        self.assignor = assignor
        self.instance = name if rng.random() < _STATIC else None
        self.consumer: GroupConsumer | None = None
        self.restless = True
        self._world = world
        self._ledger = ledger
        self._rng = rng
        self._lives = 0
        world.events.after(rng.random(), self._come)

    def _come(self) -> None:
        self._lives += 1
        name = f"{self.name}.{self._lives}"
        self.consumer = GroupConsumer(name, self._world, self._ledger, self._rng, self)
        self._world.readers[name] = self.consumer

    def ended(self) -> None:
        self.consumer = None
        self._world.events.after(self._rng.uniform(0.0, 3.0), self._come)


class _Dead(Exception):
    """The consumer whose user waits was killed."""


class GroupConsumer(LinkedClient):
    """Its engine as well: a user's thread that waits lets the world go on."""

    def __init__(self, name: str, world: World, ledger: GroupLedger, rng: random.Random, seat: Seat) -> None:
        super().__init__(name, world, rng)
        self.cache = self._cache
        self._ledger = ledger
        self._seat = seat
        self._hung_until_s = 0.0
        self._polling = False
        self._poll_s = rng.choice((0.1, 0.3))
        self._floors: dict[int, Offsets] = {}  # correlation id -> what had been told before
        calls = Calls(self._exchange, self._cache, self._refresher)
        self._fetcher = Fetcher(
            self._exchange,
            self._cache,
            self._refresher,
            reset_policy=EARLIEST,
            min_bytes=1,
            max_wait_ms=500,
            partition_bytes=1 << 20,
            buffer_bytes=1 << 22,
            request_timeout_s=5.0,
            on_data=lambda: None,
        )
        self._member = GroupMember(
            GROUP,
            [ASSIGNORS[seat.assignor]],
            session_timeout_s=_SESSION_S,
            heartbeat_interval_s=1.0,
            max_poll_interval_s=_MAX_POLL_S,
            group_instance_id=seat.instance,
            client_id=name,
            now_s=self.now_s(),
        )
        group = self._group = GroupClient(
            calls, self._cache, self._refresher, self._fetcher, self._member, request_timeout_s=10.0
        )
        group.offsets._committer_id = rng.getrandbits(62)  # a seed fixes everything
        self._fetcher.on_begun_at_end = group.offsets.commit_begun_at_end
        self._reader = GroupSession(self, self._fetcher, group, auto_commit_interval_s=1.0, timeout_s=10.0)  # type: ignore[arg-type]
        self._reader.subscribe((_TOPIC,), None, self._assigned, None, None)
        self._parts = (group, self._fetcher, calls, self._refresher)
        self._wake()
        self._events.after(rng.random() * self._poll_s, self._poll)

    # --- what the engine is to the session -------------------------------------------------------
    def now_s(self) -> float:
        return self._events.now_s

    def wake(self) -> None:
        self._wake()

    def result(self, future: Future[Any]) -> Any:
        self._wait(future.done, NEVER_S)
        return future.result()

    def wait_until(self, _changed: threading.Condition, found: Callable[[], bool], timeout_s: float) -> None:
        self._wait(found, self.now_s() + timeout_s)

    def _wait(self, found: Callable[[], bool], until_s: float) -> None:
        while not (found() and not self._hangs) and self.now_s() < until_s and not self.closed:
            self._events.run_next()
        if self.closed:
            raise _Dead

    # --- hanging, dying, leaving -----------------------------------------------------------------
    @property
    def _hangs(self) -> bool:
        return self.now_s() < self._hung_until_s

    def _step(self, due_s: float) -> None:
        if self._hangs and due_s == self._due_s:
            self._due_s = NEVER_S
            self._wake(self._hung_until_s - self.now_s())
            return
        super()._step(due_s)

    def kill(self) -> None:
        self.close()
        self._world.readers.pop(self.name, None)
        self._seat.ended()

    def _may_be_struck(self) -> bool:
        """Whether it has come to its end, or hangs."""
        luck = self._rng.random()
        if luck < _HANGS:
            self._hung_until_s = self.now_s() + self._rng.choice((0.5, 2.0, 5.0, 10.0))
        elif luck < _HANGS + _DIES:
            self.kill()
        elif luck < _HANGS + _DIES + _LEAVES:
            self._reader.close(commit=self._rng.random() < 0.5)
            self.kill()
        return self.closed or self._hangs

    # --- the user's thread -----------------------------------------------------------------------
    def _poll(self) -> None:
        if self.closed:
            return
        if not self._hangs and not self._polling:
            self._polling = True
            try:
                self._read()
            except _Dead:
                return
            finally:
                self._polling = False
        self._events.after(self._rng.expovariate(1 / self._poll_s), self._poll)

    def _read(self) -> None:
        if self._seat.restless and self._may_be_struck():
            return
        try:
            self._reader.attend()
        except FencedInstanceIdError:  # by its successor, or by a late request of its predecessor: its user begins anew
            self.kill()
            return
        except RaftlogError:
            pass  # what ended the membership; the next poll joins again
        self._check_owners()
        for state in self._fetcher.states.values():
            if not self._reader.hands_out(self.now_s()):
                break
            while state.has_records() and (state.index < len(state.records) or state.decode_next()):
                state.take(500)
        if not self.stopped and self._rng.random() < 0.2:
            with contextlib.suppress(CommitFailedError):  # of what it has lost, as it will be told
                self._reader.commit_async(None, None)
        if not self.stopped and self._rng.random() < _ASKS:
            places = [TopicPartition(_TOPIC, number) for number in range(PARTITIONS)]
            self._group.offsets.fetch(places, self.now_s() + 5.0)  # what is answered is judged where it arrives
        self._wake()

    def _assigned(self, places: list[TopicPartition]) -> None:
        partitions = [place.partition for place in places]
        who = self._seat.instance or self._member.member_id
        self._ledger.on_taken(self._member.owned_generation, partitions, who)

    def may_hand_out(self) -> set[int]:
        """Now, or as soon as it hangs no more."""
        if self.closed or not self._reader.hands_out(self.now_s()):
            return set()
        return {place.partition for place in self._fetcher.states}

    def _check_owners(self) -> None:
        mine = self.may_hand_out()
        for reader in self._world.readers.values():
            if isinstance(reader, GroupConsumer) and reader is not self and (both := mine & reader.may_hand_out()):
                self._ledger.two_owners(both, self.name, reader.name)

    # --- Wire ------------------------------------------------------------------------------------
    def connect(self, endpoint: Endpoint) -> bool:
        return endpoint == _DATA or super().connect(endpoint)

    def _metadata(self, node_id: int) -> MetadataResponse:
        response = super()._metadata(node_id)
        nodes = list(self._world.node_ids)
        partitions = [
            PartitionMetadata(partition=n, leader_id=1, leader_epoch=1, endpoint=_DATA, replicas=nodes, in_sync=nodes)
            for n in range(PARTITIONS)
        ]
        topic = TopicMetadata(
            name=_TOPIC, topic_id=_TOPIC_ID, error_code=ErrorCode.NONE, partitions=partitions, config={}
        )
        response.topics.append(topic)
        return response

    def _ask(self, endpoint: Endpoint, request: Request[Any]) -> None:
        api, number, body = request.api, request.correlation_id, request.body
        if api is apis.FIND_COORDINATOR:
            found = FindCoordinatorResponse(topic_id=self._world.spec.topic_id, partitions=1)
            self._later(endpoint, api, number, found)
        elif api is apis.LIST_OFFSETS:
            offset = self._end_offset() if body.timestamp_ms == LATEST_TIMESTAMP else 0
            self._later(endpoint, api, number, ListOffsetsResponse(offset=offset, leader_epoch=1))
        elif api is apis.FETCH:
            self._asked[number] = endpoint
            self._events.after(self._rng.uniform(0.1, 0.5), partial(self._fetched, request))
        else:
            if api is apis.OFFSET_COMMIT:
                self._ledger.on_sent(body)
            self._floors[number] = dict(self._ledger.told)
            super()._ask(endpoint, request)

    def _end_offset(self) -> int:
        return int(self.now_s() * _RECORDS_PER_S)

    def _fetched(self, request: Request[Any]) -> None:
        if self.closed:
            return
        end, first = self._end_offset(), request.body.offset
        count = min(end - first, 100)
        records = stamp(encode([(1_700_000_000_000, None, b"x")] * count), first, 1) if count > 0 else None
        response = FetchResponse(high_watermark=end, log_start_offset=0, leader_epoch=1)
        self._take(request.api, request.correlation_id, response, records)
        self._wake()

    # --- answers ---------------------------------------------------------------------------------
    def on_told(self, applied: Offsets, request: Request[Any], response: Any) -> None:
        """A coordinator says this, and the answer is about to leave."""
        if response.error_code:
            return
        body = request.body
        if request.api is apis.OFFSET_COMMIT:
            self._ledger.on_commit_told(applied, _offsets_of(body))
        elif request.api is apis.SYNC_GROUP:
            self._ledger.on_share_told(body.generation_id, body.member_id, response.assignment)

    def on_response(self, request: Request[Any], response: Any, payload: bytes | None) -> None:
        if self.closed:
            return
        if self._hangs:
            later = partial(self.on_response, request, response, payload)
            self._events.after(self._hung_until_s - self.now_s() + 0.001, later)
            return
        floor = self._floors.pop(request.correlation_id)
        if not response.error_code and request.api is apis.OFFSET_COMMIT:
            self._ledger.on_committed(_offsets_of(request.body))
        elif not response.error_code and request.api is apis.OFFSET_FETCH:
            wanted = request.body.partitions
            asked = range(PARTITIONS) if wanted is None else [number for _, number in wanted]
            self._ledger.on_fetched(asked, floor, _offsets_of(response), self.name)
        self._take(request.api, request.correlation_id, response, payload)
        self._wake()


def _offsets_of(body: Any) -> Offsets:
    """Of a commit, or of an answer that says what is committed."""
    return {each.partition: each.offset for each in body.offsets}
