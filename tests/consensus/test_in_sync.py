"""Who is in sync, as a leader judges its followers; times and answers by hand."""

from __future__ import annotations

from raftlog.consensus.in_sync import InSync
from raftlog.consensus.progress import Progress
from raftlog.types import Doubt


class Leader:
    """Node 1 at index 10, with followers 2 and 3 as a new leader first sees them."""

    def __init__(self) -> None:
        self.sequence = 0
        self.last_index = 10
        self.progress = {node_id: Progress(10, 0.0, caught_up_s=0.0) for node_id in (2, 3)}
        self.in_sync = InSync(1, (2, 3), 10, 0.0)

    def sends(self, node_id: int, now_s: float) -> int:
        self.sequence += 1
        self.progress[node_id].note_sent(self.sequence, self.last_index, 0, now_s)
        return self.sequence

    def hears(self, node_id: int, match_index: int, now_s: float, sequence: int | None = None) -> None:
        p = self.progress[node_id]
        p.on_success(self.sequence if sequence is None else sequence, match_index, now_s, self.sequence + 1)
        p.note_log_end(self.last_index, now_s)

    def exchange(self, node_id: int, match_index: int, now_s: float) -> None:
        self.sends(node_id, now_s)
        self.hears(node_id, match_index, now_s)

    def members(self, now_s: float, told_index: int = 0) -> tuple[int, ...]:
        self.in_sync.update(self.progress, told_index, now_s)
        return self.in_sync.members


def test_a_new_leader_counts_every_replica_and_drops_one_that_does_not_answer_within_300_ms() -> None:
    leader = Leader()
    assert leader.members(0.0) == (1, 2, 3)
    for node_id in (2, 3):
        leader.sends(node_id, 0.0)
    leader.hears(2, 10, 0.01)
    assert leader.members(0.29) == (1, 2, 3)
    assert leader.members(0.31) == (1, 2)


def test_a_follower_that_owes_an_answer_leaves_after_half_a_second() -> None:
    leader = Leader()
    for node_id in (2, 3):
        leader.exchange(node_id, 10, 0.1)
    leader.last_index = 11
    leader.sends(2, 1.0)
    assert leader.members(1.49) == (1, 2, 3)
    assert leader.members(1.51) == (1, 3)


def test_an_idle_follower_that_owes_nothing_stays() -> None:
    leader = Leader()
    for node_id in (2, 3):
        leader.exchange(node_id, 10, 0.1)
    assert leader.members(5.0) == (1, 2, 3)


def test_a_follower_that_answers_and_never_takes_what_it_is_sent_leaves() -> None:
    leader = Leader()
    leader.exchange(2, 10, 0.1)
    leader.exchange(3, 10, 0.1)
    leader.last_index = 20
    for tenth in range(6):
        sequence = leader.sends(2, 1.0 + tenth / 10)
        leader.progress[2].on_refusal(sequence, 11, 20, 1.0 + tenth / 10, sequence + 1)
    assert leader.members(1.51) == (1, 3)


def test_a_follower_always_a_little_behind_under_load_never_leaves() -> None:
    leader = Leader()
    leader.exchange(3, 10, 0.0)
    for hundredth in range(2000):
        now_s = hundredth / 100
        leader.last_index += 5
        leader.sends(2, now_s)
        leader.exchange(3, leader.last_index, now_s)
        leader.hears(2, leader.last_index - 10, now_s, leader.sequence)
        assert leader.members(now_s) == (1, 2, 3)


def test_a_follower_that_falls_ever_further_behind_leaves_after_ten_seconds() -> None:
    leader = Leader()
    left_s = 0.0
    for tenth in range(200):
        now_s = tenth / 10
        leader.last_index += 100
        for node_id, match_index in ((2, 10 + tenth), (3, leader.last_index)):
            leader.exchange(node_id, match_index, now_s)
        if 2 not in leader.members(now_s):
            left_s = now_s
            break
    assert 9.0 < left_s < 11.5


def test_a_follower_that_returns_is_waited_for_before_it_is_a_member() -> None:
    leader = Leader()
    for node_id in (2, 3):
        leader.exchange(node_id, 10, 0.1)
    leader.in_sync.leave(2)
    leader.last_index = 100
    leader.progress[2] = Progress(101, 1.0)
    leader.exchange(3, 100, 1.0)
    assert leader.members(1.0, told_index=100) == (1, 3)
    assert leader.in_sync.lowest_match(leader.progress, 100) == 100
    leader.exchange(2, 50, 1.1)
    assert leader.members(1.1, told_index=100) == (1, 3)
    leader.exchange(2, 100, 1.2)  # all that the log held at 1.0; meanwhile the log and the others went on
    leader.last_index = 120
    leader.exchange(3, 120, 1.2)
    assert leader.members(1.2, told_index=110) == (1, 3)
    assert leader.in_sync.lowest_match(leader.progress, 120) == 100, "acknowledgements wait for it already"
    leader.exchange(2, 110, 1.3)
    assert leader.members(1.3, told_index=110) == (1, 2, 3)


def test_a_doubtful_follower_is_not_in_sync() -> None:
    leader = Leader()
    for node_id in (2, 3):
        leader.exchange(node_id, 10, 0.1)
    leader.progress[3].doubt = Doubt.CUT_TAIL
    assert leader.members(0.2) == (1, 2)


def test_a_replica_far_behind_a_new_leader_does_not_hold_acknowledgements_up_for_long() -> None:
    leader = Leader()
    leader.exchange(2, 10, 0.1)
    for tenth in range(1, 12):
        leader.exchange(3, tenth // 3, tenth / 10)
        leader.members(tenth / 10)
    assert leader.in_sync.members == (1, 2)
