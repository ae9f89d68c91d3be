"""Where a node is open though it works: what it says of itself, and others tell. Data."""

from __future__ import annotations

import enum


class Weakness(enum.IntEnum):
    """Numbers travel between nodes. What each means, and what to do, is said in raftlog/view/weak_spots.py."""

    OPEN_PORT = 1  # other machines reach it, and nothing is encrypted
    OPEN_HTTP = 2  # other machines reach the address that asks nobody who he is
    READABLE_KEY = 3  # by other users of the machine
    RULES_OFF = 4  # there are users or rules, and this node heeds none
    SUPERUSER_PLAIN = 5  # a superuser has logged in with PLAIN
    PERMISSIVE = 6  # who speaks no TLS is taken, too
