"""What is counted never goes down while the node runs, whichever of its processes end."""

from __future__ import annotations

from raftlog.node.figure_book import FigureBook
from raftlog.protocol.report import Count, Figures, Level, Timing


def _figures(requests: float, elections: float = 0, connections: float = 0) -> Figures:
    return Figures(
        [Count("requests", ("native", "Produce"), requests), Count("partition_elections", ("t", "0"), elections)],
        [Level("connections", ("native",), connections)],
        [Timing("sync_seconds", (), [int(requests), 0], requests / 2)],
    )


def _counts(book: FigureBook) -> dict[str, float]:
    return {count.name: count.value for count in book.whole().counts}


def test_sources_are_added_up() -> None:
    book = FigureBook(lambda: 5.0)
    book.take("a", _figures(1, connections=2))
    book.take("a", _figures(3, connections=2))  # the same process, later
    book.take("b", _figures(10, connections=1))
    whole = book.whole()
    assert [count.value for count in whole.counts if count.name == "requests"] == [13]
    assert whole.levels == [Level("connections", ("native",), 3)]
    assert whole.timings == [Timing("sync_seconds", (), [13, 0], 6.5, 5.0)]


def test_a_process_that_ends_leaves_its_counts_and_no_levels() -> None:
    book = FigureBook(lambda: 0.0)
    book.take("a", _figures(7, elections=1, connections=2))
    book.end("a")
    assert _counts(book) == {"requests": 7, "partition_elections": 1}
    assert book.whole().levels == []
    book.take("a", _figures(1, elections=1))  # its successor counts from 0
    assert _counts(book) == {"requests": 8, "partition_elections": 2}


def test_what_is_deleted_takes_the_counts_of_its_partition_along_and_no_others() -> None:
    book = FigureBook(lambda: 0.0)
    book.take("a", _figures(7, elections=1))
    book.forget("a")
    assert _counts(book) == {"requests": 7}
    book.take("a", _figures(1))
    assert _counts(book)["requests"] == 8


def test_counts_say_since_when_they_count() -> None:
    now_s = 5.0
    book = FigureBook(lambda: now_s)
    now_s = 9.0
    book.take("a", _figures(1))
    assert {count.name: count.began_s for count in book.whole().counts} == {"requests": 5.0, "partition_elections": 9.0}


def test_what_was_counted_once_stays_known_after_its_process() -> None:
    book = FigureBook(lambda: 0.0)
    book.take("a", _figures(0))
    assert not book.has_counted("requests")
    book.take("a", _figures(1))
    assert book.has_counted("requests")
    book.forget("a")
    assert book.has_counted("requests") and not book.has_counted("other")
