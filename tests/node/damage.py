"""Damage done to the files of a real node, and what its directory then holds."""

from __future__ import annotations

from pathlib import Path

from raftlog.node.local import LocalCluster
from raftlog.storage.disk import OsDisk
from raftlog.storage.segment import walk_file
from raftlog.storage.state import State, decode_state


def replica_directory(cluster: LocalCluster, node_id: int, replica: str) -> Path:
    return cluster.directory / str(node_id) / replica


def segments(cluster: LocalCluster, node_id: int, replica: str) -> list[Path]:
    return sorted(replica_directory(cluster, node_id, replica).glob("log.*/*.log"))


def flip(path: Path, position: int) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        (byte,) = file.read(1)
        file.seek(position)
        file.write(bytes([byte ^ 4]))


def cut(path: Path, lost_bytes: int) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(size - lost_bytes)


def tear(path: Path) -> None:
    """What a power failure in the middle of a write may leave behind the end."""
    with path.open("ab") as file:
        file.write(bytes(77))


def state(cluster: LocalCluster, node_id: int, replica: str) -> State:
    copies = [decode_state(path.read_bytes()) for path in replica_directory(cluster, node_id, replica).glob("state.?")]
    found = [copy for copy in copies if copy is not None]
    newest = max(found, key=lambda each: each.sequence)
    newest.commit_bound = max(each.commit_bound for each in found)
    return newest


def records_bytes(cluster: LocalCluster, node_id: int, replica: str) -> bytes:
    """The whole log as it stands in its segments, wherever they were rolled."""
    return b"".join(path.read_bytes() for path in segments(cluster, node_id, replica))


def last_index(cluster: LocalCluster, node_id: int, replica: str) -> int:
    """Of the log, by counting what is on the disk: the sentinel, the epoch starts, the batches."""
    disk = OsDisk()
    batches = 0
    for path in segments(cluster, node_id, replica):
        file = disk.open(str(path), read_only=True)
        batches += sum(1 for _ in walk_file(file, 0, file.size(), whole=True))
        file.close()
    return 1 + len(state(cluster, node_id, replica).epoch_starts) + batches
