package smtpsend_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/smtpsend"
	"github.com/postrider/postrider/smtpsend/compose"
	"github.com/postrider/postrider/smtpsend/transport"
	"github.com/postrider/postrider/store"
)

// answer is a request of which both a copy and a flag follow.
func answer(to ...string) smtpsend.Request {
	r := request("ada", to...)
	r.Reference = &smtpsend.Reference{Message: "AAAAAQAAAAE", Action: compose.Reply}
	return r
}

// What follows a message that was sent does not depend on asynq's keys; and who looks for
// it reads what is pending, from time to time, and nothing else.
func TestSweeper_carries_on_what_follows(t *testing.T) {
	withMailbox(t, "mail.example.com", func(t *testing.T, h *house, box *mailbox) {
		done := h.submit(request("ada", "bob@example.net"))
		time.Sleep(time.Minute)
		h.sink.set(func(*tx) error { box.fail(errors.New("mailbox is away")); return nil })
		id := h.submit(answer("bob@example.net"))
		time.Sleep(time.Minute)
		if row := h.row(id); row.State != store.SubmissionSent || row.CopyState != smtpsend.AfterPending || row.FlagState != smtpsend.AfterPending {
			t.Errorf("%s, copy %q, flag %q", row.State, row.CopyState, row.FlagState)
		}
		if n, err := h.inspector().DeleteAllRetryTasks(smtpsend.TaskQueue); err != nil || n != 2 {
			t.Fatalf("%d, %v", n, err)
		}
		box.fail(nil)
		r := &commands{name: "hgetall"}
		h.rdb.(*redis.Client).AddHook(r)
		time.Sleep(8 * time.Minute)
		if n := r.n.Load(); n != 0 {
			t.Errorf("%d reads before its time", n)
		}
		time.Sleep(9 * time.Minute)
		for _, id := range []store.SubmissionID{done, id} {
			if row := h.row(id); row.CopyState != smtpsend.AfterDone {
				t.Errorf("copy %q %q", row.CopyState, row.CopyError)
			}
		}
		if row := h.row(id); row.FlagState != smtpsend.AfterDone || box.count() != 2 {
			t.Errorf("flag %q %q, %d in Sent", row.FlagState, row.FlagError, box.count())
		}
		for _, k := range h.keys() {
			if strings.HasSuffix(k, ":after") {
				t.Errorf("%s is left", k)
			}
		}
	}, slowly)
}

// slowed has what a hook names take 3 s.
type slowed struct {
	on    atomic.Bool
	words string
}

func (s *slowed) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (s *slowed) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if s.on.Load() && strings.Contains(fmt.Sprintf("%s", cmd.Args()), s.words) {
			time.Sleep(3 * time.Second)
		}
		return next(ctx, cmd)
	}
}

func (s *slowed) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// A reply that comes late is followed by a copy and a flag, although their tasks found
// nothing to do when they came to the row.
func TestSend_late_and_followed(t *testing.T) {
	for name, then := range map[string]func(h *house, row store.Submission){
		"unknown": func(*house, store.Submission) {},
		"queued": func(h *house, row store.Submission) {
			next := row
			next.State, next.NextAttempt = store.SubmissionQueued, time.Now().Add(time.Hour)
			if _, err := h.store.MoveSubmission(context.Background(), row, next, nil, store.MoveOps{}); err != nil {
				h.t.Error(err)
			}
		},
	} {
		for _, all := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, all are taken %v", name, all), func(t *testing.T) {
				withMailbox(t, "mail.example.com", func(t *testing.T, h *house, box *mailbox) {
					slow := &slowed{words: `"copyState":"pending"`}
					h.rdb.(*redis.Client).AddHook(slow)
					h.sink.set(func(x *tx) error {
						if !all {
							x.receipt.Accepted = x.env.To[:1]
							x.receipt.Refused = []transport.Refusal{{Recipient: x.env.To[1], Code: 450, Response: "450 4.2.0 later"}}
						}
						if err := x.mark(); err != nil {
							return err
						}
						row := h.row(store.SubmissionID(x.env.DSN.ID))
						next, e := row.Hold(store.HeldOutcomeUnknown, time.Time{}, row.Attempt)
						row, err := h.store.MoveSubmission(context.Background(), row, next, []events.Event{e}, store.MoveOps{})
						if err == nil {
							then(h, row)
						}
						slow.on.Store(true)
						return err
					})
					r := answer("bob@example.net", "cem@example.net")
					r.Preset = "mta" // the next attempt is far away
					id := h.submit(r)
					time.Sleep(20 * time.Second)
					row := h.row(id)
					if row.CopyState != smtpsend.AfterDone || row.FlagState != smtpsend.AfterDone || box.count() != 1 || len(box.flagged()) != 1 {
						t.Errorf("%s, copy %q, flag %q, %d in Sent, %v", row.State, row.CopyState, row.FlagState, box.count(), box.flagged())
					}
					if told := h.short("ada"); !slices.Equal(told, []string{"Queued", "Held", "Sent"}) {
						t.Error(told)
					}
				})
			})
		}
	}
}
