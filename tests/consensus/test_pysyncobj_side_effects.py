"""What importing pysyncobj does to the process, put back."""

from __future__ import annotations

import socket

import raftlog.consensus.elections  # noqa: F401


def test_addresses_can_still_be_written_out() -> None:
    assert socket.inet_ntop(socket.AF_INET, bytes([127, 0, 0, 1])) == "127.0.0.1"
    assert socket.inet_ntop(socket.AF_INET6, bytes(15) + b"\1") == "::1"
