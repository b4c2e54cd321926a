package smtpsend

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
)

// What a person may not ask of a submission.
var (
	// ErrActive: it is being sent at this moment.
	ErrActive = errors.New("submission is being sent")
	// ErrState: nothing of that kind can be done in the state it is in.
	ErrState = errors.New("not possible in this state")
)

// The values of a submission's onUnknown.
const (
	OnUnknownHold   = "hold"
	OnUnknownResend = "resend"
)

// Who confirmed that a message whose outcome was unknown had been taken.
const (
	ByOperator   = "operator"
	BySentFolder = "sentFolder"
)

// Resolution is how a person ends an unknown outcome.
type Resolution string

// The resolutions.
const (
	ResolveSent   Resolution = "sent"
	ResolveFailed Resolution = "failed"
	ResolveRetry  Resolution = "retry" // once more, which accepts a possible duplicate
)

func impossible(row store.Submission, what string) error {
	if row.State == store.SubmissionProcessing {
		return fmt.Errorf("%s %s: %w", what, row.ID, ErrActive)
	}
	return fmt.Errorf("%s %s, which is %s: %w", what, row.ID, row.State, ErrState)
}

// schedule makes it due: now, or at the time it is to be sent at.
func (s *step) schedule() {
	s.queue(s.row.Pending, s.now)
	if s.row.SendAt.After(s.now) {
		s.row.State, s.row.NextAttempt = store.SubmissionScheduled, s.row.SendAt
	}
}

// cancel ends a submission that waits. nil, nil: it was cancelled before.
func (m moment) cancel(row store.Submission) (*step, error) {
	switch row.State {
	case store.SubmissionCanceled:
		return nil, nil
	case store.SubmissionScheduled, store.SubmissionQueued, store.SubmissionHeld:
	default:
		return nil, impossible(row, "cancel")
	}
	s := m.step(row)
	s.fail(reasonCancelled, s.withDeferred(row.Pending))
	s.row.State = store.SubmissionCanceled
	return s, nil
}

// reschedule has it sent at another time; one that waits for a review goes on waiting.
func (m moment) reschedule(row store.Submission, at time.Time) (*step, error) {
	s := m.step(row)
	s.row.SendAt = at
	switch row.State {
	case store.SubmissionScheduled, store.SubmissionQueued:
		s.schedule()
	case store.SubmissionHeld:
		if row.Reason != store.HeldReview {
			s.schedule()
		}
	default:
		return nil, impossible(row, "reschedule")
	}
	return s, nil
}

// release ends the wait for a review.
func (m moment) release(row store.Submission) (*step, error) {
	if row.State != store.SubmissionHeld || row.Reason != store.HeldReview {
		return nil, impossible(row, "release")
	}
	s := m.step(row)
	s.schedule()
	return s, nil
}

// retry makes it due at once. One that failed gets a fresh budget, and goes to those it
// was given up for; the numbers of its attempts go on.
func (m moment) retry(row store.Submission) (*step, error) {
	s := m.step(row)
	switch row.State {
	case store.SubmissionScheduled, store.SubmissionQueued, store.SubmissionHeld:
	case store.SubmissionFailed:
		s.fresh()
		s.row.PossibleDuplicate = row.PossibleDuplicate || row.Reason == reasonResolved // whoever resolved it may be wrong
	default:
		return nil, impossible(row, "retry")
	}
	s.queue(s.row.Pending, m.now)
	return s, nil
}

// fresh gives a new budget from now on.
func (s *step) fresh() {
	r := &s.row
	r.Charged, r.Crashes, r.SendAt = 0, 0, s.now // its time begins anew
	r.Rounds++
	r.Rejected = slices.DeleteFunc(r.Rejected, func(x store.Refusal) bool { return slices.Contains(r.Pending, x.Recipient) })
}

// resolve ends an unknown outcome as a person says.
func (m moment) resolve(row store.Submission, as Resolution) (*step, error) {
	if row.State != store.SubmissionUnknown {
		return nil, impossible(row, "resolve")
	}
	s := m.step(row)
	switch as {
	case ResolveSent:
		return m.confirm(row, ByOperator), nil
	case ResolveFailed:
		s.fail(reasonResolved, s.withDeferred(row.Pending))
	case ResolveRetry:
		s.fresh()
		s.row.PossibleDuplicate = true
		s.queue(s.withDeferred(row.Pending), m.now)
	default:
		return nil, fmt.Errorf("resolve as %q: %w", as, ErrState)
	}
	return s, nil
}

// confirm ends an unknown outcome: the message had been taken. Whoever was not offered it
// yet is next.
func (m moment) confirm(row store.Submission, by string) *step {
	s := m.step(row)
	s.row.ConfirmedBy, s.row.Last = by, &store.Outcome{At: m.now}
	if by == BySentFolder {
		s.row.CopyState, s.copies = AfterFound, false
	}
	s.taken(row.Pending)
	s.tellSent(row.Pending, events.MessageSent{ConfirmedBy: by})
	var unasked []string
	for _, r := range s.row.Deferred {
		if r.Code == 0 {
			unasked = append(unasked, r.Recipient)
		}
	}
	s.goOn(unasked, unasked, nil)
	return s
}
