"""How commands end by a signal, wherever in Python it finds them."""

from __future__ import annotations

import subprocess
import sys

from .command import TIMEOUT_S

# The callback of a weak reference has nobody to raise to: Python drops what is raised in it.
PROGRAM = """
import os, signal, time, weakref
from raftlog_cli.ending import ended_by_signals

class Lock: pass

def callback(_):
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000): pass
    print("goes on")

with ended_by_signals():
    try:
        lock = Lock()
        reference = weakref.ref(lock, callback)
        del lock
        time.sleep(30)
    finally:
        print("cleaned up", flush=True)
"""


def test_a_signal_that_comes_where_python_drops_it_ends_the_command_all_the_same() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.stdout == "cleaned up\n"
    assert done.stderr.rstrip().endswith("KeyboardInterrupt") and "Exception ignored" not in done.stderr
