"""What a leader's turns tell of their stages."""

from __future__ import annotations

from raftlog.partition.stages import Stages


def test_the_stages_of_a_turn_are_told_apart() -> None:
    stages = Stages()
    stages.took(1.0)
    stages.took(2.0)  # the oldest counts
    stages.begin_append(3.0)
    stages.appended(3.5, 4.0, 7)
    stages.begin_append(4.0)  # nobody had waited
    stages.appended(4.0, 4.25, 9)
    assert (stages.queue.sum_s, stages.append.sum_s, sum(stages.queue.counts)) == (2.0, 0.75, 1)
    assert not stages.awaits(6)
    assert stages.awaits(8)
    stages.acknowledged(8, 10.0)
    assert (stages.replicate.sum_s, sum(stages.replicate.counts)) == (6.0, 1)


def test_what_was_appended_by_a_leader_that_is_none_any_more_is_nobodys() -> None:
    stages = Stages()
    stages.took(1.0)
    stages.appended(1.0, 2.0, 7)
    stages.end()
    assert not stages.awaits(7)
    stages.begin_append(9.0)
    assert not sum(stages.queue.counts)
