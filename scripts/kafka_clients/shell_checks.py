"""What only Kafka's own shell tools do."""

from __future__ import annotations

from .bench import Bench, equal, holds, same
from .program import LackingError
from .samples import PARTITIONS

_RECORDS = 5_000


def producer_performance(bench: Bench) -> None:
    topic = bench.topic("perf-produce")
    told = bench.program.ask("producer-performance", topic=topic, total=_RECORDS)
    equal("records sent", told["records"], _RECORDS)
    ends = bench.scribe.ask("list-offsets", topic=topic, partitions=list(range(PARTITIONS)), at="latest")["offsets"]
    equal("records in the topic", sum(ends.values()), _RECORDS)


def consumer_performance(bench: Bench) -> None:
    topic = bench.topic("perf-consume")
    bench.program.ask("producer-performance", topic=topic, total=_RECORDS)
    told = bench.program.ask("consumer-performance", topic=topic, total=_RECORDS, group=bench.fresh("perf"))
    holds("records read", told["records"] >= _RECORDS, told)


def console_group(bench: Bench) -> None:
    """The console consumer with a group, which commits when it ends."""
    topic, records = bench.written()
    group = bench.fresh("console")
    same(records, bench.program.ask("console-group", topic=topic, group=group, count=len(records))["records"])
    ends = {str(partition): len(records) // PARTITIONS for partition in range(PARTITIONS)}
    equal("committed", bench.program.ask("group-offsets", group=group, topic=topic)["offsets"], ends)


def dump_log(bench: Bench) -> None:
    """Reads the segments that the servers wrote; needs their folder."""
    topic, records = bench.written()
    if not bench.data:
        raise LackingError("the folders of these servers are not known")
    told = bench.program.ask("dump-log", topic=topic, directories=bench.data)
    equal("records in the segments of one replica", told["records"], len(records))
