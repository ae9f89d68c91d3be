"""`raftlog security`: three commands, as they are typed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from .command import COMMAND, TIMEOUT_S


def _run(folder: Path, *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [*COMMAND, "security", *arguments], cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_three_commands_make_all_that_a_cluster_needs(tmp_path: Path) -> None:
    assert "the authority of cluster orders-eu" in _run(tmp_path, "init", "ca", "--cluster", "orders-eu")
    said = _run(tmp_path, "node", "--ca", "ca", "--id", "2", "--host", "10.0.0.2")
    assert "next: raftlog node start --id 2 --security node-2" in said
    assert "next: raftlog topic list --security client-alice" in _run(tmp_path, "client", "--ca", "ca", "alice")
    shown = json.loads(_run(tmp_path, "show", "client-alice", "--json"))
    assert (shown["client.pem"]["role"], shown["client.pem"]["name"]) == ("client", "alice")
    assert shown["ca.pem"]["cluster"] == "orders-eu"
    table = _run(tmp_path, "show", "node-2").splitlines()
    assert [line.split()[:4] for line in table[1:]] == [
        ["ca.pem", "authority", "ca", "orders-eu"],
        ["node.pem", "node", "2", "orders-eu"],
    ]


def test_a_mistake_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    said = _run(tmp_path, "node", "--ca", "none", "--id", "2", code=1)
    assert said == "raftlog: error: cannot read none/ca.pem: No such file or directory\n"
    _run(tmp_path, "init", "ca")
    (tmp_path / "ca" / "ca.key").chmod(0o644)
    said = _run(tmp_path, "client", "--ca", "ca", "alice", code=1)
    assert said == "raftlog: error: ca/ca.key can be read by others, so it is not used: chmod 600 ca/ca.key\n"
    assert "holds no certificates" in _run(tmp_path, "show", ".", code=1)
