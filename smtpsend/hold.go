package smtpsend

import (
	"context"
	"errors"
	"time"

	"github.com/postrider/postrider/store"
)

// holdAll shows what must wait for long as held, each submission with one event.
func (c *core) holdAll(ctx context.Context, account store.AccountID, reason string, until time.Time) {
	err := c.waiting(ctx, account, until.Add(-holdFrom), func(row store.Submission) *step {
		if row.State != store.SubmissionQueued {
			return nil
		}
		s := moment{now: time.Now()}.step(row)
		s.hold(reason, until, row.Attempt+1)
		return s
	})
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
		left := 0 // what stays in the range that is read
		for _, row := range rows {
			s := f(row)
			if s == nil {
				left++
				continue
			}
			if !s.row.Due().After(by) {
				left++
			}
			moves = append(moves, store.Move{Was: row, Next: s.row, Events: s.events})
		}
		if err := c.moveAll(ctx, moves); err != nil {
			return err
		}
		offset += max(left, 1)
		if len(rows) < movesAtOnce {
			return nil
		}
	}
	return nil
}

func (c *core) moveAll(ctx context.Context, moves []store.Move) error {
	if len(moves) == 0 {
		return nil
	}
	_, err := c.store.MoveSubmissions(ctx, moves, store.MoveOps{})
	if !errors.Is(err, store.ErrStale) {
		return err
	}
	for _, m := range moves { // one of them went on
		if _, err := c.store.MoveSubmission(ctx, m.Was, m.Next, m.Events, store.MoveOps{}); err != nil && !errors.Is(err, store.ErrStale) {
			return err
		}
	}
	return nil
}
