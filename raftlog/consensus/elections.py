"""pysyncobj behind one class: it runs terms, candidacies and the election timer; nothing else of it is used.

The sole import of pysyncobj. What it gets wrong about replication, measured, and the guards that stand
in for it are listed in docs/consensus.md. The overrides work because pysyncobj reaches its own
private methods through `self`; a test holds that every name used here exists in the pinned version.

Clock and chance are module globals of pysyncobj. The first `Elections` of a process replaces them by two that follow
whichever group is being driven, so that many groups with clocks of their own can live in one process (the simulator).
"""

from __future__ import annotations

import _socket
import random
from typing import Any, NoReturn, Protocol

import pysyncobj.syncobj as _syncobj
import pysyncobj.win_inet_pton as _inet
from pysyncobj import SyncObj, SyncObjConf
from pysyncobj.node import Node
from pysyncobj.transport import Transport

from raftlog import limits
from raftlog.storage.replica_state import ReplicaState
from raftlog.types import NOBODY

_NO_OP = b"\x01"


class VoterLog(Protocol):
    """What elections read of a log; of its state they set the term and the vote."""

    @property
    def state(self) -> ReplicaState: ...
    @property
    def last_index(self) -> int: ...
    @property
    def last_term(self) -> int: ...


class _Driven:
    """The clock, chance and journal of the group whose turn it is."""

    now_s = 0.0
    rng = random.Random(0)
    journal: _Journal | None = None

    @staticmethod
    def monotonic() -> float:
        return _Driven.now_s

    @staticmethod
    def random() -> float:
        return _Driven.rng.random()


class _NoPoller:
    """Sockets are ours: pysyncobj has nothing to poll."""

    def poll(self, timeout: float) -> None:
        """Returns at once."""


# The import of pysyncobj puts a function that only works on Windows in the place of everybody's socket.inet_ntop.
_inet.socket.inet_ntop = _socket.inet_ntop


def _take_globals() -> None:
    """From here on pysyncobj's clock, chance, journal and poller are ours."""
    _syncobj.monotonicTime = _Driven.monotonic
    _syncobj.random = _Driven
    _syncobj.createJournal = lambda journal_file: _Driven.journal
    _syncobj.createPoller = lambda poller_type: _NoPoller()


class _Journal:
    """Shows pysyncobj the ends of our log. G9: it can neither append nor delete."""

    def __init__(self, log: VoterLog) -> None:
        self._log = log

    def __len__(self) -> int:
        return self._log.last_index

    def __getitem__(self, item: int) -> tuple[bytes, int, int]:
        assert item in (0, -1), "pysyncobj reads only the ends of the log"
        if item == 0:
            return (_NO_OP, 1, 0)
        return (_NO_OP, self._log.last_index, self._log.last_term)

    def _refuse(self, *arguments: object) -> NoReturn:
        raise AssertionError("only raftlog appends to or deletes from a log")

    add = clear = deleteEntriesFrom = deleteEntriesTo = _refuse

    def setCurrentTerm(self, term: int, voted_for: int | None) -> None:
        self._log.state.set_term(term, NOBODY if voted_for is None else voted_for)

    def getCurrentTerm(self) -> int:
        return self._log.state.term

    def getVotedForNodeId(self) -> int | None:
        return None if self._log.state.voted_for == NOBODY else self._log.state.voted_for

    def getRaftCommitIndex(self) -> int:
        return 1

    def setRaftCommitIndex(self, index: int) -> None:
        """The commit index is ours (G5)."""

    def onOneSecondTimer(self) -> None:
        """Nothing to do: what must be durable is made so in the worker's turn."""


class _Transport(Transport):  # type: ignore[misc]
    """Sends nothing: all that pysyncobj would send is ours to send."""

    def send(self, node: Node, message: dict[str, Any]) -> None:
        assert message["type"] == "request_vote", message["type"]

    def destroy(self) -> None:
        """Nothing is open."""


class _Core(SyncObj):  # type: ignore[misc]
    """pysyncobj with its leaders, replication, commit rule and compaction taken out. It never leads."""

    def _SyncObj__onBecomeLeader(self) -> None:
        """G5: leadership begins once the no-op is durable, and by our count of votes."""

    def _SyncObj__sendAppendEntries(self) -> NoReturn:
        raise AssertionError("leaders are ours")

    def _SyncObj__getEntries(self, *arguments: object, **options: object) -> NoReturn:
        raise AssertionError("the commit rule is ours (G5)")

    def _SyncObj__applyLogEntries(self) -> bool:
        return False

    def _SyncObj__doApplyCommand(self, command: object) -> None:
        return None  # G10: no byte of a client reaches pickle

    def _SyncObj__tryLogCompaction(self) -> None:
        """G9: only retention deletes, and it is ours."""

    def _SyncObj__loadDumpFile(self, clearJournal: bool) -> None:
        """Nothing is installed through pysyncobj."""

    def _SyncObj__deleteEntriesFrom(self, index: int) -> NoReturn:
        raise AssertionError("only the group truncates (G1)")

    def _SyncObj__deleteEntriesTo(self, index: int) -> NoReturn:
        raise AssertionError("only retention deletes (G9)")

    def _SyncObj__onMessageReceived(self, node: Node, message: object) -> NoReturn:
        raise AssertionError("messages go to the group, not to pysyncobj (G10)")

    def _checkCommandsToApply(self) -> None:
        """G10: appending happens only as leader, and is never forwarded."""


class Elections:
    """The election timer and the terms of one member. All times are seconds of the monotonic clock passed in."""

    def __init__(self, node_id: int, log: VoterLog, rng: random.Random, now_s: float) -> None:
        self._log = log
        self._rng = rng
        _take_globals()
        self._drive(now_s)
        _Driven.journal = _Journal(log)
        # pysyncobj knows nobody but this member: it counts no vote and misses no connection. Voters are ours.
        self._core = _Core(
            Node(node_id),
            [],
            SyncObjConf(
                autoTick=False,
                raftMinTimeout=limits.ELECTION_TIMEOUT_MIN_S,
                raftMaxTimeout=limits.ELECTION_TIMEOUT_MAX_S,
                dynamicMembershipChange=False,
            ),
            transport=_Transport(None, None, None),
        )

    def _drive(self, now_s: float) -> None:
        _Driven.now_s = now_s
        _Driven.rng = self._rng

    @property
    def deadline_s(self) -> float:
        """When this replica, not leading, loses patience with its leader; 0.0 once it may stand (`expire`)."""
        return self._core._SyncObj__raftElectionDeadline  # type: ignore[no-any-return]

    def tick(self, now_s: float) -> bool:
        """True when the time-out is over and this member, not leading, has begun a new term with its own vote."""
        if now_s <= self.deadline_s:
            return False  # pysyncobj would only look at the time, which costs a fifth of a follower's turn
        self._drive(now_s)
        term = self._log.state.term
        self._core.doTick(0)
        return self._log.state.term != term

    def postpone(self, now_s: float) -> None:
        """A sign of life from the leader, or a vote given: begin a new random time-out."""
        self._drive(now_s)
        self._core._SyncObj__raftElectionDeadline = now_s + self._core._SyncObj__generateRaftTimeout()

    def hasten(self, now_s: float) -> None:
        """The leader is known to be gone: lose patience soon, each replica at its own moment."""
        soon_s = now_s + limits.LEADER_GONE_S * (0.1 + 0.9 * self._rng.random())
        if self.deadline_s > soon_s:
            self._core._SyncObj__raftElectionDeadline = soon_s

    def expire(self) -> None:
        """Let the next tick stand for election: a prevote was won, or a transfer came."""
        self._core._SyncObj__raftElectionDeadline = 0.0

    def adopt_term(self, term: int, voted_for: int, now_s: float) -> None:
        """Follow `term`, with the vote given to `voted_for` (or nobody, -1)."""
        self._drive(now_s)
        self._core._SyncObj__setCurrentTerm(term, None if voted_for == NOBODY else voted_for)
