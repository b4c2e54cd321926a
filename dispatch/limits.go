package dispatch

import (
	"context"
	"slices"
	"sync"
	"time"
)

// hostPatience is how long a lane waits for a place among the requests to one host, or
// among slow routes, before it lets another have its worker.
const hostPatience = 250 * time.Millisecond

// limits keep one host, and slow routes together, from taking all workers of the process.
// It is safe for concurrent use.
type limits struct {
	perHost int
	slow    chan struct{} // a token per request of a slow route

	mu     sync.Mutex
	hosts  map[string]*hostSlots
	routes map[string]*speed
}

// hostSlots are the requests to one scheme, host and port. users counts who holds or
// waits, so that the entry of a host nobody calls goes.
type hostSlots struct {
	slots chan struct{}
	users int
}

// speed is what the last twenty attempts of a route took.
type speed struct {
	took  [20]time.Duration
	n     int
	timed bool // the last one was a timeout
}

func newLimits(cfg Config) *limits {
	return &limits{
		perHost: cfg.PerHost, slow: make(chan struct{}, max(1, int(float64(cfg.Concurrency)*cfg.SlowShare))),
		hosts: map[string]*hostSlots{}, routes: map[string]*speed{},
	}
}

// enter waits a moment for a place; ok is false when there was none. leave gives it back
// and notes how the attempt went.
func (l *limits) enter(ctx context.Context, route, host string) (leave func(took time.Duration, timeout bool), ok bool) {
	l.mu.Lock()
	h := l.hosts[host]
	if h == nil {
		h = &hostSlots{slots: make(chan struct{}, l.perHost)}
		l.hosts[host] = h
	}
	h.users++
	sp := l.routes[route]
	slow := sp != nil && sp.slow()
	l.mu.Unlock()

	quit := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if h.users--; h.users == 0 {
			delete(l.hosts, host)
		}
	}
	until := time.Now().Add(hostPatience)
	if slow && !place(ctx, l.slow, until) {
		quit()
		return nil, false
	}
	if !place(ctx, h.slots, until) {
		if slow {
			<-l.slow
		}
		quit()
		return nil, false
	}
	return func(took time.Duration, timeout bool) {
		<-h.slots
		if slow {
			<-l.slow
		}
		quit()
		l.note(route, took, timeout)
	}, true
}

// place takes one of the places, which are free most of the time: only who must wait for
// one pays for a timer.
func place(ctx context.Context, places chan struct{}, until time.Time) bool {
	select {
	case places <- struct{}{}:
		return true
	default:
	}
	t := time.NewTimer(time.Until(until))
	defer t.Stop()
	select {
	case places <- struct{}{}:
		return true
	case <-t.C:
	case <-ctx.Done():
	}
	return false
}

// note remembers how an attempt went.
func (l *limits) note(route string, took time.Duration, timeout bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	sp := l.routes[route]
	if sp == nil {
		if len(l.routes) >= 10_000 { // of routes that may be long gone
			clear(l.routes)
		}
		sp = &speed{}
		l.routes[route] = sp
	}
	sp.took[sp.n%len(sp.took)] = took
	sp.n++
	sp.timed = timeout
}

// slow: the last attempt timed out, or the 95th percentile of the last twenty is over 2 s.
func (s *speed) slow() bool {
	if s.timed {
		return true
	}
	n := min(s.n, len(s.took))
	if n == 0 {
		return false
	}
	t := slices.Clone(s.took[:n])
	slices.Sort(t)
	return t[(n*95+99)/100-1] > 2*time.Second
}

// quiet lets one warning per route through in a time.
type quiet struct {
	every time.Duration
	mu    sync.Mutex
	last  map[string]time.Time
}

func newQuiet(every time.Duration) *quiet {
	return &quiet{every: every, last: map[string]time.Time{}}
}

func (q *quiet) may(route string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	if now.Sub(q.last[route]) < q.every {
		return false
	}
	if len(q.last) >= 10_000 {
		clear(q.last)
	}
	q.last[route] = now
	return true
}
