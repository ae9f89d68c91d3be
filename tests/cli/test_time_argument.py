"""Times on a command line, and reading again from one."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from raftlog import Producer
from raftlog.node.local import LocalCluster
from raftlog_cli.time_argument import parse_when
from tests.cli.command import run, unique
from tests.patience import WAIT_S

NOW_MS = 1_800_000_000_000


def ms(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp() * 1000)  # type: ignore[arg-type,misc]


@pytest.mark.parametrize(
    ("text", "when_ms"),
    [
        ("2026-11-22T10:00Z", ms(2026, 11, 22, 10)),
        ("2026-11-22T10:00:30.5Z", ms(2026, 11, 22, 10, 0, 30) + 500),
        ("2026-11-22 10:00+01:00", ms(2026, 11, 22, 9)),
        ("2026-11-22T10:00", int(datetime(2026, 11, 22, 10).timestamp() * 1000)),
        ("2026-11-22", int(datetime(2026, 11, 22).timestamp() * 1000)),
        ("-90s", NOW_MS - 90_000),
        ("-30m", NOW_MS - 30 * 60_000),
        ("-1h", NOW_MS - 3_600_000),
        ("-2d", NOW_MS - 2 * 86_400_000),
        ("-99999999d", 0),
    ],
)
def test_a_time_is_read_as_it_is_written(text: str, when_ms: int) -> None:
    assert parse_when(text, NOW_MS) == when_ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "1h",
        "-1w",
        "-h",
        "-1.5h",
        "2026-13-01",
        "2026-11-22T25:00",
        "20261122T10",
        "1960-01-01Z",
        "2099-01-01",
    ],
)
def test_what_is_no_time_is_refused_with_what_would_be_one(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a time|before 1970|still to come"):
        parse_when(text, NOW_MS)


def test_consume_starts_at_the_first_record_that_is_not_older(cluster: LocalCluster) -> None:
    name = unique("replay")
    run(cluster, "topic", "create", name, "--config", "retention.ms=-1")
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    with Producer(cluster.bootstrap, linger_ms=0) as producer:
        for age_h in (30, 5, 3, 1):
            producer.send(name, b"%d h" % age_h, timestamp_ms=now_ms - age_h * 3_600_000).result(WAIT_S)

    def since(start: str) -> list[bytes]:
        return run(cluster, "consume", name, "--from", start, "--exit-at-end").stdout.splitlines()

    assert since("-4h") == [b"3 h", b"1 h"]
    assert since("-2d") == [b"30 h", b"5 h", b"3 h", b"1 h"]
    assert since("-10m") == []
    at = datetime.fromtimestamp(now_ms / 1000 - 5 * 3600)
    assert since(at.isoformat(timespec="milliseconds")) == [b"5 h", b"3 h", b"1 h"]
    assert since(at.astimezone(UTC).isoformat(timespec="milliseconds")) == [b"5 h", b"3 h", b"1 h"]
    refused = run(cluster, "consume", name, "--from", "yesterday", code=2).stderr
    assert b"'yesterday' is not a time" in refused
    assert refused.count(b"Error: ") == 1
    run(cluster, "topic", "delete", name)
