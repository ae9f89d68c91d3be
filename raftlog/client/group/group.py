"""A consumer's group, as the client's thread sees it: requests and answers of the membership, offsets, topics."""

from __future__ import annotations

import logging
from concurrent.futures import Future
from functools import partial
from typing import Any

from raftlog.client.core.call import Calls
from raftlog.client.core.metadata import MetadataCache
from raftlog.client.core.metadata_refresh import Refresher
from raftlog.client.fetcher.fetcher import Fetcher
from raftlog.client.group.coordinator_finder import CoordinatorFinder
from raftlog.client.group.member import GroupMember
from raftlog.client.group.member_tasks import Ask
from raftlog.client.group.offsets import GroupOffsets
from raftlog.client.group.subscription import TopicSubscription
from raftlog.clock import NEVER_S
from raftlog.errors import ClosedError, RaftlogError
from raftlog.limits import SUBSCRIBED_METADATA_MAX_AGE_S

LOGGER = logging.getLogger(__name__)


class GroupClient:
    """The part of a client that speaks for its member of a group.

    `membership`, `offsets` and `subscribed` are used with the fetcher's lock held.
    """

    def __init__(
        self,
        calls: Calls,
        cache: MetadataCache,
        refresher: Refresher,
        fetcher: Fetcher,
        membership: GroupMember,
        *,
        request_timeout_s: float,
    ) -> None:
        self._cache = cache
        self._fetcher = fetcher
        self._coordinator = CoordinatorFinder(calls, membership.group_id, self.change)
        self.membership = membership
        self.subscribed = TopicSubscription(cache, refresher, fetcher.beginnings)
        self.offsets = GroupOffsets(
            membership.group_id,
            self._coordinator,
            cache,
            refresher,
            fetcher,
            lambda: membership.identity,
            self.change,
            group_instance_id=membership.group_instance_id,
            request_timeout_s=request_timeout_s,
        )
        self._asking: set[Future[Any]] = set()
        self.changes = 0  # grows with what the user's thread may have to look at
        self._changed = True
        self._seen_version = -1
        self._next_s = 0.0
        self.ended = False
        refresher.max_age_s = SUBSCRIBED_METADATA_MAX_AGE_S
        fetcher.begins_committed = True

    @property
    def silent(self) -> bool:
        """Nothing of the membership is under way, or ever will be."""
        return self.ended or (not self._asking and self.membership.next_step_s() == NEVER_S)

    def change(self) -> None:
        """The user's thread has changed something. Wake the client's thread AFTER it."""
        self._changed = True

    def step(self, now_s: float) -> float:
        if not self._changed and now_s < self._next_s and self._seen_version == self._cache.version:
            return self._next_s  # most rounds of the client's thread are for records
        with self._fetcher.lock:
            self._changed = False
            self._seen_version = self._cache.version
            before = self._seen_by_user()
            topics = self.subscribed.topics(now_s)
            if topics is not None:
                self.membership.subscribe(topics)
            for ask in self.membership.step(now_s, lambda names: self.subscribed.counts(names, now_s)):
                self._send(ask)
            self._next_s = min(self.offsets.step(now_s), self._coordinator.step(now_s), self.membership.next_step_s())
            if self._seen_by_user() != before:
                self.changes += 1
                self._fetcher.tell()
            return self._next_s

    def _send(self, ask: Ask) -> None:
        future = self._coordinator.ask(
            "membership", ask.api, ask.body, attempt_s=ask.attempt_s, deadline_s=ask.deadline_s
        )
        self._asking.add(future)
        future.add_done_callback(partial(self._answered, ask))

    def _answered(self, ask: Ask, future: Future[Any]) -> None:
        with self._fetcher.lock:
            self._asking.discard(future)
            self._changed = True
            before = self._seen_by_user()
            now_s = self.membership.now_s
            try:
                self.membership.answered(ask, future.result(), now_s)
            except ClosedError:
                pass
            except RaftlogError as error:
                self.membership.failed(ask, error, now_s)
            if self._seen_by_user() != before or self.silent:
                self.changes += 1
                self._fetcher.tell()

    def _seen_by_user(self) -> tuple[object, ...]:
        """A change of it may be what the user's thread waits for."""
        member = self.membership
        return member.phase, member.task(), member.error, member.hands_out_until_s() > member.now_s

    def abort(self) -> None:
        with self._fetcher.lock:
            self.ended = True
            self._coordinator.abort()
            self.offsets.abort()
            self._fetcher.tell()
