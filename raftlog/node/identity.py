"""Whether this process is its node: nobody else lives under its id, and its data directory is the newest. Pure.

A directory that was copied, put back from a backup, or mounted again after another had its place has forgotten votes
and acknowledgements. Nothing in it says so, but the other nodes remember:

    the run of this process is in meta.json                BEFORE its first worker starts
    every other node has that run in its own meta.json     BEFORE it takes a message of those workers

So a starting node first asks the others (`NodeState.starting`) and waits for those that can be reached. Later answers
count too: a node that knows a newer run says so in the same message from which its workers' addresses are learned, and
takes no message of the older run. docs/durability.md says what nobody can know.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from raftlog.controller.image import NodeInfo
from raftlog.errors import ConfigError
from raftlog.limits import IDENTITY_WAIT_S, TWIN_WAIT_S
from raftlog.protocol.nodes import KnownRun, NodeState, Run

_REMEDY = "copy this one aside and start with an empty directory: what other replicas hold is fetched again"


def newest(remembered: KnownRun | None, listed: NodeInfo | None) -> KnownRun | None:
    """What is known of a node: by having heard it, and by the metadata image."""
    if listed is None:
        return remembered
    by_image = KnownRun(
        node_id=listed.node_id,
        directory_id=listed.directory_id,
        registered_offset=listed.registered_offset,
        run=Run(),
    )
    if remembered is None or remembered.registered_offset < listed.registered_offset:
        same = remembered is not None and remembered.directory_id == listed.directory_id
        return msgspec.structs.replace(by_image, run=remembered.run) if remembered and same else by_image
    return remembered


def is_superseded(known: KnownRun | None, state: NodeState) -> bool:
    """Whether a run of its node is known beside which the one that speaks does not count."""
    claimed = KnownRun(
        node_id=state.node_id,
        directory_id=state.directory_id,
        registered_offset=state.registered_offset,
        run=state.run,
    )
    return known is not None and known.supersedes(claimed)


class Identity:
    """Of one process, from its start to its end. Times are seconds of a monotonic clock."""

    def __init__(self, own: KnownRun, boot_id: int, now_s: float, *, asks: bool) -> None:
        """`own`: the directory and the last run in it. `asks` is False while nothing could be forgotten."""
        self.own = own
        self.confirmed = False
        self._boot_id = boot_id
        self._asks = asks
        self._started_s = now_s
        self._answered: set[int] = set()
        self._twin_since_s: dict[int, float] = {}
        self._fault = ""

    @property
    def next_run(self) -> Run:
        return Run(self.own.run.number + 1, self._boot_id)

    def confirm(self, run: Run) -> None:
        """This process takes part, as `run`, which is durable."""
        self.confirmed = True
        self.own = msgspec.structs.replace(self.own, run=run)

    def hear(self, node_id: int, known: KnownRun | None, now_s: float) -> None:
        """Another node's word on this one; None: it does not know it."""
        if known is not None and known.supersedes(self.own):
            self._fault = self._newer(node_id, known)
        elif known is not None and known.live_boot_id not in (0, self._boot_id):
            # The process before this one, whose end is not noticed yet; or one with a copy of the directory.
            since_s = self._twin_since_s.setdefault(node_id, now_s)
            if now_s - since_s >= TWIN_WAIT_S:
                self._fault = (
                    f"another process runs as node {self.own.node_id}, says node {node_id}: stop that one first, "
                    "or start this one with an id of its own and an empty data directory"
                )
        else:
            self._twin_since_s.pop(node_id, None)
            self._answered.add(node_id)

    def check(self) -> None:
        """Raises ConfigError when this process has to end."""
        if self._fault:
            raise ConfigError(self._fault)

    def why_wait(self, others: Collection[int], now_s: float) -> str:
        """Empty: this process may take part. `others`: all nodes that might answer."""
        if self._twin_since_s:
            return f"waiting for the end of another process that runs as node {self.own.node_id}"
        if self._asks and not self._answered.issuperset(others) and now_s - self._started_s < IDENTITY_WAIT_S:
            return "waiting for the other nodes, who know whether this data directory is the newest"
        return ""

    def _newer(self, node_id: int, known: KnownRun) -> str:
        own = self.own
        if known.directory_id == own.directory_id:
            last = f"the last one here was start {own.run.number}"
            if known.run.number == own.run.number:
                last = "by another process"
            return (
                f"this data directory is an older copy, or another process runs as node {own.node_id} with a copy "
                f"of it (node {node_id} has seen start {known.run.number} with it, {last}): start the newest copy "
                f"only, or if it is gone, {_REMEDY}"
            )
        return (
            f"node {own.node_id} has run with another data directory since it ran with this one, says node {node_id}: "
            f"start the newest one, or if it is gone, {_REMEDY}"
        )
