"""Numbers on the command lines of the comparison."""

from __future__ import annotations

import argparse

import pytest

from comparison import cost, growth
from comparison.arguments import positives


def test_numbers_above_zero_are_taken() -> None:
    assert positives("0.5,10") == [0.5, 10.0]


@pytest.mark.parametrize("text", ["", "x", "0", "-1", "nan", "inf", "1,,2", "1,0"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="not a number above 0"):
        positives(text)


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (cost.main, ["--seconds", "0"]),
        (growth.main, ["--seconds=-1"]),
        (growth.main, ["--gigabytes", "x"]),
        (growth.main, ["--partitions", "1,0"]),
    ],
)
def test_the_commands_say_so_before_anything_starts(
    main: object, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(main)
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "is not a number above 0" in capsys.readouterr().err
