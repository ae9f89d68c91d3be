"""Kafka Streams: a word count, at least once, stopped in the middle and started without its local state."""

from __future__ import annotations

import base64
import random
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from kafka_clients.bench import equal, holds
from kafka_clients.tools import compiled, jars

from .process import Process, java
from .stage import Stage, plain

_PROGRAM = Path(__file__).resolve().parent / "programs" / "WordCount.java"
_PARTITIONS = 2
_HALF = 300  # lines
_WORDS = [f"word{number}" for number in range(40)] + ["größer", "ключ"]
_REPARTITION, _CHANGELOG = "word-count-words-repartition", "word-count-counts-changelog"


def version() -> str:
    (library,) = jars("maven-streams").glob("kafka-streams-*.jar")
    compiled("streams", _PROGRAM, jars("maven-streams"))
    return f"Kafka Streams {library.stem.rpartition('-')[2]}"


def run(stage: Stage) -> Iterator[str]:
    given, told = (stage.bench.topic(name, _PARTITIONS) for name in ("lines", "counts"))
    choice = random.Random(1)
    lines = [" ".join(choice.choices(_WORDS, k=choice.randrange(1, 9))) for _ in range(2 * _HALF)]
    _count(stage, given, told, lines, 0)
    configs = {name: stage.configs(name) for name in (_REPARTITION, _CHANGELOG)}
    policies = {name: each["cleanup.policy"] for name, each in configs.items()}
    equal("policies of its own topics", policies, {_REPARTITION: "delete", _CHANGELOG: "compact"})
    equal("retention of its repartition topic", configs[_REPARTITION]["retention.ms"], "-1")
    yield f"{_HALF} lines counted; its changelog is compacted, its repartition topic kept without end"
    _count(stage, given, told, lines, _HALF)
    yield f"stopped, its local state removed, started: {2 * _HALF} lines counted, each once"
    expected = Counter(" ".join(lines).split())
    equal("the changelog's counts", _last(stage, _CHANGELOG), expected)
    yield f"counts of {len(expected)} words only grew, and stand in the changelog"


def _count(stage: Stage, given: str, told: str, lines: list[str], first: int) -> None:
    """Lines from `first` on are written, half of all, and all until then counted."""
    state = stage.directory / "state"
    folder = jars("maven-streams")
    classes = f"{compiled('streams', _PROGRAM, folder)}:{folder}/*"
    stage.bench.scribe.ask(
        "produce", topic=given, records=plain(lines[first : first + _HALF], partitions=_PARTITIONS, first=first)
    )
    expected = Counter(" ".join(lines[: first + _HALF]).split())
    with Process(
        java(classes, "WordCount", stage.bootstrap, state, given, told), stage.directory / "word-count.log"
    ) as program:
        program.wait(
            lambda: _last(stage, told) == expected,
            lambda: f"{sum(_last(stage, told).values())} words are counted, not {sum(expected.values())}",
        )
        program.stop()
    equal("the counts", _last(stage, told), expected)  # nothing more came while it stopped
    shutil.rmtree(state)


def _last(stage: Stage, topic: str) -> Mapping[str, int]:
    """The last count of each word. Raises FailedError if one is not larger than the one before it."""
    found: dict[str, int] = {}
    for each in stage.records(topic, _PARTITIONS):
        text = base64.b64decode(each["key"]).decode()
        number = int.from_bytes(base64.b64decode(each["value"])[-8:], "big")  # behind a timestamp in the changelog
        holds(f"{text} is counted upwards in {topic}", number > found.get(text, 0), f"{found.get(text)}, then {number}")
        found[text] = number
    return found
