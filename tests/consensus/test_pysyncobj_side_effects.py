"""What importing pysyncobj does to the process, put back; and what importing raftlog does to pysyncobj: nothing."""

from __future__ import annotations

import socket
import subprocess
import sys

import raftlog.consensus.elections  # noqa: F401

_IMPORTED = """
import pysyncobj.syncobj as it
def globals_of_it(): return it.monotonicTime, it.random, it.createJournal, it.createPoller
before = globals_of_it()
import raftlog.consensus.elections
assert globals_of_it() == before
"""


def test_addresses_can_still_be_written_out() -> None:
    assert socket.inet_ntop(socket.AF_INET, bytes([127, 0, 0, 1])) == "127.0.0.1"
    assert socket.inet_ntop(socket.AF_INET6, bytes(15) + b"\1") == "::1"


def test_pysyncobj_keeps_its_clock_until_there_are_elections() -> None:
    subprocess.run([sys.executable, "-c", _IMPORTED], check=True)
