#!/bin/sh
# Software: cramjam 2.14.0
# Behaviour: decompress(data, output_len=N) is neither a hint nor a bound. An N that is too small changes nothing: all the data comes
#     back. An N that is too large comes back as N bytes, filled up with zeros, without an error; but for snappy.decompress_raw,
#     which then returns just the data.
# Why it matters: for formats that do not state their size (most clients' zstd and lz4) N is a guess. A generous guess hands zeros
#     to the parser behind it, which in a Kafka batch look like records of length 0; and N bounds no memory.
# Seen, 300 bytes of data:
#     zstd: output_len 10 -> 300 bytes, 1000 -> 1000 bytes
#     lz4: output_len 10 -> 300 bytes, 1000 -> 1000 bytes
#     gzip: output_len 10 -> 300 bytes, 1000 -> 1000 bytes
#     snappy: output_len 10 -> 300 bytes, 1000 -> 1000 bytes
#     snappy raw: output_len 10 -> 300 bytes, 1000 -> 300 bytes
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check cramjam==2.14.0

"$work/venv/bin/python" - <<'EOF'
import sys

from cramjam import gzip, lz4, snappy, zstd

data = b"abc" * 100
codecs = {
    "zstd": (zstd.compress, zstd.decompress),
    "lz4": (lz4.compress, lz4.decompress),
    "gzip": (gzip.compress, gzip.decompress),
    "snappy": (snappy.compress, snappy.decompress),
    "snappy raw": (snappy.compress_raw, snappy.decompress_raw),
}
right = True
for name, (compress, decompress) in codecs.items():
    small, large = (bytes(decompress(compress(data), output_len=length)) for length in (10, 1000))
    print(f"{name}: output_len 10 -> {len(small)} bytes, 1000 -> {len(large)} bytes")
    right &= small == data and large == (data if name == "snappy raw" else data.ljust(1000, b"\0"))
sys.exit(not right)
EOF
