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
from raftlog.protocol.report import Count, Figures, Level, Timing
from raftlog.protocol.session import Session
from raftlog.protocol.throttles import Throttles

if TYPE_CHECKING:
    from raftlog.partition.replica import Replica  # a supervisor does without

NATIVE, INNER, NODE, KAFKA = "native", "inner", "node", "kafka"  # doors
WORKER = "worker"  # both of its doors
OTHERS = "others"
SUPERUSER_PLAIN_LOGINS = "superuser_plain_logins"
_NAME_LENGTH = 64


def door_figures(name: str, door: NativeDoor, dispatch: Dispatch) -> Figures:
    """Of a door that clients of raftlog's own protocol use."""
    figures = Figures(routes(name, dispatch.served()), [], [])
    figures.counts += errors(WORKER if name == NATIVE else name, door.errors)
    figures.counts.append(Count("refused_messages", (name,), door.refused))
    figures.counts += [Count("refused_connections", (name, why), n) for why, n in door.refused_connections.items()]
    figures.counts.append(Count("failed_logins", (name,), door.failed_logins))
    figures.counts += throttles(name, door.throttles)
    figures.levels.append(Level("connections", (name,), len(door.sessions)))
    figures.levels += clients(name, door.sessions.values())
    return figures


def replica_figures(topic: str, partition: int, replica: Replica, dispatches: Iterable[Dispatch]) -> Figures:
    """What only a replica with records counts."""
    place = topic, str(partition)
    produced_bytes = sum(
        route.received_bytes for each in dispatches for api, route in each.routes.items() if api is apis.PRODUCE
    )
    stages, index = replica.stages, replica.index_usage
    levels = [
        Level("partition_index_map_bytes", place, index.map_bytes),
        Level("partition_index_used_bytes", place, index.used_bytes),
    ]
    if replica.elected_ms:
        levels.append(Level("partition_elected_timestamp_seconds", place, replica.elected_ms / 1000))
    return Figures(
        [
            Count("partition_elections", place, replica.elections),
            Count("partition_produced_bytes", place, produced_bytes),
            Count("partition_fetched_bytes", place, replica.fetched_bytes),
            *errors(WORKER, replica.errors),
        ],
        levels,
        [
            *(timing("produce_stage_seconds", (stage,), getattr(stages, stage)) for stage in STAGES),
            timing("sync_seconds", (), replica.syncs),
        ],
    )


def routes(door: str, served: Iterable[Route]) -> list[Count]:
    counts = []
    for route in served:
        labels = door, route.api.name
        counts.append(Count("requests", labels, route.requests))
        counts.append(Count("request_handling_seconds", labels, route.seconds))
    return counts


def errors(door: str, counted: Mapping[int, int]) -> list[Count]:
    return [Count("errors", (door, _code_name(code)), count) for code, count in counted.items()]


def clients(door: str, sessions: Iterable[Session]) -> list[Level]:
    """By the name and the version of the client's software. Clients choose them, so the list is bounded."""
    found: dict[tuple[str, str], int] = {}
    for session in sessions:
        name = session.software or session.client_id, session.software_version
        if name not in found and len(found) >= CLIENT_NAMES_MAX:
            name = OTHERS, ""
        found[name] = found.get(name, 0) + 1
    return [
        Level("sessions", (door, name[:_NAME_LENGTH], version[:_NAME_LENGTH]), count)
        for (name, version), count in found.items()
    ]


def throttles(door: str, found: Throttles) -> Iterable[Count]:
    """By user and client id: how often quotas held them back, and how long."""
    for (user, client_id), held in found.held_back.items():
        labels = door, user[:_NAME_LENGTH], client_id[:_NAME_LENGTH]
        yield Count("throttles", labels, held.times)
        yield Count("throttle_seconds", labels, held.seconds)


def timing(name: str, labels: tuple[str, ...], histogram: Histogram) -> Timing:
    return Timing(name, labels, histogram.counts, histogram.sum_s)


def _code_name(code: int) -> str:
    try:
        return ErrorCode(code).name
    except ValueError:
        return str(code)
