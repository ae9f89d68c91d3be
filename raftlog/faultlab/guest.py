"""In a VM, as root: does to the VM's node what a fault asks for, and undoes it.

    python -m raftlog.faultlab.guest serve          requests on stdin, answers on stdout
    python -m raftlog.faultlab.guest drift RATE     the clock goes at this rate, until it is ended

A request is a JSON line, ["kill"] or ["clock", 1700000000.0, 1.0]: the name of a function below and its arguments. The
answer is a line too: {"value": …} or {"error": "…"}. Both ends are of the same checkout. What is done here outlives the
connection; the machines' `heal` undoes it (machines.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raftlog.errors import RaftlogError
from raftlog.faultlab import damage, guest_disk
from raftlog.faultlab.guest_disk import DATA, OWNER, run
from raftlog.faultlab.shape import Shape
from raftlog.node.settings import NodeSettings, parse_settings, read_settings_file

_SERVICE = "raftlog.service"
_DRIFT = "raftlog-drift"
_PROCESSES = Path("/sys/fs/cgroup/system.slice") / _SERVICE / "cgroup.procs"
_SETTINGS = Path("/etc/raftlog/node.ini")
_OPTIONS = Path("/etc/raftlog/lab.env")
SECURITY = Path("/etc/raftlog/lab-security")
_SHAPES = Path("/run/raftlog-network.json")  # what was asked for; gone with the VM's memory, as the shapes are
_WORKERS_S = 30.0
_STEP_S = 0.25  # of a clock that goes at another rate; each step wakes up whoever waits for a time of day
_BANDS_MAX = 16  # of the prio qdisc: one for all that is not shaped, one for each node


# --- the node ------------------------------------------------------------------------------------
def endpoints() -> dict[int, str]:
    """`host:port` of each node, as this one was told."""
    return {node_id: str(endpoint) for node_id, endpoint in _settings().peers.items()}


def _settings() -> NodeSettings:
    return parse_settings({}, read_settings_file(str(_SETTINGS)))


def status() -> dict[str, Any]:
    """The state of its service, and what of these faults is upon it.

    `network`: the shape of what it sends, by address.
    """
    faults = []
    if _state(f"{_DRIFT}.service") == "active":
        faults.append("clock-drift")
    if guest_disk.is_full():
        faults.append("disk-full")
    if guest_disk.is_failing():
        faults.append("disk-error")
    shapes = json.loads(_SHAPES.read_text()) if _SHAPES.exists() else {}
    return {"service": _state(_SERVICE), "faults": faults, "network": shapes, "time_s": time.time()}


def _state(unit: str) -> str:
    return run("systemctl", "is-active", unit, check=False).strip()


def kill() -> None:
    """SIGKILL to the node and its workers. It stays down."""
    run("systemctl", "kill", "--signal=KILL", _SERVICE, check=False)
    run("systemctl", "stop", _SERVICE)  # kill BEFORE stop: else it would be a clean one; without it, it comes back


def stop() -> None:
    run("systemctl", "stop", _SERVICE)


def start() -> None:
    """Starts the node, on a disk that works again where that was made to fail."""
    if guest_disk.is_failing():
        kill()
        guest_disk.repair()
    run("systemctl", "start", _SERVICE)


def kill_worker(seed: int) -> str:
    """SIGKILL to one process of the node that is not its supervisor; which. One that has just started is awaited."""
    return _signal_worker(seed, signal.SIGKILL)


def hang_worker(seed: int) -> str:
    """SIGSTOP to one process of the node that is not its supervisor, until `wake`; which was stopped."""
    return _signal_worker(seed, signal.SIGSTOP)


def hang_supervisor() -> None:
    """SIGSTOP to the supervisor alone, until `wake`."""
    if supervisor := _supervisor():
        os.kill(supervisor, signal.SIGSTOP)


def wake() -> None:
    """Whatever hangs goes on."""
    run("systemctl", "kill", "--signal=CONT", _SERVICE, check=False)


def _supervisor() -> int:
    """0 while the node does not run."""
    return int(run("systemctl", "show", "--property=MainPID", "--value", _SERVICE))


def _signal_worker(seed: int, number: int) -> str:
    rng = random.Random(seed)
    deadline_s = time.monotonic() + _WORKERS_S
    supervisor = _supervisor()
    while time.monotonic() < deadline_s:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if workers := [pid for pid in map(int, _PROCESSES.read_text().split()) if pid != supervisor]:
                victim = rng.choice(workers)
                os.kill(victim, number)
                return f"process {victim}"
        time.sleep(0.1)
    raise RaftlogError("the node has no workers")


def begin_anew(options: str, security: dict[str, str]) -> None:
    """The node is stopped, its data directory empty, and its next start has these options, until `forget_options`.

    `security`: the text of each file of its directory, which is SECURITY here.
    """
    kill()
    guest_disk.repair()
    damage.wipe(DATA)
    take_security(security)
    if options:
        _OPTIONS.write_text(f"RAFTLOG_OPTIONS={options}\n")
        os.sync()  # they hold after a power failure too
    else:
        _OPTIONS.unlink(missing_ok=True)


def take_security(files: dict[str, str]) -> None:
    """In place of what was there."""
    shutil.rmtree(SECURITY, ignore_errors=True)
    if not files:
        return
    SECURITY.mkdir(mode=0o700)
    for name, text in files.items():
        (SECURITY / name).touch(0o600)
        (SECURITY / name).write_text(text)
    for path in (SECURITY, *SECURITY.iterdir()):
        shutil.chown(path, OWNER)


def forget_options() -> bool:
    """Whether it had any."""
    take_security({})
    had = _OPTIONS.exists()
    _OPTIONS.unlink(missing_ok=True)
    return had


# --- its disk ------------------------------------------------------------------------------------
def disk_full(full: bool) -> None:
    guest_disk.set_full(full)


def disk_error() -> None:
    guest_disk.fail()


def wipe() -> None:
    damage.wipe(DATA)


def flip(seed: int) -> str:
    return damage.flip(DATA, random.Random(seed))


def truncate(seed: int) -> str:
    return damage.truncate(DATA, random.Random(seed))


# --- its network and clock -----------------------------------------------------------------------
def network(shapes: dict[str, list[Any]]) -> None:
    """What this VM sends to each address is shaped, and nothing else; no shapes: whole.

    Each direction of each pair is thus its sender's. A cut is a loss of all: the sender is not told.
    """
    found = json.loads(run("ip", "-json", "-4", "address", "show", "to", _settings().listen.host))
    device = next(entry["ifname"] for entry in found if entry.get("ifname"))
    _SHAPES.write_text(json.dumps(shapes))  # BEFORE: what is half done is told too
    _tc("qdisc", "del", "dev", device, "root", check=False)
    if shapes:
        lines = tc_lines(device, {target: Shape(*values) for target, values in shapes.items()})
        done = subprocess.run(["tc", "-batch", "-"], input="\n".join(lines) + "\n", capture_output=True, text=True)
        if done.returncode:
            raise RaftlogError(f"tc: {done.stderr.strip()}")


def tc_lines(device: str, shapes: dict[str, Shape]) -> list[str]:
    """A band for each address, with its shape; all else goes through the first band as ever."""
    if len(shapes) >= _BANDS_MAX:
        raise RaftlogError(f"the network to {len(shapes)} nodes cannot be shaped: {_BANDS_MAX - 1} is the most")
    whole = " ".join("0" * _BANDS_MAX)
    lines = [f"qdisc add dev {device} root handle 1: prio bands {_BANDS_MAX} priomap {whole}"]
    for number, (target, shape) in enumerate(shapes.items(), 2):
        netem = f"loss {100 if shape.cut else 100 * shape.loss:g}%"
        if shape.delay_ms or shape.jitter_ms:
            # netem takes the middle and how far it goes to either side.
            netem += f" delay {shape.delay_ms + shape.jitter_ms / 2:g}ms {shape.jitter_ms / 2:g}ms"
        lines.append(f"qdisc add dev {device} parent 1:{number:x} handle {number:x}0: netem {netem}")
        match = f"protocol ip prio 1 u32 match ip dst {target}/32"
        lines.append(f"filter add dev {device} parent 1: {match} flowid 1:{number:x}")
    return lines


def _tc(*arguments: str, check: bool = True) -> str:
    return run("tc", *arguments, check=check)


def clock(now_s: float, rate: float) -> None:
    """The wall clock shows `now_s` (since the epoch), and goes at `rate` from now on."""
    run("systemctl", "stop", f"{_DRIFT}.service", check=False)
    time.clock_settime(time.CLOCK_REALTIME, now_s)
    if rate != 1:
        module = [sys.executable, "-P", "-m", "raftlog.faultlab.guest", "drift", str(rate)]
        run("systemd-run", "--collect", "--unit", _DRIFT, *module)


def drift(rate: float) -> None:
    """In small steps: the kernel's own rate can be changed by a tenth at most."""
    began_s, wall_s = time.monotonic(), time.time()
    while True:
        time.sleep(_STEP_S)
        time.clock_settime(time.CLOCK_REALTIME, wall_s + (time.monotonic() - began_s) * rate)


VERBS: dict[str, Callable[..., Any]] = {
    verb.__name__: verb
    for verb in (
        endpoints,
        status,
        kill,
        stop,
        start,
        kill_worker,
        hang_worker,
        hang_supervisor,
        wake,
        begin_anew,
        forget_options,
        disk_full,
        disk_error,
        wipe,
        flip,
        truncate,
        network,
        clock,
    )
}


def serve() -> None:
    print("ready", flush=True)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        try:
            answer = {"value": VERBS[name](*arguments)}
        except (RaftlogError, OSError) as error:
            answer = {"error": f"{name}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    match sys.argv[1:]:
        case ["serve"]:
            serve()
        case ["drift", rate]:
            drift(float(rate))
        case _:
            sys.exit(__doc__)
