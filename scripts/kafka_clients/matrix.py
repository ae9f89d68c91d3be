"""The rows of the matrix, and how its cells are filled."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from . import admin_checks, group_checks, record_checks, shell_checks
from .bench import Bench
from .program import FailedError, LackingError


class Check(NamedTuple):
    name: str
    run: Callable[[Bench], None]


class Cell(NamedTuple):
    client: str
    check: str
    verdict: str  # ok, fails, lacks
    reason: str
    seconds: float


def _checks() -> Iterator[Check]:
    produce = functools.partial(functools.partial, record_checks.produce)
    yield Check("metadata", record_checks.metadata)
    yield Check("produce", produce())
    for acks in ("0", "1", "all"):
        yield Check(f"produce-acks-{acks}", produce(acks=acks))
    for codec in record_checks.CODECS:
        yield Check(f"produce-{codec}", produce(codec=codec))
    yield Check("produce-idempotent", produce(idempotent=True))
    yield Check("produce-not-idempotent", produce(idempotent=False))
    yield Check("produce-new-topic", record_checks.produce_new_topic)
    for check in (
        record_checks.consume,
        record_checks.consume_from_offset,
        record_checks.consume_from_time,
        record_checks.consume_what_comes,
        group_checks.group,
        group_checks.rebalance,
        group_checks.rebalance_cooperative,
        group_checks.rebalance_with_other_family,
        group_checks.static_member,
        group_checks.member_killed,
        admin_checks.create_topic,
        admin_checks.create_topic_twice,
        admin_checks.validate_topic,
        admin_checks.list_topics,
        admin_checks.describe_topic,
        admin_checks.describe_configs,
        admin_checks.alter_configs,
        admin_checks.replace_configs,
        admin_checks.refuse_config,
        admin_checks.create_partitions,
        admin_checks.delete_records,
        admin_checks.list_offsets,
        admin_checks.list_offsets_by_time,
        admin_checks.list_offsets_of_newest,
        admin_checks.list_groups,
        admin_checks.describe_group,
        admin_checks.group_offsets,
        admin_checks.alter_group_offsets,
        admin_checks.delete_group_offsets,
        admin_checks.delete_group,
        admin_checks.delete_topic,
        admin_checks.describe_cluster,
        admin_checks.describe_log_dirs,
        admin_checks.describe_producers,
        admin_checks.elect_leaders,
        shell_checks.console_group,
        shell_checks.producer_performance,
        shell_checks.consumer_performance,
        shell_checks.move_partitions,
        shell_checks.dump_log,
    ):
        yield Check(check.__name__.replace("_", "-"), check)


CHECKS = {check.name: check for check in _checks()}


def fill(bench: Bench, checks: Sequence[Check]) -> Iterator[Cell]:
    """One client's column, from top to bottom."""
    with bench.running():
        for check in checks:
            yield _cell(bench, check)
            bench.remove_topics()
        bench.forget_samples()
        bench.remove_topics()


def _cell(bench: Bench, check: Check) -> Cell:
    start_s = time.monotonic()
    verdict, reason = "ok", ""
    try:
        check.run(bench)
    except LackingError as lacking:
        verdict, reason = "lacks", str(lacking)
    except (FailedError, OSError, KeyError, TypeError, ValueError) as failure:
        verdict, reason = "fails", f"{failure}" if isinstance(failure, FailedError) else repr(failure)
    if verdict == "fails":
        for program in (bench.program, bench.second):  # whatever it is in the middle of
            program.kill()
    return Cell(bench.name, check.name, verdict, " ".join(reason.split()), round(time.monotonic() - start_s, 1))
