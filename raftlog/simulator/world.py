"""One seed: machines, network, clients and faults until the steps are over, then healing and the last judgement."""

from __future__ import annotations

import hashlib
import random
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from raftlog.clock import NEVER_S
from raftlog.errors import DiskFullError, ErrorCode, StorageError
from raftlog.partition.replica import Replica
from raftlog.protocol.body import ResponseBody
from raftlog.protocol.envelope import Request
from raftlog.protocol.raft import RaftMessage
from raftlog.protocol.records import ListOffsetsResponse, ProduceResult
from raftlog.protocol.session import Session
from raftlog.simulator.clients import Client
from raftlog.simulator.consumer import ConsumingClient, GroupOfOne
from raftlog.simulator.events import DriftingClock, Events
from raftlog.simulator.group_consumer import GroupConsumer, Seat
from raftlog.simulator.group_ledger import GroupLedger, WatchedCoordinator
from raftlog.simulator.invariants import Broken, Invariants
from raftlog.simulator.keyed_records import settings_of
from raftlog.simulator.machine import Machine, SimulatedCrash
from raftlog.simulator.mover import Mover
from raftlog.simulator.network import Network
from raftlog.simulator.prober import Prober
from raftlog.simulator.producer import ProducingClient
from raftlog.simulator.supervisors import Supervisors
from raftlog.simulator.trimmer import Trimmer
from raftlog.types import OFFSETS_TOPIC, Flush, Half, ReplicaSpec, TopicConfig

if TYPE_CHECKING:
    from raftlog.simulator.kafka_clients import KafkaProducer, KafkaReader
    from raftlog.simulator.kafka_door import SimulatedDoor

TOPIC_ID = b"simulated-topic!"
MAX_RECORD_BYTES = 50_000
_TURN_S = 60e-6  # what a turn costs a core, and each input beyond the first
_INPUT_S = 8e-6
_SYNC_S = 300e-6
_DISCOVERY_S = (0.02, 0.3)  # until the others know a new boot
_TRACE_LINES = 4000
_LATE_NEWS = 0.2  # of what supervisors tell each other has not arrived when one is asked


class World:
    """Everything of one run. `seed` fixes all of it."""

    def __init__(
        self,
        seed: int,
        *,
        nodes: int = 3,
        witnesses: int | None = None,
        compacted: bool = False,
        coordinates: bool = False,
        spares: int = 0,
    ) -> None:
        """f of 2 f + 1 nodes are `witnesses`, if nothing is said: with every fourth seed. `compacted`: the topic is.

        `coordinates`: the partition is one of the offsets topic, and each replica has a group coordinator.
        `spares`: machines beyond the `nodes` that found the group; the metadata may move replicas to them.
        """
        self.seed = seed
        self.compacted = compacted
        if witnesses is None:
            witnesses = (nodes - 1) // 2 if seed % 4 == 2 else 0
        self.rng = random.Random(seed)
        self.events = Events()
        self.node_ids = list(range(1, nodes + spares + 1))
        founders = self.node_ids[:nodes]
        self.ledger = GroupLedger() if coordinates else None
        self.compaction = settings_of(seed) if compacted else {}
        self.spec = ReplicaSpec(
            topic=OFFSETS_TOPIC if coordinates else "orders",
            topic_id=TOPIC_ID,
            partition=0,
            replicas=tuple(founders[: nodes - witnesses]),
            witnesses=tuple(founders[nodes - witnesses :]),
            config=TopicConfig(
                segment_bytes=self.rng.choice((4096, 65536, 1 << 20)),
                max_record_bytes=MAX_RECORD_BYTES,
                **self.compaction,
            ),
        )
        self.invariants = Invariants(self.node_ids, founders)
        self.invariants.compacted = compacted
        self.network = Network(self.events, random.Random(seed ^ 0x5EED), self.node_ids, self._deliver)
        self.machines = {node_id: self._machine(node_id) for node_id in self.node_ids}
        self.supervisors = Supervisors(self)
        self.mover = Mover(self) if spares else None
        self.acked: dict[int, tuple[bytes, int]] = {}
        self.clients: dict[str, Client | KafkaProducer | ProducingClient] = {}
        self.read: dict[int, bytes] = {}  # offset -> what a consumer was given
        self.readers: dict[str, ConsumingClient | GroupConsumer | KafkaReader | Prober] = {}
        self.seats: list[Seat] = []
        self.groups: list[GroupOfOne] = []
        self.log_start = 0  # the highest at which any replica's log has started
        self._heard: dict[tuple[int, int], int] = {}  # (supervisor, worker) -> epoch in which it leads, 0: it does not
        self._gossip_rng = random.Random(seed ^ 0x605517)
        self._ids_rng = random.Random(seed ^ 0x1D5)
        self.trimmers: dict[str, Trimmer] = {}
        self.doors: dict[str, SimulatedDoor] = {}
        self.steps = 0
        self.stops: dict[int, str] = {}  # node -> why it stopped by itself while its disk was whole
        self.trace: deque[str] = deque(maxlen=_TRACE_LINES)
        self.keep_trace = False
        self._hash = hashlib.blake2b(digest_size=8)

    def _machine(self, node_id: int) -> Machine:
        return Machine(
            node_id=node_id,
            spec=self.spec,
            clock=DriftingClock(self.events, 1.0, 1000.0 * node_id),
            rng=random.Random(self.seed * 1009 + node_id),
            send=self._send,
            answer=self._answer,
            answer_produces=self._answer_produces,
            flush=Flush.ALWAYS,
            served=self.invariants.note_commits,
            make_coordinator=partial(self._make_coordinator, self.ledger) if self.ledger is not None else None,
        )

    # --- trace -------------------------------------------------------------------------------
    def note(self, text: str) -> None:
        """One line of the trace; all of them make its hash."""
        line = f"{self.events.now_s:.6f} {text}"
        self._hash.update(line.encode())
        if self.keep_trace:
            self.trace.append(line)

    @property
    def trace_hash(self) -> str:
        return self._hash.hexdigest()

    @property
    def assignment(self) -> Half:
        """Who has to hold the partition, as far as the metadata knows."""
        return self.mover.assignment if self.mover is not None else self.spec.half

    @property
    def asked(self) -> ReplicaSpec:
        """The partition as its clients know it: whom they may ask."""
        if self.mover is None:
            return self.spec
        return msgspec.structs.replace(self.spec, replicas=tuple(self.node_ids), witnesses=())

    # --- machines ------------------------------------------------------------------------------
    def start(self, node_id: int) -> None:
        machine = self.machines[node_id]
        if machine.running or not machine.hosts:
            return
        machine.start()
        if not machine.running:
            self.note(f"n{node_id} did not start: {machine.stopped_because}")
            self._note_stop(machine)
            self.restart_later(node_id)
            return
        log, state = machine.log, machine.log.state
        doubt = f"{state.doubt.name} {state.doubt_reason}"
        self.note(f"n{node_id} starts, last {log.last_index} term {state.term} doubt {doubt}")
        self.invariants.after_start(machine)
        for other in self.machines.values():
            if other is not machine and other.running:
                self._introduce(machine, other)
                self._introduce(other, machine)
        self._schedule_turn(machine, self.events.now_s)

    def _introduce(self, machine: Machine, other: Machine) -> None:
        """`machine` learns the boot id of `other`, a little later."""
        mine, theirs = machine.boot_id, other.boot_id

        def learn() -> None:
            # News of an older boot may be late, but a supervisor passes on only what holds now.
            if machine.boot_id == mine and other.boot_id == theirs:
                machine.hand_in("peer", other.node_id, theirs)
                self._schedule_turn(machine, self.events.now_s)

        self.events.after(self.rng.uniform(*_DISCOVERY_S), learn)

    def crash(self, node_id: int, *, power: bool, why: str, quietly: bool = False) -> None:
        """The process dies. With `power` everything unsynced is kept, lost or torn. `quietly`: no connection breaks."""
        machine = self.machines[node_id]
        self.note(f"n{node_id} dies ({why}{', power' if power else ''})")
        if machine.running:
            machine.die(why)
            if not quietly:
                self._tell_of_death(machine)
        if power:
            machine.lose_power(self.rng)
        else:
            machine.disk.restart()

    def stop(self, node_id: int) -> None:
        """A clean end, as far as the disk lets it."""
        machine = self.machines[node_id]
        if machine.replica is not None:
            try:
                machine.replica.stop()
            except (StorageError, SimulatedCrash) as error:
                self.note(f"n{node_id} cannot stop cleanly: {error}")
        self.crash(node_id, power=False, why="stop")

    def _tell_of_death(self, machine: Machine) -> None:
        """A broken connection tells some of the others, and not always."""
        for other in self.machines.values():
            if other is machine or not other.running or self.rng.random() < 0.5:
                continue

            def learn(other: Machine = other, boot_id: int = other.boot_id) -> None:
                if other.boot_id == boot_id and not machine.running:
                    other.hand_in("peer", machine.node_id, 0)
                    self._schedule_turn(other, self.events.now_s)

            self.events.after(self.rng.uniform(0.005, 0.3), learn)

    def _note_stop(self, machine: Machine) -> None:
        """A worker that stopped by itself: allowed where the disk had a fault, else a bug."""
        disk = machine.disk
        no_room = disk.full or disk.capacity_bytes is not None
        faulty = disk.fail_sync or no_room or machine.node_id in self.invariants.damaged
        if not faulty and "crashed" not in machine.stopped_because:
            self.stops[machine.node_id] = machine.stopped_because

    def _schedule_turn(self, machine: Machine, time_s: float) -> None:
        if machine.paused or not machine.running:
            return
        time_s = max(time_s, machine.busy_until_s)
        if machine.turn_at_s >= 0 and machine.turn_at_s <= time_s:
            return
        machine.turn_at_s = time_s
        boot_id = machine.boot_id
        self.events.at(time_s, lambda: self._turn(machine, boot_id, time_s))

    def schedule_turn(self, machine: Machine) -> None:
        """Something was handed in."""
        self._schedule_turn(machine, self.events.now_s)

    def _turn(self, machine: Machine, boot_id: int, time_s: float) -> None:
        if machine.boot_id != boot_id or machine.turn_at_s != time_s or machine.paused:
            return
        machine.turn_at_s = -1.0
        self.steps += 1
        syncs = machine.disk.syncs
        try:
            taken = machine.work()
        except SimulatedCrash as crash:
            self.invariants.before_crash(machine)  # what it answered in this turn counts
            self.crash(machine.node_id, power=self.rng.random() < 0.8, why=f"at {crash}")
            self.restart_later(machine.node_id)
            return
        except StorageError as error:
            self.note(f"n{machine.node_id} stops: {error}")
            self.invariants.before_crash(machine)  # likewise: damage is found behind the answers of a turn
            machine.die(str(error))
            self._note_stop(machine)
            if isinstance(error, DiskFullError):
                self.stops[machine.node_id] = f"{error} (want of room ends no worker)"
            machine.disk.restart()
            self.restart_later(machine.node_id)
            return
        replica = machine.replica
        assert replica is not None
        member, last_index = replica.member, machine.log.last_index
        role = "ASLEEP" if member.is_asleep else member.role.kind.name
        self.note(f"n{machine.node_id} {role} t{member.term} c{member.commit_index} l{last_index}")
        self.invariants.after_turn(machine)
        if not machine.is_witness:
            self.log_start = max(self.log_start, machine.log.state.log_start_offset)
        synced = machine.disk.syncs - syncs
        machine.busy_until_s = self.events.now_s + _TURN_S + taken * _INPUT_S + synced * _SYNC_S * machine.disk_slowness
        due_s = machine.clock.virtual_s(machine.next_wakeup_s())
        if machine.backlog or due_s < NEVER_S:
            self._schedule_turn(machine, self.events.now_s if machine.backlog else due_s + 1e-6)

    def restart_later(self, node_id: int) -> None:
        self.events.after(self.rng.uniform(0.05, 2.0), lambda: self.start(node_id))

    def pause(self, node_id: int, seconds: float) -> None:
        machine = self.machines[node_id]
        if machine.paused or not machine.running:
            return
        self.note(f"n{node_id} pauses {seconds:.2f}s")
        machine.paused, boot_id = True, machine.boot_id

        def resume() -> None:
            if machine.boot_id == boot_id:
                machine.paused = False
                machine.turn_at_s = -1.0
                if self._gossip_rng.random() < 0.5:
                    machine.shuffle_inbox()
                self._schedule_turn(machine, self.events.now_s)

        self.events.after(seconds, resume)

    def believed_leader(self, node_id: int) -> tuple[int, int]:
        """(epoch, node) as the supervisor of `node_id` has heard: late, and nothing over links that are cut."""
        best = (0, -1)
        for other, machine in self.machines.items():
            late = self._gossip_rng.random() < _LATE_NEWS
            if other == node_id or not (late or self.network.is_cut(other, node_id)):
                replica = machine.replica
                leads = replica is not None and replica.is_leader
                self._heard[node_id, other] = replica.leader_epoch if replica is not None and leads else 0
            if self._heard.get((node_id, other), 0):
                best = max(best, (self._heard[node_id, other], other))
        return best

    # --- messages ------------------------------------------------------------------------------
    def _send(self, source: int, target: int, message: RaftMessage, payload: bytes | None) -> None:
        self.invariants.on_message(self.machines[source], message)
        self.network.send(source, target, message, payload)

    def _deliver(self, node_id: int, message: RaftMessage, payload: bytes | None) -> None:
        machine = self.machines[node_id]
        if machine.running:
            # Each delivery is an object of its own, as it is when it has crossed a wire.
            machine.hand_in("raft", msgspec.structs.replace(message), payload)
            self._schedule_turn(machine, self.events.now_s)

    def send_request(self, node_id: int, request: Request[Any]) -> None:
        self.events.after(self.rng.uniform(0.0002, 0.001), partial(self.hand_request, node_id, request))

    def hand_request(self, node_id: int, request: Request[Any], boot_id: int = 0) -> None:
        """`boot_id`: it came over a connection to this process of the machine, and is gone with it."""
        machine = self.machines[node_id]
        if machine.running and boot_id in (0, machine.boot_id):
            machine.hand_in("request", request)
            self._schedule_turn(machine, self.events.now_s)

    def _answer(self, node_id: int, request: Request[Any], response: ResponseBody, payload: bytes | None) -> None:
        name = _name_of(request.session)
        asker = self.doors.get(name) or self.readers.get(name) or self.trimmers.get(name) or self.clients.get(name)
        if asker is None:
            return  # its process has ended
        if name in self.clients and isinstance(response, ListOffsetsResponse) and response.error_code == ErrorCode.NONE:
            self.invariants.on_watermark(response.leader_epoch, response.offset)
        coordinator = self.machines[node_id].coordinator
        if isinstance(asker, GroupConsumer) and coordinator is not None:
            asker.on_told(coordinator.offsets(), request, response)
        self._later(partial(asker.on_response, request, response, payload))

    def _answer_produces(self, node_id: int, session: Session, results: list[ProduceResult]) -> None:
        name = _name_of(session)
        client = self.doors.get(name) or self.clients.get(name)
        if client is None:
            return
        replica = self.machines[node_id].replica
        assert replica is not None
        for result in results:
            if result.error_code == ErrorCode.NONE and client.waits_for_all(result.correlation_id):
                self.invariants.note_answer(node_id, result.base_offset, replica.member)
        self._later(partial(client.on_produced, results))

    def _later(self, arrive: Callable[[], None]) -> None:
        self.events.after(self.rng.uniform(0.0002, 0.001), arrive)

    # --- the run -------------------------------------------------------------------------------
    def add_clients(self, count: int, *, think_s: float | None = None, depth: int | None = None) -> None:
        """Clients whose pace is drawn from the seed where it is not given."""
        for number in range(count):
            name = f"c{number}"
            self.clients[name] = Client(
                name=name,
                spec=self.asked,
                events=self.events,
                rng=random.Random(self.seed * 31 + number),
                send=self.send_request,
                invariants=self.invariants,
                acked=self.acked,
                think_s=think_s or self.rng.choice((0.01, 0.05, 0.3)),
                depth=depth or self.rng.choice((1, 2, 6)),
                compacted=self.compacted,
            )

    def add_readers(self, count: int) -> None:
        """Groups of the product's consumers, and beside them one that asks what a log has to refuse."""
        for number in range(count):
            self.groups.append(GroupOfOne(f"r{number}", self, random.Random(self.seed * 43 + number)))
        if count:
            name = "q0"
            self.readers[name] = Prober(
                name=name,
                spec=self.asked,
                events=self.events,
                rng=random.Random(self.seed * 37),
                send=self.send_request,
                read=self.read,
                acked=self.acked,
                compacted=self.compacted,
            )

    def add_seats(self, count: int) -> None:
        """Places in the one group, each with a consumer that comes and goes."""
        assert self.ledger is not None
        assignor = self.rng.choice(("range", "cooperative-sticky"))
        for number in range(count):
            rng = random.Random(self.seed * 47 + number)
            self.seats.append(Seat(f"m{number}", self, self.ledger, rng, assignor))

    def _make_coordinator(self, ledger: GroupLedger) -> WatchedCoordinator:
        return WatchedCoordinator(lambda name: f"{name}-{self._ids_rng.getrandbits(64):x}", ledger.on_applied)

    def add_trimmer(self) -> None:
        trimmer = Trimmer(
            name="t0", spec=self.spec, events=self.events, rng=random.Random(self.seed * 41), send=self.send_request
        )
        self.trimmers[trimmer.name] = trimmer

    def configure(self, config: TopicConfig) -> None:
        """Topic settings, before the machines start or while they run."""
        config = msgspec.structs.replace(config, **self.compaction)
        self.spec = msgspec.structs.replace(self.spec, config=config)
        for machine in self.machines.values():
            machine.spec = self.spec
            if isinstance(machine.replica, Replica):
                machine.replica.set_config(self.spec)

    def run_until(self, *, steps: int | None = None, time_s: float | None = None) -> None:
        while (steps is None or self.steps < steps) and (time_s is None or self.events.now_s < time_s):
            if not self.events.run_next():
                raise Broken("stuck", "nothing is left to happen")
        if self.stops:
            node_id, why = next(iter(self.stops.items()))
            raise Broken("stuck", f"node {node_id} stopped by itself with a healthy disk: {why}")

    def heal(self) -> None:
        """Everything works again: links, disks, processes."""
        self.note("heal")
        self.network.heal_all()
        for machine in self.machines.values():
            machine.disk.full = machine.disk.fail_sync = False
            machine.disk.capacity_bytes = None
            machine.disk_slowness = 1.0
            machine.armed_fail_point = ""
            if machine.paused or machine.busy_until_s > self.events.now_s:
                machine.paused = False
                machine.busy_until_s = self.events.now_s  # what a slow disk still had to do is done
                machine.turn_at_s = -1.0
                self._schedule_turn(machine, self.events.now_s)
        for node_id in self.node_ids:
            self.start(node_id)


def _name_of(session: Session) -> str:
    assert isinstance(session.connection, str), "clients of the simulator are known by name"
    return session.connection
