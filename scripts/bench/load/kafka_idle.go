package main

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	attendWait = 500 * time.Millisecond // of a fetch that finds nothing: what Kafka's own consumer has by default
	holdWait   = 20 * time.Second       // for the answer to the only request of a connection
)

// Hold opens plain connections, spread over the brokers, and asks each for its ApiVersions, as clients do first.
func (k *kafka) Hold() (func() int, error) {
	request := kmsg.NewPtrApiVersionsRequest()
	asked := kmsg.NewRequestFormatter().AppendRequest(nil, request, 1)
	connections := make([]net.Conn, 0, k.plan.InFlight)
	for i := range k.plan.InFlight {
		connection, err := net.Dial("tcp", k.plan.Addresses[i%len(k.plan.Addresses)])
		if err != nil {
			return nil, err
		}
		connection.SetDeadline(time.Now().Add(holdWait))
		if _, err := connection.Write(asked); err != nil {
			return nil, err
		}
		var length [4]byte
		if _, err := io.ReadFull(connection, length[:]); err != nil {
			return nil, err
		}
		if _, err := io.CopyN(io.Discard, connection, int64(binary.BigEndian.Uint32(length[:]))); err != nil {
			return nil, err
		}
		connections = append(connections, connection)
	}
	return func() int { return stillOpen(connections) }, nil
}

// stillOpen counts those whose servers have neither said nor closed anything.
func stillOpen(connections []net.Conn) int {
	open := 0
	for _, connection := range connections {
		connection.SetReadDeadline(time.Now().Add(time.Millisecond / 10))
		if _, err := connection.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
			open++
		}
	}
	return open
}

// answers counts what one client was answered.
type answers struct{ count atomic.Int64 }

func (a *answers) OnBrokerE2E(_ kgo.BrokerMetadata, _ int16, _ kgo.BrokerE2E) { a.count.Add(1) }

// Attend is franz-go's own consumer, from the end of all partitions on, with fetch sessions.
func (k *kafka) Attend() (func() int, error) {
	seen := &answers{}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(k.plan.Addresses...),
		kgo.ConsumeTopics(k.plan.Topic),
		kgo.FetchMaxWait(attendWait),
		kgo.WithHooks(seen),
	)
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			client.PollFetches(context.Background())
		}
	}()
	return func() int { return int(seen.count.Load()) }, nil
}
