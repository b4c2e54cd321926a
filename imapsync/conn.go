package imapsync

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// conn is the net.Conn under go-imap's client. It alone sets deadlines and is what
// gets closed: the client's own deadlines are ignored (they know one timeout for
// everything) and its Close is never called for (it can hang). Everything read passes
// frames first, so that nothing reaches the decoder that could take the process down.
//
// The client's reader goroutine calls Read, whoever sends calls Write; the rest may be
// called by anybody.
type conn struct {
	raw net.Conn // TCP: closing it ends every Read and Write, and never blocks
	nc  net.Conn // what is read and written: raw, or TLS over it
	lim limits
	pre []byte // delivered before what comes from nc
	fr  frames // touched by Read only

	down   chan struct{} // closed with the connection
	timer  *time.Timer   // looks at wait
	proof  atomic.Int64  // Unix nanoseconds of the last proof of life
	folder folderView

	mu      sync.Mutex
	dead    bool
	cause   *Error // why we closed it; nil when the client or the peer did
	readErr error  // how the last Read ended
	bye     *Error // the server's BYE
	wait    waitState
	last    taggedReply
	idle    idleState
}

// waitState is the command in flight.
type waitState struct {
	on        bool
	verb      string
	begun     time.Time
	first     time.Duration
	gap       time.Duration // 0: none
	total     time.Duration
	lastByte  time.Time
	spanBegin time.Time // of the minimum rate
	spanRead  int64
	read      int64 // literal bytes, as of the last Read
	inLiteral bool
	spanIn    bool // in a literal when the span began
}

// taggedReply is the last one that came.
type taggedReply struct{ code, args string }

// idleState follows an IDLE on the wire.
type idleState uint8

const (
	idleOff     idleState = iota
	idleSent              // the command is sent
	idleRunning           // its `+` came
	idleEnded             // a tagged reply came although we have not said DONE
)

func newConn(raw, nc net.Conn, lim limits, pre []byte) *conn {
	c := &conn{raw: raw, nc: nc, lim: lim, pre: pre, down: make(chan struct{})}
	c.fr = frames{lim: lim, handle: c.response}
	c.folder.hint = make(chan struct{}, 1)
	c.timer = time.AfterFunc(time.Hour, c.check)
	c.timer.Stop()
	c.proof.Store(time.Now().UnixNano())
	return c
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	if len(c.pre) > 0 {
		n := copy(p, c.pre)
		c.pre = c.pre[n:]
		if len(c.pre) == 0 {
			c.pre = nil
		}
		return c.took(p[:n])
	}
	n, err := c.nc.Read(p)
	if n > 0 {
		m, lerr := c.took(p[:n])
		if lerr != nil {
			return m, lerr
		}
	}
	if err != nil {
		c.mu.Lock()
		if c.readErr == nil {
			c.readErr = err
		}
		c.mu.Unlock()
		// The client asks errors.Is(err, net.ErrClosed) to tell an end from a fault.
		err = io.EOF
	}
	return n, err
}

// took accounts for bytes before the decoder sees them.
func (c *conn) took(p []byte) (int, error) {
	err := c.fr.feed(p)
	if err != nil {
		c.fail(&Error{Kind: ErrLimit, Stage: StageCommand, Err: err})
		return 0, io.EOF
	}
	c.mu.Lock()
	w := &c.wait
	w.lastByte = time.Now()
	w.read, w.inLiteral = c.fr.read, c.fr.literal > 0
	if w.on && w.inLiteral {
		c.proof.Store(w.lastByte.UnixNano())
	}
	c.mu.Unlock()
	return len(p), nil
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	swallow := c.idle == idleEnded && bytes.Equal(p, []byte("DONE\r\n"))
	if swallow {
		c.idle = idleOff
	}
	dead := c.dead
	c.mu.Unlock()
	switch {
	case dead:
		return 0, net.ErrClosed
	case swallow:
		// The server ended IDLE by itself: DONE would be an unknown command to it.
		return len(p), nil
	}
	_ = c.nc.SetWriteDeadline(time.Now().Add(c.lim.write))
	n, err := c.nc.Write(p)
	if err != nil {
		kind := ErrClosed
		if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
			kind = ErrTimeout
		}
		c.fail(&Error{Kind: kind, Stage: StageCommand, Err: err})
	}
	return n, err
}

// Close implements net.Conn for the client, which closes after an answer it cannot
// read and after the end.
func (c *conn) Close() error {
	c.fail(nil)
	return nil
}

// LocalAddr implements net.Conn.
func (c *conn) LocalAddr() net.Addr { return c.raw.LocalAddr() }

// RemoteAddr implements net.Conn.
func (c *conn) RemoteAddr() net.Addr { return c.raw.RemoteAddr() }

// SetDeadline implements net.Conn and does nothing.
func (c *conn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.Conn and does nothing.
func (c *conn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.Conn and does nothing.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

// fail closes the connection; the first cause stays. It never blocks.
func (c *conn) fail(cause *Error) {
	c.mu.Lock()
	if c.dead {
		c.mu.Unlock()
		return
	}
	c.dead = true
	c.cause = cause
	c.wait.on = false
	c.mu.Unlock()
	c.timer.Stop()
	close(c.down)
	_ = c.raw.Close()
}

// isDead says whether the connection is closed.
func (c *conn) isDead() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dead
}

// begin opens the wait for the answer to a command.
func (c *conn) begin(verb string, first, gap, total time.Duration) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return
	}
	c.wait = waitState{on: true, verb: verb, begun: now, first: first, gap: gap, total: total, spanBegin: now, read: c.wait.read, spanRead: c.wait.read}
	c.last = taggedReply{}
	c.arm()
}

// end closes it.
func (c *conn) end() {
	c.mu.Lock()
	c.wait.on = false
	c.mu.Unlock()
	c.timer.Stop()
}

// deadline is by when the present wait ends; c.mu is held.
func (c *conn) deadline() time.Time {
	w := &c.wait
	last := w.begun.Add(w.total)
	next := w.begun.Add(w.first)
	if w.gap > 0 && w.lastByte.After(w.begun) {
		next = w.lastByte.Add(w.gap)
	}
	if next.After(last) {
		return last
	}
	return next
}

// check runs when the timer fires: ends the connection at its deadline or when a
// literal trickles, else sets the timer anew.
func (c *conn) check() {
	now := time.Now()
	c.mu.Lock()
	w := &c.wait
	if !w.on || c.dead {
		c.mu.Unlock()
		return
	}
	end := c.deadline()
	var err error
	if !now.Before(end) {
		err = errors.New("no answer in time")
	} else if span := w.spanBegin.Add(c.lim.rateSpan); !now.Before(span) {
		if w.inLiteral && w.spanIn && w.read-w.spanRead < c.lim.rate*int64(c.lim.rateSpan/time.Second) {
			err = errors.New("literal comes too slowly")
		}
		w.spanBegin, w.spanRead, w.spanIn = now, w.read, w.inLiteral
	}
	if err != nil {
		cause := &Error{Kind: ErrTimeout, Stage: StageCommand, Command: w.verb, Err: err}
		c.mu.Unlock()
		c.fail(cause)
		return
	}
	c.arm()
	c.mu.Unlock()
}

// arm sets the timer to the next moment something is to be looked at; c.mu is held.
func (c *conn) arm() {
	next := c.deadline()
	if span := c.wait.spanBegin.Add(c.lim.rateSpan); span.Before(next) {
		next = span
	}
	c.timer.Reset(time.Until(next))
}

// speakBy is the deadline of the present wait with the watchdog's grace; zero when
// nothing is waited for.
func (c *conn) speakBy() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.wait.on {
		return time.Time{}
	}
	return c.deadline().Add(speakGrace)
}

// response hears of every complete response, in Read, before the client does.
func (c *conn) response(r response) {
	c.mu.Lock()
	defer c.mu.Unlock()
	proof := false
	switch r.kind {
	case kindTagged:
		proof = true
		code, args, _ := statusText(r.rest)
		c.last = taggedReply{code, args}
		c.folder.tagged()
		switch c.idle {
		case idleSent:
			c.idle = idleOff
		case idleRunning:
			c.idle = idleEnded
			c.folder.signal()
		}
	case kindContinue:
		proof = c.wait.on
		if c.idle == idleSent {
			c.idle = idleRunning
		}
	case kindStatus:
		code, _, text := statusText(r.rest)
		switch {
		case r.word == "BYE":
			c.bye = &Error{Kind: ErrBye, Stage: StageCommand, Command: c.wait.verb, Code: code, Text: text}
			c.folder.bye(text)
		case code == "ALERT":
			c.folder.alert(text)
		}
	case kindData:
		switch r.word {
		case "EXISTS":
			if r.has {
				c.folder.exists(r.num)
			}
		case "EXPUNGE":
			c.folder.expunge()
		case "FETCH", "LIST", "STATUS", "SEARCH", "ESEARCH":
			proof = c.wait.on && c.idle == idleOff
		}
	}
	if proof {
		c.proof.Store(time.Now().UnixNano())
	}
}

// setIdle moves the view of IDLE.
func (c *conn) setIdle(s idleState) {
	c.mu.Lock()
	c.idle = s
	c.mu.Unlock()
}

// idleEndedByServer says whether the server ended IDLE before our DONE.
func (c *conn) idleEndedByServer() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.idle == idleEnded
}

// lastReply is the code of the last tagged reply and its arguments.
func (c *conn) lastReply() taggedReply {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// why says how the connection ended: our own reason first, then the server's BYE, then
// the read error; nil when none of them is known (the client could not read an answer).
func (c *conn) why() *Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.cause != nil && c.cause.Kind != ErrClosed:
		return c.cause
	case c.bye != nil:
		return c.bye
	case c.cause != nil:
		return c.cause
	case c.readErr != nil:
		return &Error{Kind: ErrClosed, Stage: StageCommand, Err: c.readErr}
	}
	return nil
}
