package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/IBM/sarama"
)

// saramaClient is IBM's sarama.
type saramaClient struct {
	security *security
	seeds    []string
	client   sarama.Client
	admin    sarama.ClusterAdmin
	group    sarama.ConsumerGroup
	member   *saramaMember
	end      context.CancelFunc
	ended    chan struct{}
}

func saramaOperations() map[string]operation {
	s := &saramaClient{}
	return map[string]operation{
		"hello": s.hello, "metadata": s.metadata, "produce": s.produce, "consume": s.consume,
		"join": s.join, "commit": s.commit, "leave": s.leave,
		"state":        func(ctx context.Context, r request) (object, error) { return s.member.state(ctx, r) },
		"create-topic": s.createTopic, "list-topics": s.listTopics, "describe-topic": s.describeTopic,
		"describe-configs": s.describeConfigs, "alter-configs": s.alterConfigs, "replace-configs": s.replaceConfigs,
		"create-partitions": s.createPartitions, "delete-records": s.deleteRecords, "list-offsets": s.listOffsets,
		"list-groups": s.listGroups, "describe-group": s.describeGroup, "group-offsets": s.groupOffsets,
		"alter-group-offsets": s.alterGroupOffsets, "delete-group-offsets": s.deleteGroupOffsets,
		"delete-group": s.deleteGroup, "delete-topic": s.deleteTopic, "describe-cluster": s.describeCluster,
		"describe-log-dirs": s.describeLogDirs, "elect-leaders": s.electLeaders,
	}
}

func (s *saramaClient) config() *sarama.Config {
	config := sarama.NewConfig()
	if s.security == nil {
		return config
	}
	config.Net.TLS.Enable = true
	config.Net.TLS.Config, _ = s.security.tls()
	if s.security.User != "" {
		config.Net.SASL.Enable, config.Net.SASL.Mechanism = true, sarama.SASLTypeSCRAMSHA512
		config.Net.SASL.User, config.Net.SASL.Password = s.security.User, s.security.Password
		config.Net.SASL.SCRAMClientGeneratorFunc = func() sarama.SCRAMClient { return &scramClient{} }
	}
	return config
}

func (s *saramaClient) hello(_ context.Context, r request) (object, error) {
	s.seeds, s.security = strings.Split(r.Bootstrap, ","), r.Security
	var err error
	if s.client, err = sarama.NewClient(s.seeds, s.config()); err != nil {
		return nil, err
	}
	if s.admin, err = sarama.NewClusterAdmin(s.seeds, s.config()); err != nil {
		return nil, err
	}
	return object{"client": "sarama " + version("github.com/IBM/sarama"),
		"codecs": []string{"none", "gzip", "snappy", "lz4", "zstd"}, "assignors": []string{"eager", "static"}}, nil
}

func (s *saramaClient) metadata(ctx context.Context, r request) (object, error) {
	cluster, err := s.describeCluster(ctx, r)
	if err != nil {
		return nil, err
	}
	told, err := s.describeTopic(ctx, r)
	return object{"brokers": cluster["brokers"], "partitions": told["partitions"]}, err
}

func (s *saramaClient) produce(_ context.Context, r request) (object, error) {
	config := s.config()
	config.Producer.Return.Successes = true
	config.Producer.Partitioner = sarama.NewManualPartitioner
	codecs := map[string]sarama.CompressionCodec{"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP,
		"snappy": sarama.CompressionSnappy, "lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD}
	if r.Codec != "" {
		config.Producer.Compression = codecs[r.Codec]
	}
	acks := map[string]sarama.RequiredAcks{"0": sarama.NoResponse, "1": sarama.WaitForLocal, "all": sarama.WaitForAll}
	if r.Acks != "" {
		config.Producer.RequiredAcks = acks[r.Acks]
	}
	if r.Idempotent != nil && *r.Idempotent {
		config.Producer.Idempotent, config.Producer.RequiredAcks, config.Net.MaxOpenRequests = true, sarama.WaitForAll, 1
	}
	producer, err := sarama.NewSyncProducer(s.seeds, config)
	if err != nil {
		return nil, err
	}
	defer producer.Close()
	var messages []*sarama.ProducerMessage
	for _, each := range r.Records {
		message := &sarama.ProducerMessage{Topic: r.Topic, Partition: each.Partition, Timestamp: time.UnixMilli(each.Timestamp)}
		if each.Key != nil {
			message.Key = sarama.ByteEncoder(each.Key)
		}
		if each.Value != nil {
			message.Value = sarama.ByteEncoder(each.Value)
		}
		for _, h := range each.Headers {
			message.Headers = append(message.Headers, sarama.RecordHeader{Key: []byte(h.Key), Value: h.Value})
		}
		messages = append(messages, message)
	}
	if err := producer.SendMessages(messages); err != nil {
		return nil, err
	}
	if r.Acks == "0" {
		return object{"offsets": nil}, nil
	}
	offsets := []int64{}
	for _, each := range messages {
		offsets = append(offsets, each.Offset)
	}
	return object{"offsets": offsets}, nil
}

func (s *saramaClient) consume(ctx context.Context, r request) (object, error) {
	consumer, err := sarama.NewConsumer(s.seeds, s.config())
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	found := []record{}
	messages := make(chan *sarama.ConsumerMessage)
	for _, partition := range r.Partitions {
		start := r.Start["offset"]
		if at, timed := r.Start["time"]; timed {
			if start, err = s.client.GetOffset(r.Topic, partition, at); err != nil {
				return nil, err
			}
		}
		one, err := consumer.ConsumePartition(r.Topic, partition, start)
		if err != nil {
			return nil, err
		}
		defer one.AsyncClose()
		go func() {
			for each := range one.Messages() {
				select {
				case messages <- each:
				case <-ctx.Done():
				}
			}
		}()
	}
	for len(found) < r.Count {
		select {
		case each := <-messages:
			found = append(found, fromSarama(each))
		case <-ctx.Done():
			return object{"records": found}, nil
		}
	}
	return object{"records": found}, nil
}

func fromSarama(each *sarama.ConsumerMessage) record {
	headers := []header{}
	for _, h := range each.Headers {
		headers = append(headers, header{string(h.Key), h.Value})
	}
	return record{each.Partition, each.Offset, each.Key, each.Value, headers, each.Timestamp.UnixMilli()}
}

// saramaMember is the handler of a group's sessions: a session for each generation.
type saramaMember struct {
	*member
	topic   string
	session chan sarama.ConsumerGroupSession // the current one, if there is one
}

func (m *saramaMember) Setup(session sarama.ConsumerGroupSession) error {
	m.gained(session.Claims()[m.topic])
	m.session <- session
	return nil
}

func (m *saramaMember) Cleanup(session sarama.ConsumerGroupSession) error {
	m.lost(session.Claims()[m.topic])
	<-m.session
	return nil
}

func (m *saramaMember) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for each := range claim.Messages() {
		m.read(fromSarama(each))
		session.MarkMessage(each, "")
	}
	return nil
}

func (s *saramaClient) join(_ context.Context, r request) (object, error) {
	config := s.config()
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategyRange()}
	config.Consumer.Group.Session.Timeout, config.Consumer.Group.Heartbeat.Interval = 10*time.Second, 500*time.Millisecond
	config.Consumer.Group.InstanceId = r.Instance
	group, err := sarama.NewConsumerGroup(s.seeds, r.Group, config)
	if err != nil {
		return nil, err
	}
	m := &saramaMember{newMember(), r.Topic, make(chan sarama.ConsumerGroupSession, 1)}
	ctx, end := context.WithCancel(context.Background())
	ended := make(chan struct{})
	s.group, s.member, s.end, s.ended = group, m, end, ended
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			if err := group.Consume(ctx, []string{r.Topic}, m); err != nil && ctx.Err() == nil {
				m.failed(err)
				time.Sleep(200 * time.Millisecond)
			}
		}
	}()
	return nil, nil
}

func (s *saramaClient) commit(ctx context.Context, _ request) (object, error) {
	select {
	case session := <-s.member.session:
		session.Commit()
		s.member.session <- session
		return nil, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *saramaClient) leave(context.Context, request) (object, error) {
	s.end()
	<-s.ended
	return nil, s.group.Close()
}

// --- administration ---

func (s *saramaClient) createTopic(_ context.Context, r request) (object, error) {
	detail := &sarama.TopicDetail{NumPartitions: int32(r.Total), ReplicationFactor: int16(r.Replicas), ConfigEntries: map[string]*string{}}
	for name, value := range r.Configs {
		detail.ConfigEntries[name] = &value
	}
	return nil, s.admin.CreateTopic(r.Topic, detail, r.Validate)
}

func (s *saramaClient) listTopics(context.Context, request) (object, error) {
	told, err := s.admin.ListTopics()
	names := []string{}
	for name := range told {
		names = append(names, name)
	}
	return object{"topics": names}, err
}

func (s *saramaClient) describeTopic(_ context.Context, r request) (object, error) {
	told, err := s.admin.DescribeTopics([]string{r.Topic})
	if err != nil {
		return nil, err
	}
	if told[0].Err != sarama.ErrNoError {
		return nil, told[0].Err
	}
	partitions := object{}
	for _, each := range told[0].Partitions {
		partitions[fmt.Sprint(each.ID)] = object{"leader": each.Leader, "replicas": each.Replicas, "isr": each.Isr}
	}
	return object{"partitions": partitions}, nil
}

func (s *saramaClient) describeConfigs(_ context.Context, r request) (object, error) {
	told, err := s.admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: r.Topic})
	configs := object{}
	for _, each := range told {
		configs[each.Name] = each.Value
	}
	return object{"configs": configs}, err
}

func (s *saramaClient) alterConfigs(_ context.Context, r request) (object, error) {
	entries := map[string]sarama.IncrementalAlterConfigsEntry{}
	for name, value := range r.Configs {
		entries[name] = sarama.IncrementalAlterConfigsEntry{Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &value}
	}
	return nil, s.admin.IncrementalAlterConfig(sarama.TopicResource, r.Topic, entries, false)
}

func (s *saramaClient) replaceConfigs(_ context.Context, r request) (object, error) {
	entries := map[string]*string{}
	for name, value := range r.Configs {
		entries[name] = &value
	}
	return nil, s.admin.AlterConfig(sarama.TopicResource, r.Topic, entries, false)
}

func (s *saramaClient) createPartitions(_ context.Context, r request) (object, error) {
	return nil, s.admin.CreatePartitions(r.Topic, int32(r.Total), nil, false)
}

func (s *saramaClient) deleteRecords(_ context.Context, r request) (object, error) {
	wanted := map[int32]int64{}
	r.Before.each(func(partition int32, offset int64) { wanted[partition] = offset })
	return nil, s.admin.DeleteRecords(r.Topic, wanted)
}

func (s *saramaClient) listOffsets(_ context.Context, r request) (object, error) {
	at, timed := r.At.(float64)
	if !timed {
		at = map[any]float64{"earliest": float64(sarama.OffsetOldest), "latest": float64(sarama.OffsetNewest), "max": -3}[r.At]
	}
	if r.At == "max" {
		return nil, lacking("it does not ask for the newest timestamp")
	}
	wanted := map[int32]int64{}
	for _, partition := range r.Partitions {
		wanted[partition] = int64(at)
	}
	told, err := s.admin.ListOffsets(map[string]map[int32]int64{r.Topic: wanted}, nil)
	offsets := object{}
	for partition, each := range told[r.Topic] {
		offsets[fmt.Sprint(partition)] = each.Offset
		if each.Err != sarama.ErrNoError { // which is not nil
			err = errors.Join(err, each.Err)
		}
	}
	return object{"offsets": offsets}, err
}

func (s *saramaClient) listGroups(context.Context, request) (object, error) {
	told, err := s.admin.ListConsumerGroups()
	names := []string{}
	for name := range told {
		names = append(names, name)
	}
	return object{"groups": names}, err
}

func (s *saramaClient) describeGroup(_ context.Context, r request) (object, error) {
	told, err := s.admin.DescribeConsumerGroups([]string{r.Group})
	if err != nil {
		return nil, err
	}
	members := []object{}
	for _, each := range told[0].Members {
		assigned, err := each.GetMemberAssignment()
		if err != nil {
			return nil, err
		}
		partitions := []int32{}
		for _, some := range assigned.Topics {
			partitions = append(partitions, some...)
		}
		members = append(members, object{"partitions": partitions})
	}
	return object{"state": told[0].State, "members": members}, nil
}

func (s *saramaClient) groupOffsets(_ context.Context, r request) (object, error) {
	told, err := s.admin.ListConsumerGroupOffsets(r.Group, nil)
	if err != nil {
		return nil, err
	}
	offsets := object{}
	for partition, each := range told.Blocks[r.Topic] {
		offsets[fmt.Sprint(partition)] = each.Offset
	}
	return object{"offsets": offsets}, nil
}

func (s *saramaClient) alterGroupOffsets(_ context.Context, r request) (object, error) {
	wanted := map[int32]sarama.OffsetAndMetadata{}
	r.Offsets.each(func(partition int32, offset int64) {
		wanted[partition] = sarama.OffsetAndMetadata{Offset: offset, LeaderEpoch: -1}
	})
	_, err := s.admin.AlterConsumerGroupOffsets(r.Group, map[string]map[int32]sarama.OffsetAndMetadata{r.Topic: wanted}, nil)
	return nil, err
}

func (s *saramaClient) deleteGroupOffsets(_ context.Context, r request) (object, error) {
	var err error
	for _, partition := range r.Partitions {
		err = errors.Join(err, s.admin.DeleteConsumerGroupOffset(r.Group, r.Topic, partition))
	}
	return nil, err
}

func (s *saramaClient) deleteGroup(_ context.Context, r request) (object, error) {
	return nil, s.admin.DeleteConsumerGroup(r.Group)
}

func (s *saramaClient) deleteTopic(_ context.Context, r request) (object, error) {
	return nil, s.admin.DeleteTopic(r.Topic)
}

func (s *saramaClient) describeCluster(context.Context, request) (object, error) {
	told, controller, err := s.admin.DescribeCluster()
	brokers := object{}
	for _, each := range told {
		brokers[fmt.Sprint(each.ID())] = each.Addr()
	}
	return object{"brokers": brokers, "controller": controller}, err
}

func (s *saramaClient) describeLogDirs(_ context.Context, r request) (object, error) {
	brokers, _, err := s.admin.DescribeCluster()
	if err != nil {
		return nil, err
	}
	ids := []int32{}
	for _, each := range brokers {
		ids = append(ids, each.ID())
	}
	told, err := s.admin.DescribeLogDirs(ids)
	sizes := object{}
	for _, folders := range told {
		for _, folder := range folders {
			for _, topic := range folder.Topics {
				if topic.Topic != r.Topic {
					continue
				}
				for _, each := range topic.Partitions {
					sizes[fmt.Sprint(each.PartitionID)] = each.Size
				}
			}
		}
	}
	return object{"bytes": sizes}, err
}

func (s *saramaClient) electLeaders(_ context.Context, r request) (object, error) {
	told, err := s.admin.ElectLeaders(sarama.PreferredElection, map[string][]int32{r.Topic: {r.Partition}})
	for _, each := range told[r.Topic] {
		if each.ErrorCode != sarama.ErrNoError && each.ErrorCode != sarama.ErrElectionNotNeeded {
			err = errors.Join(err, each.ErrorCode)
		}
	}
	return nil, err
}
