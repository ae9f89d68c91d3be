"""The scripts beside this file: what the members of a group say to each other, step by step, with the expected output.

They are an introduction to raftlog/consensus/, to be read from top to bottom. A line that begins with `>` is a step;
the lines behind it are what the step printed. After a change that is meant to be seen

    RAFTLOG_REWRITE=1 .venv/bin/python -m pytest tests/consensus/test_scripts.py

writes the files anew; read the difference. Time stands still but in `pass`. The steps:

    nodes N [witnesses W]   N members that know nothing; the last W hold no records. Settings of the topic may follow
    elect N                 N loses patience with its leader and stands, and all messages that follow are delivered
    append N VALUE ...      records of a client at N, one batch each; nothing leaves yet
    fill N COUNT            the same with COUNT records of 200 bytes
    settle                  turns and deliveries until nothing moves
    pass S                  the same for S seconds, without a word
    cut N, heal N           N is cut off and the others know it, N does not / it is there again
    stop N, start N         its process ends, with what was not synced, and the others know / it starts again
    damage N, wipe N        of a stopped member: the last byte on its disk is wrong / its disk is empty
    show                    each member's role, the terms of its entries from index 2 on, what is committed, its doubt
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raftlog.errors import ErrorCode
from raftlog.protocol import raft as r
from raftlog.types import Doubt
from tests.partition.harness import Cluster, Node, batch, produce

SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script(path: Path) -> None:
    written, played = path.read_text(), play(path.read_text())
    if os.environ.get("RAFTLOG_REWRITE"):
        path.write_text(played)
    else:
        assert played == written


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) >= 4


def play(text: str) -> str:
    """The script with what its steps print now. Prose is kept; it begins with `#` or is empty."""
    stage, lines = Stage(), list[str]()
    for line in text.splitlines():
        if line.startswith("> "):
            lines.append(line)
            name, *arguments = line[2:].split()
            lines += [f"    {printed}" for printed in getattr(stage, f"on_{name}")(*arguments)]
        elif not line.startswith("    "):
            lines.append(line)
    return "\n".join(lines) + "\n"


class Stage:
    """Real members over simulated disks; every message that is delivered is a line."""

    cluster: Cluster

    def on_nodes(self, nodes: str, *settings: str) -> list[str]:
        values = dict(zip(settings[::2], map(int, settings[1::2]), strict=True))
        self.cluster = Cluster(int(nodes), **values)
        self._cut: set[int] = set()
        self._down: set[int] = set()
        return []

    def on_elect(self, node_id: str) -> list[str]:
        self._node(node_id).replica.member._elections.expire()
        return self.on_settle()

    def on_append(self, node_id: str, *values: str) -> list[str]:
        node = self._node(node_id)
        for value in values:
            node.request("c", produce(len(node.results())), [batch(value.encode())])
        return []

    def on_fill(self, node_id: str, count: str) -> list[str]:
        return self.on_append(node_id, *["x" * 200] * int(count))

    def on_settle(self) -> list[str]:
        lines: list[str] = []
        while self._round(lines):
            pass
        return lines

    def on_pass(self, seconds: str) -> list[str]:
        end_s = self.cluster.clock.monotonic_s() + float(seconds)
        while self.cluster.clock.monotonic_s() < end_s:
            self.cluster.clock.advance(0.05)
            self.on_settle()
        return []

    def _round(self, lines: list[str]) -> bool:
        """A turn of each member; then all that it sent arrives."""
        for node in self._present():
            before = len(node.results())
            node.replica.turn()
            for result in node.results()[before:]:
                said = ErrorCode(result.error_code).name if result.error_code else f"written at {result.base_offset}"
                lines.append(f"{node.node_id} to its client: {said}")
        arriving, self.cluster.queue = self.cluster.queue, []
        for source, target, message, payload in arriving:
            lost = {source, target} & (self._cut | self._down)
            lines.append(f"{source} > {target}  {describe(message)}{'  (lost)' if lost else ''}")
            if not lost:
                self.cluster.nodes[target].replica.on_raft(message, payload)
        return bool(arriving)

    def on_cut(self, node_id: str) -> list[str]:
        self._cut.add(int(node_id))
        self._tell(self._node(node_id), 0)
        return []

    def on_heal(self, node_id: str) -> list[str]:
        self._cut.discard(int(node_id))
        self._tell(self._node(node_id), self._node(node_id).boot_id)
        return []

    def on_stop(self, node_id: str) -> list[str]:
        node = self._node(node_id)
        self._down.add(node.node_id)
        node.disk.crash(None)
        self._tell(node, 0)
        return []

    def on_start(self, node_id: str) -> list[str]:
        node = self._node(node_id)
        node.start(Doubt.NONE if node.disk.files() else Doubt.LOST_DISK)
        self._down.discard(node.node_id)
        for other in self._present():
            node.replica.set_peer(other.node_id, other.boot_id)
        self._tell(node, node.boot_id)
        return []

    def on_damage(self, node_id: str) -> list[str]:
        disk = self._node(node_id).disk
        path, data = max(item for item in disk.files().items() if item[0].endswith(".log"))
        disk.flip_bit(path, len(data) - 1, 0)
        return []

    def on_wipe(self, node_id: str) -> list[str]:
        self._node(node_id).disk.wipe("orders-0")
        return []

    def on_show(self) -> list[str]:
        return [self._shown(node) for node in self.cluster.nodes.values()]

    def _shown(self, node: Node) -> str:
        if node.node_id in self._down:
            return f"{node.node_id} is down"
        group, log = node.replica.member, node.log
        role = "witness" if node.node_id in self.cluster.spec.witnesses else group.role.kind.name.lower()
        entries = " ".join(
            str(log.term_at(index)) for index in range(max(2, log.state.horizon_index), log.last_index + 1)
        )
        begin = f" from index {log.state.horizon_index}" if log.state.horizon_index > 2 else ""
        committed = f"committed {group.commit_index}{_doubt(log.state.doubt)}"
        return f"{node.node_id} {role} of term {log.state.term}{begin}: [{entries}], {committed}"

    def _node(self, node_id: str) -> Node:
        return self.cluster.nodes[int(node_id)]

    def _present(self) -> list[Node]:
        return [node for node in self.cluster.nodes.values() if node.node_id not in self._down]

    def _tell(self, node: Node, boot_id: int) -> None:
        """The others whose process is that member now; 0: it is gone."""
        for other in self._present():
            if other is not node:
                other.replica.set_peer(node.node_id, boot_id)


def describe(m: r.RaftMessage) -> str:
    return _DESCRIBED[type(m)](m)


def _doubt(doubt: Doubt) -> str:
    return "" if doubt is Doubt.NONE else f", in doubt: {doubt.name}"


def _vote(m: Any) -> str:
    return f"{'yes' if m.granted else 'no'}{_doubt(m.doubt)}"


def _append(m: r.AppendEntries) -> str:
    no_op = f" with no-op {m.epoch_starts[0][0]}" if m.epoch_starts else ""
    carried = f"{m.entries} entries{no_op}, committed {m.commit_index}"
    return f"term {m.term}, behind {m.prev_index} of term {m.prev_term}: {carried}"


def _answer(m: r.AppendResponse) -> str:
    if m.success:
        return f"holds all up to {m.match_index}{_doubt(m.doubt)}"
    return f"no, term {m.term}; {'damaged' if m.damaged else f'try {m.hint_index}'}{_doubt(m.doubt)}"


_DESCRIBED: dict[type, Callable[[Any], str]] = {
    r.PreVoteRequest: lambda m: (
        f"would you vote for me in term {m.asked_term}? I end at {m.last_index} of term {m.last_term}"
    ),
    r.PreVoteResponse: _vote,
    r.VoteRequest: lambda m: f"vote for me in term {m.term}; I end at {m.last_index} of term {m.last_term}",
    r.VoteResponse: _vote,
    r.AppendEntries: _append,
    r.AppendResponse: _answer,
    r.ResetRequest: lambda m: f"term {m.term}: start over at {m.horizon_index}, offset {m.base_offset}",
    r.TimeoutNow: lambda m: "stand at once",
}
