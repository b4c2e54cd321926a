// Package smtptest holds submission servers for tests and for the demo: a Sink that keeps
// what it is given, a Fault server that does at any step whatever a test wants, and a real
// Postfix.
//
// A Sink and a Fault serve any listener: of the loopback, or of hooktest's network of
// pipes in a synctest bubble. It is imported by tests and the demo only and does not
// import the testing package: what takes a TB takes any *testing.T.
//
// Goroutines: one per listener and per connection, ended and joined by Close; Postfix is a
// child process with its children, ended with the test.
package smtptest

import (
	"context"
	"sync"
)

// TB is what helpers need of a test.
type TB interface {
	Helper()
	Cleanup(func())
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
}

// Message is one that was taken, or that a test's answer refused after all of it had come.
type Message struct {
	Conn int    // a Fault: which connection brought it, 1 = the first
	User string // who had logged in
	TLS  bool

	From    string
	To      []string
	Mail    string   // a Fault: what followed MAIL FROM:<…>
	Rcpt    []string // a Fault: what followed each RCPT TO:<…>
	Body    []byte   // dots no longer doubled; nil where bodies are not kept
	Size    int64    // of the body
	Sum     [32]byte // its SHA-256
	Refused bool     // the answer was not 2xx
}

// mailbox keeps messages and how much happened at once.
type mailbox struct {
	mu       sync.Mutex
	messages []Message
	changed  chan struct{} // closed and replaced with every message
	conns    int           // so far
	open     int
	now, top int // transactions
}

func newMailbox() *mailbox { return &mailbox{changed: make(chan struct{})} }

// Messages are those taken so far, in order.
func (b *mailbox) Messages() []Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	var taken []Message
	for _, m := range b.messages {
		if !m.Refused {
			taken = append(taken, m)
		}
	}
	return taken
}

// Refused are those refused at the dot, in order.
func (b *mailbox) Refused() []Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []Message
	for _, m := range b.messages {
		if m.Refused {
			out = append(out, m)
		}
	}
	return out
}

// Wait waits until n messages were taken.
func (b *mailbox) Wait(ctx context.Context, n int) ([]Message, error) {
	for {
		b.mu.Lock()
		changed := b.changed
		b.mu.Unlock()
		if m := b.Messages(); len(m) >= n {
			return m, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return b.Messages(), context.Cause(ctx)
		}
	}
}

// Connections are those opened so far, and those open now.
func (b *mailbox) Connections() (total, open int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.conns, b.open
}

// Peak is how many transactions there were at once, at most.
func (b *mailbox) Peak() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.top
}

func (b *mailbox) add(m Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.messages = append(b.messages, m)
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *mailbox) opened() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conns++
	b.open++
	return b.conns
}

func (b *mailbox) closed() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open--
}

// transaction counts one more (+1) or less (-1).
func (b *mailbox) transaction(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now += n
	b.top = max(b.top, b.now)
}
