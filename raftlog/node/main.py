"""Runs one node from its settings to its end: log lines, lock, signals, the ready line."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
from collections.abc import Iterator

from raftlog.node.log_lines import configure_log_lines
from raftlog.node.meta import DataDirectory
from raftlog.node.processes import prepare_fork_server
from raftlog.node.settings import NodeSettings, is_loopback
from raftlog.node.supervisor import Supervisor

log = logging.getLogger(__name__)

STDIN = 0
# Set by a parent that holds the other end of stdin: a node of a demo or a test must not outlive it,
# however it ends.
LEASH_VARIABLE = "RAFTLOG_STOP_WITH_STDIN"


def run_node(settings: NodeSettings) -> None:
    """Returns after a clean stop by SIGTERM or SIGINT. Raises ConfigError for every reason not to start."""
    configure_log_lines(f"node {settings.node_id}", settings.log_level)
    data = DataDirectory(settings.data, settings.node_id)
    try:
        prepare_fork_server()
        supervisor = Supervisor(settings, data, lambda cluster_id: _say_ready(settings, cluster_id))
        for endpoint in {settings.listen, settings.advertise}:
            if not is_loopback(endpoint.host):
                log.warning("%s can be reached from outside, and there is no authentication yet", endpoint)
        log.info("listening at %s, process %d", settings.listen, os.getpid())
        with _signals_to(supervisor) as wakeup:
            supervisor.run(wakeup, STDIN if os.environ.get(LEASH_VARIABLE) else None)
    finally:
        data.close()
    log.info("stopped")


def _say_ready(settings: NodeSettings, cluster_id: str) -> None:
    print(
        f"raftlog node {settings.node_id} ready at {settings.advertise} "
        f"(cluster {cluster_id}, flush {settings.flush}, data {settings.data})",
        flush=True,
    )


@contextlib.contextmanager
def _signals_to(supervisor: Supervisor) -> Iterator[int]:
    """SIGTERM and SIGINT stop it. Gives a descriptor that becomes readable then, so that a poll wakes up."""

    def on_signal(number: int, frame: object) -> None:
        log.info("stopping: %s", signal.Signals(number).name)
        supervisor.stop()

    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with ours, theirs:
        signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, on_signal)
        try:
            yield ours.fileno()
        finally:
            signal.set_wakeup_fd(-1)
