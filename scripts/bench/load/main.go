// The load client of scripts/bench/peers for the systems that raftlog is compared with.
//
// It stands between neither producer nor consumer and the servers: what is sent is made before the clock
// runs, and what is read is counted, not looked into, as far as the client library allows it. A process of
// its own with the protocol of raftlog's load client (cli/bench_load.py):
//
//	stdin   a Plan (JSON, one line); then "go" for the measured part
//	stdout  "warm" after the warm-up; then a Result (JSON, one line)
//
// It ends when stdin closes, so that its sockets' counters can be read until then.
package main

import (
	"bufio"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"
)

// Plan is what to do. One connection carries InFlight/Connections requests at a time.
type Plan struct {
	System       string   `json:"system"`
	Mode         string   `json:"mode"` // produce; consume what a produce of this topic has left, or decode; hold; attend; connect
	Addresses    []string `json:"addresses"`
	Topic        string   `json:"topic"`
	RecordSize   int      `json:"record_size"`
	BatchRecords int      `json:"batch_records"`
	InFlight     int      `json:"in_flight"`
	Connections  int      `json:"connections"`
	Replicas     int      `json:"replicas"`
	Partitions   int      `json:"partitions"`
	Rate         int      `json:"rate"`     // records a second that are offered; 0: as many as InFlight allows
	Synced       bool     `json:"synced"`   // asks for that with each request, where a system has to be asked
	Security     string   `json:"security"` // a directory with ca.pem, client.pem and client.key; "": no TLS
	Hello        string   `json:"hello"`    // base64: the one question of each connection that is made
	WarmUpS      float64  `json:"warm_up_s"`
	Seconds      float64  `json:"seconds"`
}

// Result is of the measured part only.
type Result struct {
	Requests int      `json:"requests"`
	Records  int      `json:"records"`
	Seconds  float64  `json:"seconds"`
	CpuS     float64  `json:"cpu_s"`
	Drained  int      `json:"drained"` // records answered after the end
	P50Ms    *float64 `json:"p50_ms"`
	P99Ms    *float64 `json:"p99_ms"`
	P999Ms   *float64 `json:"p999_ms"`
	Error    string   `json:"error"`
}

// Driver speaks to one system.
type Driver interface {
	// Prepare connects and, for a produce, creates the topic and finds its leader.
	Prepare() error
	// Send hands over one request of BatchRecords records; done is called once, when all are acknowledged.
	// Calls for one connection never overlap.
	Send(connection int, done func(error))
	// Consume counts what it reads from the beginning on, over and over, until stop is closed. Where reading
	// takes records away it returns early, when none is left.
	Consume(stop <-chan struct{}, got func(records int)) error
}

// Attendant waits for records that never come: what a system's idle clients cost it.
type Attendant interface {
	// Hold opens connections that say nothing more; left tells how many of them the servers have kept.
	Hold() (left func() int, err error)
	// Attend consumes all partitions of the topic; asked tells how many requests that has taken so far.
	Attend() (asked func() int, err error)
}

const (
	leaderWait = 30 * time.Second // for servers that have just started
	spareWait  = 90 * time.Second // beside the measured time: after that a client library hangs
)

// eventually tries until it succeeds, or for leaderWait; then it returns the last error.
func eventually(try func() error) error {
	end := time.Now().Add(leaderWait)
	for {
		err := try()
		if err == nil || time.Now().After(end) {
			return err
		}
		time.Sleep(200 * time.Millisecond)
	}
}

const differentRecords = 16 // sent in turn, so that no cache sees the same bytes over and over

func newDriver(plan Plan) (Driver, error) {
	records := make([][]byte, differentRecords)
	for i := range records {
		records[i] = make([]byte, plan.RecordSize)
		rand.Read(records[i])
	}
	switch plan.System {
	case "kafka":
		return &kafka{plan: plan, records: records}, nil
	case "nats":
		return &jetStream{plan: plan, records: records}, nil
	case "rabbitmq-stream":
		return &rabbitStream{plan: plan, records: records}, nil
	case "rabbitmq-quorum":
		return &quorum{plan: plan, records: records}, nil
	case "activemq":
		return &stomp{plan: plan, records: records}, nil
	case "valkey":
		return &valkey{plan: plan, records: records}, nil
	}
	return nil, fmt.Errorf("no driver for %q", plan.System)
}

func main() {
	debug.SetGCPercent(400)       // what was read is garbage at once: its collection took a third of the time
	signal.Ignore(syscall.SIGINT) // a terminal sends it to the whole group; the parent ends us
	input := bufio.NewScanner(os.Stdin)
	if !input.Scan() {
		return // the parent has gone
	}
	result, err := run(input)
	if err != nil {
		result = Result{Error: err.Error()}
	}
	tell(result)
	for input.Scan() { // until the parent has looked at our sockets
	}
}

func tell(result Result) {
	line, _ := json.Marshal(result)
	fmt.Println(string(line))
}

func run(input *bufio.Scanner) (Result, error) {
	var plan Plan
	if err := json.Unmarshal(input.Bytes(), &plan); err != nil {
		return Result{}, err
	}
	limit := spareWait + time.Duration((plan.WarmUpS+plan.Seconds)*float64(time.Second))
	time.AfterFunc(limit, func() {
		tell(Result{Error: "the load client got no further"})
		os.Exit(1)
	}) // never stopped: once the result is out, the parent ends us sooner
	told := func() {
		fmt.Println("warm")
		input.Scan()
	}
	if plan.Mode == "connect" {
		return connect(plan, told)
	}
	driver, err := newDriver(plan)
	if err != nil {
		return Result{}, err
	}
	if err := driver.Prepare(); err != nil {
		return Result{}, err
	}
	measure := produce
	switch plan.Mode {
	case "consume", "decode":
		measure = consume
	case "hold", "attend":
		measure = wait
	}
	return measure(plan, driver, told)
}

func cpuS() float64 {
	var usage syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / float64(time.Second)
}
