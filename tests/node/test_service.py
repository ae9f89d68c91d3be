"""What systemd is told, over a socket of its kind."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftlog.clock import NEVER_S
from raftlog.node.service import Service


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield manager


def test_it_is_told_of_the_beginning_the_going_on_and_the_end(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    service = Service(100.0)
    assert "NOTIFY_SOCKET" not in os.environ, "no worker is to speak for the node"
    service.say_ready()
    assert service.due_s == 115.0
    service.tick(114.0)
    service.tick(115.5)
    assert service.due_s == 130.5
    service.say_stopping()
    assert [manager.recv(100) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"STOPPING=1"]


def test_an_abstract_socket_is_one_too(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"raftlog-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        Service(0.0).say_ready()
        assert manager.recv(100) == b"READY=1"


def test_without_a_watchdog_nothing_is_due(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Service(0.0).due_s == NEVER_S
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid() + 1))  # another process is watched
    assert Service(0.0).due_s == NEVER_S


def test_where_nobody_manages_it_nothing_is_said_and_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Service(0.0).say_ready()
    monkeypatch.setenv("NOTIFY_SOCKET", "/nobody/listens")
    Service(0.0).say_ready()
