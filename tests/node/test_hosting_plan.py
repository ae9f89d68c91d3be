"""Which replicas a node starts and stops, given an image: nothing is deleted or called new by mistake."""

from __future__ import annotations

import msgspec

from raftlog.controller.image import Image, apply
from raftlog.controller.records import (
    AssignmentRecord,
    ClusterRecord,
    MetadataRecord,
    NodeRecord,
    PartitionsRecord,
    PlanRecord,
    TopicConfigRecord,
    TopicDeletedRecord,
    TopicRecord,
)
from raftlog.node import hosting_plan
from raftlog.node.hosting_plan import (
    NO_CONFIGURATION,
    HostingChange,
    Word,
    metadata_replica,
    with_naming,
    with_settings,
)
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


def plan_hosting(
    meta: Meta, image: Image, word: Word | None = NO_CONFIGURATION, *, current: bool = True
) -> HostingChange:
    """As if each replica had said `word`."""
    words = {hosting_plan.key_of(hosted): word for hosted in meta.replicas} if word is not None else {}
    return hosting_plan.plan_hosting(meta, image, words, current=current)


def with_replicas(meta: Meta, *hosted: HostedReplica) -> Meta:
    return msgspec.structs.replace(meta, replicas=(*meta.replicas, *hosted))


def test_a_node_hosts_its_own_replicas_and_no_others() -> None:
    image = replay(CLUSTER, node(), topic("t", (1, 2), (2,), (2, 1)))
    plan = plan_hosting(META, image)
    assert [hosted.spec.name for hosted in plan.add] == ["t-0", "t-2"]
    assert all(hosted.doubt is Doubt.NONE and not hosted.created for hosted in plan.add)
    assert plan_hosting(with_replicas(META, *plan.add), image) == ([], [], False)


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
    assert plan_hosting(meta, before) == ([], [], False)


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


# --- replicas that move ------------------------------------------------------------------------------
def planned(*replicas: int, witnesses: tuple[int, ...] = ()) -> PlanRecord:
    return PlanRecord(name="t", topic_id=b"a" * 16, partition=0, replicas=replicas, witnesses=witnesses)


def assigned(*replicas: int, index: int, witnesses: tuple[int, ...] = ()) -> AssignmentRecord:
    return AssignmentRecord(
        name="t", topic_id=b"a" * 16, partition=0, replicas=replicas, witnesses=witnesses, term=1, index=index
    )


ELSEWHERE = (CLUSTER, node(), node("d2", 2), topic("t", (2,)))
HERE = (CLUSTER, node(), node("d2", 2), topic("t", (1,)))


def test_a_planned_replica_is_hosted_at_once_in_doubt_whatever_is_older() -> None:
    """The directory is older than the topic: that says nothing of one that moves here."""
    (hosted,) = plan_hosting(META, replay(*ELSEWHERE, planned(2, 1))).add
    assert (hosted.doubt, hosted.created_offset, hosted.spec.replicas) == (Doubt.LOST_DISK, 4, (2,))
    assert not hosted.is_witness(1)
    (witness,) = plan_hosting(META, replay(*ELSEWHERE, planned(2, 3, witnesses=(1,)))).add
    assert (witness.doubt, witness.is_witness(1)) == (Doubt.LOST_DISK, True)


def test_a_founder_whose_partition_was_to_move_meanwhile_founds_nothing() -> None:
    (hosted,) = plan_hosting(META, replay(*HERE, planned(2))).add
    assert hosted.doubt is Doubt.LOST_DISK
    (hosted,) = plan_hosting(META, replay(*HERE)).add
    assert hosted.doubt is Doubt.NONE


def test_a_replica_goes_only_when_the_assignment_is_without_it() -> None:
    meta = with_replicas(META, *plan_hosting(META, replay(*HERE)).add)
    assert plan_hosting(meta, replay(*HERE, planned(2))) == ([], [], False)
    gone = replay(*HERE, planned(2), assigned(2, index=7))
    assert [hosted.spec.name for hosted in plan_hosting(meta, gone).remove] == ["t-0"]
    assert plan_hosting(meta, gone, None) == ([], [], True), "not before it runs and has said what it knows"
    assert plan_hosting(meta, gone, current=False) == ([], [], True), "not by an image that may be old"


def test_a_replica_that_knows_of_a_newer_configuration_with_it_stays() -> None:
    meta = with_replicas(META, *plan_hosting(META, replay(*HERE)).add)
    gone = replay(*HERE, planned(2), assigned(2, index=7))
    assert plan_hosting(meta, gone, Word((1, 8), True)) == ([], [], True)
    assert plan_hosting(meta, gone, Word((1, 8), False)).remove != []
    assert plan_hosting(meta, gone, Word((1, 7), False)).remove != []


def test_a_replica_that_is_named_again_stays_and_is_taken_away_by_no_image_in_between() -> None:
    (hosted,) = plan_hosting(META, replay(*HERE)).add
    between = replay(*HERE, planned(2), assigned(2, index=7))
    again = apply(between, between.end_offset, planned(1))
    meta = with_replicas(META, hosted)
    assert plan_hosting(meta, again) == ([], [], False)
    named = with_naming(hosted, again, 1)
    assert named.created_offset == again.end_offset - 1
    assert plan_hosting(with_replicas(META, named), between) == ([], [], True)
    assert with_naming(named, between, 1) is named


def test_an_image_that_is_older_than_what_was_done_here_makes_nobody_a_founder() -> None:
    gone = replay(*HERE, planned(2), assigned(2, index=7))
    meta = msgspec.structs.replace(META, followed_offset=gone.end_offset)
    assert plan_hosting(meta, replay(*HERE), current=False) == ([], [], False)
    assert len(plan_hosting(meta, replay(*HERE)).add) == 1, "the metadata has lost records, and this is all there is"
    assert plan_hosting(meta, gone).add == []


def test_a_witness_that_shall_be_a_replica_goes_before_that_comes() -> None:
    meta = with_replicas(META, *plan_hosting(META, replay(*ELSEWHERE, planned(2, 3, witnesses=(1,)))).add)
    records = (*ELSEWHERE, planned(2, 3, witnesses=(1,)), assigned(2, 3, index=7, witnesses=(1,)), planned(2, 3))
    again = replay(*records, assigned(2, 3, index=9), planned(2, 1))
    plan = plan_hosting(meta, again, Word((1, 9), False))
    assert (len(plan.remove), plan.add) == (1, [])
    (hosted,) = plan_hosting(META, again).add
    assert not hosted.is_witness(1)
