"""What a check has at hand: the client's program, a second one of it, and another client that sets things up."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .program import FailedError, LackingError, Program
from .samples import PARTITIONS, WITHOUT_PARTITIONS, Sample, differences, samples

WAIT_S = 60.0  # a group that settles, an answer that has to become true
_LOOK_S = 0.2
_numbers = itertools.count(1)


class Bench:
    """One client on one cluster. `scribe` is a program of confluent-kafka: it creates topics and reads back.

    `data`: the folders of the servers' data, if they are known. `scribe_bootstrap`: where the scribe finds the cluster,
    if not where the client does.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        scribe_command: Sequence[str],
        bootstrap: str,
        directory: Path,
        data: Sequence[Path],
        scribe_bootstrap: str = "",
        security: Mapping[str, str] | None = None,
    ) -> None:
        log = directory / f"{name}.log"
        self.name = name
        self.data = [str(path) for path in data]
        self.security = security
        self.program = Program(command, bootstrap, log, security)
        self.second = Program(command, bootstrap, log, security)
        self.scribe = Program(scribe_command, scribe_bootstrap or bootstrap, directory / f"{name}-scribe.log", security)
        self._samples: tuple[str, list[Sample]] | None = None  # written once, since many checks read it
        self._topics: list[str] = []  # of the check that runs

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        with self.program, self.second, self.scribe:
            yield

    # --- what there is -------------------------------------------------------------------------
    @property
    def lacks(self) -> list[str]:
        """What its records cannot have."""
        found: list[str] = self.program.about.get("record_lacks", [])
        return found

    @property
    def reading_lacks(self) -> list[str]:
        """In what form it hands out less than it read."""
        found: list[str] = self.program.about.get("reading_lacks", [])
        return found

    @property
    def written_partitions(self) -> int:
        """How many partitions the topics have that it writes."""
        return 1 if WITHOUT_PARTITIONS in self.lacks else PARTITIONS

    @property
    def version(self) -> str:
        return str(self.program.about["client"])

    def need(self, kind: str, value: str) -> None:
        """`codecs` or `assignors`. Raises LackingError."""
        if value not in self.program.about[kind]:
            raise LackingError(self.program.about.get("why", {}).get(value, f"it has no {value}"))

    def fresh(self, purpose: str) -> str:
        """A name that nobody has, of a topic or of a group."""
        name = f"{self.name}-{purpose}-{os.getpid()}-{next(_numbers)}"
        self._topics.append(name)
        return name

    def replicas(self) -> int:
        return min(3, len(self.scribe.ask("describe-cluster")["brokers"]))

    def topic(self, purpose: str, partitions: int = PARTITIONS, configs: Mapping[str, str] | None = None) -> str:
        """A new one, with a leader in every partition."""
        name = self.fresh(purpose)
        size = {"total": partitions, "replicas": self.replicas()}
        self.scribe.ask("create-topic", topic=name, **size, configs=configs or {})
        self.await_leaders(name, partitions)
        return name

    def await_leaders(self, topic: str, partitions: int) -> None:
        def settled() -> bool:
            with contextlib.suppress(FailedError):
                told = self.scribe.ask("metadata", topic=topic)["partitions"]
                # Leaders answer a little later than they are told of, and KafkaJS writes all again when one refuses.
                self.scribe.ask("list-offsets", topic=topic, partitions=list(range(partitions)), at="latest")
                return len(told) == partitions and all(each["leader"] >= 0 for each in told.values())
            return False

        wait(settled, f"topic {topic} has no leaders in {partitions} partitions")

    def written(self) -> tuple[str, list[Sample]]:
        """A topic with all samples in it, written by the scribe."""
        if self._samples is None:
            topic, records = self.topic("samples"), samples()
            self._topics.remove(topic)
            self.scribe.ask("produce", topic=topic, records=records, acks="all")
            self._samples = (topic, records)
        return self._samples

    def forget_samples(self) -> None:
        if self._samples is not None:
            self._topics.append(self._samples[0])
            self._samples = None

    def remove_topics(self) -> None:
        """Those of the last check: a partition of raftlog is a process on each of its nodes."""
        topics, self._topics = self._topics, []
        for topic in topics:
            with contextlib.suppress(FailedError):  # the check may have deleted it
                self.scribe.ask("delete-topic", topic=topic)

    def read_back(self, topic: str, expected: list[Sample], lacks: Sequence[str] = ()) -> None:
        """Whether that is what the topic holds, as the scribe reads it."""
        partitions = sorted({each["partition"] for each in expected})
        same(expected, self.scribe.ask("consume", **reading(topic, partitions, len(expected)))["records"], lacks)


def reading(topic: str, partitions: Sequence[int], count: int, **start: int) -> dict[str, Any]:
    return {"topic": topic, "partitions": list(partitions), "start": start or {"offset": 0}, "count": count}


def wait(true: Callable[[], bool], otherwise: str | Callable[[], str], seconds: float = WAIT_S) -> None:
    end_s = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end_s:
            said = otherwise if isinstance(otherwise, str) else otherwise()
            raise FailedError(f"{said}, after {seconds:.0f} s")
        time.sleep(_LOOK_S)


def same(expected: list[Sample], found: list[Sample], lacks: Sequence[str] = ()) -> None:
    if difference := differences(expected, found, lacks=lacks):
        raise FailedError(difference)


def equal(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise FailedError(f"{what}: {str(found)[:200]}, not {str(expected)[:200]}")


def holds(what: str, truth: object, found: object) -> None:
    if not truth:
        raise FailedError(f"{what}: {str(found)[:300]}")
