"""Replicas that shall move: asked of the controller, and what leaders report to it.

A client names the nodes that a partition shall have, which becomes a plan in the metadata. The partition's leader
carries it out, and its node's supervisor reports the configuration that is committed then.
"""

from __future__ import annotations

import msgspec

from raftlog.errors import ErrorCode
from raftlog.protocol.body import Body, ResponseBody
from raftlog.protocol.topics import MutationBody
from raftlog.types import Half


class Reassignment(msgspec.Struct, array_like=True, kw_only=True):
    """The nodes that one partition shall have, the preferred leader first; `replicas` None: its plan is called off.

    `witnesses` None: the controller chooses, and keeps those that there are where it can.
    """

    topic: str
    topic_id: bytes
    partition: int
    replicas: tuple[int, ...] | None
    witnesses: tuple[int, ...] | None = None


class AlterReassignmentsRequest(MutationBody, kw_only=True):
    """Partitions get other nodes, or their plans are called off; each stands or falls alone (KIP-455).

    `bytes_per_s`: how fast the leader of each feeds new replicas; 0: LEARNER_BYTES_PER_S. Asking again with the same
    nodes changes it while they move. `validate_only`: what would be said, and nothing is done.
    """

    changes: list[Reassignment]
    bytes_per_s: int = 0
    validate_only: bool = False


class ReassignmentResult(msgspec.Struct, array_like=True, kw_only=True):
    """What became of one partition of a request."""

    topic: str
    partition: int
    error_code: ErrorCode = ErrorCode.NONE
    error_text: str = ""


class AlterReassignmentsResponse(ResponseBody):
    """NONE for a partition says that its plan is in the metadata; ListReassignments says when it is carried out."""

    results: list[ReassignmentResult] = []


class ListReassignmentsRequest(Body):
    """Which partitions have a plan; `topics` None: of all topics."""

    topics: list[str] | None = None


class OngoingReassignment(msgspec.Struct, array_like=True, kw_only=True):
    """A partition with a plan: the nodes that it has, as its leader last reported them, and those that it shall have.

    `number`: of the plan; a later plan has a higher one. `called_off`: it is going back.
    """

    topic: str
    topic_id: bytes
    partition: int
    number: int
    replicas: tuple[int, ...]
    witnesses: tuple[int, ...]
    target_replicas: tuple[int, ...]
    target_witnesses: tuple[int, ...]
    called_off: bool = False
    bytes_per_s: int = 0

    @property
    def adding(self) -> tuple[int, ...]:
        """Replicas that come."""
        return tuple(node_id for node_id in self.target_replicas if node_id not in self.replicas)

    @property
    def removing(self) -> tuple[int, ...]:
        """Replicas that go."""
        return tuple(node_id for node_id in self.replicas if node_id not in self.target_replicas)


class ListReassignmentsResponse(ResponseBody):
    """Sorted by topic and partition."""

    ongoing: list[OngoingReassignment] = []


class ConfigurationReport(msgspec.Struct, array_like=True, kw_only=True, frozen=True):
    """What the leader of a partition knows to be committed.

    `term`, `index`: of the configuration `half`.
    """

    topic: str
    topic_id: bytes
    partition: int
    term: int
    index: int
    half: Half


class ReportConfigurationsRequest(Body):
    """From the supervisor of the leaders' node, again and again until the image says it."""

    cluster_id: str
    reports: list[ConfigurationReport]


class ReportConfigurationsResponse(ResponseBody):
    pass
