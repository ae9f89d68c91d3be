"""G3 and G4: flow control towards one follower."""

from raftlog import limits
from raftlog.consensus.progress import Mode, Progress


def probing() -> Progress:
    progress = Progress(101, 0.0)
    assert progress.may_send(0.0)
    progress.note_sent(1, 100, 0, 0.0)
    return progress


def replicating() -> Progress:
    progress = probing()
    progress.on_success(1, 100, 0.0, 2)
    return progress


def test_only_one_probe_is_out_at_a_time() -> None:
    assert not probing().may_send(0.01)
    assert probing().may_send(limits.HEARTBEAT_S)


def test_an_answered_probe_opens_the_window() -> None:
    progress = replicating()
    assert progress.mode is Mode.REPLICATE
    assert progress.next_index == 101


def test_what_is_in_flight_is_not_sent_again() -> None:
    progress = replicating()
    progress.note_sent(2, 110, 1000, 0.0)
    assert progress.next_index == 111


def test_the_window_is_bounded_in_messages_and_bytes() -> None:
    progress = replicating()
    for number in range(limits.APPEND_WINDOW_MESSAGES):
        assert progress.may_send(0.0)
        progress.note_sent(2 + number, 101 + number, 10, 0.0)
    assert not progress.may_send(0.0)
    progress = replicating()
    progress.note_sent(2, 101, limits.APPEND_WINDOW_BYTES, 0.0)
    assert not progress.may_send(0.0)


def test_a_refusal_empties_the_window_and_sends_one_probe() -> None:
    progress = replicating()
    for sequence in range(2, 12):
        progress.note_sent(sequence, 99 + sequence, 10, 0.0)
    assert progress.on_refusal(2, 90, 200, 0.1, 12)
    assert (progress.mode, progress.next_index) == (Mode.PROBE, 101)  # never below what is matched
    assert progress.may_send(0.1)
    progress.note_sent(12, 100, 0, 0.1)
    # The rest of the old window is refused as well, and starts nothing.
    assert not any(progress.on_refusal(sequence, 90, 200, 0.1, 13) for sequence in range(3, 12))
    assert not progress.may_send(0.1)


def test_a_late_refusal_of_a_second_probe_does_not_reset_the_window() -> None:
    progress = probing()
    progress.note_sent(2, 100, 0, 0.2)
    progress.on_success(1, 100, 0.3, 3)
    assert not progress.on_refusal(2, 50, 200, 0.3, 3)
    assert progress.mode is Mode.REPLICATE


def test_a_window_without_progress_is_lost() -> None:
    progress = replicating()
    progress.note_sent(2, 150, 10, 0.0)
    progress.on_time(limits.APPEND_LOST_AFTER_S, 3)
    assert (progress.mode, progress.next_index) == (Mode.PROBE, 101)


def test_a_refusal_of_what_an_earlier_leadership_sent_changes_nothing() -> None:
    progress = Progress(101, 0.0, first_sequence=32)
    progress.note_sent(32, 100, 0, 0.0)
    # A follower that has just adopted the new term refuses what the last one sent, and knows no hint.
    assert not progress.on_refusal(31, 0, 100, 0.1, 33)
    assert progress.next_index == 101
    assert not progress.may_send(0.1)
    assert progress.on_refusal(32, 90, 100, 0.2, 33)
    assert progress.next_index == 90
