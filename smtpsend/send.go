package smtpsend

import (
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/internal/carrier"
	"github.com/postrider/postrider/smtpsend/transport"
	"github.com/postrider/postrider/store"
)

// errLeaseLost ends a transaction whose claim is another's by now.
var errLeaseLost = errors.New("claim lost")

// send makes one transaction of a claimed submission and writes down what became of it.
func (r *run) send(ctx context.Context, c store.Claimed) (store.Submission, error) {
	row, begun := c.Submission, time.Now()
	r.m.wait.Observe(max(0, c.Now.Sub(row.Due()).Seconds()))
	w, err := r.way(ctx, r.record, r.set, row.Gateway)
	env := envelope(row, w.profile)
	var rec transport.Receipt
	switch {
	case errors.Is(err, ErrNoServer), errors.Is(err, ErrNoGateway): // it was there when this was accepted
		err = &transport.Error{Phase: transport.PhaseConnect, Kind: transport.KindConnect, Err: err}
	case err == nil:
		r.server.share.goes(r.at, w.host)
		rec, err = r.transact(w, row, env)
	}
	took := time.Since(begun)
	r.crowded = errors.Is(err, transport.ErrBusy) || given(err)
	e, _ := errors.AsType[*transport.Error](err)
	if (errors.Is(err, errLeaseLost) || errors.Is(err, store.ErrStale)) && (e == nil || !e.Unknown) {
		r.m.leaseLost.Inc()
		r.log.InfoContext(ctx, "claim lost, nothing was sent", "account", row.Account, "submission", row.ID, "attempt", row.Attempt)
		return r.store.Submission(ctx, row.ID) // whoever took it goes on
	}
	fails := 0
	if c.Probe {
		if sp, serr := r.store.Spool(ctx, row.Account); serr == nil {
			fails = sp.Sleep.Level
		}
	}
	// The clock is Redis' at the claim and ours since: a transaction is too short for them
	// to part.
	m := r.moment(c.Now.Add(took), fails)
	m.copies = r.copies(ctx, row, w)
	tail := row.Pending[len(env.To):] // not in this transaction
	rec.TooMany = slices.Concat(rec.TooMany, tail)
	judge := func(row store.Submission) *step {
		if err == nil {
			return m.sent(row, w.profile, rec)
		}
		e, ok := errors.AsType[*transport.Error](err)
		if !ok {
			e = &transport.Error{Kind: transport.KindLocal, Err: err}
		}
		if errors.Is(err, transport.ErrBusy) || e.Kind == transport.KindLocal && !e.Unknown && given(err) {
			s := m.putBack(row)
			if r.server.work.Err() == nil { // else another process goes on at once
				s.row.NextAttempt = m.now.Add(jitter(busyWait, m.chance))
			}
			return s
		}
		f := *e
		f.TooMany = slices.Concat(e.TooMany, tail)
		return m.failed(row, w.profile, &f)
	}
	s := judge(row)
	next, merr := r.settled(row, s, c.Probe, judge)
	r.note(ctx, w, row, s, rec, err)
	r.logAttempt(ctx, next, s, took, merr)
	return next, merr
}

// busyWait is the pause behind an attempt for which there was no connection, or no Redis.
const busyWait = 10 * time.Second

// given says whether an attempt ended for no fault of the message's or the server's: the
// process ends, or Redis is away.
func given(err error) bool {
	return errors.Is(err, errShutdown) || errors.Is(err, store.ErrUnavailable) || errors.Is(err, context.Canceled)
}

// transact hands the message over, under the lease of its claim. It does not end with its
// task: asynq gives a task up when Redis is away for half a minute, and a server may be
// about to answer then.
func (r *run) transact(w way, row store.Submission, env transport.Envelope) (transport.Receipt, error) {
	ctx, cancel := context.WithCancelCause(r.server.work)
	defer cancel(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	held, stop := context.WithCancel(ctx)
	defer stop()
	var marked atomic.Bool
	wg.Go(func() { r.keep(held, row, &marked, cancel) })
	r.m.active.Inc()
	defer r.m.active.Dec()
	rec, err := r.transport.Send(ctx, w.server, env, func(to io.Writer) error {
		body, err := r.store.OpenBody(ctx, row)
		if err == nil {
			_, err = body.WriteTo(to)
		}
		return err
	}, func(ctx context.Context, accepted []string) error {
		err := r.mark(ctx, row, accepted)
		marked.Store(err == nil)
		return err
	})
	if e, ok := errors.AsType[*transport.Error](err); err != nil && errors.Is(context.Cause(ctx), errLeaseLost) && (!ok || !e.Unknown) {
		return rec, errLeaseLost
	}
	return rec, err
}

// mark writes down that the server may have the message from now on. It is repeated while
// Redis is away for a moment: behind it nothing else stands between us and the dot.
func (r *run) mark(ctx context.Context, row store.Submission, accepted []string) error {
	var places []int
	for i, to := range row.To {
		if slices.Contains(accepted, to) {
			places = append(places, i)
		}
	}
	ctx, stop := context.WithTimeout(ctx, renewEvery)
	defer stop()
	return again(ctx, func(ctx context.Context) error {
		return r.store.MarkSubmission(ctx, row.ID, row.Fence, row.Attempt, places...)
	})
}

// keep renews the lease until ctx ends. When it is lost (Redis said so, or was not reached
// for as long as it holds) the transaction ends, unless it is marked: then the server's
// answer is worth more than the claim.
func (r *run) keep(ctx context.Context, row store.Submission, marked *atomic.Bool, cancel context.CancelCauseFunc) {
	end := time.Now().Add(lease)
	for {
		wait := renewEvery
		if left := time.Until(end) - writeLimit; left < wait {
			wait = max(left, time.Second)
		}
		if carrier.Pause(ctx, wait) != nil {
			return
		}
		asked := time.Now()
		wctx, stop := context.WithTimeout(ctx, writeLimit)
		err := r.store.RenewSubmission(wctx, row.ID, row.Fence, row.Attempt, lease)
		stop()
		switch {
		case err == nil:
			end = asked.Add(lease)
		case errors.Is(err, store.ErrStale), time.Now().After(end):
			if !marked.Load() {
				cancel(errLeaseLost)
			}
			return
		}
	}
}

// settled writes a step, for as long as it takes: what the server said must not be lost.
// Whoever made the row unknown or queued meanwhile, thinking us dead, knew less than we.
func (r *run) settled(was store.Submission, s *step, probe bool, judge func(store.Submission) *step) (store.Submission, error) {
	ctx, stop := context.WithTimeout(r.server.base, recordFor)
	defer stop()
	claimed := was
	for {
		var next store.Submission
		err := again(ctx, func(ctx context.Context) (err error) {
			r.before(ctx, s)
			next, err = r.move(ctx, was, s, r.ops(was, s, probe))
			return err
		})
		if !errors.Is(err, store.ErrStale) {
			if err == nil {
				r.asleep(ctx, s)
				if next.State == store.SubmissionUnknown || was.Version != claimed.Version { // late: tasks may have come and gone
					r.follow(ctx, next)
				}
			}
			return next, err
		}
		if err := again(ctx, func(ctx context.Context) (err error) { was, err = r.store.Submission(ctx, was.ID); return err }); err != nil {
			return store.Submission{}, err
		}
		late := was.State == store.SubmissionUnknown && s.row.State != was.State || was.Waiting() && len(s.sentTo) > 0
		if !late || was.Attempt != claimed.Attempt || was.ConfirmedBy != claimed.ConfirmedBy {
			r.log.WarnContext(ctx, "outcome not recorded, the submission went on", "account", was.Account, "submission", was.ID, "attempt", claimed.Attempt, "state", was.State)
			r.m.unrecorded.Inc()
			return was, nil
		}
		// Nothing was tried since: what was judged is what was claimed.
		was.Pending, was.Charged, was.PossibleDuplicate = claimed.Pending, min(was.Charged, claimed.Charged), claimed.PossibleDuplicate
		s = judge(was)
	}
}

// ops is what else the script of a step does.
func (r *run) ops(was store.Submission, s *step, probe bool) store.MoveOps {
	ops := store.MoveOps{Wake: probe && s.awake && s.own()}
	if s.sleep != "" && s.own() {
		ops.Sleep = &store.Sleep{Until: s.until, Reason: s.sleep, Level: s.fails + 1}
	}
	ops.GiveBack = s.giveBack(was)
	return ops
}

// giveBack is what the limits were charged for and the server certainly did not take.
func (s *step) giveBack(was store.Submission) (c store.Charge) {
	taken := len(s.sentTo) + len(s.perhaps)
	if taken == 0 {
		c.Messages = 1
	}
	c.Recipients = len(was.Pending) - taken
	return c
}

// move writes a step: the row, its events, and what every step of its kind asks for.
func (c *core) move(ctx context.Context, was store.Submission, s *step, ops store.MoveOps) (store.Submission, error) {
	ops.DropBody = s.row.State == store.SubmissionSent && s.row.CopyState != AfterPending
	if len(s.sentTo) > 0 {
		ops.SentLog = &store.SentLog{MessageIDs: ids(s.row), Recipients: s.sentTo, At: s.now}
	}
	ops.Forget = c.forget(was, s)
	return c.store.MoveSubmission(ctx, was, s.row, s.events, ops)
}

// forget is when a row is removed that a step ends; zero where it changes no state, and what
// was said before holds.
func (c *core) forget(was store.Submission, s *step) time.Time {
	keep, ok := map[store.SubmissionState]time.Duration{
		store.SubmissionSent: c.cfg.KeepSent, store.SubmissionUnknown: c.cfg.KeepUnknown,
		store.SubmissionFailed: c.cfg.KeepFailed, store.SubmissionCanceled: c.cfg.KeepFailed,
	}[s.row.State]
	if !ok || was.State == s.row.State {
		return time.Time{}
	}
	return s.now.Add(keep)
}

func ids(row store.Submission) []string {
	return slices.DeleteFunc([]string{row.MessageID, row.OriginalMessageID}, func(id string) bool { return id == "" })
}

// again repeats what may be repeated while Redis is away, or an account's state is about to
// be restored, until ctx ends.
func again(ctx context.Context, f func(context.Context) error) error {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		wctx, stop := context.WithTimeout(ctx, writeLimit)
		err := f(wctx)
		stop()
		if err == nil || !errors.Is(err, store.ErrUnavailable) && !errors.Is(err, store.ErrStateLost) {
			return err
		}
		if carrier.Pause(ctx, wait) != nil {
			return err
		}
	}
}

// asleep sees to what waits while the spool sleeps.
func (r *run) asleep(ctx context.Context, s *step) {
	if s.sleep == "" || !s.own() {
		return
	}
	r.m.sleeps.WithLabelValues(s.sleep).Inc()
	r.alarms.Set(string(r.account), s.until)
	if s.sleep != SleepServer {
		r.holdAll(ctx, r.account, s.sleep, s.until, true)
	}
}

// end makes a task for a submission that this turn sent for another one's: it ends as its
// row says.
func (r *run) end(ctx context.Context, row store.Submission) {
	p := payload{V: 1, Account: row.Account, QueueID: row.ID, N: row.Version}
	if err := r.enqueue(ctx, TaskSubmit, taskID(row), p, time.Time{}, taskTime); err != nil {
		r.log.WarnContext(ctx, "submission not enqueued", "submission", row.ID, "err", err)
	}
}

// note is what an attempt says about the server, and in figures.
func (r *run) note(ctx context.Context, w way, row store.Submission, s *step, rec transport.Receipt, err error) {
	last, stage := s.last(), string(transport.PhaseDot)
	e, failed := errors.AsType[*transport.Error](err)
	if failed {
		stage = string(e.Phase)
	}
	class, code := last.Class, "none"
	if err == nil {
		class = "ok"
	}
	if last.ResponseCode > 0 {
		code = strconv.Itoa(last.ResponseCode/100) + "xx"
	}
	r.m.attempts.WithLabelValues(class, last.Scope, code).Inc()
	r.m.seconds.WithLabelValues(stage).Observe(rec.Duration.Seconds())
	if rec.Reused {
		r.m.reused.Inc()
	}
	switch s.row.State {
	case store.SubmissionHeld:
		r.m.held.WithLabelValues(s.row.Reason).Inc()
	case store.SubmissionUnknown:
		r.m.unknown.WithLabelValues("none").Inc()
	}
	if failed && e.Kind == transport.KindLocal {
		return
	}
	if w.host != "" {
		r.server.share.learn(r.at, !failed || e.Code > 0, time.Now())
	}
	if !failed || !ownSettings(e, last, r.record.SMTPEHLOName) {
		r.hosts.report(w.host, r.account, failed && last.Scope == string(ScopeServer))
	}
	if last.Hint == HintConnections && s.own() {
		r.hosts.tooMany(r.account, time.Now())
	}
	if s.own() {
		r.tellContact(ctx, w, s, rec.MaxSize, e)
	} else {
		failure := ""
		if err != nil {
			failure = last.Error
		}
		if uerr := r.store.UseGateway(ctx, row.Gateway, failure); uerr != nil {
			r.log.DebugContext(ctx, "use of a gateway not noted", "gateway", row.Gateway, "err", uerr)
		}
	}
}

// ownSettings says whether an attempt failed by what an account has for itself, its trust or
// its EHLO name: that says nothing of the server, good or bad.
func ownSettings(e *transport.Error, last store.Outcome, ehloName string) bool {
	return last.Hint == HintTLS || ehloName != "" && e.Phase == transport.PhaseHello && e.Code/100 == 5
}

// logAttempt is the one line of an attempt.
func (r *run) logAttempt(ctx context.Context, row store.Submission, s *step, took time.Duration, err error) {
	attrs := []any{"account", r.account, "submission", s.row.ID, "attempt", s.row.Attempt, "state", row.State, "sent", len(s.sentTo), "dur", took}
	if s.row.Gateway != "" {
		attrs = append(attrs, "gateway", s.row.Gateway)
	}
	switch last := s.last(); {
	case err != nil:
		r.log.ErrorContext(ctx, "outcome of a submission not recorded", append(attrs, "err", err)...)
	case last.ErrorCode != "":
		r.log.InfoContext(ctx, "submission not sent", append(attrs, "code", last.ErrorCode, "reply", last.ResponseCode, "class", last.Class, "scope", last.Scope)...)
	default:
		r.log.InfoContext(ctx, "submission", attrs...)
	}
}
