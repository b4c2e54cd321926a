package hooktest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/postrider/postrider/events"
)

// maxBody bounds what the receiver reads of a request.
const maxBody = 32 << 20

// Request is one request as it came.
type Request struct {
	At     time.Time
	Method string
	Path   string // with query
	Header http.Header
	Body   []byte
	Event  events.Event // of the body; zero when that is no event
	Status int          // what it was answered
}

// ID is the delivery's id.
func (r Request) ID() string { return r.Header.Get("webhook-id") }

// Attempt is the attempt's number, from 1.
func (r Request) Attempt() int { n, _ := strconv.Atoi(r.Header.Get("X-Postrider-Attempt")); return n }

// Late says whether the delivery had left its lane.
func (r Request) Late() bool { return r.Header.Get("X-Postrider-Late") == "1" }

// Answer is what a receiver does with a request. The zero value is 200 with an empty body.
type Answer struct {
	Status  int           // 0 = 200
	Header  http.Header   // besides
	Body    string        // of the answer
	Delay   time.Duration // before the status line
	Hang    bool          // never answer: hold the connection until the client leaves
	Reset   bool          // close the connection without an answer
	Endless bool          // after the status line, send a body without end
	Drip    time.Duration // after the status line, send a byte in this time, without end
}

// Behaviour decides an answer. It is called by several goroutines at once.
type Behaviour func(Request) Answer

// Always answers everything alike.
func Always(a Answer) Behaviour { return func(Request) Answer { return a } }

// Status answers everything with a status.
func Status(code int) Behaviour { return Always(Answer{Status: code}) }

// Redirect answers 301 to that place.
func Redirect(to string) Behaviour {
	return Always(Answer{Status: http.StatusMovedPermanently, Header: http.Header{"Location": {to}}})
}

// Receiver is a webhook receiver. It is safe for concurrent use.
type Receiver struct {
	URL string // of the root; every path is served alike

	srv    *http.Server
	served chan struct{}
	closed context.Context
	close  context.CancelFunc

	mu       sync.Mutex
	behave   Behaviour
	got      []Request
	keep     int
	total    int
	now      int // requests being served
	most     int // of them at once
	changed  chan struct{}
	observer func(Request)
}

// New starts a receiver on a free port of 127.0.0.1 that answers 200.
func New() (*Receiver, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("receiver: %w", err)
	}
	return Serve(ln), nil
}

// Serve starts a receiver on a listener, which it owns from then on.
func Serve(ln net.Listener) *Receiver {
	ctx, cancel := context.WithCancel(context.Background())
	r := &Receiver{
		URL: "http://" + ln.Addr().String(), behave: Status(http.StatusOK), keep: 100_000,
		changed: make(chan struct{}), closed: ctx, close: cancel, served: make(chan struct{}),
	}
	r.srv = &http.Server{Handler: r, ReadHeaderTimeout: time.Minute}
	go func() {
		defer close(r.served)
		_ = r.srv.Serve(ln) // ends with ErrServerClosed
	}()
	return r
}

// Close ends the receiver and every request it serves.
func (r *Receiver) Close() {
	r.close()
	_ = r.srv.Close() // of connections that are being closed anyway
	<-r.served
}

// Behave changes what the receiver answers from now on.
func (r *Receiver) Behave(b Behaviour) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.behave = b
}

// OnRequest sets a function that is called for every request, before it is answered.
func (r *Receiver) OnRequest(f func(Request)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.observer = f
}

// ServeHTTP records a request and answers as Behave said.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(io.LimitReader(q.Body, maxBody))
	if err != nil {
		return // the client left in the middle of its request: there was none
	}
	req := Request{At: time.Now(), Method: q.Method, Path: q.URL.RequestURI(), Header: q.Header.Clone(), Body: body}
	if json.Unmarshal(body, &req.Event) != nil {
		req.Event = events.Event{}
	}
	r.mu.Lock()
	behave, observe := r.behave, r.observer
	r.now++
	r.most = max(r.most, r.now)
	r.mu.Unlock()
	a := behave(req)
	if a.Status == 0 {
		a.Status = http.StatusOK
	}
	req.Status = a.Status
	r.record(req)
	if observe != nil {
		observe(req)
	}
	defer func() {
		r.mu.Lock()
		r.now--
		r.mu.Unlock()
	}()
	r.answer(w, q, a)
}

func (r *Receiver) record(req Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total++
	if len(r.got) < r.keep {
		r.got = append(r.got, req)
	}
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *Receiver) answer(w http.ResponseWriter, q *http.Request, a Answer) {
	if a.Reset {
		panic(http.ErrAbortHandler)
	}
	if a.Hang {
		select {
		case <-q.Context().Done():
		case <-r.closed.Done():
		}
		panic(http.ErrAbortHandler)
	}
	if a.Delay > 0 {
		t := time.NewTimer(a.Delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-q.Context().Done():
			panic(http.ErrAbortHandler)
		case <-r.closed.Done():
			panic(http.ErrAbortHandler)
		}
	}
	maps.Copy(w.Header(), a.Header)
	w.WriteHeader(a.Status)
	if _, err := io.WriteString(w, a.Body); err != nil || !a.Endless && a.Drip == 0 {
		return
	}
	chunk := make([]byte, 32<<10)
	if a.Drip > 0 {
		chunk = chunk[:1]
	}
	flush := http.NewResponseController(w)
	for {
		if _, err := w.Write(chunk); err != nil {
			return
		}
		if err := flush.Flush(); err != nil {
			return
		}
		if a.Drip > 0 {
			t := time.NewTimer(a.Drip)
			select {
			case <-t.C:
			case <-q.Context().Done():
			case <-r.closed.Done():
			}
			t.Stop()
		}
		if q.Context().Err() != nil || r.closed.Err() != nil {
			return
		}
	}
}

// Requests are those received so far, in the order in which they were answered.
func (r *Receiver) Requests() []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

// Count is how many requests were received.
func (r *Receiver) Count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.total
}

// Most is how many requests were served at once, at most.
func (r *Receiver) Most() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.most
}

// Reset forgets the requests received so far.
func (r *Receiver) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got, r.total, r.most = nil, 0, r.now
}

// Wait returns the requests once ok says so of them, or the error of ctx. ok is asked
// again after every request.
func (r *Receiver) Wait(ctx context.Context, ok func([]Request) bool) ([]Request, error) {
	for {
		r.mu.Lock()
		got, changed := slices.Clone(r.got), r.changed
		r.mu.Unlock()
		if ok(got) {
			return got, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return got, fmt.Errorf("waiting for requests, %d came: %w", len(got), context.Cause(ctx))
		}
	}
}

// WaitCount waits until n requests were received.
func (r *Receiver) WaitCount(ctx context.Context, n int) ([]Request, error) {
	for {
		r.mu.Lock()
		count, changed := len(r.got), r.changed
		r.mu.Unlock()
		if count >= n {
			return r.Requests(), nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return r.Requests(), fmt.Errorf("waiting for %d requests, %d came: %w", n, count, context.Cause(ctx))
		}
	}
}
