package imaptest

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
)

// Script is a server that says what a test wrote down. Every connection runs the steps
// from the first; after the last one it is closed. It works over pipes, in a bubble or
// out of it.
type Script struct {
	t     TB
	steps []Step

	wg sync.WaitGroup

	mu    sync.Mutex
	heard []string
	conns []net.Conn
}

// Step is one thing a scripted server does; an error ends the connection.
type Step func(*Turn) error

// Turn is a scripted connection at work.
type Turn struct {
	s   *Script
	c   net.Conn
	br  *bufio.Reader
	tag string // of the last command heard
}

// NewScript returns a scripted server. It is stopped with the test.
func NewScript(t TB, steps ...Step) *Script {
	s := &Script{t: t, steps: steps}
	t.Cleanup(s.Close)
	return s
}

// Dial connects to it by a pipe, whatever the address.
func (s *Script) Dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	s.mu.Lock()
	s.conns = append(s.conns, ours, theirs)
	s.mu.Unlock()
	s.wg.Go(func() {
		defer func() { _ = theirs.Close() }()
		t := &Turn{s: s, c: theirs, br: bufio.NewReader(theirs)}
		for _, step := range s.steps {
			if step(t) != nil {
				return
			}
		}
	})
	return ours, nil
}

// Heard are the lines clients sent so far, in order.
func (s *Script) Heard() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.heard...)
}

// Close ends all connections and waits for them.
func (s *Script) Close() {
	s.mu.Lock()
	conns := s.conns
	s.conns = nil
	s.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
	s.wg.Wait()
}

// Send says something; {tag} in it is the tag of the last command.
func Send(lines ...string) Step {
	return func(t *Turn) error {
		for _, l := range lines {
			if _, err := io.WriteString(t.c, strings.ReplaceAll(l, "{tag}", t.tag)); err != nil {
				return err
			}
		}
		return nil
	}
}

// Expect reads a line that must contain want ("" = any) and takes its tag.
func Expect(want string) Step {
	return func(t *Turn) error {
		line, err := t.br.ReadString('\n')
		if err != nil {
			return err
		}
		line = strings.TrimRight(line, "\r\n")
		t.s.mu.Lock()
		t.s.heard = append(t.s.heard, line)
		t.s.mu.Unlock()
		if !strings.Contains(strings.ToUpper(line), strings.ToUpper(want)) {
			t.s.t.Logf("script: heard %q, expected %q", line, want)
			return fmt.Errorf("heard %q, expected %q", line, want)
		}
		if tag, _, ok := strings.Cut(line, " "); ok {
			t.tag = tag
		}
		return nil
	}
}

// Answer expects a command and answers it: the lines, then OK.
func Answer(want string, lines ...string) Step {
	return All(Expect(want), Send(lines...), Send("{tag} OK done\r\n"))
}

// Silence says nothing until the client hangs up.
func Silence() Step {
	return func(t *Turn) error {
		_, err := io.Copy(io.Discard, t.br)
		if err == nil {
			err = io.EOF
		}
		return err
	}
}

// Repeat says the same again and again: n bytes in all.
func Repeat(what string, n int) Step {
	return func(t *Turn) error {
		chunk := strings.Repeat(what, max(1, 8192/len(what)))
		for n > 0 {
			m := min(n, len(chunk))
			if _, err := io.WriteString(t.c, chunk[:m]); err != nil {
				return err
			}
			n -= m
		}
		return nil
	}
}

// StartTLS makes the server's side of TLS.
func StartTLS(cfg *tls.Config) Step {
	return func(t *Turn) error {
		tc := tls.Server(t.c, cfg)
		if err := tc.Handshake(); err != nil {
			return err
		}
		t.c, t.br = tc, bufio.NewReader(tc)
		return nil
	}
}

// All is several steps as one.
func All(steps ...Step) Step {
	return func(t *Turn) error {
		for _, s := range steps {
			if err := s(t); err != nil {
				return err
			}
		}
		return nil
	}
}

// LoggedIn is a session up to its end of login by password, with these capabilities.
func LoggedIn(caps string) Step {
	list := "* CAPABILITY IMAP4rev1 " + caps + "\r\n"
	return All(Send("* OK ready\r\n"), Answer("CAPABILITY", list), Answer("LOGIN"), Answer("CAPABILITY", list))
}
