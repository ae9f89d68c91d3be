#!/bin/sh
# Software: Apache Kafka 4.4.0 (broker), confluent-kafka 2.16.1 (librdkafka 2.16.0)
# Behaviour: min.insync.replicas is cut down to the number of replicas. A topic with one replica and
#     min.insync.replicas=2 is created without a word and acknowledges acks=all. DescribeConfigs still shows 2. The same
#     was seen with the brokers 3.9.1 and 4.1.1; 3.4.1 acknowledged nothing.
# Why it matters: with older brokers a topic that was made with too few replicas could not be written to, which somebody noticed.
#     Now acks=all is answered with a single copy while the configuration says that there are two. An audit has to compare
#     min.insync.replicas with the number of replicas.
# Seen:
#     topic has 1 replica, min.insync.replicas=2
#     acks=all: stored at offset 0
set -eu
work=$(mktemp -d)
. "$(dirname "$0")/kafka-broker"
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check confluent-kafka==2.16.1

"$work/venv/bin/python" - "$bootstrap" <<'EOF'
import sys

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

servers = {"bootstrap.servers": sys.argv[1]}
admin = AdminClient(servers)
admin.create_topics([NewTopic("orders", 1, 1, config={"min.insync.replicas": "2"})])["orders"].result(30)

resource = ConfigResource("topic", "orders")
configured = admin.describe_configs([resource])[resource].result(30)["min.insync.replicas"].value
replicas = len(admin.list_topics("orders", timeout=30).topics["orders"].partitions[0].replicas)
print(f"topic has {replicas} replica, min.insync.replicas={configured}")

delivered = []
producer = Producer({**servers, "acks": "all", "delivery.timeout.ms": 10000})
producer.produce("orders", b"one", on_delivery=lambda error, message: delivered.append((error, message.offset())))
producer.flush(20)
print("acks=all:", *(f"stored at offset {offset}" if error is None else error.name() for error, offset in delivered))
sys.exit((replicas, configured, delivered) != (1, "2", [(None, 0)]))
EOF
