package transport

import (
	"context"
	"time"

	"golang.org/x/sync/semaphore"
)

// admitFor is how long a Send waits for a connection that the limits allow: who waits for
// a host that hangs keeps others from theirs.
const admitFor = 10 * time.Second

// host counts one more who wants something of a host; forgetHost one less.
func (p *Pool) host(addr string) *host {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.hosts[addr]
	if h == nil {
		h = &host{
			conns:      semaphore.NewWeighted(int64(p.o.ConnectionsPerHost)),
			handshakes: semaphore.NewWeighted(int64(p.o.HandshakesPerHost)),
		}
		p.hosts[addr] = h
	}
	h.refs++
	return h
}

func (p *Pool) forgetHost(h *host, addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if h.refs--; h.refs == 0 {
		delete(p.hosts, addr)
	}
}

// admit waits until one more connection to the host, and one more at all, is allowed.
func (p *Pool) admit(ctx context.Context, h *host) *Error {
	err := p.acquire(ctx, h.conns, &h.waiting, func(c *pooled) bool { return c.host == h })
	if err == nil {
		if err = p.acquire(ctx, p.total, &p.waiting, func(*pooled) bool { return true }); err == nil {
			return nil
		}
		h.conns.Release(1)
	}
	return fault(ctx, PhaseConnect, "", err)
}

// acquire takes one of s, whose unused holders match; who waits is counted, so that a
// connection that becomes unused does not stay for long.
func (p *Pool) acquire(ctx context.Context, s *semaphore.Weighted, waiting *int, match func(*pooled) bool) error {
	if s.TryAcquire(1) {
		return nil
	}
	wait := func(n int) {
		p.mu.Lock()
		defer p.mu.Unlock()
		*waiting += n
	}
	wait(1)
	defer wait(-1)
	p.drop(match, 1)
	return s.Acquire(ctx, 1)
}

// release gives back what admit took.
func (p *Pool) release(c *pooled) {
	p.total.Release(1)
	c.host.conns.Release(1)
	p.forgetHost(c.host, c.place.addr)
}
