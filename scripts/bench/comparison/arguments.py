"""Types of command-line arguments that several of these commands take."""

from __future__ import annotations

import argparse
import math


def positive(text: str) -> float:
    """A finite number above 0. Raises argparse.ArgumentTypeError."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


def positives(text: str) -> list[float]:
    """Several of them, with commas in between."""
    return [positive(each) for each in text.split(",")]


def whole_number(text: str) -> int:
    """Above 0. Raises argparse.ArgumentTypeError."""
    if not text.isascii() or not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)
