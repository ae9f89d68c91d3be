package main

import (
	"bufio"
	"net"
)

const lineBuffer = 1 << 18

// line is a plain connection whose answers come in the order of the requests.
type line struct {
	net.Conn
	reader  *bufio.Reader
	waiting chan func(error)
}

func dial(address string, inFlight int) (*line, error) {
	connection, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	return &line{connection, bufio.NewReaderSize(connection, lineBuffer), make(chan func(error), inFlight+1)}, nil
}

func (l *line) send(request []byte, done func(error)) {
	l.waiting <- done
	if _, err := l.Write(request); err != nil {
		l.Close() // the reader fails then, and tells
	}
}

// answer calls read for each request's answer until one fails.
func (l *line) answer(read func() error) {
	for done := range l.waiting {
		err := read()
		done(err)
		if err != nil {
			return
		}
	}
}
