package smtpsend

import (
	"context"
	"errors"
	"time"

	"github.com/postrider/postrider/store"
)

// held is a submission that must wait for long, shown as held; nil: it need not be. What is
// scheduled is, until its time has come.
func held(row store.Submission, reason string, until time.Time) *step {
	now := time.Now()
	switch {
	case row.Due().After(until.Add(-holdFrom)):
		return nil
	case row.State == store.SubmissionScheduled && row.Due().After(now.Add(holdFrom)): // Redis' clock may be ahead
		return nil
	case row.State != store.SubmissionQueued && row.State != store.SubmissionScheduled:
		return nil
	}
	s := moment{now: now}.step(row)
	s.hold(reason, until, row.Attempt+1)
	return s
}

// holdOne shows one submission as held, with an event.
func (c *core) holdOne(ctx context.Context, id store.SubmissionID, reason string, until time.Time) {
	row, err := c.store.Submission(ctx, id)
	if err == nil {
		if s := held(row, reason, until); s != nil {
			_, err = c.move(ctx, row, s, store.MoveOps{})
		}
	}
	if unlessMoved(err) != nil && ctx.Err() == nil {
		c.log.WarnContext(ctx, "submission not held", "submission", id, "reason", reason, "err", err)
	}
}

// holdAll shows what must wait for long as held, each submission with one event: all that
// waits, or only what goes by the account's own server. It reads all that is due: once for
// the same time.
func (c *core) holdAll(ctx context.Context, account store.AccountID, reason string, until time.Time, own bool) {
	if !c.hosts.holds(account, until) {
		return
	}
	err := c.waiting(ctx, account, until.Add(-holdFrom), func(row store.Submission) *step {
		if own && row.Gateway != "" {
			return nil
		}
		return held(row, reason, until)
	})
	if err != nil {
		c.hosts.holds(account, time.Time{}) // the next look does it
	}
	if err != nil && ctx.Err() == nil {
		c.log.WarnContext(ctx, "submissions not held", "account", account, "reason", reason, "err", err)
	}
}

const (
	movesAtOnce = 100    // of one script
	waitingMost = 10_000 // submissions looked at; those behind them come to their own claims
)

// waiting makes steps of an account's submissions that are due by a time, a hundred at
// once; f answers nil for those that stay. One to which something else happened meanwhile
// is left to the next look.
func (c *core) waiting(ctx context.Context, account store.AccountID, by time.Time, f func(store.Submission) *step) error {
	for offset := 0; offset < waitingMost; {
		rows, err := c.store.WaitingSubmissions(ctx, account, by, offset, movesAtOnce)
		if err != nil || len(rows) == 0 {
			return err
		}
		var moves []store.Move
		var ops store.MoveOps
		left := 0 // what stays in the range that is read
		for _, row := range rows {
			s := f(row)
			if s == nil {
				left++
				continue
			}
			if s.row.Waiting() && !s.row.Due().After(by) {
				left++
			}
			ops.Forget = c.forget(row, s)
			moves = append(moves, store.Move{Was: row, Next: s.row, Events: s.events})
		}
		if err := c.moveAll(ctx, moves, ops); err != nil {
			return err
		}
		offset += max(left, 1)
		if len(rows) < movesAtOnce {
			return nil
		}
	}
	return nil
}

// moveAll makes steps at once, or one by one where something else happened to one of them.
func (c *core) moveAll(ctx context.Context, moves []store.Move, ops store.MoveOps) error {
	_, err := c.store.MoveSubmissions(ctx, moves, ops)
	if !errors.Is(err, store.ErrStale) {
		return err
	}
	for i := range moves {
		if _, err := c.store.MoveSubmissions(ctx, moves[i:i+1], ops); unlessMoved(err) != nil {
			return err
		}
	}
	return nil
}
