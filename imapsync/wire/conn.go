package wire

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	"github.com/emersion/go-imap/v2"
)

// Conn is a connection that is logged in. One goroutine owns it; Kick, Close,
// LastProof, LastHeard and SpeakBy MAY be called by any other at any time.
type Conn struct {
	lim   *Limits
	raw   net.Conn // TCP: closing it ends every Read and Write, and never blocks
	nc    net.Conn // raw, or TLS over it: its deadlines are set
	src   io.Reader
	dst   io.Writer
	rd    reader
	trace *tracer

	secrets [2]string // password and token: shared with whoever holds the account

	stage  string
	verb   string // of the command in flight
	tag    []byte // of the command in flight; empty between commands
	tags   uint64
	wait   wait
	endBy  time.Time // of the login stage
	err    *Error    // why it is closed, once the owner knows
	bye    *Error
	drain  int64 // bytes left to read for a caller who gave up; 0 = nobody did, -1 = none is left
	skips  int   // frames skipped since the last good one
	zipped bool

	caps       Caps
	capsTold   bool                       // since this was last cleared
	id         unique.Handle[imap.IDData] // many servers of a provider say the same
	namespaces imap.NamespaceData
	enabled    string
	preauth    bool

	folder    Folder
	open      bool // a folder is selected
	selecting bool
	changes   Changes
	words     words
	counters  Counters

	proof   atomic.Int64 // Unix nanoseconds
	heard   atomic.Int64
	speakBy atomic.Int64 // 0 = nothing is waited for

	mu      sync.Mutex
	dead    bool
	cause   error // why another than the owner closed it
	waiting bool
	kicked  bool
}

// Counters are what a connection did and passed over.
type Counters struct {
	Read, Written int64 // bytes, of what TLS and COMPRESS carry
	Frames        int64
	Skipped       int64            // frames nothing could be made of, unknown responses included
	Damaged       int64            // items of FETCH that could not be read
	Unknown       map[string]int64 // unknown responses, codes and items by name, from a closed set, else "other"
}

// wait is what the owner waits for.
type wait struct {
	begun             time.Time
	first, gap, total time.Duration
	answered          bool
	last              time.Time // of the last bytes
	spanBegin         time.Time // of the minimum rate; zero outside literals
	spanRead          int64
}

// until is by when the wait ends.
func (w *wait) until() time.Time {
	last := w.begun.Add(w.total)
	next := w.begun.Add(w.first)
	if w.answered && w.gap > 0 {
		next = w.last.Add(w.gap)
	}
	if next.After(last) {
		return last
	}
	return next
}

func newConn(raw net.Conn, lim *Limits) *Conn {
	c := &Conn{lim: lim, raw: raw, nc: raw, src: raw, dst: raw, stage: StageGreeting}
	c.rd.init(lim, c.fill)
	c.proof.Store(time.Now().UnixNano())
	c.heard.Store(c.proof.Load())
	return c
}

// Caps are the server's capabilities.
func (c *Conn) Caps() Caps { return c.caps }

// Counters are what the connection did so far.
func (c *Conn) Counters() Counters { return c.counters }

// ServerID is what the server said of itself, to decide by and not to be shown; its zero
// value says nothing.
func (c *Conn) ServerID() imap.IDData {
	if c.id == (unique.Handle[imap.IDData]{}) {
		return imap.IDData{}
	}
	return c.id.Value()
}

// Namespaces are the server's, where it told them.
func (c *Conn) Namespaces() imap.NamespaceData { return c.namespaces }

// Preauth says whether the server let us in without a login.
func (c *Conn) Preauth() bool { return c.preauth }

// LastProof is when the server last proved that it lives: a tagged reply, an answer to
// the command in flight, progress of a literal, the `+` to IDLE. It MAY be called by anybody.
func (c *Conn) LastProof() time.Time { return time.Unix(0, c.proof.Load()) }

// LastHeard is when the last byte came. It MAY be called by anybody.
func (c *Conn) LastHeard() time.Time { return time.Unix(0, c.heard.Load()) }

// SpeakBy is the time by which the present wait must have ended, 10 s of grace included;
// zero when nothing is waited for. It MAY be called by anybody.
func (c *Conn) SpeakBy() time.Time {
	n := c.speakBy.Load()
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}

// Err is why the connection is closed; nil while it is not, as far as its owner knows.
func (c *Conn) Err() error {
	if c.err == nil {
		return nil
	}
	return c.err
}

// Close closes the connection, ends every wait and never blocks. It MAY be called by
// anybody, and more than once.
func (c *Conn) Close() { c.closeFor(ErrClosed) }

func (c *Conn) closeFor(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return
	}
	c.dead, c.cause = true, cause
	c.speakBy.Store(0)
	_ = c.raw.Close()
}

// Kick ends a running Idle soon; when none runs, the next Idle returns at once. It MAY
// be called by anybody.
func (c *Conn) Kick() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kicked = true
	if c.waiting && !c.dead {
		_ = c.nc.SetReadDeadline(time.Unix(1, 0))
	}
}

// closed is the error of a call on a closed connection.
func (c *Conn) closed(verb string) error {
	if c.err == nil {
		c.mu.Lock()
		dead := c.dead
		c.mu.Unlock()
		if !dead {
			return nil
		}
		c.fail(&Error{Kind: Closed, Stage: c.stage, Command: verb, Err: ErrClosed})
	}
	e := *c.err
	e.Command = verb
	return &e
}

// fail closes the connection for good and returns why: another's Close first, then the
// server's BYE, then e.
func (c *Conn) fail(e *Error) *Error {
	if c.err != nil {
		return c.err
	}
	c.mu.Lock()
	if c.dead {
		e = &Error{Kind: Closed, Stage: c.stage, Command: c.verb, Err: c.cause}
	} else {
		c.dead = true
		if c.bye != nil && (e.Kind == Closed || e.Kind == Timeout) {
			e = c.bye
		}
	}
	c.mu.Unlock()
	c.err = e
	c.open = false
	c.speakBy.Store(0)
	_ = c.raw.Close()
	return e
}

// failFor makes the Error of a fault of reading or writing, and closes.
func (c *Conn) failFor(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return c.fail(e)
	}
	e := &Error{Kind: Closed, Stage: c.stage, Command: c.verb, Err: err}
	switch {
	case errors.Is(err, errSkipped):
		e.Kind = Limit
	case isTimeout(err), errors.Is(err, errNoAnswer), errors.Is(err, errTooSlow):
		e.Kind = Timeout
	}
	return c.fail(e)
}

// begin opens a wait.
func (c *Conn) begin(first, gap, total time.Duration) {
	now := time.Now()
	if !c.endBy.IsZero() {
		total = min(total, c.endBy.Sub(now))
	}
	c.wait = wait{begun: now, first: first, gap: gap, total: total, last: now}
	c.speakBy.Store(c.wait.until().Add(speakGrace).UnixNano())
}

// end closes it.
func (c *Conn) end() {
	c.wait = wait{}
	c.speakBy.Store(0)
}

// fill reads some bytes, no longer than the present wait allows.
func (c *Conn) fill(p []byte) (int, error) {
	if c.drain < 0 {
		return 0, &Error{Kind: Closed, Stage: c.stage, Command: c.verb, Text: "answer was given up"}
	}
	for {
		now := time.Now()
		w := &c.wait
		by := w.until()
		if !by.After(now) {
			return 0, errNoAnswer
		}
		c.speakBy.Store(by.Add(speakGrace).UnixNano())
		inLiteral := c.rd.literal > 0
		if !inLiteral {
			w.spanBegin = time.Time{}
		} else {
			if w.spanBegin.IsZero() {
				w.spanBegin, w.spanRead = now, 0
			}
			if span := w.spanBegin.Add(c.lim.RateSpan); span.Before(by) {
				by = span
			}
		}
		if err := c.nc.SetReadDeadline(by); err != nil {
			return 0, err
		}
		n, err := c.src.Read(p)
		now = time.Now()
		if n > 0 {
			c.took(n, now)
			if inLiteral {
				w.spanRead += int64(n)
				c.proof.Store(now.UnixNano())
			}
		}
		if inLiteral && now.Sub(w.spanBegin) >= c.lim.RateSpan {
			if w.spanRead < c.lim.Rate*int64(c.lim.RateSpan/time.Second) {
				return 0, errTooSlow
			}
			w.spanBegin, w.spanRead = now, 0
		}
		switch {
		case n > 0:
			c.drained(n)
			return n, nil // a read error comes again
		case err == nil:
			continue
		case isTimeout(err) && time.Now().Before(w.until()):
			continue // the span ended, the wait did not
		}
		return 0, err
	}
}

// took accounts for bytes.
func (c *Conn) took(n int, now time.Time) {
	c.wait.answered, c.wait.last = true, now
	c.counters.Read += int64(n)
	c.heard.Store(now.UnixNano())
}

// drained counts down what is read for a caller who gave up; below zero it was too much.
func (c *Conn) drained(n int) {
	if c.drain > 0 {
		if c.drain -= int64(n); c.drain <= 0 {
			c.drain = -1
		}
	}
}

// write sends bytes.
func (c *Conn) write(b []byte) error {
	by := time.Now().Add(c.lim.Write)
	c.speakBy.Store(by.Add(speakGrace).UnixNano())
	if err := c.nc.SetWriteDeadline(by); err != nil {
		return err
	}
	n, err := c.dst.Write(b)
	c.counters.Written += int64(n)
	return err
}

// prove notes that the server answered.
func (c *Conn) prove() { c.proof.Store(time.Now().UnixNano()) }

// read takes the next response.
func (c *Conn) read() (response, error) {
	c.rd.nums.max = c.lim.members(c.folder.Exists)
	f, err := c.rd.next(c.tag)
	if err != nil {
		return response{}, err
	}
	c.counters.Frames++
	if c.stage != StageCommand && c.counters.Read > c.lim.Greeted {
		return response{}, &Error{Kind: Limit, Stage: c.stage, Command: c.verb, Text: "server says too much before login"}
	}
	r := head(f)
	if c.trace != nil {
		c.trace.received(&r)
	}
	if r.kind == rUnknown {
		return r, c.skip("line")
	}
	if !f.cut {
		c.skips, c.rd.skipped = 0, 0
	}
	return r, nil
}

// skip counts a frame nothing was made of.
func (c *Conn) skip(name string) error {
	c.counters.Skipped++
	c.unknown(name)
	if c.skips++; c.skips > c.lim.Damage {
		return &Error{Kind: Limit, Stage: c.stage, Command: c.verb, Text: "nothing readable comes"}
	}
	return nil
}

// unknownNames are the labels of Counters.Unknown.
var unknownNames = []string{
	"line", "tag", "continuation", "fetch", "count", "numbers", "XLIST", "LSUB", "XAPPLEPUSHSERVICE", "QUOTA", "QUOTAROOT",
	"ACL", "SORT", "THREAD", "METADATA", "ANNOTATION", "GENURLAUTH", "URLFETCH", "LANGUAGE", "COMPARATOR",
}

func (c *Conn) unknown(name string) {
	if c.counters.Unknown == nil {
		c.counters.Unknown = map[string]int64{}
	}
	for _, n := range unknownNames {
		if n == name {
			c.counters.Unknown[n]++
			return
		}
	}
	c.counters.Unknown["other"]++
}

// guard ends the connection with ctx; the result undoes that.
func (c *Conn) guard(ctx context.Context) func() bool {
	if ctx.Done() == nil {
		return func() bool { return true }
	}
	return context.AfterFunc(ctx, func() { c.closeFor(context.Cause(ctx)) })
}
