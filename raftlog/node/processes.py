"""Starting worker processes: a fork server that has imported the modules and opened nothing.

    supervisor ── fork server ── worker, worker, …

Workers share the pages of the imported modules. All of them die with the supervisor, also on kill -9
and also while stopped: each asks the kernel to be killed when its parent ends, and the parent of the
workers is the fork server, whose parent is the supervisor.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import multiprocessing.forkserver
import os
import resource
import signal
import socket
import sys
import types
from collections.abc import Callable
from typing import Protocol

from raftlog.node.channel import Channel, DoorConfig, HttpConfig, ToSupervisor, WorkerConfig, encode_config
from raftlog.node.quota_memory import make_quota_memory

SUPERVISOR_VARIABLE = "RAFTLOG_SUPERVISOR_PID"
_PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None).prctl  # looked up once: it makes a class


class Child(Protocol):
    """A running process of a worker or a door, or its twin in tests."""

    pid: int
    channel: Channel[ToSupervisor]

    def exit_code(self) -> int | None: ...

    def sentinel(self) -> int:
        """A descriptor that is readable once the process has ended."""
        ...

    def kill(self) -> None: ...

    def close(self) -> None: ...


def die_with_parent(parent: int) -> None:
    """Linux: this process gets SIGKILL when its parent ends, and ends at once when that is gone already."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def prepare_fork_server() -> None:
    """Call once per supervisor, BEFORE the first worker. Raises the limit of open files for all of them."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.environ[SUPERVISOR_VARIABLE] = str(os.getpid())
    make_quota_memory()
    os.environ["PYTHONSAFEPATH"] = "1"  # or workers would import what lies in the current directory
    multiprocessing.set_forkserver_preload(["raftlog.node.preload"])
    # It imports while the node still looks for the others.
    multiprocessing.forkserver.ensure_running()


def start_worker(config: WorkerConfig) -> Child:
    return _start(_enter, config.spec.name, encode_config(config))


def start_door(config: DoorConfig, listener: socket.socket) -> Child:
    return _start(_enter_door, "kafka", encode_config(config), listener)


def start_http(config: HttpConfig, listener: socket.socket) -> Child:
    return _start(_enter_http, "http", encode_config(config), listener)


def _start(enter: Callable[..., None], name: str, config_bytes: bytes, *sockets: socket.socket) -> Child:
    """`enter` is called in the new process with the config, its end of the channel, and the sockets."""
    ours, theirs = socket.socketpair()
    process = multiprocessing.get_context("forkserver").Process(
        target=enter, args=(config_bytes, theirs, *sockets), name=name, daemon=True
    )
    # multiprocessing has every child import the parent's main module, which is the command line here:
    # a main module that comes from nowhere keeps click and rich out of the workers.
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        process.start()
    finally:
        sys.modules["__main__"] = main
        theirs.close()
    return _ProcessChild(process, Channel(ours, ToSupervisor))


def _enter(config_bytes: bytes, end: socket.socket) -> None:
    # Imported in the fork server already; a supervisor has no need of storage and consensus.
    from raftlog.node.worker_process import run_worker

    run_worker(config_bytes, end)


def _enter_door(config_bytes: bytes, end: socket.socket, listener: socket.socket) -> None:
    # Nobody else needs Kafka's messages: neither the supervisor nor the fork server imports them.
    # And kio imports hypothesis where that is installed: half a second, and a folder in the current directory.
    sys.modules.setdefault("hypothesis", None)  # type: ignore[arg-type]
    from raftlog.node.kafka_process import run_door

    run_door(config_bytes, end, listener)


def _enter_http(config_bytes: bytes, end: socket.socket, listener: socket.socket) -> None:
    # Nobody else needs aiohttp.
    from raftlog.node.http_process import run_http

    run_http(config_bytes, end, listener)


class _ProcessChild:
    def __init__(self, process: multiprocessing.context.ForkServerProcess, channel: Channel[ToSupervisor]) -> None:
        assert process.pid is not None
        self._process = process
        self.pid = process.pid
        self.channel = channel

    def exit_code(self) -> int | None:
        return self._process.exitcode

    def sentinel(self) -> int:
        return self._process.sentinel

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        self.channel.close()
        self._process.join()
        self._process.close()
