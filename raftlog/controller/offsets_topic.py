"""`__consumer_offsets`: made when somebody first asks for a coordinator, and never changed after."""

from __future__ import annotations

from collections.abc import Callable, Collection

from raftlog.controller.image import Image
from raftlog.controller.placement import living, place
from raftlog.controller.records import TopicRecord
from raftlog.limits import COORDINATOR_PARTITIONS_MAX, COORDINATOR_RECORD_BYTES_MAX, COORDINATOR_SEGMENT_BYTES
from raftlog.types import OFFSETS_TOPIC, CleanupPolicy, TopicConfig

_REPLICAS_MAX = 3


def offsets_topic(image: Image, *, live: Collection[int], mint_id: Callable[[], bytes]) -> TopicRecord:
    """As many partitions and replicas as the nodes allow, without witnesses. `live`: nodes heard from of late.

    It keeps its replicas. So where one of three nodes is away at the first use, it gets a replica all the same: the
    two others are a majority now, and it is a third copy once it is back. More nodes that are away than that would
    leave the group coordinator without a majority, so they get none.
    """
    alive = len(living(image, live))
    replicas = next(
        count for count in range(min(len(image.nodes), _REPLICAS_MAX), 0, -1) if alive >= count // 2 + 1 or count == 1
    )
    return TopicRecord(
        name=OFFSETS_TOPIC,
        topic_id=mint_id(),
        replicas=place(
            image,
            live=live,
            partitions=min(max(alive, replicas), COORDINATOR_PARTITIONS_MAX),
            replication_factor=replicas,
        ),
        config=TopicConfig(
            segment_bytes=COORDINATOR_SEGMENT_BYTES,
            retention_ms=-1,
            cleanup_policy=CleanupPolicy.COMPACT,
            max_record_bytes=COORDINATOR_RECORD_BYTES_MAX,
        ),
    )
