package imapsync

import (
	"context"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/postrider/postrider/store"
)

// handshakesPrivate is how many sessions are opened at once to a server in our own
// network, at no particular pace: it bears more.
const handshakesPrivate = 64

// An outage is many sessions to one host lost within outageWindow: they come back spread
// over as long as the host's pace needs for them, at most outageMost.
const (
	outageWindow = 10 * time.Second
	outageMost   = 10 * time.Minute
)

// A host is throttled as a whole when throttledAccounts of its accounts say so within
// throttledWithin: then sessions are opened slowdown times more slowly, for slowedFor.
const (
	throttledAccounts = 3
	throttledWithin   = 5 * time.Minute
	slowdown          = 10
	slowedFor         = 10 * time.Minute
)

// maxIdleGates is how many hosts are remembered before those where nothing goes on are
// forgotten.
const maxIdleGates = 1000

// pacer spaces the opening of sessions by host, for all accounts of the process. It is
// safe for concurrent use, and starts no goroutine.
type pacer struct {
	mu    sync.Mutex
	procs int
	hosts map[string]*gate
}

// gate is one host's queue.
type gate struct {
	profile *Profile
	private bool
	queues  [3][]*turn // somebody waits for what is done there, first tries, retries
	open    int        // turns given and not yet left
	next    time.Time  // of the next turn
	timer   *time.Timer

	lost      int // sessions lost since lostSince
	lostSince time.Time
	throttled []throttling // the last of each account, at most throttledAccounts
	slowUntil time.Time
}

// turn is a session that waits for being opened.
type turn struct {
	queue, at int           // where it stands
	given     chan struct{} // closed with the turn
}

type throttling struct {
	id store.AccountID
	at time.Time
}

func newPacer() *pacer { return &pacer{procs: 1, hosts: map[string]*gate{}} }

// share says how many processes there are, which divide what a host is given.
func (p *pacer) share(procs int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.procs = max(procs, 1)
}

// enter waits for a turn at the host: at the pace of its profile, in no particular order,
// but retries behind first tries. The caller MUST call leave when the session is open or
// was not to be opened. The error is the cause of ctx.
func (p *pacer) enter(ctx context.Context, host string, profile *Profile, retry bool) (leave func(), err error) {
	if retry {
		return p.queue(ctx, host, profile, 2)
	}
	return p.queue(ctx, host, profile, 1)
}

func (p *pacer) queue(ctx context.Context, host string, profile *Profile, queue int) (leave func(), err error) {
	t := &turn{queue: queue, given: make(chan struct{})}
	p.mu.Lock()
	g := p.gate(host)
	g.profile = profile
	g.private = isPrivate(host) && profile.Name == defaultProfile
	t.at = len(g.queues[t.queue])
	g.queues[t.queue] = append(g.queues[t.queue], t)
	p.give(g)
	p.mu.Unlock()
	leave = func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		g.open--
		p.give(g)
	}
	select {
	case <-t.given:
		return leave, nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	waits := t.at >= 0
	if waits {
		g.take(t)
	}
	p.mu.Unlock()
	if !waits {
		leave()
	}
	return nil, context.Cause(ctx)
}

// gate is the host's; p.mu MUST be held.
func (p *pacer) gate(host string) *gate {
	host = strings.ToLower(host)
	g := p.hosts[host]
	if g == nil {
		if now := time.Now(); len(p.hosts) >= maxIdleGates {
			for name, old := range p.hosts {
				if old.open == 0 && old.waiting() == 0 && now.After(old.next) && now.After(old.slowUntil) {
					delete(p.hosts, name)
				}
			}
		}
		g = &gate{profile: &builtin().fallback}
		p.hosts[host] = g
	}
	return g
}

// give gives the turns that are due, and comes back for the next one. p.mu MUST be held.
func (p *pacer) give(g *gate) {
	for g.waiting() > 0 {
		now := time.Now()
		most, every := p.pace(g, now)
		if g.open >= most {
			return // leave gives on
		}
		if wait := g.next.Sub(now); wait > 0 {
			if g.timer == nil {
				g.timer = time.AfterFunc(wait, func() {
					p.mu.Lock()
					defer p.mu.Unlock()
					g.timer = nil
					p.give(g)
				})
			}
			return
		}
		queue := g.queues[0]
		for i := 1; len(queue) == 0; i++ {
			queue = g.queues[i]
		}
		t := queue[rand.IntN(len(queue))]
		g.take(t)
		t.at = -1
		g.open++
		g.next = now.Add(every)
		close(t.given)
	}
}

// pace is how many sessions may be opened at once, and how far apart. p.mu MUST be held.
func (p *pacer) pace(g *gate, now time.Time) (most int, every time.Duration) {
	if g.private {
		return handshakesPrivate, 0
	}
	most = max(g.profile.Handshakes/p.procs, 1)
	every = time.Duration(float64(p.procs) / g.profile.ConnectsPerSecond * float64(time.Second))
	if now.Before(g.slowUntil) {
		most, every = max(most/slowdown, 1), slowdown*every
	}
	return most, every
}

func (g *gate) waiting() (n int) {
	for _, q := range g.queues {
		n += len(q)
	}
	return n
}

// take takes a turn out of its queue.
func (g *gate) take(t *turn) {
	q := g.queues[t.queue]
	last := q[len(q)-1]
	q[t.at], last.at = last, t.at
	q[len(q)-1] = nil
	g.queues[t.queue] = q[:len(q)-1]
}

// lost notes that a session to the host was lost, and says over how long it is to come
// back: as long as the host's pace needs for those that were lost with it.
func (p *pacer) lost(host string) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	g, now := p.gate(host), time.Now()
	if now.Sub(g.lostSince) > outageWindow {
		g.lost, g.lostSince = 0, now
	}
	g.lost++
	_, every := p.pace(g, now)
	return min(time.Duration(g.lost)*every, outageMost)
}

// throttle notes that the host throttles an account, and says whether it is slowed down
// for that from now on.
func (p *pacer) throttle(host string, id store.AccountID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	g, now := p.gate(host), time.Now()
	g.throttled = slices.DeleteFunc(g.throttled, func(t throttling) bool { return t.id == id || now.Sub(t.at) > throttledWithin })
	g.throttled = append(g.throttled, throttling{id, now})
	if len(g.throttled) < throttledAccounts {
		return false
	}
	g.throttled = g.throttled[len(g.throttled)-throttledAccounts:]
	began := !now.Before(g.slowUntil)
	g.slowUntil = now.Add(slowedFor)
	return began
}

// slowed says whether the host is throttled as a whole.
func (p *pacer) slowed(host string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.hosts[strings.ToLower(host)]
	return g != nil && time.Now().Before(g.slowUntil)
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
