package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
)

// secured is TLS with the client's certificate of a directory that `raftlog security client` made.
func secured(directory string) (*tls.Config, error) {
	certificate, err := tls.LoadX509KeyPair(
		filepath.Join(directory, "client.pem"), filepath.Join(directory, "client.key"))
	if err != nil {
		return nil, err
	}
	trusted, err := os.ReadFile(filepath.Join(directory, "ca.pem"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(trusted) {
		return nil, fmt.Errorf("%s holds no certificate of an authority", directory)
	}
	return &tls.Config{Certificates: []tls.Certificate{certificate}, RootCAs: roots}, nil
}
