"""A leader's part in a plan: it feeds those who are to come, and begins or calls off the change of the voters. No I/O.

    told of a plan ──► learners are fed ──► J, as soon as nothing speaks against it ──► what consensus does by itself
        └── called off ─────────────────────► back to the old voters, by a configuration of its own

The next leader is told of the same plan, and goes on. All that is asked here can be asked again: a request names the
configuration that it expects, so one that comes late is refused.
"""

from __future__ import annotations

from raftlog import limits
from raftlog.clock import NEVER_S
from raftlog.consensus.change import WhyNot
from raftlog.consensus.member import RaftMember
from raftlog.types import NO_VOTERS, Half, Plan


class PlanKeeper:
    """Of one replica; it acts while that leads."""

    def __init__(self, member: RaftMember) -> None:
        self._member = member
        self.plan: Plan | None = None
        self.is_told = False  # the metadata has had another wish for the partition than its creation, once at least
        self._expected = (0, 0)
        self._due_s = NEVER_S
        self._feeds = False  # this leadership was told of learners
        self._patient_until_s = 0.0  # until then a learner that was given up is not fed again
        self.why_not = ""

    @property
    def number(self) -> int:
        """-1: nothing is planned, as far as this replica was told."""
        return self.plan.number if self.plan is not None else -1

    def tell(self, plan: Plan | None, expected: tuple[int, int]) -> None:
        """`expected`: (term, index) of the configuration that the metadata's assignment is from."""
        if plan is None or self.plan is None or plan.number != self.plan.number:
            self.why_not, self._patient_until_s = "", 0.0
        self.plan, self._expected, self.is_told = plan, expected, True
        self._due_s = 0.0

    @property
    def due_s(self) -> float:
        """When `step` is due, while this replica leads."""
        return self._due_s

    def end(self) -> None:
        """Leadership ended."""
        self._feeds, self.why_not, self._patient_until_s = False, "", 0.0
        self._due_s = 0.0 if self.plan is not None else NEVER_S

    def step(self, now_s: float, *, handing_over: bool, in_sync_min: int) -> None:
        """Each turn of a leader that is ready."""
        if now_s < self._due_s:
            return
        self._due_s = now_s + limits.PLAN_AGAIN_S
        member, plan = self._member, self.plan
        if plan is None:
            if self._feeds:
                member.learn(NO_VOTERS, now_s)
            self._feeds, self.why_not, self._due_s = False, "", NEVER_S
        elif plan.called_off:
            self._say(member.call_off(self._expected, now_s, handing_over=handing_over))
        elif member.voters.halves == (plan.target,):
            self._say(None)
        elif len(member.voters.halves) == 1:
            self._feed(plan, now_s)
            why = member.change_to(
                plan.target, self._expected, now_s, handing_over=handing_over, in_sync_min=in_sync_min
            )
            self._say(why, member.given_up)

    def _feed(self, plan: Plan, now_s: float) -> None:
        """Those who are not voters yet. One that has not come on for long is left alone for a while."""
        member = self._member
        left_alone = member.voters.ids
        if member.given_up:
            if not self._patient_until_s:
                self._patient_until_s = now_s + limits.LEARNER_STALLED_S
            if now_s < self._patient_until_s:
                left_alone += tuple(member.given_up)
            else:
                self._patient_until_s = 0.0
        new = [
            tuple(node_id for node_id in ids if node_id not in left_alone)
            for ids in (plan.target.replicas, plan.target.witnesses)
        ]
        member.learn(Half(*new), now_s, plan.bytes_per_s)
        self._feeds = True

    def _say(self, why: WhyNot | None, given_up: dict[int, str] | None = None) -> None:
        self.why_not = why.value if why is not None and why is not WhyNot.OTHER else ""
        if given_up:
            self.why_not = "; ".join(f"node {node_id}: {text}" for node_id, text in sorted(given_up.items()))
