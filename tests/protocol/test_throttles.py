"""Quotas by a clock of the test's: rates are kept, bursts pass, and what clients choose is bounded."""

from __future__ import annotations

import pytest

from raftlog.limits import CLIENT_NAMES_MAX, QUOTA_BUCKETS_MAX, QUOTA_BURST_S, THROTTLE_MAX_S
from raftlog.protocol.session import Session
from raftlog.protocol.throttles import BUCKETS_BYTES, OTHERS, Throttles, held_ms
from raftlog.security.quotas import CONSUMER_BYTE_RATE, PRODUCER_BYTE_RATE, Entity, Quota, entity_of

RATE = 1000
START_S = 50.0
ALICE = entity_of(user="alice")


def throttles(entity: Entity = ALICE, rate: float = RATE, memory: bytearray | None = None) -> Throttles:
    made = Throttles(memory)
    made.learn([Quota(entity, PRODUCER_BYTE_RATE, rate)])
    return made


def session(user: str = "alice", client_id: str = "shop") -> Session:
    made = Session("connection", "10.0.0.7:50000")
    made.principal, made.client_id = f"User:{user}", client_id
    return made


def sent(made: Throttles, sessions: list[Session], size_bytes: int, seconds: float) -> int:
    """How much sessions get through in so long that send whenever they are not held back."""
    total, now_s = 0, START_S
    while now_s < START_S + seconds:
        for each in sessions:
            if now_s >= each.held_until_s:
                made.charge(each, PRODUCER_BYTE_RATE, size_bytes, now_s)
                total += size_bytes
        now_s += 0.01
    return total


@pytest.mark.parametrize("size_bytes", [10, 300, 1000, 2500])
@pytest.mark.parametrize("clients", [1, 3])
def test_all_clients_of_an_owner_together_get_its_rate(size_bytes: int, clients: int) -> None:
    seconds = 100
    total = sent(throttles(), [session(client_id=str(each)) for each in range(clients)], size_bytes, seconds)
    slack_bytes = RATE * QUOTA_BURST_S + clients * size_bytes
    assert RATE * seconds - slack_bytes <= total <= RATE * seconds + slack_bytes


def test_doors_that_share_memory_count_together() -> None:
    memory = bytearray(BUCKETS_BYTES)
    one, two, alone = throttles(memory=memory), throttles(memory=memory), throttles()
    assert not one.charge(session(), PRODUCER_BYTE_RATE, RATE, START_S)
    assert two.charge(session(), PRODUCER_BYTE_RATE, RATE, START_S)
    assert not alone.charge(session(), PRODUCER_BYTE_RATE, RATE, START_S)


def test_owners_that_were_seen_last_are_remembered() -> None:
    made, alice, bob = throttles(entity_of(client_id=None)), session(client_id="alice"), session(client_id="bob")
    for each in (alice, bob):
        assert made.charge(each, PRODUCER_BYTE_RATE, 10 * RATE, START_S)
    for number in range(3 * QUOTA_BUCKETS_MAX):
        now_s = START_S + number * 1e-5
        made.charge(session(client_id=f"c{number}"), PRODUCER_BYTE_RATE, 1, now_s)
        if not number % 100:
            made.charge(bob, PRODUCER_BYTE_RATE, 1, now_s)
    assert made.charge(bob, PRODUCER_BYTE_RATE, RATE, now_s)
    assert not made.charge(alice, PRODUCER_BYTE_RATE, RATE, now_s)


def test_each_user_has_the_default_for_itself() -> None:
    made = throttles(entity_of(user=None))
    alice, bob = session(), session("bob")
    assert made.charge(alice, PRODUCER_BYTE_RATE, 5 * RATE, START_S)
    assert not made.charge(bob, PRODUCER_BYTE_RATE, RATE, START_S)
    assert bob.held_until_s == 0


def test_what_fits_into_the_bucket_passes_and_more_waits_as_long_as_it_takes() -> None:
    made, alice = throttles(), session()
    assert not made.charge(alice, PRODUCER_BYTE_RATE, int(RATE * QUOTA_BURST_S), START_S)
    assert made.charge(alice, PRODUCER_BYTE_RATE, 2 * RATE, START_S)
    assert (alice.held_since_s, alice.held_until_s) == (START_S, START_S + 2)
    assert (held_ms(alice, START_S), held_ms(alice, START_S + 1.9999), held_ms(alice, START_S + 2)) == (2000, 1, 0)
    assert not made.charge(alice, PRODUCER_BYTE_RATE, RATE // 2, START_S + 2.5)


def test_nobody_is_held_back_for_long_at_a_time_and_the_rest_is_not_forgotten() -> None:
    made, alice = throttles(), session()
    made.charge(alice, PRODUCER_BYTE_RATE, 100 * RATE, START_S)
    assert alice.held_until_s == START_S + THROTTLE_MAX_S
    assert made.charge(alice, PRODUCER_BYTE_RATE, 1, START_S + THROTTLE_MAX_S)
    assert alice.held_until_s == START_S + 2 * THROTTLE_MAX_S


def test_what_is_on_its_way_while_somebody_waits_makes_it_longer() -> None:
    made, alice = throttles(), session()
    made.charge(alice, PRODUCER_BYTE_RATE, 2 * RATE, START_S)
    made.charge(alice, PRODUCER_BYTE_RATE, RATE, START_S + 0.1)
    assert alice.held_since_s == START_S and alice.held_until_s == pytest.approx(START_S + 2)
    counted = made.held_back["alice", "shop"]
    assert counted.times == 2 and counted.seconds == pytest.approx(2)


def test_what_is_not_limited_is_not_counted() -> None:
    made, alice, node = throttles(entity_of(user=None)), session(), Session("c", "10.0.0.8:1")
    node.principal = "Node:2"
    assert not made.charge(alice, CONSUMER_BYTE_RATE, 10**9, START_S)
    assert not made.charge(node, PRODUCER_BYTE_RATE, 10**9, START_S)
    assert made.burst_bytes(alice, CONSUMER_BYTE_RATE) is None
    assert made.burst_bytes(alice, PRODUCER_BYTE_RATE) == RATE * QUOTA_BURST_S
    assert not made.held_back


def test_another_quota_counts_at_once_and_forgives_nothing() -> None:
    made, alice = throttles(), session()
    made.charge(alice, PRODUCER_BYTE_RATE, 3 * RATE, START_S)
    made.learn([Quota(ALICE, PRODUCER_BYTE_RATE, 4 * RATE)])
    assert not made.charge(alice, PRODUCER_BYTE_RATE, RATE, START_S)  # the bucket is as full as it may be
    made.learn([])
    assert not made and not made.charge(alice, PRODUCER_BYTE_RATE, 10**9, START_S)


def test_names_that_clients_choose_take_bounded_memory() -> None:
    made = throttles(entity_of(client_id=None))
    for number in range(QUOTA_BUCKETS_MAX + 10):
        made.charge(session(client_id=f"c{number}"), PRODUCER_BYTE_RATE, 5 * RATE, START_S)
    assert len(made.held_back) == CLIENT_NAMES_MAX + 1
    assert made.held_back[OTHERS, OTHERS].times == QUOTA_BUCKETS_MAX + 10 - CLIENT_NAMES_MAX
