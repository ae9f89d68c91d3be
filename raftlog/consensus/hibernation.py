"""A group in which nothing happens sleeps: no heartbeats, no election timers, until something happens.

    AWAKE ── leader, idle for SLEEP_AFTER_S: a round, every member is asked ──► ASKING ── all have agreed ──► ASLEEP
    AWAKE ── follower or witness that is asked, and holds all there is: it agrees ─────────────────────────► ASLEEP
    ASKING ── no, or anything else that happens, a heartbeat too ──► AWAKE
    ASLEEP ── a message of the group, a client, news of a member's process, a silent node, a wish ──► AWAKE

To fall asleep is a round, since no word of one member is enough: who has not agreed keeps its election timer, and the
leader goes on with its heartbeats, which wake the others, until all have agreed to the same log, the same
configuration and the same processes. Who wakes tells the others, and stays awake for AWAKE_S at least.

Time stands still for a sleeper. Everything in the group measures by the time that its member was awake (`group_s`), so
nobody was silent, lags or is late only because all slept; the next second follows the last one before.

A leader may have been replaced while it slept. So it leads nothing until a majority has answered it in its term.
Silence is no evidence while all sleep: that a process is gone, hangs, or that a node is silent is for supervisors to
say. Pure: times in, decisions out.
"""

from __future__ import annotations

from collections.abc import Iterable

from raftlog import limits


class Hibernation:
    """Of one member, since its process began: it starts awake."""

    def __init__(self, now_s: float) -> None:
        self.is_asleep = False
        self.round = 0
        """As leader: the round under way; 0: none is."""
        self._unanswered: set[int] = set()
        self._stirred_s = now_s
        self._asleep_since_s = 0.0
        self._slept_s = 0.0  # in all, before the present sleep
        self._silent: frozenset[int] = frozenset()

    # --- time ------------------------------------------------------------------------------
    def group_s(self, now_s: float) -> float:
        """The time that the group measures by."""
        return (self._asleep_since_s if self.is_asleep else now_s) - self._slept_s

    def clock_s(self, group_s: float) -> float:
        """When, by the clock of the caller, it will be `group_s` if nobody sleeps until then."""
        return group_s + self._slept_s

    # --- awake -----------------------------------------------------------------------------
    @property
    def is_drowsy(self) -> bool:
        """Asleep, or about to be."""
        return self.is_asleep or bool(self.round)

    def stir(self, now_s: float) -> bool:
        """Something happened: a round is off, and the next one waits. True when that ended a sleep."""
        self.round = 0
        self._stirred_s = now_s
        slept = self.is_asleep
        if slept:
            self.is_asleep = False
            self._slept_s += max(0.0, now_s - self._asleep_since_s)
        return slept

    def set_silent(self, nodes: Iterable[int]) -> frozenset[int]:
        """Nodes that the supervisor does not hear: no group sleeps with a member there. Returns those that are new.

        A machine that loses its power breaks no connection, and no process of it ends as far as others know.
        """
        before, self._silent = self._silent, frozenset(nodes)
        return self._silent - before

    def call_off(self) -> None:
        """A round is over, whatever became of it."""
        self.round = 0

    # --- falling asleep --------------------------------------------------------------------
    def may_ask(self, now_s: float, others: Iterable[int]) -> bool:
        """As leader, of a group with these other members in which nothing happens."""
        return (
            not self.is_drowsy and self._silent.isdisjoint(others) and now_s - self._stirred_s >= limits.SLEEP_AFTER_S
        )

    def may_agree(self, now_s: float, others: Iterable[int]) -> bool:
        """Who has just been woken had a reason, and has to have time for it."""
        return not self.is_asleep and self._silent.isdisjoint(others) and now_s - self._stirred_s >= limits.AWAKE_S

    def ask(self, sequence: int, members: Iterable[int]) -> None:
        """As leader: a round with this number begins."""
        self.round = sequence
        self._unanswered = set(members)

    def agreed(self, node_id: int, sequence: int) -> None:
        """A member has agreed to a round."""
        if sequence == self.round:
            self._unanswered.discard(node_id)

    @property
    def is_agreed(self) -> bool:
        """As leader: the round under way has been agreed to by all."""
        return bool(self.round) and not self._unanswered

    def fall_asleep(self, now_s: float) -> None:
        self.round = 0
        self.is_asleep = True
        self._asleep_since_s = now_s
