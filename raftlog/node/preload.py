"""Imported in the fork server and nowhere else: it imports all that a worker needs, and opens nothing.

What is here before the fork is shared by all workers. `gc.freeze` keeps the collector from touching,
and so copying, the pages of these objects.
"""

from __future__ import annotations

import gc
import os
import signal

import raftlog.node.worker_process  # noqa: F401
from raftlog.network import keep_freed_memory
from raftlog.node.processes import SUPERVISOR_VARIABLE, die_with_parent

if os.environ.get(SUPERVISOR_VARIABLE) == str(os.getppid()):
    die_with_parent()
    # A service manager signals every process of a service; the workers need their parent to stop cleanly.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
keep_freed_memory()
gc.collect()
gc.freeze()
