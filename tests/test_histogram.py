"""What is observed falls into the bucket whose bound it does not exceed, as Prometheus counts."""

from __future__ import annotations

from raftlog.histogram import BOUNDS_S, Histogram


def test_a_bound_belongs_to_the_bucket_below_it() -> None:
    histogram = Histogram()
    for seconds in (0.0, BOUNDS_S[0], BOUNDS_S[0] + 1e-9, BOUNDS_S[-1], BOUNDS_S[-1] + 1):
        histogram.observe(seconds)
    assert histogram.counts == [2, 1, *[0] * (len(BOUNDS_S) - 3), 1, 1]
    assert histogram.sum_s == sum((0.0, BOUNDS_S[0], BOUNDS_S[0] + 1e-9, BOUNDS_S[-1], BOUNDS_S[-1] + 1))
