#!/bin/sh
# Software: kafka-go 0.4.51 (github.com/segmentio/kafka-go) with Apache Kafka 4.4.0; franz-go 1.22.3 writes, and reads to compare
# Behaviour: a kafka-go Reader with IsolationLevel ReadCommitted hands out the records of aborted transactions, and the markers
#     that end transactions (6 bytes of value) as if they were messages. franz-go hands out what was committed.
# Why it matters: the broker leaves it to the client to drop aborted records. An application that chose ReadCommitted for
#     exactly that carries out what was rolled back, and tries to parse bytes that nobody sent.
# Seen:
#     franz-go read committed: [committed]
#     kafka-go read committed: [aborted 000000000000 committed 000000000000]
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

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	broker := os.Args[1]
	conn, err := kafka.Dial("tcp", broker)
	must(err)
	must(conn.CreateTopics(kafka.TopicConfig{Topic: "orders", NumPartitions: 1, ReplicationFactor: 1}))

	writer, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.TransactionalID("writer"), kgo.DefaultProduceTopic("orders"))
	must(err)
	for _, end := range []struct {
		value  string
		commit kgo.TransactionEndTry
	}{{"aborted", kgo.TryAbort}, {"committed", kgo.TryCommit}} {
		must(writer.BeginTransaction())
		must(writer.ProduceSync(ctx, kgo.StringRecord(end.value)).FirstErr())
		must(writer.EndTransaction(ctx, end.commit))
	}
	writer.Close()

	other, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.ConsumeTopics("orders"), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	must(err)
	var franz []string
	for len(franz) == 0 && ctx.Err() == nil {
		other.PollFetches(ctx).EachRecord(func(r *kgo.Record) { franz = append(franz, string(r.Value)) })
	}
	other.Close()
	fmt.Println("franz-go read committed:", franz)

	reader := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{broker}, Topic: "orders",
		IsolationLevel: kafka.ReadCommitted, MaxWait: 500 * time.Millisecond})
	var read []string
	for {
		wait, stop := context.WithTimeout(ctx, 8*time.Second)
		message, err := reader.ReadMessage(wait)
		stop()
		if err != nil {
			break
		}
		if len(message.Value) == 6 {
			read = append(read, fmt.Sprintf("%x", message.Value))
		} else {
			read = append(read, string(message.Value))
		}
	}
	reader.Close()
	fmt.Println("kafka-go read committed:", read)
	if fmt.Sprint(franz, read) != "[committed] [aborted 000000000000 committed 000000000000]" {
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
