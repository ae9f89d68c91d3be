"""Which replicas keep up (the ISR), as their leader sees them.

Shown, and not waited for yet: acks=all is Raft's commit.
"""

from __future__ import annotations

from raftlog import limits
from raftlog.consensus.group import RaftGroup
from raftlog.types import Doubt


def in_sync_replicas(group: RaftGroup, replicas: tuple[int, ...], now_s: float) -> tuple[int, ...]:
    """The leader itself, and each follower that answered lately, was caught up lately, and is not doubtful.

    Empty where `group` does not lead.
    """
    if not group.is_leader:
        return ()
    members = []
    for node_id in replicas:
        progress = group.match_of(node_id)
        if node_id == group.node_id or (
            progress is not None
            and progress.doubt is Doubt.NONE
            and progress.match_index > 0
            and now_s - progress.replied_s < limits.IN_SYNC_SILENT_S
            and now_s - progress.caught_up_s < limits.IN_SYNC_LAG_S
        ):
            members.append(node_id)
    return tuple(members)
