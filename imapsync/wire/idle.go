package wire

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/postrider/postrider/internal/aside"
)

// End says why Idle returned.
type End string

// The ends of Idle.
const (
	EndChanged End = "changed" // a hint came
	EndKicked  End = "kicked"
	EndTime    End = "time"   // max has passed
	EndServer  End = "server" // the server ended it by its tagged OK
)

// Idle waits until something seems to have changed, Kick, the server ends it, or max has
// passed, and says which. Hints that came before it end it at once, before a byte is
// sent. When ctx ends it ends IDLE politely, within Limits.Drain, and returns
// context.Cause(ctx) with the connection usable. The server MUST have IDLE.
func (c *Conn) Idle(ctx context.Context, limit time.Duration) (End, error) {
	if err := c.closed("IDLE"); err != nil {
		return "", err
	}
	if c.zipped {
		return "", refuse("IDLE", "connection is compressed")
	}
	switch {
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case c.takeKick():
		return EndKicked, nil
	case c.changes.Any() || c.changes.Else():
		return EndChanged, nil
	}
	// The end of ctx is a kick: the wait ends, and DONE is said.
	undo := context.AfterFunc(ctx, c.Kick)
	defer undo()

	defer func() {
		c.tag = c.tag[:0]
		c.end()
	}()
	var ended bool
	var err error
	if aside.Do(func() { ended, err = c.idleStart() }); err != nil || ended {
		return EndServer, err
	}
	end, err := c.idling(ctx, limit)
	if err != nil || end == EndServer {
		return end, err
	}
	if aside.Do(func() { err = c.idleDone(ctx) }); err != nil {
		return "", err
	}
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	return end, nil
}

// idleStart says IDLE and waits for the `+`. ended: a tagged OK came instead.
func (c *Conn) idleStart() (ended bool, err error) {
	k := c.command("IDLE")
	c.verb = k.verb
	c.tag = append(c.tag[:0], k.buf[:bytes.IndexByte(k.buf, ' ')]...)
	if c.trace != nil {
		c.trace.sent(k, k.buf)
	}
	if err := c.write(append(k.buf, '\r', '\n')); err != nil {
		return false, c.failFor(err)
	}
	c.begin(c.lim.IdleStart, 0, c.lim.IdleStart)
	for {
		r, err := c.read()
		if err != nil {
			return false, c.failFor(err)
		}
		if r.kind == rContinue {
			c.prove()
			return false, nil
		}
		if tagged, err := c.idleResponse(&r); tagged || err != nil {
			return true, err
		}
	}
}

// idleResponse takes a response within IDLE; a tagged one ends it.
func (c *Conn) idleResponse(r *response) (tagged bool, err error) {
	switch r.kind {
	case rTagged:
		if bytes.Equal(r.tag, c.tag) {
			_, err := (&command{c: c, verb: c.verb}).ended(r)
			return true, err
		}
		err = c.skip("tag")
	case rContinue:
		err = c.skip("continuation")
	case rStatus, rData:
		err = c.unasked(r)
		if err == nil && c.bye != nil {
			err = c.bye
		}
	}
	if err != nil {
		return false, c.failFor(err)
	}
	return false, nil
}

// idling waits until IDLE should end. Ten thousand connections sit here: what it keeps on
// the stack while it waits is what each of them costs, so reading is done aside.
func (c *Conn) idling(ctx context.Context, limit time.Duration) (End, error) {
	until := time.Now().Add(limit)
	c.rd.release()
	c.words.reset()
	for {
		if c.changes.Any() || c.changes.Else() {
			if c.rd.buffered() == 0 {
				return EndChanged, nil
			}
			// What came along with it is read first, as far as it is whole.
		} else if c.rd.buffered() == 0 {
			c.rd.release()
		} else if end := c.idleOver(until); end != "" { // who never stops talking is not waited for
			return end, nil
		}
		for c.rd.buffered() == 0 {
			end, err := c.idleWait(ctx, until)
			if err != nil || end != "" {
				return end, err
			}
		}
		var ended bool
		var err error
		if aside.Do(func() { ended, err = c.idleRead() }); ended || err != nil {
			return EndServer, err
		}
	}
}

// idleOver says whether the wait is to end, without reading.
func (c *Conn) idleOver(until time.Time) End {
	switch {
	case c.takeKick():
		return EndKicked
	case !time.Now().Before(until):
		return EndTime
	}
	return ""
}

// idleRead reads the response that began, whole: half of one would be lost.
func (c *Conn) idleRead() (ended bool, err error) {
	c.begin(c.lim.Gap, c.lim.Gap, c.lim.Command)
	r, err := c.read()
	if err != nil {
		return true, c.failFor(err)
	}
	return c.idleResponse(&r)
}

// idleWait reads the next bytes; it ends by Kick, the end of ctx, and time, without harm
// to the connection.
func (c *Conn) idleWait(ctx context.Context, until time.Time) (End, error) {
	c.mu.Lock()
	if c.kicked {
		c.kicked = false
		c.mu.Unlock()
		return EndKicked, nil
	}
	c.waiting = true
	err := c.nc.SetReadDeadline(until)
	c.mu.Unlock()
	c.speakBy.Store(until.Add(speakGrace).UnixNano())
	n := 0
	if err == nil {
		if c.rd.r == c.rd.w {
			c.rd.r, c.rd.w = 0, 0
		}
		n, err = c.src.Read(c.rd.buf[c.rd.w:])
		c.rd.w += n
	}
	c.mu.Lock()
	c.waiting = false
	kicked := c.kicked
	if n == 0 {
		c.kicked = false
	}
	c.mu.Unlock()
	switch {
	case n > 0:
		c.took(n, time.Now())
		c.rd.stretch = c.rd.w == len(c.rd.buf)
		return "", nil
	case kicked:
		if err != nil && !isTimeout(err) {
			return "", c.failFor(err)
		}
		return EndKicked, nil
	case err == nil:
		return "", nil
	case isTimeout(err):
		return EndTime, nil
	}
	return "", c.failFor(err)
}

// idleDone says DONE and waits for the tagged reply, which is the proof of life.
func (c *Conn) idleDone(ctx context.Context) error {
	wait := c.lim.Done
	if ctx.Err() != nil {
		wait = c.lim.Drain
	}
	if c.trace != nil {
		c.trace.line("DONE")
	}
	if err := c.write([]byte("DONE\r\n")); err != nil {
		return c.failFor(err)
	}
	c.begin(wait, 0, wait)
	for {
		r, err := c.read()
		if err != nil {
			return c.failFor(err)
		}
		if tagged, err := c.idleResponse(&r); tagged || err != nil {
			if e, ok := errors.AsType[*Error](err); ok && e.Status == imap.StatusResponseTypeNo {
				return nil // the wait is over all the same
			}
			return err
		}
	}
}

// takeKick takes a kick that came while nothing waited.
func (c *Conn) takeKick() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.kicked
	c.kicked = false
	return was
}
