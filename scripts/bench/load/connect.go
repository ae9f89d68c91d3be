package main

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const connectWait = 10 * time.Second

// The same for each system, so that none is measured with a cheaper one.
const (
	suite = tls.TLS_AES_256_GCM_SHA384
	curve = tls.X25519
)

// connect makes connections, Connections of them at a time: TCP, TLS with both certificates, one question and the
// beginning of its answer, and the end. The answer shows that the server has taken the client's certificate.
func connect(plan Plan, warm func()) (Result, error) {
	hello, err := base64.StdEncoding.DecodeString(plan.Hello)
	if err != nil {
		return Result{}, err
	}
	settings, err := secured(plan.Security)
	if err != nil {
		return Result{}, err
	}
	settings.MinVersion, settings.CurvePreferences = tls.VersionTLS13, []tls.CurveID{curve}
	if _, err := connectPart(plan, settings, hello, plan.WarmUpS); err != nil {
		return Result{}, err
	}
	warm()
	return connectPart(plan, settings, hello, plan.Seconds)
}

func connectPart(plan Plan, settings *tls.Config, hello []byte, seconds float64) (Result, error) {
	var made atomic.Int64
	var failed atomic.Pointer[error]
	var all sync.WaitGroup
	cpu, start := cpuS(), time.Now()
	end := start.Add(time.Duration(seconds * float64(time.Second)))
	for worker := range plan.Connections {
		all.Add(1)
		go func() {
			defer all.Done()
			for turn := worker; time.Now().Before(end) && failed.Load() == nil; turn++ {
				if err := connectOnce(plan.Addresses[turn%len(plan.Addresses)], settings, hello); err != nil {
					failed.Store(&err)
					return
				}
				made.Add(1)
			}
		}()
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		return Result{}, *err
	}
	count := int(made.Load())
	return Result{Requests: count, Records: count, Seconds: time.Since(start).Seconds(), CpuS: cpuS() - cpu}, nil
}

func connectOnce(address string, settings *tls.Config, hello []byte) error {
	dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: connectWait}, Config: settings}
	raw, err := dialer.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer raw.Close()
	connection, secure := raw.(*tls.Conn)
	if !secure {
		return errors.New("no TLS")
	}
	if agreed := connection.ConnectionState().CipherSuite; agreed != suite {
		return fmt.Errorf("the server chose %s, not %s", tls.CipherSuiteName(agreed), tls.CipherSuiteName(suite))
	}
	if err := connection.SetDeadline(time.Now().Add(connectWait)); err != nil {
		return err
	}
	if _, err := connection.Write(hello); err != nil {
		return err
	}
	_, err = io.ReadFull(connection, make([]byte, 4))
	return err
}
