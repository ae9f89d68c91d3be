"""What is wrong with the data directory of a node that does not run, what it means, and what to do about it.

Reads everything: identity, both copies of each `state`, every batch, the index. Holds the node's lock meanwhile. Only
`repair` writes, and only what cannot lose a record: a copy of `state` that is repaired from the other, a derived index
that goes, and the note by which a replica cuts damage at its next start and fetches it from the others again. The
records of a replica that has no others are never touched.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import shutil
import tempfile
import time

import msgspec

from raftlog.errors import ConfigError, CorruptLogError, RaftlogError
from raftlog.node.meta import FORMAT_VERSION, Meta
from raftlog.node.processes import die_with_parent
from raftlog.storage.disk import OsDisk
from raftlog.storage.epochs import Epochs
from raftlog.storage.index import MemoryIndex
from raftlog.storage.lmdb_index import LmdbIndex
from raftlog.storage.lookup import Lookup
from raftlog.storage.opening import generation_directory, generations
from raftlog.storage.recovery import examine
from raftlog.storage.segment import Segment
from raftlog.storage.state import State, StateFile, decode_state, note_damage
from raftlog.storage.tail import TailCache
from raftlog.types import Doubt, ReplicaSpec

_REFETCH = "start the node: it fetches from the other replicas what it lacks"
_ALONE = "no other replica has these records: copy the directory aside BEFORE the node starts, which cuts there"


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What a checkup has found wrong.

    `place`: a replica's name, or the file of the node. `repaired`: what was done about it; empty: nothing.
    """

    place: str
    what: str
    meaning: str
    advice: str
    repaired: str = ""


class Checkup:
    """Raises ConfigError when `path` is no node's directory, or its node runs."""

    def __init__(self, path: str, *, repair: bool = False) -> None:
        self._path = path
        self._repair = repair
        self._disk = OsDisk()
        self._problems: list[Problem] = []
        self.replicas: list[str] = []
        self.batches_bytes = 0
        self._lock = self._take_lock()

    def close(self) -> None:
        os.close(self._lock)

    def _take_lock(self) -> int:
        try:
            descriptor = os.open(os.path.join(self._path, "node.lock"), os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise ConfigError(
                f"{self._path} is not the data directory of a node: node.lock: {error.strerror}"
            ) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise ConfigError(f"a node runs in {self._path}: stop it first, or ask it with --bootstrap") from None
        return descriptor

    def run(self) -> list[Problem]:
        meta = self._read_meta()
        specs = {hosted.spec.name: hosted.spec for hosted in meta.replicas} if meta else {}
        created = {hosted.spec.name for hosted in meta.replicas if hosted.created} if meta else set()
        there = {name for name in self._disk.list(self._path) if self._disk.exists(f"{self._path}/{name}/state.a")}
        there |= {name for name in self._disk.list(self._path) if self._disk.exists(f"{self._path}/{name}/state.b")}
        there |= {name for name in specs if self._disk.is_dir(f"{self._path}/{name}")}
        self.replicas = sorted(there | set(specs))
        for name in self.replicas:
            spec = specs.get(name)
            if name in there:
                self._check_replica(name, spec)
            elif name in created and spec is not None:
                self._say(
                    name,
                    "its directory is gone",
                    "the replica has lost its disk: it takes part in nothing until it is whole again",
                    _REFETCH if len(spec.voters) > 1 else "no other replica has these records: they are gone",
                )
        return self._problems

    def _say(self, place: str, what: str, meaning: str, advice: str, repaired: str = "") -> None:
        self._problems.append(Problem(place=place, what=what, meaning=meaning, advice=advice, repaired=repaired))

    def _read_meta(self) -> Meta | None:
        path = f"{self._path}/meta.json"
        aside = "move the whole directory away and start the node with its old id: it comes back as a lost disk"
        if not self._disk.exists(path):
            self._say("meta.json", "it is missing", "the node does not know who it is and what it holds", aside)
            return None
        try:
            meta = msgspec.json.decode(self._disk.read_whole(path), type=Meta)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._say("meta.json", f"it is damaged: {error}", "the node refuses to start", aside)
            return None
        if meta.format_version > FORMAT_VERSION:
            self._say("meta.json", "a newer raftlog wrote it", "this one refuses to start here", "use the newer one")
        return meta

    # --- one replica -------------------------------------------------------------------------
    def _check_replica(self, name: str, spec: ReplicaSpec | None) -> None:
        directory = f"{self._path}/{name}"
        others = spec is None or len(spec.voters) > 1
        state = self._check_state(name, directory)
        if state is None:
            return
        if state.doubt:
            self._say(
                name,
                f"it is doubtful ({Doubt(state.doubt).name}): {state.doubt_reason}",
                "it may lack records that it once acknowledged, and counts for nothing until it has them again",
                _REFETCH if others else "start the node; what is missing stays missing",
            )
        log_directory = generation_directory(directory, state.generation)
        if not self._disk.is_dir(log_directory):
            if generations(self._disk, directory) or (state.commit_bound > 1 and state.last_index <= 1):
                self._say(name, f"log.{state.generation} is missing", "its records are gone", _REFETCH)
            return  # else a witness, or nothing was ever written
        self._check_records(name, directory, log_directory, state, others)

    def _check_state(self, name: str, directory: str) -> State | None:
        bad, found = [], []
        for copy in ("a", "b"):
            path = f"{directory}/state.{copy}"
            try:
                state = decode_state(self._disk.read_whole(path)) if self._disk.exists(path) else None
            except RaftlogError as error:
                self._say(name, str(error), "this raftlog cannot read it", "use the newer one")
                return None
            if state is None:
                bad.append(f"state.{copy}")
            else:
                found.append(state)
        if not found:
            self._say(
                name,
                "no copy of its state is intact",
                "it cannot know its term and vote, and its worker does not start",
                "move the replica's directory away and start the node: it comes back as a lost disk",
            )
            return None
        if bad:
            repaired = ""
            if self._repair:
                StateFile(self._disk, directory).load()
                repaired = "repaired from the other copy"
            self._say(name, f"{bad[0]} is bad", "the other copy is whole", "the next start mends it", repaired)
        state = max(found, key=lambda each: each.sequence)
        state.commit_bound = max(each.commit_bound for each in found)
        return state

    def _check_records(self, name: str, directory: str, log_directory: str, state: State, others: bool) -> None:
        findings = examine(self._disk, log_directory, state, MemoryIndex(), int(time.time() * 1000))
        for segment in (*findings.segments, *findings.removed, *findings.below_head):
            self.batches_bytes += segment.size
        if findings.doubt == Doubt.CUT_TAIL:
            self._say(
                name,
                "; ".join(findings.reasons),
                "a write that a power failure ended, or damage in its last batch: the next start cuts it",
                _REFETCH if others else "start the node: only what was being written is gone, unless a disk lost more",
            )
        elif findings.doubt != Doubt.NONE:
            repaired = ""
            if self._repair and others and state.damaged_index == 0 and findings.cut is not None:
                file = StateFile(self._disk, directory)
                fresh = file.load()
                assert fresh is not None
                note_damage(fresh, Epochs(fresh).next_batch_index(findings.last_index + 1), findings.reasons[0])
                file.write(fresh)
                repaired = "noted: the next start cuts there and fetches again"
            self._say(
                name,
                "; ".join(findings.reasons),
                "records that it acknowledged are not as they were written, or are missing",
                _REFETCH if others else _ALONE,
                repaired,
            )
        elif not self._index_fits(directory, findings.segments, state):
            repaired = ""
            if self._repair:
                self._disk.remove_tree(f"{directory}/index.lmdb")
                repaired = "removed"
            self._say(name, "its index does not fit its log", "it is derived; nothing is lost", "delete it", repaired)

    def _index_fits(self, directory: str, segments: list[Segment], state: State) -> bool:
        """In a process of its own, on a copy: a damaged LMDB file may end whoever reads it, and opening one writes."""
        if not self._disk.exists(f"{directory}/index.lmdb/data.mdb"):
            return True  # the next start makes it
        with tempfile.TemporaryDirectory() as copy:
            shutil.copy(f"{directory}/index.lmdb/data.mdb", f"{copy}/data.mdb")
            reader = multiprocessing.get_context("fork").Process(
                target=_read_index, args=(os.getpid(), copy, segments, state), daemon=True
            )
            reader.start()
            reader.join()
            return reader.exitcode == 0


def _read_index(parent: int, directory: str, segments: list[Segment], state: State) -> None:
    """Ends its process, with 0 when every entry speaks of a batch that is there."""
    die_with_parent(parent)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # its traceback is for nobody
    size = os.stat(f"{directory}/data.mdb").st_size
    index = LmdbIndex(directory)
    if os.stat(f"{directory}/data.mdb").st_size != size:
        raise CorruptLogError("it is damaged, and was rebuilt")
    lookup = Lookup(segments, index, TailCache(0), Epochs(state))
    by_base = {segment.base_offset: segment for segment in segments}
    entry = index.last_committed()
    while entry is not None:
        segment = by_base.get(entry.segment)
        if segment is None or lookup.verified(entry, segment) is None:
            raise CorruptLogError(f"no batch at {entry}")
        entry = index.floor_offset(entry.base_offset - 1) if entry.base_offset else None
