"""The network between the lab's namespaces: a process that carries packets, and may lose, delay or cut them.

    python -m raftlog.faultlab.switch NAMESPACE=ADDRESS …

In each namespace it makes a TUN device with the address and forwards IPv4 packets between them. A kernel bridge cannot
delay where the kernel has no netem, and cuts only with a packet filter; this needs neither, and cuts and delays each
direction of each pair by itself. On stdin it takes one JSON object per line, {"FROM>TO": [cut, delay_ms, jitter_ms,
loss]}, addresses as given, which replaces all that was said before; it answers each with a line. It ends with stdin.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import json
import os
import random
import selectors
import socket
import struct
import subprocess
import sys
import time

from raftlog.faultlab.shape import Shape

DEVICE = "lab0"
_CLONE_NEWNET = 0x40000000
_TUNSETIFF = 0x400454CA
_IFF_TUN_NO_PI = 0x0001 | 0x1000
# Large packets, as on the loopback device: a process that carries packets is paid by the packet.
_MTU = 60_000
_QUEUE_PACKETS = 5_000
_PACKETS_PER_ROUND = 64


def _open_device(namespace: str, address: str) -> int:
    """A descriptor of a new TUN device in the namespace. Packets keep their order in each direction."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{namespace}", "rb") as handle:
        if libc.setns(handle.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter the network namespace {namespace}")
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH", DEVICE.encode(), _IFF_TUN_NO_PI))
    for command in (
        ["addr", "add", f"{address}/24", "dev", DEVICE],
        ["link", "set", DEVICE, "mtu", str(_MTU), "txqueuelen", str(_QUEUE_PACKETS), "up"],
        ["link", "set", "lo", "up"],
    ):
        subprocess.run(["ip", *command], check=True)
    return device


class Switch:
    def __init__(self, devices: dict[bytes, int]) -> None:
        self._devices = devices
        self._shapes: dict[tuple[bytes, bytes], Shape] = {}
        self._delayed: list[tuple[float, int, int, bytes]] = []
        self._last_s: dict[tuple[bytes, bytes], float] = {}
        self._number = 0
        self._rng = random.Random()

    def shape(self, shapes: dict[tuple[bytes, bytes], Shape]) -> None:
        self._shapes = shapes

    def carry(self, device: int) -> None:
        for _ in range(_PACKETS_PER_ROUND):
            try:
                packet = os.read(device, 65_536)
            except BlockingIOError:
                return
            if packet[0] >> 4 == 4:
                self._forward(packet)

    def _forward(self, packet: bytes) -> None:
        pair = (packet[12:16], packet[16:20])
        target = self._devices.get(pair[1])
        if target is None:
            return
        shape = self._shapes.get(pair)
        if shape is None:
            _write(target, packet)
            return
        if shape.cut or self._rng.random() < shape.loss:
            return
        now_s = time.monotonic()
        due_s = now_s + (shape.delay_ms + self._rng.uniform(0, shape.jitter_ms)) / 1000
        due_s = self._last_s[pair] = max(due_s, self._last_s.get(pair, 0.0))
        self._number += 1
        heapq.heappush(self._delayed, (due_s, self._number, target, packet))

    def deliver_due(self) -> float | None:
        """Sends what has waited long enough; returns how long the next one has to wait."""
        now_s = time.monotonic()
        while self._delayed and self._delayed[0][0] <= now_s:
            _, _, target, packet = heapq.heappop(self._delayed)
            _write(target, packet)
        return self._delayed[0][0] - now_s if self._delayed else None


def _write(device: int, packet: bytes) -> None:
    try:
        os.write(device, packet)
    except OSError:
        pass  # a full queue or a device that is going down: packets get lost, as on any network


def main(arguments: list[str]) -> None:
    devices: dict[bytes, int] = {}
    for argument in arguments:
        namespace, _, address = argument.partition("=")
        devices[socket.inet_aton(address)] = _open_device(namespace, address)
    switch = Switch(devices)
    selector = selectors.DefaultSelector()
    for device in devices.values():
        selector.register(device, selectors.EVENT_READ)
    selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
    print("ready", flush=True)
    said = b""
    while True:
        for key, _ in selector.select(switch.deliver_due()):
            if key.fd != sys.stdin.fileno():
                switch.carry(key.fd)
                continue
            data = os.read(key.fd, 65_536)
            if not data:
                return
            *lines, said = (said + data).split(b"\n")
            for line in lines:
                switch.shape(
                    {
                        (socket.inet_aton(pair.split(">")[0]), socket.inet_aton(pair.split(">")[1])): Shape(*shape)
                        for pair, shape in json.loads(line).items()
                    }
                )
                print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
