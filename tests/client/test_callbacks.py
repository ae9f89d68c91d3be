"""Steps that are all taken, whatever one of them raises."""

from __future__ import annotations

import pytest

from raftlog.client.core.callbacks import run_all


def test_every_step_is_taken_and_the_first_error_raised_the_others_logged(caplog: pytest.LogCaptureFixture) -> None:
    taken: list[int] = []

    def step(number: int, error: BaseException | None = None) -> None:
        taken.append(number)
        if error is not None:
            raise error

    first, second = KeyboardInterrupt(), ValueError("the second")
    with pytest.raises(KeyboardInterrupt) as raised:
        run_all(lambda: step(1), lambda: step(2, first), lambda: step(3, second), lambda: step(4))
    assert raised.value is first
    assert taken == [1, 2, 3, 4]
    assert "the second" in caplog.text
    run_all(lambda: step(5))
