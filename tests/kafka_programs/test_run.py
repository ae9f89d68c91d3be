"""scripts/kafka-programs without any program: what it says of them, of one that lacks a tool, and of one that fails."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from kafka_clients import tools
from kafka_clients.program import FailedError
from kafka_programs import run
from kafka_programs.process import Process
from kafka_programs.run import Outcome
from tests.patience import WAIT_S
from tests.source_tree import ROOT


def test_help_names_every_program_and_what_is_needed() -> None:
    said = subprocess.run(
        [ROOT / "scripts/kafka-programs", "--help"], capture_output=True, text=True, timeout=WAIT_S, check=True
    ).stdout
    assert all(name in said for name in run.TRIALS)
    assert "Java 17" in said


def test_unknown_names_are_refused_with_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        run.main(["--programs", "connect,flink"])
    assert refused.value.code == 2
    said = capsys.readouterr().err
    assert "flink" in said
    assert all(name in said for name in run.TRIALS)


def test_a_missing_tool_is_told_and_no_node_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(run, "SCRIBE", tools.Client("stand-in", lambda: ["true"]))
    assert run.main(["--programs", "streams,spark", "--json"]) == 2
    told = json.loads(capsys.readouterr().out)
    missing = "java is not installed: Debian package default-jdk-headless"
    assert told["left_out"] == {"streams": missing, "spark": missing}
    assert told["programs"] == []


def test_the_table_has_versions_steps_and_the_reason_of_a_failure() -> None:
    said = run.table(
        [
            Outcome("one", "One 1.0", "ok", ["10 records"], "", 3.4),
            Outcome("two", "Two 2.0", "fails", ["begun"], "a record is missing", 5.0),
        ],
        {"three": "mvn is not installed"},
    )
    lines = said.splitlines()
    assert lines[1].split() == ["one", "One", "1.0", "ok", "3", "s"]
    assert lines[2].split() == ["two", "Two", "2.0", "fails", "5", "s"]
    assert "  10 records" in lines
    assert lines.index("  FAILS: a record is missing") == lines.index("  begun") + 1
    assert lines[-1] == "three is left out: mvn is not installed"


def test_a_process_that_ends_early_is_a_failure_with_its_errors(tmp_path: Path) -> None:
    script = "import sys; print('ERROR no leader'); print('bye'); sys.exit(3)"
    with (
        Process([sys.executable, "-c", script], tmp_path / "program.log") as process,
        pytest.raises(FailedError, match=r"program ended with 3: ERROR no leader$"),
    ):
        process.wait(lambda: False, "it never came true")


def test_a_process_is_gone_with_its_children_when_its_context_ends(tmp_path: Path) -> None:
    log = tmp_path / "program.log"
    with Process(["sh", "-c", "sleep 600 & echo $!; wait"], log) as process:
        process.wait(lambda: log.read_text().strip() != "", "it says nothing")
        child = int(log.read_text())
        assert psutil.pid_exists(child)
    assert not psutil.pid_exists(child)
