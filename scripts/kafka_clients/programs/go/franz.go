package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// franz is franz-go (kgo) with its admin client (kadm).
type franz struct {
	common []kgo.Opt
	admin  *kadm.Client
	client *kgo.Client // the member's
	member *member
	end    context.CancelFunc
	ended  chan struct{}
}

func franzOperations() map[string]operation {
	f := &franz{}
	return map[string]operation{
		"hello": f.hello, "metadata": f.describeTopic, "produce": f.produce, "consume": f.consume,
		"join": f.join, "commit": f.commit, "leave": f.leave,
		"state":        func(ctx context.Context, r request) (object, error) { return f.member.state(ctx, r) },
		"create-topic": f.createTopic, "list-topics": f.listTopics, "describe-topic": f.describeTopic,
		"describe-configs": f.describeConfigs, "alter-configs": f.alterConfigs, "replace-configs": f.replaceConfigs,
		"create-partitions": f.createPartitions, "delete-records": f.deleteRecords, "list-offsets": f.listOffsets,
		"list-groups": f.listGroups, "describe-group": f.describeGroup, "group-offsets": f.groupOffsets,
		"alter-group-offsets": f.alterGroupOffsets, "delete-group-offsets": f.deleteGroupOffsets,
		"delete-group": f.deleteGroup, "delete-topic": f.deleteTopic, "describe-cluster": f.describeCluster,
		"describe-log-dirs": f.describeLogDirs, "describe-producers": f.describeProducers, "elect-leaders": f.electLeaders,
	}
}

func (f *franz) hello(_ context.Context, r request) (object, error) {
	f.common = []kgo.Opt{kgo.SeedBrokers(strings.Split(r.Bootstrap, ",")...)}
	if r.Security != nil {
		config, err := r.Security.tls()
		if err != nil {
			return nil, err
		}
		f.common = append(f.common, kgo.DialTLSConfig(config))
		if r.Security.User != "" {
			auth := scram.Auth{User: r.Security.User, Pass: r.Security.Password}
			f.common = append(f.common, kgo.SASL(auth.AsSha512Mechanism()))
		}
	}
	client, err := kgo.NewClient(f.common...)
	if err != nil {
		return nil, err
	}
	f.admin = kadm.NewClient(client)
	name := fmt.Sprintf("franz-go %s, kadm %s", version("github.com/twmb/franz-go"), version("github.com/twmb/franz-go/pkg/kadm"))
	return object{"client": name, "codecs": []string{"none", "gzip", "snappy", "lz4", "zstd"},
		"assignors": []string{"eager", "cooperative", "static"}}, nil
}

func (f *franz) produce(ctx context.Context, r request) (object, error) {
	options := []kgo.Opt{kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(50 * time.Millisecond),
		kgo.AllowAutoTopicCreation()}
	codecs := map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(),
		"snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}
	if r.Codec != "" {
		options = append(options, kgo.ProducerBatchCompression(codecs[r.Codec]))
	}
	acks := map[string]kgo.Acks{"0": kgo.NoAck(), "1": kgo.LeaderAck(), "all": kgo.AllISRAcks()}
	if r.Acks != "" {
		options = append(options, kgo.RequiredAcks(acks[r.Acks]))
	}
	if r.Acks == "0" || r.Acks == "1" || (r.Idempotent != nil && !*r.Idempotent) {
		options = append(options, kgo.DisableIdempotentWrite())
	}
	client, err := kgo.NewClient(append(options, f.common...)...)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	var records []*kgo.Record
	for _, each := range r.Records {
		wanted := &kgo.Record{Topic: r.Topic, Partition: each.Partition, Key: each.Key, Value: each.Value,
			Timestamp: time.UnixMilli(each.Timestamp)}
		for _, h := range each.Headers {
			wanted.Headers = append(wanted.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
		}
		records = append(records, wanted)
	}
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return nil, err
	}
	if r.Acks == "0" {
		return object{"offsets": nil}, nil
	}
	offsets := []int64{}
	for _, each := range records {
		offsets = append(offsets, each.Offset)
	}
	return object{"offsets": offsets}, nil
}

func (f *franz) consume(ctx context.Context, r request) (object, error) {
	start := kgo.NewOffset().At(r.Start["offset"])
	if at, timed := r.Start["time"]; timed {
		start = kgo.NewOffset().AfterMilli(at)
	}
	starts := map[int32]kgo.Offset{}
	for _, partition := range r.Partitions {
		starts[partition] = start
	}
	client, err := kgo.NewClient(append(f.common, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{r.Topic: starts}))...)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	found := []record{}
	for len(found) < r.Count && ctx.Err() == nil {
		fetches := client.PollFetches(ctx)
		for _, each := range fetches.Errors() {
			if !errors.Is(each.Err, context.DeadlineExceeded) {
				return nil, each.Err
			}
		}
		fetches.EachRecord(func(each *kgo.Record) { found = append(found, fromFranz(each)) })
	}
	return object{"records": found}, nil
}

func (f *franz) join(_ context.Context, r request) (object, error) {
	balancer := kgo.RangeBalancer()
	if r.Assignor == "cooperative" {
		balancer = kgo.CooperativeStickyBalancer()
	}
	m := newMember()
	options := []kgo.Opt{kgo.ConsumerGroup(r.Group), kgo.ConsumeTopics(r.Topic), kgo.Balancers(balancer),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit(),
		kgo.SessionTimeout(10 * time.Second), kgo.HeartbeatInterval(500 * time.Millisecond),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, gained map[string][]int32) { m.gained(gained[r.Topic]) }),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, lost map[string][]int32) { m.lost(lost[r.Topic]) }),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, lost map[string][]int32) { m.lost(lost[r.Topic]) }),
	}
	if r.Instance != "" {
		options = append(options, kgo.InstanceID(r.Instance))
	}
	client, err := kgo.NewClient(append(options, f.common...)...)
	if err != nil {
		return nil, err
	}
	ctx, end := context.WithCancel(context.Background())
	ended := make(chan struct{})
	f.client, f.member, f.end, f.ended = client, m, end, ended
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			fetches := client.PollFetches(ctx)
			for _, each := range fetches.Errors() {
				if ctx.Err() == nil {
					m.failed(each.Err)
				}
			}
			fetches.EachRecord(func(each *kgo.Record) { m.read(fromFranz(each)) })
		}
	}()
	return nil, nil
}

func (f *franz) commit(ctx context.Context, _ request) (object, error) {
	return nil, f.client.CommitUncommittedOffsets(ctx)
}

func (f *franz) leave(ctx context.Context, _ request) (object, error) {
	f.end()
	<-f.ended
	err := f.client.LeaveGroupContext(ctx)
	f.client.Close()
	return nil, err
}

func fromFranz(each *kgo.Record) record {
	headers := []header{}
	for _, h := range each.Headers {
		headers = append(headers, header{h.Key, h.Value})
	}
	return record{each.Partition, each.Offset, each.Key, each.Value, headers, each.Timestamp.UnixMilli()}
}

// --- administration ---

func (f *franz) createTopic(ctx context.Context, r request) (object, error) {
	configs := map[string]*string{}
	for name, value := range r.Configs {
		configs[name] = &value
	}
	create := f.admin.CreateTopics
	if r.Validate {
		create = f.admin.ValidateCreateTopics
	}
	told, err := create(ctx, int32(r.Total), int16(r.Replicas), configs, r.Topic)
	if err != nil {
		return nil, err
	}
	return nil, told.Error()
}

func (f *franz) listTopics(ctx context.Context, _ request) (object, error) {
	told, err := f.admin.ListTopics(ctx)
	return object{"topics": told.Names()}, err
}

func (f *franz) describeTopic(ctx context.Context, r request) (object, error) {
	told, err := f.admin.Metadata(ctx, r.Topic)
	if err != nil {
		return nil, err
	}
	partitions := object{}
	for _, each := range told.Topics[r.Topic].Partitions {
		partitions[fmt.Sprint(each.Partition)] = object{"leader": each.Leader, "replicas": each.Replicas, "isr": each.ISR}
	}
	return object{"brokers": franzBrokers(told), "partitions": partitions}, told.Topics[r.Topic].Err
}

func (f *franz) describeConfigs(ctx context.Context, r request) (object, error) {
	told, err := f.admin.DescribeTopicConfigs(ctx, r.Topic)
	if err != nil {
		return nil, err
	}
	resource, err := told.On(r.Topic, nil)
	if err != nil {
		return nil, err
	}
	configs := object{}
	for _, each := range resource.Configs {
		configs[each.Key] = each.MaybeValue()
	}
	return object{"configs": configs}, resource.Err
}

func (f *franz) alterConfigs(ctx context.Context, r request) (object, error) {
	return franzAltered(f.admin.AlterTopicConfigs(ctx, franzConfigs(r), r.Topic))
}

func (f *franz) replaceConfigs(ctx context.Context, r request) (object, error) {
	return franzAltered(f.admin.AlterTopicConfigsState(ctx, franzConfigs(r), r.Topic))
}

func franzConfigs(r request) (changes []kadm.AlterConfig) {
	for name, value := range r.Configs {
		changes = append(changes, kadm.AlterConfig{Op: kadm.SetConfig, Name: name, Value: &value})
	}
	return changes
}

func franzAltered(told kadm.AlterConfigsResponses, err error) (object, error) {
	for _, each := range told {
		err = errors.Join(err, each.Err)
	}
	return nil, err
}

func (f *franz) createPartitions(ctx context.Context, r request) (object, error) {
	told, err := f.admin.UpdatePartitions(ctx, r.Total, r.Topic)
	if err != nil {
		return nil, err
	}
	return nil, told.Error()
}

func (f *franz) deleteRecords(ctx context.Context, r request) (object, error) {
	told, err := f.admin.DeleteRecords(ctx, franzOffsets(r.Topic, r.Before))
	if err != nil {
		return nil, err
	}
	low := object{}
	told.Each(func(each kadm.DeleteRecordsResponse) { low[fmt.Sprint(each.Partition)] = each.LowWatermark })
	return object{"low": low}, told.Error()
}

func (f *franz) listOffsets(ctx context.Context, r request) (object, error) {
	var told kadm.ListedOffsets
	var err error
	switch at := r.At.(type) {
	case float64:
		told, err = f.admin.ListOffsetsAfterMilli(ctx, int64(at), r.Topic)
	case string:
		told, err = map[string]func(context.Context, ...string) (kadm.ListedOffsets, error){
			"earliest": f.admin.ListStartOffsets, "latest": f.admin.ListEndOffsets, "max": f.admin.ListMaxTimestampOffsets,
		}[at](ctx, r.Topic)
	}
	if err != nil {
		return nil, err
	}
	offsets, timestamps := object{}, object{}
	told.Each(func(each kadm.ListedOffset) {
		offsets[fmt.Sprint(each.Partition)] = each.Offset
		timestamps[fmt.Sprint(each.Partition)] = each.Timestamp
	})
	return object{"offsets": offsets, "timestamps": timestamps}, told.Error()
}

func (f *franz) listGroups(ctx context.Context, _ request) (object, error) {
	told, err := f.admin.ListGroups(ctx)
	return object{"groups": told.Groups()}, err
}

func (f *franz) describeGroup(ctx context.Context, r request) (object, error) {
	told, err := f.admin.DescribeGroups(ctx, r.Group)
	if err != nil {
		return nil, err
	}
	group := told[r.Group]
	members := []object{}
	for _, each := range group.Members {
		partitions := []int32{}
		if assigned, ok := each.Assigned.AsConsumer(); ok {
			for _, topic := range assigned.Topics {
				partitions = append(partitions, topic.Partitions...)
			}
		}
		members = append(members, object{"partitions": partitions})
	}
	return object{"state": group.State, "members": members}, group.Err
}

func (f *franz) groupOffsets(ctx context.Context, r request) (object, error) {
	told, err := f.admin.FetchOffsets(ctx, r.Group)
	offsets := object{}
	for partition, each := range told[r.Topic] {
		offsets[fmt.Sprint(partition)] = each.At
	}
	return object{"offsets": offsets}, err
}

func (f *franz) alterGroupOffsets(ctx context.Context, r request) (object, error) {
	return nil, f.admin.CommitAllOffsets(ctx, r.Group, franzOffsets(r.Topic, r.Offsets))
}

func (f *franz) deleteGroupOffsets(ctx context.Context, r request) (object, error) {
	var set kadm.TopicsSet
	set.Add(r.Topic, r.Partitions...)
	told, err := f.admin.DeleteOffsets(ctx, r.Group, set)
	if err != nil {
		return nil, err
	}
	return nil, told.Error()
}

func (f *franz) deleteGroup(ctx context.Context, r request) (object, error) {
	_, err := f.admin.DeleteGroup(ctx, r.Group)
	return nil, err
}

func (f *franz) deleteTopic(ctx context.Context, r request) (object, error) {
	_, err := f.admin.DeleteTopic(ctx, r.Topic)
	return nil, err
}

func (f *franz) describeCluster(ctx context.Context, _ request) (object, error) {
	told, err := f.admin.BrokerMetadata(ctx)
	return object{"brokers": franzBrokers(told), "controller": told.Controller, "cluster": told.Cluster}, err
}

func (f *franz) describeLogDirs(ctx context.Context, r request) (object, error) {
	told, err := f.admin.DescribeAllLogDirs(ctx, nil)
	sizes := object{}
	told.Each(func(folder kadm.DescribedLogDir) {
		for _, each := range folder.Topics[r.Topic] {
			sizes[fmt.Sprint(each.Partition)] = each.Size
		}
	})
	return object{"bytes": sizes}, err
}

func (f *franz) describeProducers(ctx context.Context, r request) (object, error) {
	var set kadm.TopicsSet
	set.Add(r.Topic, r.Partition)
	told, err := f.admin.DescribeProducers(ctx, set)
	if err != nil {
		return nil, err
	}
	found := told[r.Topic].Partitions[r.Partition]
	producers := []int64{}
	for _, each := range found.ActiveProducers {
		producers = append(producers, each.ProducerID)
	}
	return object{"producers": producers}, found.Err
}

func (f *franz) electLeaders(ctx context.Context, r request) (object, error) {
	var set kadm.TopicsSet
	set.Add(r.Topic, r.Partition)
	told, err := f.admin.ElectLeaders(ctx, kadm.ElectPreferredReplica, set)
	if err != nil {
		return nil, err
	}
	if err := told[r.Topic][r.Partition].Err; !errors.Is(err, kerr.ElectionNotNeeded) {
		return nil, err
	}
	return nil, nil
}

func franzBrokers(told kadm.Metadata) object {
	brokers := object{}
	for _, each := range told.Brokers {
		brokers[fmt.Sprint(each.NodeID)] = fmt.Sprintf("%s:%d", each.Host, each.Port)
	}
	return brokers
}

func franzOffsets(topic string, wanted places) kadm.Offsets {
	var offsets kadm.Offsets
	wanted.each(func(partition int32, offset int64) { offsets.AddOffset(topic, partition, offset, -1) })
	return offsets
}
