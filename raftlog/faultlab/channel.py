"""Requests to the program in a VM (guest.py), over one ssh that stays open between them."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from pathlib import Path
from typing import Any

from raftlog.errors import RaftlogError

_SERVE = "sudo -n /opt/raftlog/bin/python -m raftlog.faultlab.guest serve"
_CONNECT_S = 180.0  # an emulated VM on a busy machine takes a minute for ssh's keys and Python's start
_ANSWER_S = 300.0  # likewise, and a clean stop of a node is among the requests


class Channel:
    """To one VM, opened by the first request. `config`: what `vagrant ssh-config` printed."""

    def __init__(self, config: Path, name: str) -> None:
        self._config = config
        self._name = name
        self._process: subprocess.Popen[bytes] | None = None
        self._said = b""

    def ask(self, verb: str, *arguments: Any, within_s: float = _ANSWER_S) -> Any:
        """The answer. Raises RaftlogError when it says so, or when none comes."""
        process = self._process or self._open()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps([verb, *arguments]).encode() + b"\n")
            process.stdin.flush()
            answer = json.loads(self._line(process, within_s))
        except (OSError, ValueError) as error:
            self.close()
            raise RaftlogError(f"{self._name}: {verb}: {error}") from None
        if "error" in answer:
            raise RaftlogError(f"{self._name}: {answer['error']}")
        return answer["value"]

    @property
    def is_open(self) -> bool:
        return self._process is not None

    def connect(self) -> None:
        """The first request does it; do it before one that would be old by the time that takes."""
        if self._process is None:
            self._open()

    def command(self, remote: str) -> list[str]:
        """What runs this there."""
        settings = ("BatchMode=yes", f"ConnectTimeout={_CONNECT_S:.0f}", "ServerAliveInterval=20")
        options = [word for setting in settings for word in ("-o", setting)]
        return ["ssh", "-F", str(self._config), "-T", *options, self._name, remote]

    def _open(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            self.command(_SERVE),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the lab
        )
        self._process, self._said = process, b""
        try:
            if self._line(process, _CONNECT_S) != b"ready":
                raise OSError("another program answers")
        except OSError as error:
            self.close()
            assert process.stderr is not None
            raise RaftlogError(f"{self._name}: {process.stderr.read().decode().strip() or error}") from None
        return process

    def _line(self, process: subprocess.Popen[bytes], within_s: float) -> bytes:
        assert process.stdout is not None
        deadline_s = time.monotonic() + within_s
        while b"\n" not in self._said:
            if not select.select([process.stdout], [], [], max(0.0, deadline_s - time.monotonic()))[0]:
                raise OSError(f"no answer within {within_s:.0f} s")
            data = os.read(process.stdout.fileno(), 65_536)
            if not data:
                raise OSError("the connection has ended")
            self._said += data
        line, _, self._said = self._said.partition(b"\n")
        return line

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
