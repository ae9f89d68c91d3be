#!/bin/sh
# Software: google-crc32c 1.9.0
# Behaviour: value, extend and Checksum of the C implementation refuse a memoryview of bytes, which is read-only, with "must be
#     read-only bytes-like object, not memoryview". The Python implementation, which the package falls back to by itself where no wheel
#     fits, takes it, and a bytearray too.
# Why it matters: a log store sums parts of a buffer and wants no copy. Code written on a machine with the fallback (slow, but
#     right) raises TypeError on one with the wheel, and only copying with bytes(view) works on both.
# Seen:
#     c: bytes 0xe3069283, memoryview (readonly True) TypeError, bytearray TypeError
#     python: bytes 0xe3069283, memoryview (readonly True) 0xe3069283, bytearray 0xe3069283
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check google-crc32c==1.9.0

"$work/venv/bin/python" - <<'EOF'
import sys

from google_crc32c import cext, python

data = b"123456789"
view = memoryview(data)


def outcome(implementation, value) -> str:
    results = set()
    for call in (implementation.value, lambda x: implementation.extend(0, x)):
        try:
            results.add(hex(call(value)))
        except TypeError:
            results.add("TypeError")
    return "/".join(sorted(results))


seen = []
for name, implementation in (("c", cext), ("python", python)):
    row = [outcome(implementation, value) for value in (data, view, bytearray(data))]
    print(f"{name}: bytes {row[0]}, memoryview (readonly {view.readonly}) {row[1]}, bytearray {row[2]}")
    seen.append(row)
sys.exit(seen != [["0xe3069283", "TypeError", "TypeError"], ["0xe3069283"] * 3])
EOF
