"""The metadata log loses power while it is snapshot and its head is let go: nothing acknowledged is missing."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from raftlog.controller import controller
from raftlog.partition.replica import FAIL_POINTS as TURN_FAIL_POINTS
from raftlog.protocol.nodes import FEATURES, RegisterNodeRequest, RegisterNodeResponse
from raftlog.storage.fail_points import FAIL_POINTS as LOG_FAIL_POINTS
from raftlog.storage.simulated_disk import SimulatedFile
from raftlog.types import Endpoint
from tests.machine.controller_hosts import Hosts
from tests.partition.harness import Cluster
from tests.requests import request_of

_REGISTRATIONS = 12  # of one life: three snapshots, and each lets go what lies in front of it
_FAILURES = 3
_POINTS = (
    *TURN_FAIL_POINTS,
    *(point for point in LOG_FAIL_POINTS if point.startswith(("append.", "head.", "persist.", "snapshot.", "state."))),
)


class PowerFailureError(Exception):
    """Raised by a fail point: all three nodes are gone."""


class Power:
    """Fails when some node passes `point` for the `patience`-th time from now; 0: it holds."""

    def __init__(self) -> None:
        self.point = ""
        self.patience = 0
        self.passed: Counter[str] = Counter()

    def __call__(self, name: str) -> None:
        self.passed[name] += 1
        if self.patience and name == self.point:
            self.patience -= 1
            if not self.patience:
                raise PowerFailureError(name)


class Metadata(Hosts):
    """Three replicas of the metadata log with their hosts, and what was acknowledged."""

    def __init__(self, power: Power) -> None:
        self.power = power
        self.asked = 0
        self.answered_last = 0
        self.acknowledged: set[int] = set()
        # Small segments, so that a head can go.
        super().__init__(Cluster(3, fail_point=power, retention_ms=-1, segment_bytes=1024))

    def answered(self, request: Any, response: Any) -> None:
        self.answered_last = request.body.node_id
        if isinstance(response, RegisterNodeResponse) and not response.error_code:
            self.acknowledged.add(request.body.node_id)

    def register(self) -> None:
        """One node more, from the request to the answer. Who leads may change meanwhile."""
        self.asked += 1
        node_id = 10 + self.asked
        while node_id not in self.acknowledged:
            self.answered_last = 0
            self._ask_to_register(node_id, self.leader())
            self.run(until=lambda: self.answered_last == node_id)

    def _ask_to_register(self, node_id: int, leader: int) -> None:
        request = RegisterNodeRequest(
            features=FEATURES,
            node_id=node_id,
            cluster_id=self.images[leader].cluster_id,
            directory_id=f"directory-{node_id}",
            endpoint=Endpoint("127.0.0.1", 8000 + node_id),
        )
        self.hosts[leader].on_request(request_of(request))

    def live(self) -> bool:
        """Whether the power held."""
        try:
            for _ in range(_REGISTRATIONS):
                self.register()
            self.run(until=self.agree)
        except PowerFailureError:
            return False
        return True

    def power_failure(self, rng: random.Random | None) -> None:
        """What was not synced is gone, or a part of it is. Everything starts again."""
        self.power.patience = 0
        self.cluster.power_failure(rng)
        self.start()

    def missing(self) -> set[int]:
        return {node_id for image in self.images.values() for node_id in self.acknowledged - set(image.nodes)}


@pytest.fixture(scope="module")
def passed() -> Counter[str]:
    """How often each point is passed in a life."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(controller, "METADATA_SNAPSHOT_RECORDS", 4)
        metadata = Metadata(Power())
        before = metadata.power.passed.copy()
        assert metadata.live()
        assert all(node.log.state.log_start_offset >= 12 for node in metadata.cluster.nodes.values())
        return metadata.power.passed - before


@pytest.mark.parametrize("point", _POINTS)
def test_every_acknowledged_registration_is_in_the_image_when_power_fails_at(
    point: str, passed: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controller, "METADATA_SNAPSHOT_RECORDS", 4)
    rng = random.Random(point)
    metadata = Metadata(Power())
    failures = 0
    for number in range(_FAILURES):
        metadata.power.point, metadata.power.patience = point, rng.randint(1, passed[point])
        failures += not metadata.live()
        metadata.power_failure(rng if number % 2 else None)
        assert not metadata.missing()
    assert failures, "the point was never reached: nothing was tested"
    assert metadata.live() and not metadata.missing()


def test_without_the_sync_of_segments_these_tests_find_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller, "METADATA_SNAPSHOT_RECORDS", 4)
    metadata = Metadata(Power())
    sync = SimulatedFile.sync
    monkeypatch.setattr(SimulatedFile, "sync", lambda file: None if file._path.endswith(".log") else sync(file))
    assert metadata.live()
    with pytest.raises(AssertionError):  # the logs are shorter than what they were known committed up to
        metadata.power_failure(None)
        assert not metadata.missing()
