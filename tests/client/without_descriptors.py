"""Clients of a process that may open almost no more descriptors. Run by test_links.py; says what became of each."""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from raftlog import Producer
from raftlog.errors import NoBrokersAvailableError
from tests.patience import WAIT_S


def opened() -> int:
    return len(os.listdir("/proc/self/fd"))


def settle(before: int) -> None:
    """ZeroMQ closes what a client had in a thread of its own, some time after the client has ended."""
    deadline_s = time.monotonic() + WAIT_S
    while opened() > before:
        assert time.monotonic() < deadline_s, "a client that has ended keeps descriptors"
        time.sleep(0.01)


@contextmanager
def left(count: int) -> Iterator[None]:
    """Only so many may be opened within."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [int(name) for name in os.listdir("/proc/self/fd")]
    lowest = next(number for number in range(1 << 16) if number not in taken)
    # What is open above the limit stays open, and holes below it could be filled: so there are none.
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(max(taken) + 1 - lowest)]
    top = max(int(name) for name in os.listdir("/proc/self/fd")) + 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (top + count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for descriptor in held:
            os.close(descriptor)


def made(bootstrap: str, timeout_ms: float) -> str:
    try:
        producer = Producer(bootstrap, bootstrap_timeout_ms=timeout_ms)
    except (NoBrokersAvailableError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    producer.send("t", b"x").result(WAIT_S)
    producer.close()
    return "made"


def main() -> None:
    bootstrap = sys.argv[1]
    for count in range(8):
        with left(count):
            print("first", count, made(bootstrap, 300))
    with Producer(bootstrap) as other:
        other.send("t", b"x").result(WAIT_S)
        before = opened()
        for count in range(8):
            with left(count):
                print("second", count, made(bootstrap, 300))
            settle(before)
        told: list[str] = []
        with left(1):
            waiting = threading.Thread(target=lambda: told.append(made(bootstrap, 20_000)))
            waiting.start()
            waiting.join(0.5)
            print("waits", waiting.is_alive())
        waiting.join()
        print("later", *told)
        other.send("t", b"x").result(WAIT_S)
        print("other works")


if __name__ == "__main__":
    main()
