"""What a program is tried on: three nodes of raftlog, one of Kafka's clients to look with, and a folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kafka_clients.bench import Bench
from kafka_clients.samples import Sample, packed

_START_MS = 1_700_000_000_000


class Stage(NamedTuple):
    bench: Bench  # its scribe writes, reads and asks
    bootstrap: str
    directory: Path
    scribe: Sequence[str]  # its command

    @contextlib.contextmanager
    def another(self, bootstrap: str) -> Iterator[Bench]:
        """The same client on another cluster."""
        bench = Bench("another", self.scribe, self.scribe, bootstrap, self.directory, [])
        with bench.running():
            yield bench

    def configs(self, topic: str) -> dict[str, str]:
        found: dict[str, str] = self.bench.scribe.ask("describe-configs", topic=topic)["configs"]
        return found

    def ends(self, topic: str, partitions: int) -> dict[str, int]:
        found: dict[str, int] = self.bench.scribe.ask(
            "list-offsets", topic=topic, partitions=list(range(partitions)), at="latest"
        )["offsets"]
        return found

    def records(self, topic: str, partitions: int) -> list[dict[str, Any]]:
        """All that the topic holds now. It must begin at 0, and nothing may have been compacted."""
        count = sum(self.ends(topic, partitions).values())
        asked = {"partitions": list(range(partitions)), "start": {"offset": 0}, "count": count}
        found: list[dict[str, Any]] = self.bench.scribe.ask("consume", topic=topic, **asked)["records"]
        return found


def plain(values: list[str], *, partitions: int, first: int = 0) -> list[Sample]:
    """A record for each value, partitions in turn; `first`: how many there are already."""
    return [
        {
            "partition": place % partitions,
            "offset": place // partitions,
            "key": packed(f"key {place % 7}".encode()),
            "value": packed(value.encode()),
            "headers": [("place", packed(str(place).encode()))],
            "timestamp": _START_MS + place,
        }
        for place, value in enumerate(values, first)
    ]
