"""`__consumer_offsets`: made when somebody first asks for a coordinator, and never changed after."""

from __future__ import annotations

from collections.abc import Callable, Collection

from raftlog.controller.image import Image
from raftlog.controller.placement import largest_factor, living, place
from raftlog.controller.records import TopicRecord
from raftlog.limits import COORDINATOR_PARTITIONS_MAX, COORDINATOR_RECORD_BYTES_MAX, COORDINATOR_SEGMENT_BYTES
from raftlog.types import OFFSETS_TOPIC, CleanupPolicy, TopicConfig

_REPLICAS_MAX = 3


def offsets_topic(image: Image, *, live: Collection[int], mint_id: Callable[[], bytes]) -> TopicRecord:
    """As many partitions and replicas as the nodes allow, without witnesses. `live`: nodes heard from recently.

    It keeps its replicas, so a node that is away at the first use gets one as well where a majority is alive.
    """
    alive = len(living(image, live))
    replicas = largest_factor(image, live, _REPLICAS_MAX)
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
