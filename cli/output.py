"""What commands print: tables for people, plain columns for pipes, one JSON object on one line for programs."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence

import click
import msgspec

Cell = str | int | None


def print_json(value: object) -> None:
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")


def note(text: str) -> None:
    """A remark for people, on stderr, where it disturbs no pipe."""
    click.echo(text, err=True)


def warn(text: str) -> None:
    note(f"raftlog: warning: {text}")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """A table on a terminal; elsewhere plain columns, whole and without a frame."""
    if sys.stdout.isatty():
        _print_rich(columns, rows)
    else:
        sys.stdout.write(plain_table(columns, rows))


def plain_table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    lines = [[name.replace(" ", "-") for name in columns]]
    lines += [["-" if cell in (None, "") else str(cell) for cell in row] for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(columns))]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "".join(line.rstrip() + "\n" for line in padded)


def _print_rich(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = [[_for_people(cell) for cell in row] for row in rows]
    console = Console()
    for names in (list(columns), [name.replace(" ", "\n") for name in columns]):
        cells = [[*name.split("\n"), *(row[position] for row in shown)] for position, name in enumerate(names)]
        width = sum(max(map(len, column)) + 2 for column in cells) + 1
        if width <= console.width:
            break
    else:
        # A terminal that is too narrow breaks lines by itself, and nothing is cut.
        sys.stdout.write(plain_table(columns, rows))
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for position, name in enumerate(names):
        numbers = bool(rows) and all(isinstance(row[position], int) for row in rows)
        table.add_column(name, justify="right" if numbers else "left")
    for row in shown:
        table.add_row(*map(Text, row))
    console.print(table)


def _for_people(cell: Cell) -> str:
    if cell is None:
        return "–"
    return f"{cell:,}" if isinstance(cell, int) else cell


def repeated(interval_s: float = 1.0) -> Iterator[None]:
    """Again and again; whoever looks ends it with Ctrl-C."""
    while True:
        began_s = time.monotonic()
        yield
        sys.stdout.flush()
        time.sleep(max(0.0, interval_s - (time.monotonic() - began_s)))


def ending(watch: bool) -> contextlib.AbstractContextManager[None]:
    """Ctrl-C is how one stops watching."""
    return contextlib.suppress(KeyboardInterrupt) if watch else contextlib.nullcontext()


def clear_screen() -> None:
    """Of a terminal; elsewhere a line without text stands between two looks."""
    sys.stdout.write("\x1b[H\x1b[2J\x1b[3J" if sys.stdout.isatty() else "\n")


def size_text(size_bytes: int) -> str:
    """`1536` to `1.5 kB`; powers of ten, as disks are sold."""
    size = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def ids_text(ids: Sequence[int]) -> str:
    return ",".join(map(str, ids))
