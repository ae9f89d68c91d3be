"""What an administrator asks: topics, configs, partitions, records, offsets, groups, the cluster."""

from __future__ import annotations

from .bench import Bench, equal, holds, wait
from .program import FailedError
from .samples import AT_TIME_ASKED, PARTITIONS, TIME_ASKED, samples

_EACH = [str(partition) for partition in range(PARTITIONS)]


def create_topic(bench: Bench) -> None:
    topic = bench.fresh("created")
    configs = {"retention.ms": "3600000"}
    bench.program.ask("create-topic", topic=topic, total=PARTITIONS, replicas=bench.replicas(), configs=configs)
    bench.await_leaders(topic, PARTITIONS)
    found = bench.scribe.ask("describe-topic", topic=topic)["partitions"]
    equal("replicas", {len(each["replicas"]) for each in found.values()}, {bench.replicas()})
    equal("retention.ms", bench.scribe.ask("describe-configs", topic=topic)["configs"]["retention.ms"], "3600000")


def create_topic_twice(bench: Bench) -> None:
    """The refusal says so."""
    topic = bench.topic("twice")
    try:
        bench.program.ask("create-topic", topic=topic, total=1, replicas=1)
    except FailedError as refusal:
        holds("the refusal", "exist" in str(refusal).lower(), refusal)
    else:
        raise FailedError("a topic was created a second time")


def validate_topic(bench: Bench) -> None:
    topic = bench.fresh("validated")
    bench.program.ask("create-topic", topic=topic, total=1, replicas=1, validate=True)
    topics = bench.scribe.ask("list-topics")["topics"]
    holds("topics after a create that only validates", topic not in topics, topic)


def list_topics(bench: Bench) -> None:
    topic = bench.topic("listed")
    topics = bench.program.ask("list-topics")["topics"]
    holds(f"topics, where {topic} should be", topic in topics, topics)


def describe_topic(bench: Bench) -> None:
    topic = bench.topic("described")
    found = bench.program.ask("describe-topic", topic=topic)["partitions"]
    expected = bench.scribe.ask("describe-topic", topic=topic)["partitions"]
    equal("partitions", sorted(found), sorted(expected))
    for partition, each in found.items():
        equal(f"leader of {partition}", each["leader"], expected[partition]["leader"])
        equal(f"replicas of {partition}", sorted(each["replicas"]), sorted(expected[partition]["replicas"]))


def describe_configs(bench: Bench) -> None:
    topic = bench.topic("configs", configs={"retention.ms": "7200000", "cleanup.policy": "compact"})
    found = bench.program.ask("describe-configs", topic=topic)["configs"]
    equal("retention.ms", found.get("retention.ms"), "7200000")
    equal("cleanup.policy", found.get("cleanup.policy"), "compact")
    holds("max.message.bytes, which nobody has set", int(found.get("max.message.bytes") or 0) > 0, found)


def alter_configs(bench: Bench) -> None:
    """One is changed, the other stays."""
    topic = bench.topic("altered", configs={"retention.ms": "7200000"})
    bench.program.ask("alter-configs", topic=topic, configs={"cleanup.policy": "compact"})
    _await_configs(bench, topic, {"retention.ms": "7200000", "cleanup.policy": "compact"})


def replace_configs(bench: Bench) -> None:
    """The older call: what is not named goes back to its default."""
    topic = bench.topic("replaced", configs={"retention.ms": "7200000"})
    bench.program.ask("replace-configs", topic=topic, configs={"cleanup.policy": "compact"})
    _await_configs(bench, topic, {"cleanup.policy": "compact"})
    found = bench.scribe.ask("describe-configs", topic=topic)["configs"]["retention.ms"]
    holds("retention.ms, which was not named", found != "7200000", found)


def refuse_config(bench: Bench) -> None:
    topic = bench.topic("refused")
    try:
        bench.program.ask("alter-configs", topic=topic, configs={"no.such.setting": "1"})
    except FailedError as refusal:
        said = str(refusal).lower()
        holds("the refusal", "config" in said or "no.such.setting" in said, refusal)
    else:
        raise FailedError("a setting that does not exist was accepted")


def create_partitions(bench: Bench) -> None:
    topic = bench.topic("grown")
    bench.program.ask("create-partitions", topic=topic, total=PARTITIONS + 2)
    bench.await_leaders(topic, PARTITIONS + 2)


def delete_records(bench: Bench) -> None:
    topic = _filled(bench, "cut")
    before = {"0": 2, "1": 3}
    low = bench.program.ask("delete-records", topic=topic, before=before).get("low")
    if low is not None:
        equal("low watermarks told", low, before)
    found = bench.scribe.ask("list-offsets", topic=topic, partitions=[0, 1, 2], at="earliest")["offsets"]
    equal("first offsets", found, {"0": 2, "1": 3, "2": 0})


def list_offsets(bench: Bench) -> None:
    topic, records = bench.written()
    partitions = list(range(PARTITIONS))
    ends = {partition: len(records) // PARTITIONS for partition in _EACH}
    ask = bench.program.ask
    equal(
        "earliest",
        ask("list-offsets", topic=topic, partitions=partitions, at="earliest")["offsets"],
        dict.fromkeys(_EACH, 0),
    )
    equal("latest", ask("list-offsets", topic=topic, partitions=partitions, at="latest")["offsets"], ends)


def list_offsets_by_time(bench: Bench) -> None:
    topic, records = bench.written()
    at_ms = min(each["timestamp"] for each in records) + TIME_ASKED
    found = bench.program.ask("list-offsets", topic=topic, partitions=list(range(PARTITIONS)), at=at_ms)["offsets"]
    equal("first at the time asked for", found, dict.fromkeys(_EACH, AT_TIME_ASKED))


def list_offsets_of_newest(bench: Bench) -> None:
    topic, records = bench.written()
    found = bench.program.ask("list-offsets", topic=topic, partitions=list(range(PARTITIONS)), at="max")
    equal("newest", found["offsets"], dict.fromkeys(_EACH, AT_TIME_ASKED))
    newest = {each["timestamp"] for each in records if each["offset"] == AT_TIME_ASKED}
    if "timestamps" in found:
        equal("times of the newest", set(found["timestamps"].values()), newest)


def list_groups(bench: Bench) -> None:
    name, _ = _group(bench)
    groups = bench.program.ask("list-groups")["groups"]
    holds(f"groups, where {name} should be", name in groups, groups)


def describe_group(bench: Bench) -> None:
    topic, name = bench.topic("stable"), bench.fresh("stable")
    bench.scribe.ask("join", topic=topic, group=name)
    wait(lambda: len(bench.scribe.ask("state")["assigned"]) == PARTITIONS, "nothing is assigned")
    found = bench.program.ask("describe-group", group=name)
    bench.scribe.ask("leave")
    equal("state", str(found["state"]).upper(), "STABLE")
    equal("shares", [sorted(each["partitions"]) for each in found["members"]], [[0, 1, 2]])


def group_offsets(bench: Bench) -> None:
    name, topic = _group(bench)
    found = bench.program.ask("group-offsets", group=name, topic=topic)["offsets"]
    equal("offsets", found, {"0": 1, "1": 2, "2": 3})


def alter_group_offsets(bench: Bench) -> None:
    name, topic = _group(bench)
    bench.program.ask("alter-group-offsets", group=name, topic=topic, offsets={"0": 3, "1": 0})
    found = bench.scribe.ask("group-offsets", group=name, topic=topic)["offsets"]
    equal("offsets", found, {"0": 3, "1": 0, "2": 3})


def delete_group_offsets(bench: Bench) -> None:
    name, topic = _group(bench)
    bench.program.ask("delete-group-offsets", group=name, topic=topic, partitions=[0, 1, 2])
    found = bench.scribe.ask("group-offsets", group=name, topic=topic)["offsets"]
    equal("offsets", {partition: offset for partition, offset in found.items() if offset >= 0}, {})


def delete_group(bench: Bench) -> None:
    name, _ = _group(bench)
    bench.program.ask("delete-group", group=name)
    groups = bench.scribe.ask("list-groups")["groups"]
    holds("groups, one of which was deleted", name not in groups, groups)


def delete_topic(bench: Bench) -> None:
    topic = bench.topic("deleted")
    bench.program.ask("delete-topic", topic=topic)
    wait(lambda: topic not in bench.scribe.ask("list-topics")["topics"], f"{topic} is still there")


def describe_cluster(bench: Bench) -> None:
    found = bench.program.ask("describe-cluster")
    equal("brokers", found["brokers"], bench.scribe.ask("describe-cluster")["brokers"])
    if "controller" in found:
        holds("controller", str(found["controller"]) in found["brokers"], found)
    if "cluster" in found:
        holds("the cluster's id", found["cluster"], found)


def describe_log_dirs(bench: Bench) -> None:
    topic, _ = bench.written()
    sizes = bench.program.ask("describe-log-dirs", topic=topic)["bytes"]
    equal("replicas", sorted(sizes), _EACH)
    holds("bytes", all(size > 0 for size in sizes.values()), sizes)


def describe_producers(bench: Bench) -> None:
    topic = bench.topic("producers")
    bench.scribe.ask("produce", topic=topic, records=samples(), acks="all", idempotent=True)
    producers = bench.program.ask("describe-producers", topic=topic, partition=0)["producers"]
    holds("producer ids of one idempotent producer", len(producers) == 1 and producers[0] >= 0, producers)


def elect_leaders(bench: Bench) -> None:
    topic = bench.topic("elected")
    bench.program.ask("elect-leaders", topic=topic, partition=0)
    bench.await_leaders(topic, PARTITIONS)


def _filled(bench: Bench, purpose: str) -> str:
    topic = bench.topic(purpose)
    bench.scribe.ask("produce", topic=topic, records=samples(), acks="all")
    return topic


def _group(bench: Bench) -> tuple[str, str]:
    """A group without members that has offsets, and its topic."""
    topic, name = _filled(bench, "offsets"), bench.fresh("offsets")
    bench.scribe.ask("alter-group-offsets", group=name, topic=topic, offsets={"0": 1, "1": 2, "2": 3})
    return name, topic


def _await_configs(bench: Bench, topic: str, expected: dict[str, str]) -> None:
    def found() -> dict[str, str]:
        configs = bench.scribe.ask("describe-configs", topic=topic)["configs"]
        return {name: configs.get(name) for name in expected}

    wait(lambda: found() == expected, lambda: f"configs are {found()}, not {expected}", 20)
