package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

const (
	kafkaTimeoutMs  = 30_000
	kafkaFetchBytes = 1 << 20
)

// kafka sends record batches that are built beforehand, with acks=all, and counts fetched records by the
// headers of their batches. Batches, not records, go through franz-go: its producer would choose how many
// records a batch has. Apache Kafka works on one request of a connection after the other, hence Connections.
type kafka struct {
	plan    Plan
	records [][]byte
	batch   []byte
	options []kgo.Opt
	clients []*kgo.Client
	leader  int32
}

func (k *kafka) Prepare() error {
	k.batch = k.recordBatch()
	options := []kgo.Opt{
		kgo.SeedBrokers(k.plan.Addresses...),
		kgo.MaxVersions(kversion.V2_8_0()), // the last with fetches by topic name
	}
	if k.plan.Security != "" {
		settings, err := secured(k.plan.Security)
		if err != nil {
			return err
		}
		options = append(options, kgo.DialTLSConfig(settings))
	}
	k.options = options
	for range k.plan.Connections {
		client, err := kgo.NewClient(options...)
		if err != nil {
			return err
		}
		k.clients = append(k.clients, client)
	}
	if k.plan.Mode == "produce" || k.plan.Mode == "attend" {
		if err := eventually(k.create); err != nil { // brokers may still be coming
			return err
		}
	}
	if k.plan.Mode == "hold" {
		return nil
	}
	return k.findLeader()
}

func (k *kafka) create() error {
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = k.plan.Topic, int32(k.plan.Partitions), int16(k.plan.Replicas)
	request := kmsg.NewPtrCreateTopicsRequest()
	request.Topics, request.TimeoutMillis = append(request.Topics, topic), kafkaTimeoutMs
	response, err := request.RequestWith(context.Background(), k.clients[0])
	if err != nil {
		return err
	}
	err = kerr.ErrorForCode(response.Topics[0].ErrorCode)
	if errors.Is(err, kerr.TopicAlreadyExists) {
		return nil
	}
	return err
}

// findLeader waits until all replicas are in sync, since the first batches would wait for them otherwise.
func (k *kafka) findLeader() error {
	request := kmsg.NewPtrMetadataRequest()
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = &k.plan.Topic
	request.Topics = append(request.Topics, topic)
	return eventually(func() error {
		response, err := request.RequestWith(context.Background(), k.clients[0])
		if err != nil {
			return err
		}
		led := 0
		for _, partition := range response.Topics[0].Partitions {
			if partition.Leader >= 0 && len(partition.ISR) == len(partition.Replicas) {
				k.leader = partition.Leader
				led++
			}
		}
		if led == 0 || led < k.plan.Partitions {
			return fmt.Errorf("topic %s has not all leaders with all replicas in sync", k.plan.Topic)
		}
		return nil
	})
}

func (k *kafka) Send(connection int, done func(error)) {
	go func() {
		partition := kmsg.NewProduceRequestTopicPartition()
		partition.Records = k.batch
		topic := kmsg.NewProduceRequestTopic()
		topic.Topic, topic.Partitions = k.plan.Topic, append(topic.Partitions, partition)
		request := kmsg.NewPtrProduceRequest()
		request.Acks, request.TimeoutMillis, request.Topics = -1, kafkaTimeoutMs, append(request.Topics, topic)
		response, err := k.clients[connection].Broker(int(k.leader)).Request(context.Background(), request)
		if err == nil {
			err = kerr.ErrorForCode(response.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode)
		}
		done(err)
	}()
}

func (k *kafka) Consume(stop <-chan struct{}, got func(int)) error {
	if k.plan.Mode == "decode" {
		return k.decode(stop, got)
	}
	errs := make(chan error, len(k.clients))
	for _, client := range k.clients {
		go func() { errs <- k.read(client, stop, got) }()
	}
	return <-errs
}

// decode is franz-go's own consumer, which takes every record out of its batch; at the end it begins again.
func (k *kafka) decode(stop <-chan struct{}, got func(int)) error {
	fromStart := map[string]map[int32]kgo.Offset{k.plan.Topic: {0: kgo.NewOffset().AtStart()}}
	options := append(k.options, kgo.ConsumePartitions(fromStart))
	client, err := kgo.NewClient(options...)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-stop
		cancel()
	}()
	for {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err := fetches.Err(); err != nil {
			return err
		}
		got(fetches.NumRecords())
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			if last := len(p.Records) - 1; last >= 0 && p.Records[last].Offset >= p.HighWatermark-1 {
				client.RemoveConsumePartitions(map[string][]int32{k.plan.Topic: {0}})
				client.AddConsumePartitions(fromStart)
			}
		})
	}
}

func (k *kafka) read(client *kgo.Client, stop <-chan struct{}, got func(int)) error {
	for offset := int64(0); ; {
		select {
		case <-stop:
			return nil
		default:
		}
		partition := kmsg.NewFetchRequestTopicPartition()
		partition.FetchOffset, partition.PartitionMaxBytes = offset, kafkaFetchBytes
		topic := kmsg.NewFetchRequestTopic()
		topic.Topic, topic.Partitions = k.plan.Topic, append(topic.Partitions, partition)
		request := kmsg.NewPtrFetchRequest()
		request.MaxBytes, request.SessionEpoch = kafkaFetchBytes, -1
		request.Topics = append(request.Topics, topic)
		response, err := client.Broker(int(k.leader)).Request(context.Background(), request)
		if err != nil {
			return err
		}
		answer := response.(*kmsg.FetchResponse).Topics[0].Partitions[0]
		if err := kerr.ErrorForCode(answer.ErrorCode); err != nil {
			return err
		}
		records := 0
		offset, records = nextOffset(answer.RecordBatches, offset)
		got(records)
		if offset >= answer.HighWatermark {
			offset = 0
		}
	}
}

// nextOffset walks the batches' headers: base offset 8, length 4, …, last offset delta at 23, records at 57.
func nextOffset(batches []byte, offset int64) (int64, int) {
	records := 0
	for len(batches) >= 61 {
		length := 12 + int(binary.BigEndian.Uint32(batches[8:]))
		if length > len(batches) {
			break // the last one is cut
		}
		offset = int64(binary.BigEndian.Uint64(batches)) + int64(binary.BigEndian.Uint32(batches[23:])) + 1
		records += int(binary.BigEndian.Uint32(batches[57:]))
		batches = batches[length:]
	}
	return offset, records
}

// recordBatch is one batch of the plan's records: magic 2, no compression, no producer id.
func (k *kafka) recordBatch() []byte {
	now := time.Now().UnixMilli()
	var encoded []byte
	for i := range k.plan.BatchRecords {
		record := kmsg.NewRecord()
		record.OffsetDelta, record.Value = int32(i), k.records[i%len(k.records)]
		record.Length = int32(len(record.AppendTo(nil))) - 1 // a length of 0 takes one byte itself
		encoded = record.AppendTo(encoded)
	}
	batch := kmsg.RecordBatch{
		Length: int32(49 + len(encoded)), PartitionLeaderEpoch: -1, Magic: 2,
		LastOffsetDelta: int32(k.plan.BatchRecords - 1), FirstTimestamp: now, MaxTimestamp: now,
		ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1,
		NumRecords: int32(k.plan.BatchRecords), Records: encoded,
	}
	bytes := batch.AppendTo(nil)
	crc := crc32.Checksum(bytes[21:], crc32.MakeTable(crc32.Castagnoli))
	binary.BigEndian.PutUint32(bytes[17:], crc)
	return bytes
}
