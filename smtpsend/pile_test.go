package smtpsend_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/smtpsend"
	"github.com/postrider/postrider/smtpsend/transport"
	"github.com/postrider/postrider/store"
)

// commands counts those to Redis: all, or of one name.
type commands struct {
	name string
	n    atomic.Int64
}

func (c *commands) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (c *commands) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.count(cmd)
		return next(ctx, cmd)
	}
}

func (c *commands) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.count(cmds...)
		return next(ctx, cmds)
	}
}

func (c *commands) count(cmds ...redis.Cmder) {
	for _, cmd := range cmds {
		if c.name == "" || cmd.Name() == c.name {
			c.n.Add(1)
		}
	}
}

// What a limit holds is looked at by its own task: many submissions cost as much as few.
func TestHold_each_once(t *testing.T) {
	bubble(t, func(t *testing.T, h *house) {
		const n = 80
		h.account("ada", func(a *store.Account) { one := 1; a.SendLimits.PerHour = &one })
		h.submit(request("ada", "bob@example.net"))
		time.Sleep(2 * time.Minute)
		r := &commands{name: "hgetall"}
		h.rdb.(*redis.Client).AddHook(r)
		for range n {
			h.submit(request("ada", "bob@example.net"))
		}
		time.Sleep(2 * time.Minute)
		page, err := h.store.Submissions(t.Context(), store.SubmissionQuery{Account: "ada", States: []store.SubmissionState{store.SubmissionHeld}})
		if err != nil || page.Total != n {
			t.Errorf("%d held, %v", page.Total, err)
		}
		if got := r.n.Load(); got > 12*n {
			t.Errorf("%d submissions were read %d times", n, got)
		}
	}, slowly)
}

// What was to be sent later and comes due while the spool sleeps is held like the rest; what is
// due later still is not.
func TestHold_scheduled(t *testing.T) {
	bubble(t, func(t *testing.T, h *house) {
		h.sink.set(func(*tx) error {
			return &transport.Error{Phase: transport.PhaseAuth, Code: 535, Line: "535 no", Kind: transport.KindAuth}
		})
		h.account("ada")
		r := request("ada", "bob@example.net")
		r.SendAt = time.Now().Add(3 * time.Minute)
		soon := h.submit(r)
		r.SendAt = time.Now().Add(10 * time.Minute)
		later := h.submit(r)
		time.Sleep(time.Minute)
		h.submit(request("ada", "bob@example.net"))
		time.Sleep(time.Minute)
		if row := h.row(soon); row.State != store.SubmissionScheduled {
			t.Errorf("before its time: %s", row.State)
		}
		time.Sleep(3 * time.Minute)
		if row := h.row(soon); row.State != store.SubmissionHeld || row.Reason != store.HeldAuthentication {
			t.Errorf("2 min behind its time: %s %s", row.State, row.Reason)
		}
		if row := h.row(later); row.State != store.SubmissionScheduled {
			t.Errorf("before its time: %s", row.State)
		}
	}, slowly)
}

// An account that cannot be served is looked at again and again, and no task is left of it.
func TestWake_does_not_pile_up(t *testing.T) {
	bubble(t, func(t *testing.T, h *house) {
		h.stop()
		h.account("ada")
		h.submit(request("ada", "bob@example.net"))
		broken := 0
		for _, key := range h.rdb.Keys(t.Context(), "*accounts").Val() {
			if h.rdb.HExists(t.Context(), key, "ada").Val() {
				broken++
				h.rdb.HSet(t.Context(), key, "ada", "{")
			}
		}
		h.start(slowly)
		time.Sleep(time.Hour)
		q, err := h.inspector().GetQueueInfo(smtpsend.TaskQueue)
		if err != nil || broken != 1 || q.Retry > 1 || q.Size > 2 {
			t.Errorf("%d broken, %d tasks, %d of them to be tried again: %v", broken, q.Size, q.Retry, err)
		}
	})
}

// A server that hangs in one transaction does not keep another from being carried on whose
// task is lost.
func TestSweeper_beside_a_transaction_that_hangs(t *testing.T) {
	bubble(t, func(t *testing.T, h *house) {
		hang := make(chan struct{})
		defer close(hang)
		h.sink.set(func(x *tx) error {
			if x.n == 0 {
				<-hang
			}
			return nil
		})
		h.account("ada")
		h.submit(request("ada", "bob@example.net"))
		time.Sleep(3 * time.Second)
		id := h.submit(request("ada", "cem@example.net"))
		if err := h.inspector().DeleteTask(smtpsend.TaskQueue, fmt.Sprintf("%s.1", id)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(40 * time.Second)
		if row := h.row(id); row.State != store.SubmissionSent {
			t.Errorf("%s", row.State)
		}
	})
}

// A hundred accounts of a shard that wait longer and cannot be helped do not keep the sweeper
// from another one, whose task is lost.
func TestSweeper_behind_a_hundred(t *testing.T) {
	bubble(t, func(t *testing.T, h *house) {
		h.account("ada")
		if _, err := h.store.PauseAccount(t.Context(), "ada", "api"); err != nil {
			t.Fatal(err)
		}
		id := h.submit(request("ada", "bob@example.net"))
		time.Sleep(2 * time.Second) // its task ends
		if _, err := h.store.ResumeAccount(t.Context(), "ada", "api"); err != nil {
			t.Fatal(err)
		}
		keys, err := h.rdb.Keys(t.Context(), "*:outbox:work").Result()
		if err != nil || len(keys) != 1 {
			t.Fatal(keys, err)
		}
		for i := range 100 {
			if err := h.rdb.ZAdd(t.Context(), keys[0], redis.Z{Score: 1, Member: fmt.Sprintf("gone%d", i)}).Err(); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(25 * time.Second)
		if row := h.row(id); row.State != store.SubmissionSent {
			t.Errorf("%s", row.State)
		}
	})
}

// An account with many connections to a server that hangs leaves workers to the others, and goes
// on with all its mail when the server does.
func TestSend_one_account_takes_no_others_workers(t *testing.T) {
	bubble(t, func(t *testing.T, h *house) {
		hang := make(chan struct{})
		h.sink.set(func(x *tx) error {
			if x.env.From == "bad@example.com" {
				<-hang
			}
			return nil
		})
		h.account("bad", func(a *store.Account) { a.SendLimits.MaxConnections = new(100) })
		h.account("ada")
		for range 50 {
			h.submit(request("bad", "bob@example.net"))
		}
		time.Sleep(10 * time.Second)
		id := h.submit(request("ada", "bob@example.net"))
		time.Sleep(10 * time.Second)
		if row := h.row(id); row.State != store.SubmissionSent || len(h.sink.tried()) != 1+4 {
			t.Errorf("%s, %d transactions", row.State, len(h.sink.tried()))
		}
		close(hang)
		time.Sleep(10 * time.Second)
		if got := len(h.sink.taken()); got != 51 {
			t.Errorf("%d sent", got)
		}
	}, func(o *smtpsend.Options) { o.Config.Concurrency = 40 })
}

// Where there is no connection to be had, nothing was tried: it costs no attempt.
func TestSend_no_connection_free(t *testing.T) {
	bubble(t, func(t *testing.T, h *house) {
		h.sink.set(func(x *tx) error {
			if x.n < 2 {
				return &transport.Error{Phase: transport.PhaseConnect, Kind: transport.KindLocal, Err: transport.ErrBusy}
			}
			return nil
		})
		h.account("ada")
		begun := time.Now()
		id := h.submit(request("ada", "bob@example.net"))
		time.Sleep(time.Minute)
		if row := h.row(id); row.State != store.SubmissionSent || row.Charged != 0 || h.sink.taken()[0].at.Sub(begun) < 20*time.Second {
			t.Errorf("%s, %d charged, %v", row.State, row.Charged, h.sink.tried())
		}
		if told := h.short("ada"); !slices.Equal(told, []string{"Queued", "Sent"}) {
			t.Error(told)
		}
	})
}

// bodiless is a Redis that does not give bodies in time, while it is on.
type bodiless struct{ on atomic.Bool }

func (b *bodiless) DialHook(next redis.DialHook) redis.DialHook { return next }

func (b *bodiless) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if b.on.Load() && cmd.Name() == "hget" && strings.Contains(cmd.String(), ":body") {
			cmd.SetErr(os.ErrDeadlineExceeded)
			return os.ErrDeadlineExceeded
		}
		return next(ctx, cmd)
	}
}

func (b *bodiless) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// A body that cannot be read now is asked for again after a pause, not at once: the server's
// connections and the limits of the account are no place to wait for Redis.
func TestSend_body_not_read(t *testing.T) {
	bubble(t, func(t *testing.T, h *house) {
		hook := &bodiless{}
		hook.on.Store(true)
		h.rdb.(*redis.Client).AddHook(hook)
		h.sink.set(func(*tx) error { time.Sleep(100 * time.Millisecond); return nil }) // MAIL, RCPT, DATA
		h.account("ada")
		ids := []store.SubmissionID{h.submit(request("ada", "bob@example.net")), h.submit(request("ada", "cem@example.net"))}
		time.Sleep(30 * time.Second)
		if n := len(h.sink.tried()); n < 4 || n > 8 {
			t.Errorf("%d transactions begun", n)
		}
		hook.on.Store(false)
		time.Sleep(15 * time.Second)
		for _, id := range ids {
			if row := h.row(id); row.State != store.SubmissionSent || row.Charged != 0 {
				t.Errorf("%s, %d charged", row.State, row.Charged)
			}
		}
	})
}

// What waits for too long is given up: by the sweeper where nobody comes to it, and by who does.
func TestSend_expires_queued(t *testing.T) {
	aged := func(o *smtpsend.Options) { o.Config.MaxAge, o.Config.KeepFailed = 10*time.Minute, time.Hour }
	t.Run("paused", func(t *testing.T) {
		bubble(t, func(t *testing.T, h *house) {
			h.sink.set(func(*tx) error { return refused(transport.PhaseData, 451, [3]int{}) })
			h.account("ada")
			id := h.submit(request("ada", "bob@example.net"))
			time.Sleep(30 * time.Second)
			if _, err := h.store.PauseAccount(t.Context(), "ada", "api"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(16 * time.Minute)
			if row := h.row(id); row.State != store.SubmissionFailed || row.Reason != "expired" {
				t.Errorf("%s %s", row.State, row.Reason)
			}
			time.Sleep(65 * time.Minute)
			if _, err := h.store.Submission(t.Context(), id); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("kept longer than asked for: %v", err)
			}
		}, slowly, aged)
	})
	t.Run("scheduled, and paused when its time came", func(t *testing.T) {
		bubble(t, func(t *testing.T, h *house) {
			h.account("ada")
			r := request("ada", "bob@example.net")
			r.SendAt = time.Now().Add(20 * time.Minute)
			id := h.submit(r)
			if _, err := h.store.PauseAccount(t.Context(), "ada", "api"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(29 * time.Minute)
			if row := h.row(id); row.State.Final() {
				t.Errorf("before its time is over: %s %s", row.State, row.Reason)
			}
			time.Sleep(12 * time.Minute)
			if row := h.row(id); row.State != store.SubmissionFailed || row.Reason != "expired" {
				t.Errorf("%s %s", row.State, row.Reason)
			}
		}, slowly, aged)
	})
	t.Run("claimed", func(t *testing.T) {
		bubble(t, func(t *testing.T, h *house) {
			h.stop()
			h.account("ada")
			id := h.submit(request("ada", "bob@example.net"))
			time.Sleep(11 * time.Minute)
			aged(&h.opts)
			s, err := smtpsend.New(h.opts)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Server.Start(); err != nil { // without a sweeper
				t.Fatal(err)
			}
			h.stop = s.Server.Shutdown
			time.Sleep(10 * time.Second)
			row, failed := h.row(id), h.events("ada", events.MessageFailedType)
			if row.State != store.SubmissionFailed || row.Reason != "expired" || row.Attempt != 0 || len(h.sink.tried()) != 0 {
				t.Errorf("%s %s, attempt %d, %v", row.State, row.Reason, row.Attempt, h.sink.tried())
			}
			if len(failed) != 1 || field(failed[0], "attempts") != "0" {
				t.Errorf("told %v", h.short("ada"))
			}
			if _, err := s.Queue.Retry(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Second)
			if row := h.row(id); row.State != store.SubmissionSent || row.Attempt != 1 {
				t.Errorf("%s, attempt %d", row.State, row.Attempt)
			}
		})
	})
}

// Our clock may be ahead of Redis', which says what is due and who sleeps until when: we look
// again once a second, not as fast as we can.
func TestTasks_clock_is_ahead(t *testing.T) {
	for name, before := range map[string]func(h *house, r *smtpsend.Request, now time.Time){
		"it is not due there": func(_ *house, r *smtpsend.Request, now time.Time) { r.SendAt = now.Add(time.Minute) },
		"the spool sleeps": func(h *house, _ *smtpsend.Request, now time.Time) {
			review := request("ada", "bob@example.net")
			review.Hold = true // an empty spool does not sleep
			h.submit(review)
			if err := h.store.SleepSpool(h.t.Context(), "ada", store.Sleep{Until: now.Add(time.Minute), Reason: smtpsend.SleepServer}); err != nil {
				h.t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, h *house) {
				now := time.Now().Add(-5 * time.Minute)
				h.redis.SetTime(now) // it stands
				h.account("ada")
				r := request("ada", "bob@example.net")
				before(h, &r, now)
				id := h.submit(r)
				time.Sleep(10 * time.Second)
				q, err := h.inspector().GetQueueInfo(smtpsend.TaskQueue)
				if err != nil || q.ProcessedTotal > 13 || q.ProcessedTotal < 4 {
					t.Errorf("%+v, %v", q, err)
				}
				h.redis.SetTime(now.Add(2 * time.Minute))
				time.Sleep(5 * time.Second)
				if row := h.row(id); row.State != store.SubmissionSent || row.Attempt != 1 {
					t.Errorf("%s, attempt %d", row.State, row.Attempt)
				}
			}, func(o *smtpsend.Options) {
				o.Config.TaskCheck, o.Config.DelayedCheck = 100*time.Millisecond, 100*time.Millisecond
			})
		})
	}
}
