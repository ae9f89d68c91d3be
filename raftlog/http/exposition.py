"""Metrics as text, in Prometheus' format 0.0.4 and in OpenMetrics 1.0.0. Pure.

prometheus-client writes both, and takes some 10 µs for a line: too much for a thousand partitions with fifteen lines
each. Its parsers judge what is written here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate

from raftlog.histogram import BOUNDS_S
from raftlog.http.catalog import METRICS, PREFIX, Metric

OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Labels = tuple[str, ...]
_LE = (*(str(bound) for bound in BOUNDS_S), "+Inf")


def wants_openmetrics(accept: str) -> bool:
    """`accept`: a request's header."""
    return OPENMETRICS_TYPE.partition(";")[0] in accept


class Exposition:
    """Lines by metric. Labels stand in the catalog's order.

    Only OpenMetrics says since when a counter counts; as text that would be a metric of its own for each of them.
    """

    def __init__(self, *, openmetrics: bool) -> None:
        self._openmetrics = openmetrics
        self._families = {metric.name: _Family(metric) for metric in METRICS}

    def add(self, name: str, labels: Labels, value: float, began_s: float | None = None) -> None:
        text = labelled(self._families[name].label_names, labels)
        if began_s is None:
            self.add_each(name, [(text, value)])
        else:
            self.add_counts(name, [(text, value, began_s)])

    def add_each(self, name: str, rows: Iterable[tuple[str, float]]) -> None:
        """`rows`: the labels of each as `labelled` gives them, and its value."""
        family = self._families[name]
        full_name = family.full_name
        family.lines += [f"{full_name}{text} {value!r}\n" for text, value in rows]

    def add_counts(self, name: str, rows: Iterable[tuple[str, float, float]]) -> None:
        """With the time when each began to count."""
        if not self._openmetrics:
            self.add_each(name, [(text, value) for text, value, _ in rows])
            return
        family = self._families[name]
        full_name, created = family.full_name, f"{family.base_name}_created"
        family.lines += [f"{full_name}{text} {value!r}\n{created}{text} {began_s!r}\n" for text, value, began_s in rows]

    def add_histogram(self, name: str, labels: Labels, counts: Iterable[int], sum_s: float, began_s: float) -> None:
        """`counts`: of each bucket alone."""
        family = self._families[name]
        base, text = family.base_name, labelled(family.label_names, labels)
        bucket = f"{base}_bucket{text[:-1]}{',' if text else '{'}le="
        totals = list(accumulate(counts))
        family.lines += [f'{bucket}"{le}"}} {total}\n' for le, total in zip(_LE, totals, strict=True)]
        family.lines.append(f"{base}_count{text} {totals[-1]}\n{base}_sum{text} {sum_s!r}\n")
        if self._openmetrics:
            family.lines.append(f"{base}_created{text} {began_s!r}\n")

    def encoded(self) -> bytes:
        parts = []
        for family in self._families.values():
            # OpenMetrics names a counter without what its samples end with.
            name = family.base_name if self._openmetrics else family.full_name
            parts.append(f"# HELP {name} {family.meaning}\n# TYPE {name} {family.kind}\n")
            parts += family.lines
        if self._openmetrics:
            parts.append("# EOF\n")
        return "".join(parts).encode()


class _Family:
    def __init__(self, metric: Metric) -> None:
        self.base_name = PREFIX + metric.name
        self.full_name = metric.full_name
        self.kind = metric.kind
        self.meaning = _escaped(metric.meaning)
        self.label_names = metric.labels
        self.lines: list[str] = []


def labelled(names: Sequence[str], values: Labels) -> str:
    """As it stands in a line: `{topic="orders",partition="0"}`."""
    pairs = [f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True)]
    return f"{{{','.join(pairs)}}}" if pairs else ""


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
