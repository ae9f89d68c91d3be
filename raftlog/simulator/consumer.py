"""A consumer of the simulator: the client's real Fetcher, whose position is committed, and taken over by the next one.

What a group was given is judged record by record: none is left out unless the log start moved beyond it, none comes
again unless a member began at an older commit, and what was read once stays as it was read.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from raftlog.client.fetcher.fetcher import Fetcher
from raftlog.client.fetcher.partition_state import EARLIEST, LATEST, ConsumerRecord, PartitionState
from raftlog.errors import CorruptMessageError
from raftlog.protocol.body import ResponseBody
from raftlog.protocol.envelope import Request
from raftlog.record.batch import Record
from raftlog.simulator.client_link import LinkedClient
from raftlog.simulator.invariants import Broken
from raftlog.simulator.keyed_records import held
from raftlog.types import TopicPartition

if TYPE_CHECKING:
    from raftlog.simulator.world import World

_COMMITS = 0.3  # of the polls
_ENDS = 0.03  # of the polls: the next member takes over
_REQUEST_TIMEOUT_S = 5.0
_LAST_POLLS_S = 0.005  # once nothing is written any more


class GroupOfOne:
    """One member after the other. `committed`: (offset, leader epoch), as a coordinator would keep it.

    The next member is there already, as it is in a group: what it knows of leaders may be old when its turn comes.
    """

    def __init__(self, name: str, world: World, rng: random.Random) -> None:
        self.name = name
        self.policy = rng.choice((EARLIEST, LATEST))
        self.committed: tuple[int, int] | None = None
        self._world = world
        self._rng = rng
        self._members = 0
        self._next = self._join()
        self.member = self._join()
        self.member.begin()

    def _join(self) -> ConsumingClient:
        self._members += 1
        return ConsumingClient(f"{self.name}.{self._members}", self._world, self._rng, self)

    def take_over(self) -> None:
        """The member ends, having committed or not, and the next one goes on."""
        if self.member.stopped:
            return
        self.member.leave(commits=self._rng.random() < 0.7)
        self.member, self._next = self._next, self._join()
        self.member.begin()


class ConsumingClient(LinkedClient):
    """A client's own fetcher, in the simulated world.

    `due` is the offset that has to come next; None: it has not begun.
    """

    def __init__(self, name: str, world: World, rng: random.Random, group: GroupOfOne) -> None:
        super().__init__(name, world, rng)
        self._state = PartitionState(TopicPartition(world.spec.topic, world.spec.partition))
        self.due: int | None = None
        self._group = group
        self._acked_end = 0
        self._poll_s = rng.choice((0.02, 0.1))
        share = rng.choice((5000, 1 << 20))
        self._fetcher = Fetcher(
            self._exchange,
            self._cache,
            self._refresher,
            reset_policy=group.policy,
            min_bytes=rng.choice((1, 1000)),
            max_wait_ms=rng.choice((100, 500)),
            partition_bytes=share,
            buffer_bytes=share,
            request_timeout_s=_REQUEST_TIMEOUT_S,
            on_data=lambda: None,
        )
        self._parts = (self._fetcher, self._refresher)
        self._wake()

    def begin(self) -> None:
        world, committed = self._world, self._group.committed
        self._acked_end = max(world.acked, default=-1) + 1
        place = TopicPartition(world.spec.topic, world.spec.partition)
        self._fetcher.begins_committed = committed is not None
        self._fetcher.assign([place])
        self._state = self._fetcher.states[place]
        if committed is not None:
            self.due, epoch = committed
            self._fetcher.begin_at(self._state, world.spec.topic_id, self.due, epoch)
        world.readers[self.name] = self
        self._wake()
        self._events.after(self._rng.random() * self._poll_s, self._poll)

    def leave(self, *, commits: bool) -> None:
        if commits:
            self._commit()
        self.close()
        del self._world.readers[self.name]

    def _commit(self) -> None:
        if self._state.position is not None:
            self._group.committed = self._state.position, self._state.position_epoch

    def on_response(self, request: Request[Any], response: ResponseBody, payload: bytes | None) -> None:
        if not self.closed:
            self._take(request.api, request.correlation_id, response, payload)
            self._wake()

    def at_end(self, end_offset: int) -> bool:
        return self.due is not None and self.due >= end_offset

    # --- the user's thread -----------------------------------------------------------------------
    def _poll(self) -> None:
        if self.closed:
            return
        self._read(self._rng.choice((1, 10, 1000, 1000)))
        if self._rng.random() < _COMMITS:
            self._commit()
        if not self.stopped and self._rng.random() < _ENDS:
            self._group.take_over()
            return
        self._wake()  # there may be room for more
        poll_s = _LAST_POLLS_S if self.stopped else self._poll_s
        self._events.after(self._rng.expovariate(1 / poll_s), self._poll)

    def _read(self, most: int) -> None:
        state = self._state
        if state.error is not None:
            error, state.error = state.error, None
            if not isinstance(error, CorruptMessageError):  # of a damaged disk, and asked for again
                raise Broken("stuck", f"{self.name} cannot read on at {self.due}: {error!r}")
        if state.position is not None:
            self._judge_move(state.position)
        while most > 0 and self._has_decoded(state):
            taken = state.take(most)
            most -= len(taken)
            for record in taken:
                self._judge_record(record)
            assert state.position is not None
            self._judge_move(state.position)

    def _has_decoded(self, state: PartitionState) -> bool:
        if state.index < len(state.records):
            return True
        try:
            found = state.payloads and state.decode_next()
        except CorruptMessageError as error:
            self._fetcher.corrupt(state, error)
            return False
        if found:
            state.corrupt_fetches = 0
        return bool(found)

    def _judge_move(self, position: int) -> None:
        world, due = self._world, self.due
        if due is None:
            if self._group.policy == LATEST and position < self._acked_end:
                raise Broken("lost", f"{self.name} begins at {position}, the end; it was {self._acked_end} before")
            due = position if self._group.policy == LATEST else 0
        if position < due:
            raise Broken("diverged", f"{self.name} was at {due} and is sent back to {position}")
        if position > due and due >= world.log_start and not world.compacted:
            raise Broken("lost", f"{self.name} was at {due} and is moved to {position}: nothing starts above it")
        self.due = position

    def _judge_record(self, record: ConsumerRecord) -> None:
        due, world = self.due, self._world
        assert due is not None
        if record.offset < due or (record.offset > due and not world.compacted):
            raise Broken("lost", f"{self.name} was given {record.offset} where {due} was due")
        value = held(Record(record.offset, record.timestamp_ms, record.key, record.value, record.headers)).name
        if world.read.setdefault(record.offset, value) != value:
            known = world.read[record.offset]
            raise Broken("diverged", f"offset {record.offset} was read as {known!r} and as {value!r}")
        self.due = record.offset + 1
