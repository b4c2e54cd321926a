package smtptest_test

import (
	"bytes"
	"context"
	"io"
	"testing"

	"github.com/postrider/postrider/smtpsend/smtptest"
	"github.com/postrider/postrider/smtpsend/transport"
	"github.com/postrider/postrider/store/secret"
)

// TestServers hands each of our servers the same message.
func TestServers(t *testing.T) {
	cert, err := smtptest.NewCertificate()
	if err != nil {
		t.Fatal(err)
	}
	users := map[string]string{"jo": "secret"}
	type server interface {
		Addr() (string, int)
		Messages() []smtptest.Message
		Peak() int
	}
	for name, s := range map[string]server{
		"sink":           smtptest.StartSink(t, smtptest.SinkOptions{Certificate: cert, Users: users}),
		"sink implicit":  smtptest.StartSink(t, smtptest.SinkOptions{Certificate: cert, Implicit: true, Users: users}),
		"sink plain":     smtptest.StartSink(t, smtptest.SinkOptions{Users: users}),
		"fault":          smtptest.StartFault(t, smtptest.FaultOptions{Certificate: cert, Users: users, Mechanisms: []string{"LOGIN"}}),
		"fault implicit": smtptest.StartFault(t, smtptest.FaultOptions{Certificate: cert, Implicit: true, Users: users, Mechanisms: []string{"PLAIN"}}),
	} {
		t.Run(name, func(t *testing.T) {
			pool := transport.NewPool(transport.Options{})
			defer pool.Close()
			host, port := s.Addr()
			srv := transport.Server{Host: host, Port: port, User: "jo", Pass: secret.New("secret"), Key: "k"}
			srv.TLS.CA = cert.CA
			srv.Secure, srv.Plaintext = name == "sink implicit" || name == "fault implicit", name == "sink plain"
			body := []byte("Subject: x\r\n\r\n.\r\n..a\r\n\r\n\xe9\r\n")
			for range 2 {
				_, err := pool.Send(t.Context(), srv, transport.Envelope{From: "a@b.example", To: []string{"c@d.example", "e@f.example"}, Size: int64(len(body)), EightBit: true},
					func(w io.Writer) error { _, err := w.Write(body); return err }, func(context.Context, []string) error { return nil })
				if err != nil {
					t.Fatal(err)
				}
			}
			got := s.Messages()
			if len(got) != 2 || s.Peak() != 1 {
				t.Fatalf("%d messages, %d at once", len(got), s.Peak())
			}
			for _, m := range got {
				if !bytes.Equal(m.Body, body) || m.User != "jo" || m.From != "a@b.example" || len(m.To) != 2 || m.TLS == srv.Plaintext {
					t.Errorf("%+v", m)
				}
			}
		})
	}
}
