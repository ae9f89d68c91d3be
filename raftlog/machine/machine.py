"""What the host of a replicated state machine asks of it. A machine takes data and a time, and gives out results."""

from __future__ import annotations

from typing import Any, Protocol

from raftlog.errors import ErrorCode
from raftlog.machine.result import Now, Outbox
from raftlog.protocol.body import ResponseBody
from raftlog.protocol.envelope import Request
from raftlog.types import ReplicaSpec


class StateMachine(Protocol):
    """The state that the records of one partition add up to, and the decisions of the replica that leads.

    Every replica applies the committed records. The one that leads is loaded once all of its log is applied, takes
    requests, and is unloaded when it leads no more. Whatever it gives out is in `outbox`.
    """

    outbox: Outbox
    pipelines: bool  # decides while earlier records of its own are on their way; else on committed state alone

    @property
    def next_deadline_s(self) -> float:
        """Monotonic time at which `tick` has something to do even without input."""
        ...

    # --- every replica -------------------------------------------------------------------------
    def apply(self, offset: int, key: bytes | None, value: bytes | None) -> None:
        """Take one committed record. Raises CorruptLogError for what this version cannot read."""
        ...

    def applied_all(self) -> int:
        """All that is committed is applied, for now. Returns where the log may begin: what is below is not needed."""
        ...

    def clear(self) -> None:
        """Forget what was applied: the log is another one now, and is applied from its start."""
        ...

    def tick(self, now: Now) -> None:
        """Time has passed. Called after each turn, on a replica that does not lead as well."""
        ...

    # --- the replica that leads ----------------------------------------------------------------
    def load(self, now: Now) -> None:
        """Begin to decide."""
        ...

    def unload(self, now: Now) -> None:
        """Decide no more, and refuse all that wait. The fate of all that was proposed has been told."""
        ...

    def on_request(self, caller: Request[Any], now: Now) -> None:
        """Answered once, here or later, through the outbox."""
        ...

    # --- answers -------------------------------------------------------------------------------
    def misdirected(self, request: Request[Any], spec: ReplicaSpec) -> ErrorCode:
        """Why `request` is not for the partition `spec`, whoever leads it; NONE where it is."""
        ...

    def refusal(self, request: Request[Any], code: ErrorCode) -> ResponseBody:
        """The answer that says no more than an error, in the words of this machine's clients.

        `code` is what the log says: NOT_LEADER_OR_FOLLOWER, OFFSET_NOT_AVAILABLE before the machine is loaded, or the
        error of an append.
        """
        ...

    def is_statement(self, response: ResponseBody) -> bool:
        """Whether a machine that was replaced without noticing might say otherwise than its successor."""
        ...
