"""What the processes of a node count together: nothing is lost, and nobody waits for one that stands still."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

import raftlog.node.quota_memory as quota_memory
from raftlog.node.quota_memory import MEMORY_VARIABLE, make_quota_memory, shared_throttles
from raftlog.protocol.session import Session
from raftlog.protocol.throttles import Throttles
from raftlog.security.quotas import PRODUCER_BYTE_RATE, Quota, entity_of
from tests.patience import WAIT_S

RATE, SIZE_BYTES, START_S = 1_000, 10, 50.0


@pytest.fixture
def memory() -> Iterator[None]:
    make_quota_memory()
    yield
    os.close(int(os.environ.pop(MEMORY_VARIABLE).rpartition("/")[2]))


def throttles() -> Throttles:
    made = shared_throttles()
    made.learn([Quota(entity_of(client_id=None), PRODUCER_BYTE_RATE, RATE)])
    return made


def held_s(filling: Throttles, client_id: str = "shop", size_bytes: int = 0) -> float:
    session = Session("connection", "10.0.0.7:50000")
    session.client_id = client_id
    filling.charge(session, PRODUCER_BYTE_RATE, size_bytes, START_S)
    return max(0.0, session.held_until_s - START_S)


def child(fill: object) -> int:
    pid = os.fork()
    if not pid:
        try:
            fill()  # type: ignore[operator]
        finally:
            os._exit(0)
    return pid


def test_of_what_processes_count_at_the_same_time_nothing_is_lost(
    memory: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quota_memory, "_LOCK_S", WAIT_S)  # a busy machine may leave one without a core for long
    count, processes = 600, 3

    def fill() -> None:
        filling = throttles()
        for _ in range(count):
            held_s(filling, size_bytes=SIZE_BYTES)

    for pid in [child(fill) for _ in range(processes)]:
        assert os.waitpid(pid, 0)[1] == 0
    assert held_s(throttles()) == pytest.approx(count * processes * SIZE_BYTES / RATE - 1)


def test_nobody_waits_for_one_that_stands_still(memory: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def stand_still() -> None:
        filling = throttles()
        with filling._buckets._locked(0):
            os.kill(os.getpid(), signal.SIGSTOP)

    pid = child(stand_still)
    assert os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1])
    filling = throttles()
    monkeypatch.setattr(quota_memory, "_LOCK_S", 0.01)
    with filling._buckets._locked(0):
        pass  # else the test's own time limit would end it
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_without_a_node_a_process_counts_alone() -> None:
    assert held_s(throttles(), size_bytes=3 * RATE) == pytest.approx(2)
    assert held_s(throttles(), size_bytes=RATE) == 0
