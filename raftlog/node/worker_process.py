"""The process of a worker: its entry, its directory's lock, and its end.

Every end that was not asked for is one line, to the log and to the supervisor.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import signal
import socket
import sys
import time

from raftlog.clock import monotonic_s
from raftlog.errors import RaftlogError, StorageError
from raftlog.network import keep_freed_memory
from raftlog.node import channel as ch
from raftlog.node.log_lines import configure_log_lines
from raftlog.node.worker import Worker
from raftlog.storage.disk import OsDisk

log = logging.getLogger(__name__)

_LOCK_WAIT_S = 5.0  # a predecessor that was killed may still be ending
_LOCK_RETRY_S = 0.02


def run_worker(config_bytes: bytes, end: socket.socket) -> None:
    config = ch.decode_config(config_bytes)
    configure_log_lines(f"node {config.node_id} {config.spec.name}", config.log_style)
    channel: ch.Channel[ch.ToWorker] = ch.Channel(end, ch.ToWorker)
    # Ctrl-C reaches every process of the terminal; the supervisor says when it is time.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        disk = OsDisk()
        disk.make_dir(config.directory)
        _lock_directory(config.directory)
        worker = Worker(config, channel, disk)
        keep_freed_memory()
        signal.signal(signal.SIGTERM, lambda *_: worker.stop())
        log.info("started, process %d", os.getpid())
        worker.run()
    except (RaftlogError, OSError) as error:
        text = str(error) or type(error).__name__
        log.error("%s", text)
        channel.send(ch.Failed(text=text))
        sys.exit(1)
    log.info("stopped; served: %s", worker.served() or "nothing")


def _lock_directory(directory: str) -> None:
    """Until the process ends: a predecessor that hangs in a write must never share the log with its successor."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    deadline_s = monotonic_s() + _LOCK_WAIT_S
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        if monotonic_s() > deadline_s:
            os.close(descriptor)
            raise StorageError(f"{directory} is still in use by another process")
        time.sleep(_LOCK_RETRY_S)
