"""A power failure between each two durability steps: nothing that persist() covered is missing or changed."""

from __future__ import annotations

import random

import pytest

from raftlog.storage.appender import Appender
from raftlog.storage.fail_points import FAIL_POINTS
from raftlog.storage.simulated_disk import SimulatedDisk, SimulatedFile
from raftlog.storage.state import EpochStart
from raftlog.types import CleanupPolicy, Half
from tests.storage.machine import CrashScript, Machine, PowerFailureError

_STEPS = 60
_SEEDS_PER_POINT = 12
_RARE = ("head.", "reset.", "truncate.")  # passed so seldom that power fails there the first time


def _machine(seed: int, point: str = "") -> Machine:
    """Half of the logs are compacted."""
    if seed % 2 and not point.startswith("compact."):
        return Machine()
    return Machine(cleanup_policy=CleanupPolicy.COMPACT | CleanupPolicy.DELETE)


def _run(seed: int, point: str | None, machine: Machine) -> tuple[set[str], bool]:
    """One life of a replica, ended at `point` or after its last step: the fail points that it passed, and whether
    power failed at `point`."""
    rng = random.Random(f"{seed} {point}")
    passed: set[str] = set()
    failed = False
    patience = 1 if point is not None and point.startswith(_RARE) else rng.randrange(1, 6)

    def fail_point(name: str) -> None:
        nonlocal patience
        passed.add(name)
        if name == point:
            patience -= 1
            if patience == 0:
                raise PowerFailureError(name)

    script = CrashScript(seed, machine)
    try:
        script.start(fail_point)
        for _ in range(_STEPS):
            script.step()
    except PowerFailureError:
        failed = True
    machine.crash(rng if rng.random() < 0.8 else None)
    # Power is not back for long: recovery itself is ended at any of its points, too.
    for _ in range(rng.randrange(3)):
        until = rng.randrange(1, 16)

        def soon(name: str) -> None:
            nonlocal until
            passed.add(name)
            until -= 1
            if until == 0:
                raise PowerFailureError(name)

        try:
            machine.open(fail_point=soon)
        except PowerFailureError:
            pass
        machine.crash(rng)
    script.judge(passed.add)
    return passed, failed


@pytest.mark.parametrize("point", [point for point in FAIL_POINTS if not point.startswith("open.")])
def test_nothing_durable_is_lost_when_power_fails_at(point: str) -> None:
    failures = sum(_run(seed, point, _machine(seed, point))[1] for seed in range(_SEEDS_PER_POINT))
    assert failures >= 3, "power hardly ever failed there: nothing was tested"


def test_every_fail_point_is_passed() -> None:
    passed: set[str] = set()
    for seed in range(60):
        passed |= _run(seed, None, _machine(seed))[0]
    assert passed == set(FAIL_POINTS)


class _LyingFile(SimulatedFile):
    def sync(self) -> None:
        """Says that it did."""


class _LyingDisk(SimulatedDisk):
    def open(self, path: str, create: bool = False) -> SimulatedFile:
        file = super().open(path, create)
        return _LyingFile(self, path, file._content, self._boot) if ".log" in path else file


def test_without_the_sync_of_segments_these_tests_find_losses() -> None:
    losses = 0
    for seed in range(20):
        try:
            _run(seed, None, Machine(_LyingDisk()))
        except AssertionError:
            losses += 1
    assert losses > 5


class _NamelessDisk(SimulatedDisk):
    def sync_dir(self, path: str) -> None:
        """Says that it did."""


def test_without_the_sync_of_directories_these_tests_find_losses() -> None:
    losses = 0
    for seed in range(20):
        try:
            _run(seed, None, Machine(_NamelessDisk()))
        except (AssertionError, KeyError):
            losses += 1
    assert losses > 5


def _append_configuration_lazily(self: Appender, halves: tuple[Half, ...]) -> int:
    """`state` says it with its next write, which may come after a batch behind it."""
    segments, values = self._segments, self._state.values
    start = EpochStart(segments.last_term, segments.last_index + 1, segments.end_offset, halves)
    values.epoch_starts = [*values.epoch_starts, start]
    self._state.is_dirty = True
    segments.epochs.append(start)
    segments.last_index += 1
    return segments.last_index


def test_a_configuration_that_is_not_durable_before_a_batch_behind_it_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Appender, "append_configuration", _append_configuration_lazily)
    found = 0
    for seed in range(40):
        try:
            _run(seed, None, Machine())
        except (AssertionError, KeyError):
            found += 1
    assert found > 5
