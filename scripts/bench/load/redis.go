package main

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
)

const redisCount = 1000 // records of an XREAD

// redis adds to a stream: the records of a request are one pipeline and, with replicas, end in a WAIT for
// all of them. A WAIT blocks its connection, hence Connections.
type redis struct {
	plan    Plan
	records [][]byte
	request []byte
	lines   []*line
}

func (r *redis) Prepare() error {
	var request bytes.Buffer
	for i := range r.plan.BatchRecords {
		record := r.records[i%len(r.records)]
		fmt.Fprintf(&request, "*5\r\n$4\r\nXADD\r\n$%d\r\n%s\r\n$1\r\n*\r\n$1\r\nv\r\n$%d\r\n%s\r\n",
			len(r.plan.Topic), r.plan.Topic, len(record), record)
	}
	if r.plan.Replicas > 1 {
		fmt.Fprintf(&request, "*3\r\n$4\r\nWAIT\r\n$1\r\n%d\r\n$1\r\n0\r\n", r.plan.Replicas-1)
	}
	r.request = request.Bytes()
	for range r.plan.Connections {
		line, err := dial(r.plan.Addresses[0], r.plan.InFlight/r.plan.Connections)
		if err != nil {
			return err
		}
		if r.plan.Mode == "produce" {
			go line.answer(func() error { return r.acknowledged(line) })
		}
		r.lines = append(r.lines, line)
	}
	return nil
}

func (r *redis) Send(connection int, done func(error)) {
	r.lines[connection].send(r.request, done)
}

func (r *redis) acknowledged(line *line) error {
	for range r.plan.BatchRecords {
		if _, err := line.bulk(nil); err != nil {
			return err
		}
	}
	if r.plan.Replicas > 1 {
		replicas, err := line.number(':')
		if err == nil && replicas < r.plan.Replicas-1 {
			err = fmt.Errorf("only %d replicas have it", replicas)
		}
		return err
	}
	return nil
}

func (r *redis) Consume(stop <-chan struct{}, got func(int)) error {
	errs := make(chan error, len(r.lines))
	for _, line := range r.lines {
		go func() { errs <- r.read(line, stop, got) }()
	}
	return <-errs
}

// read takes answers apart as far as it must: [[topic, [[id, [field, value]], …]]], or nil at the end.
func (r *redis) read(line *line, stop <-chan struct{}, got func(int)) error {
	last := []byte("0")
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		if _, err := fmt.Fprintf(line, "*6\r\n$5\r\nXREAD\r\n$5\r\nCOUNT\r\n$4\r\n%d\r\n$7\r\nSTREAMS\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n",
			redisCount, len(r.plan.Topic), r.plan.Topic, len(last), last); err != nil {
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
