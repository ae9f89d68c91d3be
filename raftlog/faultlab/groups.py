"""What a history says against a consumer group: two owners at once, and commits of an older generation.

A member claims partitions with `assigned` and gives them up with `revoked` or `lost`. A member that was paused still
holds its claim when it wakes up, and one poll may have begun before it. So the rule is: once a member of a newer
generation has been handed records of a partition, no poll that begins afterwards returns records of it to a member
of an older one, and no commit for it that begins afterwards succeeds.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator

from raftlog.faultlab.operations import Attempt


class _Handed:
    """Of one partition: when each generation was first handed records, and by which process."""

    def __init__(self) -> None:
        self._times_ns: list[int] = []
        self._owners: list[tuple[int, int]] = []  # (generation, process), of growing generations

    def note(self, time_ns: int, generation: int, process: int) -> None:
        if not self._owners or generation > self._owners[-1][0]:
            self._times_ns.append(time_ns)
            self._owners.append((generation, process))

    def newer(self, begin_ns: int, generation: int, process: int) -> tuple[int, int] | None:
        """(generation, process) of another member that was handed records before `begin_ns`, in a newer generation."""
        before = bisect_left(self._times_ns, begin_ns)
        if before and self._owners[before - 1][0] > generation and self._owners[before - 1][1] != process:
            return self._owners[before - 1]
        return None


def check_groups(attempts: Iterable[Attempt]) -> Iterator[tuple[str, str]]:
    """(anomaly, proof) for each. Attempts in the order in which they ended; of one group, or of none."""
    claims: dict[int, dict[int, int]] = {}  # process -> partition -> generation of the claim
    handed: dict[int, _Handed] = {}
    for attempt in attempts:
        process = attempt.process
        if attempt.function == "assigned":
            generation, partitions = attempt.value
            claims.setdefault(process, {}).update(dict.fromkeys(partitions, generation))
            # What it keeps it claims in the new generation too.
            claims[process] = dict.fromkeys(claims[process], generation)
        elif attempt.function in ("revoked", "lost"):
            for number in attempt.value[1]:
                claims.get(process, {}).pop(number, None)
        elif process in claims and attempt.kind == "ok" and attempt.function in ("poll", "commit"):
            for number, _ in attempt.value:
                claimed = claims[process].get(number)
                if claimed is None:
                    yield "two-owners", f"{attempt}: partition {number} is not this member's"
                    continue
                owners = handed.setdefault(number, _Handed())
                newer = owners.newer(attempt.begin_ns, claimed, process)
                if newer is not None:
                    anomaly = "two-owners" if attempt.function == "poll" else "stale-commit"
                    yield (
                        anomaly,
                        f"{attempt}: partition {number} in generation {claimed}, after process {newer[1]} was handed "
                        f"records of it in generation {newer[0]}",
                    )
                if attempt.function == "poll":
                    owners.note(attempt.end_ns, claimed, process)
