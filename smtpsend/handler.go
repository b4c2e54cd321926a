package smtpsend

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/hibiken/asynq"

	"github.com/postrider/postrider/internal/carrier"
	"github.com/postrider/postrider/store"
)

const (
	lease      = time.Minute
	renewEvery = 15 * time.Second
	turnMost   = 200              // submissions that one task sends, and
	turnTime   = 10 * time.Second // its time, before another task goes on
	writeLimit = 5 * time.Second  // one write
	recordFor  = 15 * time.Minute // how long a reply is kept that cannot be recorded
)

// handler does the tasks.
type handler struct {
	*core
	server *Server
}

// ProcessTask implements asynq.Handler. It may be run twice, or for a submission that
// another task sends by now: claims decide.
func (h *handler) ProcessTask(ctx context.Context, t *asynq.Task) (err error) {
	defer func() {
		if v := recover(); v != nil {
			h.m.panics.Inc()
			h.log.Error("panic while sending", "err", fmt.Sprint(v), "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", v)
		}
		if t.Type() == TaskWake { // the sweeper makes another one; they must not pile up
			err = nil
		}
	}()
	var p payload
	if err := json.Unmarshal(t.Payload(), &p); err != nil {
		return fmt.Errorf("task payload: %w: %w", err, asynq.SkipRetry)
	}
	switch t.Type() {
	case TaskSubmit, TaskWake:
		err = h.turn(ctx, p)
	case TaskAfter:
		err = h.after(ctx, p)
	default:
		return fmt.Errorf("task of unknown type %q: %w", t.Type(), asynq.SkipRetry)
	}
	if err != nil && !carrier.Ours(err) && ctx.Err() == nil {
		h.log.Warn("task not done", "task", t.Type(), "account", p.Account, "submission", p.QueueID, "err", err)
	}
	return err
}

// turn sends one submission, and then what else is due of its account, for a while.
func (h *handler) turn(ctx context.Context, p payload) error {
	run := &run{handler: h, account: p.Account}
	err := run.one(ctx, p.QueueID)
	if !run.claimed {
		return err
	}
	begun := time.Now()
	for n := 1; ; n++ {
		if h.server.draining.Load() || ctx.Err() != nil || run.crowded {
			return err // the sweeper, or another process, goes on
		}
		if n >= turnMost || time.Since(begun) >= turnTime {
			if werr := h.wake(ctx, p.Account, time.Time{}); werr != nil {
				h.log.Warn("account not handed on", "account", p.Account, "err", werr)
			}
			return err
		}
		if oerr := run.one(ctx, ""); oerr != nil && !carrier.Ours(oerr) {
			return errors.Join(err, oerr)
		}
		if !run.claimed {
			return err
		}
	}
}

// accountFor is how long a turn goes on with an account's servers and credentials as it
// read them.
const accountFor = time.Second

// run is a turn with an account. One goroutine owns it.
type run struct {
	*handler
	account store.AccountID
	record  store.Account
	set     store.Settings
	read    time.Time
	at      *place         // of the submission that is being sent
	known   *store.Sending // of the account, as it was read or written in this turn
	claimed bool           // the last call of one had something to send
	crowded bool           // the last attempt got no connection, or nothing out of Redis
	spreads bool           // something was claimed in this turn before
}

// refresh reads the account again when what is known of it is old.
func (r *run) refresh(ctx context.Context) (err error) {
	if time.Since(r.read) < accountFor {
		return nil
	}
	if r.record, err = r.store.Account(ctx, r.account); err != nil {
		return err
	}
	if r.set, err = r.store.Settings(ctx); err != nil {
		return err
	}
	r.read = time.Now()
	return nil
}

// one claims a submission, or the first one due with "", and sends it. Its answer is the
// result of the submission's task.
func (r *run) one(ctx context.Context, id store.SubmissionID) error {
	r.claimed = false
	if err := r.refresh(ctx); err != nil {
		if errors.Is(err, store.ErrNotFound) {
			return nil // it was deleted, and its submissions with it
		}
		return err
	}
	slots, limits, host := r.pace(r.record)
	at, own, wait := r.server.share.take(r.account, host, time.Now())
	if wait > 0 {
		r.alarms.Set(string(r.account), time.Now().Add(wait))
	}
	if at == nil { // like a slot: who has one goes on; those who only look may all find nothing
		return nil
	}
	r.at = at
	defer r.server.share.give(at)
	if own {
		var again time.Time
		if again, own = r.hosts.enter(host, time.Now()); !own {
			r.alarms.Set(string(r.account), again)
		}
	}
	c, err := r.store.ClaimSubmission(ctx, store.Claim{
		Account: r.account, ID: id, Owner: r.owner, Lease: lease, Slots: r.hosts.slots(r.account, slots, time.Now()), Limits: limits, WarnAt: r.set.SendLimitWarnAt,
		Elsewhere: !own,
	})
	if own && (c.Answer != store.ClaimOK || c.Submission.Gateway != "") {
		r.hosts.leave(host)
	}
	if err != nil {
		return err
	}
	for _, f := range c.Limits {
		if err := r.store.TellLimit(ctx, r.account, f, 0); err != nil {
			r.log.WarnContext(ctx, "limit not told", "account", r.account, "err", err) // the next claim does it
		}
	}
	switch c.Answer {
	case store.ClaimOK:
	case store.ClaimNotDue: // by Redis' clock; ours may be ahead
		return cmp.Or(r.resultOf(ctx, id), error(&carrier.Later{Due: soon(c.Until), Text: "not due yet"}))
	case store.ClaimGone:
		return r.resultOf(ctx, id)
	case store.ClaimPaced:
		r.alarms.Set(string(r.account), time.Now().Add(c.Until.Sub(c.Now)))
		return nil
	case store.ClaimAsleep, store.ClaimLimit:
		r.alarms.Set(string(r.account), soon(c.Until))
		switch {
		case c.Reason != store.HeldSendLimit && c.Reason != store.HeldAuthentication:
		case id == "":
			r.holdAll(ctx, r.account, c.Reason, c.Until, c.Answer == store.ClaimAsleep)
		default: // the others have tasks of their own
			r.holdOne(ctx, id, c.Reason, c.Until)
		}
		return nil
	default: // parked: who has the slot goes on with it, and what is not due has its own task
		return nil
	}
	r.claimed = true
	r.spread(ctx, c)
	deliver := r.send
	if !c.Now.Before(r.moment(c.Now, 0).deadline(c.Submission)) {
		deliver = r.giveUp
	}
	row, err := deliver(ctx, c)
	if err != nil {
		return err
	}
	res := result(row)
	if id == "" && res != nil { // drained for another task: it gets one that ends as its row says
		r.end(ctx, row)
		return nil
	}
	return res
}

// giveUp ends a submission whose time was over before its turn came.
func (r *run) giveUp(ctx context.Context, c store.Claimed) (store.Submission, error) {
	row := c.Submission
	row.Attempt-- // none is made
	back := store.Charge{Messages: 1, Recipients: len(row.Pending)}
	return r.move(ctx, c.Submission, r.moment(c.Now, 0).expire(row), store.MoveOps{Untried: true, GiveBack: back})
}

// soon is a time by Redis' clock at which to look again: by ours, which may be ahead, not
// at once.
func soon(at time.Time) time.Time {
	if least := time.Now().Add(time.Second); at.Before(least) {
		return least
	}
	return at
}

// spread has another task go on with what else is due, at the first claim of a turn: so
// an account that wakes gets as many as it has slots. The one that finds none free ends.
func (r *run) spread(ctx context.Context, c store.Claimed) {
	if r.spreads || c.Probe || c.Next.IsZero() || c.Next.After(c.Now) {
		return
	}
	r.spreads = true
	if err := r.wakeFor(ctx, r.account, taskID(c.Submission), time.Now()); err != nil {
		r.log.WarnContext(ctx, "account not handed on", "account", r.account, "err", err) // one slot goes on alone
	}
}

// sending is what the account's sending is known for, as far as Redis says so now.
func (r *run) sending(ctx context.Context) store.Sending {
	if r.known == nil {
		k, err := r.store.Sending(ctx, r.account)
		if err != nil {
			return k
		}
		r.known = &k
	}
	return *r.known
}

// resultOf is how the task of a submission ends that is not to be sent now.
func (r *run) resultOf(ctx context.Context, id store.SubmissionID) error {
	if id == "" {
		return nil
	}
	row, err := r.store.Submission(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return result(row)
}
