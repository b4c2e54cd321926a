package hooktest

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
)

// Memory is a network of pipes: listeners by name and a transport that dials them. It
// needs no socket, so it works in a synctest bubble.
type Memory struct {
	mu    sync.Mutex
	hosts map[string]*pipeListener
}

// NewMemory makes an empty network.
func NewMemory() *Memory { return &Memory{hosts: map[string]*pipeListener{}} }

// Listen opens a host, like "hook.test:80".
func (m *Memory) Listen(addr string) net.Listener {
	l := &pipeListener{addr: addr, conns: make(chan net.Conn), done: make(chan struct{})}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hosts[addr] = l
	return l
}

// Dial connects to a host. Nobody listening is a refused connection.
func (m *Memory) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	m.mu.Lock()
	l := m.hosts[addr]
	m.mu.Unlock()
	refused := &net.OpError{Op: "dial", Net: network, Err: errors.New("connection refused")}
	if l == nil {
		return nil, refused
	}
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.done:
		return nil, refused
	case <-ctx.Done():
		return nil, &net.OpError{Op: "dial", Net: network, Err: context.Cause(ctx)}
	}
}

// Transport makes an http.Transport over the network. The caller closes its idle
// connections.
func (m *Memory) Transport() *http.Transport {
	return &http.Transport{DialContext: m.Dial, MaxIdleConnsPerHost: 64, DisableCompression: true}
}

type pipeListener struct {
	addr  string
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return pipeAddr(l.addr) }

type pipeAddr string

func (a pipeAddr) Network() string { return "pipe" }
func (a pipeAddr) String() string  { return string(a) }
