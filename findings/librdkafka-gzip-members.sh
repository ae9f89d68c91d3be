#!/bin/sh
# Software: confluent-kafka 2.16.1 (librdkafka 2.16.0), kafka-python 3.0.12 and aiokafka 0.14.0 to compare, Apache Kafka 4.4.0 (broker)
# Behaviour: gzip data may be of several members, one behind the other (RFC 1952, 2.2). Of a batch whose records are two
#     members the broker takes all. kafka-python and aiokafka read all of them; librdkafka hands out those of the first
#     member and then says that the end of the partition is reached, without an error. Of several zstd frames all three
#     read all; several LZ4 frames are refused by the broker (INVALID_RECORD).
# Why it matters: tools that compress in parallel or append to compressed data write members. Nobody notices the records that
#     are missing, since neither lag nor log says so. Write one member per batch.
# Seen:
#     broker: gzip of two members NONE, zstd of two frames NONE, LZ4 of two frames INVALID_RECORD
#     gzip: librdkafka 5 of 10 up to the end, errors: none; kafka-python 10; aiokafka 10
#     zstd: librdkafka 10 of 10 up to the end, errors: none; kafka-python 10; aiokafka 10
set -eu
work=$(mktemp -d)
. "$(dirname "$0")/kafka-broker"
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check confluent-kafka==2.16.1 kafka-python==3.0.12 aiokafka==0.14.0 \
    cramjam==2.14.0 google-crc32c==1.9.0 zstandard==0.25.0

"$work/venv/bin/python" - "$bootstrap" <<'EOF'
import asyncio
import gzip
import socket
import struct
import sys
import time

import aiokafka
import cramjam
import google_crc32c
import kafka
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

BOOTSTRAP = sys.argv[1]
RECORDS = 10
ERRORS = {0: "NONE", 87: "INVALID_RECORD"}


def varint(number):
    number = number << 1 ^ number >> 63
    out = b""
    while number >= 0x80:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def record(delta):
    value = b"value-%d" % delta
    body = b"\0" + varint(0) + varint(delta) + varint(-1) + varint(len(value)) + value + varint(0)
    return varint(len(body)) + body


def batch(codec, compress):
    """A record batch v2 whose records are compressed in two halves, one behind the other."""
    halves = [b"".join(record(delta) for delta in range(start, start + RECORDS // 2)) for start in (0, RECORDS // 2)]
    now_ms = int(time.time() * 1000)
    tail = struct.pack(">hiqqqhii", codec, RECORDS - 1, now_ms, now_ms, -1, -1, -1, RECORDS)
    tail += b"".join(bytes(compress(half)) for half in halves)
    return struct.pack(">qiibI", 0, len(tail) + 9, -1, 2, google_crc32c.value(tail)) + tail


def produce(topic, frame):
    """Produce v7, acks=all; the error code."""
    name = topic.encode()
    request = struct.pack(">hhih", 0, 7, 1, 4) + b"test" + struct.pack(">hhii", -1, -1, 10000, 1)
    request += struct.pack(">h", len(name)) + name + struct.pack(">iii", 1, 0, len(frame)) + frame
    host, port = BOOTSTRAP.split(":")
    with socket.create_connection((host, int(port)), 30) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        with connection.makefile("rb") as answers:
            answer = answers.read(struct.unpack(">i", answers.read(4))[0])
    return struct.unpack_from(">h", answer, 4 + 4 + 2 + len(name) + 4 + 4)[0]


def with_librdkafka(topic):
    consumer = Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": "g", "check.crcs": True, "enable.partition.eof": True})
    consumer.assign([TopicPartition(topic, 0, 0)])
    count, errors, at_end = 0, [], False
    deadline_s = time.monotonic() + 30
    while time.monotonic() < deadline_s:
        message = consumer.poll(0.5)
        if message is None:
            continue
        if message.error():
            if message.error().name() == "_PARTITION_EOF":
                at_end = True
                break
            errors.append(message.error().name())
        else:
            count += 1
    consumer.close()
    return count, at_end, errors


def with_kafka_python(topic):
    consumer = kafka.KafkaConsumer(bootstrap_servers=BOOTSTRAP, enable_auto_commit=False)
    partition = kafka.TopicPartition(topic, 0)
    consumer.assign([partition])
    consumer.seek(partition, 0)
    count, deadline_s = 0, time.monotonic() + 30
    while count < RECORDS and time.monotonic() < deadline_s:
        count += sum(len(records) for records in consumer.poll(1000).values())
    consumer.close()
    return count


async def with_aiokafka(topic):
    consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=BOOTSTRAP, enable_auto_commit=False)
    await consumer.start()
    partition = aiokafka.TopicPartition(topic, 0)
    consumer.assign([partition])
    consumer.seek(partition, 0)
    count, deadline_s = 0, time.monotonic() + 30
    while count < RECORDS and time.monotonic() < deadline_s:
        count += sum(len(records) for records in (await consumer.getmany(timeout_ms=1000)).values())
    await consumer.stop()
    return count




def lz4(data):
    """The blocks independent of each other, as Kafka has them (KIP-57)."""
    compressor = cramjam.lz4.Compressor(level=1, block_linked=False)
    compressor.compress(data)
    return compressor.finish()


codecs = {"gzip": (1, gzip.compress), "zstd": (4, cramjam.zstd.compress), "lz4": (3, lz4)}
admin = AdminClient({"bootstrap.servers": BOOTSTRAP})
for created in admin.create_topics([NewTopic(topic, 1, 1) for topic in codecs]).values():
    created.result(30)
taken = {}
for topic, codec in codecs.items():
    deadline_s = time.monotonic() + 30
    while (code := produce(topic, batch(*codec))) in (3, 5, 6) and time.monotonic() < deadline_s:
        time.sleep(0.2)  # the new topic is not led yet
    taken[topic] = code
print(
    f"broker: gzip of two members {ERRORS[taken['gzip']]}, zstd of two frames {ERRORS[taken['zstd']]}, "
    f"LZ4 of two frames {ERRORS[taken['lz4']]}"
)
seen = {}
for topic in ("gzip", "zstd"):
    count, at_end, errors = with_librdkafka(topic)
    others = with_kafka_python(topic), asyncio.run(with_aiokafka(topic))
    seen[topic] = count, at_end, errors, *others
    print(
        f"{topic}: librdkafka {count} of {RECORDS}{' up to the end' if at_end else ''}, errors: {', '.join(errors) or 'none'}; "
        f"kafka-python {others[0]}; aiokafka {others[1]}"
    )
expected = {"gzip": (5, True, [], 10, 10), "zstd": (10, True, [], 10, 10)}
sys.exit((taken, seen) != ({"gzip": 0, "zstd": 0, "lz4": 87}, expected))
EOF
