#!/bin/sh
# Software: confluent-kafka 2.16.1 (librdkafka 2.16.0)
# Behaviour: in a Metadata request of a flexible version (9 to 13) for all topics the null array of topics, one zero byte, is
#     written as four. A reader takes the other three for the flags and the tagged fields: versions 11 to 13 then have three
#     bytes left over behind their end, versions 9 and 10 a tagged field 0 that is not defined and one byte.
# Why it matters: Kafka's broker skips such a field and ignores what lies behind a request. A server, proxy or decoder that
#     is strict about either, as one is that wants to notice a wrong schema, ends the connection of every librdkafka client that lists
#     the topics, while producing and consuming work. allow_auto_topic_creation=1 is read as 0.
# Seen, with a socket that answers ApiVersions only:
#     Metadata 8, all topics: ffffffff 01 00 00
#     Metadata 9, all topics: 00000000 01 00 00 00, where 00 01 00 00 00 is meant
#     Metadata 13, all topics: 00000000 01 00 00, where 00 01 00 00 is meant
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check confluent-kafka==2.16.1

"$work/venv/bin/python" - <<'EOF'
import socket
import struct
import sys
import threading

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

METADATA, API_VERSIONS = 3, 18
NO_TOPICS = {8: "00000000", 9: "01", 13: "01"}  # the first request asks for none


def serve(listener, newest, bodies):
    """The broker: Metadata up to version `newest`, which it never answers."""
    connection, _ = listener.accept()
    with connection, connection.makefile("rb") as stream:
        while len(head := stream.read(4)) == 4:
            frame = stream.read(struct.unpack(">i", head)[0])
            key, version, number, client_bytes = struct.unpack_from(">hhih", frame)
            if key == API_VERSIONS:
                listed = struct.pack(">hhhb", METADATA, 0, newest, 0) + struct.pack(">hhhb", API_VERSIONS, 0, 3, 0)
                answer = struct.pack(">ihb", number, 0, 3) + listed + struct.pack(">ib", 0, 0)
                connection.sendall(struct.pack(">i", len(answer)) + answer)
                continue
            body = frame[10 + client_bytes + (version >= 9) :].hex()
            if not body.startswith(NO_TOPICS[version]):
                bodies[version] = body
                return


bodies = {}
for newest in NO_TOPICS:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        broker = threading.Thread(target=serve, args=(listener, newest, bodies))
        broker.start()
        client = AdminClient({"bootstrap.servers": f"127.0.0.1:{listener.getsockname()[1]}", "log_level": 0})
        try:
            client.list_topics(timeout=3)
        except KafkaException:
            pass  # it is not answered
        broker.join(30)
for version, body in bodies.items():
    print(f"Metadata {version}, all topics: {body[:8]}", *(body[at : at + 2] for at in range(8, len(body), 2)))
sys.exit(bodies != {8: "ffffffff010000", 9: "0000000001000000", 13: "00000000010000"})
EOF
