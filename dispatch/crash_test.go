package dispatch_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/dispatch"
	"github.com/postrider/postrider/dispatch/hooktest"
	"github.com/postrider/postrider/internal/egress"
	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/storetest"
)

// A process that dies with a lane running leaves a carrier nobody carries. The next one
// finds it, in order and without loss.
func TestCarrierLost(t *testing.T) {
	storetest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		r := receiver(t)
		h := open(t, rdb, dispatch.Config{})
		h.set(map[string]any{"webhooks": r.URL})
		h.account("ines", "")
		h.wait(r, 1, 10*time.Second)
		eventually(t, "recorded", 5*time.Second, func() bool { return h.gate("default").Pending == 0 })
		h.stop()

		// What a process leaves behind that was killed between begin and done: released,
		// begun, and never heard of again.
		ctx := t.Context()
		h.mail("ines", 3)
		feed, err := h.store.Feed(ctx, store.Shard("ines"), "", 100)
		if err != nil {
			t.Fatal(err)
		}
		ref := store.RouteRef{ID: "default", Slots: 4, Version: rdb.HGet(ctx, "{r:default}:gate", "ver").Val()}
		first := feed[len(feed)-3]
		rep, err := h.store.AppendLanes(ctx, ref, store.Shard("ines"), 1000, false, 1000, []store.Appending{
			{Lane: store.AccountLane("ines"), Pointer: store.Pointer{Feed: first.ID, Seq: first.Seq, Event: first.Type}},
		})
		if err != nil || len(rep.Released) != 1 {
			t.Fatalf("%+v, %v", rep, err)
		}
		turn, err := h.store.BeginLane(ctx, ref, rep.Released[0].Lane, "", rep.Released[0].Carrier, time.Minute, "killed", 16)
		if err != nil || turn.Status != store.LaneRun {
			t.Fatalf("%+v, %v", turn, err)
		}
		if err := h.store.HintWork(ctx, map[string]bool{"default": true}); err != nil {
			t.Fatal(err)
		}
		// Its relay held the shard under a fence of 1000: the next one takes over above it.
		if err := rdb.HSet(ctx, "{s"+pad(store.Shard("ines"))+"}:relay", "fence", 1000).Err(); err != nil {
			t.Fatal(err)
		}
		r.Reset()
		h.start(dispatch.Config{}, transport(t))
		got := h.wait(r, 3, 15*time.Second)
		inOrder(t, got, "ines")
		if len(got) != 3 {
			t.Errorf("%d requests", len(got))
		}
	})
}

func pad(n int) string {
	return string([]byte{byte('0' + n/10), byte('0' + n%10)})
}

// Everything asynq knows may go: lanes get new carriers.
func TestAsynqFlushed(t *testing.T) {
	r := receiver(t)
	rdb := storetest.NewServer(t).Client()
	h := open(t, rdb, dispatch.Config{})
	h.set(map[string]any{"webhooks": r.URL})
	h.account("ines", "")
	h.wait(r, 1, 10*time.Second)
	r.Behave(func(q hooktest.Request) hooktest.Answer {
		if q.Attempt() == 1 {
			return hooktest.Answer{Status: 404}
		}
		return hooktest.Answer{}
	})
	h.mail("ines", 1)
	eventually(t, "waiting", 10*time.Second, func() bool { return h.gate("default").Streak == 1 })
	ctx := t.Context()
	for _, k := range rdb.Keys(ctx, "asynq:*").Val() {
		if strings.HasPrefix(k, "asynq:{webhook}:") {
			rdb.Del(ctx, k)
		}
	}
	flushed := time.Now()
	got := h.wait(r, 3, 30*time.Second)
	// Due after 5 s; then 5 s of grace and a round of the sweeper.
	if d := got[2].At.Sub(flushed); d > 16*time.Second {
		t.Errorf("took %v", d)
	}
	if got[2].ID() != got[1].ID() || got[2].Attempt() != 2 {
		t.Errorf("%v then %v", got[1].Header, got[2].Header)
	}
}

// Redis goes away between an answer of 200 and its record: the request is not made again.
func TestRedisAwayBeforeTheRecord(t *testing.T) {
	srv := storetest.NewServer(t, "--appendonly", "yes", "--appendfsync", "always")
	r := receiver(t)
	h := open(t, srv.Client(), dispatch.Config{})
	h.set(map[string]any{"webhooks": r.URL})
	h.account("ines", "")
	h.wait(r, 1, 10*time.Second)
	eventually(t, "recorded", 5*time.Second, func() bool { return h.gate("default").Pending == 0 })

	came, answer := make(chan struct{}), make(chan struct{})
	var once sync.Once
	r.Behave(func(hooktest.Request) hooktest.Answer {
		once.Do(func() { close(came) })
		<-answer
		return hooktest.Answer{}
	})
	h.mail("ines", 2)
	<-came
	srv.Kill()
	close(answer)
	h.wait(r, 2, 10*time.Second) // answered while Redis is away
	srv.Start()
	got := h.wait(r, 3, 40*time.Second)
	eventually(t, "recorded", 30*time.Second, func() bool { return h.gate("default").Pending == 0 })
	if len(got) != 3 || r.Count() != 3 {
		t.Errorf("%d requests", r.Count())
	}
	inOrder(t, r.Requests(), "ines")
}

// Shutdown gives a request in flight its time; what is behind it is left for the next
// process.
func TestShutdown(t *testing.T) {
	r := receiver(t)
	rdb := storetest.NewServer(t).Client()
	h := open(t, rdb, dispatch.Config{})
	h.set(map[string]any{"webhooks": r.URL})
	h.account("ines", "")
	h.wait(r, 1, 10*time.Second)
	r.Behave(hooktest.Always(hooktest.Answer{Delay: time.Second}))
	h.mail("ines", 3)
	eventually(t, "a request in flight", 10*time.Second, func() bool { return r.Count() == 2 })
	begun := time.Now()
	h.stop()
	if d := time.Since(begun); d > 5*time.Second {
		t.Errorf("shutdown took %v", d)
	}
	if g := h.gate("default"); g.Pending != 2 || g.Streak != 0 {
		t.Errorf("%+v", g)
	}
	r.Behave(hooktest.Status(200))
	h.start(dispatch.Config{}, transport(t))
	got := h.wait(r, 4, 20*time.Second)
	inOrder(t, got, "ines")
}

// Two processes share the lanes and never one of them.
func TestTwoProcesses(t *testing.T) {
	r := receiver(t)
	rdb := storetest.NewServer(t).Client()
	a := open(t, rdb, dispatch.Config{})
	b := &house{t: t, rdb: rdb, store: storetest.On(t, rdb)}
	b.start(dispatch.Config{}, transport(t))
	a.set(map[string]any{"webhooks": r.URL})
	ids := []store.AccountID{"a", "b", "c", "d", "e", "f"}
	for _, id := range ids {
		a.account(id, "")
	}
	for range 5 {
		for _, id := range ids {
			a.mail(id, 20)
		}
	}
	got := a.wait(r, 6*101, 30*time.Second)
	for _, id := range ids {
		inOrder(t, got, string(id))
	}
	if r.Count() != 6*101 {
		t.Errorf("%d requests for %d events", r.Count(), 6*101)
	}
	if n := r.Most(); n > 4 {
		t.Errorf("%d requests at once through 4 slots", n)
	}
}

// What a URL or a header hides is nowhere but in the request.
func TestSecretsStaySecret(t *testing.T) {
	const pass, key, own = "hunter22-pass", "sesame-query", "own-header-value"
	r := receiver(t)
	r.Behave(func(q hooktest.Request) hooktest.Answer {
		if _, p, ok := (&http.Request{Header: q.Header}).BasicAuth(); !ok || p != pass || q.Header.Get("X-Own") != own {
			return hooktest.Answer{Status: 401}
		}
		return hooktest.Answer{Status: 500, Body: "I got " + pass + " and " + key + " and " + own}
	})
	rdb := storetest.NewServer(t).Client()
	h := open(t, rdb, dispatch.Config{})
	h.set(map[string]any{
		"webhooks":              strings.Replace(r.URL, "://", "://ines:"+pass+"@", 1) + "/?key=" + key,
		"webhooksCustomHeaders": []map[string]string{{"key": "X-Own", "value": own}},
	})
	h.account("ines", "")
	eventually(t, "an attempt", 10*time.Second, func() bool { return len(h.log("default")) > 0 })
	if got := h.log("default")[0]; got != "http_5xx" {
		t.Fatalf("class %s: credentials did not arrive", got)
	}
	h.stop()
	ctx := context.Background()
	for _, k := range rdb.Keys(ctx, "*").Val() {
		dump := rdb.Dump(ctx, k).Val()
		if raw, err := rdb.HGetAll(ctx, k).Result(); err == nil {
			b, err := json.Marshal(raw)
			if err != nil {
				t.Fatal(err)
			}
			dump += string(b)
		}
		for _, s := range []string{pass, key, own} {
			if strings.Contains(dump, s) {
				t.Errorf("%q stands in %s", s, k)
			}
		}
	}
}

// The policy judges the address that is dialled; a refusal holds the route and says so.
func TestEgressRefused(t *testing.T) {
	guard, err := egress.New(egress.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	tr := guard.Transport(egress.Options{})
	t.Cleanup(tr.CloseIdleConnections)
	r := receiver(t)
	rdb := storetest.MiniredisClient(t)
	h := &house{t: t, rdb: rdb, store: storetest.On(t, rdb)}
	h.start(dispatch.Config{}, tr)
	h.set(map[string]any{"webhooks": r.URL})
	h.account("ines", "")
	eventually(t, "held", 10*time.Second, func() bool { return h.gate("default").Paused == "misconfigured" })
	g := h.gate("default")
	if r.Count() != 0 || g.Pending != 1 || g.Error == nil || !strings.Contains(g.Error.Message, "not allowed by egress.policy") {
		t.Errorf("%d requests, %+v", r.Count(), g.Error)
	}
}
