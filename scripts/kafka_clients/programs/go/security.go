package main

import (
	"crypto/tls"
	"crypto/x509"
	"os"

	"github.com/xdg-go/scram"
)

// security is how a client proves who it is, over TLS: with User by SCRAM-SHA-512, else with its certificate.
type security struct {
	CA          string `json:"ca"`
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
	User        string `json:"user"`
	Password    string `json:"password"`
}

func (s *security) tls() (*tls.Config, error) {
	data, err := os.ReadFile(s.CA)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	config.RootCAs.AppendCertsFromPEM(data)
	if s.User == "" {
		shown, err := tls.LoadX509KeyPair(s.Certificate, s.Key)
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{shown}
	}
	return config, nil
}

// scramClient is what sarama wants of its user: it has no SCRAM of its own.
type scramClient struct{ *scram.ClientConversation }

func (c *scramClient) Begin(user, password, authorization string) error {
	client, err := scram.SHA512.NewClient(user, password, authorization)
	if err == nil {
		c.ClientConversation = client.NewConversation()
	}
	return err
}
