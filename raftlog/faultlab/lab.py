"""One run: nodes, clients, the plan's faults, healing, final polls. What comes out is a history.

Everything that a fault has done is undone by `heal_all`, whatever state it was in; the run ends with it, also after an
error or Ctrl-C, and the place is closed after that.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import json
import random
import secrets
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raftlog.errors import ConfigError, RaftlogError
from raftlog.faultlab.history import LAB, Operation, Recorder, read_history
from raftlog.faultlab.libraries import NATIVE
from raftlog.faultlab.places import Place
from raftlog.faultlab.schedule import Planned, has_majority, shapes_of
from raftlog.faultlab.shape import Shape
from raftlog.node.local import SUPERUSER

TOPIC = "lab"
GROUP = "lab-group"
PARTITIONS = 3
_USER = "lab"
_CLIENT_END_S = 60.0
_TICK_S = 0.2
_LOOK_S = 1.0  # between two looks at whether all is whole: each is a command


class Workload:
    """How many clients of each role."""

    def __init__(self, producers: int = 3, readers: int = 2, members: int = 0) -> None:
        self.roles = ["producer"] * producers + ["reader"] * readers + ["member"] * members
        self.roles += ["watcher"] * bool(members)


class Lab:
    def __init__(
        self,
        place: Place,
        plan: list[Planned],
        *,
        workload: Workload,
        seconds: float,
        seed: int,
        patience_s: float,
        library: str = NATIVE,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`library`: what the clients work with (libraries.py)."""
        self._place = place
        self._library = library
        self._plan = plan
        self._workload = workload
        self._seconds = seconds
        self._rng = random.Random(seed)
        self._seed = seed
        self._patience_s = patience_s  # how long after healing all may take to be whole
        self._say = say
        self._clients: list[subprocess.Popen[bytes]] = []
        self._members: list[subprocess.Popen[bytes]] = []  # of the clients, those of the group
        self._paused: dict[int, subprocess.Popen[bytes]] = {}  # by the fault that paused it
        self._numbers = itertools.count()
        self._shapes: dict[int, dict[tuple[int, int], Shape]] = {}  # by the fault that wants them
        self._down: set[int] = set()
        self._majority = True
        self._password = secrets.token_hex()
        self._began_s = 0.0
        self.applied: list[str] = []
        place.directory.mkdir(parents=True, exist_ok=True)
        self._recorder = Recorder(self._file("lab"), LAB)

    def _file(self, name: str) -> Path:
        return self._place.directory / f"history-{name}.jsonl"

    def run(self) -> list[Operation]:
        """Raises ConfigError where the nodes or clients could not even be started."""
        try:
            self._place.open()
            if self._place.security:
                self._make_users()
            self._command("topic", "create", TOPIC, "--partitions", str(PARTITIONS))
            self._await_whole()
            self._recorder.write("info", "library", self._library)
            for role in self._workload.roles:
                self._start_client(role)
            try:
                self._apply_plan()
            finally:
                self._heal_all()
            problems = self._await_whole() or self._await_drained()
            self._end_clients()
            if problems:
                self._recorder.write("fail", "whole", problems)
            else:
                self._say("final polls")
                self._start_client("final")
                self._end_clients()
        finally:
            for client in self._clients:
                client.kill()
            self._place.close()
            self._recorder.close()
        return read_history(sorted(self._place.directory.glob("history-*.jsonl")))

    def _make_users(self) -> None:
        """Clients log in as one who may use the topic and the group, and nothing else."""
        password = self._place.directory / "lab.password"
        password.write_text(self._password)
        for user in (SUPERUSER, _USER):  # with the first one the cluster closes
            self._command("user", "create", user, "--new-password-file", str(password))
        rule = ("acl", "add", "--principal", _USER, "--topic", TOPIC)
        self._command(*rule, "--group", GROUP, "--operation", "Read")
        self._command(*rule, "--operation", "Write")

    def _login(self) -> list[str]:
        authority = str(Path(self._place.security) / "ca.pem")
        return ["--login", _USER, self._password, authority] if self._place.security else []

    # --- clients and commands --------------------------------------------------------------------
    def _start_client(self, role: str) -> None:
        number = next(self._numbers)
        arguments = [sys.executable, "-P", "-m", "raftlog.faultlab.clients", role, "--process", str(number)]
        arguments += ["--history", str(self._file(f"{number}-{role}")), "--library", self._library]
        arguments += ["--bootstrap", self._place.bootstrap if self._library == NATIVE else self._place.kafka_bootstrap]
        arguments += ["--topic", TOPIC, "--partitions", str(PARTITIONS), "--rate", str(self._place.pace.rate)]
        arguments += ["--delivery-ms", str(int(1000 * self._place.pace.delivery_s))]
        arguments += ["--seed", str(self._seed * 1000 + number), "--group", GROUP, *self._login()]
        with open(self._place.directory / f"client-{number}-{role}.log", "wb") as log:
            client = subprocess.Popen(
                self._place.command(arguments),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the lab
            )
        self._clients.append(client)
        if role == "member":
            self._members.append(client)

    def _end_clients(self) -> None:
        """Their stdin ends; those of role `final` end by themselves."""
        for client in self._clients:
            assert client.stdin is not None
            client.stdin.close()
        self._members.clear()
        for client in self._clients:
            try:
                code = client.wait(2 * _CLIENT_END_S)
            except subprocess.TimeoutExpired:
                client.kill()
                code = client.wait()
            if code:
                self._recorder.write("fail", "client", f"{client.args!r} ended with code {code}")
        self._clients.clear()

    def _command(self, *arguments: str) -> dict[str, Any]:
        """A raftlog command against the nodes; what it printed as JSON. Raises ConfigError when it fails."""
        command = [sys.executable, "-P", "-m", "raftlog", *arguments]
        command += ["--bootstrap", self._place.bootstrap, "--json", "--security", self._place.security]
        done = subprocess.run(
            self._place.command(command),
            capture_output=True,
            text=True,
            timeout=self._place.pace.command_s,
            check=False,
        )
        try:
            found: dict[str, Any] = json.loads(done.stdout)
        except ValueError:
            raise ConfigError(f"raftlog {' '.join(arguments)}: {done.stderr.strip()}") from None
        return found

    def _problems(self) -> str:
        """Of any node or replica; empty when there is none."""
        closed = [f"node {node_id} serves no client of Kafka's" for node_id in self._place.closed_doors()]
        try:
            return "; ".join([*map(str, self._command("cluster", "status")["problems"]), *closed])
        except (ConfigError, subprocess.TimeoutExpired) as error:
            return str(error)

    def _await_whole(self) -> str:
        """Until no replica has a problem; what the problem was at the end of patience, empty when there is none."""
        deadline_s = time.monotonic() + self._patience_s
        while (problems := self._problems()) and time.monotonic() < deadline_s:
            time.sleep(_LOOK_S)
        return problems

    def _await_drained(self) -> str:
        """Until the producers have ended and the group has committed all they wrote; empty, or why not."""
        for client in self._clients:
            if client not in self._members:
                assert client.stdin is not None
                client.stdin.close()
        if not self._members:
            return ""
        self._say("the group reads to the end")
        deadline_s = time.monotonic() + self._patience_s
        lag = -1
        while time.monotonic() < deadline_s:
            with contextlib.suppress(ConfigError, subprocess.TimeoutExpired):
                partitions = self._command("group", "describe", GROUP)["groups"][0]["partitions"]
                # What was never committed has no lag that is known.
                lags = [partition["lag"] for partition in partitions]
                lag = sum(lags) if len(lags) == PARTITIONS and None not in lags else -1
            if lag == 0 and all(client.poll() is not None for client in self._clients if client not in self._members):
                self._recorder.write("info", "drained")
                return ""
            time.sleep(_LOOK_S)
        return f"the group has not read to the end: lag {lag}"

    # --- faults ----------------------------------------------------------------------------------
    def _apply_plan(self) -> None:
        """Faults begin in the plan's order and end when their time is over. What is late makes all behind it late."""
        self._began_s = time.monotonic()
        pending = deque(enumerate(self._plan))
        due: list[tuple[float, int, Callable[[], None]]] = []
        numbers = itertools.count()
        late_s = looked_s = 0.0

        def later(delay_s: float, action: Callable[[], None]) -> None:
            heapq.heappush(due, (time.monotonic() - self._began_s + delay_s, next(numbers), action))

        def restart(nodes: tuple[int, ...], patient_until_s: float) -> None:
            """One after the other, each when all is whole. Other faults go on meanwhile, and end."""
            if nodes and self._problems() and time.monotonic() < patient_until_s:
                later(_LOOK_S, lambda: restart(nodes, patient_until_s))
            elif nodes:
                self._place.stop(nodes[0])
                self._place.start(nodes[0])
                patient_until_s = time.monotonic() + self._patience_s
                later(_LOOK_S, lambda: restart(nodes[1:], patient_until_s))

        while pending or due or time.monotonic() - self._began_s < self._seconds:
            now_s = time.monotonic() - self._began_s
            if due and due[0][0] <= now_s:
                heapq.heappop(due)[2]()
                self._note_majority()
            elif pending and max(pending[0][1].at_s + late_s, looked_s + _LOOK_S) <= now_s:
                number, planned = pending[0]
                # Only what is whole may be damaged: f disks at a time are what replication survives.
                problems = self._problems() if planned.when_whole else ""
                if problems and now_s < planned.at_s + late_s + self._patience_s:
                    looked_s = now_s
                    continue
                pending.popleft()
                late_s = max(late_s, now_s - planned.at_s)
                if problems:
                    self._recorder.write("fail", "fault", f"{planned.fault.name}: {problems}")
                    continue
                self._begin(planned, number)
                late_s += time.monotonic() - self._began_s - now_s  # or the next one would come into its hold
                if planned.fault.name == "rolling-restart":
                    restart(planned.nodes, 0.0)
                later(planned.hold_s, lambda planned=planned, number=number: self._end(planned, number))  # type: ignore[misc]
                self._note_majority()
            else:
                time.sleep(_TICK_S)

    def _begin(self, planned: Planned, number: int) -> None:
        place, rng, node_id = self._place, self._rng, planned.nodes[0]
        name, detail = planned.fault.name, ""
        self._say(f"{name} {' '.join(map(str, planned.nodes))}")
        self._recorder.write("invoke", "fault", [number, name, planned.nodes])
        try:
            match name:
                case "kill-worker":
                    detail = place.kill_worker(node_id, rng)
                case "kill-door":
                    detail = place.kill_door(node_id, rng)
                case "kill-node":
                    self._take_down(node_id, place.kill)
                case "pause":
                    self._take_down(node_id, place.pause)
                case "hang-worker":
                    detail = place.hang_worker(node_id, rng)
                case "hang-supervisor":
                    place.hang_supervisor(node_id)
                case "stop":
                    self._take_down(node_id, place.stop)
                case "kill-member":
                    victim = rng.choice(self._members)
                    victim.kill()
                    victim.wait()
                    self._clients.remove(victim)
                    self._members.remove(victim)
                    self._start_client("member")
                    detail = f"process {victim.pid}"
                case "pause-member":
                    self._paused[number] = rng.choice(self._members)
                    self._paused[number].send_signal(signal.SIGSTOP)
                case "rolling-restart":
                    pass  # step by step, so that other faults come and go on time
                case "clock-jump":
                    detail = f"{(offset_s := rng.choice((-3600, -60, -2, 2, 60, 3600)))} s"
                    place.clock(node_id, offset_s, 1.0)
                case "clock-drift":
                    detail = f"rate {(rate := rng.choice((0.8, 0.95, 1.05, 1.3)))}"
                    place.clock(node_id, 0.0, rate)
                case "disk-full":
                    place.disk_full(node_id, True)
                case "disk-error":
                    self._take_down(node_id, place.disk_error)
                case "power-off":
                    self._take_down(node_id, place.power_off)
                case "power-off-all":
                    for one in planned.nodes:
                        self._take_down(one, place.power_off)
                case "empty-disk":
                    self._take_down(node_id, place.kill)
                    place.wipe(node_id)
                case "flipped-bit":
                    self._take_down(node_id, place.kill)
                    detail = place.flip(node_id, rng)
                case "truncated-file":
                    self._take_down(node_id, place.kill)
                    detail = place.truncate(node_id, rng)
                case _:
                    self._shapes[number] = shapes_of(planned, place.node_ids)
                    self._set_network()
        except (RaftlogError, OSError, subprocess.SubprocessError, IndexError) as error:
            self._recorder.write("fail", "fault", f"{name}: {error}")
            return
        self.applied.append(name)
        self._recorder.write("ok", "fault", [number, name, planned.nodes, detail])

    def _take_down(self, node_id: int, how: Callable[[int], None]) -> None:
        self._down.add(node_id)
        self._note_majority()  # BEFORE it is down: what is acknowledged afterwards came from a majority all the same
        how(node_id)

    def _end(self, planned: Planned, number: int) -> None:
        place = self._place
        if self._shapes.pop(number, None) is not None:
            self._set_network()
        paused = self._paused.pop(number, None)
        if paused is not None:
            paused.send_signal(signal.SIGCONT)
        for node_id in planned.nodes:
            match planned.fault.name:
                case "pause" | "hang-worker" | "hang-supervisor":
                    place.resume(node_id)
                case "clock-jump" | "clock-drift":
                    place.clock(node_id, 0.0, 1.0)
                case "disk-full":
                    place.disk_full(node_id, False)
                case "disk-error":
                    place.kill(node_id)
            if planned.fault.kind in ("process", "disk"):
                place.start(node_id)
        self._await_up(planned.nodes)
        if planned.fault.kind in ("process", "disk"):
            self._down.difference_update(planned.nodes)
        self._recorder.write("info", "healed", [number, planned.fault.name, planned.nodes])

    def _await_up(self, nodes: tuple[int, ...]) -> None:
        """The plan's time stands still as long as machines boot: what else was to hold holds as long after that."""
        before_s = time.monotonic()
        self._place.await_up(nodes)
        self._began_s += time.monotonic() - before_s

    def _set_network(self) -> None:
        shapes: dict[tuple[int, int], Shape] = {}
        for wanted in self._shapes.values():
            for pair, shape in wanted.items():
                other = shapes.get(pair, Shape())
                shapes[pair] = max(shape, other)  # a cut above all, then the longer delay
        self._place.network(shapes)

    def _note_majority(self) -> None:
        shapes = {pair: shape for wanted in self._shapes.values() for pair, shape in wanted.items() if shape.cut}
        there = has_majority(self._place.node_ids, self._down, shapes)
        if there != self._majority:
            self._majority = there
            self._recorder.write("info", "majority", there)

    def _heal_all(self) -> None:
        place = self._place
        self._say("heal")
        for client in self._clients:
            client.send_signal(signal.SIGCONT)
        if "network" not in place.missing:
            self._shapes.clear()
            place.network({})
        for node_id in place.node_ids:
            place.resume(node_id)
            if "clock" not in place.missing:
                place.clock(node_id, 0.0, 1.0)
            if "disk_full" not in place.missing:
                place.disk_full(node_id, False)
            place.start(node_id)
        place.await_up(tuple(place.node_ids))
        self._down.clear()
        self._note_majority()
