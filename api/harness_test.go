package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/api"
	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/storetest"
)

// face is a Server on miniredis with everything it was told and everything it logged.
type face struct {
	t     *testing.T
	s     *api.Server
	store *store.Store
	rdb   redis.UniversalClient
	mini  *miniredis.Miniredis // in a bubble
	token string               // with all rights
	reg   *prometheus.Registry
	log   *lockedBuffer
	kicks *kicks
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

type kicks struct {
	mu  sync.Mutex
	ids []store.AccountID
}

func (k *kicks) Kick(_ context.Context, id store.AccountID) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ids = append(k.ids, id)
	return nil
}

// verifier answers as it was told.
type verifier struct{ result api.VerifyResult }

func (v verifier) Verify(context.Context, store.Server) api.VerifyResult { return v.result }

func newFace(t *testing.T, change ...func(*api.Options)) *face {
	t.Helper()
	return newFaceOn(t, storetest.MiniredisClient(t), change...)
}

// inBubble makes one whose Redis lives in the synctest bubble of the caller.
func inBubble(t *testing.T, change ...func(*api.Options)) *face {
	t.Helper()
	m := miniredis.NewMiniRedis()
	m.ClockTTL(true)
	t.Cleanup(m.Close)
	rdb := redis.NewClient(&redis.Options{
		Addr: "127.0.0.1:6379", Dialer: func(context.Context, string, string) (net.Conn, error) {
			c, err := m.Dial()
			if err != nil {
				return nil, err
			}
			return newPump(c), nil
		},
	})
	t.Cleanup(func() { _ = rdb.Close() })
	f := newFaceOn(t, rdb, change...)
	f.mini = m
	return f
}

func newFaceOn(t *testing.T, rdb redis.UniversalClient, change ...func(*api.Options)) *face {
	t.Helper()
	f := &face{t: t, rdb: rdb, store: storetest.On(t, rdb), reg: prometheus.NewRegistry(), log: &lockedBuffer{}, kicks: &kicks{}}
	value, _, err := f.store.CreateToken(t.Context(), store.Token{Scopes: []string{"*"}})
	if err != nil {
		t.Fatal(err)
	}
	f.token = value
	o := api.Options{
		Store: f.store, Kicker: f.kicks, Registerer: f.reg, Version: "test",
		Logger:  slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "up 1\n") }),
	}
	for _, c := range change {
		c(&o)
	}
	if f.s, err = api.New(o); err != nil {
		t.Fatal(err)
	}
	return f
}

// request makes a request with the token of all rights and, with a body, its type.
func (f *face) request(method, path, body string) *http.Request {
	f.t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req := httptest.NewRequestWithContext(f.t.Context(), method, path, r)
	req.RemoteAddr = "192.0.2.1:1234"
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Authorization", "Bearer "+f.token)
	return req
}

// send answers a request. Every refusal must be a whole problem.
func (f *face) send(r *http.Request) *httptest.ResponseRecorder {
	f.t.Helper()
	w := httptest.NewRecorder()
	f.s.ServeHTTP(w, r)
	if w.Code >= 400 && r.Method != http.MethodHead && !strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") {
		var p struct {
			Type, Title, Detail, Instance, Code, Error, Message string
			Status, StatusCode                                  int
		}
		if ct := w.Header().Get("Content-Type"); ct != "application/problem+json" {
			f.t.Errorf("%s %s: %d with Content-Type %q: %s", r.Method, r.URL, w.Code, ct, w.Body)
		} else if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
			f.t.Errorf("%s %s: problem: %v: %s", r.Method, r.URL, err, w.Body)
		} else if p.Code == "" || p.Error == "" || p.Message == "" || p.Title == "" || p.Status != w.Code || p.StatusCode != w.Code ||
			p.Instance == "" || p.Instance != w.Header().Get("X-Request-Id") || p.Type != "/docs/errors#"+p.Code {
			f.t.Errorf("%s %s: incomplete problem: %s", r.Method, r.URL, w.Body)
		}
	}
	for _, h := range []string{"X-Request-Id", "X-Content-Type-Options"} {
		if w.Header().Get(h) == "" {
			f.t.Errorf("%s %s: no %s", r.Method, r.URL, h)
		}
	}
	return w
}

// call sends a request and demands a status.
func (f *face) call(want int, method, path, body string) map[string]any {
	f.t.Helper()
	w := f.send(f.request(method, path, body))
	if w.Code != want {
		f.t.Fatalf("%s %s: %d, want %d: %s", method, path, w.Code, want, w.Body)
	}
	out := map[string]any{}
	if w.Body.Len() > 0 && method != http.MethodHead {
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
			f.t.Fatalf("%s %s: %v: %s", method, path, err, w.Body)
		}
	}
	return out
}

// tokenWith makes a token and gives its value.
func (f *face) tokenWith(t store.Token) string {
	f.t.Helper()
	value, _, err := f.store.CreateToken(f.t.Context(), t)
	if err != nil {
		f.t.Fatal(err)
	}
	return value
}

const jo = `{"account":"jo","name":"Jo","email":"jo@example.com","imap":{"host":"imap.example.com","auth":{"user":"jo@example.com","pass":"hunter2-secret"}}}`
