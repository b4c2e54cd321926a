package smtpsend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/postrider/postrider/smtpsend/compose"
	"github.com/postrider/postrider/store"
)

// Request is a message that somebody wants sent.
type Request struct {
	Account   store.AccountID
	Source    string          // "api" (also ""), "draft" or "mailMerge"
	Message   compose.Message // From without an address is the account's
	Attached  []Attached      // of Message.Attachments, those that are in the mailbox
	Reference *Reference

	SendAt       time.Time // zero, or past: now
	Attempts     int       // 0: the setting deliveryAttempts, else as many as the preset has
	Preset       string    // "": the default
	Delays       []time.Duration
	Gateway      string // its server instead of the account's
	DSN          *store.DSN
	RequireTLS   bool
	Copy         *bool // nil: by the account, else by the provider
	SentMailPath string
	Hold         bool // it waits for a release
	Tag          string
	Metadata     json.RawMessage
	OnUnknown    string    // OnUnknownHold (also "") or OnUnknownResend
	DryRun       io.Writer // not nil: compose and check, write the message there, and queue nothing

	Locale, TZ string // of the line above a quoted text; "": the account's

	IdempotencyKey string
	Fingerprint    [32]byte // SHA-256 of the request, with IdempotencyKey
}

// Attached says that the attachment At is one of a message in the mailbox: it is read from
// there, and has the name and the type that it has there where it was given none.
type Attached struct {
	At int
	ID string // as events tell it
}

// AttachedError is an Attached that could not be had: ErrNoMessage, or ErrMailbox.
type AttachedError struct {
	At  int
	Err error
}

// Error implements error.
func (e *AttachedError) Error() string { return fmt.Sprintf("attachment %d: %v", e.At, e.Err) }

// Unwrap gives the cause.
func (e *AttachedError) Unwrap() error { return e.Err }

// Reference is the message of the mailbox that one answers or forwards.
type Reference struct {
	Message            string // our id of it
	Action             compose.Action
	Inline             bool
	ForwardAttachments bool
	IgnoreMissing      bool   // send without, where it cannot be found
	MessageID          string // that it must have; "": any
}

// Result is what became of a Request. It is kept under the idempotency key.
type Result struct {
	QueueID   store.SubmissionID    `json:"queueId"`
	MessageID string                `json:"messageId"`
	State     store.SubmissionState `json:"state"`
	SendAt    time.Time             `json:"sendAt,omitzero"`
	Reference *ReferenceResult      `json:"reference,omitempty"`
	Hit       bool                  `json:"-"` // it was queued by an earlier request with this key
}

// ReferenceResult says whether the message that is answered was found.
type ReferenceResult struct {
	Message string `json:"message"`
	Success bool   `json:"success"`
	Error   string `json:"error,omitempty"`
}

// What a Request can end in, beside *compose.Error and the errors of the store
// (ErrNotFound: no such account; ErrOutboxFull, ErrKeyReused, ErrUnavailable).
var (
	// ErrNoServer: neither the account nor the request has a submission server.
	ErrNoServer = errors.New("no submission server")
	// ErrNoGateway: the gateway that was asked for is not there.
	ErrNoGateway = errors.New("no such gateway")
	// ErrNoReference: the message that is answered or forwarded is not there.
	ErrNoReference = errors.New("no such message to refer to")
	// ErrMailbox: the mailbox could not be read now.
	ErrMailbox = errors.New("mailbox cannot be read")
	// ErrRetry: attempts, preset or delays that cannot be.
	ErrRetry = errors.New("retry settings")
	// ErrTooLarge: the server is known to take less.
	ErrTooLarge = errors.New("message is larger than the server takes")
)

// Queue takes submissions and changes those that wait. It is safe for concurrent use, and
// needs no transport.
type Queue struct{ *core }

// Submit composes a message, stores it, and has it sent: see the errors above.
func (q *Queue) Submit(ctx context.Context, r Request) (Result, error) {
	account, err := q.store.Account(ctx, r.Account)
	if err != nil {
		return Result{}, err
	}
	var idem *store.Idempotency
	if r.IdempotencyKey != "" && r.DryRun == nil {
		idem = &store.Idempotency{Key: r.IdempotencyKey, Hash: r.Fingerprint}
		used, err := q.store.UsedKey(ctx, r.Account, *idem)
		if err != nil || used.Hit {
			return hit(used), err
		}
	}
	set, err := q.store.Settings(ctx)
	if err != nil {
		return Result{}, err
	}
	way, err := q.way(ctx, account, set, r.Gateway)
	if err != nil {
		return Result{}, err
	}
	row, err := newRow(r, set)
	if err != nil {
		return Result{}, err
	}
	now, err := q.store.Now(ctx)
	if err != nil {
		return Result{}, err
	}
	row.ID = store.NewSubmissionID(r.Account, now)
	out := Result{QueueID: row.ID}
	msg := r.Message
	if msg.From.Address == "" {
		msg.From = compose.Address{Name: account.Name, Address: account.Email}
	}
	if msg.Date.IsZero() {
		msg.Date = dateOf(r, account, set, now)
	}
	if msg.Attachments, err = q.attached(ctx, r); err != nil {
		return Result{}, err
	}
	if r.Reference != nil {
		if out.Reference, err = q.refer(ctx, r, account, set, &msg, &row); err != nil {
			return Result{}, err
		}
	}
	c, err := compose.Compose(msg, compose.Options{
		QueueID: string(row.ID), IDHeader: q.cfg.IDHeader, MaxRecipients: q.cfg.MaxRecipients, MaxSize: q.cfg.MaxMessageSize,
	})
	if err != nil {
		return Result{}, err
	}
	most, err := q.mostOf(ctx, r, way, now)
	if err != nil {
		return Result{}, err
	}
	if most > 0 && c.Size > most {
		return Result{}, fmt.Errorf("%d of %d bytes: %w", c.Size, most, ErrTooLarge)
	}
	out.MessageID = c.MessageID
	if r.DryRun != nil {
		_, err := c.WriteTo(r.DryRun)
		return out, err
	}
	row.MessageID, row.Subject, row.From, row.To, row.Pending = c.MessageID, c.Subject, c.Envelope.From, c.Envelope.To, c.Envelope.To
	row.OwnID, row.UTF8, row.EightBit = c.OwnID, c.NeedsUTF8, c.Needs8Bit
	// What a repeat is answered is fixed now: states pass.
	out.State = store.SubmissionQueued
	if row.SendAt.After(now) {
		out.State, out.SendAt = store.SubmissionScheduled, row.SendAt
	}
	if row.Reason == store.HeldReview || account.Paused != nil {
		out.State = store.SubmissionHeld
	}
	if idem != nil {
		if idem.Answer, err = json.Marshal(out); err != nil {
			return Result{}, err
		}
	}
	a, err := q.store.AcceptSubmission(ctx, store.Accept{Submission: row, Body: c, Idempotency: idem, Limits: q.cfg.Outbox})
	if err != nil || a.Hit {
		return hit(a), err
	}
	q.m.accepted.Inc()
	out.State, out.SendAt = a.Submission.State, a.Submission.SendAt
	q.carry(ctx, a.Submission)
	return out, nil
}

// sizeFor is how long a server's word about the size it takes is believed before it is
// asked.
const sizeFor = 24 * time.Hour

// mostOf is the largest message that the server is known to take, in bytes; 0 = any.
func (q *Queue) mostOf(ctx context.Context, r Request, w way, now time.Time) (int64, error) {
	if r.Gateway != "" {
		return w.profile.Size, nil
	}
	known, err := q.store.Sending(ctx, r.Account)
	if err != nil {
		return 0, err
	}
	if st := known.SMTP; st.MaxSize > 0 && now.Sub(st.SizeAt) < sizeFor {
		return st.MaxSize, nil
	}
	return w.profile.Size, nil
}

// hit is the answer of the first request, for one that is repeated.
func hit(a store.Accepted) Result {
	if !a.Hit {
		return Result{}
	}
	var out Result
	if err := json.Unmarshal(a.Answer, &out); err != nil || out.QueueID == "" {
		out = Result{QueueID: a.ID, State: store.SubmissionQueued}
	}
	out.Hit = true
	return out
}

// newRow is what a request says of its submission, beside the message.
func newRow(r Request, set store.Settings) (store.Submission, error) {
	attempts := r.Attempts
	if attempts == 0 && len(r.Delays) == 0 {
		attempts = set.DeliveryAttempts
	}
	delays, attempts, err := budget(r.Preset, r.Delays, attempts)
	if err != nil {
		return store.Submission{}, fmt.Errorf("%w: %w", ErrRetry, err)
	}
	row := store.Submission{
		Account: r.Account, Source: r.Source, SendAt: r.SendAt.UTC(), Attempts: attempts, Preset: r.Preset, Delays: delays,
		Gateway: r.Gateway, DSN: r.DSN, RequireTLS: r.RequireTLS, Copy: r.Copy, SentMailPath: r.SentMailPath,
		Tag: r.Tag, Metadata: r.Metadata, OnUnknown: r.OnUnknown,
	}
	if row.Source == "" {
		row.Source = "api"
	}
	if row.SendAt.IsZero() || r.SendAt.IsZero() {
		row.SendAt = time.Time{}
	}
	if r.Hold {
		row.Reason = store.HeldReview
	}
	return row, nil
}

// dateOf is the Date field: now, or when it is to be sent, in the account's zone.
func dateOf(r Request, a store.Account, set store.Settings, now time.Time) time.Time {
	if r.SendAt.After(now) {
		now = r.SendAt
	}
	return now.In(zone(r.TZ, a.Timezone, set.Timezone))
}

// zone is the first of these zones that there is, else UTC.
func zone(names ...string) *time.Location {
	for _, name := range names {
		if l, err := time.LoadLocation(name); name != "" && err == nil {
			return l
		}
	}
	return time.UTC
}

// Cancel ends a submission that waits; one that was cancelled stays so. It and the methods
// below answer the row as it is then. Errors: store.ErrNotFound, ErrActive, ErrState,
// store.ErrUnavailable.
func (q *Queue) Cancel(ctx context.Context, id store.SubmissionID) (store.Submission, error) {
	return q.deed(ctx, id, moment.cancel)
}

// Reschedule has a submission sent at another time; one in the past is now.
func (q *Queue) Reschedule(ctx context.Context, id store.SubmissionID, at time.Time) (store.Submission, error) {
	return q.deed(ctx, id, func(m moment, row store.Submission) (*step, error) { return m.reschedule(row, at.UTC()) })
}

// Retry makes a submission due at once; one that failed gets a fresh budget. Errors also:
// store.ErrNotFound where its body is gone.
func (q *Queue) Retry(ctx context.Context, id store.SubmissionID) (store.Submission, error) {
	return q.deed(ctx, id, moment.retry)
}

// Release ends the wait for a review.
func (q *Queue) Release(ctx context.Context, id store.SubmissionID) (store.Submission, error) {
	return q.deed(ctx, id, moment.release)
}

// Resolve says what became of a submission whose outcome is unknown.
func (q *Queue) Resolve(ctx context.Context, id store.SubmissionID, as Resolution) (store.Submission, error) {
	return q.deed(ctx, id, func(m moment, row store.Submission) (*step, error) { return m.resolve(row, as) })
}

// deed changes a submission by a pure function of it, which is asked again where something
// else happened meanwhile.
func (q *Queue) deed(ctx context.Context, id store.SubmissionID, f func(moment, store.Submission) (*step, error)) (store.Submission, error) {
	for try := 0; ; try++ {
		row, err := q.store.Submission(ctx, id)
		if err != nil {
			return store.Submission{}, err
		}
		now, err := q.store.Now(ctx)
		if err != nil {
			return store.Submission{}, err
		}
		s, err := f(q.moment(now, 0), row)
		if err != nil || s == nil {
			return row, err
		}
		next, err := q.move(ctx, row, s, store.MoveOps{})
		if errors.Is(err, store.ErrStale) && try < 4 {
			continue
		}
		if err != nil {
			return store.Submission{}, err
		}
		q.follow(ctx, next)
		return next, nil
	}
}

// Wake lets an account send at once: its credentials or servers were changed, or it was
// resumed. What waited for that is due now. Errors: store.ErrNotFound, store.ErrUnavailable.
func (q *Queue) Wake(ctx context.Context, account store.AccountID) error {
	if err := q.store.WakeSpool(ctx, account); err != nil {
		return err
	}
	now, err := q.store.Now(ctx)
	if err != nil {
		return err
	}
	err = q.waiting(ctx, account, now.Add(maxDelay), func(row store.Submission) *step {
		l := row.Last
		if !row.Due().After(now) || row.State == store.SubmissionScheduled || l == nil || l.Scope != string(ScopeAccount) && l.Scope != string(ScopeServer) {
			return nil
		}
		s := q.moment(now, 0).step(row)
		s.queue(row.Pending, s.now)
		return s
	})
	if err != nil {
		return err
	}
	return q.wake(ctx, account, time.Time{})
}
