package main

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// stomp speaks STOMP 1.1 to ActiveMQ: persistent messages, a receipt for each, or for the commit of a
// transaction where a request has several. A broker works on one frame of a connection after the other,
// hence Connections.
type stomp struct {
	plan    Plan
	records [][]byte
	request []byte
	lines   []*line
}

func (s *stomp) Prepare() error {
	var request bytes.Buffer
	extra := "receipt:r\n"
	if s.plan.BatchRecords > 1 {
		extra = "transaction:t\n"
		request.WriteString("BEGIN\ntransaction:t\n\n\x00")
	}
	for i := range s.plan.BatchRecords {
		record := s.records[i%len(s.records)]
		fmt.Fprintf(&request, "SEND\ndestination:/queue/%s\npersistent:true\n%scontent-length:%d\n\n%s\x00",
			s.plan.Topic, extra, len(record), record)
	}
	if s.plan.BatchRecords > 1 {
		request.WriteString("COMMIT\ntransaction:t\nreceipt:r\n\n\x00")
	}
	s.request = request.Bytes()
	for range s.plan.Connections {
		line, err := dial(s.plan.Addresses[0], s.plan.InFlight/s.plan.Connections)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(line, "CONNECT\naccept-version:1.1\nhost:/\n\n\x00"); err != nil {
			return err
		}
		if err := line.expect("CONNECTED"); err != nil {
			return err
		}
		if s.plan.Mode == "produce" {
			go line.answer(func() error { return line.expect("RECEIPT") })
		}
		s.lines = append(s.lines, line)
	}
	return nil
}

func (s *stomp) Send(connection int, done func(error)) {
	s.lines[connection].send(s.request, done)
}

func (s *stomp) Consume(stop <-chan struct{}, got func(int)) error {
	line := s.lines[0]
	subscribe := "SUBSCRIBE\nid:0\ndestination:/queue/%s\nack:auto\nactivemq.prefetchSize:2000\n\n\x00"
	if _, err := fmt.Fprintf(line, subscribe, s.plan.Topic); err != nil {
		return err
	}
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		line.SetReadDeadline(time.Now().Add(drained))
		if _, err := line.reader.Peek(1); err != nil {
			return nil // nothing is left
		}
		if err := line.expect("MESSAGE"); err != nil {
			return err
		}
		got(1)
	}
}

// expect reads one frame: its command, headers to an empty line, a body of content-length or up to the NUL.
func (l *line) expect(command string) error {
	found, err := l.text()
	for err == nil && found == "" { // newlines between frames
		found, err = l.text()
	}
	length, why := -1, ""
	for err == nil {
		var header string
		if header, err = l.text(); header == "" {
			break
		}
		if value, is := strings.CutPrefix(header, "content-length:"); is {
			length, err = strconv.Atoi(value)
		} else if value, is := strings.CutPrefix(header, "message:"); is {
			why = value
		}
	}
	if err == nil && length >= 0 {
		_, err = l.reader.Discard(length)
	}
	if err == nil {
		_, err = l.reader.ReadSlice(0)
	}
	if err == nil && found != command {
		err = fmt.Errorf("%s came instead of %s: %s", found, command, why)
	}
	return err
}

func (l *line) text() (string, error) {
	text, err := l.reader.ReadSlice('\n')
	if err != nil {
		return "", err
	}
	return strings.TrimRight(string(text), "\r\n"), nil
}
