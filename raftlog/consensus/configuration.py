"""Configurations as they come from another member: read with a schema, and judged BEFORE they are appended (G10)."""

from __future__ import annotations

from raftlog.errors import CorruptMessageError
from raftlog.limits import VOTERS_MAX
from raftlog.protocol import raft as r
from raftlog.storage.state import EpochStart
from raftlog.types import Half


def configurations_among(m: r.AppendEntries) -> dict[int, tuple[Half, ...]]:
    """By Raft index. Raises CorruptMessageError for what no leader sends."""
    starts = dict(m.epoch_starts)
    for index, halves in m.configurations:
        if index not in starts:
            raise CorruptMessageError(f"a configuration at index {index}, which is not among the entries")
        check_halves(halves)
    return dict(m.configurations)


def configuration_in_front(m: r.ResetRequest) -> EpochStart | None:
    """Raises CorruptMessageError for what no leader sends."""
    if m.configuration is None:
        return None
    term, index, base_offset, halves = m.configuration
    if not (1 < index < m.horizon_index and 0 < term <= m.prev_term):
        raise CorruptMessageError(f"a configuration ({index}, {term}) that is not in front of {m.horizon_index}")
    check_halves(halves)
    return EpochStart(term, index, base_offset, halves)


def check_halves(halves: tuple[Half, ...]) -> None:
    """Raises CorruptMessageError for what is no configuration."""
    if not 1 <= len(halves) <= 2:
        raise CorruptMessageError(f"a configuration of {len(halves)} halves")
    for half in halves:
        if not half.replicas or len(half.ids) > VOTERS_MAX or len(set(half.ids)) != len(half.ids):
            raise CorruptMessageError(f"a configuration with the half {half}")
    replicas = {node_id for half in halves for node_id in half.replicas}
    if replicas & {node_id for half in halves for node_id in half.witnesses}:
        raise CorruptMessageError("a configuration that has a node as a replica and as a witness")
