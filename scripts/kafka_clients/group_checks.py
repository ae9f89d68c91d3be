"""Groups: sharing out, commits, members that come, go and come back; and groups of two families."""

from __future__ import annotations

from typing import Any

from .bench import Bench, equal, holds, same, wait
from .program import FailedError, Program
from .samples import PARTITIONS, Sample, samples

ALL = set(range(PARTITIONS))


def group(bench: Bench) -> None:
    """Reads all, commits, leaves; the next member of the group begins behind that."""
    topic, records = bench.topic("group"), samples()
    bench.scribe.ask("produce", topic=topic, records=records, acks="all")
    name = bench.fresh("group")
    bench.program.ask("join", topic=topic, group=name)
    _await_records(bench, records)
    bench.program.ask("commit")
    ends = {str(partition): len(records) // PARTITIONS for partition in ALL}
    equal("committed", bench.scribe.ask("group-offsets", group=name, topic=topic)["offsets"], ends)
    bench.program.ask("leave")
    wait(lambda: _state(bench, name) == "EMPTY", lambda: f"the group that was left is {_state(bench, name)}")

    later = [each | {"offset": each["offset"] + len(records) // PARTITIONS} for each in samples()]
    bench.scribe.ask("produce", topic=topic, records=later, acks="all")
    bench.program.ask("join", topic=topic, group=name)
    _await_records(bench, later)
    bench.program.ask("leave")


def rebalance(bench: Bench) -> None:
    _come_and_go(bench, bench.program, bench.second, assignor="eager")


def rebalance_cooperative(bench: Bench) -> None:
    """As above, and nobody gives up what it keeps."""
    bench.need("assignors", "cooperative")
    given_up, gained = _come_and_go(bench, bench.program, bench.second, assignor="cooperative")
    holds("given up by the first, while the second got", set(given_up) <= gained, (given_up, gained))


def rebalance_with_other_family(bench: Bench) -> None:
    """One member of this client, one of librdkafka."""
    if bench.program.about.get("own_protocol"):
        bench.need("assignors", "range, as the other clients have it")
    _come_and_go(bench, bench.program, bench.scribe, assignor="eager")


def static_member(bench: Bench) -> None:
    """One that is killed and comes back with its name has what it had, and the other notices nothing."""
    bench.need("assignors", "static")
    topic, name = bench.topic("static"), bench.fresh("static")
    bench.program.ask("join", topic=topic, group=name, instance="one")
    _await_share(bench.program, ALL)
    bench.second.ask("join", topic=topic, group=name, instance="two")
    _await_split(bench.program, bench.second)
    before, had = _of(bench.program), set(_of(bench.second)["assigned"])
    bench.second.kill()
    bench.second.ask("join", topic=topic, group=name, instance="two")
    _await_share(bench.second, had)
    after = _of(bench.program)
    equal("the other's share", after["assigned"], before["assigned"])
    equal("what the other gave up", after["revoked"], before["revoked"])
    bench.second.ask("leave")
    bench.program.ask("leave")


def member_killed(bench: Bench) -> None:
    """Its share goes to the other when its session ends."""
    topic, name = bench.topic("killed"), bench.fresh("killed")
    bench.program.ask("join", topic=topic, group=name)
    _await_share(bench.program, ALL)
    bench.second.ask("join", topic=topic, group=name)
    _await_split(bench.program, bench.second)
    bench.second.kill()
    _await_share(bench.program, ALL)
    bench.program.ask("leave")


def _come_and_go(bench: Bench, first: Program, second: Program, assignor: str) -> tuple[list[int], set[int]]:
    """Returns what the first gave up when the second came, and what that one got."""
    topic, records, name = bench.topic("rebalance"), samples(), bench.fresh("rebalance")
    first.ask("join", topic=topic, group=name, assignor=assignor)
    _await_share(first, ALL)
    second.ask("join", topic=topic, group=name, assignor=assignor)
    _await_split(first, second)
    given_up, gained = _of(first)["revoked"], set(_of(second)["assigned"])
    bench.scribe.ask("produce", topic=topic, records=records, acks="all")
    wait(
        lambda: len(_of(first)["records"]) + len(_of(second)["records"]) >= len(records),
        lambda: f"{len(_of(first)['records'])} and {len(_of(second)['records'])} records of {len(records)}",
    )
    same(records, _of(first)["records"] + _of(second)["records"], bench.reading_lacks)
    second.ask("leave")
    _await_share(first, ALL)
    first.ask("leave")
    return given_up, gained


def _of(program: Program) -> Any:
    state = program.ask("state")
    if state.get("failure"):
        raise FailedError(f"the member failed: {state['failure']}")
    return state


def _state(bench: Bench, group: str) -> Any:
    return bench.scribe.ask("describe-group", group=group)["state"]


def _await_share(program: Program, expected: set[int]) -> None:
    wait(
        lambda: set(_of(program)["assigned"]) == expected,
        lambda: f"the share is {_of(program)['assigned']}, not {sorted(expected)}",
    )


def _await_split(first: Program, second: Program) -> None:
    """Each has something, together they have all, and nothing twice."""

    def split() -> bool:
        one, other = set(_of(first)["assigned"]), set(_of(second)["assigned"])
        return bool(one) and bool(other) and one | other == ALL and not one & other

    wait(split, lambda: f"the shares are {_of(first)['assigned']} and {_of(second)['assigned']}")


def _await_records(bench: Bench, expected: list[Sample]) -> None:
    program = bench.program
    wait(
        lambda: len(_of(program)["records"]) >= len(expected),
        lambda: f"{len(_of(program)['records'])} records of {len(expected)}",
    )
    same(expected, _of(program)["records"], bench.reading_lacks)
