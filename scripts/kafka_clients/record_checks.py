"""Metadata, producing and consuming."""

from __future__ import annotations

import time
from typing import Any

from .batches import batches
from .bench import Bench, equal, holds, reading, same, wait
from .samples import AT_TIME_ASKED, PARTITIONS, TIME_ASKED, Sample, samples

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


def metadata(bench: Bench) -> None:
    topic = bench.topic("metadata")
    told = bench.program.ask("metadata", topic=topic)
    expected = bench.scribe.ask("metadata", topic=topic)
    equal("brokers", told["brokers"], expected["brokers"])
    equal("partitions", sorted(told["partitions"]), sorted(expected["partitions"]))
    for partition, each in told["partitions"].items():
        holds(f"leader of partition {partition}", str(each["leader"]) in told["brokers"], each)


def produce(bench: Bench, **how: Any) -> None:
    """`how`: codec, acks, idempotent. What the batches say is compared with it as well."""
    if "codec" in how:
        bench.need("codecs", how["codec"])
    partitions = bench.written_partitions
    topic = bench.topic("-".join(["produce", *(str(value) for value in how.values())]), partitions)
    records = samples(partitions=partitions, lacks=bench.lacks)
    told = bench.program.ask("produce", topic=topic, records=records, **how)["offsets"]
    if told is not None:
        equal("offsets told", told, [each["offset"] for each in records])
    bench.read_back(topic, records, bench.lacks)
    _look_at_batches(bench, topic, partitions, how)


def _look_at_batches(bench: Bench, topic: str, partitions: int, how: dict[str, Any]) -> None:
    told = bench.scribe.ask("metadata", topic=topic)
    heads = [
        head
        for partition in range(partitions)
        for head in batches(
            told["brokers"][str(told["partitions"][str(partition)]["leader"])], topic, partition, bench.security
        )
    ]
    if "codec" in how:
        used = {head.codec for head in heads}
        # A client may leave a batch as it is that would not become smaller.
        holds("codecs of the batches", how["codec"] in used and used <= {how["codec"], "none"}, used)
    if "idempotent" in how:
        numbered = {head.producer_id >= 0 for head in heads}
        holds("batches with a producer id", numbered == {how["idempotent"]}, numbered)


def produce_new_topic(bench: Bench) -> None:
    """To a name that nobody has created. With the client's defaults, it is created, with one partition."""
    topic = bench.fresh("new-topic")
    records = samples(partitions=1, lacks=bench.lacks)
    bench.program.ask("produce", topic=topic, records=records)
    equal("partitions", sorted(bench.scribe.ask("metadata", topic=topic)["partitions"]), ["0"])
    bench.read_back(topic, records, bench.lacks)


def consume(bench: Bench) -> None:
    topic, records = bench.written()
    _read(bench, topic, records)


def consume_from_offset(bench: Bench) -> None:
    topic, records = bench.written()
    _read(bench, topic, [each for each in records if each["offset"] >= 2], offset=2)


def consume_from_time(bench: Bench) -> None:
    topic, records = bench.written()
    at_ms = min(each["timestamp"] for each in records) + TIME_ASKED
    _read(bench, topic, [each for each in records if each["offset"] >= AT_TIME_ASKED], time=at_ms)


def consume_what_comes(bench: Bench) -> None:
    """A long poll at the end of the log ends with the record that is written meanwhile."""
    topic = bench.topic("tail")
    records = samples()
    bench.program.ask("join", topic=topic, group=bench.fresh("tail"))
    wait(lambda: bool(bench.program.ask("state")["assigned"]), "nothing is assigned")
    time.sleep(1)  # now it waits at the end
    bench.scribe.ask("produce", topic=topic, records=records, acks="all")
    wait(
        lambda: len(bench.program.ask("state")["records"]) >= len(records),
        lambda: f"{len(bench.program.ask('state')['records'])} records of {len(records)}",
    )
    same(records, bench.program.ask("state")["records"], bench.reading_lacks)
    bench.program.ask("leave")


def _read(bench: Bench, topic: str, expected: list[Sample], **start: int) -> None:
    partitions = range(PARTITIONS)
    same(
        expected,
        bench.program.ask("consume", **reading(topic, partitions, len(expected), **start))["records"],
        bench.reading_lacks,
    )
