"""What one family writes every other reads: one topic a writer, with one codec a partition."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from .bench import Bench, reading, same
from .matrix import Cell
from .program import FailedError, LackingError
from .record_checks import CODECS
from .samples import WITHOUT_PARTITIONS, Sample, samples


class Written(NamedTuple):
    topic: str
    records: list[Sample]
    codecs: list[str]
    lacks: list[str]


def cross(benches: list[Bench], note: Callable[[str], None]) -> list[Cell]:
    """A cell for each reader and writer, named `reads WRITER`."""
    cells = []
    written: dict[str, Written] = {}
    for bench in benches:
        with bench.running():
            try:
                written[bench.name] = _write(bench)
            except (LackingError, FailedError) as failure:
                note(f"{bench.name} writes nothing for the others: {failure}")
    for bench in benches:
        with bench.running():
            for cell in _read(bench, written):
                if cell.verdict == "fails":
                    note(f"{cell.client} {cell.check}: {cell.reason}")
                cells.append(cell)
    for bench in benches:
        with bench.running():
            bench.remove_topics()
    return cells


def _write(bench: Bench) -> Written:
    codecs = [codec for codec in CODECS if codec in bench.program.about["codecs"]]
    if WITHOUT_PARTITIONS in bench.lacks:
        codecs = codecs[-1:]
    topic = bench.topic("cross", partitions=len(codecs))
    lacks = bench.lacks
    records: list[Sample] = []
    for partition, codec in enumerate(codecs):
        these = [each | {"partition": partition} for each in samples(partitions=1, lacks=lacks)]
        bench.program.ask("produce", topic=topic, records=these, codec=codec)
        records += these
    return Written(topic, records, codecs, lacks)


def _read(bench: Bench, written: dict[str, Written]) -> Iterator[Cell]:
    for writer, found in written.items():
        start_s = time.monotonic()
        verdict, reason = "ok", ""
        try:
            told = bench.program.ask("consume", **reading(found.topic, range(len(found.codecs)), len(found.records)))
            same(found.records, told["records"], [*found.lacks, *bench.reading_lacks])
        except LackingError as lacking:
            verdict, reason = "lacks", str(lacking)
        except FailedError as failure:
            verdict, reason = "fails", f"{failure} (partition = codec: {', '.join(found.codecs)})"
        yield Cell(
            bench.name, f"reads-{writer}", verdict, " ".join(reason.split()), round(time.monotonic() - start_s, 1)
        )
