package main

import (
	"bytes"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// jetStream publishes to a file-backed stream; every record is a request and an answer of its own on the
// wire, so a request of n records is n publishes without a pause. It connects to the stream's leader.
type jetStream struct {
	plan    Plan
	records [][]byte
	context nats.JetStreamContext
	lines   []*natsLine
}

// natsLine is a connection with the requests that wait on it, by number.
type natsLine struct {
	connection *nats.Conn
	inbox      string
	next       int
	waiting    sync.Map // number -> *natsRequest
}

type natsRequest struct {
	left atomic.Int64
	done func(error)
}

func (j *jetStream) Prepare() error {
	server, err := j.leader()
	if err != nil {
		return err
	}
	for range j.plan.Connections {
		connection, err := nats.Connect("nats://" + server)
		if err != nil {
			return err
		}
		line := &natsLine{connection: connection, inbox: nats.NewInbox()}
		subscription, err := connection.Subscribe(line.inbox+".*", line.acknowledged)
		if err != nil {
			return err
		}
		if err := subscription.SetPendingLimits(-1, -1); err != nil {
			return err
		}
		j.lines = append(j.lines, line)
	}
	j.context, err = j.lines[0].connection.JetStream()
	return err
}

// leader is the address of the server that leads the stream, which is created first where it has to be.
func (j *jetStream) leader() (string, error) {
	connection, err := nats.Connect("nats://" + j.plan.Addresses[0])
	if err != nil {
		return "", err
	}
	defer connection.Close()
	context, err := connection.JetStream(nats.MaxWait(5 * time.Second))
	if err != nil {
		return "", err
	}
	var info *nats.StreamInfo
	if j.plan.Mode == "produce" {
		config := nats.StreamConfig{Name: j.plan.Topic, Subjects: []string{j.plan.Topic}, Replicas: j.plan.Replicas}
		err = eventually(func() (err error) { // the servers' own group may still be electing its leader
			info, err = context.AddStream(&config)
			return
		})
	} else {
		info, err = context.StreamInfo(j.plan.Topic)
	}
	if err != nil {
		return "", err
	}
	if info.Cluster == nil {
		return j.plan.Addresses[0], nil
	}
	for i, address := range j.plan.Addresses { // servers are named by their place in the list
		if info.Cluster.Leader == strconv.Itoa(i+1) {
			return address, nil
		}
	}
	return "", fmt.Errorf("stream %s has no leader", j.plan.Topic)
}

func (j *jetStream) Send(connection int, done func(error)) {
	line := j.lines[connection]
	number := strconv.Itoa(line.next)
	line.next++
	request := &natsRequest{done: done}
	request.left.Store(int64(j.plan.BatchRecords))
	line.waiting.Store(number, request)
	reply := line.inbox + "." + number
	for i := range j.plan.BatchRecords {
		if err := line.connection.PublishRequest(j.plan.Topic, reply, j.records[i%len(j.records)]); err != nil {
			line.settle(number, err)
			return
		}
	}
}

func (l *natsLine) acknowledged(message *nats.Msg) {
	number := message.Subject[len(l.inbox)+1:]
	if bytes.Contains(message.Data, []byte(`"error"`)) || len(message.Header) > 0 {
		l.settle(number, fmt.Errorf("publish: %s %v", message.Data, message.Header))
		return
	}
	if request, there := l.waiting.Load(number); there && request.(*natsRequest).left.Add(-1) == 0 {
		l.settle(number, nil)
	}
}

func (l *natsLine) settle(number string, err error) {
	if request, there := l.waiting.LoadAndDelete(number); there {
		request.(*natsRequest).done(err)
	}
}

// Consume reads by an ordered consumer: pushed by the server, not acknowledged.
func (j *jetStream) Consume(stop <-chan struct{}, got func(int)) error {
	info, err := j.context.StreamInfo(j.plan.Topic)
	if err != nil {
		return err
	}
	for {
		left := int64(info.State.Msgs)
		finished := make(chan struct{})
		subscription, err := j.context.Subscribe(j.plan.Topic, func(*nats.Msg) {
			got(1)
			if left--; left == 0 {
				close(finished)
			}
		}, nats.OrderedConsumer())
		if err != nil {
			return err
		}
		select {
		case <-stop:
			return nil
		case <-finished:
		}
		if err := subscription.Unsubscribe(); err != nil {
			return err
		}
	}
}
