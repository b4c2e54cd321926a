package transport

import (
	"context"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// yieldAfter is how long a connection stays unused while others wait for its place: long
// enough for who sends one message after another.
const yieldAfter = 50 * time.Millisecond

// Pool keeps connections. It MAY be used by many goroutines at once.
type Pool struct {
	o     Options
	ctx   context.Context // ends with Close
	end   context.CancelCauseFunc
	tasks sync.WaitGroup // Sends and QUITs
	total *semaphore.Weighted

	mu      sync.Mutex
	closed  bool
	idle    []*pooled // the longest unused first
	uses    map[*use]struct{}
	hosts   map[string]*host
	conns   int // that are not closed yet
	waiting int // for total
	stats   Stats
}

// place is where a connection leads. The Key says it all if it was made well; the rest
// is so that a key made badly does not lend an account another's connection.
type place struct{ key, addr, user string }

// pooled is a connection in the pool, unused or lent.
type pooled struct {
	*conn
	place  place
	host   *host
	timer  *time.Timer // while idle
	reused bool
}

// use is a Send in progress.
type use struct {
	key    string
	doomed bool // its connection is not kept
}

// host bounds what is done at one.
type host struct {
	conns, handshakes *semaphore.Weighted
	refs, waiting     int
}

// Stats are what a pool does and did.
type Stats struct {
	Idle, Busy               int    // connections: unused, and carrying a message or being closed
	Opened, Reused, Replaced uint64 // since the start; Replaced had ended unnoticed
}

// NewPool returns a Pool. Close ends it.
func NewPool(o Options) *Pool {
	o = o.withDefaults()
	p := &Pool{o: o, total: semaphore.NewWeighted(int64(o.Connections)), uses: map[*use]struct{}{}, hosts: map[string]*host{}}
	p.ctx, p.end = context.WithCancelCause(context.Background())
	return p
}

// Send hands one message over and reports what the server said; it blocks until then,
// an hour at most. It waits for a connection where the limits ask for it.
//
// body writes the message as it is, lines ended by CRLF; it is called at most once, after
// the server agreed to take it. beforeDot (nil: none) is called when all of the body is on
// its way and before the final dot is, with the recipients the server accepted: when it
// fails, the connection is closed and the server has no message. When ctx ends, the socket is closed.
//
// A connection that was used before and fails before the server answers MAIL is replaced by
// a new one, once. The error is an *Error.
func (p *Pool) Send(ctx context.Context, s Server, env Envelope, body func(io.Writer) error, beforeDot func(ctx context.Context, accepted []string) error) (Receipt, error) {
	if e := env.check(); e != nil {
		return Receipt{}, e
	}
	ctx, u, leave, e := p.enter(ctx, s.Key)
	if e != nil {
		return Receipt{}, e
	}
	defer leave()
	at := place{s.Key, net.JoinHostPort(s.Host, strconv.Itoa(s.Port)), s.User}
	if c := p.take(at); c != nil {
		r, e, again := p.try(ctx, u, c, &env, body, beforeDot)
		switch {
		case e == nil:
			return r, nil
		case !again:
			return Receipt{}, e
		}
	}
	c, e := p.open(ctx, at, s)
	if e != nil {
		return Receipt{}, e
	}
	r, e, _ := p.try(ctx, u, c, &env, body, beforeDot)
	if e != nil {
		return Receipt{}, e
	}
	return r, nil
}

// try sends on c and gives it back. again says that c had ended before we knew.
func (p *Pool) try(ctx context.Context, u *use, c *pooled, env *Envelope, body func(io.Writer) error, mark func(context.Context, []string) error) (r Receipt, e *Error, again bool) {
	ended := false
	defer func() {
		c.lost = c.lost || !ended // a panic of the caller's
		p.giveBack(c, u)
	}()
	r, e = c.transact(ctx, env, body, mark)
	ended = true
	r.Reused = c.reused
	again = c.reused && c.lost && !c.answered && ctx.Err() == nil
	if again {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.stats.Replaced++
	}
	return r, e, again
}

// Offer is what a server says of itself to who is logged in.
type Offer struct {
	Secure     bool
	MaxSize    int64    // SIZE; 0 = none named
	Extensions []string // EHLO keywords, upper case, sorted
}

// Check connects, logs in and leaves. The error is an *Error.
func (p *Pool) Check(ctx context.Context, s Server) (Offer, error) {
	ctx, u, leave, e := p.enter(ctx, s.Key)
	if e != nil {
		return Offer{}, e
	}
	defer leave()
	c, e := p.open(ctx, place{s.Key, net.JoinHostPort(s.Host, strconv.Itoa(s.Port)), s.User}, s)
	if e != nil {
		return Offer{}, e
	}
	p.mu.Lock()
	u.doomed = true
	p.mu.Unlock()
	defer p.giveBack(c, u)
	o := Offer{Secure: c.secure, MaxSize: c.maxSize()}
	for keyword := range c.ext {
		o.Extensions = append(o.Extensions, keyword)
	}
	slices.Sort(o.Extensions)
	return o, nil
}

// enter begins a use, which leave ends. Its context ends with the pool and after the time
// of a transaction.
func (p *Pool) enter(ctx context.Context, key string) (_ context.Context, u *use, leave func(), e *Error) {
	u = &use{key: key}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, nil, nil, &Error{Phase: PhaseConnect, Kind: KindLocal, Err: ErrClosed}
	}
	p.tasks.Add(1)
	p.uses[u] = struct{}{}
	ctx, timeout := context.WithTimeoutCause(ctx, p.o.Timeouts.Transaction, errTransaction)
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(p.ctx, func() { cancel(ErrClosed) })
	return ctx, u, func() {
		stop()
		cancel(nil)
		timeout()
		p.mu.Lock()
		delete(p.uses, u)
		p.mu.Unlock()
		p.tasks.Done()
	}, nil
}

// take borrows the connection that was used last.
func (p *Pool) take(at place) *pooled {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := len(p.idle) - 1; i >= 0; i-- {
		c := p.idle[i]
		if c.place != at {
			continue
		}
		p.idle = slices.Delete(p.idle, i, i+1)
		c.timer.Stop()
		// More to read on a connection nobody asked anything is a server that leaves.
		if c.r.Buffered() > 0 || p.old(c) {
			p.part(c)
			continue
		}
		c.reused = true
		p.stats.Reused++
		return c
	}
	return nil
}

func (p *Pool) old(c *pooled) bool {
	return c.messages >= p.o.MaxMessages || time.Since(c.born) >= p.o.MaxAge
}

// open makes a connection, within the limits.
func (p *Pool) open(ctx context.Context, at place, s Server) (*pooled, *Error) {
	wait, stop := context.WithTimeoutCause(ctx, admitFor, ErrBusy)
	defer stop()
	h := p.host(at.addr)
	e := p.admit(wait, h)
	if e != nil {
		p.forgetHost(h, at.addr)
		return nil, e
	}
	c := &pooled{place: at, host: h}
	if err := h.handshakes.Acquire(wait, 1); err != nil {
		e = fault(wait, PhaseConnect, "", err)
	} else {
		c.conn, e = p.o.connect(ctx, s)
		h.handshakes.Release(1)
	}
	if e != nil {
		p.release(c)
		return nil, e
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns++
	p.stats.Opened++
	return c, nil
}

// giveBack keeps a connection for the next message, or parts with it.
func (p *Pool) giveBack(c *pooled, u *use) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || u.doomed || c.lost || c.place.key == "" || p.old(c) {
		p.part(c)
		return
	}
	rest := p.o.Idle
	if p.waiting+c.host.waiting > 0 {
		rest = min(rest, yieldAfter)
	}
	p.idle = append(p.idle, c)
	c.timer = time.AfterFunc(rest, func() { p.drop(func(o *pooled) bool { return o == c }, 1) })
}

// Forget parts with the connections whose Key matches: unused ones at once, others after
// their message. For credentials that changed and accounts that are gone.
func (p *Pool) Forget(match func(key string) bool) {
	p.mu.Lock()
	for u := range p.uses {
		u.doomed = u.doomed || match(u.key)
	}
	p.mu.Unlock()
	p.drop(func(c *pooled) bool { return match(c.place.key) }, -1)
}

// drop parts with at most n unused connections (-1: all) that match.
func (p *Pool) drop(match func(*pooled) bool, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = slices.DeleteFunc(p.idle, func(c *pooled) bool {
		if n == 0 || !match(c) {
			return false
		}
		n--
		c.timer.Stop()
		p.part(c)
		return true
	})
}

// part says goodbye in a goroutine of the pool's. mu is held.
func (p *Pool) part(c *pooled) {
	p.tasks.Go(func() {
		c.quit()
		p.release(c)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.conns--
	})
}

// Close ends every Send, parts with every connection and waits for all of it, some
// seconds at most. It MAY be called more than once.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.end(ErrClosed)
	p.drop(func(*pooled) bool { return true }, -1)
	p.tasks.Wait()
}

// Stats MAY be called at any time.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stats
	s.Idle, s.Busy = len(p.idle), p.conns-len(p.idle)
	return s
}
