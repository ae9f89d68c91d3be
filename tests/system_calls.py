"""Watches the system calls of one worker: was everything that it said durable when it said it?

strace, attached to a worker, writes one line per call in the order in which the kernel saw them begin and
end. `judge` reads such a trace and keeps two figures: the log end that was written to segments, and the one
that a completed fdatasync covers. A ProduceResponse that leaves with an offset, or an AppendResponse
with a match index, beyond the second figure is a violation.

    write of a batch     written = its next offset
    fdatasync begins     pending = written
    fdatasync ends       synced = pending
    send begins          every acknowledged offset in it must be below synced
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from raftlog.errors import InvalidRequestError
from raftlog.network.stream import LENGTHS
from raftlog.protocol import apis
from raftlog.protocol.envelope import decode_response, encode_response
from raftlog.protocol.raft import AppendResponse
from raftlog.record.batch import split
from tests.patience import WAIT_S

CALLS = "write,writev,pwrite64,pwritev,pwritev2,fdatasync,fsync,sendto,sendmsg"
ATTACH_WAIT_S = 10.0

_LINE = re.compile(r"^(?P<thread>\d+) +(?P<rest>.*)$")
_BEGIN = re.compile(r"^(?P<name>\w+)\((?P<fd>\d+)<(?P<file>[^>]*)>(?P<arguments>.*)$")
_RESUMED = re.compile(r"^<\.\.\. (?P<name>\w+) resumed>.*\) += (?P<result>-?\d+)")
_ENDED = re.compile(r"\) += (?P<result>-?\d+)[^=]*$")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
_PRODUCE_ANSWER = encode_response(apis.PRODUCE, 0, [])[:-1]
_append_responses = msgspec.msgpack.Decoder(AppendResponse)


def why_not() -> str:
    """Empty, or the reason why no process can be watched here."""
    if not shutil.which("strace"):
        return "strace is not installed"
    target = subprocess.Popen(["sleep", "30"])
    try:
        command = ["strace", "-o", "/dev/null", "-p", str(target.pid)]
        tracer = subprocess.Popen(command, stderr=subprocess.PIPE)
        with contextlib.suppress(subprocess.TimeoutExpired):
            tracer.wait(0.5)
        if tracer.returncode is not None:
            assert tracer.stderr is not None
            return f"strace may not attach here: {tracer.stderr.read().decode().strip()}"
        tracer.send_signal(signal.SIGINT)
        tracer.communicate(timeout=WAIT_S)
    finally:
        target.kill()
        target.wait()
    return ""


@contextlib.contextmanager
def watched(pid: int, trace: Path) -> Iterator[None]:
    """Writes the calls of `pid` and all its threads to `trace` while the block runs."""
    command = ["strace", "-f", "-y", "-xx", "-s", "1000000", "-e", f"trace={CALLS}", "-o", str(trace), "-p", str(pid)]
    tracer = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + ATTACH_WAIT_S
        while not _is_traced(pid):
            assert tracer.poll() is None and time.monotonic() < deadline, "strace did not attach"
            time.sleep(0.02)
        yield
    finally:
        tracer.send_signal(signal.SIGINT)  # detaches, and leaves the process running
        tracer.wait(timeout=WAIT_S)


def _is_traced(pid: int) -> bool:
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread may end after it was listed
            if "\nTracerPid:\t0\n" in Path(f"/proc/{pid}/task/{task}/status").read_text():
                return False
    return True


@dataclass
class Verdict:
    """How much was said, and every line that said too much."""

    produce_answers: int = 0
    append_answers: int = 0
    segment_syncs: int = 0
    start_index: int = 0  # Raft index of the log end before the trace's first batch; 0: not known
    violations: list[str] = field(default_factory=list)


@dataclass
class _Log:
    """A log end: as an offset, and as the number of batches since the trace began."""

    end_offset: int
    batches: int = 0


def judge(lines: Iterator[str]) -> Verdict:
    """Match indexes are judged from the first one on that was said before any batch of the trace was written.

    No election may fall into the trace: a no-op counts as an index and is not in a segment.
    """
    verdict = Verdict()
    written, synced = _Log(0), _Log(0)
    pending: dict[str, tuple[str, _Log]] = {}  # thread -> its unfinished call
    started = False
    for line in lines:
        parts = _LINE.match(line)
        if parts is None:
            continue
        thread, rest = parts["thread"], parts["rest"]
        if resumed := _RESUMED.match(rest):
            name, covered = pending.pop(thread, ("", written))
            if name == "fdatasync" and resumed["result"] == "0":
                synced = covered
                verdict.segment_syncs += 1
            continue
        begun = _BEGIN.match(rest)
        if begun is None:
            continue
        name, arguments = begun["name"], begun["arguments"]
        file = bytes.fromhex(begun["file"].replace("\\x", "")).decode() if "\\x" in begun["file"] else begun["file"]
        is_segment = file.endswith(".log")
        if is_segment and "write" in name:
            for _, header in split(_bytes_in(arguments)):
                if not started:
                    started = True
                    synced = _Log(header.base_offset)
                written = _Log(header.next_offset, written.batches + 1)
        elif is_segment and name in ("fdatasync", "fsync"):
            if "<unfinished ...>" in arguments:
                pending[thread] = ("fdatasync", written)
            elif (ended := _ENDED.search(arguments)) and ended["result"] == "0":
                synced = written
                verdict.segment_syncs += 1
        elif "socket" in file or "TCP" in file:
            _judge_send(_bytes_in(arguments), synced, started, verdict)
    return verdict


def _bytes_in(arguments: str) -> bytes:
    """All buffers of a call, joined: strace shows them as "\\x00…" with -xx."""
    joined = []
    for shown, cut in _STRING.findall(arguments):
        assert not cut, "strace shortened a buffer"
        joined.append(bytes.fromhex(shown.replace("\\x", "")))
    return b"".join(joined)


def _judge_send(data: bytes, synced: _Log, started: bool, verdict: Verdict) -> None:
    for frame in _frames_with(data, _PRODUCE_ANSWER):
        try:
            results = decode_response(frame)[2]
        except InvalidRequestError:
            continue  # bytes of a batch on their way to a follower, which happen to look like one
        for result in results:
            if result.error_code == 0:
                verdict.produce_answers += 1
                if result.base_offset >= synced.end_offset:
                    verdict.violations.append(f"offset {result.base_offset} answered, {synced.end_offset} synced")
    for header in _stream_headers_with(data, b"\xa3rAR"):
        reply = _append_responses.decode(header)
        if reply.success and not started:
            verdict.start_index = reply.match_index
        elif reply.success and verdict.start_index:
            verdict.append_answers += 1
            durable_index = verdict.start_index + synced.batches
            if reply.match_index > durable_index:
                verdict.violations.append(f"match index {reply.match_index} answered, {durable_index} synced")


def _stream_headers_with(data: bytes, tag: bytes) -> Iterator[bytes]:
    """Headers of raftlog/network/stream.py that begin with `tag`."""
    position = data.find(tag)
    while position >= 0:
        body = position - 1
        length, _ = LENGTHS.unpack_from(data, body - LENGTHS.size)
        yield data[body : body + length]
        position = data.find(tag, position + 1)


def _frames_with(data: bytes, tag: bytes) -> Iterator[bytes]:
    """ZMTP frames (flags, length in one byte or eight, body) that begin with `tag`."""
    position = data.find(tag)
    while position >= 0:
        body = position
        is_long = body >= 9 and data[body - 9] == 2 and int.from_bytes(data[body - 8 : body], "big") <= len(data) - body
        length = int.from_bytes(data[body - 8 : body], "big") if is_long else data[body - 1]
        if length > len(tag):  # else these bytes stand somewhere else, in a message of Raft's
            yield data[body : body + length]
        position = data.find(tag, position + 1)
