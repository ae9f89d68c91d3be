"""What `raftlog produce` makes of its options, and of a partitioner that misbehaves."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

import raftlog
from raftlog.client.producer.batch import PendingBatch, RecordFuture
from raftlog.errors import ConfigError, DeliveryTimeoutError, MessageTooLargeError, RaftlogError
from raftlog_cli import produce


def test_the_partitioners_are_those_of_the_client() -> None:
    assert set(produce.PARTITIONERS) == set(raftlog.PARTITIONERS)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return 7", "returned 7, which is none of [0, 1]"),
        ("return None", "returned None"),
        ("return key[0]", "raised TypeError"),
    ],
)
def test_a_partitioner_that_misbehaves_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, said: str
) -> None:
    module = f"mine_{abs(hash(body))}"
    (tmp_path / f"{module}.py").write_text(f"def f(key, partitions):\n    {body}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["/nowhere"])
    function = produce._partitioner(f"{module}:f")
    assert callable(function)
    with pytest.raises(ConfigError) as error:
        function(None, [0, 1])
    assert f"partitioner {module}:f {said}" in str(error.value)


@pytest.mark.parametrize(
    ("name", "source", "said"),
    [
        ("", "", "Empty module name"),
        (".relative", "", "relative import"),
        ("unwritable", "def f(:", "SyntaxError"),
        ("raising", "1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_module_that_cannot_be_imported_is_a_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, source: str, said: str
) -> None:
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["/nowhere"])
    with pytest.raises(click.BadParameter, match=said) as error:
        produce._partitioner(f"{name}:f")
    assert f"'{name}:f'" in error.value.message


def _future(error: RaftlogError | None) -> RecordFuture:
    batch = PendingBatch("t", 0, None, 0.0, 0, 0)
    batch.complete(5) if error is None else batch.fail(error)
    return RecordFuture(batch, 0, 0)


def test_a_record_that_is_too_large_fails_alone_and_any_other_failure_ends_the_command() -> None:
    outcome = produce.Outcome()
    outcome.done(1, _future(None))
    outcome.done(2, _future(MessageTooLargeError("too large")))
    assert (outcome.acknowledged, outcome.failed, outcome.fatal) == (1, 1, False)
    outcome.done(3, _future(DeliveryTimeoutError("no answer")))
    assert (outcome.failed, outcome.fatal) == (2, True)
    assert outcome.first_failure.startswith("record 2: too large")
