"""A network namespace and a file system of its own for each node: on one machine, as root.

The nodes' and the clients' namespaces are joined by the lab's own switch (switch.py). Each node's data lies on an ext4
in a file of the lab, which can be shut down without writing its log (FS_IOC_SHUTDOWN, as file system tests do): what
was not synced is then gone, as in a power failure. The wall clock is libfaketime's, where that library is there.

All that outlives a process is made under one name and removed by a keeper (`python -m raftlog.faultlab.namespaces NAME
DIRECTORY`), which waits for the end of its stdin: it comes, however the lab ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

from raftlog.errors import ConfigError
from raftlog.faultlab.damage import fill
from raftlog.faultlab.places import HostPlace
from raftlog.faultlab.shape import Shape
from raftlog.node.local import LocalCluster
from raftlog.types import Endpoint

_SUBNET = "10.77.0"
_CLIENTS = 100  # the last part of their address
_PORT = 7071
_DISK_BYTES = 1 << 30  # sparse: takes what is written
_FS_IOC_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = 2
_FAKETIME = "/usr/lib/*/faketime/libfaketimeMT.so.1"
_TOOLS = ("ip", "nsenter", "mkfs.ext4", "mount", "umount")
_UMOUNT_S = 10.0


class NamespacePlace(HostPlace):
    name = "netns"
    missing: dict[str, str] = {}

    def __init__(self, directory: Path, nodes: int, flush: str, *, doors: bool = False, secure: bool = False) -> None:
        if os.geteuid():
            raise ConfigError("--on netns makes namespaces and mounts: run it as root")
        lacking = [tool for tool in _TOOLS if shutil.which(tool) is None]
        if lacking:
            raise ConfigError(f"--on netns needs {', '.join(lacking)}: apt-get install iproute2 util-linux e2fsprogs")
        self._tag = f"raftlog-lab-{os.getpid()}"
        self._faketime = next(iter(glob.glob(_FAKETIME)), "")
        if not self._faketime:
            self.missing = {"clock": "libfaketime is not there: apt-get install libfaketime"}
        self._switch: subprocess.Popen[str] | None = None
        self._keeper: subprocess.Popen[bytes] | None = None
        super().__init__(directory, nodes, flush, doors=doors, secure=secure)

    def _make_cluster(self, nodes: int, flush: str, *, doors: bool, secure: bool) -> LocalCluster:
        endpoints = {node_id: Endpoint(f"{_SUBNET}.{node_id}", _PORT) for node_id in range(1, nodes + 1)}
        return LocalCluster(
            directory=self.directory,
            flush=flush,
            endpoints=endpoints,
            prefix=self._prefix,
            kafka=doors,
            secure=secure,
        )

    def _prefix(self, node_id: int) -> list[str]:
        entering = ["nsenter", f"--net=/run/netns/{self._namespace(node_id)}"]
        if not self._faketime:
            return entering
        settings = [f"LD_PRELOAD={self._faketime}", f"FAKETIME_TIMESTAMP_FILE={self._clock_file(node_id)}"]
        return [*entering, "env", *settings, "FAKETIME_NO_CACHE=1", "DONT_FAKE_MONOTONIC=1"]

    def _namespace(self, number: int) -> str:
        return f"{self._tag}-{number}"

    def _clock_file(self, node_id: int) -> Path:
        return self.directory / f"{node_id}.clock"

    def _image(self, node_id: int) -> Path:
        return self.directory / f"{node_id}.ext4"

    def command(self, arguments: list[str]) -> list[str]:
        return ["nsenter", f"--net=/run/netns/{self._namespace(_CLIENTS)}", *arguments]

    # --- making and removing -------------------------------------------------------------------
    def open(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._keeper = subprocess.Popen(
            [sys.executable, "-P", "-m", "raftlog.faultlab.namespaces", self._tag, str(self.directory)],
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the lab
        )
        for number in (*self.node_ids, _CLIENTS):
            subprocess.run(["ip", "netns", "add", self._namespace(number)], check=True)
        for node_id in self.node_ids:
            with open(self._image(node_id), "wb") as image:
                image.truncate(_DISK_BYTES)
            subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", self._image(node_id)], check=True)
            self._mount(node_id)
            (self.data(node_id) / "lost+found").rmdir()
            self.clock(node_id, 0.0, 1.0)
        addresses = [f"{self._namespace(number)}={_SUBNET}.{number}" for number in (*self.node_ids, _CLIENTS)]
        self._switch = subprocess.Popen(
            [sys.executable, "-P", "-m", "raftlog.faultlab.switch", *addresses],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._heard_from_switch()
        super().open()

    def close(self) -> None:
        super().close()
        for helper in (self._switch, self._keeper):
            if helper is not None:
                assert helper.stdin is not None
                helper.stdin.close()
                helper.wait()

    def _mount(self, node_id: int) -> None:
        self.data(node_id).mkdir(exist_ok=True)
        subprocess.run(["mount", "-o", "loop", self._image(node_id), self.data(node_id)], check=True)

    def _heard_from_switch(self) -> None:
        assert self._switch is not None and self._switch.stdout is not None
        if not self._switch.stdout.readline():
            raise ConfigError("the lab's switch has ended")

    # --- disks ---------------------------------------------------------------------------------
    def power_off(self, node_id: int) -> None:
        self._shut_down(node_id)
        self.kill(node_id)

    def disk_error(self, node_id: int) -> None:
        self._shut_down(node_id)
        self.resume(node_id)

    def _shut_down(self, node_id: int) -> None:
        """The processes stand still BEFORE their disk is shut down.

        A sync that is under way meanwhile may report success for what is gone (Linux 6.18: in 37 of 80 trials with
        three writers, and in none of 80 where these stood still), and a node without power answers nobody.
        """
        self.pause(node_id)
        root = os.open(self.data(node_id), os.O_RDONLY)
        try:
            fcntl.ioctl(root, _FS_IOC_SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(root)
        (self.directory / f"{node_id}.shut-down").touch()

    def start(self, node_id: int) -> None:
        shut_down = self.directory / f"{node_id}.shut-down"
        if shut_down.exists():
            self.kill(node_id)
            unmount(self.data(node_id))
            self._mount(node_id)
            shut_down.unlink()
            self.disk_full(node_id, False)
        super().start(node_id)

    def disk_full(self, node_id: int, full: bool) -> None:
        filler = self.data(node_id) / "filler"
        if full:
            fill(filler)
        elif not (self.directory / f"{node_id}.shut-down").exists():  # else `start` does it, on a disk that works
            filler.unlink(missing_ok=True)

    # --- network and clock ---------------------------------------------------------------------
    def network(self, shapes: dict[tuple[int, int], Shape]) -> None:
        assert self._switch is not None and self._switch.stdin is not None
        said = {f"{_SUBNET}.{source}>{_SUBNET}.{target}": shape for (source, target), shape in shapes.items()}
        self._switch.stdin.write(json.dumps(said) + "\n")
        self._switch.stdin.flush()
        self._heard_from_switch()

    def clock(self, node_id: int, offset_s: float, rate: float) -> None:
        path = self._clock_file(node_id)
        new = path.with_suffix(".new")
        new.write_text(f"{offset_s:+.3f} x{rate:.4f}\n")
        new.replace(path)


def unmount(path: Path) -> None:
    """Waits for the processes that were killed on it."""
    deadline_s = time.monotonic() + _UMOUNT_S
    while os.path.ismount(path):
        if subprocess.run(["umount", path], stderr=subprocess.DEVNULL).returncode and time.monotonic() > deadline_s:
            subprocess.run(["umount", "--lazy", path], check=True)
        time.sleep(0.05)


def keep(tag: str, directory: Path) -> None:
    sys.stdin.buffer.read()
    namespaces = [path for path in glob.glob("/run/netns/*") if Path(path).name.startswith(f"{tag}-")]
    for namespace in namespaces:  # a paused node does not notice that the lab has ended
        inside = subprocess.run(["ip", "netns", "pids", Path(namespace).name], capture_output=True, text=True)
        for pid in map(int, inside.stdout.split()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    for path in directory.glob("*.ext4"):
        unmount(path.with_suffix(""))
        path.unlink()
    for namespace in namespaces:
        subprocess.run(["ip", "netns", "del", Path(namespace).name])


if __name__ == "__main__":
    keep(sys.argv[1], Path(sys.argv[2]))
