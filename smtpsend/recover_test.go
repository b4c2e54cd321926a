package smtpsend_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/smtpsend"
	"github.com/postrider/postrider/smtpsend/transport"
	"github.com/postrider/postrider/store"
)

// claim takes a submission as a process would that dies then.
func (h *house) claim(id store.SubmissionID, owner string, marked bool) store.Submission {
	h.t.Helper()
	c, err := h.store.ClaimSubmission(h.t.Context(), store.Claim{Account: "ada", ID: id, Owner: owner, Lease: time.Minute, Slots: 2})
	if err != nil || c.Answer != store.ClaimOK {
		h.t.Fatalf("%s, %v", c.Answer, err)
	}
	if marked {
		if err := h.store.MarkSubmission(h.t.Context(), id, c.Submission.Fence, c.Submission.Attempt); err != nil {
			h.t.Fatal(err)
		}
	}
	return c.Submission
}

// Who claimed a submission is dead. Before the mark it is sent by another, behind it
// nobody knows. A process that has the dead one's name need not wait for the lease.
func TestRecover(t *testing.T) {
	for name, tt := range map[string]struct {
		owner  string
		marked bool
		wait   time.Duration
		state  store.SubmissionState
		told   []string
	}{
		"of a predecessor":             {"one/dead", false, 3 * time.Second, store.SubmissionSent, []string{"Queued", "Sent"}},
		"of a predecessor, marked":     {"one/dead", true, 3 * time.Second, store.SubmissionUnknown, []string{"Queued", "Held"}},
		"of another process":           {"two/dead", false, 80 * time.Second, store.SubmissionSent, []string{"Queued", "Sent"}},
		"of another process, marked":   {"two/dead", true, 80 * time.Second, store.SubmissionUnknown, []string{"Queued", "Held"}},
		"of another process, too soon": {"two/dead", false, 50 * time.Second, store.SubmissionProcessing, []string{"Queued"}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, h *house) {
				h.stop()
				h.account("ada")
				id := h.submit(request("ada", "bob@example.net"))
				h.claim(id, tt.owner, tt.marked)
				h.start()
				time.Sleep(tt.wait)
				if row := h.row(id); row.State != tt.state {
					t.Errorf("%s", row.State)
				}
				if told := h.short("ada"); !slices.Equal(told, tt.told) {
					t.Error(told)
				}
			})
		})
	}
}

// What asynq forgets the sweeper carries on; nothing is sent twice.
func TestRecover_tasks_are_deleted(t *testing.T) {
	bubble(t, func(t *testing.T, h *house) {
		h.sink.set(func(x *tx) error {
			if x.n < 2 {
				return refused(transport.PhaseData, 451, [3]int{})
			}
			return nil
		})
		h.account("ada")
		later := request("ada", "cem@example.net")
		later.SendAt = time.Now().Add(time.Minute)
		ids := []store.SubmissionID{h.submit(request("ada", "bob@example.net")), h.submit(later)}
		time.Sleep(3 * time.Second)
		for _, f := range []func(string) (int, error){h.inspector().DeleteAllRetryTasks, h.inspector().DeleteAllScheduledTasks} {
			if n, err := f(smtpsend.TaskQueue); err != nil || n != 1 {
				t.Fatalf("%d, %v", n, err)
			}
		}
		time.Sleep(3 * time.Minute)
		for _, id := range ids {
			if row := h.row(id); row.State != store.SubmissionSent {
				t.Errorf("%+v", row)
			}
		}
		if n := len(h.sink.taken()); n != 2 {
			t.Errorf("%d taken", n)
		}
	})
}

// A task that is run again by hand finds nothing to do.
func TestRecover_task_is_run_again(t *testing.T) {
	bubble(t, func(t *testing.T, h *house) {
		h.sink.set(func(*tx) error { return refused(transport.PhaseData, 554, [3]int{}) })
		h.account("ada")
		h.submit(request("ada", "bob@example.net"))
		time.Sleep(3 * time.Second)
		if n, err := h.inspector().RunAllArchivedTasks(smtpsend.TaskQueue); err != nil || n != 1 {
			t.Fatalf("%d, %v", n, err)
		}
		time.Sleep(5 * time.Second)
		if n := len(h.sink.tried()); n != 1 {
			t.Errorf("%d tries", n)
		}
	})
}

// At shutdown what was not marked goes back at once; what was may still get its reply.
func TestShutdown(t *testing.T) {
	bubble(t, func(t *testing.T, h *house) {
		release := make(chan struct{})
		h.sink.set(func(x *tx) error {
			if x.env.To[0] == "bob@example.net" {
				<-x.done
				return &transport.Error{Phase: transport.PhaseMail, Kind: transport.KindLocal, Err: x.cause()}
			}
			if err := x.mark(); err != nil {
				return err
			}
			<-release
			return nil
		})
		h.account("ada")
		waits, marked := h.submit(request("ada", "bob@example.net")), h.submit(request("ada", "cem@example.net"))
		time.Sleep(3 * time.Second)
		time.AfterFunc(2*time.Second, func() { close(release) })
		begun := time.Now()
		h.stop()
		if took := time.Since(begun); took > 11*time.Second {
			t.Errorf("took %v", took)
		}
		if row := h.row(waits); row.State != store.SubmissionQueued || row.Charged != 0 || row.Crashes != 0 {
			t.Errorf("%+v", row)
		}
		if row := h.row(marked); row.State != store.SubmissionSent {
			t.Errorf("%+v", row)
		}
		h.sink.set(nil)
		h.start()
		time.Sleep(15 * time.Second)
		if row := h.row(waits); row.State != store.SubmissionSent {
			t.Errorf("%+v", row)
		}
		if n := len(h.sink.taken()); n != 2 {
			t.Errorf("%d taken", n)
		}
	})
}

// A claim that was taken away: the connection is dropped before the dot, and who took it
// decides.
func TestSend_claim_lost(t *testing.T) {
	for name, after := range map[string]time.Duration{"noticed by the mark": 0, "noticed by the renewal": 20 * time.Second} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, h *house) {
				h.account("ada")
				ctx := context.Background()
				h.sink.set(func(x *tx) error {
					if x.n > 0 {
						return nil
					}
					keys, err := h.rdb.Keys(ctx, "*:q:"+x.env.DSN.ID).Result()
					if err != nil || len(keys) != 1 {
						t.Errorf("%v, %v", keys, err)
						return nil
					}
					h.rdb.HIncrBy(ctx, keys[0], "fence", 1)
					if after > 0 {
						select {
						case <-x.done:
							return &transport.Error{Phase: transport.PhaseBody, Kind: transport.KindLocal, Err: x.cause()}
						case <-time.After(after):
						}
					}
					return nil
				})
				id := h.submit(request("ada", "bob@example.net"))
				time.Sleep(30 * time.Second)
				if n := len(h.sink.taken()); n != 0 {
					t.Errorf("%d taken", n)
				}
				if row := h.row(id); row.State != store.SubmissionProcessing {
					t.Errorf("%+v", row)
				}
				time.Sleep(time.Minute) // nobody renews what nobody has
				if n := len(h.sink.taken()); n != 1 {
					t.Errorf("%d taken", n)
				}
			})
		})
	}
}

// A reply that comes after the sender was thought dead is the truth all the same.
func TestSend_reply_comes_late(t *testing.T) {
	bubble(t, func(t *testing.T, h *house) {
		h.account("ada")
		h.sink.set(func(x *tx) error {
			if err := x.mark(); err != nil {
				return err
			}
			row := h.row(store.SubmissionID(x.env.DSN.ID))
			next, e := row.Hold(store.HeldOutcomeUnknown, time.Time{}, row.Attempt)
			_, err := h.store.MoveSubmission(context.Background(), row, next, []events.Event{e}, store.MoveOps{})
			return err
		})
		id := h.submit(request("ada", "bob@example.net"))
		time.Sleep(5 * time.Second)
		if row := h.row(id); row.State != store.SubmissionSent {
			t.Errorf("%+v", row)
		}
		if told := h.short("ada"); !slices.Equal(told, []string{"Queued", "Held", "Sent"}) {
			t.Error(told)
		}
	})
}

// Two processes share an account's slots: the server never sees more at once, and each
// message once.
func TestSend_two_processes(t *testing.T) {
	const n = 100
	bubble(t, func(t *testing.T, h *house) {
		h.sink.set(func(*tx) error { time.Sleep(50 * time.Millisecond); return nil })
		stop := h.stop
		h.start(func(o *smtpsend.Options) { o.Instance = "two" })
		h.account("ada", func(a *store.Account) { two := 2; a.SendLimits.MaxConnections = &two })
		for i := range n {
			h.submit(request("ada", fmt.Sprintf("to%d@example.net", i)))
		}
		time.Sleep(time.Minute)
		to := map[string]int{}
		for _, d := range h.sink.taken() {
			to[d.to[0]]++
		}
		if len(to) != n || h.sink.atOnce() != 2 {
			t.Errorf("%d taken, %d at once", len(to), h.sink.atOnce())
		}
		for a, times := range to {
			if times != 1 {
				t.Errorf("%s %d times", a, times)
			}
		}
		stop()
	})
}

// A paused account accepts and holds; resumed it sends.
func TestSend_paused(t *testing.T) {
	bubble(t, func(t *testing.T, h *house) {
		h.account("ada")
		if _, err := h.store.PauseAccount(t.Context(), "ada", "api"); err != nil {
			t.Fatal(err)
		}
		id := h.submit(request("ada", "bob@example.net"))
		time.Sleep(time.Minute)
		if row := h.row(id); row.State != store.SubmissionHeld || row.Reason != store.HeldAccountPaused {
			t.Errorf("%+v", row)
		}
		if _, err := h.store.ResumeAccount(t.Context(), "ada", "api"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		if row := h.row(id); row.State != store.SubmissionSent {
			t.Errorf("%+v", row)
		}
	})
}

// What is held too long is given up.
func TestSend_expires(t *testing.T) {
	bubble(t, func(t *testing.T, h *house) {
		h.account("ada")
		r := request("ada", "bob@example.net")
		r.Hold = true
		id := h.submit(r)
		time.Sleep(16 * time.Minute)
		if row := h.row(id); row.State != store.SubmissionFailed || row.Reason != "expired" {
			t.Errorf("%+v", row)
		}
		if told := h.short("ada"); !slices.Equal(told, []string{"Queued", "Held", "Failed"}) {
			t.Error(told)
		}
	}, slowly, func(o *smtpsend.Options) { o.Config.MaxAge = 10 * time.Minute })
}
