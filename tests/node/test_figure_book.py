"""What is counted never goes down while the node runs, whichever of its processes end."""

from __future__ import annotations

from raftlog.node.figure_book import FigureBook
from raftlog.protocol.report import Figures, PartitionFigures, Timing

PRODUCES = "requests", "native", "Produce"


def _figures(requests: float, elections: int = 0, connections: float = 0) -> Figures:
    return Figures(
        counts={PRODUCES: requests},
        levels={("connections", "native"): connections},
        timings={("sync_seconds",): Timing([int(requests), 0], requests / 2)},
        partitions=[PartitionFigures(topic="t", partition=0, elections=elections, index_map_bytes=100)],
    )


def _counts(book: FigureBook) -> tuple[float, list[int]]:
    """Requests, and elections by partition."""
    whole = book.whole()
    return whole.counts[PRODUCES], [each.elections for each in whole.partitions]


def test_sources_are_added_up() -> None:
    book = FigureBook(lambda: 5.0)
    book.take("a", _figures(1, connections=2))
    book.take("a", _figures(3, connections=2))  # the same process, later
    book.take("b", _figures(10, connections=1))
    whole = book.whole()
    assert whole.counts == {PRODUCES: 13}
    assert whole.levels == {("connections", "native"): 3}
    assert whole.timings == {("sync_seconds",): Timing([13, 0], 6.5)}


def test_a_process_that_ends_leaves_its_counts_and_no_levels() -> None:
    book = FigureBook(lambda: 0.0)
    book.take("a", _figures(7, elections=1, connections=2))
    book.end("a")
    assert _counts(book) == (7, [1])
    assert book.whole().levels == {}
    assert [each.index_map_bytes for each in book.whole().partitions] == [0]
    book.take("a", _figures(1, elections=1))  # its successor counts from 0
    assert _counts(book) == (8, [2])
    assert book.whole().timings == {("sync_seconds",): Timing([8, 0], 4.0)}
    assert [each.index_map_bytes for each in book.whole().partitions] == [100]
    book.end("a")
    book.end("a")  # and one that ended before it could say anything
    assert _counts(book) == (8, [2])


def test_what_is_deleted_takes_the_counts_of_its_partition_along_and_no_others() -> None:
    book = FigureBook(lambda: 0.0)
    book.take("a", _figures(7, elections=1))
    book.forget("a")
    assert _counts(book) == (7, [])
    book.take("a", _figures(1))
    assert _counts(book) == (8, [0])


def test_counts_say_since_when_they_count() -> None:
    now_s = 5.0
    book = FigureBook(lambda: now_s)
    now_s = 9.0
    book.take("a", _figures(1))
    assert book.whole().began_s == 5.0
    assert [each.began_s for each in book.whole().partitions] == [9.0]


def test_what_is_told_does_not_change_what_is_kept() -> None:
    book = FigureBook(lambda: 0.0)
    book.take("a", _figures(1, elections=1, connections=1))
    first = book.whole()
    assert book.whole() == first == book.whole()


def test_what_was_counted_once_stays_known_after_its_process() -> None:
    book = FigureBook(lambda: 0.0)
    book.take("a", _figures(0))
    assert not book.has_counted("requests")
    book.take("a", _figures(1))
    assert book.has_counted("requests")
    book.forget("a")
    assert book.has_counted("requests") and not book.has_counted("other")
