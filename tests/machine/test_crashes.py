"""Applied BEFORE told: a host is stopped between each two steps, and what was told must hold for ever after.

Every step of the host, of the turn of the replica below it and of the log below that. All nodes lose power at once,
and of what was not synced some is there.
"""

from __future__ import annotations

import pytest

from raftlog.errors import ErrorCode
from raftlog.machine.host import FAIL_POINTS as HOST_FAIL_POINTS
from raftlog.machine.host import Host
from raftlog.partition.replica import FAIL_POINTS as TURN_FAIL_POINTS
from tests.machine.names import Crash, World, ask_for

POINTS = (*HOST_FAIL_POINTS, *TURN_FAIL_POINTS, "append.written", "persist.data-synced")


def run(point: str, nodes: int, seed: int = 1) -> int:
    """Six crashes at `point`, each under load, and each later in its step. Returns how many were hit."""
    world = World(nodes, seed)
    number = 0
    for crash in range(6):
        leader = world.leader()
        try:
            for turn in range(16):
                if turn == 4:
                    world.armed, world.skip = point, crash
                for _ in range(3):
                    number += 1
                    world.hosts[leader].on_request(ask_for(b"%d" % number))
                world.hosts[leader].on_request(ask_for(b"%d" % (number - 4)))  # most of them are denied
                world.turns(0.0)
        except Crash:
            world.lose_power()
        world.armed = ""
        leader = world.leader()
        world.turns(0.3)
        world.turns()
        missing = world.told - world.machines[leader].given
        assert not missing, f"told, and forgotten: {missing}"
        logs = {frozenset(machine.given) for machine in world.machines.values()}
        assert len(logs) == 1, "every replica applies the same"
    assert world.told, "nobody was told anything: nothing was tested"
    assert any(answer.code is ErrorCode.TOPIC_ALREADY_EXISTS for answer in world.answers)
    return world.hits


@pytest.mark.parametrize("nodes", [1, 3])
@pytest.mark.parametrize("point", POINTS)
def test_what_was_told_is_applied_and_stays(point: str, nodes: int) -> None:
    assert run(point, nodes) >= 3, "the point was hardly reached: nothing was tested"


def test_a_host_that_tells_when_it_proposes_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order taken out: a test that cannot fail would prove nothing."""
    honest = Host._append

    def told_at_once(self: Host, results: list, now_ms: int) -> None:  # type: ignore[type-arg]
        for result in results:
            self._tell(result, ErrorCode.NONE, self._now())
        honest(self, [result._replace(caller=None) for result in results], now_ms)

    monkeypatch.setattr(Host, "_append", told_at_once)
    with pytest.raises(AssertionError, match="told before it was applied"):
        run("turn: appended", 3)


def test_a_host_that_tells_what_is_committed_and_not_applied_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Host._finish

    def before_applied(self: Host, now: object) -> bool:
        applied_offset, self._applied_offset = self._applied_offset, 1 << 60
        failed = honest(self, now)  # type: ignore[arg-type]
        self._applied_offset = applied_offset
        return failed

    monkeypatch.setattr(Host, "_finish", before_applied)
    monkeypatch.setattr(Host, "_apply", _every_third_time(Host._apply))
    with pytest.raises(AssertionError, match="told before it was applied"):
        run("host: finished", 3)


def _every_third_time(honest):  # type: ignore[no-untyped-def]
    calls = 0

    def apply(self: Host) -> None:
        nonlocal calls
        calls += 1
        if calls % 3 == 0:
            honest(self)

    return apply
