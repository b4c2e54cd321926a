package imapsync

import (
	"context"
	"net"
	"strings"
	"sync"
	"time"
)

// How fast sessions are opened to one host by all processes together, and how many at
// once; a server in our own network bears more.
const (
	connectsPerSecond = 50
	handshakes        = 32
	handshakesPrivate = 64
)

// pacer spaces the opening of sessions by host. It is safe for concurrent use.
type pacer struct {
	mu    sync.Mutex
	procs int
	hosts map[string]*gate
}

// gate is one host's queue.
type gate struct {
	slots chan struct{}
	mu    sync.Mutex
	next  time.Time
}

func newPacer() *pacer { return &pacer{procs: 1, hosts: map[string]*gate{}} }

// share says how many processes there are, which divide what a host is given.
func (p *pacer) share(procs int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.procs = max(procs, 1)
}

// enter waits for a turn at the host. The caller MUST call leave when the session is
// open or was not to be opened.
func (p *pacer) enter(ctx context.Context, host string) (leave func(), err error) {
	private := isPrivate(host)
	p.mu.Lock()
	g := p.hosts[host]
	if g == nil {
		n := handshakesPrivate
		if !private {
			n = max(handshakes/p.procs, 1)
		}
		g = &gate{slots: make(chan struct{}, n)}
		p.hosts[host] = g
	}
	every := time.Second * time.Duration(p.procs) / connectsPerSecond
	p.mu.Unlock()
	select {
	case g.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	leave = func() { <-g.slots }
	if private {
		return leave, nil
	}
	g.mu.Lock()
	now := time.Now()
	turn := g.next
	if turn.Before(now) {
		turn = now
	}
	g.next = turn.Add(every)
	g.mu.Unlock()
	if err := wait(ctx, time.Until(turn)); err != nil {
		leave()
		return nil, err
	}
	return leave, nil
}

// isPrivate says whether a host is named as one of our own network.
func isPrivate(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && (ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast())
}

// wait sleeps until d has passed or ctx has ended, and then says why.
func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
