package dispatch_test

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/dispatch"
	"github.com/postrider/postrider/dispatch/hooktest"
	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/storetest"
)

// journal are the instance's events of one type so far.
func (h *house) journal(t events.Type) []events.Event {
	h.t.Helper()
	all, err := h.store.JournalPage(context.Background(), "", 0, 1000)
	if err != nil {
		h.t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(e events.Event) bool { return e.Type != t })
}

// eventually asks ok ten times a second.
func eventually(t testing.TB, what string, limit time.Duration, ok func() bool) {
	t.Helper()
	tick, end := time.NewTicker(100*time.Millisecond), time.After(limit)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}

// log is the attempt log of a route, oldest first.
func (h *house) log(route string) (classes []string) {
	h.t.Helper()
	list, err := h.store.Attempts(context.Background(), route, 1000)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, a := range slices.Backward(list) {
		var e struct{ Class string }
		if err := json.Unmarshal([]byte(a.JSON), &e); err != nil {
			h.t.Fatal(err)
		}
		classes = append(classes, e.Class)
	}
	return classes
}

// TestAnswers is about what one answer does to a route.
func TestAnswers(t *testing.T) {
	for _, tt := range []struct {
		name    string
		answer  hooktest.Answer
		class   string
		paused  string
		breaker string
		streak  int
		event   events.Type
	}{
		{"500 waits", hooktest.Answer{Status: 500, Body: "oh no"}, "http_5xx", "", "closed", 1, ""},
		{"404 waits", hooktest.Answer{Status: 404}, "http_4xx", "", "closed", 1, ""},
		{"401 says so", hooktest.Answer{Status: 401}, "auth", "", "closed", 1, events.WebhookAuthFailingType},
		{"410 ends it", hooktest.Answer{Status: 410}, "gone", "gone", "closed", 1, events.WebhookPausedType},
		{"301 is not followed", hooktest.Answer{Status: 301, Header: http.Header{"Location": {"http://127.0.0.1:1/"}}}, "redirect", "", "closed", 1, ""},
		{"429 waits for the route", hooktest.Answer{Status: 429, Header: http.Header{"Retry-After": {"120"}}}, "rate_limited", "", "closed", 0, ""},
		{"503 with Retry-After too", hooktest.Answer{Status: 503, Header: http.Header{"Retry-After": {"120"}}}, "rate_limited", "", "closed", 0, ""},
		{"silence is a timeout", hooktest.Answer{Hang: true}, "timeout", "", "closed", 1, ""},
		{"a closed connection", hooktest.Answer{Reset: true}, "reset", "", "closed", 1, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := receiver(t)
			r.Behave(hooktest.Always(tt.answer))
			h := open(t, storetest.MiniredisClient(t), dispatch.Config{Timeout: 500 * time.Millisecond})
			h.set(map[string]any{"webhooks": r.URL})
			h.account("ines", "")
			eventually(t, "an attempt", 10*time.Second, func() bool { return len(h.log("default")) > 0 })
			if got := h.log("default")[0]; got != tt.class {
				t.Errorf("class %s, want %s", got, tt.class)
			}
			g := h.gate("default")
			if g.Paused != tt.paused || g.Breaker != tt.breaker || g.Streak != tt.streak || g.Pending != 1 || g.Error == nil {
				t.Errorf("gate %+v", g)
			}
			if wait := time.Until(g.NotBefore); tt.class == "rate_limited" && (wait < 110*time.Second || wait > 120*time.Second || g.Cap != 2) {
				t.Errorf("route waits %v with %d slots", wait, g.Cap)
			}
			if tt.event != "" {
				eventually(t, string(tt.event), 5*time.Second, func() bool { return len(h.journal(tt.event)) == 1 })
			}
			if r.Count() != 1 {
				t.Errorf("%d requests", r.Count())
			}
		})
	}
}

// A body decides nothing: the status line has.
func TestBodies(t *testing.T) {
	for name, a := range map[string]hooktest.Answer{
		"endless":   {Endless: true},
		"dripping":  {Drip: 50 * time.Millisecond},
		"not JSON":  {Status: 202, Body: "{"},
		"1 MiB":     {Body: strings.Repeat("x", 1<<20)},
		"no body":   {Status: 204},
		"half gzip": {Header: http.Header{"Content-Encoding": {"gzip"}}, Body: "\x1f\x8b"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := receiver(t)
			r.Behave(hooktest.Always(a))
			h := open(t, storetest.MiniredisClient(t), dispatch.Config{Timeout: time.Second})
			h.set(map[string]any{"webhooks": r.URL})
			h.account("ines", "")
			eventually(t, "delivered", 10*time.Second, func() bool { return h.gate("default").Delivered == 1 })
			if r.Count() != 1 {
				t.Errorf("%d requests", r.Count())
			}
		})
	}
}

// A failure is seen in asynq's retry list with its reason, and the retry sends the same
// bytes under the same id with a signature of its own.
func TestRetry(t *testing.T) {
	storetest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		r := receiver(t)
		r.Behave(func(q hooktest.Request) hooktest.Answer {
			if q.Attempt() == 1 {
				return hooktest.Answer{Status: 503, Body: "down for\nmaintenance"}
			}
			return hooktest.Answer{}
		})
		h := open(t, rdb, dispatch.Config{})
		h.set(map[string]any{"webhooks": r.URL})
		h.account("ines", "")
		insp := asynq.NewInspectorFromRedisClient(rdb)
		var task *asynq.TaskInfo
		eventually(t, "a task under retry", 10*time.Second, func() bool {
			list, err := insp.ListRetryTasks(dispatch.Queue)
			if err != nil || len(list) != 1 {
				return false
			}
			task = list[0]
			return true
		})
		if !strings.HasPrefix(task.LastErr, "503 Service Unavailable · attempt 1 · next ") || !strings.HasSuffix(task.LastErr, "Z · down for maintenance") {
			t.Errorf("last error %q", task.LastErr)
		}
		var p struct {
			Delivery string
			Event    events.Event
		}
		if err := json.Unmarshal(task.Payload, &p); err != nil || p.Event.Type != events.AccountAddedType || p.Delivery == "" {
			t.Errorf("payload %s: %v", task.Payload, err)
		}
		got := h.wait(r, 2, 20*time.Second)
		if gap := got[1].At.Sub(got[0].At); gap < 5*time.Second || gap > 7*time.Second {
			t.Errorf("second try after %v", gap)
		}
		if string(got[0].Body) != string(got[1].Body) || got[0].ID() != got[1].ID() || got[1].Attempt() != 2 ||
			got[0].Header.Get("webhook-signature") == got[1].Header.Get("webhook-signature") {
			t.Errorf("first %v, second %v", got[0].Header, got[1].Header)
		}
		eventually(t, "delivered", 5*time.Second, func() bool { return h.gate("default").Pending == 0 })
		if g := h.gate("default"); g.Streak != 0 || g.Delivered != 1 || g.Error != nil {
			t.Errorf("gate %+v", g)
		}
	})
}

// A head that fails blocks its lane, in order; other lanes and routes do not hear of it.
func TestIsolation(t *testing.T) {
	storetest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		good, bad := receiver(t), receiver(t)
		bad.Behave(hooktest.Always(hooktest.Answer{Hang: true}))
		h := open(t, rdb, dispatch.Config{Timeout: 5 * time.Second})
		h.set(map[string]any{"webhooks": good.URL})
		h.account("slow", bad.URL)
		h.account("ines", "")
		h.mail("slow", 50)
		eventually(t, "the slow one hangs", 10*time.Second, func() bool { return bad.Most() == 1 })
		h.wait(good, 1, 10*time.Second)
		for i := range 20 {
			begun := time.Now()
			h.mail("ines", 1)
			got := h.wait(good, i+2, 10*time.Second)
			if d := got[i+1].At.Sub(begun); d > 500*time.Millisecond {
				t.Errorf("event %d took %v beside a hanging route", i, d)
			}
		}
		inOrder(t, good.Requests(), "ines")
		if bad.Most() > 1 {
			t.Errorf("%d requests at once in one lane", bad.Most())
		}
	})
}

// An account's own URL replaces the default for it, and hears of its end.
func TestAccountRoute(t *testing.T) {
	storetest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		def, own := receiver(t), receiver(t)
		h := open(t, rdb, dispatch.Config{})
		h.set(map[string]any{"webhooks": def.URL})
		h.account("ines", "")
		h.account("omar", own.URL)
		h.mail("ines", 1)
		h.mail("omar", 2)
		if err := h.store.DeleteAccount(t.Context(), "omar"); err != nil {
			t.Fatal(err)
		}
		got := h.wait(own, 4, 15*time.Second)
		if last := got[3].Event; got[0].Event.Type != events.AccountAddedType || last.Type != events.AccountDeletedType || last.Account != "omar" {
			t.Errorf("first %s, last %s", got[0].Event.Type, last.Type)
		}
		for _, q := range h.wait(def, 2, 15*time.Second) {
			if q.Event.Account != "ines" {
				t.Errorf("default heard of %s", q.Event.Account)
			}
		}
	})
}

// Five failures of the endpoint in a row open the breaker, which holds everything in
// order; two probes close it.
func TestBreaker(t *testing.T) {
	r := receiver(t)
	r.Behave(hooktest.Status(502))
	h := open(t, storetest.NewServer(t).Client(), dispatch.Config{})
	h.set(map[string]any{"webhooks": r.URL})
	for _, id := range []store.AccountID{"a", "b", "c", "d", "e", "f"} {
		h.account(id, "")
	}
	eventually(t, "open", 10*time.Second, func() bool { return h.gate("default").Breaker == "open" })
	for _, id := range []store.AccountID{"a", "b", "c"} {
		h.mail(id, 10)
	}
	if n := r.Count(); n > 8 { // five, and what was in flight
		t.Errorf("%d requests before the breaker opened", n)
	}
	r.Behave(hooktest.Status(200))
	eventually(t, "closed and drained", 40*time.Second, func() bool {
		g := h.gate("default")
		return g.Breaker == "closed" && g.Pending == 0
	})
	for _, id := range []string{"a", "b", "c"} {
		inOrder(t, r.Requests(), id)
	}
	if got := len(h.journal(events.WebhookFailingType)); got != 1 {
		t.Errorf("%d webhookFailing", got)
	}
	if got := len(h.journal(events.WebhookRecoveredType)); got != 1 {
		t.Errorf("%d webhookRecovered", got)
	}
	for _, q := range r.Requests() {
		if q.Late() {
			t.Errorf("%s left its lane in an outage", q.Event.ID)
		}
	}
}

// A route that answered 410 is left alone until it has another URL.
func TestGone(t *testing.T) {
	old, next := receiver(t), receiver(t)
	old.Behave(hooktest.Status(410))
	h := open(t, storetest.MiniredisClient(t), dispatch.Config{Sweep: time.Second})
	h.set(map[string]any{"webhooks": old.URL})
	h.account("ines", "")
	eventually(t, "gone", 10*time.Second, func() bool { return h.gate("default").Paused == "gone" })
	h.mail("ines", 20)
	eventually(t, "held", 10*time.Second, func() bool { return h.gate("default").Pending == 21 })
	if old.Count() != 1 {
		t.Errorf("%d requests to a URL that is gone", old.Count())
	}
	h.set(map[string]any{"webhooks": next.URL})
	got := h.wait(next, 21, 40*time.Second)
	inOrder(t, got, "ines")
	if got := h.journal(events.WebhookResumedType); len(got) != 1 {
		t.Errorf("%d webhookResumed", len(got))
	}
}

// Switched off, nothing new is matched and what is pending waits.
func TestDisabled(t *testing.T) {
	r := receiver(t)
	h := open(t, storetest.MiniredisClient(t), dispatch.Config{Sweep: time.Second})
	h.set(map[string]any{"webhooks": r.URL, "webhookEvents": []string{"message*", "!messageDeleted"}})
	h.account("ines", "")
	h.mail("ines", 1)
	if got := h.wait(r, 1, 10*time.Second); got[0].Event.Type != events.MessageNewType {
		t.Errorf("first is %s", got[0].Event.Type)
	}
	h.add("ines", events.Event{Type: events.MessageDeletedType, ID: "evt_d", Data: events.MessageDeleted{}})
	h.mail("ines", 1)
	if got := h.wait(r, 2, 10*time.Second); got[1].Event.Type != events.MessageNewType {
		t.Errorf("second is %s", got[1].Event.Type)
	}
}
