"""No answer that claims durability leaves a worker before the fdatasync that covers it has ended.

Seen from outside, in the system calls of real workers. The judge must be able to say no: it does for traces
written by hand, and for a worker that runs with `--flush os`.
"""

from __future__ import annotations

import pytest

from raftlog.protocol import codec
from raftlog.protocol import messages as m
from raftlog.record.batch import encode, stamp
from tests.system_calls import judge

SEGMENT = "7</data/t-0/log.1/00000000000000000000.00000000000000000002.log>"


def _hex(data: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in data)


def _write(offset: int) -> str:
    batch = stamp(encode([(1, None, b"value")]), offset, 1)
    return f'10  pwrite64({SEGMENT}, "{_hex(batch)}", {len(batch)}, 0) = {len(batch)}'


def _answer(*offsets: int) -> str:
    results = [m.ProduceResult(number, 0, offset) for number, offset in enumerate(offsets)]
    body = codec.encode(m.ProduceResponse(results=results))
    frame = bytes([0, len(body)]) + body if len(body) < 256 else b"\x02" + len(body).to_bytes(8, "big") + body
    return f'11  sendto(12<socket:[5]>, "{_hex(frame)}", {len(frame)}, 0, NULL, 0) = {len(frame)}'


SYNC = f"10  fdatasync({SEGMENT}) = 0"
SYNC_BEGINS = f"10  fdatasync({SEGMENT} <unfinished ...>"
SYNC_ENDS = "10  <... fdatasync resumed>) = 0"
SYNC_FAILS = f"10  fdatasync({SEGMENT}) = -1 EIO (Input/output error)"


@pytest.mark.parametrize(
    "trace",
    [
        [_write(0), SYNC, _answer(0)],
        [_write(0), SYNC_BEGINS, SYNC_ENDS, _answer(0)],
        [_write(0), _write(1), SYNC, _answer(0, 1), _write(2), SYNC, _answer(2)],
        [_write(0), SYNC, _write(1), _answer(0), SYNC, _answer(1)],
        [_write(offset) for offset in range(40)] + [SYNC, _answer(*range(40))],
        [_write(700), SYNC, _answer(700)],
    ],
)
def test_what_is_synced_may_be_said(trace: list[str]) -> None:
    verdict = judge(iter(trace))
    assert verdict.produce_answers == sum(line.startswith("10  pwrite64") for line in trace)
    assert verdict.violations == []


@pytest.mark.parametrize(
    "trace",
    [
        [_write(0), _answer(0), SYNC],
        [_write(0), SYNC_BEGINS, _answer(0), SYNC_ENDS],
        [_write(0), SYNC, _write(1), _answer(0, 1)],
        [_write(0), SYNC_BEGINS, _write(1), SYNC_ENDS, _answer(1)],
        [_write(0), SYNC_FAILS, _answer(0)],
        [_write(0), "10  fdatasync(9</data/t-0/state.a.tmp>) = 0", _answer(0)],
        [_write(offset) for offset in range(40)] + [_answer(*range(40))],
    ],
)
def test_the_judge_sees_an_answer_that_came_too_early(trace: list[str]) -> None:
    assert judge(iter(trace)).violations
