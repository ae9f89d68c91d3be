"""Stories about groups that sleep: each is what one rule of consensus/hibernation.py is for, and breaks without it.

Workers are cut off here and their supervisors are not (`hears_all`), where the silence of a node would wake everybody.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from raftlog.protocol import apis
from raftlog.protocol.body import ResponseBody
from raftlog.protocol.envelope import Request
from raftlog.protocol.raft import RaftMessage, SleepRequest
from raftlog.protocol.records import FetchRequest, ListOffsetsRequest, ProduceRequest, ProduceResult
from raftlog.protocol.session import Session
from raftlog.record.batch import BatchBuilder
from raftlog.simulator.clients import Client
from raftlog.simulator.invariants import Broken
from raftlog.simulator.stories import cut_off, in_sync, leader_of, leads, under, wait, wait_for_writes
from raftlog.simulator.world import World
from raftlog.types import LATEST_TIMESTAMP, TopicConfig

_KINDS = ["isolate", "cut", "one_way", "power", "power_all", "kill", "fail_point", "hand_over", "loss", "delay"]
_KINDS += ["pause", "pause", "disk_full", "slow_disk", "wipe", "flip", "truncate", "settings"]


def sleepers(world: World) -> None:
    """Clients come and go, and whenever none is there the group falls asleep, among all that can go wrong."""
    world.add_clients(world.rng.choice((1, 2)), think_s=0.05, depth=1)
    come_and_go(world)
    under(world, world.rng.sample(_KINDS, world.rng.randint(0, len(_KINDS))))


def refused_forever(world: World) -> None:
    """W1: all sleep, the leader is cut off, and a client asks one follower: the other one must not sleep on."""
    leader, asked, _ = _all_asleep(world)
    world.supervisors.hears_all = True
    cut_off(world, {leader})
    _ask_until(world, asked, f"nobody leads: one sleeps on, and refuses {asked}", _has_new_leader(world))
    world.heal()


def asleep_without_one(world: World) -> None:
    """W1b: a follower is cut off, the others commit and rest: without it they do not sleep. Then the leader is gone."""
    leader, away, other = _all_asleep(world)
    world.supervisors.hears_all = True
    _cut(world, leader, away)
    _ask(world, leader, 3)
    until_s = world.events.now_s + 20.0
    while world.events.now_s < until_s:
        world.run_until(time_s=world.events.now_s + 0.05)
        if _sleeps(world, leader):
            raise Broken("stuck", f"{leader} sleeps, and {away} has not agreed")
    _cut(world, leader, other)
    _ask_until(world, away, f"nobody leads: {other} has the longer log", _has_new_leader(world))
    world.heal()


def unheard_power_failure(world: World) -> None:
    """W2: the leader's machine loses its power while all sleep: no connection breaks, and nobody asks for anything."""
    leader, *_ = _all_asleep(world)
    world.crash(leader, power=True, why="power", quietly=True)
    wait(world, "nobody leads: all sleep on", _has_new_leader(world))
    world.start(leader)
    world.heal()


def quick_restart(world: World) -> None:
    """W2b: the leader's worker is back, with an empty disk, before anybody has heard that it was gone."""
    leader, *_ = _all_asleep(world)
    world.invariants.damaged.add(leader)
    world.crash(leader, power=False, why="lost its disk", quietly=True)
    world.machines[leader].disk.wipe("data")
    world.machines[leader].forget_index()
    world.start(leader)
    wait(world, "nobody leads: all sleep on", _has_new_leader(world))
    world.heal()


def superseded_sleeper(world: World) -> None:
    """W3: a leader sleeps, cut off, through the next term; clients with old metadata get nothing of it."""
    leader, asked, _ = _all_asleep(world)
    world.supervisors.hears_all = True
    cut_off(world, {leader})
    _ask_until(world, asked, "nobody leads", _has_new_leader(world))
    _ask(world, leader_of(world), 5)
    world.run_until(time_s=world.events.now_s + 1.0)
    if not _sleeps(world, leader):
        raise Broken("stuck", f"{leader} does not sleep any more, and nobody has asked it")
    believer = _Believer(world, leader)
    believer.ask()
    world.run_until(time_s=world.events.now_s + 5.0)
    del world.clients[believer.name]
    if leads(world, leader):
        raise Broken("two_leaders", f"{leader} was replaced and leads still")
    world.heal()


def hour_of_sleep(world: World) -> None:
    """W4: after an hour of sleep one append, with two in sync required: it is answered, as if no time had passed."""
    world.configure(TopicConfig(min_insync_replicas=2))
    leader, *_ = _all_asleep(world)
    term, members = max(world.invariants.leaders), in_sync(world)
    world.run_until(time_s=world.events.now_s + 3600.0)
    if not _sleeps(world, leader):
        raise Broken("stuck", "nothing happened for an hour, and it is awake")
    _ask(world, leader, 1)
    until_s = world.events.now_s + 3.0
    while world.events.now_s < until_s:
        world.run_until(time_s=world.events.now_s + 0.001)
        if max(world.invariants.leaders) != term or _replica(world, leader).member.in_sync != members:
            raise Broken("stuck", f"an hour of sleep was taken for silence: in sync {members} before")
    if any(client.refused_count or not client.acked_count for client in _clients(world)):
        raise Broken("stuck", "acks=all was refused after an hour of sleep")
    world.heal()


def lost_question(world: World) -> None:
    """W5: one follower does not hear that all are to sleep: nobody sleeps without it, and nobody stands."""
    leader, deaf, _ = _all_asleep(world)
    term = max(world.invariants.leaders)
    world.network.swallows = partial(_is_question_to, deaf)
    _ask(world, leader, 1)
    until_s = world.events.now_s + 20.0
    while world.events.now_s < until_s:
        world.run_until(time_s=world.events.now_s + 0.05)
        if _sleeps(world, leader):
            raise Broken("stuck", f"{leader} sleeps, and {deaf} was not asked")
    world.network.swallows = None
    wait(world, "the group does not fall asleep", lambda: _all_sleep(world))
    if max(world.invariants.leaders) != term:
        raise Broken("stuck", "a follower stood for election beside a healthy leader")
    world.heal()


def two_woken_followers(world: World) -> None:
    """W6: clients ask both followers at the same time while the leader is well: it leads on."""
    leader, one, other = _all_asleep(world)
    world.supervisors.hears_all = True
    term = max(world.invariants.leaders)
    if world.rng.random() < 0.3:
        _cut(world, leader, one)  # W6b
    for _ in range(8):
        _ask(world, one, 1)
        _ask(world, other, 1)
        world.run_until(time_s=world.events.now_s + world.rng.uniform(0.5, 2.0))
    if max(world.invariants.leaders) != term:
        raise Broken("stuck", "a healthy leader was deposed by followers that had just been woken")
    world.heal()


def hung_sleeper(world: World) -> None:
    """W7: the leader's process is stopped while all sleep. A client asks another one, or nobody asks anything."""
    leader, asked, _ = _all_asleep(world)
    world.pause(leader, 60.0)
    if world.rng.random() < 0.5:
        _ask(world, asked, 1)
    wait(world, "nobody leads: the leader hangs, and all sleep", _has_new_leader(world))
    world.heal()


def come_and_go(world: World) -> None:
    """Clients rest now and then, for long enough to fall asleep, and then all of them are back."""

    def rest() -> None:
        for client in _clients(world):
            client.pause()
        world.events.after(world.rng.uniform(0.2, 4.0), go_on)

    def go_on() -> None:
        for client in _clients(world):
            client.go_on()
        world.events.after(world.rng.uniform(0.05, 2.0), rest)

    world.events.after(1.0, rest)


def _all_asleep(world: World) -> tuple[int, int, int]:
    """A group of three that has records, and sleeps. Returns the leader, a follower with records, and the other one."""
    world.add_clients(1, think_s=0.05, depth=1)
    for node_id in world.node_ids:
        world.start(node_id)
    wait_for_writes(world, 10, "no write was acknowledged")
    for client in _clients(world):
        client.pause()
    wait(world, "the group does not fall asleep", lambda: _all_sleep(world))
    leader = leader_of(world)
    one, other = sorted((n for n in world.node_ids if n != leader), key=lambda n: n in world.spec.witnesses)
    for client in _clients(world):
        client.acked_count = client.refused_count = 0
    return leader, one, other


def _replica(world: World, node_id: int) -> Any:
    replica = world.machines[node_id].replica
    assert replica is not None
    return replica


def _sleeps(world: World, node_id: int) -> bool:
    machine = world.machines[node_id]
    return machine.replica is not None and machine.replica.member.is_asleep


def _all_sleep(world: World) -> bool:
    return all(_sleeps(world, node_id) for node_id in world.node_ids)


def _has_new_leader(world: World) -> Callable[[], bool]:
    """Somebody leads in a later term than now, and is ready."""
    term = max(world.invariants.leaders)
    return lambda: max(world.invariants.leaders) > term and leader_of(world) != 0


def _clients(world: World) -> list[Client]:
    return [client for client in world.clients.values() if isinstance(client, Client)]


def _ask(world: World, node_id: int, count: int) -> None:
    for client in _clients(world):
        client.burst(node_id, count)


def _ask_until(world: World, node_id: int, complaint: str, condition: Callable[[], bool]) -> None:
    """A client asks this node and no other one, again and again."""

    def asked() -> bool:
        if condition():
            return True
        if world.rng.random() < 0.1:
            _ask(world, node_id, 1)
        return False

    _ask(world, node_id, 1)
    wait(world, complaint, asked)


def _cut(world: World, a: int, b: int) -> None:
    world.network.cut(a, b)
    world.network.cut(b, a)


def _is_question_to(node_id: int, target: int, message: RaftMessage) -> bool:
    return target == node_id and isinstance(message, SleepRequest)


class _Believer:
    """A consumer at the end of the log and a producer with acks=1, with old metadata: an answer would be a lie."""

    name = "believer"
    acked_count = 0
    stopped = True

    def __init__(self, world: World, node_id: int) -> None:
        self._world = world
        self._node_id = node_id
        self._session = Session(self.name)
        world.clients[self.name] = self  # type: ignore[assignment]

    def ask(self) -> None:
        end = _replica(self._world, self._node_id).high_watermark
        builder = BatchBuilder()
        builder.append(1_700_000_000_000, None, b"to be lost", [])
        self._send(apis.FETCH, FetchRequest(offset=end, max_bytes=1000, max_wait_ms=0), [])
        self._send(apis.FETCH, FetchRequest(offset=0, max_bytes=1000, max_wait_ms=0), [])
        self._send(apis.LIST_OFFSETS, ListOffsetsRequest(timestamp_ms=LATEST_TIMESTAMP), [])
        self._send(apis.PRODUCE, ProduceRequest(acks=1, timeout_ms=2000), [builder.build()])

    def _send(self, api: Any, body: Any, payload: list[Any]) -> None:
        spec = self._world.spec
        request = Request(self._session, api, 1, spec.topic_id, spec.partition, body, payload)
        self._world.send_request(self._node_id, request)

    def waits_for_all(self, correlation_id: int) -> bool:
        return False

    def on_response(self, request: Request[Any], response: ResponseBody, _payload: bytes | None) -> None:
        self._judge(request.api.name, response.error_code)

    def on_produced(self, results: list[ProduceResult]) -> None:
        for result in results:
            self._judge("Produce", result.error_code)

    def _judge(self, what: str, error_code: int) -> None:
        if not error_code:
            raise Broken("lost", f"{what} was answered by {self._node_id}, which was replaced while it slept")


SLEEP_SCENARIOS: dict[str, Callable[[World], None]] = {
    "sleepers": sleepers,
    "refused-forever": refused_forever,
    "asleep-without-one": asleep_without_one,
    "unheard-power-failure": unheard_power_failure,
    "quick-restart": quick_restart,
    "superseded-sleeper": superseded_sleeper,
    "hour-of-sleep": hour_of_sleep,
    "lost-question": lost_question,
    "two-woken-followers": two_woken_followers,
    "hung-sleeper": hung_sleeper,
}
