"""The topics that raftlog writes itself, and the state machine that each of their workers hosts: said here only."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection
from typing import NamedTuple

from raftlog.controller.controller import Controller
from raftlog.controller.decisions import Founder
from raftlog.controller.image import Image
from raftlog.controller.security_changes import Guard
from raftlog.coordinator.coordinator import Coordinator
from raftlog.machine.machine import StateMachine
from raftlog.protocol.apis import Served
from raftlog.types import METADATA_TOPIC, OFFSETS_TOPIC

_ID_NAME_CHARS = 64  # of a member id; what makes it unique follows


class Surroundings(NamedTuple):
    """What a machine is given of the worker that hosts it."""

    node_id: int
    founders: Collection[Founder]
    live: Callable[[], Collection[int]]
    able: Callable[[], Collection[int]]
    publish: Callable[[Image], None]
    now_s: float
    guard: Guard


def _controller(given: Surroundings) -> StateMachine:
    return Controller(
        node_id=given.node_id,
        founders=given.founders,
        mint_id=lambda: uuid.uuid4().bytes,
        mint_cluster_id=lambda: uuid.uuid4().hex,
        live=given.live,
        able=given.able,
        publish=given.publish,
        now_s=given.now_s,
        guard=given.guard,
    )


def _coordinator(_given: Surroundings) -> StateMachine:
    return Coordinator(lambda name: f"{name[:_ID_NAME_CHARS]}-{uuid.uuid4()}")


class Hosted(NamedTuple):
    """A machine's maker, and which APIs it serves."""

    make: Callable[[Surroundings], StateMachine]
    served: Served


MACHINES = {
    METADATA_TOPIC: Hosted(_controller, Served.CONTROLLER),
    OFFSETS_TOPIC: Hosted(_coordinator, Served.COORDINATOR),
}
