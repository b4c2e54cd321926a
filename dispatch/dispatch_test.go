package dispatch_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/dispatch"
	"github.com/postrider/postrider/dispatch/hooktest"
	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/secret"
	"github.com/postrider/postrider/store/storetest"
)

// house is a store with a running dispatcher.
type house struct {
	t     testing.TB
	rdb   redis.UniversalClient
	store *store.Store
	d     *dispatch.Dispatcher
	seq   map[store.AccountID]int
	stop  func()
	begun time.Time
}

func transport(t testing.TB) *http.Transport {
	tr := &http.Transport{
		MaxIdleConnsPerHost: 64, DisableCompression: true,
		DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
	}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// open starts a dispatcher over rdb.
func open(t testing.TB, rdb redis.UniversalClient, cfg dispatch.Config) *house {
	t.Helper()
	h := &house{t: t, rdb: rdb, store: storetest.On(t, rdb), seq: map[store.AccountID]int{}}
	h.start(cfg, transport(t))
	return h
}

func (h *house) start(cfg dispatch.Config, tr http.RoundTripper) {
	h.t.Helper()
	d, err := dispatch.New(dispatch.Options{
		Store: h.store, Redis: h.rdb, Transport: tr, Version: "test", Config: cfg,
		Logger: slog.New(slog.NewTextHandler(h.t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})),
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.d = d
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	h.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			h.t.Errorf("dispatcher ended with %v", err)
		}
	})
	h.t.Cleanup(h.stop)
}

func receiver(t testing.TB) *hooktest.Receiver {
	t.Helper()
	r, err := hooktest.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func (h *house) set(values map[string]any) {
	h.t.Helper()
	raw := map[string]json.RawMessage{}
	for k, v := range values {
		b, err := json.Marshal(v)
		if err != nil {
			h.t.Fatal(err)
		}
		raw[k] = b
	}
	if _, err := h.store.UpdateSettings(context.Background(), raw); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) account(id store.AccountID, url string) {
	h.t.Helper()
	if _, err := h.store.CreateAccount(context.Background(), store.Account{ID: id, Webhooks: secret.New(url)}); err != nil {
		h.t.Fatal(err)
	}
	h.d.Relay.Kick(store.Shard(id))
}

// mail appends n messageNew of an account.
func (h *house) mail(id store.AccountID, n int) {
	h.t.Helper()
	evs := make([]events.Event, n)
	for i := range evs {
		h.seq[id]++
		uid := h.seq[id]
		p := events.MessageNew{ID: "m" + strconv.Itoa(uid), UID: uint32(uid), Path: "INBOX", Subject: "message " + strconv.Itoa(uid)}
		evs[i] = events.Event{Type: p.EventType(), Path: "INBOX", ID: events.NewID(string(id), 1, p.EventType(), strconv.Itoa(uid)), Data: p}
	}
	h.add(id, evs...)
}

func (h *house) add(id store.AccountID, evs ...events.Event) {
	h.t.Helper()
	for part := range slices.Chunk(evs, 100) {
		if _, err := h.store.AppendOnce(context.Background(), id, part...); err != nil {
			h.t.Fatal(err)
		}
		h.d.Relay.Kick(store.Shard(id))
	}
}

func (h *house) wait(r *hooktest.Receiver, n int, limit time.Duration) []hooktest.Request {
	h.t.Helper()
	ctx, stop := context.WithTimeout(h.t.Context(), limit)
	defer stop()
	got, err := r.WaitCount(ctx, n)
	if err != nil {
		h.t.Fatal(err)
	}
	return got
}

func (h *house) gate(route string) store.Gate {
	h.t.Helper()
	g, err := h.store.Gate(context.Background(), route)
	if err != nil {
		h.t.Fatal(err)
	}
	return g
}

// inOrder fails when the seqs of an account's requests, lates left out, ever go back or
// leave one out.
func inOrder(t testing.TB, got []hooktest.Request, account string) {
	t.Helper()
	last := uint64(0)
	for _, r := range got {
		if r.Event.Account != account || r.Late() || r.Status != 200 {
			continue
		}
		if last != 0 && r.Event.Seq != last+1 {
			t.Fatalf("account %s: seq %d after %d", account, r.Event.Seq, last)
		}
		last = r.Event.Seq
	}
}

func TestDelivery(t *testing.T) {
	storetest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		r := receiver(t)
		h := open(t, rdb, dispatch.Config{})
		h.set(map[string]any{"webhooks": r.URL + "/hook?key=s3cr3t", "serviceSecret": "correct horse battery staple"})
		h.account("ines", "")
		h.mail("ines", 250)
		got := h.wait(r, 251, 20*time.Second)
		inOrder(t, got, "ines")
		if got[0].Event.Type != events.AccountAddedType || got[250].Event.Seq != 251 {
			t.Errorf("first %s, last seq %d", got[0].Event.Type, got[250].Event.Seq)
		}
		sec, err := h.store.RouteSecret(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range got {
			if err := dispatch.VerifyStandard(q.Header, q.Body, sec.Reveal(), q.At); err != nil {
				t.Fatal(err)
			}
			if err := dispatch.VerifyService(q.Header, q.Body, "correct horse battery staple"); err != nil {
				t.Fatal(err)
			}
			if id := dispatch.DeliveryID("default", q.Event.ID, ""); q.ID() != id || q.Attempt() != 1 || q.Path != "/hook?key=s3cr3t" {
				t.Fatalf("id %s attempt %d path %s", q.ID(), q.Attempt(), q.Path)
			}
		}
		h.stop()
		if g := h.gate("default"); g.Pending != 0 || g.Delivered != 251 || g.Streak != 0 {
			t.Errorf("gate %+v", g)
		}
	})
}
