package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"
	"github.com/rabbitmq/rabbitmq-stream-go-client/pkg/amqp"
	"github.com/rabbitmq/rabbitmq-stream-go-client/pkg/message"
	"github.com/rabbitmq/rabbitmq-stream-go-client/pkg/stream"
)

// inOrder pairs acknowledgements that come one per record, in the order of the records, with requests.
type inOrder struct {
	batchRecords int
	waiting      chan func(error)
	confirmed    int
}

func newInOrder(plan Plan) *inOrder {
	return &inOrder{batchRecords: plan.BatchRecords, waiting: make(chan func(error), plan.InFlight+1)}
}

func (o *inOrder) confirm(records int) {
	for o.confirmed += records; o.confirmed >= o.batchRecords; o.confirmed -= o.batchRecords {
		(<-o.waiting)(nil)
	}
}

func (o *inOrder) fail(err error) {
	select {
	case done := <-o.waiting:
		done(err)
	default:
	}
}

const socketBuffer = 4 << 20

// rabbitStream publishes the records of a request as one frame, each with its own confirmation.
type rabbitStream struct {
	plan     Plan
	messages []message.StreamMessage
	records  [][]byte
	env      *stream.Environment
	order    *inOrder
	producer *stream.Producer
	last     int64 // offset, where it is consumed
}

func (r *rabbitStream) Prepare() error {
	options := stream.NewEnvironmentOptions()
	host, port, err := net.SplitHostPort(r.plan.Addresses[0])
	if err != nil {
		return err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	options.SetHost(host).SetPort(number).SetUser("guest").SetPassword("guest")
	// The library's 64 KiB are one segment of the loopback device: the window closes, and a timer opens it.
	options.SetReadBuffer(socketBuffer).SetWriteBuffer(socketBuffer)
	r.env, err = stream.NewEnvironment(options)
	if err != nil {
		return err
	}
	if r.plan.Mode == "consume" {
		r.last, err = r.lastOffset()
		return err
	}
	if err := eventually(func() error {
		return r.env.DeclareStream(r.plan.Topic, stream.NewStreamOptions())
	}); err != nil {
		return err
	}
	for i := range r.plan.BatchRecords {
		r.messages = append(r.messages, amqp.NewMessage(r.records[i%len(r.records)]))
	}
	r.order = newInOrder(r.plan)
	r.producer, err = r.env.NewProducer(r.plan.Topic, stream.NewProducerOptions())
	if err != nil {
		return err
	}
	go func() {
		for confirmed := range r.producer.NotifyPublishConfirmation() {
			for _, each := range confirmed {
				if !each.IsConfirmed() {
					r.order.fail(each.GetError())
					return
				}
			}
			r.order.confirm(len(confirmed))
		}
	}()
	return nil
}

func (r *rabbitStream) Send(_ int, done func(error)) {
	r.order.waiting <- done
	if err := r.producer.BatchSend(r.messages); err != nil {
		r.order.fail(err)
	}
}

// lastOffset reads the last frame of the stream, since brokers before 3.11 do not tell where it ends.
func (r *rabbitStream) lastOffset() (int64, error) {
	seen := make(chan int64, lineBuffer)
	consumer, err := r.env.NewConsumer(r.plan.Topic, func(context stream.ConsumerContext, _ *amqp.Message) {
		seen <- context.Consumer.GetOffset()
	}, stream.NewConsumerOptions().SetOffset(stream.OffsetSpecification{}.Last()))
	if err != nil {
		return 0, err
	}
	defer consumer.Close()
	last := int64(-1)
	for wait := leaderWait; ; wait = drained {
		select {
		case offset := <-seen:
			last = max(last, offset)
		case <-time.After(wait):
			if last < 0 {
				return 0, errors.New("nothing was read")
			}
			return last, nil
		}
	}
}

func (r *rabbitStream) Consume(stop <-chan struct{}, got func(int)) error {
	chunks, err := openChunks(r.plan.Addresses[0])
	if err != nil {
		return err
	}
	defer chunks.connection.Close()
	for {
		if err := chunks.subscribe(r.plan.Topic); err != nil {
			return err
		}
		taken := 0
		for {
			select {
			case <-stop:
				return nil
			default:
			}
			records, offset, err := chunks.next()
			if err != nil {
				return err
			}
			got(records)
			if offset+int64(records) > r.last {
				break // the end: from the beginning again
			}
			if taken++; taken%creditStep == 0 {
				if err := chunks.credit(creditStep); err != nil {
					return err
				}
			}
		}
	}
}

// quorum publishes persistent messages, each with its own confirmation; a request of n is n publishes
// without a pause. It connects to the queue's leader, which is the server where the queue was declared.
type quorum struct {
	plan    Plan
	records [][]byte
	order   *inOrder
	channel *amqp091.Channel
}

const drained = 500 * time.Millisecond // without a message, the queue is empty

func (q *quorum) Prepare() error {
	connection, err := amqp091.Dial("amqp://guest:guest@" + q.plan.Addresses[0])
	if err != nil {
		return err
	}
	if q.channel, err = connection.Channel(); err != nil || q.plan.Mode == "consume" {
		return err
	}
	arguments := amqp091.Table{"x-queue-type": "quorum", "x-quorum-initial-group-size": q.plan.Replicas}
	if _, err := q.channel.QueueDeclare(q.plan.Topic, true, false, false, false, arguments); err != nil {
		return err
	}
	if err := q.channel.Confirm(false); err != nil {
		return err
	}
	q.order = newInOrder(q.plan)
	confirmations := q.channel.NotifyPublish(make(chan amqp091.Confirmation, q.plan.InFlight*q.plan.BatchRecords))
	go func() {
		for each := range confirmations {
			if !each.Ack {
				q.order.fail(errors.New("a publish was refused"))
				return
			}
			q.order.confirm(1)
		}
	}()
	return nil
}

func (q *quorum) Send(_ int, done func(error)) {
	q.order.waiting <- done
	for i := range q.plan.BatchRecords {
		publishing := amqp091.Publishing{DeliveryMode: amqp091.Persistent, Body: q.records[i%len(q.records)]}
		if err := q.channel.PublishWithContext(context.Background(), "", q.plan.Topic, false, false, publishing); err != nil {
			q.order.fail(fmt.Errorf("publish: %w", err))
			return
		}
	}
}

func (q *quorum) Consume(stop <-chan struct{}, got func(int)) error {
	const prefetch, acknowledged = 2000, 500
	if err := q.channel.Qos(prefetch, 0, false); err != nil {
		return err
	}
	deliveries, err := q.channel.Consume(q.plan.Topic, "", false, false, false, false, nil)
	if err != nil {
		return err
	}
	idle := time.NewTimer(drained)
	for count := 1; ; count++ {
		idle.Reset(drained)
		select {
		case <-stop:
			return nil
		case <-idle.C:
			return nil
		case delivery := <-deliveries:
			got(1)
			if count%acknowledged == 0 {
				if err := delivery.Ack(true); err != nil {
					return err
				}
			}
		}
	}
}
