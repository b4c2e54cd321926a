// Package carrier is what the two asynq servers share: how their words are logged, how
// a task says when it wants to come back, and that asynq knows whole seconds only.
//
// What a task stands for is the truth of store's rows and lanes; asynq carries, shows and
// wakes.
package carrier

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/hibiken/asynq"
)

// MaxRetry is how often asynq may bring a task back: it must never be the one to give up.
const MaxRetry = 1_000_000

// At is when asynq is to bring a task back: it keeps whole seconds and cuts the rest off,
// so a due time is rounded up, or the try would be early.
func At(due time.Time) time.Time {
	if t := due.Truncate(time.Second); !t.Equal(due) {
		return t.Add(time.Second)
	}
	return due
}

// Later is a task's result that asks asynq to bring it back at a time. Its text is what
// asynqmon shows under Retry.
type Later struct {
	Due  time.Time
	Text string
	Free bool // it is no try: asynq does not count it
}

func (e *Later) Error() string { return e.Text }

// Ours says whether a task's result is one that it chose: it comes back later, or it was
// given up. Any other error means that it could not be done at all.
func Ours(err error) bool {
	_, later := errors.AsType[*Later](err)
	return later || errors.Is(err, asynq.SkipRetry)
}

// Counts is an asynq.Config.IsFailure: whether a result is a try.
func Counts(err error) bool {
	later, ok := errors.AsType[*Later](err)
	return err != nil && (!ok || !later.Free)
}

// RetryDelay is an asynq.RetryDelayFunc. A task that could not be done at all comes back
// within a minute; a sweeper gives what it stood for another one meanwhile.
func RetryDelay(n int, err error, _ *asynq.Task) time.Duration {
	if later, ok := errors.AsType[*Later](err); ok {
		return max(0, time.Until(At(later.Due)))
	}
	return min(time.Duration(n+1)*5*time.Second, time.Minute)
}

// Pause waits, or answers why ctx ended.
func Pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Log passes asynq's words on. It warns of every retry, which is no news to us: what it
// says below error is debug.
type Log struct{ To *slog.Logger }

// Debug implements asynq.Logger.
func (l Log) Debug(args ...any) { l.To.Debug("asynq", "msg", fmt.Sprint(args...)) }

// Info implements asynq.Logger.
func (l Log) Info(args ...any) { l.To.Debug("asynq", "msg", fmt.Sprint(args...)) }

// Warn implements asynq.Logger.
func (l Log) Warn(args ...any) { l.To.Debug("asynq", "msg", fmt.Sprint(args...)) }

// Error implements asynq.Logger.
func (l Log) Error(args ...any) { l.To.Error("asynq", "err", fmt.Sprint(args...)) }

// Fatal implements asynq.Logger. The parts of asynq that we use never call it; ending the
// program is not its business.
func (l Log) Fatal(args ...any) { l.To.Error("asynq", "err", fmt.Sprint(args...)) }
