"""Groups of consumers against real nodes: restarts, members killed and paused, coordinators lost, changing topics."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import pytest

from raftlog import Admin, AsyncConsumer, Consumer, OffsetAndMetadata, TopicPartition
from raftlog.errors import CommitFailedError, FencedInstanceIdError, RaftlogError
from tests.client.grouping import FAST, at_end, drain, fill, new_topic, shared, unique, until
from tests.patience import WAIT_S

if TYPE_CHECKING:
    from raftlog.node.local import LocalCluster


def test_positions_survive_a_restart_and_nothing_is_read_twice_or_missed(cluster: LocalCluster) -> None:
    topic, group = new_topic(cluster.bootstrap, 3), unique("g")
    fill(cluster.bootstrap, topic, 3, 100)
    read = []
    for _ in range(5):
        with Consumer(topic, bootstrap_servers=cluster.bootstrap, group_id=group, **FAST) as consumer:
            start = len(read)
            for record in consumer:
                read.append((record.partition, record.offset))
                if len(read) >= start + 60:
                    break
    assert sorted(read) == [(partition, offset) for partition in range(3) for offset in range(100)]


def test_two_groups_read_the_same_records_independently(cluster: LocalCluster) -> None:
    topic = new_topic(cluster.bootstrap, 2)
    fill(cluster.bootstrap, topic, 2, 50)
    for group in (unique("g"), unique("g")):
        with Consumer(topic, bootstrap_servers=cluster.bootstrap, group_id=group, **FAST) as consumer:
            read = until([consumer], lambda: len(consumer.assignment()) == 2 and at_end(50)(consumer) == 2)
            assert sorted(read) == [(partition, offset) for partition in range(2) for offset in range(50)]


def test_members_share_the_partitions_and_the_idle_one_takes_over(cluster: LocalCluster) -> None:
    topic, group = new_topic(cluster.bootstrap, 2), unique("g")
    with contextlib.ExitStack() as stack:
        options = {"bootstrap_servers": cluster.bootstrap, "group_id": group, **FAST}
        members = [stack.enter_context(Consumer(topic, **options)) for _ in range(3)]
        until(members, shared(members, 2))
        idle = next(member for member in members if not member.assignment())
        busy = next(member for member in members if member.assignment())
        kept = next(member for member in members if member not in (idle, busy)).assignment()
        share = busy.assignment()
        busy.close()
        members.remove(busy)
        until(members, shared(members, 2))
        assert idle.assignment() == share, "what was left is not what the idle one got"
        assert next(member for member in members if member is not idle).assignment() == kept


def test_members_say_as_whom_they_speak(cluster: LocalCluster) -> None:
    topic, group = new_topic(cluster.bootstrap, 2), unique("g")
    options = {"bootstrap_servers": cluster.bootstrap, "group_id": group, **FAST}
    with Consumer(topic, **options) as one, Consumer(topic, group_instance_id="two", **options) as two:
        assert one.group_metadata() == (group, -1, "", None), "it has not polled yet"
        until([one], lambda: len(one.assignment()) == 2)
        first = one.group_metadata()
        assert first.generation >= 1 and first.member_id
        until([one, two], shared([one, two], 2))
        until([one, two], lambda: one.group_metadata().generation == two.group_metadata().generation)
        assert one.group_metadata().member_id == first.member_id
        assert one.group_metadata().generation > first.generation
        assert two.group_metadata().group_instance_id == "two"
        assert two.group_metadata().member_id not in ("", first.member_id)
        one.unsubscribe()
        assert one.group_metadata() == (group, -1, "", None)
    with Consumer(topic, bootstrap_servers=cluster.bootstrap) as alone, pytest.raises(ValueError, match="group_id"):
        alone.group_metadata()


def test_callbacks_and_manual_commits(cluster: LocalCluster) -> None:
    topic, group = new_topic(cluster.bootstrap, 2), unique("g")
    fill(cluster.bootstrap, topic, 2, 10)
    places = [TopicPartition(topic, 0), TopicPartition(topic, 1)]
    told: list[tuple[str, list[TopicPartition]]] = []
    options = {"bootstrap_servers": cluster.bootstrap, "group_id": group, "enable_auto_commit": False, **FAST}
    with Consumer(**options) as consumer:

        def revoked(lost: list[TopicPartition]) -> None:
            consumer.commit({place: consumer.position(place) for place in lost})
            told.append(("revoked", lost))

        consumer.subscribe([topic], on_assigned=lambda new: told.append(("assigned", new)), on_revoked=revoked)
        until([consumer], lambda: len(consumer.assignment()) == 2)
        assert told == [("assigned", places)]
        assert consumer.committed(places) == dict.fromkeys(places)
        consumer.commit({places[0]: OffsetAndMetadata(4, "here")})
        assert consumer.committed(places) == {places[0]: OffsetAndMetadata(4, "here"), places[1]: None}
        done: list[tuple[object, RaftlogError | None]] = []
        consumer.commit_async({places[1]: 7}, lambda offsets, error: done.append((offsets, error)))
        until([consumer], lambda: bool(done))
        assert done == [({places[1]: OffsetAndMetadata(7)}, None)]
        with pytest.raises(CommitFailedError):
            consumer.commit({TopicPartition("another", 0): 1})
        consumer.seek_to_end()
    assert told[1:] == [("revoked", places)]
    with Consumer(**options) as consumer:
        consumer.assign(places)
        assert [consumer.position(place) for place in places] == [10, 10]
        consumer.commit({places[0]: 2})  # from outside: the group has no members
        with Consumer(topic, **options) as member:
            read = until([member], lambda: at_end(10)(member) == 2)
            assert read == [(0, offset) for offset in range(2, 10)]
            with pytest.raises(CommitFailedError):
                consumer.commit({places[0]: 3})


def test_what_was_handed_out_is_committed_by_later_polls_and_what_an_exception_left_half_done_is_not(
    cluster: LocalCluster,
) -> None:
    topic, group = new_topic(cluster.bootstrap, 1), unique("g")
    place = TopicPartition(topic, 0)
    options = {"bootstrap_servers": cluster.bootstrap, "group_id": group, "auto_commit_interval_ms": 50, **FAST}
    fill(cluster.bootstrap, topic, 1, 10)
    with pytest.raises(ZeroDivisionError), Consumer(topic, max_poll_records=4, **options) as consumer:
        assert len(until_read(consumer)) == 4
        # What was handed out is under way; that nothing was may have been committed by a poll before.
        assert consumer.committed([place])[place] in (None, OffsetAndMetadata(0, leader_epoch=1))
        time.sleep(0.1)
        assert len(until_read(consumer)) == 4
        deadline_s = time.monotonic() + WAIT_S
        while consumer.committed([place])[place] != OffsetAndMetadata(4, leader_epoch=1):
            assert time.monotonic() < deadline_s
        raise ZeroDivisionError
    with Consumer(topic, **options) as consumer:
        assert until_read(consumer)[0] == (0, 4)


def until_read(consumer: Consumer) -> list[tuple[int, int]]:
    """What the first poll brings that brings anything."""
    deadline_s = time.monotonic() + WAIT_S
    while not (read := drain(consumer)):
        assert time.monotonic() < deadline_s
    return read


def test_who_does_not_poll_leaves_and_is_told_of_the_loss_when_he_does(cluster: LocalCluster) -> None:
    topic, group = new_topic(cluster.bootstrap, 2), unique("g")
    options = {"bootstrap_servers": cluster.bootstrap, "group_id": group, **FAST}
    lost: list[TopicPartition] = []
    with Consumer(max_poll_interval_ms=1500, **options) as slow, Consumer(topic, **options) as other:
        slow.subscribe([topic], on_lost=lost.extend)
        until([slow, other], shared([slow, other], 2))
        share = slow.assignment()
        until([other], lambda: len(other.assignment()) == 2)
        with pytest.raises(CommitFailedError):
            slow.commit(dict.fromkeys(share, 0))
        assert not lost
        until([slow, other], shared([slow, other], 2))
        assert set(lost) == share


def test_a_static_member_that_comes_back_has_its_share_and_fences_the_one_before(cluster: LocalCluster) -> None:
    topic, group = new_topic(cluster.bootstrap, 4), unique("g")
    options = {"bootstrap_servers": cluster.bootstrap, "group_id": group, **FAST}
    with Consumer(topic, **options) as other:
        first = Consumer(topic, group_instance_id="one", **options)
        until([first, other], shared([first, other], 4))
        share, kept = first.assignment(), other.assignment()
        with Consumer(topic, group_instance_id="one", **options) as second:
            until([second, other], lambda: second.assignment() == share)
            assert other.assignment() == kept
            with pytest.raises(FencedInstanceIdError):
                until([first], lambda: False)
            with pytest.raises(FencedInstanceIdError):
                first.poll(100)  # for good: it would fence the second
        first.close()


def test_topics_come_and_go_and_partitions_are_added(cluster: LocalCluster) -> None:
    name = unique("pattern")
    first = new_topic(cluster.bootstrap, 2, f"{name}-a")
    options = {"bootstrap_servers": cluster.bootstrap, "group_id": unique("g"), **FAST}
    with Admin(cluster.bootstrap) as admin, Consumer(**options) as one, Consumer(**options) as two:
        for member in (one, two):
            member.subscribe(pattern=f"{name}-.*")
        until([one, two], shared([one, two], 2))
        second = new_topic(cluster.bootstrap, 2, f"{name}-b")
        until([one, two], shared([one, two], 4))
        admin.create_partitions(first, 4)
        until([one, two], shared([one, two], 6))
        fill(cluster.bootstrap, first, 4, 1)
        admin.delete_topics([second])
        until([one, two], shared([one, two], 4))
        assert {place.topic for place in one.assignment() | two.assignment()} == {first}


def test_a_topic_made_anew_has_no_committed_offset(cluster: LocalCluster) -> None:
    topic, group = new_topic(cluster.bootstrap, 1), unique("g")
    fill(cluster.bootstrap, topic, 1, 10)
    options = {"bootstrap_servers": cluster.bootstrap, "group_id": group, **FAST}
    with Consumer(topic, **options) as consumer:
        until([consumer], lambda: bool(consumer.assignment()) and consumer.position(TopicPartition(topic, 0)) == 10)
    with Admin(cluster.bootstrap) as admin:
        admin.delete_topics([topic])
    new_topic(cluster.bootstrap, 1, topic)
    fill(cluster.bootstrap, topic, 1, 3)
    with Consumer(topic, **options) as consumer:
        read = until([consumer], lambda: bool(consumer.assignment()))
        while len(read) < 3:
            read += drain(consumer)
        assert read == [(0, 0), (0, 1), (0, 2)]


def test_the_asyncio_consumer_is_a_member_as_well(cluster: LocalCluster) -> None:
    topic, group = new_topic(cluster.bootstrap, 2), unique("g")
    fill(cluster.bootstrap, topic, 2, 20)

    async def read(count: int) -> list[tuple[int, int]]:
        options = {"bootstrap_servers": cluster.bootstrap, "group_id": group, **FAST}
        found = []
        async with AsyncConsumer(topic, **options) as consumer:
            async for record in consumer:
                found.append((record.partition, record.offset))
                if len(found) == count:
                    metadata = consumer.consumer.group_metadata()
                    assert metadata.group_id == group and metadata.generation >= 1
                    await consumer.commit()
                    place = TopicPartition(topic, record.partition)
                    committed = (await consumer.committed([place]))[place]
                    assert committed is not None and committed.offset == record.offset + 1
                    return found
        raise AssertionError("iteration ended")

    found = asyncio.run(asyncio.wait_for(read(25), 60)) + asyncio.run(asyncio.wait_for(read(15), 60))
    assert sorted(found) == [(partition, offset) for partition in range(2) for offset in range(20)]
