"""What a worker, a supervisor and a door count, put together for the supervisor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from raftlog.errors import ErrorCode
from raftlog.histogram import Histogram
from raftlog.limits import CLIENT_NAMES_MAX
from raftlog.node.dispatch import Dispatch, Route
from raftlog.node.doors.native import NativeDoor
from raftlog.partition.stages import STAGES
from raftlog.protocol import apis
from raftlog.protocol.report import Figures, PartitionFigures, Timing
from raftlog.protocol.session import Session
from raftlog.protocol.throttles import Throttles
from raftlog.types import ReplicaSpec

if TYPE_CHECKING:
    from raftlog.partition.replica import Replica  # a supervisor does without

NATIVE, INNER, NODE, KAFKA = "native", "inner", "node", "kafka"  # doors
WORKER = "worker"  # both of its doors
OTHERS = "others"
SUPERUSER_PLAIN_LOGINS = "superuser_plain_logins"
_NAME_LENGTH = 64


def door_figures(name: str, door: NativeDoor, dispatch: Dispatch) -> Figures:
    """Of a door that clients of raftlog's own protocol use."""
    figures = Figures()
    add_routes(figures, name, dispatch.served())
    add_errors(figures, WORKER if name == NATIVE else name, door.errors)
    figures.count(door.refused, "refused_messages", name)
    for reason, count in door.refused_connections.items():
        figures.count(count, "refused_connections", name, reason)
    figures.count(door.failed_logins, "failed_logins", name)
    add_throttles(figures, name, door.throttles)
    add_clients(figures, name, door.sessions.values())
    return figures


def add_replica(figures: Figures, spec: ReplicaSpec, replica: Replica, dispatches: Iterable[Dispatch]) -> None:
    """What only a replica with records counts."""
    produced_bytes = sum(
        route.received_bytes for each in dispatches for api, route in each.routes.items() if api is apis.PRODUCE
    )
    index = replica.index_usage
    own = PartitionFigures(
        topic=spec.topic,
        partition=spec.partition,
        elections=replica.elections,
        produced_bytes=produced_bytes,
        fetched_bytes=replica.fetched_bytes,
        elected_ms=replica.elected_ms,
        index_map_bytes=index.map_bytes,
        index_used_bytes=index.used_bytes,
    )
    figures.partitions.append(own)
    add_errors(figures, WORKER, replica.errors)
    for stage in STAGES:
        add_timing(figures, getattr(replica.stages, stage), "produce_stage_seconds", stage)
    add_timing(figures, replica.syncs, "sync_seconds")


def add_routes(figures: Figures, door: str, served: Iterable[Route]) -> None:
    for route in served:
        figures.count(route.requests, "requests", door, route.api.name)
        figures.count(route.seconds, "request_handling_seconds", door, route.api.name)


def add_errors(figures: Figures, door: str, counted: Mapping[int, int]) -> None:
    for code, count in counted.items():
        figures.count(count, "errors", door, _code_name(code))


def add_clients(figures: Figures, door: str, sessions: Iterable[Session]) -> None:
    """By the name and the version of the client's software. Clients choose them, so the list is bounded."""
    found: dict[tuple[str, str], int] = {}
    plain = 0
    for session in sessions:
        plain += not session.encrypted
        name = session.software or session.client_id, session.software_version
        if name not in found and len(found) >= CLIENT_NAMES_MAX:
            name = OTHERS, ""
        found[name] = found.get(name, 0) + 1
    figures.levels["connections", door] = sum(found.values())
    figures.levels["plain_connections", door] = plain
    for (software, version), count in found.items():
        series = "sessions", door, software[:_NAME_LENGTH], version[:_NAME_LENGTH]
        figures.levels[series] = figures.levels.get(series, 0) + count


def add_throttles(figures: Figures, door: str, found: Throttles) -> None:
    """By user and client id: how often quotas held them back, and how long."""
    for (user, client_id), held in found.held_back.items():
        labels = door, user[:_NAME_LENGTH], client_id[:_NAME_LENGTH]
        figures.count(held.times, "throttles", *labels)
        figures.count(held.seconds, "throttle_seconds", *labels)


def add_timing(figures: Figures, histogram: Histogram, *series: str) -> None:
    figures.timings[series] = Timing(histogram.counts, histogram.sum_s)


def _code_name(code: int) -> str:
    try:
        return ErrorCode(code).name
    except ValueError:
        return str(code)
