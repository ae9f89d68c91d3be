"""Tables are whole in a pipe, and numbers stay numbers there."""

from __future__ import annotations

import re

import pytest

from raftlog_cli.output import plain_table, print_json, print_table, size_text


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


@pytest.mark.parametrize("width", [30, 60, 200])
def test_a_table_fits_its_terminal_and_cuts_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    print_table(("partition", "log start", "high watermark", "size"), [(12, 1234567, None, "66.1 MB")])
    shown = re.sub("\x1b[^m]*m", "", capsys.readouterr().out)
    for cell in ("12", "1234567" if width == 30 else "1,234,567", "66.1 MB", "watermark"):
        assert cell in shown
    if width > 30:
        assert max(map(len, shown.splitlines())) <= width
