package smtpsend

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/postrider/postrider/store"
)

const (
	sweepMost = 100              // rows or accounts of a shard looked at in one round
	carryIn   = 3 * time.Second  // within which what is due is carried, if its task lives, and
	drainIn   = 15 * time.Second // if somebody sends for the account
)

// Sweeper carries on what nobody carries: due submissions without a task, claims of who
// died, unknown outcomes that nobody looks into, copies that nobody makes. Every process
// runs one; all it does may be done twice.
type Sweeper struct {
	core   *core
	later  int // how many scheduled submissions of a shard were looked at: Run's
	behind int // how many due accounts of a shard: Run's
}

// Run sweeps until ctx ends.
func (s *Sweeper) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		s.core.alarms.Run(ctx, func(account string) {
			if err := s.core.wake(ctx, store.AccountID(account), time.Time{}); err != nil && ctx.Err() == nil {
				s.core.log.Warn("account not woken", "account", account, "err", err) // the next round does it
			}
		})
	})
	tick := time.NewTicker(s.core.cfg.Sweep)
	defer tick.Stop()
	bury := true
	for {
		err := s.round(ctx, bury)
		if err != nil && ctx.Err() == nil {
			s.core.log.Warn("sweep of the outbox", "err", err)
		}
		bury = bury && err != nil
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// round looks at everything once. bury asks for the claims of those too that had this
// instance's name before: there is one at a time, so they are dead.
func (s *Sweeper) round(ctx context.Context, bury bool) error {
	var errs []error
	if bury {
		errs = append(errs, s.bury(ctx))
	}
	lost, err := s.core.store.LostSubmissions(ctx, sweepMost)
	errs = append(errs, err, s.recover(ctx, lost))
	errs = append(errs, s.carry(ctx), s.lookInto(ctx), s.count(ctx))
	removed, err := s.core.store.SweepOutbox(ctx)
	if removed > 0 {
		s.core.log.Debug("submissions forgotten", "rows", removed)
	}
	return errors.Join(append(errs, err)...)
}

// bury recovers what a process of our name had claimed.
func (s *Sweeper) bury(ctx context.Context) error {
	rows, err := s.core.store.ProcessingSubmissions(ctx, 10*sweepMost)
	if err != nil {
		return err
	}
	var dead []store.Submission
	for _, row := range rows {
		if row.Owner != s.core.owner && strings.HasPrefix(row.Owner, s.core.instance+"/") {
			dead = append(dead, row)
		}
	}
	return s.recover(ctx, dead)
}

// recover takes submissions from who claimed them and is dead.
func (s *Sweeper) recover(ctx context.Context, rows []store.Submission) error {
	var errs []error
	for _, row := range rows {
		if ctx.Err() != nil {
			break
		}
		if row.State != store.SubmissionProcessing {
			continue
		}
		now, err := s.core.store.Now(ctx)
		if err != nil {
			return err
		}
		st := s.core.moment(now, 0).recover(row)
		next, err := s.core.move(ctx, row, st, store.MoveOps{Recover: true, GiveBack: st.giveBack(row)})
		switch {
		case errors.Is(err, store.ErrStale), errors.Is(err, store.ErrNotFound):
			continue // it lives, or its account does not
		case err != nil:
			errs = append(errs, err)
			continue
		}
		s.core.m.recovered.WithLabelValues(row.Stage).Inc()
		s.core.log.Info("submission recovered", "account", row.Account, "submission", row.ID, "attempt", row.Attempt, "stage", row.Stage, "state", next.State)
		s.core.follow(ctx, next)
	}
	return errors.Join(errs...)
}

// carry gives accounts a task that have something due and nobody who sends it.
func (s *Sweeper) carry(ctx context.Context) error {
	spools, err := s.core.store.DueSpools(ctx, 0, sweepMost)
	if err != nil {
		return err
	}
	if len(spools) >= sweepMost { // the first may be such as cannot be helped: a page of those behind them
		s.behind += sweepMost
		more, err := s.core.store.DueSpools(ctx, s.behind, sweepMost)
		if err != nil {
			return err
		}
		if len(more) == 0 {
			s.behind = 0
		}
		spools = append(spools, more...)
	}
	now, err := s.core.store.Now(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, sp := range spools {
		if waits := now.Sub(sp.Since); waits < carryIn || sp.Active > 0 && waits < drainIn {
			continue // tasks may be on their way, and who sends drains unless the server hangs
		}
		if sp.Active == 0 {
			s.core.m.revived.Inc()
		}
		// One task a round: its id is the same in all processes.
		errs = append(errs, s.core.wake(ctx, sp.Account, now.Truncate(s.core.cfg.Sweep)))
	}
	return errors.Join(errs...)
}

// lookInto sees to what ends by itself, and whose task may be lost: unknown, a copy or a flag
// that is pending, and waiting for too long.
func (s *Sweeper) lookInto(ctx context.Context) error {
	now, err := s.core.store.Now(ctx)
	if err != nil {
		return err
	}
	page, err := s.core.store.Submissions(ctx, store.SubmissionQuery{States: []store.SubmissionState{store.SubmissionUnknown}, Limit: sweepMost})
	if err != nil {
		return err
	}
	for _, row := range page.Submissions {
		if now.Before(probeAt(row, len(probeUnknown())-1)) {
			s.core.follow(ctx, row)
		}
	}
	after, err := s.core.store.AfterSubmissions(ctx, sweepMost)
	for _, row := range after {
		s.core.copyAndFlag(ctx, row)
	}
	return errors.Join(err, s.abandon(ctx, now), s.expire(ctx, now))
}

// abandon has rows go that stayed unknown for as long as they are kept, and tells of whom
// they had not been offered to.
func (s *Sweeper) abandon(ctx context.Context, now time.Time) error {
	rows, err := s.core.store.UnsettledSubmissions(ctx, sweepMost)
	errs := []error{err}
	for _, row := range rows {
		if row.State != store.SubmissionUnknown {
			continue
		}
		st := s.core.moment(now, 0).abandon(row)
		_, err := s.core.store.MoveSubmission(ctx, row, st.row, st.events, store.MoveOps{Forget: now})
		errs = append(errs, unlessMoved(err))
	}
	return errors.Join(errs...)
}

// unlessMoved is the error of a step, but where the row was moved or removed meanwhile.
func unlessMoved(err error) error {
	if errors.Is(err, store.ErrStale) || errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// expire gives up what has waited too long, whatever for: claims never come to what is held,
// paused or asleep. Of what is scheduled most is not due yet, so a round sees a page of it.
func (s *Sweeper) expire(ctx context.Context, now time.Time) error {
	var errs []error
	for offset := 0; offset < store.MaxSubmissionOffset; offset += sweepMost {
		n, err := s.expirePage(ctx, now, offset, store.SubmissionQueued, store.SubmissionHeld)
		errs = append(errs, err)
		if n == 0 {
			break
		}
	}
	n, err := s.expirePage(ctx, now, s.later, store.SubmissionScheduled)
	if s.later += sweepMost; n < sweepMost { // no shard has more
		s.later = 0
	}
	return errors.Join(append(errs, err)...)
}

// expirePage gives up what is overdue of the old submissions behind an offset, and says how
// many it looked at.
func (s *Sweeper) expirePage(ctx context.Context, now time.Time, offset int, states ...store.SubmissionState) (int, error) {
	m := s.core.moment(now, 0)
	rows, err := s.core.store.OldSubmissions(ctx, now.Add(-m.maxAge), offset, sweepMost, states...)
	errs := []error{err}
	for _, row := range rows {
		if now.Before(m.deadline(row)) {
			continue // it was to be sent later
		}
		_, err := s.core.move(ctx, row, m.expire(row), store.MoveOps{})
		errs = append(errs, unlessMoved(err))
	}
	return len(rows), errors.Join(errs...)
}

// count sets the gauges.
func (s *Sweeper) count(ctx context.Context) error {
	t, err := s.core.store.OutboxTotals(ctx)
	if err != nil {
		return err
	}
	for _, state := range store.SubmissionStates {
		s.core.m.submissions.WithLabelValues(string(state)).Set(float64(t.States[state]))
	}
	s.core.m.queuedBytes.Set(float64(t.Bytes))
	age := 0.0
	if !t.Oldest.IsZero() {
		age = max(0, time.Since(t.Oldest).Seconds())
	}
	s.core.m.oldestDue.Set(age)
	return nil
}
