package transport

import (
	"bufio"
	"context"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/internal/redact"
)

// conn is a connection that is logged in. One goroutine uses it at a time; closing its
// socket, which never blocks, ends what that one waits for.
type conn struct {
	o    *Options
	raw  *socket  // TCP
	nc   net.Conn // raw, or TLS over it
	r    *bufio.Reader
	ext  map[string]string // what EHLO offered: upper-case keyword, parameters
	born time.Time
	hide redact.Redactor // of every reply

	secure   bool // TLS
	verified bool // whose certificate was judged

	lost     bool // closed, or where it stands in the dialogue is not known
	dirty    bool // a transaction was begun and not ended: RSET before the next
	answered bool // the server answered MAIL of this transaction
	messages int  // transactions that ended with a reply to the dot
}

// socket counts what was written.
type socket struct {
	net.Conn
	written atomic.Int64
}

func (s *socket) Write(p []byte) (int, error) {
	n, err := s.Conn.Write(p)
	s.written.Add(int64(n))
	return n, err
}

func newConn(o *Options, raw net.Conn) *conn {
	s := &socket{Conn: raw}
	return &conn{o: o, raw: s, nc: s, r: bufio.NewReader(s), born: time.Now()}
}

// guard closes the socket when ctx ends; the result undoes that.
func (c *conn) guard(ctx context.Context) func() bool {
	return context.AfterFunc(ctx, func() { _ = c.raw.Close() })
}

// close ends the connection. It MAY be called more than once and never blocks.
func (c *conn) close() {
	c.lost = true
	_ = c.raw.Close()
}

// maxBlock is what one write deadline is for.
const maxBlock = 64 << 10

// Write sends p in blocks, each with its deadline.
func (c *conn) Write(p []byte) (n int, err error) {
	for err == nil && n < len(p) {
		if err = c.nc.SetWriteDeadline(time.Now().Add(c.o.Timeouts.Block)); err != nil {
			break
		}
		var m int
		m, err = c.nc.Write(p[n:min(len(p), n+maxBlock)])
		n += m
	}
	return n, err
}

// step is a command, or a part of the dialogue without one.
type step struct {
	phase   Phase
	verb    string
	timeout time.Duration // of its reply
}

// command sends a line and reads the reply.
func (c *conn) command(ctx context.Context, s step, line string) (reply, *Error) {
	if _, err := c.Write([]byte(line + "\r\n")); err != nil {
		return reply{}, c.fail(ctx, s, err)
	}
	return c.reply(ctx, s)
}

// reply reads a reply of any code.
func (c *conn) reply(ctx context.Context, s step) (reply, *Error) {
	if err := c.nc.SetReadDeadline(time.Now().Add(s.timeout)); err != nil {
		return reply{}, c.fail(ctx, s, err)
	}
	r, err := readReply(c.r)
	if err != nil {
		return reply{}, c.fail(ctx, s, err)
	}
	r.hide = c.hide
	c.lost = c.lost || r.code == 421 // the server hangs up (RFC 5321 section 3.8)
	return r, nil
}

// fail closes the connection for a fault.
func (c *conn) fail(ctx context.Context, s step, err error) *Error {
	c.close()
	return fault(ctx, s.phase, s.verb, err)
}

// refuse makes the Error of a reply. After one that does not fit, nobody knows where the
// server thinks we are.
func (c *conn) refuse(s step, r reply) *Error {
	c.lost = c.lost || r.code < 400 || r.code == 503
	return refused(s.phase, s.verb, r)
}

// has says whether EHLO offered a keyword.
func (c *conn) has(keyword string) bool {
	_, ok := c.ext[keyword]
	return ok
}

// maxSize is what SIZE offered; 0 = no limit is known (RFC 1870 section 3).
func (c *conn) maxSize() int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(c.ext["SIZE"]), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// quit leaves politely, within 2 s a step, and closes.
func (c *conn) quit() {
	if !c.lost {
		by := time.Now().Add(quitTimeout)
		if c.nc.SetDeadline(by) == nil {
			if _, err := c.nc.Write([]byte("QUIT\r\n")); err == nil {
				_, _ = readReply(c.r)
			}
		}
	}
	c.close()
}
