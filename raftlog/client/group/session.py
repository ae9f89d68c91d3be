"""A consumer's group, as the user's thread sees it: what has to be done between two polls, and commits.

Callbacks and waiting happen here, never with the lock held. What a poll has handed out counts as read when the next one
begins: that is when offsets are committed automatically, so that a record whose processing ends the process is read
again.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple

from raftlog.client import arguments
from raftlog.client.core.callbacks import run_all
from raftlog.client.core.engine import Engine
from raftlog.client.core.topic_wait import wait_for_confirmed
from raftlog.client.fetcher.fetcher import Fetcher
from raftlog.client.group.group import GroupClient
from raftlog.client.group.member import Phase
from raftlog.client.group.member_tasks import Lost, Take, Task
from raftlog.client.group.offsets import OffsetAndMetadata, Offsets, lost_error, read_offsets
from raftlog.clock import NEVER_S
from raftlog.errors import CommitFailedError, FencedInstanceIdError, RaftlogError
from raftlog.limits import GIVE_UP_COMMIT_S, LEADER_EPOCH_MAX, LEAVE_S, OFFSET_METADATA_CHARS_MAX
from raftlog.types import TopicPartition

LOGGER = logging.getLogger(__name__)
OnPartitions = Callable[[list[TopicPartition]], None]
OnCommit = Callable[[dict[TopicPartition, OffsetAndMetadata], RaftlogError | None], None]


class ConsumerGroupMetadata(NamedTuple):
    """As whom a member speaks. `generation` is the one in which it was last told its share; -1: it is no member."""

    group_id: str
    generation: int
    member_id: str
    group_instance_id: str | None


class GroupSession:
    """A membership as the user's thread sees it. `auto_commit_interval_s` None: the user commits."""

    def __init__(
        self,
        engine: Engine,
        fetcher: Fetcher,
        group: GroupClient,
        *,
        auto_commit_interval_s: float | None,
        timeout_s: float,
    ) -> None:
        self._engine = engine
        self._fetcher = fetcher
        self._group = group
        self._member = group.membership
        self._auto_commit_s = auto_commit_interval_s
        self._timeout_s = timeout_s
        # When `attend` commits automatically; with an interval of 0 each time.
        self.commit_due_s = NEVER_S if auto_commit_interval_s is None else engine.now_s() + auto_commit_interval_s
        self._told: deque[Callable[[], None]] = deque()  # callbacks of commits that are done
        self._callbacks: tuple[OnPartitions | None, OnPartitions | None, OnPartitions | None] = (None, None, None)
        self._subscribes = False

    # --- what is read --------------------------------------------------------------------------
    def subscribe(
        self,
        topics: Collection[str],
        pattern: str | None,
        on_assigned: OnPartitions | None,
        on_revoked: OnPartitions | None,
        on_lost: OnPartitions | None,
    ) -> None:
        """Raises ValueError for a pattern that is none. The group is joined by the next poll."""
        if not self._subscribes:
            self._commit_before_giving_up()
        with self._fetcher.lock:
            self._group.subscribed.choose(topics, pattern)
            self._fetcher.assigned_by_group = True
            if not self._subscribes:
                self._fetcher.assign([])
            self._subscribes = True
            self._callbacks = (on_assigned, on_revoked, on_lost)
            if pattern is None:
                self._member.subscribe(topics)
        self.wake()

    def unsubscribe(self) -> None:
        """Commits if that is automatic, gives everything up and leaves the group."""
        if not self._subscribes:
            self._commit_before_giving_up()
            return
        run_all(partial(self._leave, commit=True), self._forget_subscription)

    def _forget_subscription(self) -> None:
        with self._fetcher.lock:
            self._subscribes = self._fetcher.assigned_by_group = False
            self._group.subscribed.choose((), None)
            self._member.subscribe(())

    def subscription(self) -> set[str]:
        return set(self._member.topics)

    def wake(self) -> None:
        self._group.change()
        self._engine.wake()

    # --- between two polls ---------------------------------------------------------------------
    @property
    def changes(self) -> int:
        """Grows with whatever may need `attend`."""
        return self._group.changes

    def hands_out_until_s(self) -> float:
        """Without a change records may be handed out until then; the lock is held.

        What was fetched stays here while the group may have given it to somebody else.
        """
        return self._member.hands_out_until_s() if self._subscribes else NEVER_S

    def here(self, now_s: float) -> None:
        """The user's thread asks for records, or waits for them; the lock is held."""
        self._member.polled_s = now_s

    def hands_out(self, now_s: float) -> bool:
        return now_s < self.hands_out_until_s()

    def wants_attention(self, now_s: float) -> bool:
        """Nothing is handed out before it had some; the lock is held, and has to be given up for `attend`.

        A commit that is due can wait for the next poll, or for the next time that this one finds nothing.
        """
        if self._told:
            return True
        member = self._member
        may_join = member.phase is Phase.OUT and bool(member.topics)
        return self._subscribes and (may_join or member.error is not None or member.task() is not None)

    def attend(self) -> None:
        """Before records are handed out: callbacks, automatic commits, whatever the rebalance waits for.

        Raises what ended the membership, and what callbacks raise: the first error, once all callbacks of the rebalance
        have run and the partitions are given up and taken as they were told.
        """
        self.tell()
        now_s = self._engine.now_s()
        if self._auto_commit_s is not None and now_s >= self.commit_due_s:
            self.commit_due_s = now_s + self._auto_commit_s
            self._commit_automatically()
        while self._subscribes:
            with self._fetcher.lock:
                was_out = self._member.phase is Phase.OUT
                self._member.polled(self._engine.now_s())
                task = self._member.task()
                error = self._member.error if task is None else None
                if error is not None and not isinstance(error, FencedInstanceIdError):
                    self._member.error = None  # the next poll tries again; who was fenced would fence the other
            if error is not None:
                raise error.with_traceback(None)
            if was_out and task is None:
                self.wake()
            if task is None:
                return
            self._do(task)

    def tell(self) -> None:
        """Callbacks of commits that are done."""
        told = []
        while self._told:
            told.append(self._told.popleft())
        run_all(*told)

    def _do(self, task: Task) -> None:
        _, on_revoked, on_lost = self._callbacks
        if isinstance(task, Lost):
            # As in Kafka: a user who gave no on_lost is told of a loss by on_revoked.
            self._give_up(task.partitions, on_lost or on_revoked)
            return
        take = task if isinstance(task, Take) else None
        partitions = task.revoked if isinstance(task, Take) else task.partitions
        if partitions:
            self._commit_before_giving_up()
        self._give_up(partitions, on_revoked if partitions else None, take)

    def _give_up(
        self, partitions: frozenset[TopicPartition], tell: OnPartitions | None, take: Take | None = None
    ) -> None:
        """What there is to take is taken in the same moment: the next JoinGroup names it."""
        steps: list[Callable[[], None]] = []
        if tell is not None:
            steps.append(partial(tell, sorted(partitions)))
        if partitions:
            steps.append(self._wait_for_commits)  # BEFORE they are somebody else's: later ones are refused
        steps.append(partial(self._change_share, partitions, take))
        run_all(*steps)

    def _change_share(self, given_up: frozenset[TopicPartition], take: Take | None) -> None:
        taken = False
        with self._fetcher.lock:
            self._fetcher.assign([place for place in self._fetcher.states if place not in given_up])
            self._group.offsets.gave_up(given_up)
            # AFTER nothing of them can be handed out any more.
            self._member.gave_up(given_up)
            if take is not None and self._member.take(take):
                taken = True
                self._fetcher.assign(sorted(self._member.owned))
        self.wake()
        on_assigned, _, _ = self._callbacks
        if taken and take is not None and on_assigned is not None:
            on_assigned(sorted(take.added))

    # --- commits -------------------------------------------------------------------------------
    def _positions(self) -> dict[TopicPartition, OffsetAndMetadata]:
        return {
            place: OffsetAndMetadata(state.position, leader_epoch=state.position_epoch)
            for place, state in self._fetcher.states.items()
            if state.position is not None
        }

    def _new_positions(self) -> dict[TopicPartition, OffsetAndMetadata]:
        committed, states = self._group.offsets.committed, self._fetcher.states
        return {
            place: found
            for place, found in self._positions().items()
            if committed.get((states[place].topic_id, place.partition)) != found.offset
        }

    def _commit_automatically(self) -> None:
        with self._fetcher.lock:
            offsets = self._new_positions()
            if not offsets or (self._subscribes and self._member.phase is Phase.OUT):
                return
            future = self._group.offsets.commit(offsets, self._engine.now_s() + self._timeout_s)
        self._engine.wake()
        future.add_done_callback(_log_failure)

    def _commit_before_giving_up(self) -> None:
        """If that is automatic. What cannot be committed is read again by whoever comes next."""
        if self._auto_commit_s is None:
            return
        with self._fetcher.lock:
            offsets = self._new_positions()
            if not offsets or (self._subscribes and self._member.phase is Phase.OUT):
                return
            within_s = min(self._timeout_s, GIVE_UP_COMMIT_S)
            future = self._group.offsets.commit(offsets, self._engine.now_s() + within_s)
        self._engine.wake()
        try:
            self._engine.result(future)
        except RaftlogError as error:
            LOGGER.warning("positions were not committed before they were given up: %s", error)

    def _wait_for_commits(self) -> None:
        def done() -> bool:
            lost = self._subscribes and self._member.phase is Phase.OUT
            return lost or self._group.offsets.idle

        self._engine.wait_until(self._fetcher.changed, done, GIVE_UP_COMMIT_S)

    def begin_commit(self, offsets: Mapping[TopicPartition, int | OffsetAndMetadata] | None) -> Callable[[], None]:
        """What it returns waits for it."""
        _, future = self._commit(offsets)
        return lambda: self._engine.result(future)

    def commit_async(
        self, offsets: Mapping[TopicPartition, int | OffsetAndMetadata] | None, callback: OnCommit | None
    ) -> None:
        committing, future = self._commit(offsets)

        def done(future: Future[None]) -> None:
            error = future.exception()
            assert error is None or isinstance(error, RaftlogError)
            if callback is not None:
                self._told.append(partial(callback, dict(committing), error))
                self._fetcher.tell()
            else:
                _log_failure(future)

        future.add_done_callback(done)

    def _commit(self, wanted: Mapping[TopicPartition, int | OffsetAndMetadata] | None) -> tuple[Offsets, Future[None]]:
        with self._fetcher.lock:
            if wanted is None:
                offsets = self._positions()
            else:
                offsets = {arguments.place(place): _offset(found) for place, found in wanted.items()}
            if self._subscribes and offsets:
                lost = self._member.phase is Phase.OUT or not set(offsets) <= self._member.owned
                if lost:
                    raise lost_error()
            future = self._group.offsets.commit(offsets, self._engine.now_s() + self._timeout_s)
        self._engine.wake()
        return offsets, future

    def committed(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, OffsetAndMetadata | None]:
        places = [arguments.place(place) for place in partitions]
        with self._fetcher.lock:
            future = self._group.offsets.fetch(places, self._engine.now_s() + self._timeout_s)
        self.wake()
        found = read_offsets(self._engine.result(future))
        topics = self._engine.cache.topics

        def all_known() -> bool:
            known = [(topics.get(place.topic), entry.topic_id) for place, entry in found.items()]
            return all(topic is None or topic.topic_id == topic_id for topic, topic_id in known)

        # Another id: committed before the topic was made anew, or this client has not heard yet that it was.
        wait_for_confirmed(self._engine, all_known, self._engine.now_s(), self._timeout_s)
        committed: dict[TopicPartition, OffsetAndMetadata | None] = dict.fromkeys(places)
        for place, entry in found.items():
            topic = topics.get(place.topic)
            if topic is None or topic.topic_id == entry.topic_id:
                committed[place] = OffsetAndMetadata(entry.offset, entry.metadata, entry.leader_epoch)
        return committed

    def metadata(self) -> ConsumerGroupMetadata:
        with self._fetcher.lock:
            member = self._member
            return ConsumerGroupMetadata(
                member.group_id, member.owned_generation, member.member_id, member.group_instance_id
            )

    # --- the end -------------------------------------------------------------------------------
    def close(self, *, commit: bool) -> None:
        steps: list[Callable[[], None]] = []
        if self._subscribes:
            steps.append(partial(self._leave, commit))
        elif commit:
            steps.append(self._commit_before_giving_up)
        run_all(*steps, self._wait_for_commits, self.tell)

    def _leave(self, commit: bool) -> None:
        with self._fetcher.lock:
            owned = self._member.owned
            lost = isinstance(self._member.task(), Lost)
        _, on_revoked, on_lost = self._callbacks
        steps: list[Callable[[], None]] = []
        if lost:
            steps.append(partial(self._give_up, owned, on_lost or on_revoked))
        elif owned:
            if commit:
                steps.append(self._commit_before_giving_up)
            steps.append(partial(self._give_up, owned, on_revoked))
        run_all(*steps, self._end_membership)

    def _end_membership(self) -> None:
        with self._fetcher.lock:
            self._member.leave()
        self.wake()
        self._engine.wait_until(self._fetcher.changed, lambda: self._group.silent, LEAVE_S)


def _offset(found: int | OffsetAndMetadata) -> OffsetAndMetadata:
    offset = found if isinstance(found, OffsetAndMetadata) else OffsetAndMetadata(found)
    if len(arguments.text(offset.metadata)) > OFFSET_METADATA_CHARS_MAX:
        raise ValueError(f"metadata of an offset has at most {OFFSET_METADATA_CHARS_MAX} characters")
    epoch = arguments.number("a leader epoch", offset.leader_epoch, -1, LEADER_EPOCH_MAX)
    return OffsetAndMetadata(arguments.offset(offset.offset), offset.metadata, epoch)


def _log_failure(future: Future[Any]) -> None:
    error = future.exception()
    if isinstance(error, CommitFailedError) or (isinstance(error, RaftlogError) and not error.retriable):
        LOGGER.warning("an automatic commit failed: %s", error)
