"""One self-contained HTML page of a run: what was done to the nodes, what the clients felt of it, and the verdict."""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from raftlog.faultlab.checker import Judgement
from raftlog.faultlab.history import LAB, Operation
from raftlog.faultlab.operations import NEVER_NS, Attempt, is_acked, pair

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 1100, 240, 60, 24
_POINTS_MAX = 4000
_COLOURS = {"network": "#8e6bbf", "clock": "#c79a2b", "process": "#3f7fbf", "disk": "#bf5b3f", "client": "#5f7f5f"}
_OUTCOMES = {"ok": "#2c7a4b", "info": "#d08a1d", "fail": "#b3261e"}

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1140px; padding: 0 1rem; color: #1d1d1f; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; }
.verdict { display: inline-block; padding: .15rem .6rem; border-radius: .3rem; color: #fff; }
table { border-collapse: collapse; } td, th { text-align: left; padding: .15rem .9rem .15rem 0; vertical-align: top; }
svg { width: 100%; height: auto; background: #fafafa; border: 1px solid #ddd; }
svg text { font: 11px system-ui, sans-serif; fill: #555; }
code, pre { font: 13px ui-monospace, monospace; }
pre { background: #f3f3f3; padding: .6rem; white-space: pre-wrap; overflow-wrap: anywhere; }
"""


class Band(NamedTuple):
    """A fault, from the moment that it was applied to the one that it was healed. Seconds of the run."""

    name: str
    kind: str
    nodes: str
    begin_s: float
    end_s: float


def write_report(path: Path, history: Sequence[Operation], judgement: Judgement, repeat: str, text: list[str]) -> None:
    """`repeat`: the command that does it again. `text`: the verdict, a line each."""
    first_ns = history[0].time_ns if history else 0
    last_ns = history[-1].time_ns if history else 1
    length_s = max((last_ns - first_ns) / 1e9, 1.0)
    sends = [attempt for attempt in pair(history) if attempt.function == "send" and attempt.end_ns != NEVER_NS]
    bands = _bands(history, first_ns, length_s)
    colour = {True: "#2c7a4b", False: "#b3261e", None: "#77631d"}[judgement.valid]
    rows = "".join(
        f"<tr><td>{html.escape(band.name)}</td><td>{html.escape(band.nodes)}</td>"
        f"<td>{band.begin_s:.1f} s</td><td>{band.end_s - band.begin_s:.1f} s</td></tr>"
        for band in bands
    )
    legend = ", ".join(f'<span style="color:{shade}">{kind}</span>' for kind, shade in _COLOURS.items())
    path.write_text(
        f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>raftlog fault lab: {html.escape(text[-1])}</title>
<style>{_STYLE}</style>
<h1>raftlog fault lab <span class="verdict" style="background:{colour}">{html.escape(text[-1])}</span></h1>
<pre>{html.escape(chr(10).join(text))}</pre>
<p>Repeat: <code>{html.escape(repeat)}</code></p>
<h2>Time from a send to its answer</h2>
<p>Logarithmic. Each point is one operation of up to 20 records: {_outcome_legend()}. Shaded: faults of {legend}.</p>
{_latencies(sends, bands, first_ns, length_s)}
<h2>Acknowledged records in each second</h2>
{_throughput(sends, bands, first_ns, length_s)}
<h2>Faults</h2>
<table><tr><th>fault</th><th>nodes</th><th>at</th><th>for</th></tr>{rows}</table>
</html>
"""
    )


def _outcome_legend() -> str:
    names = {"ok": "acknowledged", "info": "unknown", "fail": "not written"}
    return ", ".join(f'<span style="color:{shade}">{names[kind]}</span>' for kind, shade in _OUTCOMES.items())


def _bands(history: Iterable[Operation], first_ns: int, length_s: float) -> list[Band]:
    from raftlog.faultlab.schedule import FAULTS

    begun: dict[int, Band] = {}
    for operation in history:
        if operation.process != LAB or operation.function not in ("fault", "healed"):
            continue
        at_s = (operation.time_ns - first_ns) / 1e9
        if operation.function == "fault" and operation.type == "ok":
            number, name, nodes, detail = operation.value
            shown = f"{' '.join(map(str, nodes))} {detail}".strip()
            begun[number] = Band(name, FAULTS[name].kind, shown, at_s, length_s)
        elif operation.function == "healed" and operation.value[0] in begun:
            begun[operation.value[0]] = begun[operation.value[0]]._replace(end_s=at_s)
    return sorted(begun.values(), key=lambda band: band.begin_s)


def _frame(body: str, bands: list[Band], length_s: float, marks: list[tuple[float, str]]) -> str:
    """A chart: bands behind, the time below, `marks` (height 0 to 1, text) at the left."""
    wide, high = _WIDTH - _LEFT, _HEIGHT - _BOTTOM
    shaded = "".join(
        f'<rect x="{_LEFT + wide * band.begin_s / length_s:.1f}" y="0" height="{high}" '
        f'width="{max(1.0, wide * (band.end_s - band.begin_s) / length_s):.1f}" fill="{_COLOURS[band.kind]}" '
        f'fill-opacity="0.18"><title>{html.escape(f"{band.name} {band.nodes}")}</title></rect>'
        for band in bands
    )
    step_s = 10 ** math.floor(math.log10(length_s / 2))
    times = "".join(
        f'<text x="{_LEFT + wide * n * step_s / length_s:.1f}" y="{_HEIGHT - 8}">{n * step_s:g} s</text>'
        for n in range(int(length_s / step_s) + 1)
        if length_s / step_s < 12 or n % 2 == 0
    )
    scale = "".join(
        f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{high * (1 - at):.1f}" y2="{high * (1 - at):.1f}" stroke="#ddd"/>'
        f'<text x="4" y="{max(11.0, high * (1 - at) + 4):.1f}">{text}</text>'
        for at, text in marks
    )
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}">{shaded}{scale}{times}{body}</svg>'


def _latencies(sends: list[Attempt], bands: list[Band], first_ns: int, length_s: float) -> str:
    wide, high = _WIDTH - _LEFT, _HEIGHT - _BOTTOM
    low_ms, decades = 0.1, 5.5
    points = []
    for attempt in sends[:: max(1, len(sends) // _POINTS_MAX)]:
        took_ms = max(low_ms, (attempt.end_ns - attempt.begin_ns) / 1e6)
        x = _LEFT + wide * (attempt.begin_ns - first_ns) / 1e9 / length_s
        y = high * (1 - min(1.0, math.log10(took_ms / low_ms) / decades))
        points.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.6" fill="{_OUTCOMES[attempt.kind]}"/>')
    marks = [(power / decades, f"{low_ms * 10**power:g} ms") for power in range(6)]
    return _frame("".join(points), bands, length_s, marks)


def _throughput(sends: list[Attempt], bands: list[Band], first_ns: int, length_s: float) -> str:
    wide, high = _WIDTH - _LEFT, _HEIGHT - _BOTTOM
    acked: Counter[int] = Counter()
    for attempt in sends:
        count = sum(is_acked(sent) for sent in attempt.value)
        acked[int((attempt.end_ns - first_ns) / 1e9)] += count
    most = max(acked.values(), default=1) or 1
    corners = " ".join(
        f"{_LEFT + wide * (second + 0.5) / length_s:.1f},{high * (1 - acked[second] / most * 0.92):.1f}"
        for second in range(int(length_s))
    )
    line = f'<polyline points="{corners}" fill="none" stroke="#2c7a4b" stroke-width="1.5"/>'
    return _frame(line, bands, length_s, [(0.0, "0"), (0.92, f"{most}")])
