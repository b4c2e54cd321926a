package smtpsend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/hibiken/asynq"

	"github.com/postrider/postrider/internal/carrier"
	"github.com/postrider/postrider/store"
)

// The types of tasks.
const (
	TaskSubmit = "send:submit" // one submission, and then others of its account
	TaskWake   = "send:wake"   // what is due of an account
	TaskAfter  = "send:after"  // what follows a message that was sent, or may have been
)

// payload is what a task holds: ids, no addresses, nothing of the message.
type payload struct {
	V       int                `json:"v"` // 1
	Account store.AccountID    `json:"account"`
	QueueID store.SubmissionID `json:"queueId,omitempty"`
	N       uint64             `json:"n,omitempty"` // version of the row when the task was made
	At      int64              `json:"at,omitempty"`
	Step    string             `json:"step,omitempty"` // of TaskAfter
}

const (
	taskTime  = 65 * time.Minute // the longest transaction, and some
	afterTime = 10 * time.Minute
)

// carry makes the task of a submission that waits. What fails is logged and not repeated:
// the sweeper finds what is due and nobody carries.
func (c *core) carry(ctx context.Context, row store.Submission) {
	if !row.Waiting() {
		return
	}
	p := payload{V: 1, Account: row.Account, QueueID: row.ID, N: row.Version}
	if err := c.enqueue(ctx, TaskSubmit, taskID(row), p, row.Due(), taskTime); err != nil {
		c.log.WarnContext(ctx, "submission not enqueued", "submission", row.ID, "err", err)
	}
}

// taskID names what a task was made for: it can be made again.
func taskID(row store.Submission) string { return fmt.Sprintf("%s.%d", row.ID, row.Version) }

// wake makes a task that sends what is due of an account at a time, or now.
func (c *core) wake(ctx context.Context, account store.AccountID, at time.Time) error {
	if at.IsZero() {
		at = time.Now()
	}
	return c.wakeFor(ctx, account, strconv.FormatInt(at.UnixMilli(), 10), at)
}

// wakeFor is wake for a reason that no other such task of the account has: a task that
// runs already is not as good where all were asked for at once.
func (c *core) wakeFor(ctx context.Context, account store.AccountID, reason string, at time.Time) error {
	p := payload{V: 1, Account: account, At: at.UnixMilli()}
	return c.enqueue(ctx, TaskWake, "wake."+string(account)+"."+reason, p, at, taskTime)
}

// enqueue makes a task, due at a time. One that is there already is as good: its id says
// what it is for.
func (c *core) enqueue(ctx context.Context, kind, id string, p payload, due time.Time, timeout time.Duration) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	opts := []asynq.Option{asynq.Queue(TaskQueue), asynq.TaskID(id), asynq.MaxRetry(carrier.MaxRetry), asynq.Timeout(timeout)}
	if due.After(time.Now()) {
		opts = append(opts, asynq.ProcessAt(carrier.At(due)))
	}
	_, err = c.asynq.EnqueueContext(ctx, asynq.NewTask(kind, b), opts...)
	if err != nil && !errors.Is(err, asynq.ErrTaskIDConflict) {
		return fmt.Errorf("enqueue %s: %w", id, err)
	}
	return nil
}

// result is how the task of a submission ends: as its row says.
func result(row store.Submission) error {
	last := store.Outcome{}
	if row.Last != nil {
		last = *row.Last
	}
	switch {
	case row.State == store.SubmissionFailed:
		return fmt.Errorf("%s · attempt %d/%d · failed (%s): %w", last.Error, row.Attempt, row.Attempts, row.Reason, asynq.SkipRetry)
	case row.Waiting() && row.Due().After(time.Now()):
		text := string(row.State)
		if row.Attempt > 0 {
			text = fmt.Sprintf("%s · attempt %d/%d", last.Error, row.Attempt, row.Attempts)
		}
		return &carrier.Later{Due: row.Due(), Text: text + ", next " + carrier.At(row.Due()).UTC().Format(time.TimeOnly+"Z")}
	}
	return nil
}
