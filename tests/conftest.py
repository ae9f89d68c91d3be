"""What all tests share: a running cluster, and the checks that a test run cleans up after itself.

Every test is bounded by `timeout` in setup.cfg. A test that starts node processes uses `cluster` (one
for the whole run: leave it whole) or `fresh_cluster` (its own: do to it what you like); both are
marked `cluster`, so that `scripts/test -m "not cluster"` runs what needs no processes.

Two environment variables change how a run is judged:
    RAFTLOG_NO_SKIPS=1     a skipped test is a failure (the project's own CI, which has all it needs)
    RAFTLOG_TEST_RUN       set here; every process started by the tests inherits it, by which a process
                           that outlives the run is found
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from raftlog.node.local import LocalCluster

RUN_VARIABLE = "RAFTLOG_TEST_RUN"
LEFT_BEHIND_WAIT_S = 10.0
# Begun first, so that no process is left alone with one of them at the end: scripts/test hands files out in this order.
LONGEST = (
    "tests/simulator/test_seeds.py",
    "tests/node/test_healing.py",
    "tests/http/test_console.py",
    "tests/faultlab/test_lab.py",
    "tests/faultlab/test_vagrant.py",
    "tests/bench/test_growth.py",
    "tests/cli/test_demo.py",
    "tests/cli/test_doctor.py",
    "tests/client/test_cluster.py",
    "tests/client/test_group_time.py",
    "tests/client/test_idempotence.py",
    "tests/node/test_cluster.py",
    "tests/node/test_identity.py",
    "tests/node/test_moves.py",
    "tests/node/test_witnesses.py",
)

# A shared machine makes single examples slow; `timeout` bounds the test as a whole. A run that decides whether a change
# is taken draws the same examples every time; every other run draws new ones.
settings.register_profile("raftlog", deadline=None, max_examples=60, derandomize=bool(os.environ.get("CI")))
settings.load_profile("raftlog")


def pytest_configure(config: pytest.Config) -> None:
    if not _is_part(config):
        os.environ[RUN_VARIABLE] = uuid.uuid4().hex
    # A run that is ended from outside ends its clusters too, as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))  # stable: nothing else changes its place
    for item in items:
        if {"cluster", "fresh_cluster"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("cluster")
        if item.get_closest_marker("root") and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("RAFTLOG_NO_SKIPS"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} skipped, and RAFTLOG_NO_SKIPS is set: {report.longrepr}"
    return report


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A run that leaves a process behind has failed, whatever its tests said."""
    if _is_part(session.config):
        return  # the others may still be at work
    left = processes_of_run(os.environ[RUN_VARIABLE])
    deadline = time.monotonic() + LEFT_BEHIND_WAIT_S
    while left and time.monotonic() < deadline:
        time.sleep(0.1)
        left = processes_of_run(os.environ[RUN_VARIABLE])
    if left:
        session.config.stash[_LEFT] = left
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


_LEFT = pytest.StashKey[list[str]]()


def _is_part(config: pytest.Config) -> bool:
    """One of the processes among which pytest-xdist divides a run; what it starts has the mark of the whole."""
    return hasattr(config, "workerinput")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(_LEFT, []):
        terminalreporter.write_line(f"ERROR left behind: process {line}", red=True)


def processes_of_run(run: str) -> list[str]:
    """`pid command` of every other process that was started with this run's mark in its environment."""
    mark = f"{RUN_VARIABLE}={run}".encode()
    found = []
    for directory in Path("/proc").iterdir():
        if not directory.name.isdigit() or int(directory.name) == os.getpid():
            continue
        # A process may end, or belong to another user, between the listing and the reading.
        with contextlib.suppress(OSError):
            if mark not in (directory / "environ").read_bytes():
                continue
            command = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if not _own_helper(directory, command):
                found.append(f"{directory.name} {command}")
    return found


def _own_helper(directory: Path, command: str) -> bool:
    """multiprocessing's resource tracker and fork server end with the process that uses them."""
    status = (directory / "status").read_text()
    ours = f"\nPPid:\t{os.getpid()}\n" in status
    return "\nState:\tZ" in status or (ours and "multiprocessing" in command)


@pytest.fixture(autouse=True)
def environment_as_before() -> Iterator[None]:
    """A command hands options such as --security on through the environment: one that is run in this process, too."""
    before = _own_variables()
    yield
    for name in _own_variables().keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


def _own_variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("RAFTLOG_")}


ClusterFactory = Callable[..., "LocalCluster"]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Three running nodes, shared by all tests of this process. Do not stop them, and use topics of your own."""
    from raftlog.node.local import LocalCluster

    with LocalCluster(nodes=3, directory=tmp_path_factory.mktemp("cluster")) as running:
        _shared.append(running)
        yield running
        _shared.clear()


_shared: list[LocalCluster] = []


@pytest.fixture(scope="module", autouse=True)
def _topics_of_a_file_go_with_it() -> Iterator[None]:
    """Each replica is a process: hundreds of them, of tests that are over, would take what the others need."""
    yield
    if not _shared:
        return
    from raftlog import Admin
    from raftlog.errors import RaftlogError

    with contextlib.suppress(RaftlogError), Admin(_shared[0].bootstrap) as admin:
        admin.delete_topics(admin.list_topics())


@pytest.fixture
def fresh_cluster(tmp_path: Path) -> Iterator[ClusterFactory]:
    """`fresh_cluster(nodes=3, …)` gives a cluster of the test's own, ended with the test."""
    from raftlog.node.local import LocalCluster

    with contextlib.ExitStack() as stack:

        def start(nodes: int = 3, **options: object) -> LocalCluster:
            directory = tmp_path / f"cluster-{uuid.uuid4().hex[:8]}"
            return stack.enter_context(LocalCluster(nodes=nodes, directory=directory, **options))

        yield start
