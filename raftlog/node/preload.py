"""Imported in the fork server and nowhere else: it imports all that a worker needs, and opens nothing.

What is here before the fork is shared by all workers. `gc.freeze` keeps the collector from touching,
and so copying, the pages of these objects.
"""

from __future__ import annotations

import gc
import multiprocessing.popen_forkserver  # noqa: F401
import os
import signal
from functools import partial

import raftlog.node.worker_process  # noqa: F401
from raftlog.network import allow_merged_pages, give_freed_memory_back
from raftlog.node.processes import SUPERVISOR_VARIABLE, die_with_parent
from raftlog.node.rehearsal import rehearse

if (_supervisor := os.environ.get(SUPERVISOR_VARIABLE)) == str(os.getppid()):
    die_with_parent(int(_supervisor))
    # A service manager signals every process of a service; the workers need their parent to stop cleanly.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
# The first thing that a child does: what it imports later may take longer than its parent lives. They fork no further.
os.register_at_fork(after_in_child=partial(die_with_parent, os.getpid()))
allow_merged_pages()
rehearse()
gc.collect()
give_freed_memory_back()  # else each worker fills the gaps, and so copies what lies beside them
gc.freeze()
