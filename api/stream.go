package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/postrider/postrider/store"
)

const (
	// retryAfter is what a stream tells its client to wait before it connects again.
	retryAfter = 3 * time.Second
	// commentEvery keeps proxies from closing a quiet stream.
	commentEvery = 15 * time.Second
	// writeTime is how long a write may make no progress.
	writeTime = 30 * time.Second
	// askEvery is how often a stream asks whether its token still stands.
	askEvery = 5 * time.Second
	// streamPage is how many events are read at once.
	streamPage = 100
)

type streamIn struct {
	Cursor      string `query:"cursor" maxLength:"512" doc:"where to begin; or begin, now, or a time; default now"`
	Account     string `query:"account" maxLength:"256" doc:"only this account's events"`
	Events      string `query:"events" maxLength:"4096" doc:"only these events, by comma"`
	LastEventID string `header:"Last-Event-ID" maxLength:"512" doc:"beats cursor: what a client sends when it connects again"`
}

func (s *Server) streamRoutes() {
	register(s, huma.Operation{
		OperationID: "streamEvents", Method: http.MethodGet, Path: "/v1/events/stream", Tags: []string{"events"},
		Summary:     "Follow events as they happen",
		Description: "Server-sent events: id is a cursor, event the name, data the envelope on one line. At least once: what was sent just before a break may come again, with the same eventId. A problem inside the stream is an event named problem, and the end.",
		Metadata:    map[string]any{"time": time.Duration(0)},
		Responses: map[string]*huma.Response{"200": {
			Description: "OK", Content: map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}}},
		}},
	}, []string{scopeEvents}, s.openStream)
}

func (s *Server) openStream(ctx context.Context, in *streamIn) (*huma.StreamResponse, error) {
	account, err := whose(ctx, in.Account)
	if err != nil {
		return nil, err
	}
	types, err := namesOf(in.Events)
	if err != nil {
		return nil, err
	}
	q := store.EventQuery{Cursor: in.Cursor, Account: account, Types: types, Limit: streamPage, Each: true}
	if in.LastEventID != "" {
		q.Cursor = in.LastEventID
	}
	if q.Cursor == "" {
		q.Cursor = "now"
	}
	seen, _ := s.feeds.now()
	first, err := s.page(ctx, q) // a bad cursor is a status, not an event
	if err != nil {
		return nil, err
	}
	release, p := s.streams.open(callOf(ctx).token.ID)
	if p != nil {
		return nil, p
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		defer release()
		r, w := humago.Unwrap(hc)
		h := w.Header()
		h.Set("Content-Type", "text/event-stream")
		h.Set("X-Accel-Buffering", "no") // nginx would hold it back otherwise
		w.WriteHeader(http.StatusOK)
		if r.Method == http.MethodHead {
			return
		}
		st := &stream{s: s, w: w, ctl: http.NewResponseController(w), q: q, value: callOf(ctx).value}
		if q.Cursor != "now" { // which will be another place when the client connects again
			st.sent = q.Cursor
		}
		s.log.Debug("stream ended", "request", callOf(ctx).id, "err", st.run(r.Context(), first, seen))
	}}, nil
}

// stream is one open event stream; the goroutine of its request owns it.
type stream struct {
	s     *Server
	w     http.ResponseWriter
	ctl   *http.ResponseController
	q     store.EventQuery
	value string // of the token
	sent  string // the cursor that the client has; "" before the first

	asked time.Time // when the token was
	said  time.Time // when something was written
}

// run writes until the client goes, the server drains, or something must be said as a
// problem; the error says which, it is never nil. The next read of the store happens after the write: a slow client is slowed,
// not buffered.
func (st *stream) run(ctx context.Context, page store.EventPage, seen generations) error {
	if err := st.write(fmt.Appendf(nil, "retry: %d\n\n", retryAfter.Milliseconds())); err != nil {
		return err
	}
	st.asked, st.said = time.Now(), time.Now()
	for {
		if err := st.events(page); err != nil {
			return err
		}
		st.q.Cursor = page.Cursor
		if st.sent == "" { // so that a client that breaks off now knows where it was
			if err := st.mark(); err != nil {
				return err
			}
		}
		for more := page.More; ; {
			if !more {
				pause, stop := context.WithTimeout(ctx, min(commentEvery-time.Since(st.said), askEvery-time.Since(st.asked)))
				more = st.s.wait(pause, seen, st.q.Account)
				stop()
			}
			if err := st.tend(ctx); err != nil {
				return err
			}
			if more {
				break
			}
		}
		seen, _ = st.s.feeds.now()
		next, err := st.s.page(ctx, st.q)
		switch {
		case errors.Is(err, store.ErrUnavailable): // Redis comes back; a browser that we hang up on with an error does not
			if err := st.write([]byte(": store unavailable\n\n")); err != nil {
				return err
			}
			pauseFor(ctx, st.s.drained, lookEvery)
			page = store.EventPage{Cursor: st.q.Cursor, More: true}
		case err != nil:
			return st.problem(problemOf(err))
		default:
			page = next
		}
	}
}

// errDrained ends a stream that has said good-bye.
var errDrained = errors.New("the server drains")

// tend does what is due between reads: it ends the stream when the client has gone, the
// server drains or the token was revoked, and comments on silence.
func (st *stream) tend(ctx context.Context) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if st.s.draining.Load() {
		return errors.Join(errDrained, st.write([]byte(": bye\n\n")))
	}
	if time.Since(st.asked) >= askEvery {
		if p := st.ask(ctx); p != nil {
			return st.problem(p)
		}
		st.asked = time.Now()
	}
	if time.Since(st.said) >= commentEvery {
		return st.mark()
	}
	return nil
}

// pauseFor waits, unless something ends first.
func pauseFor(ctx context.Context, done <-chan struct{}, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-done:
	case <-t.C:
	}
}

// events writes a page, each event with the cursor behind it: a client that breaks off in
// between goes on there.
func (st *stream) events(page store.EventPage) error {
	if len(page.Events) == 0 {
		return nil
	}
	var buf bytes.Buffer
	for i, e := range page.Events {
		data, err := e.Encode()
		if err != nil {
			return st.problem(problemOf(err))
		}
		st.sent = page.Cursors[i]
		fmt.Fprintf(&buf, "id: %s\nevent: %s\ndata: %s\n\n", st.sent, e.Type, data)
	}
	st.s.metrics.lag.Set(time.Since(page.Events[len(page.Events)-1].Date.Time).Seconds())
	return st.write(buf.Bytes())
}

// mark writes a comment, and the cursor where it has moved over events that were not
// wanted.
func (st *stream) mark() error {
	line := ": \n\n"
	if st.sent != st.q.Cursor {
		st.sent = st.q.Cursor
		line += "id: " + st.sent + "\n\n"
	}
	return st.write([]byte(line))
}

// ask says whether the token was revoked or has expired.
func (st *stream) ask(ctx context.Context) *Problem {
	_, err := st.s.lookup(ctx, st.value)
	if errors.Is(err, store.ErrNotFound) {
		return problem(Unauthenticated, "the token is unknown, revoked or expired")
	}
	return nil // a store that does not answer is not the token's fault
}

// problem is the last event of a stream.
func (st *stream) problem(p *Problem) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if err := st.write(fmt.Appendf(nil, "event: problem\ndata: %s\n\n", b)); err != nil {
		return err
	}
	return p
}

// write sends bytes now.
func (st *stream) write(b []byte) error {
	st.said = time.Now()
	_ = st.ctl.SetWriteDeadline(st.said.Add(writeTime)) // not every writer has deadlines
	if _, err := st.w.Write(b); err != nil {
		return err
	}
	return st.ctl.Flush()
}
