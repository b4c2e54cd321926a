package smtpsend_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/smtpsend"
	"github.com/postrider/postrider/smtpsend/compose"
	"github.com/postrider/postrider/smtpsend/transport"
	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/storetest"
)

// sink is a submission server behind the transport's interface. behave says what becomes
// of a transaction; nil takes everything.
type sink struct {
	mu     sync.Mutex
	behave func(tx *tx) error
	got    []delivered
	tries  []try
	now    int // transactions at this moment
	most   int
}

// tx is a transaction as behave sees it.
type tx struct {
	server  transport.Server
	env     transport.Envelope
	n       int // tries so far, this one not counted
	receipt *transport.Receipt
	body    func() (string, error) // reads the body
	mark    func() error           // goes up to the dot
	done    <-chan struct{}        // the transaction is to end
	cause   func() error           // why
}

type delivered struct {
	to   []string
	body string
	at   time.Time
}

type try struct {
	at time.Time
	to []string
}

func (k *sink) Send(ctx context.Context, s transport.Server, env transport.Envelope, body func(io.Writer) error, mark func(context.Context, []string) error) (transport.Receipt, error) {
	k.mu.Lock()
	behave := k.behave
	x := &tx{server: s, env: env, n: len(k.tries), receipt: &transport.Receipt{Response: "250 2.0.0 Ok", Code: 250, Accepted: env.To, Secure: true}}
	k.tries = append(k.tries, try{time.Now(), env.To})
	k.now++
	k.most = max(k.most, k.now)
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		k.now--
		k.mu.Unlock()
	}()
	var b strings.Builder
	x.body = func() (string, error) {
		b.Reset()
		err := body(&b)
		return b.String(), err
	}
	x.done, x.cause = ctx.Done(), func() error { return context.Cause(ctx) }
	marked := false
	x.mark = func() error {
		if marked {
			return nil
		}
		if err := mark(ctx, x.receipt.Accepted); err != nil {
			return &transport.Error{Phase: transport.PhaseMark, Kind: transport.KindLocal, Err: err, Accepted: env.To}
		}
		marked = true
		return nil
	}
	if behave != nil {
		if err := behave(x); err != nil {
			return transport.Receipt{}, err
		}
	}
	b.Reset()
	if err := body(&b); err != nil {
		return transport.Receipt{}, &transport.Error{Phase: transport.PhaseBody, Kind: transport.KindLocal, Err: err}
	}
	if ctx.Err() != nil {
		return transport.Receipt{}, &transport.Error{Phase: transport.PhaseBody, Kind: transport.KindLocal, Err: context.Cause(ctx)}
	}
	if err := x.mark(); err != nil {
		return transport.Receipt{}, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.got = append(k.got, delivered{x.receipt.Accepted, b.String(), time.Now()})
	return *x.receipt, nil
}

func (k *sink) set(f func(*tx) error) {
	k.mu.Lock()
	k.behave = f
	k.mu.Unlock()
}

func (k *sink) taken() []delivered {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]delivered(nil), k.got...)
}

// atOnce is how many transactions there were at once, at most.
func (k *sink) atOnce() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.most
}

func (k *sink) tried() []try {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]try(nil), k.tries...)
}

// refused is a reply that ends a transaction.
func refused(phase transport.Phase, code int, enhanced [3]int) error {
	return &transport.Error{Phase: phase, Code: code, Enhanced: enhanced, Line: fmt.Sprintf("%d no", code), Kind: transport.KindMessage, Command: "DATA"}
}

// lost is a connection that ended without a reply.
func lost(phase transport.Phase) error {
	return &transport.Error{Phase: phase, Kind: transport.KindSocket, Err: io.EOF}
}

// house is a Redis with processes on it.
type house struct {
	t     testing.TB
	rdb   redis.UniversalClient
	redis *miniredis.Miniredis
	store *store.Store
	sink  *sink
	opts  smtpsend.Options
	*smtpsend.Sender
	stop func()
}

// start runs a Sender.
func (h *house) start(change ...func(*smtpsend.Options)) *smtpsend.Sender {
	h.t.Helper()
	o := h.opts
	for _, c := range change {
		c(&o)
	}
	s, err := smtpsend.New(o)
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	h.Sender = s
	h.stop = func() {
		cancel()
		if err := <-done; err != nil {
			h.t.Error(err)
		}
	}
	return s
}

// account registers one.
func (h *house) account(id store.AccountID, change ...func(*store.Account)) {
	h.t.Helper()
	a := store.Account{ID: id, Name: "Sales", Email: string(id) + "@example.com", SMTP: &store.Server{Host: "mail.example.com", Port: 587, User: "u"}}
	for _, c := range change {
		c(&a)
	}
	if _, err := h.store.CreateAccount(h.t.Context(), a); err != nil {
		h.t.Fatal(err)
	}
}

func request(account store.AccountID, to ...string) smtpsend.Request {
	text := "Good day."
	m := compose.Message{Subject: "Hello", Text: &text}
	for _, a := range to {
		m.To = append(m.To, compose.Address{Address: a})
	}
	return smtpsend.Request{Account: account, Message: m}
}

func (h *house) submit(r smtpsend.Request) store.SubmissionID {
	h.t.Helper()
	res, err := h.Queue.Submit(h.t.Context(), r)
	if err != nil {
		h.t.Fatal(err)
	}
	return res.QueueID
}

func (h *house) row(id store.SubmissionID) store.Submission {
	h.t.Helper()
	row, err := h.store.Submission(h.t.Context(), id)
	if err != nil {
		h.t.Fatal(err)
	}
	return row
}

// told are the events about submissions in an account's journal, one line each.
func (h *house) told(account store.AccountID) (out []string) {
	h.t.Helper()
	for e, err := range h.store.Journal(h.t.Context(), account, 0) {
		if err != nil {
			h.t.Fatal(err)
		}
		if strings.HasPrefix(string(e.Type), "message") || strings.HasPrefix(string(e.Type), "sendLimit") {
			out = append(out, string(e.Type))
		}
	}
	return out
}

func (h *house) events(account store.AccountID, t events.Type) (out []events.Event) {
	h.t.Helper()
	for e, err := range h.store.Journal(h.t.Context(), account, 0) {
		if err != nil {
			h.t.Fatal(err)
		}
		if e.Type == t {
			out = append(out, e)
		}
	}
	return out
}

// raw is what an event says.
func raw(e events.Event) string { return string(e.Data.(events.Raw)) }

// field is one field of an event as text, "" where it is not there.
func field(e events.Event, name string) string {
	var m map[string]any
	if err := json.Unmarshal(e.Data.(events.Raw), &m); err != nil || m[name] == nil {
		return ""
	}
	return fmt.Sprint(m[name])
}

// recipients are those of an event's envelope.
func recipients(t *testing.T, e events.Event) []string {
	t.Helper()
	var d events.Delivery
	if err := json.Unmarshal(e.Data.(events.Raw), &d); err != nil {
		t.Fatal(err)
	}
	return d.Envelope.To
}

// keys are what Redis holds of submissions, but for what is kept for reports and counts.
func (h *house) keys() (out []string) {
	h.t.Helper()
	all, err := h.rdb.Keys(h.t.Context(), "*").Result()
	if err != nil {
		h.t.Fatal(err)
	}
	for _, k := range all {
		if strings.Contains(k, "outbox") && !strings.Contains(k, ":log:") && !strings.Contains(k, ":limits") || strings.Contains(k, ":q:") {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return out
}

func (h *house) inspector() *asynq.Inspector { return asynq.NewInspectorFromRedisClient(h.rdb) }

// eagerConn never blocks a writer: two ends of a pipe that write at once would wait for
// each other, and a pipeline of many commands is answered while it is written.
type eagerConn struct {
	net.Conn
	out  chan []byte
	once sync.Once
}

func eager(c net.Conn, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	e := &eagerConn{Conn: c, out: make(chan []byte, 1000)}
	go func() {
		for p := range e.out {
			if _, err := c.Write(p); err != nil {
				_ = c.Close()
			}
		}
	}()
	return e, nil
}

func (e *eagerConn) Write(p []byte) (int, error) {
	e.out <- slices.Clone(p)
	return len(p), nil
}

func (e *eagerConn) SetWriteDeadline(time.Time) error { return nil }

func (e *eagerConn) SetDeadline(t time.Time) error { return e.SetReadDeadline(t) }

func (e *eagerConn) Close() error {
	err := e.Conn.Close()
	e.once.Do(func() { close(e.out) })
	return err
}

// slowly polls seldom: a bubble of hours pays for each look in real time.
func slowly(o *smtpsend.Options) {
	o.Config.TaskCheck, o.Config.DelayedCheck, o.Config.Sweep = 20*time.Second, 20*time.Second, 5*time.Minute
}

// bubble runs f with a Sender and Redis under a clock that jumps.
func bubble(t *testing.T, f func(t *testing.T, h *house), change ...func(*smtpsend.Options)) {
	t.Helper()
	// The compressor that store shares must not be made inside a bubble.
	warm := storetest.Miniredis(t)
	if _, err := warm.CreateAccount(t.Context(), store.Account{ID: "x"}); err != nil {
		t.Fatal(err)
	}
	m := store.Submission{ID: store.NewSubmissionID("x", time.Now()), Account: "x", To: []string{"y"}}
	a, err := warm.AcceptSubmission(t.Context(), store.Accept{Submission: m, Body: strings.NewReader("x")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := warm.OpenBody(t.Context(), a.Submission); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		m := miniredis.NewMiniRedis()
		m.ClockTTL(true)
		defer m.Close()
		rdb := redis.NewClient(&redis.Options{
			Addr: "127.0.0.1:6379", Dialer: func(context.Context, string, string) (net.Conn, error) { return eager(m.Dial()) },
		})
		defer func() { _ = rdb.Close() }()
		k := &sink{}
		h := &house{t: t, rdb: rdb, redis: m, store: storetest.On(t, rdb), sink: k}
		h.opts = smtpsend.Options{
			Store: h.store, Redis: rdb, Transport: k, Instance: "one", Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
			// Slow polls: a bubble pays for each of them in real time.
			Config: smtpsend.Config{TaskCheck: time.Second, DelayedCheck: time.Second},
		}
		for _, c := range change {
			c(&h.opts)
		}
		h.start()
		defer func() { h.stop() }()
		f(t, h)
	})
}
