"""Times as people write them on a command line. Pure.

2026-11-22T10:00   2026-11-22 10:00:30.5   2026-11-22       local time
2026-11-22T10:00Z  2026-11-22T10:00+01:00                   that zone
-90s  -30m  -1h  -2d                                        so long ago
"""

from __future__ import annotations

import re
from datetime import datetime

_AGO = re.compile(r"-(\d+)([smhd])")
_DATE = re.compile(r"\d{4}-\d\d-\d\d.*")
_UNIT_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
FORMS = "a time (2026-11-22T10:00, local unless it ends with Z or an offset, or the date alone) or how long ago (-1h)"


def parse_when(text: str, now_ms: int) -> int:
    """Milliseconds since the epoch. Raises ValueError, with a sentence, for what is no time."""
    ago = _AGO.fullmatch(text)
    if ago:
        return max(0, now_ms - int(ago[1]) * _UNIT_MS[ago[2]])
    if not _DATE.fullmatch(text):
        raise ValueError(f"{text!r} is not {FORMS}")
    try:
        when_ms = int(datetime.fromisoformat(text).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is not {FORMS}") from None
    if when_ms < 0:
        raise ValueError(f"{text!r} is before 1970")
    if when_ms > now_ms:
        raise ValueError(f"{text!r} is still to come")
    return when_ms
