"""The commands of scripts/vagrant: VMs up, their state, and one command for each fault.

A fault lasts until `heal`, which undoes all of them, or until the same command with `--off` undoes it. What is done
is in machines.py, and the same as in `faultlab run --on vagrant`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from raftlog.errors import ConfigError, RaftlogError
from raftlog.faultlab.hypervisor import OFF, RUNNING
from raftlog.faultlab.machines import Machine, Machines, each, vagrant_root
from raftlog.faultlab.shape import Shape
from raftlog.faultlab.wheels import gather

_Options = argparse.Namespace


def main(arguments: list[str] | None = None) -> int:
    options, unknown = _parser().parse_known_args(arguments)
    if unknown:
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        return options.command(options) or 0
    except (RaftlogError, OSError) as error:
        print(f"scripts/vagrant/{options.verb}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/vagrant", allow_abbrev=False)
    verbs = parser.add_subparsers(required=True, dest="verb", metavar="COMMAND")

    def command(verb: str, action: Callable[[_Options], int | None], text: str) -> argparse.ArgumentParser:
        one = verbs.add_parser(verb, prog=f"scripts/vagrant/{verb}", help=text, description=text, allow_abbrev=False)
        one.set_defaults(command=action, parser=one)
        return one

    def fault(verb: str, action: Callable[[_Options, Machine], None], text: str) -> argparse.ArgumentParser:
        def run(options: _Options) -> None:
            machines = Machines()
            try:
                each(machines.named(options.vm), lambda machine: action(options, machine))
            finally:
                machines.close()

        one = command(verb, run, text)
        one.add_argument("vm", nargs="+", metavar="VM", help="n1, n2, …")
        return one

    up = command("up", _up, "Make or start the VMs, and wait until the cluster is whole.")
    up.add_argument("--install", action="store_true", help="install the checkout again in VMs that are there already")
    text = "The VMs, their nodes, the faults upon them, and what `raftlog cluster status` says. Exit code 1: not whole."
    command("status", _status, text)
    logs = command("logs", _logs, "The log of a node.")
    logs.add_argument("vm", metavar="VM", help="n1, n2, …")
    logs.add_argument("--lines", type=int, default=50, metavar="N", help="so many (default: 50)")
    logs.add_argument("--follow", action="store_true", help="go on until Ctrl-C")
    wheels = command("wheels", _wheels, "Gather in wheels/ what the VMs need, so that nothing is downloaded there.")
    wheels.add_argument("--python", default="3.11", metavar="X.Y", help="the VMs' python3 (default: 3.11, Debian 12's)")

    kill = fault("kill", _kill, "SIGKILL to a node and its workers; it stays down until `heal`.")
    kill.add_argument("--worker", action="store_true", help="to one worker only, which the node starts again")
    kill.add_argument("--off", action="store_true", help="start the node")
    pause = fault("pause", _pause, "Pause a VM, all of it.")
    pause.add_argument("--off", action="store_true", help="let it go on")
    power = fault("power-off", _power_off, "Pull the plug: the VM is gone at once, and what was not synced with it.")
    power.add_argument("--off", action="store_true", help="power on, and wait until it has booted")
    full = fault("disk-full", _disk_full, "Leave no room where a node keeps its data.")
    full.add_argument("--off", action="store_true", help="give the room back")
    error = fault("disk-error", _disk_error, "Let every write and sync of a node's data fail.")
    error.add_argument("--off", action="store_true", help="a disk that works again, and the node started on it")
    clock = fault("clock", _clock, "Set a VM's wall clock to another time, or another speed.")
    clock.add_argument("--by", type=float, default=0.0, metavar="S", help="seconds from the true time (default: 0)")
    clock.add_argument("--rate", type=float, default=1.0, metavar="R", help="of its speed, such as 1.05 (default: 1)")
    clock.add_argument("--off", action="store_true", help="the true time, at its speed")

    partition = command("partition", _partition, "Cut VMs off from the other ones; clients still reach all nodes.")
    partition.add_argument("vm", nargs="+", metavar="VM", help="n1, n2, …: they hear each other, and no other one")
    partition.add_argument("--one-way", action="store_true", help="they still hear the others, who do not hear them")
    partition.add_argument("--cable", action="store_true", help="pull their cables: from each other and clients too")
    partition.add_argument("--off", action="store_true", help="their network is whole again, cables are plugged in")
    delay = command("delay", _delay, "Make the network between VMs and all others slow, or let it lose packets.")
    delay.add_argument("vm", nargs="+", metavar="VM", help="n1, n2, …")
    delay.add_argument("--ms", type=float, default=100.0, metavar="MS", help="in each direction (default: 100)")
    delay.add_argument("--jitter-ms", type=float, default=0.0, metavar="MS", help="up to so much more (default: 0)")
    delay.add_argument("--loss", type=float, default=0.0, metavar="P", help="of the packets, 0 to 1 (default: 0)")
    delay.add_argument("--off", action="store_true", help="the network between them and all others is whole again")
    command("heal", _heal, "Undo every fault: all VMs and nodes run, and the cluster becomes whole.")
    return parser


# --- the VMs ---------------------------------------------------------------------------------------
def _up(options: _Options) -> int:
    root = vagrant_root()
    _vagrant(root, "up")
    if options.install:
        _vagrant(root, "rsync")
        _vagrant(root, "provision")
    machines = Machines()
    try:
        return _await_whole(machines)
    finally:
        machines.close()


def _vagrant(root: Path, *arguments: str) -> None:
    quiet = [] if sys.stdout.isatty() else ["--no-tty"]  # a log has no use for progress bars
    try:
        code = subprocess.run(["vagrant", *arguments, *quiet], cwd=root).returncode
    except FileNotFoundError:
        raise ConfigError("vagrant is not installed") from None
    if code:
        raise ConfigError(f"vagrant {' '.join(arguments)} ended with code {code}")


def _await_whole(machines: Machines) -> int:
    machines.learn_endpoints()
    problems = machines.await_whole()
    print(problems or f"whole; clients: --bootstrap {machines.bootstrap}")
    return 1 if problems else 0


def _status(options: _Options) -> int:
    machines = Machines()
    try:
        print("\n".join(each(machines.all, _state)))
        machines.learn_endpoints()
    finally:
        machines.close()
    sys.stdout.flush()
    command = [sys.executable, "-P", "-m", "raftlog", "cluster", "status", "--bootstrap", machines.bootstrap]
    return subprocess.run(command).returncode or (1 if machines.problems() else 0)


def _state(machine: Machine) -> str:
    state = machine.state()
    faults = ["cable pulled"] if state != OFF and not machine.is_plugged() else []
    if state != RUNNING:
        return ", ".join([f"{machine.name}  {state}", *faults])
    try:
        found = machine.ask("status")
    except RaftlogError as error:
        return f"{machine.name}  {state}, and does not answer: {error}"
    faults += found["faults"]
    faults += [f"what it sends to {host}: {_shape_text(Shape(*shape))}" for host, shape in found["network"].items()]
    off_s = found["time_s"] - time.time()
    said = f"{machine.name}  {state}, node {found['service']}, clock off by {off_s:+.1f} s"
    return f"{said}, upon it: {'; '.join(faults)}" if faults else said


def _shape_text(shape: Shape) -> str:
    if shape.cut:
        return "cut"
    jitter = f" to {shape.delay_ms + shape.jitter_ms:g}" if shape.jitter_ms else ""
    loss = f", {100 * shape.loss:g} % lost" if shape.loss else ""
    return f"{shape.delay_ms:g}{jitter} ms late{loss}"


def _logs(options: _Options) -> int:
    machines = Machines()
    (machine,) = machines.named([options.vm])
    journal = f"sudo -n journalctl --unit=raftlog --output=short-iso --no-pager --lines={options.lines}"
    return subprocess.run(machine.channel.command(journal + (" --follow" if options.follow else ""))).returncode


def _wheels(options: _Options) -> None:
    root = vagrant_root()
    gather(root, root / "wheels", options.python)
    print(f"{len(list((root / 'wheels').glob('*.whl')))} wheels in {os.path.relpath(root / 'wheels')}")


# --- faults ----------------------------------------------------------------------------------------
def _kill(options: _Options, machine: Machine) -> None:
    if options.off:
        machine.ask("start")
    elif options.worker:
        print(f"{machine.name}: {machine.ask('kill_worker', time.monotonic_ns())}")
    else:
        machine.ask("kill")


def _pause(options: _Options, machine: Machine) -> None:
    machine.resume() if options.off else machine.pause()


def _power_off(options: _Options, machine: Machine) -> None:
    if options.off:
        machine.power_on()
        machine.await_booted()
    elif machine.state() == OFF:
        print(f"{machine.name} is off already")
    else:
        machine.power_off()


def _disk_full(options: _Options, machine: Machine) -> None:
    machine.ask("disk_full", not options.off)


def _disk_error(options: _Options, machine: Machine) -> None:
    machine.ask("start" if options.off else "disk_error")


def _clock(options: _Options, machine: Machine) -> None:
    machine.set_clock() if options.off else machine.set_clock(options.by, options.rate)


def _partition(options: _Options) -> None:
    machines = Machines()
    try:
        chosen = machines.named(options.vm)
        if options.off:
            each(chosen, lambda machine: machine.plug(True))
            _make_whole(machines, chosen)
        elif options.cable:
            each(chosen, lambda machine: machine.plug(False))
        else:
            _shape(machines, chosen, Shape(cut=True), back=not options.one_way)
    finally:
        machines.close()


def _delay(options: _Options) -> None:
    if not 0 <= options.loss <= 1 or options.ms < 0 or options.jitter_ms < 0:
        raise ConfigError("--loss is 0 to 1, --ms and --jitter-ms are 0 or more")
    machines = Machines()
    try:
        if options.off:
            _make_whole(machines, machines.named(options.vm))
            return
        shape = Shape(delay_ms=options.ms, jitter_ms=options.jitter_ms, loss=options.loss)
        _shape(machines, machines.named(options.vm), shape)
    finally:
        machines.close()


def _shape(machines: Machines, chosen: list[Machine], shape: Shape, *, back: bool = True) -> None:
    """Between these and all others. It replaces what was said of the network before."""
    machines.learn_endpoints()
    inside = {machine.node_id for machine in chosen}
    outside = set(machines.endpoints) - inside
    if not outside:
        raise ConfigError("all VMs are on one side: name some of them")
    shapes = {(source, target): shape for source in inside for target in outside}
    if back:
        shapes |= {(target, source): shape for source, target in shapes}
    away = [machine.node_id for machine in machines.all if machine.state() != RUNNING]
    machines.network(shapes, away)


def _make_whole(machines: Machines, chosen: list[Machine]) -> None:
    """What is upon the network between others stays."""
    machines.learn_endpoints()
    healed = {machine.node_id for machine in chosen}
    shapes = {pair: shape for pair, shape in machines.shapes().items() if not healed & {*pair}}
    away = [machine.node_id for machine in machines.all if machine.state() != RUNNING]
    machines.network(shapes, away)


def _heal(options: _Options) -> int:
    machines = Machines()
    try:
        machines.heal(print)
        return _await_whole(machines)
    finally:
        machines.close()


if __name__ == "__main__":
    sys.exit(main())
