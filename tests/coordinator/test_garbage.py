"""Requests that decode and make no sense: each is answered at most once, and none raises or leaves a trace."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from raftlog.protocol import groups as g
from tests.coordinator.driver import Driver

_INTS = st.one_of(st.integers(-3, 3), st.sampled_from([6_000, -(2**63), 2**63 - 1, 2**64 - 1]))
_TEXTS = st.sampled_from(["", "a", "b", "-1", "-2", "a-1", "x-2", "é" * 200, "consumer", "range"])
_MAYBE = st.one_of(st.none(), _TEXTS)
_BYTES = st.sampled_from([b"", b"x", bytes(16), bytes(5_000_000)])
_PAIRS = st.lists(st.tuples(_TEXTS, _BYTES), max_size=3)
_OFFSET = st.builds(
    g.CommittedOffset,
    topic=_TEXTS,
    topic_id=_BYTES,
    partition=_INTS,
    offset=_INTS,
    leader_epoch=_INTS,
    metadata=_TEXTS,
)
_MEMBER: dict[str, Any] = {"generation_id": _INTS, "member_id": _TEXTS, "group_instance_id": _MAYBE}
_REQUESTS = st.one_of(
    st.tuples(
        st.just(g.JoinGroupRequest),
        st.fixed_dictionaries(
            {
                "session_timeout_ms": _INTS,
                "rebalance_timeout_ms": _INTS,
                "member_id": _TEXTS,
                "group_instance_id": _MAYBE,
                "protocol_type": _TEXTS,
                "protocols": _PAIRS,
                "client_id": _TEXTS,
                "client_host": _TEXTS,
                "one_round": st.booleans(),
            }
        ),
    ),
    st.tuples(
        st.just(g.SyncGroupRequest),
        st.fixed_dictionaries({**_MEMBER, "assignments": _PAIRS, "protocol_type": _TEXTS, "protocol_name": _TEXTS}),
    ),
    st.tuples(st.just(g.HeartbeatRequest), st.fixed_dictionaries(_MEMBER)),
    st.tuples(
        st.just(g.LeaveGroupRequest),
        st.fixed_dictionaries(
            {"members": st.lists(st.builds(g.LeavingMember, member_id=_TEXTS, group_instance_id=_MAYBE), max_size=3)}
        ),
    ),
    st.tuples(
        st.just(g.OffsetCommitRequest), st.fixed_dictionaries({**_MEMBER, "offsets": st.lists(_OFFSET, max_size=3)})
    ),
    st.tuples(
        st.just(g.OffsetFetchRequest),
        st.fixed_dictionaries({"partitions": st.one_of(st.none(), st.lists(st.tuples(_TEXTS, _INTS), max_size=3))}),
    ),
    st.tuples(st.just(g.DescribeGroupRequest), st.just({})),
    st.tuples(
        st.just(g.DeleteGroupRequest), st.fixed_dictionaries({"version": st.one_of(st.none(), st.binary(max_size=20))})
    ),
    st.tuples(
        st.just(g.OffsetDeleteRequest),
        st.fixed_dictionaries({"partitions": st.lists(st.tuples(_TEXTS, _INTS), max_size=3)}),
    ),
)


@given(
    st.lists(st.tuples(_TEXTS, _REQUESTS, st.sampled_from(["", "commit", "time", "failover"])), min_size=5, max_size=25)
)
def test_garbage_is_answered_and_forgotten(steps: list[tuple[str, tuple[Any, dict[str, Any]], str]]) -> None:
    driver = Driver()
    sent = []
    for group_id, (make, fields), then in steps:
        sent.append(driver.send(make, group_id=group_id, **fields))
        if then == "commit":
            driver.commit()
        elif then == "time":
            driver.advance(0.2)
        elif then == "failover":
            driver.fail_over()
    driver.send(g.ListGroupsRequest)
    driver.fail_over()
    assert all(number in driver.answers for number in sent)
