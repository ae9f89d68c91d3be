"""A coordinator over a log that is a list: what it proposes is committed when the test says so."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from raftlog.coordinator.coordinator import Coordinator
from raftlog.errors import ErrorCode
from raftlog.machine.result import Now, Record, Result
from raftlog.protocol import groups as g
from raftlog.protocol.body import Body
from tests.requests import request_of

TOPIC_ID = b"orders-topic-id-"
START_MS = 1_700_000_000_000


class Driver:
    """`log`: committed records. `proposed`: taken from the coordinator, not committed yet. Time is the test's."""

    def __init__(self) -> None:
        self.log: list[Record] = []
        self.proposed: list[Result] = []
        self.answers: dict[int, Any] = {}
        self.now_s = 0.0
        self._correlation_ids = itertools.count(1)
        self._minted = itertools.count(1)
        self._start()

    def _start(self) -> None:
        self.coordinator = Coordinator(lambda name: f"{name}-{next(self._minted)}")
        for key, value in self.log:
            self.coordinator.apply(0, key, value)
        self.coordinator.load(self.now)

    @property
    def now_ms(self) -> int:
        return START_MS + int(self.now_s * 1000)

    @property
    def now(self) -> Now:
        return Now(self.now_s, self.now_ms)

    def send(self, make: Callable[..., Body], **fields: Any) -> int:
        """The correlation id, under which its answer will be in `answers`."""
        correlation_id = next(self._correlation_ids)
        request = request_of(make(**fields), correlation_id, topic_id=TOPIC_ID, partition=0)
        self.coordinator.on_request(request, self.now)
        self._take()
        return correlation_id

    def ask(self, make: Callable[..., Body], **fields: Any) -> Any:
        """The answer, where it comes at once or after what was proposed is committed."""
        correlation_id = self.send(make, **fields)
        self.commit()
        return self.answers[correlation_id]

    def version(self, group_id: str = "readers") -> bytes:
        """As a tool looks it up before it changes the group."""
        version: bytes = self.ask(g.OffsetFetchRequest, group_id=group_id, partitions=[], with_version=True).version
        return version

    def delete(self, group_id: str = "readers") -> ErrorCode:
        return ErrorCode(self.ask(g.DeleteGroupRequest, group_id=group_id, version=self.version(group_id)).error_code)

    def _take(self) -> None:
        for result in self.coordinator.outbox.take():
            if result.records:
                self.proposed.append(result)
            else:
                self._hear(result, result.response)

    def _hear(self, result: Result, response: Any) -> None:
        assert result.caller is not None
        number = result.caller.correlation_id
        assert number not in self.answers, f"answered twice: {response}"
        self.answers[number] = response

    def _finish(self, result: Result, code: ErrorCode) -> None:
        self.coordinator.outbox.finish(result, code, self.now)
        if result.caller is not None:
            refusal = self.coordinator.refusal(result.caller, code)
            self._hear(result, refusal if code else result.response)

    def commit(self, count: int = 1_000_000) -> None:
        """The oldest proposals, in order, and those that follow from them."""
        while self.proposed and count:
            count -= 1
            self._commit_next()

    def _commit_next(self) -> None:
        result = self.proposed.pop(0)
        self.log += result.records
        for key, value in result.records:
            self.coordinator.apply(0, key, value)
        self._finish(result, ErrorCode.NONE)
        self._take()

    def refuse(self, code: ErrorCode) -> None:
        """The log takes none of what was proposed."""
        proposed, self.proposed = self.proposed, []
        for result in proposed:
            self._finish(result, code)
        self._take()

    def advance(self, seconds: float) -> None:
        """Time passes; at each deadline the coordinator is woken."""
        end_s = self.now_s + seconds
        while (due_s := self.coordinator.next_deadline_s) <= end_s:
            assert due_s >= self.now_s - 1e-6 or self.now_s == 0, "a deadline that stays in the past"
            self.now_s = max(self.now_s, due_s)
            self.coordinator.tick(self.now)
            self._take()
            assert self.coordinator.next_deadline_s > self.now_s
        self.now_s = end_s

    def fail_over(self, kept: int = 0) -> None:
        """The first `kept` proposals were replicated and are committed by the next leader; the others are lost."""
        proposed, self.proposed = self.proposed, []
        for result in proposed:
            self._finish(result, ErrorCode.REQUEST_TIMED_OUT)
        self.coordinator.unload(self.now)
        self._take()
        for result in self.proposed:  # its host drops what was not proposed before the end
            self._finish(result, ErrorCode.NOT_LEADER_OR_FOLLOWER)
        self.proposed.clear()
        for result in proposed[:kept]:
            self.log += result.records
        self._start()


class Client:
    """A member as a client is one. `id`, `generation` and `assignment` are what it was told last."""

    def __init__(self, driver: Driver, group_id: str = "readers", **options: Any) -> None:
        self.driver = driver
        self.group_id = group_id
        self.instance_id: str | None = options.pop("group_instance_id", None)
        self.options = {
            "session_timeout_ms": 10_000,
            "rebalance_timeout_ms": 30_000,
            "protocol_type": "consumer",
            "protocols": [("range", b"orders")],
            "client_id": "test",
            **options,
        }
        self.id = ""
        self.generation = -1
        self.joining = 0

    def _ask(self, make: Callable[..., Body], **fields: Any) -> int:
        if make is not g.LeaveGroupRequest:
            fields["group_instance_id"] = self.instance_id
        return self.driver.send(make, group_id=self.group_id, **fields)

    def join(self) -> None:
        """Sent, with an id; `joined` has the answer once there is one."""
        self.joining = self._ask(g.JoinGroupRequest, member_id=self.id, **self.options)
        answer = self.joined
        if answer is not None and answer.error_code == ErrorCode.MEMBER_ID_REQUIRED:
            self.id = answer.member_id
            self.join()

    @property
    def joined(self) -> g.JoinGroupResponse | None:
        answer: g.JoinGroupResponse | None = self.driver.answers.get(self.joining)
        if answer is not None and not answer.error_code:
            self.id, self.generation = answer.member_id, answer.generation_id
        return answer

    def sync(self, assignments: dict[str, bytes] | None = None) -> int:
        return self._ask(
            g.SyncGroupRequest,
            generation_id=self.generation,
            member_id=self.id,
            assignments=list((assignments or {}).items()),
        )

    def heartbeat(self) -> ErrorCode:
        sent = self._ask(g.HeartbeatRequest, generation_id=self.generation, member_id=self.id)
        return ErrorCode(self.driver.answers[sent].error_code)

    def commit(self, offset: int, partition: int = 0, topic: str = "orders") -> int:
        offsets = [g.CommittedOffset(topic=topic, topic_id=TOPIC_ID, partition=partition, offset=offset)]
        return self._ask(g.OffsetCommitRequest, generation_id=self.generation, member_id=self.id, offsets=offsets)

    def leave(self) -> list[int]:
        member = g.LeavingMember(member_id=self.id, group_instance_id=self.instance_id)
        sent = self._ask(g.LeaveGroupRequest, members=[member])
        codes: list[int] = self.driver.answers[sent].member_error_codes
        return codes


def form(driver: Driver, *members: Client) -> None:
    """One generation of these: joined, assigned (each its own id), committed."""
    for member in members:
        member.join()
    driver.advance(0.2)
    answers = [member.joined for member in members]
    assert all(answer is not None and not answer.error_code for answer in answers), answers
    syncs = [
        member.sync({other.id: other.id.encode() for other in members} if answer and answer.members else None)
        for member, answer in zip(members, answers, strict=True)
    ]
    driver.commit()
    assert [driver.answers[sent].assignment for sent in syncs] == [member.id.encode() for member in members]


def describe(driver: Driver, group_id: str = "readers") -> g.DescribeGroupResponse:
    answer: g.DescribeGroupResponse = driver.ask(g.DescribeGroupRequest, group_id=group_id)
    return answer


def fetched(driver: Driver, group_id: str = "readers") -> dict[tuple[str, int], int]:
    answer: g.OffsetFetchResponse = driver.ask(g.OffsetFetchRequest, group_id=group_id)
    return {(committed.topic, committed.partition): committed.offset for committed in answer.offsets}
