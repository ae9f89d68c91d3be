"""scripts/bench/copies: three ways to the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from comparison.copies import Line, markdown, measure


@pytest.mark.cluster
def test_all_three_ways_take_what_they_were_asked_for(tmp_path: Path) -> None:
    (small, large), decoded = measure(tmp_path, (1, 3), 1, 1)
    assert (small.size_mb, large.size_mb) == (1, 3)
    for line in (small, large):
        assert min(line.read_send, line.sendfile, line.raftlog) > 0
        assert line.ratio == pytest.approx(line.sendfile / line.raftlog)
    assert decoded.consumer > 0
    assert decoded.gain == pytest.approx(decoded.sendfile / decoded.consumer)


def test_the_table_names_each_way() -> None:
    text = markdown([Line(7, 700.4, 1400, 1120, 1.25)])
    assert text.splitlines()[0] == "| MB taken | read + send | sendfile | raftlog's fetches | sendfile / raftlog |"
    assert text.splitlines()[2].split() == ["|", "7", "|", "700", "|", "1,400", "|", "1,120", "|", "1.25", "|"]
