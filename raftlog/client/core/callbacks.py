"""Steps that all have to be taken, though some of them are the user's code, which may raise anything."""

from __future__ import annotations

import logging
from collections.abc import Callable

LOGGER = logging.getLogger(__name__)


def run_all(*steps: Callable[[], object]) -> None:
    """Each in turn, whatever another raises. Raises the first error at the end; the others are logged."""
    first: BaseException | None = None
    for step in steps:
        try:
            step()
        except BaseException as error:  # Ctrl-C too: what comes after it has to be done as well
            if first is None:
                first = error
            else:
                LOGGER.error("a further error, of which the caller is not told: %r", error, exc_info=error)
    if first is not None:
        raise first
