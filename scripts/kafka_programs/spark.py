"""Spark Structured Streaming: a copy of a topic, ended and started from its checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kafka_clients.bench import holds, same
from kafka_clients.samples import WITHOUT_TIMES, Sample, samples
from kafka_clients.tools import interpreter, jars

from .process import Process
from .stage import Stage, plain

_PROGRAM = Path(__file__).resolve().parent / "programs" / "spark_copy.py"
_PARTITIONS = 3


def version() -> str:
    (connector,) = jars("maven-spark").glob("spark-sql-kafka-*.jar")
    interpreter("pip-spark")
    return f"Spark {connector.stem.rpartition('-')[2]}"


def run(stage: Stage) -> Iterator[str]:
    given, told = (stage.bench.topic(name, _PARTITIONS) for name in ("given", "told"))
    odd = samples(partitions=_PARTITIONS)  # which `plain` continues
    first = odd + plain([f"value {place}" for place in range(600)], partitions=_PARTITIONS, first=len(odd))
    second = plain([f"more {place}" for place in range(450)], partitions=_PARTITIONS, first=len(first))
    _copy(stage, given, told, first, first)
    yield f"{len(first)} records read and written, with keys and headers, null ones too"
    _copy(stage, given, told, second, first + second)
    yield f"started again from its checkpoint: {len(first + second)} records, each once, in order"


def _copy(stage: Stage, given: str, told: str, written: list[Sample], expected: list[Sample]) -> None:
    stage.bench.scribe.ask("produce", topic=given, records=written)
    command = [str(interpreter("pip-spark")), str(_PROGRAM), stage.bootstrap, _connector()]
    environment = {"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_LOCAL_DIRS": str(stage.directory / "spark")}
    log = stage.directory / "spark.log"
    with Process([*command, str(stage.directory / "checkpoint"), given, told], log, environment) as program:
        program.finish()
    holds("a batch reads all", f"a batch reads {len(expected)} records" in log.read_text(), program.tail())
    # A topic to which Spark writes has the times at which it wrote.
    same(expected, stage.records(told, _PARTITIONS), [WITHOUT_TIMES])


def _connector() -> str:
    """The jars that Spark itself does not bring."""
    own = {jar.name for jar in interpreter("pip-spark").parent.parent.glob("lib/*/site-packages/pyspark/jars/*.jar")}
    return ",".join(str(jar) for jar in sorted(jars("maven-spark").glob("*.jar")) if jar.name not in own)
