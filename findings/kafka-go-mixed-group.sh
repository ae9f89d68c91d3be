#!/bin/sh
# Software: kafka-go 0.4.51 (github.com/segmentio/kafka-go), librdkafka 2.16.0 (confluent-kafka 2.16.1), Apache Kafka 4.4.0
# Behaviour: in one group with a consumer of librdkafka, both with `range`, the kafka-go member is given no partition for as
#     long as the other is there. kafka-go writes its subscription as version 1 without the owned partitions that belong to
#     version 1, and reads no subscription that has more. So librdkafka as the group's leader cannot read kafka-go's (one
#     line, PROTOUFLOW), and kafka-go as the leader cannot read librdkafka's (an error that only its ErrorLogger gets).
# Why it matters: a service that moves from one language to the other member by member, which groups are made for, is idle on
#     one side without an error that the program sees.
# Seen:
#     alone: kafka-go has 4 partitions
#     beside librdkafka: kafka-go has 0 partitions, librdkafka has 4
set -eu
work=$(mktemp -d)
. "$(dirname "$0")/kafka-broker"

cat >"$work/main.go" <<'EOF'
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/segmentio/kafka-go"
)

// A Reader with a GroupID does the same behind its back; this shows what it is given.
func main() {
	group, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{ID: "billing", Brokers: []string{os.Args[1]},
		Topics: []string{"orders"}, GroupBalancers: []kafka.GroupBalancer{kafka.RangeGroupBalancer{}},
		HeartbeatInterval: 500 * time.Millisecond})
	if err != nil {
		log.Fatal(err)
	}
	for {
		if generation, err := group.Next(context.Background()); err == nil {
			fmt.Println(len(generation.Assignments["orders"]))
		}
	}
}
EOF
cat >"$work/beside.py" <<'EOF'
import subprocess
import sys
import threading
import time

import confluent_kafka as ck
from confluent_kafka.admin import AdminClient, NewTopic

bootstrap = sys.argv[1]
admin = AdminClient({"bootstrap.servers": bootstrap})
admin.create_topics([NewTopic("orders", 4, 1)])["orders"].result()
member = subprocess.Popen(["./member", bootstrap], stdout=subprocess.PIPE, text=True)
shares = []


def follow():
    for line in member.stdout:
        shares.append(int(line))


def wait(true, step):
    end_s = time.monotonic() + 60
    while not true() and time.monotonic() < end_s:
        step()


threading.Thread(target=follow, daemon=True).start()
wait(lambda: 4 in shares, lambda: time.sleep(0.2))
print(f"alone: kafka-go has {shares[-1]} partitions")
consumer = ck.Consumer({
    "bootstrap.servers": bootstrap, "group.id": "billing", "partition.assignment.strategy": "range", "log_level": 0,
})
consumer.subscribe(["orders"])
wait(lambda: shares[-1] == 0 and consumer.assignment(), lambda: consumer.poll(0.5))
for _ in range(20):  # nor does it get better
    consumer.poll(0.5)
print(f"beside librdkafka: kafka-go has {shares[-1]} partitions, librdkafka has {len(consumer.assignment())}")
seen = (shares[-1], len(consumer.assignment()))
consumer.close()
member.kill()
member.wait()
sys.exit(seen != (0, 4))
EOF
cd "$work"
go mod init findings 2>/dev/null
go get github.com/segmentio/kafka-go@v0.4.51 2>/dev/null
go mod tidy 2>/dev/null
go build -o member main.go
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check confluent-kafka==2.16.1
venv/bin/python beside.py "$bootstrap"
