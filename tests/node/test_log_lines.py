"""An event is one line, for people or for programs, and the level changes while a node runs."""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raftlog.node.log_lines import LogStyle, configure_log_lines, set_log_level
from tests.node.asking import until
from tests.node.started import free_port, started


@pytest.fixture(autouse=True)
def root() -> Iterator[None]:
    logger = logging.getLogger()
    handlers, level = logger.handlers, logger.level
    yield
    logger.handlers = handlers
    logger.setLevel(level)  # forgets also what each logger remembers of it


def test_text_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    configure_log_lines("node 1", LogStyle("info", "text"))
    logging.getLogger("x").info("two\nlines")
    assert capsys.readouterr().err.endswith(" INFO    node 1: two | lines\n")


def test_json_is_for_programs_whatever_came_from_outside(capsys: pytest.CaptureFixture[str]) -> None:
    configure_log_lines("node 1 orders-0", LogStyle("info", "json"))
    logging.getLogger("x").warning("a %s", 'b\n"c" \udcff')
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    event: dict[str, Any] = json.loads(line)
    assert event.pop("time")[-1] == "Z"
    assert event == {"level": "WARNING", "source": "node 1 orders-0", "message": 'a b\n"c" \\udcff'}


def test_a_traceback_is_in_its_event(capsys: pytest.CaptureFixture[str]) -> None:
    configure_log_lines("node 1", LogStyle("info", "json"))
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("x").exception("what")
    event = json.loads(capsys.readouterr().err)
    assert event["message"] == "what" and "ValueError: why" in event["exception"]


def test_the_level_can_be_set_later(capsys: pytest.CaptureFixture[str]) -> None:
    configure_log_lines("node 1", LogStyle("error", "text"))
    logging.getLogger("x").info("unheard")
    set_log_level("info")
    logging.getLogger("x").info("heard")
    assert "unheard" not in (said := capsys.readouterr().err) and "heard" in said


@pytest.mark.cluster
def test_a_signal_makes_a_node_and_its_workers_say_more(tmp_path: Path) -> None:
    listen = ["--listen", f"127.0.0.1:{free_port()}", "--log-level", "error", "--log-format", "json"]
    with started(tmp_path, "--id", "1", "--data", "data", *listen) as node:
        node.ready()
        assert node.log_text == ""
        for level in ("warning", "info"):
            node.process.send_signal(signal.SIGUSR1)
            said = f"the log says what is of level {level} from now on"
            until(lambda said=said: said in node.log_text)  # type: ignore[misc]
        assert node.end() == 0
        stopped = [json.loads(line)["source"] for line in node.log_text.splitlines() if "stopped" in line]
        assert stopped == ["node 1 __cluster_metadata-0", "node 1"]
