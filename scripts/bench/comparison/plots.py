"""The two classic figures: producer throughput (200-byte records, batch 1 and 50) and consumer throughput."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from .summary import OURS, Line
from .workloads import BATCHES, READ_LARGE, READ_SMALL, SINGLES, Workload

_SYNCED, _UNSYNCED = "#1f5f8b", "#9dbfd6"


def missing_plots() -> str | None:
    if importlib.util.find_spec("matplotlib") is None:
        return "matplotlib is not installed (pip install matplotlib)"
    return None


def draw(lines: Sequence[Line], directory: Path) -> None:
    """Writes producers.svg and consumers.svg, and the same as PNG, into `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    _figure(lines, (SINGLES, BATCHES), "Producers: 200-byte records a second", directory / "producers")
    _figure(lines, (READ_SMALL, READ_LARGE), "Consumers: records a second", directory / "consumers")


def _figure(lines: Sequence[Line], workloads: Sequence[Workload], title: str, path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot
    from matplotlib.patches import Patch
    from matplotlib.ticker import MaxNLocator

    figure, places = pyplot.subplots(1, len(workloads), figsize=(12, 4.2), constrained_layout=True)
    for place, workload in zip(places, workloads, strict=True):
        mine = [line for line in lines if line.row.workload == workload.key and line.rounds]
        mine.sort(key=lambda line: line.row.records_per_s)
        rates = [line.row.records_per_s for line in mine]
        spread = [
            [line.row.records_per_s - line.low for line in mine],
            [line.high - line.row.records_per_s for line in mine],
        ]
        colours = [_SYNCED if line.row.fsync else _UNSYNCED for line in mine]
        bars = place.barh([_name(line) for line in mine], rates, xerr=spread, color=colours, ecolor="#666666")
        place.bar_label(bars, labels=[f" {rate:,.0f}" for rate in rates], fontsize=8)
        place.set_title(workload.title, fontsize=9)
        place.spines[["top", "right"]].set_visible(False)
        place.xaxis.set_major_locator(MaxNLocator(5))
        place.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:,.0f}k")
        place.margins(x=0.2)
        for label, line in zip(place.get_yticklabels(), mine, strict=True):
            label.set_fontsize(8)
            label.set_fontweight("bold" if line.row.system == OURS else "normal")
    marks = [Patch(color=_SYNCED, label="synced before the ack"), Patch(color=_UNSYNCED, label="not synced")]
    figure.legend(handles=marks, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    figure.suptitle(title, fontsize=11)
    figure.savefig(path.with_suffix(".svg"))
    figure.savefig(path.with_suffix(".png"), dpi=110)
    pyplot.close(figure)


def _name(line: Line) -> str:
    servers = f"×{line.row.replicas}" if line.row.replicas > 1 else "one server"
    return f"{line.row.system}, {line.row.variant}, {servers}"
