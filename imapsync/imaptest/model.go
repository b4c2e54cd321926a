package imaptest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Model is an IMAP server in this process, of any Dialect, with as many users as a test
// wants. It serves listeners, any net.Conn, and pipes of its own, and asks nothing of
// time but what package time does: it lives in a synctest bubble through Dial. All
// methods MAY be called by many goroutines.
type Model struct {
	d    Dialect
	cert *tls.Config
	ca   string
	wg   sync.WaitGroup
	done chan struct{}

	in, out atomic.Int64

	mu       sync.Mutex
	users    map[string]*ModelUser
	hook     func(ModelCommand) Act
	lns      []net.Listener
	conns    map[net.Conn]struct{}
	plain    *net.TCPAddr
	secure   *net.TCPAddr
	sessions int
	commands map[string]int
	closed   bool
}

// ModelCounters are what went through a Model.
type ModelCounters struct {
	In, Out  int64          // bytes of IMAP, compressed where they are, without TLS
	Commands map[string]int // by name
	Sessions int            // connections so far
	Open     int            // connections now
}

// NewModel returns a server without users that serves nothing yet; Close ends it.
func NewModel(d Dialect) *Model {
	return &Model{d: d, done: make(chan struct{}), users: map[string]*ModelUser{}, conns: map[net.Conn]struct{}{}, commands: map[string]int{}}
}

// StartModel is NewModel for a test, on a free port of the loopback, without TLS.
func StartModel(t TB, d Dialect) *Model {
	t.Helper()
	m := NewModel(d)
	t.Cleanup(m.Close)
	if _, err := m.Listen(false); err != nil {
		t.Fatalf("start model: %v", err)
	}
	return m
}

// User returns the user of that name, who is made if need be, with the folders of the
// dialect. A password given again is the new one.
func (m *Model) User(name, pass string) *ModelUser {
	m.mu.Lock()
	u := m.users[name]
	if u == nil {
		u = newModelUser(m, name)
		m.users[name] = u
	}
	m.mu.Unlock()
	u.mu.Lock()
	u.pass = pass
	u.mu.Unlock()
	return u
}

// Hook asks f about every command from now on, on the goroutine of its connection; nil
// ends that. f MAY block, and MAY act on mailboxes.
func (m *Model) Hook(f func(ModelCommand) Act) {
	m.mu.Lock()
	m.hook = f
	m.mu.Unlock()
}

// Listen serves a free port of the loopback, with TLS from the first byte or without.
func (m *Model) Listen(secure bool) (*net.TCPAddr, error) {
	if secure {
		if err := m.certify(); err != nil {
			return nil, err
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := ln.Addr().(*net.TCPAddr)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, errors.Join(net.ErrClosed, ln.Close())
	}
	m.lns = append(m.lns, ln)
	if secure {
		m.secure = addr
	} else {
		m.plain = addr
	}
	m.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			if secure {
				c = tls.Server(c, m.cert)
			}
			if !m.goServe(c) {
				return
			}
		}
	})
	return addr, nil
}

// Dial connects by a pipe, whatever the address, but for its port: with 993 the server
// speaks TLS from the first byte. It is a Dial for the engine in a bubble.
func (m *Model) Dial(ctx context.Context, _, addr string) (net.Conn, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	ours, theirs := net.Pipe()
	if strings.HasSuffix(addr, ":993") {
		if err := m.certify(); err != nil {
			return nil, err
		}
		theirs = tls.Server(m.unlock(theirs), m.cert)
	}
	if !m.goServe(theirs) {
		return nil, &net.OpError{Op: "dial", Net: "pipe", Err: net.ErrClosed}
	}
	return ours, nil
}

// goServe serves a connection on a goroutine that Close waits for.
func (m *Model) goServe(c net.Conn) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		_ = c.Close()
		return false
	}
	m.wg.Go(func() { m.ServeConn(c) })
	return true
}

// ServeConn serves one connection until it ends, and closes it.
func (m *Model) ServeConn(c net.Conn) {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		_ = c.Close()
		return
	}
	if _, isTLS := c.(*tls.Conn); !isTLS && c.LocalAddr().Network() == "pipe" {
		c = m.unlock(c)
	}
	m.conns[c] = struct{}{}
	m.sessions++
	s := newModelSession(m, c, m.sessions)
	m.mu.Unlock()
	defer func() {
		_ = c.Close()
		m.mu.Lock()
		delete(m.conns, c)
		m.mu.Unlock()
	}()
	s.serve()
}

// Cut closes all connections without a word.
func (m *Model) Cut() {
	m.mu.Lock()
	conns := maps.Clone(m.conns)
	m.mu.Unlock()
	for c := range conns {
		_ = c.Close()
	}
}

// Counters are what went through so far.
func (m *Model) Counters() ModelCounters {
	m.mu.Lock()
	defer m.mu.Unlock()
	return ModelCounters{In: m.in.Load(), Out: m.out.Load(), Commands: maps.Clone(m.commands), Sessions: m.sessions, Open: len(m.conns)}
}

// Close ends listeners and connections and waits for them.
func (m *Model) Close() {
	m.mu.Lock()
	if !m.closed {
		m.closed = true
		close(m.done)
	}
	lns := m.lns
	m.lns = nil
	m.mu.Unlock()
	for _, ln := range lns {
		_ = ln.Close()
	}
	m.Cut()
	m.wg.Wait()
}

// certify makes a certificate for localhost and 127.0.0.1 that is valid in bubbles, too.
func (m *Model) certify() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cert != nil {
		return nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "model"}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	m.ca = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	m.cert = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
	return nil
}

// unlockedPipe is the server's end of a pipe, whose writer does not wait for the reader,
// as on a socket: without it both ends writing at once would wait for each other.
type unlockedPipe struct {
	net.Conn
	queue chan []byte
	once  sync.Once
	done  chan struct{}
}

func (m *Model) unlock(c net.Conn) net.Conn {
	p := &unlockedPipe{Conn: c, queue: make(chan []byte, 64), done: make(chan struct{})}
	m.wg.Go(p.run)
	return p
}

// run writes what is queued, and closes when it is told to and that is done, or when the
// peer takes nothing for a second.
func (p *unlockedPipe) run() {
	defer func() {
		_ = p.Close()
		_ = p.Conn.Close()
	}()
	for {
		select {
		case b := <-p.queue:
			if _, err := p.Conn.Write(b); err != nil {
				return
			}
			continue
		default:
		}
		select {
		case b := <-p.queue:
			if _, err := p.Conn.Write(b); err != nil {
				return
			}
		case <-p.done:
			if len(p.queue) == 0 {
				return
			}
		}
	}
}

// Write implements net.Conn.
func (p *unlockedPipe) Write(b []byte) (int, error) {
	select {
	case <-p.done:
		return 0, net.ErrClosed
	default:
	}
	select {
	case p.queue <- append([]byte(nil), b...):
		return len(b), nil
	case <-p.done:
		return 0, net.ErrClosed
	}
}

// Close implements net.Conn; it does not block.
func (p *unlockedPipe) Close() error {
	p.once.Do(func() {
		_ = p.Conn.SetReadDeadline(time.Unix(1, 0))
		_ = p.Conn.SetWriteDeadline(time.Now().Add(time.Second))
		close(p.done)
	})
	return nil
}
