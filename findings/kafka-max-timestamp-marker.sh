#!/bin/sh
# Software: Apache Kafka 4.4.0 (broker), confluent-kafka 2.16.1 (librdkafka 2.16.0)
# Behaviour: ListOffsets counts the markers that end a transaction as records. After an aborted transaction the "record with the
#     highest timestamp" (OffsetSpec.max_timestamp()) and a search by time both answer with the offset and the time of the
#     marker, which no consumer is ever handed.
# Why it matters: a monitor that takes this for the time of the newest record sees a topic as fresh while all that is written
#     to it is aborted; a consumer that seeks there and waits for the record it was promised waits for the next one.
# Seen:
#     readable records: offsets [0], the log ends at 4
#     newest by timestamp: offset 3, 2 s or more after record 0
#     first record 1 s after record 0 or later: offset 3
set -eu
work=$(mktemp -d)
. "$(dirname "$0")/kafka-broker"
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check confluent-kafka==2.16.1

"$work/venv/bin/python" - "$bootstrap" <<'EOF'
import sys
import time

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

servers = {"bootstrap.servers": sys.argv[1]}
partition = TopicPartition("orders", 0, 0)
admin = AdminClient(servers)
admin.create_topics([NewTopic("orders", 1, 1)])["orders"].result(30)

transactional = Producer({**servers, "transactional.id": "writer"})
transactional.init_transactions(30)
transactional.begin_transaction()
now_ms = int(time.time() * 1000)
plain = Producer(servers)
plain.produce("orders", b"plain", partition=0, timestamp=now_ms)
plain.flush(20)
for value in (b"aborted 1", b"aborted 2"):
    transactional.produce("orders", value, partition=0, timestamp=now_ms)
transactional.flush(20)
time.sleep(2)
transactional.abort_transaction(30)

consumer = Consumer({**servers, "group.id": "readers", "enable.partition.eof": True})  # read_committed by default
deadline_s = time.monotonic() + 20
while consumer.get_watermark_offsets(partition, timeout=20)[1] < 4 and time.monotonic() < deadline_s:
    time.sleep(0.1)  # the marker is written behind the answer to the abort
consumer.assign([partition])
readable, end = [], None
while end is None and time.monotonic() < deadline_s:
    message = consumer.poll(1)
    if message is not None and message.error() is None:
        readable.append(message.offset())
    elif message is not None and message.error().code() == KafkaError._PARTITION_EOF:
        end = message.offset()
consumer.close()
print(f"readable records: offsets {readable}, the log ends at {end}")


def ask(spec: OffsetSpec) -> tuple[int, int]:
    (answer,) = admin.list_offsets({TopicPartition("orders", 0): spec}).values()
    found = answer.result(30)
    return found.offset, found.timestamp


newest, newest_ms = ask(OffsetSpec.max_timestamp())
later, _ = ask(OffsetSpec.for_timestamp(now_ms + 1000))
late = newest_ms - now_ms >= 2000
print(f"newest by timestamp: offset {newest},", "2 s or more after record 0" if late else f"at {newest_ms}, now {now_ms}")
print(f"first record 1 s after record 0 or later: offset {later}")
sys.exit((readable, end, newest, late, later) != ([0], 4, 3, True, 3))
EOF
