"""How far witnesses are fed, and when: decided from indexes and times alone."""

from __future__ import annotations

from raftlog.consensus.witness_feed import WitnessFeed
from raftlog.limits import WITNESS_FEED_S


def test_nothing_is_fed_before_every_in_sync_replica_has_answered() -> None:
    feed = WitnessFeed(7)
    feed.advance(0, awaited=True, now_s=1.0)
    assert feed.last_index == 0


def test_what_an_earlier_leader_may_have_fed_lies_below_the_no_op() -> None:
    feed = WitnessFeed(7)
    assert feed.fed_index == 7
    feed.advance(12, awaited=False, now_s=1.0)
    assert feed.fed_index == 12


def test_a_witness_that_nothing_waits_for_is_fed_now_and_then() -> None:
    feed = WitnessFeed(7)
    feed.advance(10, awaited=False, now_s=1.0)
    feed.advance(20, awaited=False, now_s=1.0 + WITNESS_FEED_S / 2)
    assert (feed.last_index, feed.next_due_s) == (10, 1.0 + WITNESS_FEED_S)
    feed.advance(30, awaited=False, now_s=1.0 + WITNESS_FEED_S)
    assert (feed.last_index, feed.next_due_s) == (30, float("inf"))


def test_a_witness_that_a_commit_waits_for_is_fed_at_once() -> None:
    feed = WitnessFeed(7)
    feed.advance(10, awaited=True, now_s=1.0)
    feed.advance(11, awaited=True, now_s=1.0)
    assert feed.last_index == 11


def test_what_was_fed_never_shrinks() -> None:
    feed = WitnessFeed(7)
    feed.advance(10, awaited=True, now_s=1.0)
    feed.advance(8, awaited=True, now_s=2.0)
    assert (feed.last_index, feed.fed_index) == (10, 10)
