"""Tables are whole in a pipe, and numbers stay numbers there."""

from __future__ import annotations

import pytest

from raftlog_cli.output import plain_table, print_json, size_text


def test_a_plain_table_has_aligned_columns_and_cuts_nothing() -> None:
    long = "x" * 300
    assert plain_table(("log start", "note"), [(1234567, long), (None, "")]) == (
        f"log-start  note\n1234567    {long}\n-          -\n"
    )


def test_json_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"text": "two\nlines", "none": None})
    assert capsys.readouterr().out == '{"text":"two\\nlines","none":null}\n'


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2_000_000, "2.0 MB"), (3 * 10**15, "3000.0 TB")],
)
def test_sizes(size_bytes: int, text: str) -> None:
    assert size_text(size_bytes) == text
