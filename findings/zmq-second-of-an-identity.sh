#!/bin/sh
# Software: pyzmq 27.3.0 (libzmq of its wheel: 4.3.5)
# Behaviour: a DEALER that connects to a ROUTER under the identity of another DEALER that is still connected completes its handshake,
#     is writable, and is never heard: its messages are accepted and vanish. That does not end when the first one
#     closes: the connection stays, unheard, and nothing makes it reconnect. A third DEALER of the same identity is heard.
# Why it matters: a client that restarts faster than the server notices its end is cut off for good, though its monitor says
#     HANDSHAKE_SUCCEEDED and its sends succeed. Without ZMQ_ROUTER_HANDOVER only a new connection helps, and no event asks for one.
# Seen:
#     first: heard [b'from first']
#     second: HANDSHAKE_SUCCEEDED, writable True, heard []
#     second, when the first had gone: writable True, heard [], later events []
#     third: heard [b'from third']
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check pyzmq==27.3.0

"$work/venv/bin/python" - <<'EOF'
import sys
import time

import zmq
from zmq.utils.monitor import recv_monitor_message

context = zmq.Context()
router = context.socket(zmq.ROUTER)
port = router.bind_to_random_port("tcp://127.0.0.1")
router_events = router.get_monitor_socket()


def dealer():
    made = context.socket(zmq.DEALER)
    made.identity = b"client-7"
    made.linger = 0
    events = made.get_monitor_socket()
    made.connect(f"tcp://127.0.0.1:{port}")
    return made, events


def heard(wait_ms: int) -> list[bytes]:
    found = []
    while router.poll(wait_ms):
        found.append(router.recv_multipart()[1])
    return found


def wait_for(monitor, event: zmq.Event) -> bool:
    deadline_s = time.monotonic() + 20
    while time.monotonic() < deadline_s:
        if monitor.poll(200) and recv_monitor_message(monitor)["event"] == event:
            return True
    return False


def later(monitor) -> list[str]:
    found = []
    while monitor.poll(100):
        found.append(zmq.Event(recv_monitor_message(monitor)["event"]).name)
    return found


def writable(socket) -> bool:
    return bool(socket.poll(0, zmq.POLLOUT))


first, _ = dealer()
first.send(b"from first")
seen = [heard(2000)]
print("first: heard", seen[0])

second, events = dealer()
greeted = wait_for(events, zmq.EVENT_HANDSHAKE_SUCCEEDED)
second.send(b"from second")
seen += [greeted, writable(second), heard(2000)]
print(f"second: {'HANDSHAKE_SUCCEEDED' if greeted else 'no handshake'}, writable {seen[-2]}, heard {seen[-1]}")

first.close()
gone = wait_for(router_events, zmq.EVENT_DISCONNECTED)
second.send(b"from second again")
seen += [gone, writable(second), heard(3000), later(events)]
print(f"second, when the first had gone: writable {seen[-3]}, heard {seen[-2]}, later events {seen[-1]}")

third, _ = dealer()
third.send(b"from third")
seen.append(heard(2000))
print("third: heard", seen[-1])
context.destroy(linger=0)
sys.exit(seen != [[b"from first"], True, True, [], True, True, [], [], [b"from third"]])
EOF
