"""The demo passes on small inputs too, fails when it must, and leaves nothing behind however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import uuid
from pathlib import Path

import pytest

from tests.cli.command import COMMAND, interrupt, processes_with
from tests.patience import WAIT_S

KEYS = [
    "records",
    "acked",
    "consumed",
    "lost",
    "duplicated",
    "out_of_order",
    "produce_records_per_s",
    "consume_records_per_s",
    "failover_ms",
    "flush",
]
DEMO_S = 120.0
pytestmark = pytest.mark.cluster


@pytest.fixture
def mark() -> str:
    """In the environment of every process that the command starts."""
    return f"RAFTLOG_DEMO_TEST={uuid.uuid4().hex}"


def _lines(tmp_path: Path, count: int) -> str:
    path = tmp_path / "lines.txt"
    path.write_bytes(b"".join(b"line %d %s\n" % (number, b"x" * (number % 70)) for number in range(count)))
    return str(path)


def _start(tmp_path: Path, mark: str, *arguments: str) -> subprocess.Popen[bytes]:
    name, _, value = mark.partition("=")
    return subprocess.Popen(
        [*COMMAND, "demo", *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, name: value},
    )


def _gone(mark: str) -> bool:
    deadline_s = time.monotonic() + WAIT_S
    while processes_with(mark):
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.1)
    return True


@pytest.mark.parametrize(("count", "door"), [(1, ()), (2, ()), (7, ()), (30_000, ()), (5_000, ("--kafka",))])
def test_the_demo_loses_nothing_and_leaves_nothing_behind(
    tmp_path: Path, mark: str, count: int, door: tuple[str, ...]
) -> None:
    with _start(tmp_path, mark, "--json", *door, "--file", _lines(tmp_path, count)) as demo:
        out, err = demo.communicate(timeout=DEMO_S)
    assert demo.returncode == 0, err.decode()
    assert out.count(b"\n") == 1
    figures = json.loads(out)
    assert list(figures) == KEYS
    assert (figures["records"], figures["acked"], figures["lost"], figures["out_of_order"]) == (count, count, 0, 0)
    assert (figures["consumed"], figures["duplicated"]) == (count, 0)
    assert figures["flush"] == "always"
    assert 1 <= figures["failover_ms"] < 20_000
    assert b"killed node" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lines.txt"]
    assert _gone(mark)


def test_data_is_kept_where_the_user_says_and_not_written_over(tmp_path: Path, mark: str) -> None:
    path = _lines(tmp_path, 3_000)
    with _start(tmp_path, mark, "--file", path, "--data", "kept") as demo:
        out, err = demo.communicate(timeout=DEMO_S)
    assert demo.returncode == 0, err.decode()
    assert b"nothing that was acknowledged is lost" in out
    assert {"1", "2", "3"} <= {path.name for path in (tmp_path / "kept").iterdir()}
    with _start(tmp_path, mark, "--file", path, "--data", "kept") as again:
        _, err = again.communicate(timeout=DEMO_S)
    assert again.returncode == 1
    assert b"kept is not an empty directory" in err
    assert _gone(mark)


@pytest.mark.parametrize("moment", [b"starting", b"producing", b"killed"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupting_leaves_no_process_and_no_file_behind(
    tmp_path: Path, mark: str, number: signal.Signals, moment: bytes
) -> None:
    with _start(tmp_path, mark, "--file", _lines(tmp_path, 100_000)) as demo:
        interrupt(demo, moment, number)
    assert _gone(mark)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lines.txt"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--file", "missing"], b"No such file or directory: missing"), (["--file", "."], b"directory")],
)
def test_a_file_that_cannot_be_read_is_refused_before_anything_starts(
    tmp_path: Path, mark: str, arguments: list[str], said: bytes
) -> None:
    with _start(tmp_path, mark, *arguments) as demo:
        _, err = demo.communicate(timeout=WAIT_S)
    assert demo.returncode == 1
    assert said in err
    assert err.count(b"\n") == 1


def test_groups_miss_nothing_and_no_partition_has_two_owners(tmp_path: Path, mark: str) -> None:
    with _start(tmp_path, mark, "--groups", "--json") as demo:
        out, err = demo.communicate(timeout=DEMO_S)
    assert demo.returncode == 0, err.decode()
    figures = json.loads(out)
    assert list(figures) == [
        "records",
        "first_group_seen",
        "rereads",
        "missed",
        "second_group_seen",
        "two_owners",
        "rebalances",
    ]
    assert figures["first_group_seen"] == figures["second_group_seen"] == figures["records"] == 100_000
    assert (figures["missed"], figures["two_owners"]) == (0, 0)
    assert figures["rebalances"] >= 5, "for the start, the killed, the paused, the woken and the added member"
    for said in (b"killed member-1", b"paused member-2", b"woke member-2", b"added member-4"):
        assert said in err
    assert list(tmp_path.iterdir()) == []
    assert _gone(mark)


def test_interrupting_the_groups_leaves_no_member_behind(tmp_path: Path, mark: str) -> None:
    with _start(tmp_path, mark, "--groups") as demo:
        interrupt(demo, b"paused")
    assert _gone(mark)
    assert list(tmp_path.iterdir()) == []
