package main

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
)

const valkeyCount = 1000 // records of an XREAD

// valkey adds to a stream: the records of a request are one pipeline and, with replicas, end in a WAIT for
// all of them, or in a WAITAOF where they have to be synced. Both block their connection, hence Connections.
type valkey struct {
	plan    Plan
	records [][]byte
	request []byte
	lines   []*line
}

func (v *valkey) Prepare() error {
	var request bytes.Buffer
	for i := range v.plan.BatchRecords {
		record := v.records[i%len(v.records)]
		fmt.Fprintf(&request, "*5\r\n$4\r\nXADD\r\n$%d\r\n%s\r\n$1\r\n*\r\n$1\r\nv\r\n$%d\r\n%s\r\n",
			len(v.plan.Topic), v.plan.Topic, len(record), record)
	}
	if v.plan.Replicas > 1 && !v.plan.Synced {
		fmt.Fprintf(&request, "*3\r\n$4\r\nWAIT\r\n$1\r\n%d\r\n$1\r\n0\r\n", v.plan.Replicas-1)
	}
	v.request = request.Bytes()
	for range v.plan.Connections {
		line, err := dial(v.plan.Addresses[0], v.plan.InFlight/v.plan.Connections)
		if err != nil {
			return err
		}
		if v.plan.Mode == "produce" {
			go line.answer(func() error { return v.acknowledged(line) })
		}
		v.lines = append(v.lines, line)
	}
	return nil
}

func (v *valkey) Send(connection int, done func(error)) {
	v.lines[connection].send(v.request, done)
}

func (v *valkey) acknowledged(line *line) error {
	for range v.plan.BatchRecords {
		if _, err := line.bulk(nil); err != nil {
			return err
		}
	}
	if v.plan.Replicas == 1 {
		return nil
	}
	if v.plan.Synced {
		if err := v.synced(line); err != nil {
			return err
		}
	}
	replicas, err := line.number(':')
	if err == nil && replicas < v.plan.Replicas-1 {
		err = fmt.Errorf("only %d replicas have it", replicas)
	}
	return err
}

// synced asks once the records are answered: a replica that finds the question behind them in the same bytes tells how far
// it had synced before, and the next time a second later. Left to read is how many replicas have synced.
func (v *valkey) synced(line *line) error {
	if _, err := fmt.Fprintf(line, "*4\r\n$7\r\nWAITAOF\r\n$1\r\n1\r\n$1\r\n%d\r\n$1\r\n0\r\n", v.plan.Replicas-1); err != nil {
		return err
	}
	if _, err := line.number('*'); err != nil {
		return err
	}
	own, err := line.number(':')
	if err == nil && own != 1 {
		err = fmt.Errorf("it has not synced itself: %d", own)
	}
	return err
}

func (v *valkey) Consume(stop <-chan struct{}, got func(int)) error {
	errs := make(chan error, len(v.lines))
	for _, line := range v.lines {
		go func() { errs <- v.read(line, stop, got) }()
	}
	return <-errs
}

// read takes answers apart as far as it must: [[topic, [[id, [field, value]], …]]], or nil at the end.
func (v *valkey) read(line *line, stop <-chan struct{}, got func(int)) error {
	last := []byte("0")
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		if _, err := fmt.Fprintf(line, "*6\r\n$5\r\nXREAD\r\n$5\r\nCOUNT\r\n$4\r\n%d\r\n$7\r\nSTREAMS\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n",
			valkeyCount, len(v.plan.Topic), v.plan.Topic, len(last), last); err != nil {
			return err
		}
		topics, err := line.number('*')
		if err != nil {
			return err
		}
		if topics < 0 {
			last = []byte("0")
			continue
		}
		if _, err = line.number('*'); err == nil {
			_, err = line.bulk(nil)
		}
		if err != nil {
			return err
		}
		records, err := line.number('*')
		for i := 0; i < records && err == nil; i++ {
			if _, err = line.number('*'); err == nil {
				last, err = line.bulk(last[:0])
			}
			if err == nil {
				_, err = line.number('*')
			}
			if err == nil {
				_, err = line.bulk(nil)
			}
			if err == nil {
				_, err = line.bulk(nil)
			}
		}
		if err != nil {
			return err
		}
		got(records)
	}
}

// number reads a line such as ":2" or "*5"; "*-1" is nil.
func (l *line) number(kind byte) (int, error) {
	text, err := l.reader.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if text[0] != kind {
		return 0, fmt.Errorf("%q came instead of %c", bytes.TrimSpace(text), kind)
	}
	return strconv.Atoi(string(bytes.TrimSpace(text[1:])))
}

// bulk reads a string; it is put into keep, or dropped when keep is nil.
func (l *line) bulk(keep []byte) ([]byte, error) {
	length, err := l.number('$')
	if err != nil {
		return nil, err
	}
	if keep != nil {
		keep = append(keep, make([]byte, length)...)
		_, err = io.ReadFull(l.reader, keep)
		length = 0
	}
	if err == nil {
		_, err = l.reader.Discard(length + 2)
	}
	return keep, err
}
