"""What workers share: all that is there before the fork server forks."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

from raftlog.network.memory import give_freed_memory_back

_WORKER = """
import os, socket, sys
import raftlog.node.preload
from raftlog.node import channel as ch
from raftlog.node.log_lines import LogStyle, configure_log_lines
from raftlog.node.worker import Worker
from raftlog.security.policy import Access, Security
from raftlog.storage.disk import OsDisk
from raftlog.types import NO_VOTERS, Doubt, Flush, ReplicaSpec, TopicConfig

before = set(sys.modules)
directory = sys.argv[1] + "/orders-0"
config = ch.decode_config(ch.encode_config(ch.WorkerConfig(
    node_id=1, cluster_id="c", directory=directory, doubt=Doubt.NONE, flush=Flush.ALWAYS, host="127.0.0.1", ports=None,
    spec=ReplicaSpec(topic="orders", topic_id=bytes(16), partition=0, replicas=(1,), config=TopicConfig()),
    founders=[], log_style=LogStyle(), access=Access(), security=Security(), is_witness=False, remembered=NO_VOTERS,
)))
configure_log_lines("worker", config.log_style)
ours, theirs = socket.socketpair()
disk = OsDisk()
disk.make_dir(directory)
worker = Worker(config, ch.Channel(theirs, ch.ToWorker), disk)
supervisor = ch.Channel(ours, ch.ToSupervisor)
supervisor.send(ch.Stop())
worker.run()
print(sorted(set(sys.modules) - before))
"""


def test_a_worker_imports_nothing_that_the_fork_server_has_not(tmp_path: Path) -> None:
    said = subprocess.run([sys.executable, "-c", _WORKER, str(tmp_path)], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n", said.stderr


def test_the_rehearsal_leaves_no_file_and_elects_each_time(tmp_path: Path) -> None:
    code = "from raftlog.node.rehearsal import rehearse; rehearse(); rehearse()"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert not list(tmp_path.iterdir())


def test_memory_of_a_burst_is_given_back() -> None:
    """In pieces that lie in the heap: larger ones go back to the kernel by themselves."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    pieces = [libc.malloc(64 * 1024) for _ in range(1000)]
    for piece in pieces:
        ctypes.memset(piece, 1, 64 * 1024)
    keeper = libc.malloc(64 * 1024)  # above them: what is freed below it stays in the heap
    for piece in pieces:
        libc.free(piece)
    held = _resident_bytes()
    give_freed_memory_back()
    assert _resident_bytes() < held - 40 * 1024 * 1024
    libc.free(keeper)


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
