// The Go clients, each driven by one JSON request a line: `clients NAME`. See serving.py for the forms.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"time"
)

const waitFor = 30 * time.Second

// request has the fields of all operations.
type request struct {
	Do         string            `json:"do"`
	Bootstrap  string            `json:"bootstrap"`
	Security   *security         `json:"security"`
	Topic      string            `json:"topic"`
	Group      string            `json:"group"`
	Codec      string            `json:"codec"`
	Acks       string            `json:"acks"`
	Idempotent *bool             `json:"idempotent"`
	Assignor   string            `json:"assignor"`
	Instance   string            `json:"instance"`
	Records    []record          `json:"records"`
	Partition  int32             `json:"partition"`
	Partitions []int32           `json:"partitions"`
	Start      map[string]int64  `json:"start"`
	Count      int               `json:"count"`
	Total      int               `json:"total"`
	Replicas   int               `json:"replicas"`
	Configs    map[string]string `json:"configs"`
	Validate   bool              `json:"validate"`
	Before     places            `json:"before"`
	Offsets    places            `json:"offsets"`
	At         any               `json:"at"`
}

// places are offsets by partition.
type places map[string]int64

func (p places) each(do func(partition int32, offset int64)) {
	for name, offset := range p {
		partition, _ := strconv.Atoi(name)
		do(int32(partition), offset)
	}
}

type header struct {
	Key   string
	Value []byte
}

func (h header) MarshalJSON() ([]byte, error) { return json.Marshal([]any{h.Key, h.Value}) }

func (h *header) UnmarshalJSON(data []byte) error {
	return json.Unmarshal(data, &[]any{&h.Key, &h.Value})
}

type record struct {
	Partition int32    `json:"partition"`
	Offset    int64    `json:"offset"`
	Key       []byte   `json:"key"`
	Value     []byte   `json:"value"`
	Headers   []header `json:"headers"`
	Timestamp int64    `json:"timestamp"`
}

type object map[string]any

// lacking is the reason why a client has not what was asked for.
type lacking string

func (l lacking) Error() string { return string(l) }

type operation func(ctx context.Context, r request) (object, error)

// member is what a group's member knows of itself.
type member struct {
	mutex    sync.Mutex
	assigned map[int32]bool
	revoked  []int32
	records  []record
	failure  string
}

func newMember() *member {
	return &member{assigned: map[int32]bool{}, revoked: []int32{}, records: []record{}}
}

func (m *member) gained(partitions []int32) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	for _, partition := range partitions {
		m.assigned[partition] = true
	}
}

func (m *member) lost(partitions []int32) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	for _, partition := range partitions {
		delete(m.assigned, partition)
	}
	m.revoked = append(m.revoked, partitions...)
}

func (m *member) read(r record) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.records = append(m.records, r)
}

func (m *member) failed(err error) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.failure = err.Error()
}

func (m *member) state(context.Context, request) (object, error) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	assigned := []int32{}
	for partition := range m.assigned {
		assigned = append(assigned, partition)
	}
	slices.Sort(assigned)
	return object{"assigned": assigned, "revoked": append([]int32{}, m.revoked...),
		"records": append([]record{}, m.records...), "failure": m.failure}, nil
}

func version(module string) string {
	info, _ := debug.ReadBuildInfo()
	for _, each := range info.Deps {
		if each.Path == module {
			return each.Version
		}
	}
	return "unknown"
}

func main() {
	operations := map[string]func() map[string]operation{
		"franz-go": franzOperations, "sarama": saramaOperations, "kafka-go": segmentOperations,
	}[os.Args[1]]()
	input := bufio.NewReader(os.Stdin)
	output := json.NewEncoder(os.Stdout)
	for {
		line, err := input.ReadBytes('\n')
		if err != nil {
			return
		}
		output.Encode(answer(operations, line))
	}
}

func answer(operations map[string]operation, line []byte) object {
	var r request
	if err := json.Unmarshal(line, &r); err != nil {
		return object{"error": err.Error()}
	}
	run := operations[r.Do]
	if run == nil {
		return object{"lacks": "no such operation in this client"}
	}
	ctx, cancel := context.WithTimeout(context.Background(), waitFor)
	defer cancel()
	told, err := run(ctx, r)
	var lacks lacking
	switch {
	case errors.As(err, &lacks):
		return object{"lacks": lacks.Error()}
	case err != nil:
		return object{"error": fmt.Sprintf("%T: %v", err, err)}
	case told == nil:
		return object{"ok": object{}}
	}
	return object{"ok": told}
}
