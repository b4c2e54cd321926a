package smtptest

import (
	"net"
	"strings"
	"sync"
	"time"
)

// Stage is where a Script is asked.
type Stage string

// The stages, in order.
const (
	AtConnect   Stage = "connect" // accepted; nothing said, no TLS yet
	AtBanner    Stage = "banner"
	AtHello     Stage = "hello" // EHLO or HELO
	AtSTARTTLS  Stage = "starttls"
	AtHandshake Stage = "handshake" // the 220 is said, the client begins TLS
	AtAuth      Stage = "auth"      // AUTH, and each answer to a challenge
	AtMail      Stage = "mail"
	AtRcpt      Stage = "rcpt"
	AtData      Stage = "data"
	AtBody      Stage = "body" // each line
	AtDot       Stage = "dot"
	AfterDot    Stage = "after" // the reply to the dot is said
	AtReset     Stage = "reset"
	AtQuit      Stage = "quit"
)

// Step is what a Script is asked about.
type Step struct {
	Conn  int // 1 = the first connection
	Stage Stage
	N     int    // how often this stage was reached on this connection, 1 = now for the first time
	Line  string // what the client said
}

// Act is what happens at a step. The zero value is what a good server does.
type Act struct {
	Delay   time.Duration // before all else
	Reply   string        // instead of the usual one; lines are separated by "\n"
	Trickle time.Duration // between the octets of the reply
	Behind  string        // written together with the reply, behind it
	Endless bool          // a reply that never ends
	Stall   bool          // nothing more is said or read until Close
	Close   bool          // the connection ends, after Reply if there is one, else instead of a reply
	Reset   bool          // the same, by a reset where the network has one
}

// Script decides what a Fault does. It MAY be called by several connections at once.
type Script func(Step) Act

// On acts at the nth time that a stage is reached, counted over all connections (0:
// every time).
func On(stage Stage, n int, act Act) Script {
	var mu sync.Mutex
	seen := 0
	return func(s Step) Act {
		if s.Stage != stage {
			return Act{}
		}
		mu.Lock()
		defer mu.Unlock()
		if seen++; n == 0 || seen == n {
			return act
		}
		return Act{}
	}
}

// FaultOptions are what a Fault is like where its script says nothing.
type FaultOptions struct {
	Extensions  []string     // nil: PIPELINING, SIZE, 8BITMIME, SMTPUTF8, DSN, ENHANCEDSTATUSCODES
	Certificate *Certificate // STARTTLS is offered
	Implicit    bool         // TLS from the first byte instead
	Mechanisms  []string     // AUTH, offered under TLS, or where there is no certificate
	Users       map[string]string
	Discard     bool // keep sizes and sums, not bodies
	Script      Script
}

// Fault is a scripted submission server. Close ends it.
type Fault struct {
	*mailbox
	o    FaultOptions
	wg   sync.WaitGroup
	addr *net.TCPAddr
	done chan struct{}

	mu    sync.Mutex
	ln    net.Listener
	live  map[net.Conn]struct{}
	said  []string
	ended bool
}

// NewFault makes one that serves nobody yet.
func NewFault(o FaultOptions) *Fault {
	if o.Extensions == nil {
		o.Extensions = []string{"PIPELINING", "SIZE 36700160", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES"}
	}
	return &Fault{mailbox: newMailbox(), o: o, live: map[net.Conn]struct{}{}, done: make(chan struct{})}
}

// StartFault is NewFault for a test, on a free port of the loopback.
func StartFault(t TB, o FaultOptions) *Fault {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("start fault server: %v", err)
	}
	f := NewFault(o)
	f.Serve(ln)
	t.Cleanup(f.Close)
	return f
}

// Serve accepts connections until Close, in a goroutine of its own. It is called once.
func (f *Fault) Serve(ln net.Listener) {
	f.addr, _ = ln.Addr().(*net.TCPAddr)
	f.ln = ln
	f.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			if f.ended {
				_ = c.Close()
			}
			f.live[c] = struct{}{}
			f.mu.Unlock()
			f.wg.Go(func() {
				f.serve(c)
				_ = c.Close()
				f.mu.Lock()
				delete(f.live, c)
				f.mu.Unlock()
			})
		}
	})
}

// Addr is host and port, once it serves.
func (f *Fault) Addr() (host string, port int) { return hostPort(f.addr) }

// Close ends it with its connections and joins them. It MAY be called more than once.
func (f *Fault) Close() {
	f.mu.Lock()
	if !f.ended {
		f.ended = true
		close(f.done)
	}
	if f.ln != nil {
		_ = f.ln.Close()
	}
	for c := range f.live {
		_ = c.Close()
	}
	f.mu.Unlock()
	f.wg.Wait()
}

// Said is everything clients said outside bodies, line by line, in the order it came;
// what came under TLS has "tls " in front.
func (f *Fault) Said() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.said...)
}

// Heard says whether a client said a line that begins with prefix, TLS or not.
func (f *Fault) Heard(prefix string) bool {
	for _, line := range f.Said() {
		if strings.HasPrefix(strings.TrimPrefix(line, "tls "), prefix) {
			return true
		}
	}
	return false
}

func (f *Fault) hear(line string, secure bool) {
	if secure {
		line = "tls " + line
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.said = append(f.said, line)
}
