"""A cluster on this machine, for the demo, the bench and tests: real node processes on free ports.

    with LocalCluster(nodes=3, directory=path) as cluster:
        Producer(bootstrap_servers=cluster.bootstrap)
        cluster.kill(1)
        cluster.start(1)

Each node's data is in `<directory>/<id>`, its log in `<directory>/<id>.log`. No process outlives it,
also when this process is killed.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO

import psutil

from raftlog.clock import monotonic_s
from raftlog.errors import ConfigError, RequestTimedOutError
from raftlog.node.main import LEASH_VARIABLE
from raftlog.types import Endpoint, Flush

_HOST = "127.0.0.1"
_PORTS = range(16_000, 32_000)
_STOP_WAIT_S = 15.0  # above what a node allows its workers
_KILL_WAIT_S = 5.0  # the kernel ends the workers when their parent ends
_PAUSE_WAIT_S = 10.0  # a sync of a busy disk
_LOOK_S = 0.005
_LOG_TAIL_LINES = 5
_DOOR_STARTED = re.compile(r" kafka: started, process (\d+)")

SUPERUSER = "local"
"""Whom the certificate of a secured cluster's client names."""


class Certificates:
    """An authority and the `client` that it has made, a directory, in `folder`; nodes follow."""

    def __init__(self, folder: Path) -> None:
        from raftlog.security.certificates import make_authority, make_client

        self._folder = folder
        self.client = str(folder / "client")
        make_authority(str(folder / "ca"), "local")
        make_client(str(folder / "ca"), SUPERUSER, self.client)

    def node(self, node_id: int, host: str) -> str:
        """The directory of the node, which is made when it is asked for first."""
        from raftlog.security.certificates import make_node

        directory = self._folder / f"node-{node_id}"
        if not directory.exists():
            make_node(str(self._folder / "ca"), node_id, [host], str(directory))
        return str(directory)


class LocalCluster:
    """Starts its nodes on entering the context, all at once. Ids run from 1."""

    def __init__(
        self,
        nodes: int = 3,
        *,
        directory: str | os.PathLike[str],
        flush: str = Flush.ALWAYS,
        ready_timeout_s: float = 120.0,
        log_level: str = "info",
        environment: Mapping[str, str] | None = None,
        endpoints: Mapping[int, Endpoint] | None = None,
        host: str = _HOST,
        prefix: Callable[[int], list[str]] = lambda node_id: [],
        options: Callable[[int], list[str]] = lambda node_id: [],
        kafka: bool = False,
        http: bool = False,
        secure: bool = False,
    ) -> None:
        """`environment` is added to that of this process. Ports are chosen now and kept over restarts.

        `host`: the loopback address, of IPv4 or IPv6. `endpoints`: where the nodes listen, instead of free ports there.
        `prefix`: what is put before the command of a node, such as a program that enters a namespace and then becomes
        the node; `options`: what is put behind it, asked at each start. `kafka`: the nodes serve Kafka's clients too,
        at `kafka_endpoints`; `http`: and HTTP, at `http_endpoints`. `secure`: with --security, and `security` is the
        directory of a client, who may do everything once there are rules; otherwise it is "".
        """
        self.directory = Path(directory)
        self.flush = flush
        self._host = host
        free = free_endpoints(host, 3 * nodes)
        self.endpoints = dict(endpoints or zip(range(1, nodes + 1), free[:nodes], strict=True))
        self._prefix = prefix
        self._options = options
        self.kafka_endpoints = {
            node_id: Endpoint(endpoint.host, door.port)
            for (node_id, endpoint), door in zip(self.endpoints.items(), free[nodes : 2 * nodes], strict=False)
            if kafka
        }
        self.http_endpoints = dict(zip(self.endpoints, free[2 * nodes :], strict=False)) if http else {}
        self._voters = dict(self.endpoints)
        self._ready_timeout_s = ready_timeout_s
        self._log_level = log_level
        self._environment = {**os.environ, **(environment or {})}
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._certificates = Certificates(self.directory / "security") if secure else None
        self.security = self._certificates.client if self._certificates else ""

    def node_security(self, node_id: int) -> str:
        """The directory of the node."""
        assert self._certificates is not None, "not secure"
        return self._certificates.node(node_id, self.endpoints[node_id].host)

    @property
    def bootstrap(self) -> str:
        """`host:port,…` of all nodes, running or not."""
        return ",".join(str(endpoint) for endpoint in self.endpoints.values())

    @property
    def kafka_bootstrap(self) -> str:
        """`host:port,…` for Kafka's clients."""
        return ",".join(str(endpoint) for endpoint in self.kafka_endpoints.values())

    @property
    def pids(self) -> dict[int, int]:
        """The running nodes' supervisors. Workers are their descendants."""
        started = dict(self._processes)  # at once: nodes may be started side by side, in threads
        return {node_id: process.pid for node_id, process in started.items() if process.poll() is None}

    def log_text(self, node_id: int) -> str:
        return (self.directory / f"{node_id}.log").read_text(errors="replace")

    # --- nodes ---------------------------------------------------------------------------------
    def start(self, node_id: int, *, wait: bool = True) -> None:
        """Start a node that is not running; return when it is ready, unless `wait` is False."""
        assert node_id not in self.pids, f"node {node_id} runs"
        self._launch(node_id)
        if wait:
            self.wait_ready([node_id])

    def add(self) -> int:
        """One more node, which joins the running cluster. Returns its id."""
        node_id = max(self.endpoints) + 1
        self.endpoints[node_id], door, pages = free_endpoints(self._host, 3)
        if self.kafka_endpoints:
            self.kafka_endpoints[node_id] = door
        if self.http_endpoints:
            self.http_endpoints[node_id] = pages
        self.start(node_id)
        return node_id

    def kill(self, node_id: int) -> None:
        """SIGKILL to the node; its workers die with it, and are gone when this returns."""
        process = self._processes[node_id]
        workers = descendants(process.pid)
        process.kill()
        for worker in workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                if worker.status() == psutil.STATUS_STOPPED:
                    worker.kill()  # a paused one cannot see that its parent has ended
        self._forget(node_id)
        psutil.wait_procs(workers, timeout=_KILL_WAIT_S)

    def stop(self, node_id: int) -> int:
        """SIGTERM; returns the exit code, once the workers are gone too."""
        process = self._processes[node_id]
        workers = descendants(process.pid)
        process.terminate()
        try:
            process.wait(_STOP_WAIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
        exit_code = self._forget(node_id)
        psutil.wait_procs(workers, timeout=_KILL_WAIT_S)
        return exit_code

    def pause(self, node_id: int) -> None:
        """SIGSTOP to the node and its workers, until `resume` or `kill`. They stand still when this returns."""
        deadline_s = monotonic_s() + _PAUSE_WAIT_S
        self._signal(node_id, signal.SIGSTOP)
        while not all(map(_stands_still, self._family(node_id))) and monotonic_s() < deadline_s:
            time.sleep(_LOOK_S)
            self._signal(node_id, signal.SIGSTOP)  # a worker may just have been started

    def resume(self, node_id: int) -> None:
        self._signal(node_id, signal.SIGCONT)

    def workers(self, node_id: int) -> list[psutil.Process]:
        """What the node has started; none where it does not run."""
        pid = self.pids.get(node_id)
        return [] if pid is None else descendants(pid)

    def doors(self, node_id: int) -> list[psutil.Process]:
        """Of what the node has started those that have said that they serve Kafka's clients."""
        said = {int(pid) for pid in _DOOR_STARTED.findall(self.log_text(node_id))}
        return [each for each in self.workers(node_id) if each.pid in said]

    def _family(self, node_id: int) -> list[int]:
        if node_id not in self.pids:
            return []
        return [self._processes[node_id].pid, *(worker.pid for worker in self.workers(node_id))]

    def _signal(self, node_id: int, number: int) -> None:
        for pid in self._family(node_id):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def wait_ready(self, node_ids: Iterable[int]) -> None:
        """Raises ConfigError when one ends instead, RequestTimedOutError when one takes too long."""
        deadline_s = monotonic_s() + self._ready_timeout_s
        waiting = list(node_ids)  # all at once: those that run wait in vain for one that has ended
        try:
            while waiting:
                outputs = {self._output(node_id): node_id for node_id in waiting}
                said = select.select(list(outputs), [], [], max(0.0, deadline_s - monotonic_s()))[0]
                if not said:
                    logs = "; ".join(self._log_tail(node_id) for node_id in self.endpoints)
                    raise RequestTimedOutError(
                        f"not ready within {self._ready_timeout_s:.0f} s: node {', '.join(map(str, waiting))}: {logs}"
                    )
                for output in said:
                    if b" ready at " not in output.readline():
                        raise ConfigError(f"node {outputs[output]} did not start: {self._log_tail(outputs[output])}")
                    waiting.remove(outputs[output])
        except ValueError:  # closed: another thread has stopped a node, as at the end of a demo
            raise ConfigError(f"node {', '.join(map(str, waiting))} was stopped before it was ready") from None

    def _output(self, node_id: int) -> IO[bytes]:
        """Raises ValueError where another thread has stopped the node."""
        process = self._processes.get(node_id)
        if process is None:
            raise ValueError(f"node {node_id} was stopped")
        assert process.stdout is not None
        return process.stdout

    def _launch(self, node_id: int) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        peers = ",".join(f"{voter}@{endpoint}" for voter, endpoint in self._voters.items())
        command = [
            *self._prefix(node_id),
            *[sys.executable, "-P", "-m", "raftlog.node"],  # -P: not what lies in the current directory
            *["--id", str(node_id), "--peers", peers, "--data", str(self.directory / str(node_id))],
        ]
        command += ["--listen", str(self.endpoints[node_id])]
        command += ["--kafka-listen", str(self.kafka_endpoints.get(node_id, "none"))]
        command += ["--http-listen", str(self.http_endpoints.get(node_id, "none"))]
        command += ["--flush", self.flush, "--log-level", self._log_level]
        if self.security:
            command += ["--security", self.node_security(node_id), "--superuser", SUPERUSER]
        else:
            command += ["--insecure", "on"]
        command += self._options(node_id)
        with open(self.directory / f"{node_id}.log", "ab") as log:
            self._processes[node_id] = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**self._environment, LEASH_VARIABLE: "1"},
                # Ctrl-C at a demo's terminal is for the demo, which then stops its nodes.
                start_new_session=True,
            )

    def _forget(self, node_id: int) -> int:
        process = self._processes.pop(node_id)
        exit_code = process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
        return exit_code

    def _log_tail(self, node_id: int) -> str:
        return " / ".join(self.log_text(node_id).splitlines()[-_LOG_TAIL_LINES:])

    # --- the whole -----------------------------------------------------------------------------
    def __enter__(self) -> LocalCluster:
        try:
            for node_id in self._voters:
                self._launch(node_id)
            self.wait_ready(self._voters)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop what runs, all at once."""
        for node_id in self.pids:
            self.resume(node_id)  # a paused one could not stop
            self._processes[node_id].terminate()
        for node_id in list(self._processes):
            self.stop(node_id)


def _stands_still(pid: int) -> bool:
    """Each of its threads is stopped: one within a system call is only when that has returned."""
    try:
        states = [path.read_text().rpartition(")")[2].split()[0] for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    except OSError:
        return False  # a thread has just ended
    return all(state in "TtZX" for state in states)


def descendants(pid: int) -> list[psutil.Process]:
    """Everything that the process has started and that still runs."""
    try:
        found: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return found


def free_endpoints(host: str, count: int) -> list[Endpoint]:
    """Held all at once while they are chosen, so that they differ.

    Below the range from which Linux takes ports for workers and for outgoing connections: a port of that range could
    be gone when the node binds it, or when it comes back after a kill.
    """
    sockets: list[socket.socket] = []
    try:
        for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
            if len(sockets) == count:
                break
            probe = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
            try:
                probe.bind((host, port))
                sockets.append(probe)
            except OSError:
                probe.close()
        if len(sockets) < count:
            raise ConfigError(f"no {count} free ports from {_PORTS[0]} to {_PORTS[-1]}")
        return [Endpoint(host, probe.getsockname()[1]) for probe in sockets]
    finally:
        for probe in sockets:
            probe.close()
