package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
)

// chunkReader takes the chunks of a RabbitMQ stream as they come and looks at their headers only. The client
// library takes each record apart and hands it from one goroutine to another, which was slower than the server.
//
// Frames are length uint32 | key uint16 | version uint16 | …, big-endian. Source: the stream protocol's
// reference in RabbitMQ's repository (rabbitmq_stream/docs/PROTOCOL.adoc).
type chunkReader struct {
	connection net.Conn
	input      *bufio.Reader
	subscribed byte // the id of the current subscription
}

const (
	keySubscribe        = 7
	keyDeliver          = 8
	keyCredit           = 9
	keyUnsubscribe      = 12
	keyPeerProperties   = 17
	keySaslHandshake    = 18
	keySaslAuthenticate = 19
	keyTune             = 20
	keyOpen             = 21
	keyResponse         = 0x8000
	protocolVersion     = 1
	codeOk              = 1
	fromTheFirst        = 1
	chunkHeaderBytes    = 48
	// How many chunks may be on their way. With the ten of the client library both ends wait.
	credits    = 200
	creditStep = credits / 4 // asked for at once
)

func openChunks(address string) (*chunkReader, error) {
	connection, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	c := &chunkReader{connection: connection, input: bufio.NewReaderSize(connection, 1<<20)}
	if err := c.login(); err != nil {
		connection.Close()
		return nil, err
	}
	return c, nil
}

func (c *chunkReader) login() error {
	if err := c.ask(keyPeerProperties, number32(nil, 0)); err != nil {
		return err
	}
	if err := c.ask(keySaslHandshake, nil); err != nil {
		return err
	}
	secret := "\x00guest\x00guest"
	if err := c.ask(keySaslAuthenticate, append(number32(text(nil, "PLAIN"), uint32(len(secret))), secret...)); err != nil {
		return err
	}
	for {
		key, body, err := c.frame()
		if err != nil {
			return err
		}
		if key == keyTune {
			// Its frame size, and no heartbeats.
			if err := c.send(keyResponse|keyTune, number32(append([]byte{}, body[:4]...), 0)); err != nil {
				return err
			}
			return c.ask(keyOpen, text(nil, "/"))
		}
	}
}

// subscribe begins at the first chunk, in place of a subscription before it.
func (c *chunkReader) subscribe(name string) error {
	if c.subscribed > 0 {
		if err := c.ask(keyUnsubscribe, []byte{c.subscribed}); err != nil {
			return err
		}
	}
	c.subscribed = c.subscribed%100 + 1
	body := text([]byte{c.subscribed}, name)
	body = binary.BigEndian.AppendUint16(body, fromTheFirst)
	body = binary.BigEndian.AppendUint16(body, credits)
	return c.ask(keySubscribe, number32(body, 0))
}

// next returns how many records the next chunk has, and the offset of its first.
func (c *chunkReader) next() (records int, offset int64, err error) {
	for {
		key, body, err := c.frame()
		if err != nil {
			return 0, 0, err
		}
		if key != keyDeliver || len(body) < 1+chunkHeaderBytes || body[0] != c.subscribed {
			continue
		}
		header := body[1:]
		return int(binary.BigEndian.Uint32(header[4:])), int64(binary.BigEndian.Uint64(header[24:])), nil
	}
}

func (c *chunkReader) credit(chunks uint16) error {
	body := binary.BigEndian.AppendUint16([]byte{c.subscribed}, chunks)
	return c.send(keyCredit, body)
}

// frame reads one. Of a chunk only the header is kept: what follows it stays in the reader's buffer until dropped.
func (c *chunkReader) frame() (uint16, []byte, error) {
	head, err := c.input.Peek(8)
	if err != nil {
		return 0, nil, err
	}
	length := int(binary.BigEndian.Uint32(head))
	key := binary.BigEndian.Uint16(head[4:])
	if length < 4 {
		return 0, nil, fmt.Errorf("a frame of %d bytes", length)
	}
	if _, err := c.input.Discard(8); err != nil {
		return 0, nil, err
	}
	left := length - 4
	kept := left
	if key == keyDeliver {
		kept = min(left, 1+chunkHeaderBytes)
	}
	peeked, err := c.input.Peek(kept)
	if err != nil {
		return 0, nil, err
	}
	body := append([]byte{}, peeked...)
	_, err = c.input.Discard(left)
	return key, body, err
}

// ask sends a request and waits for the answer to it; chunks that come before it are dropped.
func (c *chunkReader) ask(key uint16, body []byte) error {
	if err := c.send(key, append(number32(nil, 1), body...)); err != nil {
		return err
	}
	for {
		answered, found, err := c.frame()
		if err != nil {
			return err
		}
		if answered != keyResponse|key {
			continue
		}
		if len(found) < 6 {
			return errors.New("an answer that is cut short")
		}
		if code := binary.BigEndian.Uint16(found[4:]); code != codeOk {
			return fmt.Errorf("request %d was refused with code %d", key, code)
		}
		return nil
	}
}

func (c *chunkReader) send(key uint16, body []byte) error {
	frame := number32(nil, uint32(4+len(body)))
	frame = binary.BigEndian.AppendUint16(frame, key)
	frame = binary.BigEndian.AppendUint16(frame, protocolVersion)
	_, err := c.connection.Write(append(frame, body...))
	return err
}

func number32(to []byte, value uint32) []byte { return binary.BigEndian.AppendUint32(to, value) }

func text(to []byte, value string) []byte {
	return append(binary.BigEndian.AppendUint16(to, uint16(len(value))), value...)
}
