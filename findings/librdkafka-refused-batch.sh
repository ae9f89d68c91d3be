#!/bin/sh
# Software: confluent-kafka 2.16.1 (librdkafka 2.16.0) with Apache Kafka 4.4.0 (broker)
# Behaviour: the broker refuses a whole batch for one record that is dated too far ahead, and names that record in its
#     answer. librdkafka reports INVALID_TIMESTAMP for every record of the batch, also for those that are right
#     (not _INVALID_DIFFERENT_RECORD), and the reports of all but the first carry an offset: 0, 1, … although nothing was written.
# Why it matters: a producer that drops, or sets aside, what is reported as invalid loses good records that shared a batch with
#     a bad one; and a callback that takes an offset for a sign of success counts records that do not exist.
# Seen:
#     record 0 good: INVALID_TIMESTAMP, offset None
#     record 1 two days ahead: INVALID_TIMESTAMP, offset 0
#     record 2 good: INVALID_TIMESTAMP, offset 1
#     the partition holds 0 records
set -eu
work=$(mktemp -d)
. "$(dirname "$0")/kafka-broker"
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check confluent-kafka==2.16.1

"$work/venv/bin/python" - "$bootstrap" <<'EOF'
import sys
import time

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

servers = {"bootstrap.servers": sys.argv[1]}
settings = {"message.timestamp.after.max.ms": "3600000"}
admin = AdminClient(servers)
admin.create_topics([NewTopic("orders", 1, 1, config=settings)])["orders"].result(30)

now_ms = int(time.time() * 1000)
records = [("good", now_ms), ("two days ahead", now_ms + 2 * 86_400_000), ("good", now_ms)]
reports = [None] * len(records)
producer = Producer({**servers, "linger.ms": 1000})
for i, (name, timestamp_ms) in enumerate(records):

    def report(error, message, i=i):
        reports[i] = (error and error.name(), message.offset())

    producer.produce("orders", name.encode(), partition=0, timestamp=timestamp_ms, on_delivery=report)
producer.flush(20)
for i, (name, _) in enumerate(records):
    print(f"record {i} {name}: {reports[i][0]}, offset {reports[i][1]}")

consumer = Consumer({**servers, "group.id": "readers"})
bounds = consumer.get_watermark_offsets(TopicPartition("orders", 0), timeout=20)
consumer.close()
print(f"the partition holds {bounds[1] - bounds[0]} records")
sys.exit((reports, bounds) != ([("INVALID_TIMESTAMP", offset) for offset in (None, 0, 1)], (0, 0)))
EOF
