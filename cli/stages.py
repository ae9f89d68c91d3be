"""How far a long command is: bars on a terminal, a line per stage elsewhere. Always on stderr."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Self

from .output import note

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Stages:
    """The stages of a command that takes long, shown on stderr as they begin and end.

    `say` may be called from any thread; the rest is for the one that began.
    """

    def __init__(self, *, estimates: bool = False) -> None:
        """`estimates`: the bar says how long it will take, instead of how long it has."""
        self._estimates = estimates
        self._bars: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )

            times = TimeRemainingColumn(elapsed_when_finished=True) if self._estimates else TimeElapsedColumn()
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[unit]}"),
                times,
            )
            self._bars = Progress(*columns, console=Console(stderr=True))
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def say(self, text: str) -> None:
        if self._bars is not None:
            self._bars.console.print(text, markup=False, highlight=False)
        else:
            note(text)

    def begin(self, text: str, total: int, unit: str = "records") -> None:
        """A stage of `total` steps; the one before it is done."""
        if self._bars is None:
            note(f"{text} {total:,} {unit}")
            return
        self.finish()
        self._task = self._bars.add_task(text, total=total, unit=unit)

    def advance(self, completed: int) -> None:
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, completed=completed)

    def finish(self) -> None:
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, completed=self._bars.tasks[self._task].total)
