package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl/scram"
)

// segment is kafka-go by Segment. Its Reader does not say what is assigned to it: the member here is built of the same
// parts, a ConsumerGroup with a Reader for each partition.
type segment struct {
	seeds     []string
	client    *kafka.Client
	transport *kafka.Transport
	dialer    *kafka.Dialer
	group     *kafka.ConsumerGroup
	member    *segmentMember
}

type segmentMember struct {
	*member
	mutex      sync.Mutex
	generation *kafka.Generation
	next       map[int]int64
}

func segmentOperations() map[string]operation {
	s := &segment{}
	return map[string]operation{
		"hello": s.hello, "metadata": s.describeTopic, "produce": s.produce, "consume": s.consume,
		"join": s.join, "commit": s.commit, "leave": s.leave,
		"state":        func(ctx context.Context, r request) (object, error) { return s.member.state(ctx, r) },
		"create-topic": s.createTopic, "list-topics": s.listTopics, "describe-topic": s.describeTopic,
		"describe-configs": s.describeConfigs, "alter-configs": s.alterConfigs, "replace-configs": s.replaceConfigs,
		"create-partitions": s.createPartitions, "list-offsets": s.listOffsets,
		"list-groups": s.listGroups, "describe-group": s.describeGroup, "group-offsets": s.groupOffsets,
		"alter-group-offsets": s.alterGroupOffsets, "delete-group-offsets": s.deleteGroupOffsets,
		"delete-group": s.deleteGroup, "delete-topic": s.deleteTopic, "describe-cluster": s.describeCluster,
		"elect-leaders": s.electLeaders,
	}
}

func (s *segment) hello(_ context.Context, r request) (object, error) {
	s.seeds = strings.Split(r.Bootstrap, ",")
	s.transport, s.dialer = &kafka.Transport{}, &kafka.Dialer{Timeout: 10 * time.Second, DualStack: true}
	if r.Security != nil {
		config, err := r.Security.tls()
		if err != nil {
			return nil, err
		}
		s.transport.TLS, s.dialer.TLS = config, config
		if r.Security.User != "" {
			mechanism, err := scram.Mechanism(scram.SHA512, r.Security.User, r.Security.Password)
			if err != nil {
				return nil, err
			}
			s.transport.SASL, s.dialer.SASLMechanism = mechanism, mechanism
		}
	}
	// Its answers to Metadata come from a cache, by default for 6 s.
	transport := &kafka.Transport{MetadataTTL: 100 * time.Millisecond, TLS: s.transport.TLS, SASL: s.transport.SASL}
	s.client = &kafka.Client{Addr: kafka.TCP(s.seeds...), Timeout: waitFor, Transport: transport}
	return object{"client": "kafka-go " + version("github.com/segmentio/kafka-go"),
		"codecs": []string{"none", "gzip", "snappy", "lz4", "zstd"}, "assignors": []string{"eager"},
		"reading_lacks": []string{"empty"}, "own_protocol": true,
		"why": object{"range, as the other clients have it": "it gets nothing beside them: findings/kafka-go-mixed-group.sh"}}, nil
}

func (s *segment) produce(ctx context.Context, r request) (object, error) {
	if r.Idempotent != nil && *r.Idempotent {
		return nil, lacking("its Writer is never idempotent")
	}
	codecs := map[string]kafka.Compression{"gzip": kafka.Gzip, "snappy": kafka.Snappy, "lz4": kafka.Lz4, "zstd": kafka.Zstd}
	acks := map[string]kafka.RequiredAcks{"0": kafka.RequireNone, "1": kafka.RequireOne, "all": kafka.RequireAll}
	asked := kafka.BalancerFunc(func(m kafka.Message, _ ...int) int { return m.WriterData.(int) })
	writer := &kafka.Writer{Addr: kafka.TCP(s.seeds...), Transport: s.transport, Topic: r.Topic, Balancer: asked, BatchTimeout: 50 * time.Millisecond,
		Compression: codecs[r.Codec], RequiredAcks: acks[r.Acks], AllowAutoTopicCreation: true}
	defer writer.Close()
	var messages []kafka.Message
	for _, each := range r.Records {
		message := kafka.Message{Key: each.Key, Value: each.Value, Time: time.UnixMilli(each.Timestamp), WriterData: int(each.Partition)}
		for _, h := range each.Headers {
			message.Headers = append(message.Headers, kafka.Header{Key: h.Key, Value: h.Value})
		}
		messages = append(messages, message)
	}
	for {
		// A topic that was just created is reported as unknown: its users try again.
		err := writer.WriteMessages(ctx, messages...)
		if !errors.Is(err, kafka.UnknownTopicOrPartition) {
			return object{"offsets": nil}, err
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func (s *segment) consume(ctx context.Context, r request) (object, error) {
	found := []record{}
	per := r.Count / len(r.Partitions)
	for _, partition := range r.Partitions {
		reader := kafka.NewReader(kafka.ReaderConfig{Brokers: s.seeds, Dialer: s.dialer, Topic: r.Topic, Partition: int(partition), MaxWait: 500 * time.Millisecond})
		defer reader.Close()
		err := reader.SetOffset(r.Start["offset"])
		if at, timed := r.Start["time"]; timed {
			err = reader.SetOffsetAt(ctx, time.UnixMilli(at))
		}
		for count := 0; count < per && err == nil; count++ {
			var message kafka.Message
			if message, err = reader.ReadMessage(ctx); err == nil {
				found = append(found, fromSegment(message))
			}
		}
		if err != nil && ctx.Err() == nil {
			return nil, err
		}
	}
	return object{"records": found}, nil
}

func fromSegment(message kafka.Message) record {
	headers := []header{}
	for _, h := range message.Headers {
		headers = append(headers, header{h.Key, h.Value})
	}
	return record{int32(message.Partition), message.Offset, message.Key, message.Value, headers, message.Time.UnixMilli()}
}

func (s *segment) join(_ context.Context, r request) (object, error) {
	group, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{ID: r.Group, Brokers: s.seeds, Dialer: s.dialer, Topics: []string{r.Topic},
		GroupBalancers: []kafka.GroupBalancer{kafka.RangeGroupBalancer{}}, HeartbeatInterval: 500 * time.Millisecond,
		SessionTimeout: 10 * time.Second, RebalanceTimeout: 10 * time.Second, StartOffset: kafka.FirstOffset})
	if err != nil {
		return nil, err
	}
	m := &segmentMember{member: newMember(), next: map[int]int64{}}
	s.group, s.member = group, m
	go func() {
		for {
			generation, err := group.Next(context.Background())
			if errors.Is(err, kafka.ErrGroupClosed) {
				return
			}
			if err != nil {
				continue // it joins again by itself
			}
			m.begin(s.seeds, s.dialer, r.Topic, generation)
		}
	}()
	return nil, nil
}

func (m *segmentMember) begin(seeds []string, dialer *kafka.Dialer, topic string, generation *kafka.Generation) {
	partitions := []int32{}
	for _, assigned := range generation.Assignments[topic] {
		partitions = append(partitions, int32(assigned.ID))
	}
	m.gained(partitions)
	m.mutex.Lock()
	m.generation = generation
	m.mutex.Unlock()
	generation.Start(func(ctx context.Context) {
		<-ctx.Done()
		m.lost(partitions)
	})
	for _, assigned := range generation.Assignments[topic] {
		generation.Start(func(ctx context.Context) {
			reader := kafka.NewReader(kafka.ReaderConfig{Brokers: seeds, Dialer: dialer, Topic: topic, Partition: assigned.ID, MaxWait: 500 * time.Millisecond})
			defer reader.Close()
			reader.SetOffset(assigned.Offset)
			for {
				message, err := reader.ReadMessage(ctx)
				if ctx.Err() != nil {
					return
				}
				if err != nil {
					m.failed(err)
					return
				}
				m.read(fromSegment(message))
				m.mutex.Lock()
				m.next[assigned.ID] = message.Offset + 1
				m.mutex.Unlock()
			}
		})
	}
}

func (s *segment) commit(_ context.Context, r request) (object, error) {
	m := s.member
	m.mutex.Lock()
	defer m.mutex.Unlock()
	for topic := range m.generation.Assignments {
		return nil, m.generation.CommitOffsets(map[string]map[int]int64{topic: m.next})
	}
	return nil, errors.New("nothing is assigned")
}

func (s *segment) leave(context.Context, request) (object, error) { return nil, s.group.Close() }

// --- administration ---

func (s *segment) createTopic(ctx context.Context, r request) (object, error) {
	wanted := kafka.TopicConfig{Topic: r.Topic, NumPartitions: r.Total, ReplicationFactor: r.Replicas}
	for name, value := range r.Configs {
		wanted.ConfigEntries = append(wanted.ConfigEntries, kafka.ConfigEntry{ConfigName: name, ConfigValue: value})
	}
	told, err := s.client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{wanted}, ValidateOnly: r.Validate})
	if err != nil {
		return nil, err
	}
	return nil, told.Errors[r.Topic]
}

func (s *segment) listTopics(ctx context.Context, _ request) (object, error) {
	told, err := s.client.Metadata(ctx, &kafka.MetadataRequest{})
	if err != nil {
		return nil, err
	}
	names := []string{}
	for _, each := range told.Topics {
		names = append(names, each.Name)
	}
	return object{"topics": names}, nil
}

func (s *segment) describeTopic(ctx context.Context, r request) (object, error) {
	told, err := s.client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{r.Topic}})
	if err != nil {
		return nil, err
	}
	partitions := object{}
	for _, each := range told.Topics[0].Partitions {
		replicas := []int{}
		for _, replica := range each.Replicas {
			replicas = append(replicas, replica.ID)
		}
		partitions[fmt.Sprint(each.ID)] = object{"leader": each.Leader.ID, "replicas": replicas}
	}
	return object{"brokers": segmentBrokers(told.Brokers), "partitions": partitions}, told.Topics[0].Error
}

func (s *segment) describeCluster(ctx context.Context, _ request) (object, error) {
	told, err := s.client.Metadata(ctx, &kafka.MetadataRequest{})
	if err != nil {
		return nil, err
	}
	return object{"brokers": segmentBrokers(told.Brokers), "controller": told.Controller.ID, "cluster": told.ClusterID}, nil
}

func segmentBrokers(told []kafka.Broker) object {
	brokers := object{}
	for _, each := range told {
		brokers[fmt.Sprint(each.ID)] = fmt.Sprintf("%s:%d", each.Host, each.Port)
	}
	return brokers
}

func (s *segment) describeConfigs(ctx context.Context, r request) (object, error) {
	told, err := s.client.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{Resources: []kafka.DescribeConfigRequestResource{
		{ResourceType: kafka.ResourceTypeTopic, ResourceName: r.Topic}}})
	if err != nil {
		return nil, err
	}
	configs := object{}
	for _, each := range told.Resources[0].ConfigEntries {
		configs[each.ConfigName] = each.ConfigValue
	}
	return object{"configs": configs}, told.Resources[0].Error
}

func (s *segment) alterConfigs(ctx context.Context, r request) (object, error) {
	var changes []kafka.IncrementalAlterConfigsRequestConfig
	for name, value := range r.Configs {
		changes = append(changes, kafka.IncrementalAlterConfigsRequestConfig{Name: name, Value: value, ConfigOperation: kafka.ConfigOperationSet})
	}
	told, err := s.client.IncrementalAlterConfigs(ctx, &kafka.IncrementalAlterConfigsRequest{
		Resources: []kafka.IncrementalAlterConfigsRequestResource{{ResourceType: kafka.ResourceTypeTopic, ResourceName: r.Topic, Configs: changes}}})
	if err != nil {
		return nil, err
	}
	return nil, told.Resources[0].Error
}

func (s *segment) replaceConfigs(ctx context.Context, r request) (object, error) {
	var wanted []kafka.AlterConfigRequestConfig
	for name, value := range r.Configs {
		wanted = append(wanted, kafka.AlterConfigRequestConfig{Name: name, Value: value})
	}
	told, err := s.client.AlterConfigs(ctx, &kafka.AlterConfigsRequest{Resources: []kafka.AlterConfigRequestResource{
		{ResourceType: kafka.ResourceTypeTopic, ResourceName: r.Topic, Configs: wanted}}})
	if err != nil {
		return nil, err
	}
	for _, each := range told.Errors {
		err = errors.Join(err, each)
	}
	return nil, err
}

func (s *segment) createPartitions(ctx context.Context, r request) (object, error) {
	told, err := s.client.CreatePartitions(ctx, &kafka.CreatePartitionsRequest{
		Topics: []kafka.TopicPartitionsConfig{{Name: r.Topic, Count: int32(r.Total)}}})
	if err != nil {
		return nil, err
	}
	return nil, told.Errors[r.Topic]
}

func (s *segment) listOffsets(ctx context.Context, r request) (object, error) {
	if r.At == "max" {
		return nil, lacking("it does not ask for the newest timestamp")
	}
	wanted := []kafka.OffsetRequest{}
	for _, partition := range r.Partitions {
		request := kafka.FirstOffsetOf(int(partition))
		if r.At == "latest" {
			request = kafka.LastOffsetOf(int(partition))
		} else if at, timed := r.At.(float64); timed {
			request = kafka.TimeOffsetOf(int(partition), time.UnixMilli(int64(at)))
		}
		wanted = append(wanted, request)
	}
	told, err := s.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{r.Topic: wanted}})
	if err != nil {
		return nil, err
	}
	offsets := object{}
	for _, each := range told.Topics[r.Topic] {
		err = errors.Join(err, each.Error)
		offset := each.FirstOffset
		if r.At == "latest" {
			offset = each.LastOffset
		}
		for found := range each.Offsets {
			offset = found
		}
		offsets[fmt.Sprint(each.Partition)] = offset
	}
	return object{"offsets": offsets}, err
}

func (s *segment) listGroups(ctx context.Context, _ request) (object, error) {
	names := []string{}
	told, err := s.client.ListGroups(ctx, &kafka.ListGroupsRequest{})
	if err != nil {
		return nil, err
	}
	for _, each := range told.Groups {
		names = append(names, each.GroupID)
	}
	return object{"groups": names}, told.Error
}

func (s *segment) describeGroup(ctx context.Context, r request) (object, error) {
	told, err := s.client.DescribeGroups(ctx, &kafka.DescribeGroupsRequest{GroupIDs: []string{r.Group}})
	if err != nil {
		return nil, err
	}
	if err := told.Groups[0].Error; err != nil && strings.Contains(err.Error(), "failed to decode member metadata") {
		return nil, lacking("it cannot read the metadata of other clients' members")
	}
	members := []object{}
	for _, each := range told.Groups[0].Members {
		partitions := []int{}
		for _, topic := range each.MemberAssignments.Topics {
			partitions = append(partitions, topic.Partitions...)
		}
		members = append(members, object{"partitions": partitions})
	}
	return object{"state": told.Groups[0].GroupState, "members": members}, told.Groups[0].Error
}

func (s *segment) groupOffsets(ctx context.Context, r request) (object, error) {
	told, err := s.client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: r.Group})
	if err != nil {
		return nil, err
	}
	offsets := object{}
	for _, each := range told.Topics[r.Topic] {
		err = errors.Join(err, each.Error)
		offsets[fmt.Sprint(each.Partition)] = each.CommittedOffset
	}
	return object{"offsets": offsets}, errors.Join(err, told.Error)
}

func (s *segment) alterGroupOffsets(ctx context.Context, r request) (object, error) {
	wanted := []kafka.OffsetCommit{}
	r.Offsets.each(func(partition int32, offset int64) {
		wanted = append(wanted, kafka.OffsetCommit{Partition: int(partition), Offset: offset})
	})
	told, err := s.client.OffsetCommit(ctx, &kafka.OffsetCommitRequest{GroupID: r.Group, GenerationID: -1,
		Topics: map[string][]kafka.OffsetCommit{r.Topic: wanted}})
	if err != nil {
		return nil, err
	}
	for _, each := range told.Topics[r.Topic] {
		err = errors.Join(err, each.Error)
	}
	return nil, err
}

func (s *segment) deleteGroupOffsets(ctx context.Context, r request) (object, error) {
	partitions := []int{}
	for _, partition := range r.Partitions {
		partitions = append(partitions, int(partition))
	}
	told, err := s.client.OffsetDelete(ctx, &kafka.OffsetDeleteRequest{GroupID: r.Group, Topics: map[string][]int{r.Topic: partitions}})
	if err != nil {
		return nil, err
	}
	return nil, told.Error
}

func (s *segment) deleteGroup(ctx context.Context, r request) (object, error) {
	told, err := s.client.DeleteGroups(ctx, &kafka.DeleteGroupsRequest{GroupIDs: []string{r.Group}})
	if err != nil {
		return nil, err
	}
	return nil, told.Errors[r.Group]
}

func (s *segment) deleteTopic(ctx context.Context, r request) (object, error) {
	told, err := s.client.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: []string{r.Topic}})
	if err != nil {
		return nil, err
	}
	return nil, told.Errors[r.Topic]
}

func (s *segment) electLeaders(ctx context.Context, r request) (object, error) {
	told, err := s.client.ElectLeaders(ctx, &kafka.ElectLeadersRequest{Topic: r.Topic, Partitions: []int{int(r.Partition)}, Timeout: waitFor})
	if err != nil {
		return nil, err
	}
	for _, each := range told.PartitionResults {
		if !errors.Is(each.Error, kafka.ElectionNotNeeded) {
			err = errors.Join(err, each.Error)
		}
	}
	return nil, errors.Join(err, told.Error)
}
