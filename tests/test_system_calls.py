"""No answer that claims durability leaves a worker before the fdatasync that covers it has ended.

Seen from outside, in the system calls of real workers. The judge must be able to say no: it does for traces
written by hand, and for a worker that runs with `--flush os`.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest

from raftlog import Admin, Producer
from raftlog.errors import TopicAlreadyExistsError
from raftlog.network.stream import LENGTHS
from raftlog.protocol import apis, codec
from raftlog.protocol.envelope import encode_response
from raftlog.protocol.raft import AppendResponse
from raftlog.protocol.records import ProduceResult
from raftlog.protocol.topics import NewTopic
from raftlog.record.batch import encode, stamp
from raftlog.types import Doubt, ReplicaStatus, Role
from tests.conftest import ClusterFactory
from tests.patience import WAIT_S
from tests.system_calls import judge, watched, why_not

SEGMENT = "7</data/t-0/log.1/00000000000000000000.00000000000000000002.log>"


def _hex(data: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in data)


def _write(offset: int) -> str:
    batch = stamp(encode([(1, None, b"value")]), offset, 1)
    return f'10  pwrite64({SEGMENT}, "{_hex(batch)}", {len(batch)}, 0) = {len(batch)}'


def _answer(*offsets: int) -> str:
    results = [ProduceResult(0, "", number, offset) for number, offset in enumerate(offsets)]
    return _send(encode_response(apis.PRODUCE, 0, results))


def _reply(match_index: int) -> str:
    header = codec.encode(AppendResponse(b"i" * 16, 0, 2, 22, 11, 1, 5, True, match_index, match_index + 1, Doubt.NONE))
    message = LENGTHS.pack(len(header), 0) + header
    buffer = f'{{iov_base="{_hex(message)}", iov_len={len(message)}}}'
    text = f"{{msg_name=NULL, msg_namelen=0, msg_iov=[{buffer}], msg_iovlen=1, msg_controllen=0, msg_flags=0}}"
    return f"10  sendmsg(12<socket:[5]>, {text}, 0) = {len(message)}"


def _send(body: bytes) -> str:
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


def test_a_follower_may_say_what_it_has_synced_and_no_more() -> None:
    # The first reply, to a heartbeat before any batch, tells where the trace begins: here at index 2.
    early = [_reply(2), _write(0), _reply(2), SYNC, _reply(3), _write(1), _write(2)]
    right = judge(iter([*early, SYNC, _reply(5)]))
    assert (right.append_answers, right.violations) == (3, [])
    assert judge(iter([*early, _reply(5), SYNC])).violations
    assert judge(iter([*early, SYNC_BEGINS, _reply(4), SYNC_ENDS])).violations


# --- real workers --------------------------------------------------------------------------------
TOPIC = "watched"
ALONE = 20
TOGETHER = 60
HEARTBEATS_S = 0.6  # some of them: by these the judge learns where a follower's log ends


@pytest.fixture(scope="module")
def can_watch() -> None:
    if reason := why_not():
        pytest.skip(reason)


def _create(bootstrap: str, replicas: int) -> list[ReplicaStatus]:
    """The topic's replicas, the leader first."""
    with Admin(bootstrap_servers=bootstrap) as admin:
        with contextlib.suppress(TopicAlreadyExistsError):  # the test before made it
            admin.create_topics([NewTopic(name=TOPIC)])
        for _ in range(400):
            found = sorted(admin.describe_replicas([TOPIC]), key=lambda status: status.role is not Role.LEADER)
            if len(found) == replicas and found[0].role is Role.LEADER and all(s.worker_pid for s in found):
                return found
            time.sleep(0.05)
    raise AssertionError(f"no leader of {TOPIC} within 20 s")


def _send_alone_and_together(bootstrap: str, acks: int | str) -> None:
    """One request at a time, and then many at once: there one fdatasync covers several answers."""
    time.sleep(HEARTBEATS_S)
    with Producer(bootstrap_servers=bootstrap, acks=acks, linger_ms=0) as producer:
        for number in range(ALONE):
            producer.send(TOPIC, b"alone %d" % number).result(WAIT_S)
        for future in [producer.send(TOPIC, b"together %d" % number) for number in range(TOGETHER)]:
            future.result(WAIT_S)


@pytest.mark.parametrize("acks", [1, "all"])
def test_no_answer_leaves_before_the_fdatasync_that_covers_it(
    can_watch: None, fresh_cluster: ClusterFactory, tmp_path: Path, acks: int | str
) -> None:
    cluster = fresh_cluster(nodes=1)
    (leader,) = _create(cluster.bootstrap, replicas=1)
    with watched(leader.worker_pid, tmp_path / "trace"):
        _send_alone_and_together(cluster.bootstrap, acks)
    with (tmp_path / "trace").open() as lines:
        verdict = judge(lines)
    assert verdict.produce_answers > ALONE
    assert verdict.segment_syncs > ALONE
    assert verdict.violations == []


def test_the_judge_says_no_to_a_worker_that_leaves_data_to_the_page_cache(
    can_watch: None, fresh_cluster: ClusterFactory, tmp_path: Path
) -> None:
    cluster = fresh_cluster(nodes=1, flush="os")
    (leader,) = _create(cluster.bootstrap, replicas=1)
    with watched(leader.worker_pid, tmp_path / "trace"):
        _send_alone_and_together(cluster.bootstrap, "all")
    with (tmp_path / "trace").open() as lines:
        verdict = judge(lines)
    assert len(verdict.violations) == verdict.produce_answers > ALONE


def test_no_follower_says_that_it_has_what_it_has_not_synced(
    can_watch: None, fresh_cluster: ClusterFactory, tmp_path: Path
) -> None:
    cluster = fresh_cluster(nodes=3)
    replicas = _create(cluster.bootstrap, replicas=3)
    with contextlib.ExitStack() as stack:
        for replica in replicas:
            stack.enter_context(watched(replica.worker_pid, tmp_path / f"trace.{replica.node_id}"))
        _send_alone_and_together(cluster.bootstrap, "all")
    for replica in replicas:
        with (tmp_path / f"trace.{replica.node_id}").open() as lines:
            verdict = judge(lines)
        answers = verdict.produce_answers if replica.role is Role.LEADER else verdict.append_answers
        assert answers > ALONE
        assert verdict.violations == []
    assert _create(cluster.bootstrap, replicas=3)[0].leader_epoch == replicas[0].leader_epoch, "an election meanwhile"
