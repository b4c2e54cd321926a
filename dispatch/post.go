package dispatch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"time"
)

const (
	maxAnswer  = 64 << 10 // read of an answer's body, to keep the connection
	keepAnswer = 4 << 10  // kept of it, for people
	shownError = 512      // of that in the error of a task
)

// poster makes one HTTP request and reads as much of the answer as is good for it.
type poster struct {
	transport http.RoundTripper
	check     func(string) error
}

// exchange is one request and its answer.
type exchange struct {
	status int         // 0: no status line came
	header http.Header // of the answer
	body   []byte      // of the answer, cut
	remote string
	err    error
	start  time.Time
	took   time.Duration
}

// send posts body. The timeout bounds everything up to the status line, and the reading
// of the body after it; but the body decides nothing. Redirects are not followed, and no
// request is made twice but one whose connection turned out closed before its first byte.
func (p poster) send(ctx context.Context, t target, h http.Header, body []byte, timeout time.Duration) (x exchange) {
	x.start = time.Now()
	defer func() { x.took = time.Since(x.start) }()
	if p.check != nil {
		if x.err = p.check(t.url.String()); x.err != nil {
			return x
		}
	}
	rctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	rctx = httptrace.WithClientTrace(rctx, &httptrace.ClientTrace{
		GotConn: func(i httptrace.GotConnInfo) { x.remote = addrString(i.Conn) },
	})
	req, err := http.NewRequestWithContext(rctx, http.MethodPost, t.url.String(), bytes.NewReader(body))
	if err != nil {
		x.err = cause(err)
		return x
	}
	req.Header = h
	if len(h.Values("Idempotency-Key"))+len(h.Values("X-Idempotency-Key")) > 0 {
		req.GetBody = nil // net/http would take them as leave to send the request twice
	}
	resp, err := p.transport.RoundTrip(req)
	if err != nil {
		x.err = cause(err)
		if ctx.Err() != nil && errors.Is(context.Cause(ctx), errInterrupted) {
			x.err = errInterrupted
		}
		return x
	}
	x.status, x.header = resp.StatusCode, resp.Header
	// A body read to its end gives the connection back; any other one closes it.
	x.body, _ = io.ReadAll(io.LimitReader(resp.Body, keepAnswer))
	if len(x.body) == keepAnswer {
		_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer-keepAnswer)
	}
	_ = resp.Body.Close()
	return x
}

func addrString(c net.Conn) string {
	if c == nil || c.RemoteAddr() == nil {
		return ""
	}
	return c.RemoteAddr().String()
}

// summary is the outcome in a line for people: the status, or what went wrong.
func (x exchange) summary() string {
	if x.err != nil {
		return x.err.Error()
	}
	s := strconv.Itoa(x.status)
	if text := http.StatusText(x.status); text != "" {
		s += " " + text
	}
	return s
}
