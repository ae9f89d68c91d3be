"""The named places where a test can stop the process: one between each two steps of a durability order.

A fail point is a callable that takes the name. The default does nothing; a test's raises.
"""

from __future__ import annotations

from collections.abc import Callable

FailPoint = Callable[[str], None]

FAIL_POINTS = (
    "state.a.written",
    "state.a.synced",
    "state.a.renamed",
    "state.a.durable",
    "state.b.written",
    "state.b.synced",
    "state.b.renamed",
    "state.b.durable",
    "open.state-created",
    "open.doubt-durable",
    "open.tail-cut",
    "open.segments-removed",
    "append.segment-created",
    "append.written",
    "persist.data-synced",
    "persist.names-synced",
    "epoch.batches-durable",
    "snapshot.written",
    "truncate.snapshots-removed",
    "truncate.index-cut",
    "truncate.segments-removed",
    "truncate.tail-cut",
    "truncate.data-durable",
    "head.snapshot-durable",
    "head.state-durable",
    "head.segments-removed",
    "compact.written",
    "compact.durable",
    "compact.state-durable",
    "compact.renamed",
    "compact.swapped",
    "reset.generation-made",
    "reset.snapshot-durable",
    "reset.state-durable",
    "reset.old-removed",
)


def no_fail_point(name: str) -> None:
    """The one that a running node uses."""
