"""The settings of a group's member, in the words of the user, and what is built from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from raftlog.client import arguments
from raftlog.client.core.engine import Engine
from raftlog.client.fetcher.fetcher import Fetcher
from raftlog.client.group.assignors import ASSIGNORS
from raftlog.client.group.group import GroupClient
from raftlog.client.group.member import GroupMember
from raftlog.client.group.session import GroupSession

_NEVER_MS = float("inf")


class GroupOptions(NamedTuple):
    group_id: str
    group_instance_id: str | None
    enable_auto_commit: bool
    auto_commit_interval_ms: float
    session_timeout_ms: float
    heartbeat_interval_ms: float
    max_poll_interval_ms: float
    partition_assignment_strategy: Sequence[str]
    client_id: str
    request_timeout_s: float

    def checked(self) -> GroupOptions:
        """These same options. Raises TypeError, ValueError."""
        for name in (self.group_id, self.group_instance_id or ""):
            arguments.text(name)
        strategies = self.partition_assignment_strategy
        unknown = [name for name in strategies if name not in ASSIGNORS]
        if isinstance(strategies, str) or unknown or not strategies:
            raise ValueError(f"partition_assignment_strategy is a list of {', '.join(ASSIGNORS)}, not {strategies!r}")
        if not 0 < self.heartbeat_interval_ms < self.session_timeout_ms < _NEVER_MS:
            raise ValueError("heartbeat_interval_ms is above 0 and below session_timeout_ms, which ends")
        if not (1 <= self.max_poll_interval_ms < _NEVER_MS and 0 <= self.auto_commit_interval_ms < _NEVER_MS):
            raise ValueError("max_poll_interval_ms is at least 1, auto_commit_interval_ms at least 0, and both end")
        return self

    def open(self, engine: Engine, fetcher: Fetcher) -> tuple[GroupClient, GroupSession]:
        """A part for the engine, and a face for the user's thread."""
        membership = GroupMember(
            self.group_id,
            [ASSIGNORS[name] for name in self.partition_assignment_strategy],
            session_timeout_s=self.session_timeout_ms / 1000,
            heartbeat_interval_s=self.heartbeat_interval_ms / 1000,
            max_poll_interval_s=self.max_poll_interval_ms / 1000,
            group_instance_id=self.group_instance_id,
            client_id=self.client_id,
        )
        group = GroupClient(
            engine.calls,
            engine.cache,
            engine.refresher,
            fetcher,
            membership,
            request_timeout_s=self.request_timeout_s,
        )
        if self.enable_auto_commit:
            fetcher.on_begun_at_end = group.offsets.commit_begun_at_end
        interval_s = self.auto_commit_interval_ms / 1000 if self.enable_auto_commit else None
        reader = GroupSession(
            engine, fetcher, group, auto_commit_interval_s=interval_s, timeout_s=self.request_timeout_s
        )
        return group, reader
