"""What a supervisor has to report to the controller of the partitions that are led on its node. Pure."""

from __future__ import annotations

from raftlog.controller.image import Image
from raftlog.protocol.nodes import NodeState
from raftlog.protocol.reassignments import ConfigurationReport
from raftlog.types import GroupStatus, Role


def reports_for(image: Image, own: NodeState | None) -> list[ConfigurationReport]:
    """The configurations that leaders here know to be committed, where the image has an older one.

    None that is joint: while voters change, the assignment is what it was.
    """
    reports = []
    for worker in own.workers if own is not None else ():
        status = worker.status
        group = status.group
        if group is None or status.role is not Role.LEADER or len(group.halves) != 1:
            continue
        topic = image.topics.get(status.topic)
        if topic is None or topic.topic_id != status.topic_id or status.partition >= len(topic.replicas):
            continue
        moves = topic.moves.get(status.partition)
        if _configuration(group) > (moves.configuration if moves is not None else (0, 0)):
            reports.append(
                ConfigurationReport(
                    topic=status.topic,
                    topic_id=status.topic_id,
                    partition=status.partition,
                    term=group.term,
                    index=group.index,
                    half=group.halves[0],
                )
            )
    return reports


def _configuration(group: GroupStatus) -> tuple[int, int]:
    return group.term, group.index
