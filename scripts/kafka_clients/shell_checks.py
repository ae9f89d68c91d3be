"""What only Kafka's own shell tools do."""

from __future__ import annotations

from .bench import Bench, equal, holds, same, wait
from .program import LackingError
from .samples import PARTITIONS, samples

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


def move_partitions(bench: Bench) -> None:
    """kafka-reassign-partitions: what it proposes is carried out, and nothing is left to be called off."""
    brokers = sorted(map(int, bench.scribe.ask("describe-cluster")["brokers"]))
    if len(brokers) < 2:
        raise LackingError("there is one broker only")
    topic, records = bench.fresh("moved"), samples()
    bench.scribe.ask("create-topic", topic=topic, total=PARTITIONS, replicas=1, configs={})
    bench.await_leaders(topic, PARTITIONS)
    bench.scribe.ask("produce", topic=topic, records=records, acks="all")
    for wanted in (brokers[:1], brokers[1:]):  # one of them is not where it was
        proposed = bench.program.ask("propose-moves", topic=topic, brokers=wanted)["replicas"]
        named = {node_id for nodes in proposed.values() for node_id in nodes}
        holds(f"brokers of the proposal, of {wanted}", named <= {*wanted}, proposed)
        bench.program.ask("begin-moves", topic=topic, replicas=proposed)
        _await_moves(bench, topic, proposed)
        found = bench.scribe.ask("describe-topic", topic=topic)["partitions"]
        equal("replicas", {partition: each["replicas"] for partition, each in found.items()}, proposed)
    said = bench.program.ask("cancel-moves", topic=topic, replicas=proposed)["said"]
    holds("what is said of nothing to cancel", "None of the specified partition" in said, said)
    bench.read_back(topic, records)


def _await_moves(bench: Bench, topic: str, replicas: dict[str, list[int]]) -> None:
    said = ""

    def is_done() -> bool:
        nonlocal said
        told = bench.program.ask("verify-moves", topic=topic, replicas=replicas)
        said = told["said"]
        return bool(told["done"])

    wait(is_done, lambda: f"not all has moved: {said}")


def dump_log(bench: Bench) -> None:
    """Reads the segments that the servers wrote; needs their folder."""
    topic, records = bench.written()
    if not bench.data:
        raise LackingError("the folders of these servers are not known")
    told = bench.program.ask("dump-log", topic=topic, directories=bench.data)
    equal("records in the segments of one replica", told["records"], len(records))
