package api

import (
	"crypto/sha256"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/postrider/postrider/store"
)

// maxTracked bounds every table of this file; when one is full, it forgets.
const maxTracked = 10_000

type networkKey = netip.Prefix

// guard slows guessing down: after too many 401s from one network, it is refused for a
// while without asking the store. Tokens that were good lately pass: whoever shares the
// address of a guesser, behind a proxy or on one machine, goes on working.
type guard struct {
	mu    sync.Mutex
	from  map[networkKey]*failures
	goods map[[sha256.Size]byte]time.Time
}

type failures struct {
	since, until time.Time // of the counted minute; of the block
	n            int
}

const (
	maxFailures = 20 // in a minute
	blockTime   = time.Minute
	knownTime   = 5 * time.Minute
)

func newGuard() *guard {
	return &guard{from: make(map[networkKey]*failures), goods: make(map[[sha256.Size]byte]time.Time)}
}

// fail counts a failure.
func (g *guard) fail(from networkKey, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f := g.from[from]
	if f == nil {
		if len(g.from) >= maxTracked {
			clear(g.from)
		}
		f = &failures{since: now}
		g.from[from] = f
	}
	if now.Sub(f.since) >= time.Minute {
		f.since, f.n = now, 0
	}
	if f.n++; f.n >= maxFailures {
		f.until = now.Add(blockTime)
	}
}

// blocked is how long a network is still refused.
func (g *guard) blocked(from networkKey, now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f := g.from[from]; f != nil {
		return max(0, f.until.Sub(now))
	}
	return 0
}

// good remembers a token that was valid.
func (g *guard) good(value string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.goods) >= maxTracked {
		clear(g.goods)
	}
	g.goods[fingerprint(value)] = time.Now()
}

// known says whether a token was valid lately.
func (g *guard) known(value string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	at, ok := g.goods[fingerprint(value)]
	return ok && value != "" && time.Since(at) < knownTime
}

// rates counts the requests of tokens that have a limit, per process, in fixed windows.
type rates struct {
	mu sync.Mutex
	of map[string]*window
}

type window struct {
	ends time.Time
	n    int
}

func newRates() *rates { return &rates{of: make(map[string]*window)} }

// take counts a request of a token and says on the answer how many are left.
func (l *rates) take(h http.Header, t *store.Token, now time.Time) *Problem {
	if t.RateMax <= 0 {
		return nil
	}
	return l.count(h, t.ID, t.RateMax, time.Duration(max(1, t.RateWindow))*time.Second, now)
}

// count is take for a name, a limit and a window.
func (l *rates) count(h http.Header, name string, most int, within time.Duration, now time.Time) *Problem {
	l.mu.Lock()
	w := l.of[name]
	if w == nil || !now.Before(w.ends) {
		if len(l.of) >= maxTracked {
			clear(l.of)
		}
		w = &window{ends: now.Add(within)}
		l.of[name] = w
	}
	w.n++
	n, reset := w.n, int(w.ends.Sub(now).Seconds())+1
	l.mu.Unlock()

	h.Set("X-RateLimit-Limit", strconv.Itoa(most))
	h.Set("X-RateLimit-Remaining", strconv.Itoa(max(0, most-n)))
	h.Set("X-RateLimit-Reset", strconv.Itoa(reset))
	if n <= most {
		return nil
	}
	p := problem(RateLimited, "more than %d requests in %s", most, within)
	p.retry = reset
	return p
}

// The limits on event streams.
const (
	maxStreams      = 100
	maxTokenStreams = 5
)

// streams counts the open streams, per process and per token.
type streams struct {
	mu  sync.Mutex
	n   int
	per map[string]int
}

func newStreams() *streams { return &streams{per: make(map[string]int)} }

// open takes a place; the caller gives it back by calling release once.
func (s *streams) open(token string) (release func(), p *Problem) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.per[token] >= maxTokenStreams {
		return nil, problem(RateLimited, "this token has %d streams open", maxTokenStreams)
	}
	if s.n >= maxStreams {
		return nil, problem(ServerBusy, "%d streams are open", maxStreams)
	}
	s.n++
	s.per[token]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.n--
		if s.per[token]--; s.per[token] == 0 {
			delete(s.per, token)
		}
	}, nil
}

func (s *streams) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}
