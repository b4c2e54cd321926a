package smtpsend_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/smtpsend"
	"github.com/postrider/postrider/smtpsend/transport"
	"github.com/postrider/postrider/store"
)

// addresses are more than one transaction takes, where n is above 100.
func addresses(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("r%03d@example.net", i))
	}
	return out
}

// sizes are how many recipients each transaction was for.
func (k *sink) sizes() (out []int) {
	for _, try := range k.tried() {
		out = append(out, len(try.to))
	}
	return out
}

// Who dies behind the mark leaves unknown only what the server had accepted: whoever was
// refused, or not asked for, is sent to when that is settled.
func TestMany_dead_behind_the_mark(t *testing.T) {
	bubble(t, func(t *testing.T, h *house) {
		all := addresses(150)
		h.sink.set(func(x *tx) error {
			if x.n > 0 {
				return nil
			}
			x.receipt.Accepted = x.env.To[1:]
			if err := x.mark(); err != nil {
				return err
			}
			panic("dead")
		})
		h.account("ada", func(a *store.Account) { a.SendLimits.RecipientsPerDay = new(1000) })
		id := h.submit(request("ada", all...))
		time.Sleep(7 * time.Minute)
		row := h.row(id)
		if n := h.charged("ada"); n != 99 {
			t.Errorf("%d recipients are charged", n)
		}
		if row.State != store.SubmissionUnknown || !slices.Equal(row.Pending, all[1:100]) || len(row.Deferred) != 51 || row.Marked != nil {
			t.Errorf("%s, %d pending, %d deferred, marked %d", row.State, len(row.Pending), len(row.Deferred), len(row.Marked))
		}
		if _, err := h.Queue.Resolve(t.Context(), id, smtpsend.ResolveSent); err != nil {
			t.Fatal(err)
		}
		time.Sleep(6 * time.Minute)
		if row := h.row(id); row.State != store.SubmissionSent || !slices.Equal(h.sink.sizes(), []int{100, 51}) {
			t.Errorf("%s, transactions for %v", row.State, h.sink.sizes())
		}
	}, slowly)
}

// charged is what the day's limit of recipients has been charged for.
func (h *house) charged(account store.AccountID) (n int) {
	h.t.Helper()
	keys, err := h.rdb.Keys(h.t.Context(), "*:a:"+string(account)+":outbox:limits").Result()
	if err != nil || len(keys) != 1 {
		h.t.Fatalf("%v, %v", keys, err)
	}
	for field, v := range h.rdb.HGetAll(h.t.Context(), keys[0]).Val() {
		if field[0] == 'H' {
			i, _ := strconv.Atoi(v)
			n += i
		}
	}
	return n
}

// unanswered is a server that takes a message and is not heard of again.
func unanswered(x *tx) error {
	if err := x.mark(); err != nil {
		return err
	}
	return &transport.Error{Phase: transport.PhaseDot, Kind: transport.KindSocket, Unknown: true, Accepted: x.env.To, Err: io.EOF}
}

// Recipients behind an outcome that stays unknown are given up with the row, and are told of
// by then; whether they were offered is no secret, and so no limit is charged for them.
func TestMany_behind_the_unknown(t *testing.T) {
	bubble(t, func(t *testing.T, h *house) {
		h.sink.set(unanswered)
		h.account("ada", func(a *store.Account) { a.SendLimits.RecipientsPerDay = new(1000) })
		id, alone := h.submit(request("ada", addresses(150)...)), h.submit(request("ada", "bob@example.net"))
		time.Sleep(9 * time.Minute)
		if row := h.row(id); row.State != store.SubmissionUnknown || len(row.Deferred) != 50 || h.charged("ada") != 101 {
			t.Errorf("%s, %d deferred, %d charged", row.State, len(row.Deferred), h.charged("ada"))
		}
		time.Sleep(8 * time.Minute)
		for _, id := range []store.SubmissionID{id, alone} {
			if row, err := h.store.Submission(t.Context(), id); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s, %v", row.State, err)
			}
		}
		failed := h.events("ada", events.MessageFailedType)
		if len(failed) != 1 || field(failed[0], "reason") != "expired" || !slices.Equal(recipients(t, failed[0]), addresses(150)[100:]) {
			t.Errorf("told %v", h.short("ada"))
		}
		if keys := h.keys(); len(keys) != 0 {
			t.Errorf("%v are left", keys)
		}
	}, slowly, func(o *smtpsend.Options) { o.Config.KeepUnknown = 10 * time.Minute })
}

// Once somebody says that the message was taken, whoever was not offered it yet is sent to
// at once, and no attempt of theirs is used.
func TestMany_behind_the_resolved(t *testing.T) {
	bubble(t, func(t *testing.T, h *house) {
		h.sink.set(func(x *tx) error {
			if x.n > 0 {
				return nil
			}
			return unanswered(x)
		})
		h.account("ada")
		r := request("ada", addresses(150)...)
		r.Attempts = 1
		id := h.submit(r)
		time.Sleep(5 * time.Second)
		if _, err := h.Queue.Resolve(t.Context(), id, smtpsend.ResolveSent); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		row := h.row(id)
		if row.State != store.SubmissionSent || row.Last.Error != "" || !slices.Equal(h.sink.sizes(), []int{100, 50}) {
			t.Errorf("%s, transactions for %v, last %+v", row.State, h.sink.sizes(), row.Last)
		}
	})
}

// A reply that comes when the row was made unknown meanwhile is written down for those it
// was about, and the others are sent to once.
func TestMany_late_reply(t *testing.T) {
	for name, meanwhile := range map[string]func(*house, store.Submission){
		"unknown": func(*house, store.Submission) {},
		"queued again": func(h *house, row store.Submission) {
			if _, err := h.Queue.Resolve(h.t.Context(), row.ID, smtpsend.ResolveRetry); err != nil {
				h.t.Error(err)
			}
		},
		"queued again, and held": func(h *house, row store.Submission) {
			row.OnUnknown = smtpsend.OnUnknownResend
			next, e := row.Hold(store.HeldSendLimit, time.Now().Add(time.Hour), row.Attempt+1)
			if _, err := h.store.MoveSubmission(h.t.Context(), row, next, []events.Event{e}, store.MoveOps{}); err != nil {
				h.t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, h *house) {
				h.sink.set(func(x *tx) error {
					if x.n > 0 {
						return nil
					}
					x.receipt.Accepted, x.receipt.Refused = x.env.To[1:], []transport.Refusal{{Recipient: x.env.To[0], Code: 550, Response: "550 no"}}
					if err := x.mark(); err != nil {
						return err
					}
					was := h.row(store.SubmissionID(x.env.DSN.ID))
					next, e := was.Hold(store.HeldOutcomeUnknown, time.Time{}, was.Attempt)
					next.Pending = was.Marked
					for _, to := range was.Pending {
						if !slices.Contains(was.Marked, to) {
							next.Deferred = append(next.Deferred, store.Refusal{Recipient: to})
						}
					}
					row, err := h.store.MoveSubmission(t.Context(), was, next, []events.Event{e}, store.MoveOps{})
					if err != nil {
						t.Error(err)
					}
					meanwhile(h, row)
					return nil
				})
				h.account("ada")
				id := h.submit(request("ada", addresses(170)...))
				time.Sleep(2 * time.Minute)
				row := h.row(id)
				if row.State != store.SubmissionSent || len(row.Rejected) != 1 || row.PossibleDuplicate || !slices.Equal(h.sink.sizes(), []int{100, 70}) {
					t.Errorf("%s, %d rejected, possible duplicate %v, transactions for %v", row.State, len(row.Rejected), row.PossibleDuplicate, h.sink.sizes())
				}
				seen := map[string]int{}
				for _, d := range h.sink.taken() {
					for _, to := range d.to {
						seen[to]++
						if seen[to] > 1 {
							t.Errorf("%s has it %d times", to, seen[to])
						}
					}
				}
				if len(seen) != 169 {
					t.Errorf("%d have it", len(seen))
				}
			}, slowly)
		})
	}
}

// No reply to the dot is an unknown outcome, whatever the error was; it is told of once,
// whoever found it.
func TestMany_claim_lost_behind_the_dot(t *testing.T) {
	for _, found := range []bool{false, true} {
		bubble(t, func(t *testing.T, h *house) {
			h.sink.set(func(x *tx) error {
				if err := x.mark(); err != nil {
					return err
				}
				if was := h.row(store.SubmissionID(x.env.DSN.ID)); found {
					next, e := was.Hold(store.HeldOutcomeUnknown, time.Time{}, was.Attempt)
					if _, err := h.store.MoveSubmission(t.Context(), was, next, []events.Event{e}, store.MoveOps{}); err != nil {
						t.Error(err)
					}
				}
				return &transport.Error{Phase: transport.PhaseDot, Kind: transport.KindSocket, Unknown: true, Accepted: x.env.To, Err: store.ErrStale}
			})
			h.account("ada")
			id := h.submit(request("ada", "bob@example.net"))
			time.Sleep(5 * time.Second)
			if row := h.row(id); row.State != store.SubmissionUnknown || !slices.Equal(h.told("ada"), []string{"messageQueued", "messageHeld"}) {
				t.Errorf("%s, told %v", row.State, h.told("ada"))
			}
		})
	}
}

// Recipients behind those of the first transaction do not wait for them.
func TestMany_first_are_put_off(t *testing.T) {
	bubble(t, func(t *testing.T, h *house) {
		h.sink.set(func(x *tx) error {
			e := &transport.Error{Phase: transport.PhaseRcpt, Code: 450, Line: "450 4.2.0 later", Kind: transport.KindEnvelope, Command: "RCPT"}
			for _, to := range x.env.To {
				if to < "r100" {
					e.Refused = append(e.Refused, transport.Refusal{Recipient: to, Code: 450, Response: "450 4.2.0 later"})
				}
			}
			if len(e.Refused) == len(x.env.To) {
				return e
			}
			x.receipt.Accepted, x.receipt.Refused = x.env.To[len(e.Refused):], e.Refused
			return nil
		})
		h.account("ada")
		r := request("ada", addresses(150)...)
		r.Preset, r.Attempts = "code", 3
		id := h.submit(r)
		time.Sleep(2 * time.Minute)
		row := h.row(id)
		if row.State != store.SubmissionFailed || row.Reason != "attemptsUsed" || !slices.Equal(h.sink.sizes(), []int{100, 50, 100, 100}) {
			t.Errorf("%s (%s), transactions for %v", row.State, row.Reason, h.sink.sizes())
		}
		sent, failed := h.events("ada", events.MessageSentType), h.events("ada", events.MessageFailedType)
		if len(sent) != 1 || len(failed) != 1 || len(row.Pending) != 100 {
			t.Errorf("told %v, given up for %d", h.told("ada"), len(row.Pending))
		}
	}, slowly)
}
