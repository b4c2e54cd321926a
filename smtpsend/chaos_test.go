package smtpsend_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/smtpsend"
	"github.com/postrider/postrider/smtpsend/transport"
	"github.com/postrider/postrider/store"
)

// Redis is away for half a minute while mail is sent: nothing is lost, nothing goes twice,
// and what is unknown says so.
func TestSend_redis_is_away(t *testing.T) {
	const n = 100
	bubble(t, func(t *testing.T, h *house) {
		h.sink.set(func(*tx) error { time.Sleep(time.Second); return nil })
		h.account("ada", func(a *store.Account) { ten := 10; a.SendLimits.MaxConnections = &ten })
		for i := range n {
			h.submit(request("ada", fmt.Sprintf("to%d@example.net", i)))
		}
		time.Sleep(5 * time.Second)
		h.redis.SetError("LOADING Redis is loading the dataset in memory")
		time.Sleep(30 * time.Second)
		h.redis.SetError("")
		time.Sleep(5 * time.Minute)
		taken := map[string]int{}
		for _, d := range h.sink.taken() {
			taken[d.to[0]]++
		}
		totals, err := h.store.OutboxTotals(t.Context())
		if err != nil || totals.States[store.SubmissionSent] != n || len(taken) != n {
			t.Errorf("%v, %d taken, %v", totals.States, len(taken), err)
		}
		for to, times := range taken {
			if times != 1 {
				t.Errorf("%s %d times", to, times)
			}
		}
	})
}

// Whatever servers do to many messages, each ends once, and when all are forgotten Redis
// holds what it held before.
func TestSend_random_faults(t *testing.T) {
	const n = 60
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	bubble(t, func(t *testing.T, h *house) {
		var mu sync.Mutex
		r := rand.New(rand.NewPCG(seed, 0))
		h.sink.set(func(x *tx) error {
			mu.Lock()
			dice := r.IntN(12)
			mu.Unlock()
			switch dice {
			case 0:
				return lost(transport.PhaseConnect)
			case 1:
				return refused(transport.PhaseMail, 451, [3]int{})
			case 2:
				return refused(transport.PhaseDot, 554, [3]int{})
			case 3:
				if err := x.mark(); err != nil {
					return err
				}
				return &transport.Error{Phase: transport.PhaseDot, Kind: transport.KindTimeout, Unknown: true, Accepted: x.env.To}
			case 4:
				x.receipt.Accepted = x.env.To[:1]
				for _, to := range x.env.To[1:] {
					x.receipt.Refused = append(x.receipt.Refused, transport.Refusal{Recipient: to, Code: 450, Response: "450 later"})
				}
			case 5:
				panic("a fault of ours")
			}
			return nil
		})
		h.account("ada", func(a *store.Account) { five := 5; a.SendLimits.MaxConnections = &five })
		time.Sleep(11 * time.Second)
		before := h.keys()
		to := map[store.SubmissionID][]string{}
		for i := range n {
			who := []string{fmt.Sprintf("a%d@example.net", i), fmt.Sprintf("b%d@example.net", i)}
			req := request("ada", who...)
			req.Preset, req.Attempts = "code", 50
			to[h.submit(req)] = who
		}
		for range 120 { // until each has ended, people resolving what is unknown
			time.Sleep(time.Minute)
			page, err := h.store.Submissions(t.Context(), store.SubmissionQuery{States: []store.SubmissionState{store.SubmissionUnknown}, Limit: n})
			if err != nil {
				t.Fatal(err)
			}
			for _, row := range page.Submissions {
				if _, err := h.Queue.Resolve(t.Context(), row.ID, smtpsend.ResolveSent); err != nil {
					t.Fatal(err)
				}
			}
			if totals, _ := h.store.OutboxTotals(t.Context()); totals.States[store.SubmissionSent]+totals.States[store.SubmissionFailed] == n {
				break
			}
		}
		fate := map[string]int{}
		for _, kind := range []events.Type{events.MessageSentType, events.MessageFailedType} {
			for _, e := range h.events("ada", kind) {
				for _, a := range recipients(t, e) {
					fate[a]++
				}
			}
		}
		for id, who := range to {
			for _, a := range who {
				if fate[a] != 1 {
					t.Errorf("%s of %s has %d ends; %s", a, id, fate[a], h.row(id).State)
				}
			}
		}
		time.Sleep(30 * time.Minute)
		if after := h.keys(); !slices.Equal(after, before) {
			t.Errorf("keys %v, before %v", after, before)
		}
	}, slowly, func(o *smtpsend.Options) { o.Config.KeepSent, o.Config.KeepFailed = time.Minute, time.Minute })
}
