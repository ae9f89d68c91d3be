"""What a history says against the committed offsets of a group: taken back, passed over, or not gone on from.

The group of a lab only ever commits forward: a member begins where its group has committed, and commits what it was
handed. So the committed offset of a partition never goes back, and a member that takes a partition over is handed first
neither a record that was committed before, nor one behind a record that nobody was handed.

What a question is judged by ended BEFORE the question began: an answer that is under way may be of either side.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator

from raftlog.faultlab.operations import Attempt


class _Floor:
    """Of one partition: the highest offset that was known to be committed, by time."""

    def __init__(self) -> None:
        self._times_ns: list[int] = []
        self._offsets: list[int] = []

    def note(self, time_ns: int, offset: int) -> None:
        """Called in the order of time."""
        if not self._offsets or offset > self._offsets[-1]:
            self._times_ns.append(time_ns)
            self._offsets.append(offset)

    def before(self, time_ns: int) -> int:
        """-1: nothing was committed."""
        place = bisect_left(self._times_ns, time_ns)
        return self._offsets[place - 1] if place else -1


def check_commits(attempts: Iterable[Attempt], index_of: Callable[[int, int], int]) -> Iterator[tuple[str, str]]:
    """(anomaly, proof) for each. Attempts in the order in which they ended, of one group or of none.

    `index_of(partition, offset)`: the place of an offset among those that hold a record.
    """
    floors: dict[int, _Floor] = {}
    claims: dict[int, dict[int, int]] = {}  # process -> partition -> when it claimed it; until its first record there
    owned: dict[int, set[int]] = {}  # process -> partitions
    handed: dict[int, int] = {}  # partition -> the highest index that a member was handed
    for attempt in attempts:
        process, function = attempt.process, attempt.function
        if function == "assigned":
            claimed_ns, numbers = attempt.value
            mine = owned.setdefault(process, set())
            claims.setdefault(process, {}).update(dict.fromkeys(set(numbers) - mine, claimed_ns))
            mine.update(numbers)
        elif function in ("revoked", "lost"):
            for number in attempt.value[1]:
                owned.get(process, set()).discard(number)
                claims.get(process, {}).pop(number, None)
        elif attempt.kind != "ok":
            continue
        elif function == "commit":
            for number, offset in attempt.value:
                floors.setdefault(number, _Floor()).note(attempt.end_ns, offset)
        elif function == "committed":
            yield from _check_committed(attempt, floors)
        elif function == "poll" and process in owned:
            for number, records in attempt.value:
                if not records:
                    continue
                claimed = claims[process].pop(number, None)
                first = records[0][0]
                if claimed is not None:
                    floor = floors.get(number, _Floor()).before(claimed)
                    if first < floor:
                        yield "group-repeat", f"{attempt}: partition {number} begins at {first}, {floor} was committed"
                    if (index := index_of(number, first)) > handed.get(number, -1) + 1:
                        proof = f"begins at index {index}, members were handed {handed.get(number, -1)}"
                        yield "group-skip", f"{attempt}: partition {number} {proof}"
                handed[number] = max(handed.get(number, -1), index_of(number, records[-1][0]))


def _check_committed(attempt: Attempt, floors: dict[int, _Floor]) -> Iterator[tuple[str, str]]:
    told = dict(map(tuple, attempt.value))
    for number, floor in floors.items():
        before = floor.before(attempt.begin_ns)
        if told.get(number, -1) < before:
            yield "commit-undone", f"{attempt}: partition {number} is at {told.get(number)}, {before} was committed"
    for number, offset in told.items():
        floors.setdefault(number, _Floor()).note(attempt.end_ns, offset)
