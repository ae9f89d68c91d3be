#!/bin/sh
# Software: zstandard 0.25.0 (python-zstandard), cramjam 2.14.0 to compare
# Behaviour: for data that begins with a skippable frame (RFC 8878, 3.1.2) frame_content_size says that the content is empty, and
#     get_frame_parameters gives the length of what is to be skipped as its size, with nothing that tells the frame's kind.
#     ZstdDecompressor().decompress raises. stream_reader with read_across_frames=True and cramjam read the data.
# Why it matters: a reader that allocates by the declared size, or refuses by it, believes a number that has nothing to do with
#     the data. pzstd and the seekable format write such frames, and so may any producer of a batch.
# Seen, 40 bytes of data behind a skippable frame of 3:
#     frame_content_size: 0, get_frame_parameters: 3
#     decompress: ZstdError, stream_reader: 40 bytes, cramjam: 40 bytes
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check zstandard==0.25.0 cramjam==2.14.0

"$work/venv/bin/python" - <<'EOF'
import struct
import sys

import cramjam
import zstandard

data = b"ten bytes." * 4
skippable = struct.pack("<II", 0x184D2A50, 3) + b"abc"
stored = skippable + zstandard.ZstdCompressor().compress(data)

sizes = [zstandard.frame_content_size(stored), zstandard.get_frame_parameters(stored).content_size]
print(f"frame_content_size: {sizes[0]}, get_frame_parameters: {sizes[1]}")
try:
    whole = f"{len(zstandard.ZstdDecompressor().decompress(stored))} bytes"
except zstandard.ZstdError:
    whole = "ZstdError"
streamed = zstandard.ZstdDecompressor().stream_reader(stored, read_across_frames=True).read()
other = bytes(cramjam.zstd.decompress(stored))
print(f"decompress: {whole}, stream_reader: {len(streamed)} bytes, cramjam: {len(other)} bytes")
sys.exit((sizes, whole, streamed, other) != ([0, 3], "ZstdError", data, data))
EOF
