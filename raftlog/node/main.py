"""Runs one node from its settings to its end: log lines, lock, signals, the ready line."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator

from raftlog.node.audit import check_audit_log
from raftlog.node.log_lines import configure_log_lines
from raftlog.node.meta import DataDirectory
from raftlog.node.processes import prepare_fork_server
from raftlog.node.settings import NodeSettings, check_closed, is_loopback
from raftlog.node.supervisor import Supervisor
from raftlog.types import Endpoint

log = logging.getLogger(__name__)

STDIN = 0
# Set by a parent that holds the other end of stdin: a node of a demo or a test must not outlive it,
# however it ends.
LEASH_VARIABLE = "RAFTLOG_STOP_WITH_STDIN"


def run_node(settings: NodeSettings) -> None:
    """Returns after a clean stop by SIGTERM or SIGINT. Raises ConfigError for every reason not to start."""
    check_closed(settings)
    _check_keys(settings)
    if settings.access.audit_log:
        check_audit_log(settings.access.audit_log)
    configure_log_lines(f"node {settings.node_id}", settings.log_style)
    data = DataDirectory(settings.data, settings.node_id)
    try:
        prepare_fork_server()
        supervisor = Supervisor(settings, data, lambda *found: _say_ready(settings, *found))
        for endpoint in {settings.listen, settings.kafka_listen, settings.http_listen}:
            if endpoint is not None and settings.insecure and not is_loopback(endpoint.host):
                log.warning("%s can be reached by anybody: this node is --insecure", endpoint)
        if settings.permissive:
            log.warning("whoever reaches this node may speak as a node: it is --permissive")
        log.info("listening at %s, process %d", settings.listen, os.getpid())
        with _signals_to(supervisor) as wakeup:
            supervisor.run(wakeup, STDIN if os.environ.get(LEASH_VARIABLE) else None)
    finally:
        data.close()
    log.info("stopped")


def _check_keys(settings: NodeSettings) -> None:
    """Kafka's door reads them: a mistake is told at the start. Raises ConfigError."""
    rules = settings.access.tokens
    if rules is not None and "://" not in rules.jwks:
        from raftlog.node.jwks import KeyFile  # with a library, which this process does without

        KeyFile(rules.jwks)


def _say_ready(settings: NodeSettings, cluster_id: str, kafka: Endpoint | None, http: Endpoint | None) -> None:
    door = f", for Kafka's clients at {kafka}" if kafka else ""
    door += f", HTTP at {http}" if http else ""
    # One write, or nodes with the same stdout would mix their lines: an unbuffered `print` writes the end by itself.
    sys.stdout.write(
        f"raftlog node {settings.node_id} ready at {settings.advertise}{door} "
        f"(cluster {cluster_id}, flush {settings.flush}, data {settings.data})\n"
    )
    sys.stdout.flush()


@contextlib.contextmanager
def _signals_to(supervisor: Supervisor) -> Iterator[int]:
    """SIGTERM and SIGINT stop it, SIGUSR1 and SIGUSR2 have it say more and less.

    Gives a descriptor that becomes readable then, so that a poll wakes up.
    """

    def on_signal(number: int, frame: object) -> None:
        log.info("stopping: %s", signal.Signals(number).name)
        supervisor.stop()

    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with ours, theirs:
        signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, on_signal)
        for number, steps in ((signal.SIGUSR1, -1), (signal.SIGUSR2, 1)):
            signal.signal(number, lambda *_, steps=steps: supervisor.change_log_level(steps))
        try:
            yield ours.fileno()
        finally:
            signal.set_wakeup_fd(-1)
