"""The judgement of `raftlog demo --groups`: who was handed what, and when, against what was sent. Pure.

    missed         sent, and handed to no member of the first group
    rereads        handed to the first group once more: a member that died or was replaced had not committed it
    two owners     a partition was handed out by a member in the middle of another member's time with it

A member's time with a partition lasts from its first to its last hand-out of it in one tenure; another assignment
of the same partition begins another tenure. A hand-out stands between two readings of the clock, and counts only where
it certainly lies inside.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from .group_member import HandOut


class Verdict(NamedTuple):
    records: int
    first_group_seen: int
    rereads: int
    missed: int
    second_group_seen: int
    two_owners: int
    wrong: int

    def failures(self) -> list[str]:
        """Why this run may not pass; empty when it may."""
        counted = (
            (self.missed, "records were missed by the first group"),
            (self.records - self.second_group_seen, "records were missed by the second group"),
            (self.two_owners, "times a partition was handed out in the middle of another member's time with it"),
            (self.wrong, "records are not what was sent"),
        )
        return [f"{count:,} {text}" for count, text in counted if count]


def judge(
    ends: Sequence[int], first: Mapping[str, Sequence[HandOut]], second: Mapping[str, Sequence[HandOut]]
) -> Verdict:
    """`ends`: how many records each partition has; by the names of the members, what they handed out."""
    seen, again, wrong = _count(ends, first)
    seen_by_second, _, wrong_in_second = _count(ends, second)
    return Verdict(
        records=sum(ends),
        first_group_seen=seen,
        rereads=again,
        missed=sum(ends) - seen,
        second_group_seen=seen_by_second,
        two_owners=two_owners(first) + two_owners(second),
        wrong=wrong + wrong_in_second,
    )


def _count(ends: Sequence[int], members: Mapping[str, Sequence[HandOut]]) -> tuple[int, int, int]:
    """(different records, records handed out once more, records that were not sent like that)."""
    seen = [bytearray(end) for end in ends]
    handed = wrong = 0
    for hand_out in (each for hand_outs in members.values() for each in hand_outs):
        there = seen[hand_out.partition]
        stray = max(0, hand_out.end - max(hand_out.start, len(there)))
        start, end = min(hand_out.start, len(there)), min(hand_out.end, len(there))
        there[start:end] = b"\x01" * (end - start)
        handed += end - start
        wrong += hand_out.wrong + stray
    different = sum(sum(there) for there in seen)
    return different, handed - different, wrong


class _Tenure(NamedTuple):
    member: str
    hand_outs: list[HandOut]

    def holds(self, hand_out: HandOut) -> bool:
        """It lies certainly behind the first of these, and in front of the last."""
        return self.hand_outs[0].after_s <= hand_out.before_s and hand_out.after_s <= self.hand_outs[-1].before_s


def two_owners(members: Mapping[str, Iterable[HandOut]]) -> int:
    """How many hand-outs lie in the middle of another member's time with the partition."""
    by_tenure: dict[int, dict[tuple[str, int], _Tenure]] = defaultdict(dict)
    for name, hand_outs in members.items():
        for hand_out in sorted(hand_outs, key=lambda each: each.before_s):
            tenures = by_tenure[hand_out.partition]
            tenures.setdefault((name, hand_out.tenure), _Tenure(name, [])).hand_outs.append(hand_out)
    return sum(
        any(other.member != tenure.member and other.holds(hand_out) for other in tenures.values())
        for tenures in by_tenure.values()
        for tenure in tenures.values()
        for hand_out in tenure.hand_outs
    )
