"""A machine with a simulated disk, a log on it, and a model of what that log has to hold after a power failure."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec

from raftlog.clock import ManualClock
from raftlog.record.batch import BatchHeader, check_batch, encode, numbered, split
from raftlog.record.compacted import entries_of
from raftlog.storage.fail_points import FailPoint, no_fail_point
from raftlog.storage.index import MemoryIndexStore
from raftlog.storage.log import PartitionLog
from raftlog.storage.producers import KnownBatch, Producers
from raftlog.storage.replica_state import ReplicaState
from raftlog.storage.simulated_disk import SimulatedDisk
from raftlog.storage.state import EpochStart
from raftlog.types import CleanupPolicy, Doubt, Flush, Half, TopicConfig
from tests.storage.compacting import check_compacted, keyed_batch

DIRECTORY = "/data/orders-0"
TOPIC_ID = b"0123456789abcdef"


class PowerFailureError(Exception):
    """Raised by a fail point: the process is gone."""


def batch_of(values: list[bytes], timestamp_ms: int = 1000) -> tuple[bytes, BatchHeader]:
    frame = encode([(timestamp_ms, None, value) for value in values])
    return frame, check_batch(frame)


def numbered_batch(
    values: list[bytes], producer_id: int, sequence: int, epoch: int = 0, timestamp_ms: int = 1000
) -> tuple[bytes, BatchHeader]:
    frame = numbered(batch_of(values, timestamp_ms)[0], producer_id, epoch, sequence)
    return frame, check_batch(frame)


def first_not_older(log: PartitionLog, timestamp_ms: int, end_offset: int, step: int = 2) -> tuple[int, int] | None:
    """(offset, timestamp_ms), found in steps of so many records."""
    search = log.search_time(timestamp_ms)
    while not search.done:
        search.step(log.state.log_start_offset, end_offset, step)
    return search.found


def known(producers: Producers) -> list[tuple[int, int, tuple[KnownBatch, ...]]]:
    """What is known of each, in the order that decides who is forgotten first."""
    return [(number, state.epoch, state.batches) for number, state in producers.states.items()]


class Machine:
    def __init__(
        self,
        disk: SimulatedDisk | None = None,
        flush: Flush = Flush.ALWAYS,
        segment_bytes: int = 2048,
        cleanup_policy: CleanupPolicy = CleanupPolicy.DELETE,
    ) -> None:
        self.clock = ManualClock()
        self.disk = disk or SimulatedDisk(self.clock.wall_ms)
        self.indexes = MemoryIndexStore()
        self.flush = flush
        self.fail_point: FailPoint = no_fail_point  # of the log that is open; may change
        self.config = TopicConfig(segment_bytes=segment_bytes, cleanup_policy=cleanup_policy, delete_retention_ms=2000)

    def open(
        self, *, existed: Doubt = Doubt.NONE, fail_point: FailPoint = no_fail_point, topic_id: bytes = TOPIC_ID
    ) -> PartitionLog:
        self.fail_point = fail_point
        return PartitionLog.open(
            disk=self.disk,
            directory=DIRECTORY,
            topic_id=topic_id,
            config=self.config,
            flush=self.flush,
            clock=self.clock,
            index=self.indexes.open,
            existed=existed,
            fail_point=lambda name: self.fail_point(name),
        )

    def crash(self, rng: random.Random | None) -> None:
        self.disk.crash(rng)
        if rng is not None:
            self.indexes.crash(rng)

    def kill(self) -> None:
        """kill -9: the page cache survives."""
        self.disk.restart()

    def segments(self, generation: int = 1) -> dict[str, bytes]:
        prefix = f"{DIRECTORY.lstrip('/')}/log.{generation}/"
        return {
            path: data for path, data in self.disk.files().items() if path.startswith(prefix) and path.endswith(".log")
        }

    def segment_bytes_on_disk(self) -> int:
        return sum(len(data) for path, data in self.disk.files().items() if path.endswith(".log"))


def values_of(state: ReplicaState) -> dict[str, object]:
    """All that a replica must not forget."""
    return {name: value for name, value in msgspec.structs.asdict(state.values).items() if name != "sequence"}


def lead(log: PartitionLog, term: int) -> None:
    log.state.set_term(term, 1)
    log.append_epoch_start(term)


def append(log: PartitionLog, count: int = 1, size: int = 100, timestamp_ms: int = 1000) -> list[int]:
    """`count` batches of one record; returns their Raft indexes."""
    pairs = [batch_of([b"%020d" % (log.log_end_offset + n) + bytes(size - 20)], timestamp_ms) for n in range(count)]
    (run,) = log.append_as_leader([frame for frame, _ in pairs], [header for _, header in pairs], log.last_term)
    return list(range(run.first_index, run.first_index + run.count))


def contents(log: PartitionLog, max_bytes: int = 700) -> dict[int, tuple[int, bytes | None]]:
    """Raft index -> (term, the batch; None for a no-op), as a follower would be sent it.

    The first index that a filler stands for has the filler, the others have no bytes.
    """
    found: dict[int, tuple[int, bytes | None]] = {}
    index = log.state.horizon_index
    while index <= log.last_index:
        entries = log.read_entries(index, max_bytes)
        assert entries.count > 0
        starts = dict(entries.epoch_starts)
        payload = bytes(entries.payload)
        batches = [(header, payload[at : at + header.batch_bytes]) for at, header in split(payload)]
        assert sum(entries_of(header) for header, _ in batches) + len(starts) == entries.count
        assert entries.first_index == index
        following = iter(
            [(header, data if number == 0 else b"") for header, data in batches for number in range(entries_of(header))]
        )
        for each in range(index, index + entries.count):
            if each in starts:
                found[each] = (starts[each], None)
            else:
                header, data = next(following)
                found[each] = (header.leader_epoch, data)
            assert log.term_at(each) == found[each][0]
        index += entries.count
    return found


def mixed(machine: Machine, rng: random.Random, batches: int = 60) -> PartitionLog:
    """Batches of one to four records, of rising time, in several epochs and segments."""
    log = machine.open()
    for number in range(batches):
        if number % 17 == 0:
            lead(log, log.state.term + rng.randrange(1, 3))
            if rng.random() < 0.3:
                lead(log, log.state.term + 1)  # an epoch without batches
        pairs = [
            batch_of([rng.randbytes(rng.randrange(150)) for _ in range(rng.randrange(1, 5))], 1000 + number * 10)
            for _ in range(rng.randrange(1, 4))
        ]
        frames = [frame if rng.random() < 0.7 else memoryview(bytearray(frame)) for frame, _ in pairs]
        log.append_as_leader(frames, [header for _, header in pairs], log.last_term)
        log.persist()
    return log


class CrashScript:
    """A replica that does what replicas do, told by a seed, until the power fails; then what is left is judged.

    The model knows what the last completed step made durable, and what was attempted since.
    """

    def __init__(self, seed: int, machine: Machine) -> None:
        self.rng = random.Random(seed)
        self.machine = machine
        self.entries: dict[int, tuple[int, bytes | None]] = {}  # durable or attempted
        self.durable_last = 1
        self.durable_start = 0
        self.durable_vote = (0, -1)
        self.attempted_votes = {(0, -1)}
        self.horizons = {2}
        self.counter = 0
        self.sequences = dict.fromkeys(range(1, 4), 0)  # of producers 1 to 3; the log does not judge them
        self.noted: dict[int, tuple[BatchHeader, int]] = {}  # Raft index -> header and base offset of their batches
        self.given: dict[int, list[tuple[BatchHeader, int, int]]] = {2: []}  # horizon -> what its snapshot was made of
        self.configurations: dict[int, tuple[Half, ...]] = {}  # those among the entries, and in front of the horizon
        self.given_configurations: dict[int, EpochStart | None] = {2: None}  # horizon -> that with which a reset began
        self.compacting = CleanupPolicy.COMPACT in machine.config.cleanup_policy
        self.log: PartitionLog | None = None

    # --- doing -----------------------------------------------------------------------------

    def start(self, fail_point: FailPoint) -> None:
        self.log = self.machine.open(fail_point=fail_point)

    def step(self) -> None:
        steps: list[tuple[int, Callable[[PartitionLog], None]]] = [
            (16, self._append),
            (5, self._persist),
            (2, self._epoch),
            (2, self._configure),
            (1, self._vote),
            (2, self._truncate),
            (1, self._head),
            (1, self._commit),
            (1, self._reset),
            (4 if self.compacting else 0, self._compact),
        ]
        chosen = self.rng.choices([step for _, step in steps], [weight for weight, _ in steps])[0]
        assert self.log is not None
        chosen(self.log)

    def _append(self, log: PartitionLog) -> None:
        if log.last_term == 0:
            return self._epoch(log)
        pairs = []
        for _ in range(self.rng.randrange(1, 4)):
            self.counter += 1
            values = [b"%d:" % self.counter + bytes(self.rng.randrange(300))] * self.rng.randrange(1, 3)
            producer_id = self.rng.randrange(5)
            if self.compacting:
                keyed = [
                    (b"k%d" % self.rng.randrange(8), value if self.rng.random() < 0.8 else None) for value in values
                ]
                sequence = self.sequences.get(producer_id, -1)
                pairs.append(keyed_batch(keyed, producer_id if sequence >= 0 else -1, max(sequence, 0)))
                if sequence >= 0:
                    self.sequences[producer_id] += len(values)
            elif producer_id in self.sequences:
                pairs.append(numbered_batch(values, producer_id, self.sequences[producer_id]))
                self.sequences[producer_id] += len(values)
            else:
                pairs.append(batch_of(values))
        offset, index = log.log_end_offset, log.last_index
        for frame, header in pairs:
            index += 1
            stamped = offset.to_bytes(8, "big") + frame[8:12] + log.last_term.to_bytes(4, "big") + frame[16:]
            self.entries[index] = (log.last_term, stamped)
            self.configurations.pop(index, None)
            self.noted.pop(index, None)
            if header.producer_id >= 0:
                self.noted[index] = (header, offset)
            offset += header.last_offset_delta + 1
        frames = [memoryview(bytearray(frame)) if header.crc % 3 == 0 else frame for frame, header in pairs]
        log.append_as_leader(frames, [header for _, header in pairs], log.last_term)
        return None

    def _persist(self, log: PartitionLog) -> None:
        log.persist()
        self._covered(log)

    def _covered(self, log: PartitionLog) -> None:
        self.durable_last = log.last_index
        self.durable_vote = (log.state.term, log.state.voted_for)

    def _epoch(self, log: PartitionLog) -> None:
        self._set_term(log, log.state.term + 1, 1)
        self.entries[log.last_index + 1] = (log.state.term, None)
        self.configurations.pop(log.last_index + 1, None)
        log.append_epoch_start(log.state.term)
        self._covered(log)

    def _configure(self, log: PartitionLog) -> None:
        if log.last_term == 0:
            return self._epoch(log)
        index, halves = log.last_index + 1, self._halves()
        self.entries[index] = (log.last_term, None)
        self.configurations[index] = halves
        assert log.append_configuration(halves) == index
        assert log.halves == halves
        return self._covered(log)

    def _halves(self) -> tuple[Half, ...]:
        return tuple(Half(tuple(self.rng.sample(range(1, 9), 3))) for _ in range(self.rng.choice((1, 2))))

    def _vote(self, log: PartitionLog) -> None:
        self._set_term(log, log.state.term + 1, self.rng.choice((-1, 2, 3)))
        self._persist(log)

    def _set_term(self, log: PartitionLog, term: int, voted_for: int) -> None:
        self.attempted_votes.add((term, voted_for))
        log.state.set_term(term, voted_for)

    def _truncate(self, log: PartitionLog) -> None:
        lowest = max(log.state.commit_bound, log.state.horizon_index - 1) + 1
        if lowest > log.last_index:
            return
        index = self.rng.randrange(lowest, log.last_index + 1)
        self.durable_last = min(self.durable_last, index - 1)
        log.truncate_from(index)
        for each in [each for each in self.entries if each >= index]:
            del self.entries[each]
            self.noted.pop(each, None)
            self.configurations.pop(each, None)
        self._covered(log)

    def _head(self, log: PartitionLog) -> None:
        if log.synced_end_offset <= log.state.log_start_offset:
            return
        before = {index: entry for index, entry in self.entries.items() if index >= log.state.horizon_index}
        start = self.rng.randrange(log.state.log_start_offset, log.synced_end_offset + 1)
        # Which horizon that gives is the log's to say; either may be found after a crash.
        self.horizons = set(before) | {log.last_index + 1}
        log.delete_head(start)
        assert log.state.log_start_offset == start
        self.durable_start = start
        self.horizons = {log.state.horizon_index}
        self.entries = {index: entry for index, entry in before.items() if index >= log.state.horizon_index}

    def _commit(self, log: PartitionLog) -> None:
        log.state.note_commit(self.rng.randrange(1, log.last_index + 1))
        log.state.write_commit_bound()

    def _compact(self, log: PartitionLog) -> None:
        log.persist()
        self._covered(log)
        log.state.note_commit(log.last_index)
        self.machine.clock.advance(self.rng.random() * 2)
        log.cleaner.begin(log.last_index, self.machine.clock.wall_ms())
        for _ in range(self.rng.choice((1, 5, 50))):
            log.cleaner.step(self.rng.choice((100, 3000)), self.machine.clock.wall_ms())

    def _reset(self, log: PartitionLog) -> None:
        if self.rng.random() < 0.7 or log.state.term == 0:
            return
        horizon = log.last_index + self.rng.randrange(2, 50)
        self.horizons = {log.state.horizon_index, horizon}
        self.durable_last = max(log.state.commit_bound, 1)  # it only resets what a leader no longer has
        self.given[horizon] = [(numbered_batch([b""], 4, number)[1], number, number + 2) for number in range(7)]
        offset, term = log.log_end_offset + 1000, log.state.term
        configuration = self.rng.choice((None, EpochStart(term, horizon - 1, offset, self._halves())))
        self.given_configurations[horizon] = configuration
        log.reset_to(horizon, term, offset, self._expected(horizon, horizon - 1), configuration)
        self.horizons = {horizon}
        self.entries, self.configurations = {}, {}
        self._covered(log)

    def _expected(self, horizon_index: int, last_index: int) -> Producers:
        """What the log has to know of producers, from the first entry on; a reset began at one of `given`."""
        producers = Producers()
        begun = max(index for index in self.given if index <= horizon_index)
        for header, offset, index in self.given[begun]:
            producers.note(header, offset, index, 0)
        for index, (header, offset) in sorted(self.noted.items()):
            if begun <= index <= last_index:
                producers.note(header, offset, index, 0)
        return producers

    # --- judging ---------------------------------------------------------------------------

    def judge(self, fail_point: FailPoint = no_fail_point) -> None:
        """Opens the log after a power failure and compares it with the model. Raises AssertionError."""
        before = self.machine.segment_bytes_on_disk()
        log = self.machine.open(fail_point=fail_point)
        found = contents(log)
        assert log.state.horizon_index in self.horizons
        if len(self.horizons) != 2 or log.state.horizon_index == min(self.horizons):
            assert log.last_index >= min(self.durable_last, max(self.entries, default=log.last_index)), (
                f"Raft index {self.durable_last} was durable, the log ends at {log.last_index}"
            )
        assert known(log.producers) == known(self._expected(log.state.horizon_index, log.last_index))
        assert log.producers.complete
        if self.compacting:
            check_compacted(self.entries, found)
        for index, entry in found.items():
            assert self.compacting or self.entries[index] == entry, f"Raft index {index} changed"
        self._judge_configurations(log, found)
        assert (log.state.term, log.state.voted_for) in self.attempted_votes
        assert log.state.log_start_offset >= min(self.durable_start, log.log_end_offset), "what was deleted is back"
        assert log.state.term >= self.durable_vote[0], "the term went back"
        if log.state.term == self.durable_vote[0]:
            assert log.state.voted_for == self.durable_vote[1], "a vote was forgotten"
        after = sum(len(data) for data in self.machine.segments(log.state.values.generation).values())
        assert after == log.size_bytes == sum(len(data or b"") for _, data in found.values())
        cut = before > self.machine.segment_bytes_on_disk()
        if cut and not self.compacting and log.state.horizon_index == 2 and log.state.values.generation == 1:
            assert log.state.doubt != Doubt.NONE, "bytes were cut in silence"
        assert (log.state.doubt == Doubt.NONE) == (log.state.doubt_reason == "")
        # And it goes on from there.
        lead(log, log.state.term + 1)
        append(log, 3)
        log.persist()
        log.close()

    def _judge_configurations(self, log: PartitionLog, found: dict[int, tuple[int, bytes | None]]) -> None:
        horizon = log.state.horizon_index
        kept = {start.index: start.halves for start in log.configurations_in(horizon, 2**62)}
        assert kept == {index: halves for index, halves in self.configurations.items() if index in found}
        begun = max(index for index in self.given_configurations if index <= horizon)
        in_front = [index for index in self.configurations if begun <= index < horizon]
        given, at_horizon = self.given_configurations[begun], log.configuration_at(horizon - 1)
        assert (at_horizon.halves if at_horizon is not None else None) == (
            self.configurations[max(in_front)] if in_front else given.halves if given is not None else None
        ), "the horizon has lost its configuration"
