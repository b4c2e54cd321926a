package transport_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/smtpsend/smtptest"
	"github.com/postrider/postrider/smtpsend/transport"
	"github.com/postrider/postrider/store/secret"
)

// TestPostfix: acceptance 1, and 15, 35, 36 as far as they are the transport's. What
// arrives is what was given, octet for octet behind the fields Postfix puts in front.
func TestPostfix(t *testing.T) {
	p := smtptest.StartPostfix(t, smtptest.PostfixOptions{
		Users: map[string]string{"jo": "secret"},
		Main:  []string{"smtpd_recipient_limit = 20", "smtpd_soft_error_limit = 1000", "smtpd_hard_error_limit = 1000"},
	})
	pool := transport.NewPool(transport.Options{})
	t.Cleanup(pool.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	starttls := transport.Server{Host: p.Host, Port: p.Port, User: "jo", Pass: secret.New("secret"), Key: "jo"}
	starttls.TLS.CA = p.CA
	implicit, plain, token := starttls, starttls, starttls
	implicit.Port, implicit.Secure = p.TLSPort, true
	plain.Plaintext, plain.Key = true, "plain"
	token.Pass, token.AccessToken, token.Key = secret.Text{}, secret.New("secret"), "token"

	seen := 0
	// send expects n more messages in the maildir and returns those that end with the body.
	send := func(t *testing.T, s transport.Server, env transport.Envelope, body []byte, n int) (transport.Receipt, [][]byte) {
		t.Helper()
		env.From, env.Size = "jo@postrider.test", int64(len(body))
		got, err := pool.Send(ctx, s, env, func(w io.Writer) error {
			_, err := w.Write(body)
			return err
		}, func(context.Context, []string) error { return nil })
		if err != nil {
			t.Fatalf("%v\n%s", err, p.Log())
		}
		seen += n
		all, err := p.Wait(ctx, seen)
		if err != nil {
			t.Fatal(err)
		}
		want := bytes.ReplaceAll(body, []byte("\r\n"), []byte("\n"))
		if !bytes.HasSuffix(want, []byte("\n")) {
			want = append(want, '\n')
		}
		var same [][]byte
		for _, m := range all {
			if bytes.HasSuffix(m, want) {
				same = append(same, m)
			}
		}
		return got, same
	}
	text := func(subject, rest string) []byte {
		return []byte("From: jo@postrider.test\r\nTo: you@example.net\r\nSubject: " + subject + "\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\nMessage-ID: <" + strings.ReplaceAll(subject, " ", ".") + "@postrider.test>\r\n\r\n" + rest)
	}
	dots := ".\r\n..\r\n.x\r\n\r\n\r\nFrom here\r\n \r\n" + strings.Repeat("y", 990) + "\r\n.\r\n"
	for _, tt := range []struct {
		name   string
		server transport.Server
		body   []byte
		eight  bool
		secure bool
	}{
		{"STARTTLS and PLAIN", starttls, text("a", dots), false, true},
		{"implicit TLS and LOGIN", implicit, text("b", dots), false, true},
		{"plain text", plain, text("c", dots), false, false},
		{"token", token, text("d", dots), false, true},
		{"8 bit", starttls, text("e", "caf\xc3\xa9 \xe9\xff\r\n"), true, true},
		{"no line end", starttls, text("f", "end"), false, true},
		{"empty body", starttls, text("g", ""), false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, same := send(t, tt.server, transport.Envelope{To: []string{"you@example.net"}, EightBit: tt.eight}, tt.body, 1)
			if len(same) != 1 || got.Secure != tt.secure || got.Code != 250 || !strings.HasPrefix(got.Response, "250 2.0.0 Ok: queued as ") || got.MaxSize != 64<<20 {
				t.Errorf("%d such messages, %+v", len(same), got)
			}
		})
	}
	t.Run("SMTPUTF8", func(t *testing.T) {
		_, same := send(t, starttls, transport.Envelope{To: []string{"jürgen@example.net"}, UTF8: true, EightBit: true}, text("i", "x\r\n"), 1)
		if len(same) != 1 || !bytes.Contains(same[0], []byte("Delivered-To: jürgen@example.net\n")) {
			t.Errorf("%q", same)
		}
	})
	t.Run("DSN", func(t *testing.T) {
		env := transport.Envelope{To: []string{"a+b@example.net"}, DSN: transport.DSN{ID: "01hq=z", Return: "headers", Notify: []string{"success"}}}
		got, _ := send(t, starttls, env, text("k", "x\r\n"), 2) // the message and the report
		all, err := p.Wait(ctx, seen)
		if err != nil || got.DSNUnsupported {
			t.Fatal(err, got)
		}
		report := string(bytes.Join(all, nil))
		for _, want := range []string{"Original-Envelope-Id: 01hq=z", "Original-Recipient: rfc822;a+b@example.net", "Action: delivered"} {
			if !strings.Contains(report, want) {
				t.Errorf("no %q in a report", want)
			}
		}
	})
	t.Run("too many recipients", func(t *testing.T) {
		var env transport.Envelope
		for i := range 25 {
			env.To = append(env.To, fmt.Sprintf("r%d@example.net", i))
		}
		got, same := send(t, starttls, env, text("l", "x\r\n"), 20)
		if len(got.Accepted) != 20 || len(got.TooMany) != 5 || len(same) != 20 {
			t.Errorf("%d came, %+v", len(same), got)
		}
	})
	t.Run("25 MB", func(t *testing.T) {
		big := strings.Repeat(strings.Repeat(".z", 49)+"\r\n", 250_000)
		if _, same := send(t, starttls, transport.Envelope{To: []string{"you@example.net"}}, text("h", big), 1); len(same) != 1 {
			t.Errorf("%d came", len(same))
		}
	})
	t.Run("too large", func(t *testing.T) {
		_, err := pool.Send(ctx, starttls, transport.Envelope{To: []string{"you@example.net"}, Size: 64<<20 + 1}, say(letter), nil)
		if e := failure(t, err); e.Enhanced != [3]int{5, 3, 4} || e.Code != 0 {
			t.Error(err)
		}
	})
	t.Run("wrong password", func(t *testing.T) {
		s := starttls
		s.Pass, s.Key = secret.New("x"), "wrong"
		_, err := pool.Send(ctx, s, to("you@example.net"), say(letter), nil)
		if e := failure(t, err); e.Kind != transport.KindAuth || e.Code != 535 || e.Enhanced != [3]int{5, 7, 8} {
			t.Error(err)
		}
	})
	t.Run("without credentials", func(t *testing.T) {
		s := starttls
		s.Pass, s.Key = secret.Text{}, "nobody"
		_, err := pool.Send(ctx, s, to("you@example.net"), say(letter), nil)
		if e := failure(t, err); e.Phase != transport.PhaseRcpt || e.Code != 554 {
			t.Error(err)
		}
	})
	// One connection for each key and port; the refused login left none.
	if s := pool.Stats(); s.Opened != 5 {
		t.Errorf("%+v", s)
	}
}
