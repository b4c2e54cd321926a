package smtpsend

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hibiken/asynq"

	"github.com/postrider/postrider/internal/carrier"
	"github.com/postrider/postrider/smtpsend/compose"
	"github.com/postrider/postrider/store"
)

// The steps of TaskAfter.
const (
	stepCopy  = "copy"  // into the Sent folder
	stepFlag  = "flag"  // the message that was answered or forwarded
	stepProbe = "probe" // the Sent folder, for a message whose outcome is unknown
)

// The states of a copy, and of a flag.
const (
	AfterPending = store.AfterPending
	AfterDone    = "done"
	AfterFound   = "found"   // the server had done it
	AfterSkipped = "skipped" // there is nothing to do it in
	AfterFailed  = "failed"
)

// follow sees to what follows of a row outside of a turn: a task for what waits, and those
// for what is unknown.
func (c *core) follow(ctx context.Context, row store.Submission) {
	switch {
	case row.Waiting():
		c.carry(ctx, row)
	case row.State == store.SubmissionUnknown && c.mailbox != nil:
		c.enqueueAfter(ctx, row, fmt.Sprintf("%s.%d", stepProbe, row.Attempt), stepProbe, probeAt(row, 0))
	}
	c.copyAndFlag(ctx, row)
}

// copyAndFlag makes the tasks of a copy and a flag that are pending. Each is made once.
func (c *core) copyAndFlag(ctx context.Context, row store.Submission) {
	if row.FlagState == AfterPending {
		c.enqueueAfter(ctx, row, stepFlag, stepFlag, time.Time{})
	}
	if row.CopyState == AfterPending {
		c.enqueueAfter(ctx, row, stepCopy, stepCopy, time.Time{})
	}
}

func (c *core) enqueueAfter(ctx context.Context, row store.Submission, name, step string, at time.Time) {
	p := payload{V: 1, Account: row.Account, QueueID: row.ID, Step: step}
	if err := c.enqueue(ctx, TaskAfter, string(row.ID)+"."+name, p, at, afterTime); err != nil {
		c.log.WarnContext(ctx, "not enqueued", "task", TaskAfter, "step", step, "submission", row.ID, "err", err)
	}
}

// before makes the tasks of what follows a message that is sent, before it is written that
// it is: a process that dies in between has not forgotten them. They wait for the row.
func (c *core) before(ctx context.Context, s *step) {
	if len(s.sentTo) > 0 {
		c.copyAndFlag(ctx, s.row)
	}
}

const (
	afterTries = 6
	afterWait  = 2 * time.Second // for a row that is about to be written
)

// afterDelays are the pauses between the tries of what follows: six in 24 h.
func afterDelays() []time.Duration {
	return []time.Duration{time.Minute, 10 * time.Minute, time.Hour, 5 * time.Hour, 17 * time.Hour}
}

// after does a task of what follows.
func (h *handler) after(ctx context.Context, p payload) error {
	row, err := h.store.Submission(ctx, p.QueueID)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if row.State == store.SubmissionProcessing {
		return &carrier.Later{Due: time.Now().Add(afterWait), Text: "not written yet", Free: true}
	}
	if h.mailbox == nil {
		return &carrier.Later{Due: time.Now().Add(time.Minute), Text: "this process has no mailboxes", Free: true}
	}
	tries, _ := asynq.GetRetryCount(ctx)
	switch p.Step {
	case stepCopy:
		err = h.copyTo(ctx, row, tries)
	case stepFlag:
		err = h.flag(ctx, row, tries)
	case stepProbe:
		err = h.probe(ctx, row)
	default:
		err = fmt.Errorf("unknown step %q: %w", p.Step, asynq.SkipRetry)
	}
	if errors.Is(err, store.ErrNotFound) { // the account went, and its submissions with it
		return nil
	}
	return err
}

// flag marks the message that was answered or forwarded.
func (h *handler) flag(ctx context.Context, row store.Submission, tries int) error {
	if row.FlagState != AfterPending || row.Reference == nil {
		return nil
	}
	flag := `\Answered`
	if row.Reference.Action == string(compose.Forward) {
		flag = `$Forwarded`
	}
	err := h.mailbox.AddFlags(ctx, row.Account, row.Reference.Message, flag)
	return h.afterwards(ctx, row, tries, AfterDone, err, func(row *store.Submission, state, why string) { row.FlagState, row.FlagError = state, why })
}

// afterwards writes what became of a try, and says when the next one is.
func (h *handler) afterwards(ctx context.Context, row store.Submission, tries int, done string, err error, set func(row *store.Submission, state, why string)) error {
	state, why := done, ""
	var next error
	switch {
	case err == nil:
	case errors.Is(err, ErrNoMessage), errors.Is(err, ErrNoFolder), errors.Is(err, store.ErrNotFound):
		state, why = AfterSkipped, named(err)
	case tries+1 >= afterTries:
		state, why = AfterFailed, err.Error()
		next = fmt.Errorf("%w: %w", err, asynq.SkipRetry)
	default:
		state, why = AfterPending, err.Error()
		next = &carrier.Later{Due: time.Now().Add(afterDelays()[min(tries, afterTries-2)]), Text: err.Error()}
	}
	if werr := h.write(ctx, row.ID, func(row *store.Submission) { set(row, state, why) }); werr != nil {
		return werr
	}
	if err != nil {
		h.log.InfoContext(ctx, "not done after sending", "account", row.Account, "submission", row.ID, "state", state, "err", err)
	}
	return next
}

// named is how an error is shown on the row.
func named(err error) string {
	switch {
	case errors.Is(err, ErrNoFolder):
		return "NoSentFolder"
	case errors.Is(err, ErrNoMessage):
		return "NoMessage"
	}
	return "NoMailbox"
}

// write changes a row that nobody sends at the moment.
func (h *handler) write(ctx context.Context, id store.SubmissionID, change func(*store.Submission)) error {
	for try := 0; ; try++ {
		was, err := h.store.Submission(ctx, id)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if was.State == store.SubmissionProcessing { // its sender's write must find what it claimed
			return &carrier.Later{Due: time.Now().Add(afterWait), Text: "it is being sent to others", Free: true}
		}
		now, err := h.store.Now(ctx)
		if err != nil {
			return err
		}
		s := h.moment(now, 0).step(was)
		change(&s.row)
		if _, err = h.move(ctx, was, s, store.MoveOps{}); !errors.Is(err, store.ErrStale) || try == 4 {
			return err
		}
	}
}
