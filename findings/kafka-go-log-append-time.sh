#!/bin/sh
# Software: kafka-go 0.4.51 (github.com/segmentio/kafka-go) with Apache Kafka 4.4.0; franz-go 1.22.3 reads to compare
# Behaviour: on a topic with message.timestamp.type=LogAppendTime a kafka-go Reader gives each message the time that its producer
#     wrote, not the broker's. The broker stamps only the head of the batch and sets a bit in it, which kafka-go does not
#     look at; the time in the records stays the producer's.
# Why it matters: LogAppendTime is chosen since producers' clocks are not trusted. Two consumers of one topic disagree by
#     decades on when a record was written, and a seek by time finds other records than Message.Time promises.
# Seen:
#     franz-go: written just now
#     kafka-go: written at 1000 ms since the epoch
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
	"github.com/twmb/franz-go/pkg/kgo"
)

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func written(at time.Time) string {
	if time.Since(at) < 5*time.Minute {
		return "written just now"
	}
	return fmt.Sprintf("written at %d ms since the epoch", at.UnixMilli())
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	broker := os.Args[1]
	conn, err := kafka.Dial("tcp", broker)
	must(err)
	must(conn.CreateTopics(kafka.TopicConfig{Topic: "orders", NumPartitions: 1, ReplicationFactor: 1,
		ConfigEntries: []kafka.ConfigEntry{{ConfigName: "message.timestamp.type", ConfigValue: "LogAppendTime"}}}))

	client, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.DefaultProduceTopic("orders"), kgo.ConsumeTopics("orders"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	must(err)
	must(client.ProduceSync(ctx, &kgo.Record{Value: []byte("one"), Timestamp: time.UnixMilli(1000)}).FirstErr())
	franz := ""
	for franz == "" && ctx.Err() == nil {
		client.PollFetches(ctx).EachRecord(func(r *kgo.Record) { franz = written(r.Timestamp) })
	}
	client.Close()
	fmt.Println("franz-go:", franz)

	reader := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{broker}, Topic: "orders", MaxWait: 500 * time.Millisecond})
	message, err := reader.ReadMessage(ctx)
	must(err)
	reader.Close()
	fmt.Println("kafka-go:", written(message.Time))
	if franz != "written just now" || written(message.Time) != "written at 1000 ms since the epoch" {
		os.Exit(1)
	}
}
EOF
cd "$work"
go mod init findings 2>/dev/null
go get github.com/segmentio/kafka-go@v0.4.51 github.com/twmb/franz-go@v1.22.3 2>/dev/null
go mod tidy 2>/dev/null
go build -o reader main.go
./reader "$bootstrap"
