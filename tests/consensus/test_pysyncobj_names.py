"""The pinned pysyncobj has every name that raftlog overrides, reads or sets."""

import random
from importlib.metadata import version

import pysyncobj.syncobj
import pytest
from pysyncobj import SyncObj

from raftlog.consensus import elections
from raftlog.storage.simulated_disk import SimulatedDisk
from raftlog.storage.witness_log import WitnessLog

OVERRIDDEN = [name for name in vars(elections._Core) if name.startswith(("_SyncObj__", "_check"))]


def test_the_pinned_version_is_installed() -> None:
    assert version("pysyncobj") == "0.3.17"


def test_there_are_overrides() -> None:
    assert len(OVERRIDDEN) >= 10


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_each_override_replaces_something(name: str) -> None:
    assert callable(getattr(SyncObj, name))


@pytest.mark.parametrize("name", ["monotonicTime", "random", "createJournal", "createPoller"])
def test_each_replaced_global_exists_and_is_ours(name: str) -> None:
    assert hasattr(pysyncobj.syncobj, name)


@pytest.mark.parametrize(
    "name",
    ["raftElectionDeadline", "raftCurrentTerm", "votedForNodeId"],
)
def test_each_attribute_that_is_read_or_set_exists(name: str) -> None:
    disk = SimulatedDisk()
    log = WitnessLog.open(disk=disk, directory="orders-0", topic_id=b"0123456789abcdef")
    core = elections.Elections(1, log, random.Random(1), 5.0)._core
    assert hasattr(core, f"_SyncObj__{name}")


@pytest.mark.parametrize("name", ["onNodeConnected", "generateRaftTimeout", "setCurrentTerm"])
def test_each_called_method_exists(name: str) -> None:
    assert callable(getattr(SyncObj, f"_SyncObj__{name}"))
