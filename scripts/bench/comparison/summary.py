"""From the rows of all rounds to one line for each system and workload: medians with ranges, and Markdown of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from .workloads import WORKLOADS, Row, Workload

OURS = "raftlog"
TLS = ", TLS"  # how the name of a variant ends that is the one before it under TLS


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the summary: one workload on one system.

    `row`: medians of the rounds that went well, or one that went wrong when none did.

    `low` and `high`: records a second of the slowest and fastest round. `failed`: rounds without figures, `why` the
    first of them. `against_best`: of raftlog only, how many times the best other system it is, in records a second, or,
    where times are asked, in how short the median latency is; under TLS, against those under TLS. `against_plain`: of
    what is under TLS, how many times the same system without it.
    """

    row: Row
    low: float
    high: float
    rounds: int
    failed: int
    why: str = ""
    against_best: float | None = None
    against_plain: float | None = None


def summarise(rows: Iterable[Row]) -> list[Line]:
    """In the order of the workloads, each with its systems in the order in which they came."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.workload, row.system, row.variant), []).append(row)
    lines = [_line(group) for group in groups.values()]
    return [line for workload in WORKLOADS for line in _compared(workload, lines)]


def _line(group: Sequence[Row]) -> Line:
    good = [row for row in group if not row.error]
    why = next((row.error for row in group if row.error), "")
    if not good:
        return Line(row=group[0], low=0, high=0, rounds=0, failed=len(group), why=why)
    rates = [row.records_per_s for row in good]
    medians = {
        name: _median([getattr(row, name) for row in good])
        for name in (
            *("records_per_s", "mb_per_s", "p50_ms", "p99_ms", "p999_ms"),
            *("client_cpu", "servers_cpu", "client_wire_bytes", "all_wire_bytes"),
            *("cost_percent", "read_per_s", "bytes_each", "idle_percent", "held_percent", "requests_per_s"),
            *("connects_per_s", "connects_per_core"),
        )
    }
    return Line(
        row=msgspec.structs.replace(good[0], **medians),
        low=min(rates),
        high=max(rates),
        rounds=len(good),
        failed=len(group) - len(good),
        why=why,
    )


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _compared(workload: Workload, lines: Sequence[Line]) -> Iterator[Line]:
    mine = [line for line in lines if line.row.workload == workload.key]
    good = [line for line in mine if line.rounds]
    for line in mine:
        others = [each for each in good if each.row.system != OURS and _is_secure(each) == _is_secure(line)]
        best = max((_speed(workload, each) for each in others), default=0)
        plain = [each for each in good if f"{each.row.variant}{TLS}" == line.row.variant]
        beside = [_speed(workload, each) for each in plain if each.row.system == line.row.system]
        yield msgspec.structs.replace(
            line,
            against_best=_ratio(workload, line, best) if line.row.system == OURS else None,
            against_plain=_ratio(workload, line, beside[0]) if beside else None,
        )


def _is_secure(line: Line) -> bool:
    return line.row.variant.endswith(TLS)


def _ratio(workload: Workload, line: Line, other: float) -> float | None:
    return _speed(workload, line) / other if line.rounds and other else None


def _speed(workload: Workload, line: Line) -> float:
    if workload.mode == "connect":
        return line.row.connects_per_core or 0
    if workload.timed and line.row.p50_ms:
        return 1 / line.row.p50_ms
    return line.row.records_per_s


_COLUMNS: tuple[tuple[str, Callable[[Line], str]], ...] = (
    ("system", lambda line: f"{line.row.system}, {line.row.variant}"),
    ("replicas", lambda line: str(line.row.replicas)),
    ("synced at the ack", lambda line: "yes" if line.row.fsync else "no"),
    ("in flight", lambda line: f"{line.row.in_flight:,}" if _producing(line) else ""),
    ("records a request", lambda line: str(line.row.batch_records) if _producing(line) else ""),
    ("connections", lambda line: str(line.row.connections)),
    ("records/s", lambda line: _rate(line)),
    ("MB/s", lambda line: f"{line.row.mb_per_s:,.1f}" if line.row.mb_per_s else ""),
    ("cost, %", lambda line: _optional(line.row.cost_percent, "{:.1f}")),
    ("consumed beside it/s", lambda line: _optional(line.row.read_per_s, "{:,.0f}")),
    ("p50 ms", lambda line: _optional(line.row.p50_ms, "{:.2f}")),
    ("p99 ms", lambda line: _optional(line.row.p99_ms, "{:.2f}")),
    ("p999 ms", lambda line: _optional(line.row.p999_ms, "{:.2f}")),
    ("bytes each (PSS)", lambda line: _optional(line.row.bytes_each, "{:,.0f}")),
    ("servers without them, % of a core", lambda line: _optional(line.row.idle_percent, "{:.2f}")),
    ("with them, % of a core", lambda line: _optional(line.row.held_percent, "{:.2f}")),
    ("answers/s", lambda line: _optional(line.row.requests_per_s, "{:.1f}")),
    ("connections/s", lambda line: _optional(line.row.connects_per_s, "{:,.0f}")),
    ("a core of the servers makes", lambda line: _optional(line.row.connects_per_core, "{:,.0f}")),
    ("client, cores", lambda line: f"{line.row.client_cpu:.2f}" if line.row.client_cpu else ""),
    ("servers, cores", lambda line: f"{line.row.servers_cpu:.2f}" if line.row.servers_cpu else ""),
    ("wire B/record, client", lambda line: _optional(line.row.client_wire_bytes, "{:,.0f}")),
    ("wire B/record, all", lambda line: _optional(line.row.all_wire_bytes, "{:,.0f}")),
    ("× best peer", lambda line: _optional(line.against_best, "{:.2f}")),
    ("× plain", lambda line: _optional(line.against_plain, "{:.2f}")),
)


def markdown(lines: Sequence[Line]) -> str:
    """A table for each workload. Columns that are empty in all of its rows are left out."""
    texts = []
    for workload in WORKLOADS:
        mine = [line for line in lines if line.row.workload == workload.key]
        if not mine:
            continue
        good = [line for line in mine if line.rounds]
        shown = [(name, cell) for name, cell in _COLUMNS if any(cell(line) for line in good)]
        texts.append(f"### {workload.title[0].upper()}{workload.title[1:]}\n\n")
        if good:
            texts.append(table([name for name, _ in shown], [[cell(line) for _, cell in shown] for line in good]))
        for line in mine:
            if line.failed:
                rounds = f"{line.failed} of {line.failed + line.rounds} rounds"
                texts.append(f"\n{line.row.system}, {line.row.variant}: no figures in {rounds}. {line.why}\n")
        texts.append("\n")
    return "".join(texts)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown that can be read as it is."""
    lines = [list(columns), ["---"] * len(columns), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(columns))]
    lines[1] = ["-" * width for width in widths]
    return "".join("| " + " | ".join(map(str.ljust, line, widths)) + " |\n" for line in lines)


def _producing(line: Line) -> bool:
    (mode,) = (workload.mode for workload in WORKLOADS if workload.key == line.row.workload)
    return mode in ("produce", "behind")


def _rate(line: Line) -> str:
    if not line.row.records_per_s:
        return ""
    return f"{_round(line.row.records_per_s)} ({_round(line.low)} to {_round(line.high)})"


def _round(value: float) -> str:
    """Three digits that mean something."""
    if value >= 1000:
        digits = len(str(int(value))) - 3
        return f"{round(value, -digits):,.0f}"
    return f"{value:.0f}"


def _optional(value: float | None, shape: str) -> str:
    return "" if value is None else shape.format(value)
