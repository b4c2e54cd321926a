package dispatch_test

import (
	"context"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/dispatch"
	"github.com/postrider/postrider/dispatch/hooktest"
	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/storetest"
)

// bubble runs f with a dispatcher, a receiver and Redis under a clock that jumps.
func bubble(t *testing.T, f func(t *testing.T, h *house, r *hooktest.Receiver)) {
	t.Helper()
	// The compressor that store shares must not be made inside a bubble.
	if _, err := storetest.Miniredis(t).FailLane(t.Context(), store.RouteRef{ID: "x", Slots: 1}, store.FailedDelivery{Lane: "a:x", Body: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		m := miniredis.NewMiniRedis()
		m.ClockTTL(true)
		defer m.Close()
		rdb := redis.NewClient(&redis.Options{
			Addr: "127.0.0.1:6379", Dialer: func(context.Context, string, string) (net.Conn, error) { return m.Dial() },
		})
		defer func() { _ = rdb.Close() }()
		network := hooktest.NewMemory()
		r := hooktest.Serve(network.Listen("hook.test:80"))
		defer r.Close()
		tr := network.Transport()
		defer tr.CloseIdleConnections()
		h := &house{t: t, rdb: rdb, store: storetest.On(t, rdb)}
		h.seq = map[store.AccountID]int{}
		// Slow polls: a bubble pays for each of them in real time.
		h.start(dispatch.Config{TaskCheck: time.Second, DelayedCheck: time.Second, Poll: 10 * time.Second, Timeout: 10 * time.Second}, tr)
		h.set(map[string]any{"webhooks": "http://hook.test/"})
		f(t, h, r)
		h.stop()
	})
}

// offsets are when the requests of one delivery came, in whole seconds after its first.
func offsets(got []hooktest.Request, seq uint64) (out []int) {
	var first time.Time
	for _, q := range got {
		if q.Event.Seq != seq {
			continue
		}
		if first.IsZero() {
			first = q.At
		}
		out = append(out, int(q.At.Sub(first)/time.Second))
	}
	return out
}

// A poison event is tried at 0, 5, 15, 35 and 60 s, then leaves its lane, and goes on
// late; what is behind it comes in order.
func TestPoisonHead(t *testing.T) {
	for name, answer := range map[string]hooktest.Answer{
		"refused with 422": {Status: 422},
		"fails with 500":   {Status: 500},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, h *house, r *hooktest.Receiver) {
				r.Behave(func(q hooktest.Request) hooktest.Answer {
					if q.Event.Seq == 2 && q.At.Sub(h.begun) < 5*time.Minute {
						return answer
					}
					return hooktest.Answer{}
				})
				h.begun = time.Now()
				h.account("ines", "")
				h.mail("ines", 5)
				time.Sleep(3 * time.Minute)
				got := r.Requests()
				late := slices.IndexFunc(got, hooktest.Request.Late)
				if late >= 0 {
					t.Errorf("late before its time")
				}
				var order []uint64
				for _, q := range got {
					if q.Status == 200 {
						order = append(order, q.Event.Seq)
					}
				}
				if !slices.Contains(order, 6) || order[0] != 1 {
					t.Errorf("after 3 min delivered: %v", order)
				}
				tries := offsets(got, 2)
				if len(tries) != 5 {
					t.Fatalf("tries at %v", tries)
				}
				for i, want := range []int{0, 5, 15, 35, 60} {
					// asynq keeps whole seconds and looks once a second: never early, a little late.
					if d := tries[i] - want; d < 0 || d > 3*i {
						t.Errorf("try %d after %d s, want %d", i+1, tries[i], want)
					}
				}
				time.Sleep(5 * time.Minute)
				got = r.Requests()
				last := got[len(got)-1]
				if last.Event.Seq != 2 || !last.Late() || last.Status != 200 || last.ID() != dispatch.DeliveryID("default", last.Event.ID, "") {
					t.Errorf("last: seq %d, late %v, status %d", last.Event.Seq, last.Late(), last.Status)
				}
				if g := h.gate("default"); g.Pending != 0 || g.Late != 0 || g.Breaker != "closed" {
					t.Errorf("%+v", g)
				}
				if n := len(h.journal(events.WebhookFailingType)); n != 1 {
					t.Errorf("%d webhookFailing", n)
				}
			})
		})
	}
}

// While the endpoint is down nothing leaves its lane, however long that is, and afterwards
// all comes in order.
func TestOutage(t *testing.T) {
	bubble(t, func(t *testing.T, h *house, r *hooktest.Receiver) {
		h.account("ines", "")
		time.Sleep(15 * time.Second)
		r.Behave(hooktest.Status(500))
		h.mail("ines", 3)
		h.add("ines", events.Event{Type: events.MessageDeletedType, ID: "evt_d", Data: events.MessageDeleted{}})
		h.mail("ines", 3)
		time.Sleep(12 * time.Minute)
		if g := h.gate("default"); g.Breaker != "open" || g.Late != 0 || g.Pending != 7 {
			t.Errorf("in the outage: %+v", g)
		}
		r.Behave(hooktest.Status(200))
		time.Sleep(6 * time.Minute)
		if g := h.gate("default"); g.Breaker != "closed" || g.Pending != 0 || g.Streak != 0 {
			t.Errorf("afterwards: %+v", g)
		}
		for _, q := range r.Requests() {
			if q.Late() {
				t.Errorf("seq %d left its lane", q.Event.Seq)
			}
		}
		inOrder(t, r.Requests(), "ines")
	})
}
