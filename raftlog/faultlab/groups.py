"""What a history says against a consumer group: two owners at once, and commits of an older generation.

A member claims partitions with `assigned` and gives them up with `revoked` or `lost`. A member that was paused still
holds its claim when it wakes up, and one poll may have begun before it. So the rule is: once a member with a newer
claim has been handed records of a partition, no poll that begins afterwards returns records of it to a member with an
older one, and no commit for it that begins afterwards succeeds.

Where polls and commits say their generation, the same holds of generations. They come from the coordinator, not from
the members' clocks, and say one thing more: the assignment of a generation is committed before anybody hears of it, so
in one generation a partition is handed to one member only, whenever that was.

Kafka's clients hand out what they have fetched before also when they were replaced meanwhile (`late_polls`): their
commits are what is refused. Of their polls only those within one generation are judged.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator

from raftlog.faultlab.operations import Attempt


class _Handed:
    """Of one partition: when records were first handed out under each number, and to which process.

    Numbers are times of claims, or generations; later ones are greater.
    """

    def __init__(self) -> None:
        self._times_ns: list[int] = []
        self._owners: list[tuple[int, int]] = []  # (number, process), of growing numbers

    def note(self, time_ns: int, number: int, process: int) -> None:
        if not self._owners or number > self._owners[-1][0]:
            self._times_ns.append(time_ns)
            self._owners.append((number, process))

    def newer(self, begin_ns: int, number: int, process: int) -> tuple[int, int] | None:
        """(number, process) of another member that was handed records before `begin_ns`, under a greater number."""
        before = bisect_left(self._times_ns, begin_ns)
        if before and self._owners[before - 1][0] > number and self._owners[before - 1][1] != process:
            return self._owners[before - 1]
        return None


class _Partition:
    def __init__(self) -> None:
        self._claims = _Handed()
        self._generations = _Handed()
        self._owner_in: dict[int, int] = {}  # generation -> the process that was handed records in it

    def against(self, attempt: Attempt, claimed_ns: int, *, late: bool) -> str:
        """What speaks against the owner of this poll or commit; empty: nothing. `late`: it may come after a newer."""
        begin_ns, process, generation = attempt.begin_ns, attempt.process, attempt.generation
        newer = None if late else self._claims.newer(begin_ns, claimed_ns, process)
        if newer is not None:
            return (
                f"claimed at {claimed_ns / 1e9:.3f} s, after process {newer[1]} was handed records of it that it "
                f"claimed at {newer[0] / 1e9:.3f} s"
            )
        if generation is None:
            return ""
        newer = None if late else self._generations.newer(begin_ns, generation, process)
        if newer is not None:
            return f"in generation {generation}, after process {newer[1]} was handed records of it in {newer[0]}"
        owner = self._owner_in.get(generation, process)
        return "" if owner == process else f"in generation {generation}, in which process {owner} was handed records"

    def handed(self, poll: Attempt, claimed_ns: int) -> None:
        self._claims.note(poll.end_ns, claimed_ns, poll.process)
        if poll.generation is not None:
            self._generations.note(poll.end_ns, poll.generation, poll.process)
            self._owner_in.setdefault(poll.generation, poll.process)


def check_groups(attempts: Iterable[Attempt], *, late_polls: bool = False) -> Iterator[tuple[str, str]]:
    """(anomaly, proof) for each. Attempts in the order in which they ended; of one group, or of none."""
    claims: dict[int, dict[int, int]] = {}  # process -> partition -> time of the claim
    partitions: dict[int, _Partition] = {}
    for attempt in attempts:
        process = attempt.process
        if attempt.function == "assigned":
            claimed_ns, numbers = attempt.value
            claims.setdefault(process, {}).update(dict.fromkeys(numbers, claimed_ns))
            # What it keeps it claims anew too.
            claims[process] = dict.fromkeys(claims[process], claimed_ns)
        elif attempt.function in ("revoked", "lost"):
            for number in attempt.value[1]:
                claims.get(process, {}).pop(number, None)
        elif process in claims and attempt.kind == "ok" and attempt.function in ("poll", "commit"):
            for number, _ in attempt.value:
                claimed = claims[process].get(number)
                if claimed is None:
                    yield "two-owners", f"{attempt}: partition {number} is not this member's"
                    continue
                partition = partitions.setdefault(number, _Partition())
                against = partition.against(attempt, claimed, late=late_polls and attempt.function == "poll")
                if against:
                    anomaly = "two-owners" if attempt.function == "poll" else "stale-commit"
                    yield anomaly, f"{attempt}: partition {number} {against}"
                if attempt.function == "poll":
                    partition.handed(attempt, claimed)
