"""Shape: what the network does to packets from one node to another. Made by schedules, done by the switch."""

from __future__ import annotations

from typing import NamedTuple


class Shape(NamedTuple):
    """The default is a whole network. Its order is that of the switch's commands (switch.py)."""

    cut: bool = False
    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    loss: float = 0.0
