"""Which replicas a node starts and stops, given an image: nothing is deleted or called new by mistake."""

from __future__ import annotations

import msgspec

from raftlog.controller.image import Image, apply
from raftlog.controller.records import (
    ClusterRecord,
    MetadataRecord,
    NodeRecord,
    PartitionsRecord,
    TopicConfigRecord,
    TopicDeletedRecord,
    TopicRecord,
)
from raftlog.node.hosting_plan import metadata_replica, plan_hosting, with_settings
from raftlog.node.meta import HostedReplica, Meta
from raftlog.types import Doubt, Endpoint, TopicConfig

CLUSTER = ClusterRecord(cluster_id="c", voters=(1, 2))
META = Meta(format_version=1, node_id=1, directory_id="d1", replicas=(metadata_replica((1, 2), lost_disk=False),))


def node(directory_id: str = "d1", node_id: int = 1) -> NodeRecord:
    return NodeRecord(node_id=node_id, directory_id=directory_id, endpoint=Endpoint("h", node_id))


def topic(name: str, *replicas: tuple[int, ...], topic_id: bytes = b"a" * 16) -> TopicRecord:
    return TopicRecord(name=name, topic_id=topic_id, replicas=replicas, config=TopicConfig())


def replay(*records: MetadataRecord) -> Image:
    image = Image()
    for record in records:
        image = apply(image, image.end_offset, record)
    return image


def with_replicas(meta: Meta, *hosted: HostedReplica) -> Meta:
    return msgspec.structs.replace(meta, replicas=(*meta.replicas, *hosted))


def test_a_node_hosts_its_own_replicas_and_no_others() -> None:
    image = replay(CLUSTER, node(), topic("t", (1, 2), (2,), (2, 1)))
    plan = plan_hosting(META, image)
    assert [hosted.spec.name for hosted in plan.add] == ["t-0", "t-2"]
    assert all(hosted.doubt is Doubt.NONE and not hosted.created for hosted in plan.add)
    assert plan_hosting(with_replicas(META, *plan.add), image) == ([], [])


def test_a_partition_that_is_older_than_the_directory_was_lost_with_the_last_one() -> None:
    image = replay(CLUSTER, node("old"), topic("t", (1,)), node("d1"), topic("u", (1,), topic_id=b"u" * 16))
    doubts = {hosted.spec.topic: hosted.doubt for hosted in plan_hosting(META, image).add}
    assert doubts == {"t": Doubt.LOST_DISK, "u": Doubt.NONE}


def test_nothing_is_hosted_before_the_directory_is_registered() -> None:
    assert plan_hosting(META, replay(CLUSTER, topic("t", (1,)))).add == []
    assert plan_hosting(META, replay(CLUSTER, node("old"), topic("t", (1,)))).add == []


def test_a_deleted_topic_is_removed_also_by_a_node_that_was_away() -> None:
    meta = with_replicas(META, *plan_hosting(META, replay(CLUSTER, node(), topic("t", (1,)))).add)
    gone = replay(CLUSTER, node(), topic("t", (1,)), TopicDeletedRecord(name="t", topic_id=b"a" * 16))
    assert [hosted.spec.name for hosted in plan_hosting(meta, gone).remove] == ["t-0"]


def test_an_image_that_is_older_than_a_topic_deletes_nothing_of_it() -> None:
    meta = with_replicas(META, *plan_hosting(META, replay(CLUSTER, node(), topic("t", (1,)))).add)
    assert plan_hosting(meta, replay(CLUSTER, node())).remove == []
    assert plan_hosting(meta, Image()).remove == []


def test_a_recreated_topic_waits_until_its_predecessor_is_gone() -> None:
    created = replay(CLUSTER, node(), topic("t", (1,)))
    meta = with_replicas(META, *plan_hosting(META, created).add)
    again = replay(
        CLUSTER,
        node(),
        topic("t", (1,)),
        TopicDeletedRecord(name="t", topic_id=b"a" * 16),
        topic("t", (1,), topic_id=b"b" * 16),
    )
    plan = plan_hosting(meta, again)
    assert [hosted.spec.topic_id for hosted in plan.remove] == [b"a" * 16]
    assert plan.add == []
    assert [hosted.spec.topic_id for hosted in plan_hosting(META, again).add] == [b"b" * 16]


def test_the_metadata_replica_is_never_removed() -> None:
    assert plan_hosting(META, replay(CLUSTER, node())).remove == []


def test_a_partition_added_after_the_directory_is_new_though_its_topic_is_older() -> None:
    image = replay(
        CLUSTER,
        node("old"),
        topic("t", (1,)),
        node("d1"),
        PartitionsRecord(name="t", topic_id=b"a" * 16, replicas=((1,), (2,))),
    )
    doubts = {hosted.spec.name: hosted.doubt for hosted in plan_hosting(META, image).add}
    assert doubts == {"t-0": Doubt.LOST_DISK, "t-1": Doubt.NONE}


def test_an_image_without_an_added_partition_deletes_nothing_of_it() -> None:
    before = replay(CLUSTER, node(), topic("t", (1,)))
    after = apply(before, 3, PartitionsRecord(name="t", topic_id=b"a" * 16, replicas=((1,),)))
    meta = with_replicas(META, *plan_hosting(META, after).add)
    assert plan_hosting(meta, before) == ([], [])


def test_settings_follow_the_image_and_never_an_older_one() -> None:
    before = replay(CLUSTER, node(), topic("t", (1,)))
    changed = TopicConfigRecord(name="t", topic_id=b"a" * 16, config=TopicConfig(retention_ms=-1))
    after = apply(before, 3, changed)
    (hosted,) = plan_hosting(META, before).add
    assert with_settings(hosted, before) is hosted
    kept = with_settings(hosted, after)
    assert kept.spec.config.retention_ms == -1
    assert with_settings(kept, before) is kept
    assert with_settings(hosted, replay(CLUSTER, node())) is hosted
    again = replay(CLUSTER, node(), node(), node(), topic("t", (1,), topic_id=b"b" * 16))
    assert with_settings(hosted, again) is hosted
