package dispatch_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/dispatch"
	"github.com/postrider/postrider/dispatch/hooktest"
	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/storetest"
)

// turn switches the built-in routes on or off, and waits until the relay and the lanes
// know.
func (h *house) turn(on bool) {
	h.t.Helper()
	h.set(map[string]any{"webhooksEnabled": on})
	if _, err := h.d.Table.Refresh(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
}

// relayed waits until the relay is through with an account's shard.
func (h *house) relayed(id store.AccountID) {
	h.t.Helper()
	shard := store.Shard(id)
	eventually(h.t, "relayed", 10*time.Second, func() bool {
		last, err := h.store.FeedLast(h.t.Context(), shard)
		return err == nil && h.rdb.HGet(h.t.Context(), "{s"+pad(shard)+"}:relay", "pos").Val() == last
	})
}

// With webhooksEnabled off nothing new is matched and what is pending waits, for the
// account's own URL too; switched on, what waited goes out, and what came meanwhile
// is left to the journal.
func TestSwitchedOff(t *testing.T) {
	storetest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		def, own := receiver(t), receiver(t)
		def.Behave(hooktest.Status(404))
		own.Behave(hooktest.Status(404))
		h := open(t, rdb, dispatch.Config{Sweep: time.Second})
		h.set(map[string]any{"webhooks": def.URL})
		h.account("ines", "")
		h.account("omar", own.URL)
		h.wait(def, 1, 10*time.Second)
		h.wait(own, 1, 10*time.Second)
		h.turn(false)
		def.Behave(hooktest.Status(200))
		own.Behave(hooktest.Status(200))
		for _, id := range []store.AccountID{"ines", "omar"} {
			h.mail(id, 3)
			h.relayed(id)
		}
		// The second try of what failed was due after 5 s.
		ctx := t.Context()
		due := time.NewTimer(8 * time.Second)
		defer due.Stop()
		select {
		case <-due.C:
		case <-ctx.Done():
		}
		for name, r := range map[string]*hooktest.Receiver{"default": def, "account:omar": own} {
			if g := h.gate(name); r.Count() != 1 || g.Pending != 1 {
				t.Errorf("%s switched off: %d requests, %d pending", name, r.Count(), g.Pending)
			}
		}
		h.turn(true)
		for id, r := range map[store.AccountID]*hooktest.Receiver{"ines": def, "omar": own} {
			got := h.wait(r, 2, 15*time.Second)
			if got[1].Event.Type != events.AccountAddedType || got[1].Attempt() != 2 || got[1].ID() != got[0].ID() {
				t.Errorf("%s: switched on, %s came in attempt %d", id, got[1].Event.Type, got[1].Attempt())
			}
			h.mail(id, 1)
			if got = h.wait(r, 3, 15*time.Second); got[2].Event.Seq != 5 {
				t.Errorf("%s: seq %d came behind the switch, want 5", id, got[2].Event.Seq)
			}
		}
	})
}

// Receivers that answer after five seconds are waited for, once, and cost the other
// routes no time.
func TestSlowReceivers(t *testing.T) {
	storetest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		good, slow := receiver(t), receiver(t)
		slow.Behave(hooktest.Always(hooktest.Answer{Delay: 5 * time.Second}))
		h := open(t, rdb, dispatch.Config{})
		h.set(map[string]any{"webhooks": good.URL})
		h.account("ines", "")
		h.wait(good, 1, 10*time.Second)
		late := []store.AccountID{"a", "b", "c", "d", "e", "f"}
		for _, id := range late {
			h.account(id, slow.URL)
			h.mail(id, 5)
		}
		eventually(t, "all slow ones are called", 10*time.Second, func() bool { return slow.Most() == len(late) })
		for i := range 20 {
			begun := time.Now()
			h.mail("ines", 1)
			got := h.wait(good, i+2, 10*time.Second)
			if d := got[i+1].At.Sub(begun); d > 500*time.Millisecond {
				t.Errorf("event %d took %v beside slow routes", i, d)
			}
		}
		for _, id := range late {
			route := store.AccountRouteID(id)
			eventually(t, "delivered in the end", 15*time.Second, func() bool { return h.gate(route).Delivered > 0 })
			if g := h.gate(route); g.Failed != 0 || g.Streak != 0 || g.Breaker != "closed" {
				t.Errorf("%s: %+v", route, g)
			}
		}
		for _, q := range slow.Requests() {
			if q.Attempt() != 1 {
				t.Errorf("%s of %s was sent again", q.Event.Type, q.Event.Account)
			}
		}
		if slow.Most() > len(late) {
			t.Errorf("%d requests at once in %d lanes", slow.Most(), len(late))
		}
	})
}

// net/http sends a request with such a header again by itself when the connection breaks
// behind it; an attempt is one request all the same.
func TestOneRequestPerAttempt(t *testing.T) {
	r := receiver(t)
	r.Behave(func(q hooktest.Request) hooktest.Answer { return hooktest.Answer{Reset: q.Event.Seq > 1} })
	h := open(t, storetest.MiniredisClient(t), dispatch.Config{})
	h.set(map[string]any{
		"webhooks":              r.URL,
		"webhooksCustomHeaders": []map[string]string{{"key": "Idempotency-Key", "value": "x"}, {"key": "X-Idempotency-Key", "value": "x"}},
	})
	h.account("ines", "")
	h.wait(r, 1, 10*time.Second)
	h.mail("ines", 1)
	eventually(t, "the second is tried", 10*time.Second, func() bool { return len(h.log("default")) == 2 })
	if n := r.Count(); n != 2 {
		t.Errorf("%d requests in two attempts", n)
	}
	if q := r.Requests()[1]; q.Header.Get("Idempotency-Key") != "x" {
		t.Error("the header did not arrive")
	}
}

// What has left the journal before it was delivered is dropped, told and counted, and
// what is behind it goes on.
func TestGoneFromTheJournal(t *testing.T) {
	r := receiver(t)
	rdb := storetest.NewServer(t).Client()
	h := open(t, rdb, dispatch.Config{})
	h.set(map[string]any{"webhooks": r.URL})
	h.account("ines", "")
	h.wait(r, 1, 10*time.Second)
	eventually(t, "recorded", 5*time.Second, func() bool { return h.gate("default").Pending == 0 })
	h.stop()
	h.mail("ines", 3)
	journals := rdb.Keys(t.Context(), "*:ines:journal").Val()
	if len(journals) != 1 {
		t.Fatalf("journals %v", journals)
	}
	if n := rdb.XDel(t.Context(), journals[0], "2-0").Val(); n != 1 {
		t.Fatalf("%d entries deleted", n)
	}
	h.start(dispatch.Config{}, transport(t))
	got := h.wait(r, 3, 15*time.Second)
	if got[1].Event.Seq != 3 || got[2].Event.Seq != 4 {
		t.Errorf("seq %d and %d came", got[1].Event.Seq, got[2].Event.Seq)
	}
	eventually(t, "told", 10*time.Second, func() bool { return len(h.journal(events.WebhookDroppedType)) == 1 })
	eventually(t, "counted", 10*time.Second, func() bool {
		g := h.gate("default")
		return g.Dropped == 1 && g.Pending == 0
	})
}
