#!/bin/sh
# Software: Apache Kafka 4.4.0 (broker), confluent-kafka 2.16.1 (librdkafka 2.16.0)
# Behaviour: ListOffsets with the timestamp -3 (OffsetSpec.max_timestamp(), KIP-734: the record with the highest timestamp)
#     does not look at the log start. After DeleteRecords it names a deleted record; a search by time does respect
#     the log start and finds a later one.
# Why it matters: who asks when a topic was last written to, or starts to read at its newest record, gets an offset that
#     a Fetch answers with OFFSET_OUT_OF_RANGE. Then auto.offset.reset decides, silently, for the default: the end.
# Seen:
#     newest by timestamp: offset 0
#     after DeleteRecords up to 3: log start 3, newest by timestamp: offset 0, first since the epoch: offset 3
#     reading at 0: _AUTO_OFFSET_RESET
set -eu
work=$(mktemp -d)
. "$(dirname "$0")/kafka-broker"
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check confluent-kafka==2.16.1

"$work/venv/bin/python" - "$bootstrap" <<'EOF'
import sys
import time

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

servers = {"bootstrap.servers": sys.argv[1]}
admin = AdminClient(servers)
admin.create_topics([NewTopic("orders", 1, 1)])["orders"].result(30)

now_ms = int(time.time() * 1000)
producer = Producer({**servers, "linger.ms": 200})
for age_s in range(5):  # the first record is the newest
    producer.produce("orders", b"%d" % age_s, partition=0, timestamp=now_ms - age_s * 1000)
producer.flush(20)


def offset_of(spec: OffsetSpec) -> int:
    (answer,) = admin.list_offsets({TopicPartition("orders", 0): spec}).values()
    return answer.result(30).offset


before = offset_of(OffsetSpec.max_timestamp())
print("newest by timestamp: offset", before)
(deleted,) = admin.delete_records([TopicPartition("orders", 0, 3)]).values()
start = deleted.result(30).low_watermark
after, by_time = offset_of(OffsetSpec.max_timestamp()), offset_of(OffsetSpec.for_timestamp(0))
print(f"after DeleteRecords up to 3: log start {start}, newest by timestamp: offset {after},", end=" ")
print(f"first since the epoch: offset {by_time}")

consumer = Consumer({**servers, "group.id": "readers", "auto.offset.reset": "error"})
consumer.assign([TopicPartition("orders", 0, after)])
message = consumer.poll(20)
outcome = message.error().name() if message is not None and message.error() else "a record"
consumer.close()
print(f"reading at {after}: {outcome}")
sys.exit((before, start, after, by_time, outcome) != (0, 3, 0, 3, "_AUTO_OFFSET_RESET"))
EOF
