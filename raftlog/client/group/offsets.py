"""What a group has committed: written one commit after the other, read for the partitions that have to begin.

One request is under way at a time, so that an older commit that is tried again never lands on top of a newer; those
that come meanwhile go together with the next. A commit speaks as the member that its records were handed out to: after
that one was lost, it is refused, and in the next generation also if one of its partitions was given up.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from functools import partial
from itertools import takewhile
from typing import Any, NamedTuple

from raftlog.client.core.metadata import MetadataCache, Topic
from raftlog.client.core.metadata_refresh import Refresher
from raftlog.client.fetcher.fetcher import Fetcher
from raftlog.client.fetcher.partition_state import PartitionState
from raftlog.client.group.coordinator_finder import CoordinatorFinder
from raftlog.client.group.member_tasks import Identity
from raftlog.clock import LONG_AGO_S, NEVER_S
from raftlog.errors import (
    ClosedError,
    CommitFailedError,
    ErrorCode,
    RaftlogError,
    RequestTimedOutError,
    UnknownTopicOrPartitionError,
    error_for,
)
from raftlog.limits import COMMIT_ATTEMPT_S, GROUP_RETRY_S, OFFSETS_ATTEMPT_S
from raftlog.protocol import apis
from raftlog.protocol.groups import (
    CommittedOffset,
    OffsetCommitRequest,
    OffsetFetchRequest,
    OffsetFetchResponse,
)
from raftlog.types import TopicPartition


class OffsetAndMetadata(NamedTuple):
    """A committed offset: the next one to read.

    `leader_epoch`: in which the record before it was written; -1: not known. Who begins there asks no leader of an
    older epoch (KIP-320).
    """

    offset: int
    metadata: str = ""
    leader_epoch: int = -1


Offsets = Mapping[TopicPartition, OffsetAndMetadata]


class _Commit:
    def __init__(self, entries: dict[TopicPartition, CommittedOffset], identity: Identity, deadline_s: float) -> None:
        self.entries = entries
        self.identity = identity
        self.deadline_s = deadline_s
        self.given_up = False  # some of it: in a later generation somebody else may have committed more
        self.future: Future[None] = Future()

    def speaks_as(self, now: Identity) -> Identity:
        """As the member of today, while that owns what it was handed out when the commit was made."""
        if now.tenure == self.identity.tenure:
            if not self.given_up:
                self.identity = now
        elif now.member_id == self.identity.member_id:
            # To be refused. A generation whose coordinator died before it was committed is counted again: under that
            # number the member would commit what is somebody else's in the generation that it is in now.
            self.identity = self.identity._replace(generation=-1)
        return self.identity


class GroupOffsets:
    """The part of a group's client that commits offsets and looks up where to begin.

    `identity`: as whom the consumer speaks now; `change` has it stepped. A caller holds the fetcher's lock.
    """

    def __init__(
        self,
        group_id: str,
        coordinator: CoordinatorFinder,
        cache: MetadataCache,
        refresher: Refresher,
        fetcher: Fetcher,
        identity: Callable[[], Identity],
        change: Callable[[], None],
        *,
        group_instance_id: str | None,
        request_timeout_s: float,
    ) -> None:
        self._group_id = group_id
        self._coordinator = coordinator
        self._cache = cache
        self._refresher = refresher
        self._fetcher = fetcher
        self._identity = identity
        self._change = change
        self._group_instance_id = group_instance_id
        self._timeout_s = request_timeout_s
        self._commits: list[_Commit] = []  # that wait, in order
        self._sent: list[_Commit] = []  # under way, in one request
        self._sent_as = identity()
        self._committer_id = random.SystemRandom().getrandbits(63)
        self._sequence = 0
        self._retry_s = LONG_AGO_S
        self._now_s = 0.0
        self._asked: set[PartitionState] = set()
        self._found: dict[PartitionState, CommittedOffset | None] = {}
        self._found_s = LONG_AGO_S  # when the last of them were asked for, at the latest
        # By this consumer, or where it began; of a topic, which is not the one made anew under its name.
        self.committed: dict[tuple[bytes | None, int], int] = {}
        self._closed = False

    # --- commits -------------------------------------------------------------------------------
    def commit(self, offsets: Offsets, deadline_s: float) -> Future[None]:
        """Done once it is in the log of the coordinator. Wake the client's thread AFTER it.

        CommitFailedError: the partitions are somebody else's by now.
        """
        try:
            entries = {place: self._entry(place, found) for place, found in offsets.items()}
        except UnknownTopicOrPartitionError as error:
            return _failed(error)
        if self._closed:
            return _failed(ClosedError("the consumer is closed"))
        commit = _Commit(entries, self._identity(), deadline_s)
        if entries:
            self._commits.append(commit)
            self._change()
        else:
            commit.future.set_result(None)
        return commit.future

    def commit_begun_at_end(self, place: TopicPartition, offset: int, epoch: int) -> None:
        """At once, so that who follows a member that ends before its first commit begins here as well, not later."""
        self.commit({place: OffsetAndMetadata(offset, leader_epoch=epoch)}, self._now_s + self._timeout_s)

    @property
    def idle(self) -> bool:
        """No commit waits or is under way."""
        return not self._sent and not self._commits

    def gave_up(self, partitions: frozenset[TopicPartition]) -> None:
        """BEFORE the member joins again without them: until then they are nobody else's."""
        for commit in (*self._sent, *self._commits):
            if not partitions.isdisjoint(commit.entries):
                commit.speaks_as(self._identity())
                commit.given_up = True

    def _entry(self, place: TopicPartition, found: OffsetAndMetadata) -> CommittedOffset:
        state = self._fetcher.states.get(place)
        topic = self._cache.topics.get(place.topic)
        topic_id = topic.topic_id if topic is not None else None
        if state is not None and state.topic_id is not None:
            topic_id = state.topic_id  # of the one that was read
        if topic_id is None:
            raise UnknownTopicOrPartitionError(f"there is no topic {place.topic}")
        return CommittedOffset(
            topic=place.topic,
            topic_id=topic_id,
            partition=place.partition,
            offset=found.offset,
            leader_epoch=found.leader_epoch,
            metadata=found.metadata,
            begun_partitions=self._fetcher.beginnings.partitions(place.topic, topic_id),
        )

    def _send_commits(self) -> None:
        """All that wait and speak as one member; of each partition the last one counts."""
        now = self._identity()
        identity = self._commits[0].speaks_as(now)
        sent = self._sent = list(takewhile(lambda commit: commit.speaks_as(now) == identity, self._commits))
        del self._commits[: len(sent)]
        self._sequence += 1
        sequence = self._sequence  # of all attempts of this request
        entries: dict[TopicPartition, CommittedOffset] = {}
        for commit in sent:
            entries |= commit.entries
        for commit in sent:
            # Those of them with more time may be sent again alone, and must not take back what this request committed.
            commit.entries = {place: entries[place] for place in commit.entries}

        def body(_topic_id: bytes) -> OffsetCommitRequest:
            # What has been given up since keeps its older generation, and so does, this once, what goes with it.
            now = self._identity()
            self._sent_as = min((commit.speaks_as(now) for commit in sent), key=lambda found: found.generation)
            member_id, generation, _ = self._sent_as
            return OffsetCommitRequest(
                group_id=self._group_id,
                generation_id=generation,
                member_id=member_id,
                group_instance_id=self._group_instance_id if member_id else None,
                offsets=list(entries.values()),
                committer_id=self._committer_id,
                sequence=sequence,
            )

        # Those that have more time than the first to run out of it are sent again without that one.
        deadline_s = min(commit.deadline_s for commit in sent)
        future = self._coordinator.ask(
            "commit", apis.OFFSET_COMMIT, body, attempt_s=COMMIT_ATTEMPT_S, deadline_s=deadline_s
        )
        future.add_done_callback(self._commits_answered)

    def _commits_answered(self, future: Future[Any]) -> None:
        with self._fetcher.lock:
            sent, self._sent = self._sent, []
            self._change()
            kept: list[_Commit] = []
            error = future.exception()
            if error is None:
                code = future.result().error_code
                if code == ErrorCode.REBALANCE_IN_PROGRESS:
                    self._retry_s = self._now_s + GROUP_RETRY_S  # it is over once this member has synced
                    kept = sent
                elif code in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.ILLEGAL_GENERATION):
                    error = lost_error()
                    now = self._identity()
                    kept = [commit for commit in sent if commit.speaks_as(now) != self._sent_as]
                elif code:
                    error = error_for(code, future.result().error_text)
            elif isinstance(error, RaftlogError) and error.retriable:
                kept = [commit for commit in sent if commit.deadline_s > self._now_s]
            self._commits[:0] = kept
            again = set(kept)
            for commit in sent:
                if commit not in again:
                    self._end(commit, error)

    def _end(self, commit: _Commit, error: BaseException | None) -> None:
        """With the lock held: who finds that nothing is under way any more finds what that led to as well."""
        if error is None:
            self.committed |= {(each.topic_id, each.partition): each.offset for each in commit.entries.values()}
            commit.future.set_result(None)
        else:
            commit.future.set_exception(error)
        self._fetcher.changed.notify_all()

    # --- where to begin ------------------------------------------------------------------------
    def fetch(self, places: Iterable[TopicPartition], deadline_s: float) -> Future[OffsetFetchResponse]:
        """Its result may be a refusal."""
        body = OffsetFetchRequest(
            group_id=self._group_id, partitions=[(place.topic, place.partition) for place in places]
        )
        return self._coordinator.ask(
            "committed offsets", apis.OFFSET_FETCH, body, attempt_s=OFFSETS_ATTEMPT_S, deadline_s=deadline_s
        )

    def _ask_where_to_begin(self, now_s: float) -> None:
        states = [
            state
            for state in self._fetcher.states.values()
            if state.unplaced and state not in self._asked and state not in self._found
        ]
        if states:
            self._asked.update(states)
            future = self.fetch(self._asked_for(states), now_s + self._timeout_s)
            future.add_done_callback(partial(self._where_to_begin, states))

    def _asked_for(self, states: list[PartitionState]) -> list[TopicPartition]:
        """These; with LATEST all of their topics: any committed offset says which partitions came later."""
        places = dict.fromkeys(state.place for state in states)
        if self._fetcher.begins_latest:
            for topic in {place.topic for place in places}:
                known = self._cache.topics.get(topic)
                places |= dict.fromkeys(TopicPartition(topic, number) for number in (known.partitions if known else ()))
        return list(places)

    def _where_to_begin(self, states: list[PartitionState], future: Future[Any]) -> None:
        with self._fetcher.lock:
            self._asked.difference_update(states)
            self._change()
            try:
                found = read_offsets(future.result())
            except RaftlogError as error:
                for state in states:
                    if state.unplaced and not error.retriable:
                        self._fetcher.fail(state, error)
                return
            self._found_s = self._now_s
            self._learn_beginnings(found.values())
            self._found |= {state: found.get(state.place) for state in states}
            self._place_found()

    def _learn_beginnings(self, found: Iterable[CommittedOffset]) -> None:
        """Members that began at the same time may have seen different numbers: the lowest makes nothing be missed."""
        begun: dict[tuple[str, bytes], int] = {}
        for each in found:
            if each.begun_partitions >= 0:
                known = begun.get((each.topic, each.topic_id), each.begun_partitions)
                begun[each.topic, each.topic_id] = min(known, each.begun_partitions)
        for (name, topic_id), partitions in begun.items():
            topic = self._cache.topics.get(name)
            if topic is None or topic.topic_id == topic_id:
                self._fetcher.beginnings.learn(name, topic_id, partitions)

    def _place_found(self) -> None:
        for state, committed in list(self._found.items()):
            topic = self._cache.topics.get(state.place.topic)
            if state.unplaced and state.assigned and topic is None:
                continue  # which of the topics that had this name is not known yet
            if state.unplaced and state.assigned and self._may_be_newer(topic, committed):
                self._refresher.want()
                continue
            del self._found[state]
            if not state.unplaced or topic is None:
                continue
            state.topic_id = topic.topic_id
            if committed is not None and committed.topic_id == topic.topic_id:
                self._fetcher.begin_at(state, topic.topic_id, committed.offset, committed.leader_epoch)
                self.committed[topic.topic_id, committed.partition] = committed.offset
            else:
                self.committed.pop((topic.topic_id, state.place.partition), None)
                self._fetcher.begin(state)
            self._fetcher.changed.notify_all()

    def _may_be_newer(self, topic: Topic | None, committed: CommittedOffset | None) -> bool:
        """Committed by a member that had heard already that the topic was made anew: it is not to be read again."""
        if topic is None or committed is None or committed.topic_id == topic.topic_id:
            return False
        return self._refresher.answered_s < self._found_s

    # --- the client's thread -------------------------------------------------------------------
    def step(self, now_s: float) -> float:
        self._now_s = now_s
        if self._fetcher.begins_committed:
            self._ask_where_to_begin(now_s)
            if self._found:
                self._place_found()
        for commit in self._commits:
            if now_s >= commit.deadline_s:
                self._end(commit, RequestTimedOutError("the commit was not answered in time"))
        self._commits = [commit for commit in self._commits if not commit.future.done()]
        if self._commits and not self._sent and now_s >= self._retry_s:
            self._send_commits()
        next_s = min((commit.deadline_s for commit in (*self._sent, *self._commits)), default=NEVER_S)
        return min(next_s, self._retry_s) if self._commits and not self._sent else next_s

    def abort(self) -> None:
        self._closed = True
        for commit in (*self._sent, *self._commits):
            self._end(commit, ClosedError("the consumer was closed"))
        self._sent, self._commits = [], []


def read_offsets(answer: OffsetFetchResponse) -> dict[TopicPartition, CommittedOffset]:
    """Raises what the answer says."""
    if answer.error_code:
        raise error_for(answer.error_code, answer.error_text)
    return {TopicPartition(found.topic, found.partition): found for found in answer.offsets}


def _failed(error: RaftlogError) -> Future[None]:
    future: Future[None] = Future()
    future.set_exception(error)
    return future


def lost_error() -> CommitFailedError:
    return CommitFailedError(
        "this consumer is not a member of its group any more, or does not own the partition: others may read what it "
        "has read since its last commit. Poll more often, or raise max_poll_interval_ms or session_timeout_ms."
    )
