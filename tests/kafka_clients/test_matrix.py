"""scripts/kafka-clients without any client: what it calls equal, how a program is talked to, what is printed."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from kafka_clients import matrix, program, report, run, samples, tools
from kafka_clients.matrix import Cell
from kafka_clients.program import FailedError, LackingError, Program
from kafka_clients.samples import differences, packed
from tests.source_tree import ROOT

STAND_IN = """
import json, sys
for line in sys.stdin:
    do = json.loads(line)["do"]
    if do == "end":
        print("the end is near", file=sys.stderr)
        sys.exit(3)
    answers = {"hello": {"ok": {"client": "stand-in 1"}}, "lack": {"lacks": "it is old"}, "fail": {"error": "no"}}
    if do != "sleep":
        print(json.dumps(answers.get(do, {"ok": {"done": do}})), flush=True)
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[Program]:
    with Program([sys.executable, "-c", STAND_IN], "localhost:9", tmp_path / "log") as started:
        yield started


def test_a_program_answers_lacks_and_fails(stand_in: Program) -> None:
    assert stand_in.about == {"client": "stand-in 1"}
    assert stand_in.ask("produce") == {"done": "produce"}
    with pytest.raises(LackingError, match="it is old"):
        stand_in.ask("lack")
    with pytest.raises(FailedError, match="no"):
        stand_in.ask("fail")


def test_a_program_that_ends_is_a_failure_with_its_last_words_and_starts_again(stand_in: Program) -> None:
    with pytest.raises(FailedError, match="the program has ended; the end is near"):
        stand_in.ask("end")
    assert stand_in.ask("consume") == {"done": "consume"}


def test_a_program_that_does_not_answer_is_killed(stand_in: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in.ask("consume")
    monkeypatch.setattr(program, "ANSWER_S", 0.2)
    with pytest.raises(FailedError, match="no answer"):
        stand_in.ask("sleep")
    monkeypatch.undo()
    assert stand_in.ask("consume") == {"done": "consume"}


def test_samples_have_null_empty_and_binary_everywhere() -> None:
    found = samples.samples()
    for field in ("key", "value"):
        contents = {each[field] for each in found}
        assert {None, packed(b"")} <= contents
    headers = [content for each in found for _, content in each["headers"]]
    assert None in headers
    assert packed(b"") in headers
    assert packed(bytes(range(256))) in headers


@pytest.mark.parametrize("field", ["offset", "key", "value", "headers", "timestamp"])
def test_each_field_of_a_record_is_compared(field: str) -> None:
    expected = samples.samples()
    found = [dict(each) for each in expected]
    assert differences(expected, found) is None
    found[4][field] = "other"
    said = differences(expected, found)
    assert said is not None
    assert field in said


def test_a_record_too_few_or_too_many_is_a_difference() -> None:
    expected = samples.samples()
    assert differences(expected, expected[:-1]) == "partition 2: 3 records, not 4"
    assert differences(expected, [*expected, expected[-1]]) == "partition 2: 5 records, not 4"


def test_what_a_client_does_not_have_is_not_compared() -> None:
    expected = samples.samples()
    without = [each | {"timestamp": 7} for each in expected]
    assert differences(expected, without)
    assert differences(expected, without, lacks=[samples.WITHOUT_TIMES]) is None
    as_null = [each | {"key": each["key"] or None, "value": each["value"] or None} for each in expected]
    for each in as_null:
        each["headers"] = [[name, content or None] for name, content in each["headers"]]
    assert differences(expected, as_null)
    assert differences(expected, as_null, lacks=[samples.EMPTY_AS_NULL]) is None


def test_the_table_shows_each_cell_and_the_reason_of_a_failure() -> None:
    cells = [
        Cell("one", "produce", "ok", "", 0.1),
        Cell("two", "produce", "fails", "the value differs", 0.1),
        Cell("two", "consume", "lacks", "it only writes", 0.1),
    ]
    said = report.table({"one": "one 1.0", "two": "two 2.0"}, cells, {"three": "go is not installed"})
    assert "produce    ok   FAILS" in said
    assert "two produce: the value differs" in said
    assert "two consume: it only writes" in said
    assert "three is left out: go is not installed" in said
    assert said.endswith("1 ok, 1 fail, 1 not in the client.\n")


def test_every_version_has_an_upper_bound() -> None:
    found = tomllib.loads((ROOT / "scripts/kafka_clients/versions.toml").read_text())
    ranges = {name: versions for kind, names in found.items() if kind != "apt" for name, versions in names.items()}
    assert not [
        name for name, versions in ranges.items() if not (set("<^") & set(versions) or versions.endswith((")", "]")))
    ]


def test_unknown_names_are_refused_with_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        run.main(["--bootstrap", "localhost:9", "--clients", "java,jaba"])
    assert refused.value.code == 2
    said = capsys.readouterr().err
    assert "jaba" in said
    assert all(name in said for name in tools.CLIENTS)
    assert len(matrix.CHECKS) > 40


def test_raftlogs_own_client_needs_nodes_of_raftlog(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "SCRIBE", tools.Client("stand-in", lambda: ["false"]))
    assert run.main(["--bootstrap", "localhost:9", "--clients", tools.OWN]) == 2
    assert "raftlog is left out: it speaks raftlog's own protocol" in capsys.readouterr().err
