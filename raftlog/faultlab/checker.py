"""Judges a history: the anomalies of Jepsen's public Kafka workload, each with the few operations that prove it.

`log[partition][offset]` is built from all polls, and from sends whose offset is known. The *index* of an offset is its
place among the offsets that are known of its partition, so that gaps do not count.

| anomaly | what it is |
|---|---|
| inconsistent-offsets | an offset holds two values |
| duplicate | a value stands at two offsets |
| lost-write | acknowledged (or unknown, and seen elsewhere), below what was read, and returned by no poll |
| unseen | acknowledged, and not polled by the end, though the final polls were complete |
| aborted-read | a poll returns a value that was said not to be written |
| poll-skip, nonmonotonic-poll | from the last record of a poll to the first of the next one: more, or less, than 1 |
| int-poll-skip, int-nonmonotonic-poll | the same between neighbours inside one poll |
| group-missed | acknowledged, and handed to no member of the group, though the group committed all to the end |
| commit-undone | a committed offset is told that is below one that was committed before |
| group-repeat | a member that takes a partition over begins below what was committed before |
| group-skip | a member that takes a partition over begins behind a record that no member was handed |
| not-whole | long after all was healed, a partition has no leader, or a replica is not whole |
| nonmonotonic-send, int-nonmonotonic-send | a later record of a process has an index at or below an earlier one's |

Groups are judged in groups.py, and what they commit in commits.py. Without the final polls, or with hardly anything
acknowledged or polled, there is no verdict.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

from raftlog.faultlab.commits import check_commits
from raftlog.faultlab.groups import check_groups
from raftlog.faultlab.history import LAB, Operation
from raftlog.faultlab.libraries import NATIVE
from raftlog.faultlab.operations import NEVER_NS, Attempt, is_acked, pair

PROOFS_MAX = 8
"""Of each anomaly so many are shown."""
ACKED_MIN = POLLED_MIN = 100
"""A run with less says nothing."""

Value = Any


class Judgement(msgspec.Struct):
    """What the checker finds in a history.

    `valid` None: no verdict, for the reasons in `undecided`. `anomalies`: how many of each; `proofs`: some.
    """

    valid: bool | None
    acked: int
    polled: int
    anomalies: dict[str, int]
    proofs: dict[str, list[str]]
    longest_unavailable_ms: int
    undecided: list[str]
    lost: dict[str, int] = {}  # where in their partition lost values stood: prefix, middle, postfix

    @property
    def exit_code(self) -> int:
        if self.anomalies:
            return 1
        return 0 if self.valid else 2


class _Partition:
    """What is known of one partition."""

    def __init__(self) -> None:
        self.values: dict[int, Value] = {}  # offset -> the first value seen there
        self.offsets: dict[Value, int] = {}  # value -> the first offset it was seen at
        self.acked: set[Value] = set()
        self.unknown: set[Value] = set()
        self.refused: set[Value] = set()
        self.polled: set[Value] = set()
        self.shared: set[Value] = set()  # polled by members of the group
        self.index: dict[int, int] = {}
        self.polled_first = self.polled_end = -1  # the lowest and the highest index that a poll returned


class Checker:
    def __init__(self, operations: Iterable[Operation]) -> None:
        self._history = list(operations)
        self._attempts = list(pair(self._history))
        self._partitions: dict[int, _Partition] = {}
        self._found: Counter[str] = Counter()
        self._proofs: dict[str, list[str]] = {}
        self._lost: Counter[str] = Counter()
        self._members = {attempt.process for attempt in self._attempts if attempt.function == "assigned"}
        libraries = [op.value for op in self._history if op.process == LAB and op.function == "library"]
        self._late_polls = libraries not in ([], [NATIVE])
        self._drained = any(op.process == LAB and op.function == "drained" for op in self._history)

    def judge(self) -> Judgement:
        for attempt in self._attempts:
            if attempt.function == "send":
                self._take_send(attempt)
            elif attempt.function == "poll" and attempt.kind == "ok":
                self._take_poll(attempt)
        for known in self._partitions.values():
            known.index = {offset: index for index, offset in enumerate(sorted(known.values))}
            polled = [known.index[known.offsets[value]] for value in known.polled]
            known.polled_first, known.polled_end = min(polled, default=-1), max(polled, default=-1)
        self._check_polls()
        self._check_sends()
        finals = [attempt for attempt in self._attempts if attempt.function == "final" and attempt.kind == "ok"]
        undecided = self._undecided(finals)
        for number, known in sorted(self._partitions.items()):
            self._check_lost(number, known, final=bool(finals))
        for operation in self._history:
            if operation.process == LAB and operation.function == "whole":
                for problem in operation.value.split("; "):
                    self._note("not-whole", problem)
        groups = check_groups(self._attempts, late_polls=self._late_polls)
        against = itertools.chain(groups, check_commits(self._attempts, self._index_of))
        for anomaly, proof in against:
            self._note(anomaly, proof)
        acked = sum(len(known.acked) for known in self._partitions.values())
        return Judgement(
            valid=False if self._found else (None if undecided else True),
            acked=acked,
            polled=sum(len(known.polled) for known in self._partitions.values()),
            anomalies=dict(self._found),
            proofs=self._proofs,
            longest_unavailable_ms=longest_unavailable_ms(self._attempts, self._history),
            undecided=undecided,
            lost=dict(self._lost),
        )

    def _note(self, anomaly: str, proof: str) -> None:
        self._found[anomaly] += 1
        proofs = self._proofs.setdefault(anomaly, [])
        if len(proofs) < PROOFS_MAX:
            proofs.append(proof)

    def _of(self, number: int) -> _Partition:
        known = self._partitions.get(number)
        if known is None:
            known = self._partitions[number] = _Partition()
        return known

    def _index_of(self, number: int, offset: int) -> int:
        return self._partitions[number].index[offset]

    # --- building log[partition][offset] -------------------------------------------------------
    def _stands(self, known: _Partition, number: int, offset: int, value: Value, who: Attempt) -> None:
        other = known.values.setdefault(offset, value)
        if other != value:
            self._note("inconsistent-offsets", f"{who}: partition {number}, offset {offset} holds {value} and {other}")
        first = known.offsets.setdefault(value, offset)
        if first != offset:
            self._note("duplicate", f"{who}: partition {number}, value {value} is at offsets {first} and {offset}")

    def _take_send(self, attempt: Attempt) -> None:
        for number, value, *rest in attempt.value:
            known = self._of(number)
            offset = rest[0] if rest else None
            if attempt.kind == "fail" or offset == -1:
                known.refused.add(value)
            elif offset is None or not rest:
                known.unknown.add(value)
            else:
                known.acked.add(value)
                self._stands(known, number, offset, value, attempt)

    def _take_poll(self, attempt: Attempt) -> None:
        for number, records in attempt.value:
            known = self._of(number)
            polled, offsets, values = known.polled, known.offsets, known.values
            if attempt.process in self._members:
                known.shared.update(value for _, value in records)
            for offset, value in records:
                polled.add(value)
                if offsets.get(value) != offset or values.get(offset) != value:
                    self._stands(known, number, offset, value, attempt)

    # --- what polls and sends say --------------------------------------------------------------
    def _check_polls(self) -> None:
        last: dict[tuple[int, int], int] = {}  # (process, partition) -> index of the last record polled
        for attempt in self._attempts:
            if attempt.function in ("assign", "seek"):
                for number in attempt.value:
                    last.pop((attempt.process, number), None)
            elif attempt.function in ("assigned", "revoked", "lost"):
                for number in attempt.value[1]:
                    last.pop((attempt.process, number), None)
            elif attempt.function == "poll" and attempt.kind == "ok":
                for number, records in attempt.value:
                    self._check_poll(attempt, number, records, last)

    def _check_poll(
        self, attempt: Attempt, number: int, records: list[tuple[int, Value]], last: dict[tuple[int, int], int]
    ) -> None:
        known = self._of(number)
        index, refused = known.index, known.refused
        place = (attempt.process, number)
        before = last.get(place)
        prefix = ""
        for offset, value in records:
            here = index[offset]
            if before is not None and here != before + 1:
                kind = "poll-skip" if here > before else "nonmonotonic-poll"
                self._note(prefix + kind, f"{attempt}: partition {number} goes from index {before} to {here}")
            before, prefix = here, "int-"
            if value in refused:
                self._note("aborted-read", f"{attempt}: partition {number}, offset {offset} holds the refused {value}")
        if before is not None:
            last[place] = before

    def _check_sends(self) -> None:
        last: dict[tuple[int, int], int] = {}
        for attempt in self._attempts:
            if attempt.function == "producer":
                last = {place: index for place, index in last.items() if place[0] != attempt.process}
            if attempt.function != "send":
                continue
            inside: set[int] = set()
            for number, value, *_ in attempt.value:
                known = self._of(number)
                offset = known.offsets.get(value)
                if offset is None:
                    continue
                here, place = known.index[offset], (attempt.process, number)
                before = last.get(place, -1)
                if here <= before:
                    prefix = "int-" if number in inside else ""
                    self._note(
                        prefix + "nonmonotonic-send",
                        f"{attempt}: partition {number}, {value} has index {here}, after one that has {before}",
                    )
                last[place] = max(here, before)
                inside.add(number)

    def _check_lost(self, number: int, known: _Partition, *, final: bool) -> None:
        """Acknowledged and never polled. (Of unknown outcome and seen: then a poll has returned it.)"""
        unseen = [value for value in known.acked if value not in known.polled]
        lost = {value for value in unseen if known.index[known.offsets[value]] <= known.polled_end}
        for value in sorted(lost, key=str):
            index = known.index[known.offsets[value]]
            place = "prefix" if index < known.polled_first else "middle"
            self._lost[place] += 1
            where = f"partition {number}, offset {known.offsets[value]} ({place})"
            self._note("lost-write", f"{value} was acknowledged at {where}; index {known.polled_end} was read")
        if self._drained:
            for value in sorted(known.acked - known.shared, key=str):
                self._note("group-missed", f"{value} of partition {number} was acknowledged and handed to no member")
        if not final:
            return
        for value in sorted((value for value in unseen if value not in lost), key=str):
            self._lost["postfix"] += 1
            where = f"partition {number}, offset {known.offsets[value]}"
            self._note("unseen", f"{value} was acknowledged at {where} and never polled")

    def _undecided(self, finals: list[Attempt]) -> list[str]:
        acked = sum(len(known.acked) for known in self._partitions.values())
        polled = sum(len(known.polled) for known in self._partitions.values())
        reasons = []
        if acked < ACKED_MIN:
            reasons.append(f"only {acked} records were acknowledged")
        if polled < POLLED_MIN:
            reasons.append(f"only {polled} records were polled")
        if not finals:
            reasons.append("the final polls are not complete")
        reasons += [
            f"a fault that was due was not applied: {operation.value}"
            for operation in self._history
            if operation.process == LAB and operation.function == "fault" and operation.type == "fail"
        ]
        return reasons


def longest_unavailable_ms(attempts: Iterable[Attempt], history: Iterable[Operation]) -> int:
    """The longest time without any acknowledgement while sends were under way and a majority was up."""
    sends = [attempt for attempt in attempts if attempt.function == "send" and attempt.end_ns != NEVER_NS]
    acked = sorted(attempt.end_ns for attempt in sends if any(is_acked(sent) for sent in attempt.value))
    if not acked:
        return 0
    changes = [(op.time_ns, bool(op.value)) for op in history if op.process == LAB and op.function == "majority"]
    without: list[tuple[int, int]] = []
    since: int | None = None
    for time_ns, there in changes:
        if not there and since is None:
            since = time_ns
        elif there and since is not None:
            without.append((since, time_ns))
            since = None
    if since is not None:
        without.append((since, acked[-1]))
    longest = 0
    for begin, end in itertools.pairwise(acked):
        start = begin
        for lost, regained in without:
            if lost < end and regained > start:
                longest = max(longest, lost - start)
                start = max(start, regained)
        longest = max(longest, end - start)
    return longest // 1_000_000
