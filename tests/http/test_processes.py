"""What real processes use: that of those that ended, what is looked at in turn, and what is given back."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from raftlog.http.processes import Processes, Usage
from raftlog.limits import HTTP_PSS_PER_SCRAPE


class _Children:
    def __init__(self) -> None:
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, code: str = "pass") -> int:
        """Its id, once it has done `code`. It then waits to be ended."""
        program = f"{code}\nprint(flush=True)\ninput()"
        child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.running.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == b"\n"
        return child.pid

    def end(self, pid: int) -> None:
        child = next(each for each in self.running if each.pid == pid)
        self.running.remove(child)
        child.kill()
        child.communicate()


@pytest.fixture
def children() -> Iterator[_Children]:
    found = _Children()
    yield found
    for child in list(found.running):
        found.end(child.pid)


@pytest.fixture
def processes() -> Iterator[Processes]:
    found = Processes()
    yield found
    found.close()


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_those_of_a_kind_are_added_up(children: _Children, processes: Processes) -> None:
    one, two = children.start(), children.start("a = open('/dev/null')")
    of_one = processes.look({"worker": [one]})["worker"]
    both = processes.look({"worker": [one, two], "http": []})
    assert (both["worker"].processes, both["worker"].threads) == (2, 2)
    assert both["worker"].descriptors == 2 * of_one.descriptors + 1
    assert both["worker"].resident_bytes > of_one.resident_bytes > of_one.proportional_bytes > 0
    assert both["http"] == Usage()


def test_cpu_time_of_processes_that_ended_stays_counted(children: _Children, processes: Processes) -> None:
    busy = children.start("while __import__('time').process_time() < 0.2: pass")
    assert processes.look({"worker": [busy]})["worker"].cpu_s >= 0.19
    children.end(busy)
    ended = processes.look({"worker": [busy]})["worker"]  # the supervisor has not noticed yet
    assert ended.processes == ended.proportional_bytes == 0
    assert ended.cpu_s >= 0.19
    later = processes.look({"worker": [children.start()]})["worker"]
    assert later.processes == 1
    assert later.cpu_s >= ended.cpu_s


def test_memory_is_looked_at_in_turn_and_the_rest_is_taken_for_like_it(
    children: _Children, processes: Processes
) -> None:
    like = [children.start() for _ in range(3 * HTTP_PSS_PER_SCRAPE)]
    first = processes.look({"worker": like})["worker"].proportional_bytes
    processes.look({"worker": like})
    all_seen = processes.look({"worker": like})["worker"].proportional_bytes
    assert 0.7 * all_seen < first < 1.3 * all_seen
    large = children.start("a = b'.' * 100_000_000")
    assert processes.look({"worker": [*like, large]})["worker"].proportional_bytes > all_seen + 80_000_000


def test_nothing_stays_open(children: _Children) -> None:
    processes, before = Processes(), _descriptors()
    pids = [children.start() for _ in range(3)]
    held = _descriptors()
    processes.look({"worker": pids})
    assert _descriptors() == held + 2 * 3
    processes.look({"worker": pids[:1]})
    assert _descriptors() == held + 2
    processes.close()
    assert _descriptors() == held >= before
