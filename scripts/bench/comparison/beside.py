"""A plain process beside ours, for what has to be measured between two."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def beside(work: Callable[..., None], *arguments: Any) -> Iterator[None]:
    """Runs `work` in a process of its own, which is ended when it is not needed any more."""
    process = multiprocessing.get_context("spawn").Process(target=work, args=arguments, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()
