"""Each anomaly: a history that has it, written by hand, and one that has it not. And no verdict without reason."""

from __future__ import annotations

import gc
import time
from typing import Any

import pytest

from raftlog.faultlab.checker import ACKED_MIN, Checker, Judgement
from raftlog.faultlab.history import LAB, Operation


class History:
    """Every call is an operation of its own, one millisecond after the one before."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []

    def add(self, process: int, kind: str, function: str, value: Any = None, generation: int | None = None) -> History:
        time_ns = (len(self.operations) + 1) * 1_000_000
        self.operations.append(Operation(process, kind, function, value, time_ns, generation))
        return self

    def send(self, process: int, *records: tuple[Any, ...], kind: str = "ok") -> History:
        self.add(process, "invoke", "send", [[0, value] for value, *_ in records])
        return self.add(process, kind, "send", [[0, *record] for record in records])

    def poll(
        self, process: int, *records: tuple[int, Any], partition: int = 0, generation: int | None = None
    ) -> History:
        self.add(process, "invoke", "poll")
        return self.add(process, "ok", "poll", [[partition, [list(record) for record in records]]], generation)

    def assigned(self, process: int, generation: int, *partitions: int) -> History:
        return self.add(process, "info", "assigned", [generation, list(partitions)])

    def revoked(self, process: int, generation: int, *partitions: int) -> History:
        return self.add(process, "info", "revoked", [generation, list(partitions)])

    def commit(
        self, process: int, partition: int, offset: int, kind: str = "ok", generation: int | None = None
    ) -> History:
        self.add(process, "invoke", "commit", [[partition, offset]], generation)
        return self.add(process, kind, "commit")

    def committed(self, process: int, **offsets: int) -> History:
        """`p0=2`: a tool is told that offset 2 of partition 0 is committed."""
        told = [[int(name.removeprefix("p")), offset] for name, offset in offsets.items()]
        return self.add(process, "invoke", "committed").add(process, "ok", "committed", told)

    def final(self) -> History:
        return self.add(9, "invoke", "final").add(9, "ok", "final", [[0, 0]])

    def judge(self) -> Judgement:
        return Checker(self.operations).judge()


def three() -> History:
    return History().send(1, ("a", 0), ("b", 1), ("c", 2))


def shared() -> History:
    """A member was handed all three records and has committed two of them."""
    return three().assigned(2, 1, 0).poll(2, (0, "a"), (1, "b"), (2, "c")).commit(2, 0, 2)


HAVE = {
    "inconsistent-offsets": three().poll(2, (0, "a"), (1, "x"), (2, "c")),
    "duplicate": three().poll(2, (0, "a"), (1, "b"), (2, "c"), (3, "a")),
    "lost-write": three().poll(2, (0, "a")).add(2, "ok", "seek", [0]).poll(2, (2, "c")),
    "unseen": three().poll(2, (0, "a"), (1, "b")).final(),
    "aborted-read": three().send(1, ("d",), kind="fail").poll(2, (0, "a"), (1, "b"), (2, "c"), (3, "d")),
    "poll-skip": three().poll(2, (0, "a")).poll(2, (2, "c")).poll(3, (1, "b")),
    "nonmonotonic-poll": three().poll(2, (0, "a"), (1, "b"), (2, "c")).poll(2, (1, "b")),
    "int-poll-skip": three().poll(2, (0, "a"), (2, "c")).poll(3, (1, "b")),
    "int-nonmonotonic-poll": three().poll(2, (1, "b"), (0, "a")),
    "nonmonotonic-send": History().send(1, ("a", 1)).send(1, ("b", 0)),
    "int-nonmonotonic-send": History().send(1, ("a", 1), ("b", 0)),
    "group-missed": three().assigned(2, 1, 0).poll(2, (0, "a"), (1, "b")).poll(3, (2, "c")).add(LAB, "info", "drained"),
    "not-whole": three().add(LAB, "fail", "whole", "lab-0: no leader; lab-1: no leader"),
    "two-owners": three().assigned(2, 1, 0).poll(2, (0, "a")).assigned(3, 2, 0).poll(3, (1, "b")).poll(2, (1, "b")),
    "stale-commit": three().assigned(2, 1, 0).poll(2, (0, "a")).assigned(3, 2, 0).poll(3, (1, "b")).commit(2, 0, 1),
    "commit-undone": shared().committed(5),
    "group-repeat": shared().revoked(2, 1, 0).assigned(3, 30_000_000, 0).poll(3, (1, "b"), (2, "c")),
    "group-skip": three().assigned(2, 1, 0).poll(2, (0, "a")).revoked(2, 1, 0).assigned(3, 2, 0).poll(3, (2, "c")),
}
HAVE_NOT = {
    "inconsistent-offsets": three().poll(2, (0, "a"), (1, "b"), (2, "c")),
    "duplicate": three().poll(2, (0, "a"), (1, "b")).poll(3, (0, "a"), (1, "b")),
    # Unknown, or said not to be written, or not read so far: none of these is lost.
    "lost-write": three()
    .send(1, ("d", None), ("e", -1), kind="info")
    .send(1, ("f", 5))
    .poll(2, (0, "a"), (1, "b"), (2, "c")),
    "unseen": three().poll(2, (0, "a"), (1, "b"), (2, "c")).final(),
    "aborted-read": three().send(1, ("d", None), kind="info").poll(2, (0, "a"), (1, "b"), (2, "c"), (3, "d")),
    # Offset 2 is a gap that nobody has ever seen anything at.
    "poll-skip": History().send(1, ("a", 0), ("b", 1), ("c", 3)).poll(2, (0, "a"), (1, "b")).poll(2, (3, "c")),
    "nonmonotonic-poll": three().poll(2, (0, "a"), (1, "b"), (2, "c")).add(2, "ok", "seek", [0]).poll(2, (0, "a")),
    "int-poll-skip": History().send(1, ("a", 0), ("c", 3)).poll(2, (0, "a"), (3, "c")),
    "int-nonmonotonic-poll": three().poll(2, (0, "a"), (1, "b")),
    # Another process, and one of unknown outcome that nobody saw.
    "nonmonotonic-send": History().send(1, ("a", 1)).send(2, ("b", 0)).send(1, ("c", None), kind="info"),
    "int-nonmonotonic-send": History().send(1, ("a", 0), ("b", 1)),
    "group-missed": (
        three().assigned(2, 1, 0).poll(2, (0, "a"), (1, "b")).revoked(2, 1, 0).assigned(3, 2, 0).poll(3, (2, "c"))
    ).add(LAB, "info", "drained"),
    "not-whole": three().add(LAB, "info", "healed", [0, "pause", [1]]),
    "two-owners": (
        three()
        .assigned(2, 1, 0)
        .poll(2, (0, "a"))
        .revoked(2, 1, 0)
        .assigned(3, 2, 0)
        .poll(3, (1, "b"))
        .poll(3, (2, "c"))
    ),
    "stale-commit": (
        three()
        .assigned(2, 1, 0)
        .poll(2, (0, "a"))
        .assigned(3, 2, 0)
        .poll(3, (0, "a"))
        .commit(2, 0, 1, kind="fail")
        .commit(3, 0, 1)
    ),
    # A commit that failed, or one that was under way when the question began, binds nobody.
    "commit-undone": shared().commit(2, 0, 3, kind="fail").committed(5, p0=2).committed(5, p0=3),
    "group-repeat": shared().revoked(2, 1, 0).assigned(3, 30_000_000, 0).poll(3, (2, "c")),
    "group-skip": three()
    .assigned(2, 1, 0)
    .poll(2, (0, "a"))
    .revoked(2, 1, 0)
    .assigned(3, 2, 0)
    .poll(3, (0, "a"), (1, "b")),
}


def test_committed_offsets_that_go_back_are_found_however_they_are_told() -> None:
    """By an older number, or by none at all; and from one question to the next."""
    for told in ({"p0": 1}, {}):
        assert "commit-undone" in shared().committed(5, **told).judge().anomalies
    assert "commit-undone" in three().committed(5, p0=2).committed(6, p0=1).judge().anomalies


def test_a_commit_under_way_is_no_floor_yet() -> None:
    """The question begins BEFORE the commit is acknowledged, so that its answer may be of either side."""
    history = shared().add(5, "invoke", "committed").commit(2, 0, 3).add(5, "ok", "committed", [[0, 2]])
    assert "commit-undone" not in history.judge().anomalies


@pytest.mark.parametrize("anomaly", HAVE)
def test_an_anomaly_is_found_where_it_is(anomaly: str) -> None:
    judgement = HAVE[anomaly].judge()
    assert judgement.anomalies.get(anomaly), judgement
    assert judgement.proofs[anomaly][0]
    assert judgement.exit_code == 1


@pytest.mark.parametrize("anomaly", HAVE_NOT)
def test_an_anomaly_is_not_found_where_it_is_not(anomaly: str) -> None:
    assert anomaly not in HAVE_NOT[anomaly].judge().anomalies


def test_a_poll_that_began_before_the_new_owners_is_no_second_owner() -> None:
    history = three().assigned(2, 1, 0).poll(2, (0, "a")).add(2, "invoke", "poll").assigned(3, 2, 0).poll(3, (0, "a"))
    history.add(2, "ok", "poll", [[0, [[1, "b"]]]])
    assert "two-owners" not in history.judge().anomalies


def test_a_generation_that_keeps_its_partitions_is_no_older_one() -> None:
    history = three().assigned(2, 1, 0, 1).poll(2, (0, "a")).assigned(3, 2).revoked(2, 1, 1).assigned(2, 2)
    history.assigned(3, 3, 1).poll(3, (0, "x"), partition=1).poll(2, (1, "b")).commit(2, 0, 2)
    assert not {"two-owners", "stale-commit"} & set(history.judge().anomalies)


def test_a_poll_of_an_older_generation_is_a_second_owner() -> None:
    history = three().assigned(3, 1, 0).assigned(2, 2, 0).poll(3, (0, "a"), generation=6)
    assert not history.judge().anomalies
    assert history.poll(2, (0, "a"), generation=5).judge().anomalies == {"two-owners": 1}


def test_a_commit_of_an_older_generation_is_stale() -> None:
    history = three().assigned(3, 1, 0).assigned(2, 2, 0).poll(3, (0, "a"), generation=6)
    assert history.commit(2, 0, 1, generation=5).judge().anomalies == {"stale-commit": 1}


def test_a_late_poll_of_a_client_of_kafkas_is_no_second_owner_and_its_commit_is_stale() -> None:
    """It hands out what it has fetched before, until it hears that it was replaced."""
    history = three().add(LAB, "info", "library", "kafka-python").assigned(2, 1, 0).poll(2, (0, "a"), generation=5)
    history.assigned(3, 2, 0).poll(3, (0, "a"), generation=6).poll(2, (1, "b"), generation=5)
    assert not history.judge().anomalies
    assert history.commit(2, 0, 1, generation=5).judge().anomalies == {"stale-commit": 1}


def test_two_clients_of_kafkas_in_one_generation_are_two_owners() -> None:
    history = three().add(LAB, "info", "library", "kafka-python").assigned(2, 1, 0).poll(2, (0, "a"), generation=5)
    assert history.assigned(3, 2, 0).poll(3, (0, "a"), generation=5).judge().anomalies == {"two-owners": 1}


def test_two_members_that_are_handed_records_in_one_generation_are_two_owners() -> None:
    history = three().assigned(2, 1, 0).poll(2, (0, "a"), generation=5).assigned(3, 2, 0)
    assert not history.judge().anomalies
    assert history.poll(3, (0, "a"), generation=5).judge().anomalies == {"two-owners": 1}


def test_generations_in_order_are_no_anomaly() -> None:
    """A newer one may hand on what an older one had; who has nothing to say of its generation is judged by claims."""
    history = three().assigned(2, 1, 0).poll(2, (0, "a"), generation=5).commit(2, 0, 1, generation=5)
    history.poll(2, (1, "b"), generation=6).revoked(2, 1, 0)
    history.assigned(3, 2, 0).poll(3, (1, "b"), generation=7).commit(3, 0, 2, generation=7)
    history.poll(3, (2, "c")).commit(3, 0, 3)
    assert not history.judge().anomalies


def test_a_poll_that_began_before_the_newer_generation_is_no_second_owner() -> None:
    history = three().assigned(3, 1, 0).assigned(2, 2, 0).add(2, "invoke", "poll").poll(3, (0, "a"), generation=6)
    history.add(2, "ok", "poll", [[0, [[0, "a"]]]], 5)
    assert not history.judge().anomalies


def test_lost_values_are_told_apart_by_where_they_stood() -> None:
    history = History().send(1, *((f"v{n}", n) for n in range(6)))
    history.poll(2, (1, "v1")).add(2, "ok", "seek", [0]).poll(2, (3, "v3")).final()
    assert history.judge().lost == {"prefix": 1, "middle": 1, "postfix": 2}


def valid() -> History:
    records = [(f"v{n}", n) for n in range(ACKED_MIN)]
    return History().send(1, *records).poll(2, *((offset, value) for value, offset in records))


def test_a_whole_history_without_anomaly_is_valid() -> None:
    judgement = valid().final().judge()
    assert (judgement.valid, judgement.exit_code, judgement.acked, judgement.polled) == (True, 0, ACKED_MIN, ACKED_MIN)


@pytest.mark.parametrize(
    ("history", "reason"),
    [
        (three().poll(2, (0, "a"), (1, "b"), (2, "c")).final(), "only 3 records were acknowledged"),
        (History().send(1, *((f"v{n}", n) for n in range(ACKED_MIN))), "only 0 records were polled"),
        (valid(), "the final polls are not complete"),
        (valid().final().add(LAB, "fail", "fault", "pause"), "a fault that was due was not applied: pause"),
    ],
)
def test_what_cannot_be_judged_is_not_valid(history: History, reason: str) -> None:
    judgement = history.judge()
    assert (judgement.valid, judgement.exit_code) == (None, 2)
    assert reason in judgement.undecided


def test_time_without_a_majority_does_not_count_as_unavailable() -> None:
    history = History().send(1, ("a", 0)).add(LAB, "info", "majority", False)
    for _ in range(50):
        history.add(3, "info", "nothing")
    history.add(LAB, "info", "majority", True).send(1, ("b", 1))
    assert history.judge().longest_unavailable_ms == 2
    for _ in range(7):
        history.add(3, "info", "nothing")
    assert history.send(1, ("c", 2)).judge().longest_unavailable_ms == 9


def test_a_history_eight_times_as_long_takes_no_more_than_its_share() -> None:
    """A run of an hour has a million operations. Of this process's own time: others may be at work here."""
    took_s = {}
    for sends in (5_000, 40_000):
        history = History()
        for n in range(sends):
            history.send(n % 8, (n, n))
            history.poll(8 + n % 8, (n, n))
        gc.disable()  # it looks at all that other tests have left in this process
        try:
            began_s = time.process_time()
            history.judge()
            took_s[sends] = time.process_time() - began_s
        finally:
            gc.enable()
    assert took_s[40_000] < 3 * 8 * took_s[5_000], "64 times would be its square"
