"""Members, time, failovers and a log that loses its tail, in any order, against a small model.

Clients behave as the protocol asks them to, and badly: they send what they once knew. The model knows what was
committed, and who was told which share of which generation.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from raftlog.coordinator.records import GroupKey, OffsetKey, decode_group, decode_key, decode_offset
from raftlog.errors import ErrorCode
from raftlog.protocol import groups as g
from tests.coordinator.driver import TOPIC_ID, Driver

PARTITIONS = 4
GROUP = "readers"
MEMBERS = st.integers(0, 4)


class Process:
    """One client's view. `shares`: what it was told to own in which generation."""

    def __init__(self, number: int) -> None:
        # Two of five are static.
        self.instance_id = f"static-{number}" if number < 2 else None
        self.forget()

    def forget(self) -> None:
        self.id = ""
        self.generation = -1
        self.joining = self.syncing = 0
        self.owned: set[int] = set()


class Groups(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.driver = Driver()
        self.processes = [Process(number) for number in range(5)]
        self.fenced: list[Process] = []  # replaced by another process of the same instance
        self.told: dict[int, dict[str, set[int]]] = {}  # generation to member to the share it was told
        self.asked: dict[int, tuple[Any, dict[str, Any]]] = {}
        self.commits: dict[int, tuple[int, dict[int, int]]] = {}  # correlation id to generation and offsets
        self.synced: dict[int, tuple[int, str]] = {}  # correlation id to generation and member id
        self.last_generation = 0
        self.read: dict[int, dict[int, int]] = {}
        self.history: dict[int, list[int]] = {partition: [] for partition in range(PARTITIONS)}
        self.log_read = 0

    # --- requests ----------------------------------------------------------------------------
    def _send(self, make: Any, **fields: Any) -> int:
        sent = self.driver.send(make, group_id=GROUP, **fields)
        self.asked[sent] = (make, fields)
        self._hear()
        return sent

    def _join(self, process: Process, protocols: list[tuple[str, bytes]]) -> None:
        process.joining = self._send(
            g.JoinGroupRequest,
            member_id=process.id,
            group_instance_id=process.instance_id,
            session_timeout_ms=6_000,
            rebalance_timeout_ms=8_000,
            protocol_type="consumer",
            protocols=protocols,
        )
        self._hear()

    @initialize()
    def begin(self) -> None:
        for process in self.processes[:3]:
            self._join(process, [("range", b"")])
            self._join(process, [("range", b"")])

    @rule(who=MEMBERS, changed=st.integers(0, 5))
    def join(self, who: int, changed: int) -> None:
        self._join(self.processes[who], [("range", b"" if changed else b"more")])

    @rule(who=MEMBERS)
    def sync(self, who: int) -> None:
        self._sync(self.processes[who])

    @rule()
    def everybody_follows(self) -> None:
        """As well-behaved clients do: join when asked to, ask for the assignment, and live."""
        for _ in range(2):
            for process in self.processes:
                if not process.id:
                    continue
                state = self._heartbeat(process)
                if state == ErrorCode.REBALANCE_IN_PROGRESS:
                    self._join(process, [("range", b"")])
            self.driver.advance(0.2)
            self._hear()
            for process in self.processes:
                if process.id:
                    self._sync(process)
            self.driver.commit()
            self._hear()

    def _sync(self, process: Process) -> None:
        joined = self.driver.answers.get(process.joining)
        assignments: list[tuple[str, bytes]] = []
        if joined is not None and not joined.error_code and joined.members:
            ids = [member.member_id for member in joined.members]
            shares = {member_id: bytes(range(PARTITIONS))[n :: len(ids)] for n, member_id in enumerate(ids)}
            assignments = list(shares.items())
        process.syncing = self._send(
            g.SyncGroupRequest,
            generation_id=process.generation,
            member_id=process.id,
            group_instance_id=process.instance_id,
            assignments=assignments,
        )
        self.synced[process.syncing] = (process.generation, process.id)
        self._hear()

    def _heartbeat(self, process: Process) -> int:
        sent = self._send(
            g.HeartbeatRequest,
            generation_id=process.generation,
            member_id=process.id,
            group_instance_id=process.instance_id,
        )
        return int(self.driver.answers[sent].error_code)

    @rule(who=MEMBERS)
    def heartbeat(self, who: int) -> None:
        process = self.processes[who]
        code = self._heartbeat(process)
        if code in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.FENCED_INSTANCE_ID):
            process.forget()

    @rule(who=MEMBERS)
    def leave(self, who: int) -> None:
        process = self.processes[who]
        self._send(g.LeaveGroupRequest, members=[g.LeavingMember(member_id=process.id)])
        process.forget()

    @rule(who=MEMBERS)
    def die(self, who: int) -> None:
        """The process is gone; another may come, with the same instance id if it has one."""
        old = Process(who)
        old.__dict__.update(self.processes[who].__dict__)
        if old.instance_id and old.id:
            self.fenced.append(old)
        self.processes[who].forget()

    @rule(who=MEMBERS, partition=st.integers(0, PARTITIONS - 1), offset=st.integers(0, 100), back=st.integers(0, 2))
    def commit(self, who: int, partition: int, offset: int, back: int) -> None:
        process = self.processes[who]
        self._commit(process, process.generation - back // 2, {partition: offset, (partition + 1) % PARTITIONS: offset})

    @precondition(lambda self: self.fenced)
    @rule()
    def a_replaced_process_commits(self) -> None:
        old = self.fenced[-1]
        self._commit(old, old.generation, {0: 99})

    def _commit(self, process: Process, generation: int, offsets: dict[int, int]) -> None:
        group = self.driver.coordinator._groups.get(GROUP)
        sent = self._send(
            g.OffsetCommitRequest,
            generation_id=generation,
            member_id=process.id,
            group_instance_id=process.instance_id,
            offsets=[
                g.CommittedOffset(topic="orders", topic_id=TOPIC_ID, partition=partition, offset=offset)
                for partition, offset in offsets.items()
            ],
        )
        self.commits[sent] = (generation, offsets)
        taken = sent not in self.driver.answers
        if taken and process.id:
            assert group is not None
            assert generation == group.generation, "a member of another generation committed"
            assert process.id in group.members.by_id
        elif taken:
            assert group is None or not len(group.members), "somebody outside committed past the members"

    @rule()
    def fetch(self) -> None:
        sent = self._send(g.OffsetFetchRequest)
        offsets = {found.partition: found.offset for found in self.driver.answers[sent].offsets}
        assert offsets == self._model(), "what is read is what is committed, no more and no less"

    @rule()
    def delete(self) -> None:
        self._send(g.DeleteGroupRequest, version=self.driver.coordinator.committed.version(GROUP))

    # --- log and time ------------------------------------------------------------------------
    @rule(count=st.integers(1, 5))
    def commit_log(self, count: int) -> None:
        self.driver.commit(count)
        self._hear()

    @rule(seconds=st.sampled_from([0.1, 0.5, 3.0, 7.0]))
    def time_passes(self, seconds: float) -> None:
        self.driver.advance(seconds)
        self._hear()

    @rule(kept=st.integers(0, 4))
    def fail_over(self, kept: int) -> None:
        self.driver.fail_over(kept)
        self._hear()
        for sent, (make, _) in self.asked.items():
            assert sent in self.driver.answers, f"{make.__name__} {sent} was never answered"

    @precondition(lambda self: self.driver.proposed)
    @rule(code=st.sampled_from([ErrorCode.KAFKA_STORAGE_ERROR, ErrorCode.NOT_ENOUGH_REPLICAS]))
    def the_log_refuses(self, code: ErrorCode) -> None:
        self.driver.refuse(code)
        self._hear()

    # --- what the clients hear -----------------------------------------------------------------
    def _hear(self) -> None:
        for process in self.processes:
            joined = self.driver.answers.get(process.joining)
            if joined is not None:
                self._hear_joined(process, joined)
        for sent, (generation, member_id) in list(self.synced.items()):
            answer = self.driver.answers.get(sent)
            if answer is None:
                continue
            del self.synced[sent]
            if not answer.error_code:
                self._told(generation, member_id, set(answer.assignment))

    def _hear_joined(self, process: Process, joined: g.JoinGroupResponse) -> None:
        if joined.error_code == ErrorCode.MEMBER_ID_REQUIRED:
            process.id = process.id or joined.member_id
        elif not joined.error_code:
            process.id, process.generation = joined.member_id, joined.generation_id
        elif joined.error_code in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.FENCED_INSTANCE_ID):
            process.forget()

    def _told(self, generation: int, member_id: str, share: set[int]) -> None:
        committed = self._committed_group()
        assert committed is not None and committed.generation >= generation, "told before it was committed"
        told = self.told.setdefault(generation, {})
        group = self.driver.coordinator._groups[GROUP]
        # A static member that was replaced handed its share over, within the generation, to who took its place.
        for other, others_share in told.items():
            if other != member_id and other in group.members.by_id:
                assert not share & others_share, f"{share & others_share} have two owners in generation {generation}"
        assert told.get(member_id, share) == share, "a member was told two shares of one generation"
        told[member_id] = share

    # --- the model -------------------------------------------------------------------------------
    def _model(self) -> dict[int, int]:
        """The newest committed offset of each partition: a fold of the log, as simple as can be."""
        offsets: dict[int, int] = {}
        for key, value in self.driver.log:
            known = decode_key(key)
            if isinstance(known, OffsetKey):
                if value is None:
                    offsets.pop(known.partition, None)
                else:
                    offsets[known.partition] = decode_offset(value).offset
        return offsets

    def _committed_group(self) -> Any:
        found = None
        for key, value in self.driver.log:
            if isinstance(decode_key(key), GroupKey):
                found = None if value is None else decode_group(value)
        return found

    @invariant()
    def generations_grow_in_the_log(self) -> None:
        for key, value in self.driver.log[self.log_read :]:
            if not isinstance(decode_key(key), GroupKey):
                continue
            if value is None:
                # Nobody is left who knows the old numbers: ids of members are never given twice.
                self.last_generation = 0
                self.told.clear()
                continue
            group = decode_group(value)
            assert group.generation >= self.last_generation
            self.last_generation = group.generation
        self.log_read = len(self.driver.log)

    @invariant()
    def nothing_is_proposed_twice_or_forgotten(self) -> None:
        assert self.driver.coordinator.outbox.unfinished == len(self.driver.proposed)

    @invariant()
    def what_was_acknowledged_is_in_the_log(self) -> None:
        for sent, (_, offsets) in list(self.commits.items()):
            answer = self.driver.answers.get(sent)
            if answer is None:
                continue
            del self.commits[sent]
            if not answer.error_code:
                written = [decode_offset(v).offset for k, v in self.driver.log if v and b"orders" in k]
                assert set(offsets.values()) <= set(written)

    @invariant()
    def a_deadline_is_ahead(self) -> None:
        self.driver.advance(0)
        self._hear()
        assert self.driver.coordinator.next_deadline_s > self.driver.now_s

    def teardown(self) -> None:
        self.driver.fail_over()
        self._hear()
        unanswered = [make.__name__ for sent, (make, _) in self.asked.items() if sent not in self.driver.answers]
        assert not unanswered


TestGroups = Groups.TestCase
TestGroups.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
