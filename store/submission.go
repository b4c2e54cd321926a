package store

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/events"
)

// SubmissionID names a submission (its queueId): a ULID in lower case, whose last two
// characters carry the account's shard, so that the row is found without an index.
type SubmissionID string

const crockford = "0123456789abcdefghjkmnpqrstvwxyz"

// NewSubmissionID makes an id for a submission of an account.
func NewSubmissionID(account AccountID, at time.Time) SubmissionID {
	var b [16]byte
	rand.Read(b[6:]) // never fails: crypto/rand ends the program instead
	hi := uint64(at.UnixMilli())<<16 | uint64(binary.BigEndian.Uint16(b[6:8]))
	lo := binary.BigEndian.Uint64(b[8:])&^(Shards-1) | uint64(Shard(account))
	var out [26]byte
	for i := len(out) - 1; i >= 0; i-- {
		out[i] = crockford[lo&31]
		lo, hi = lo>>5|hi<<59, hi>>5
	}
	return SubmissionID(out[:])
}

// ParseSubmissionID reads an id as somebody wrote it. Errors: ErrNotFound, for what can be
// no id of ours.
func ParseSubmissionID(s string) (SubmissionID, error) {
	s = strings.ToLower(s)
	if len(s) != 26 || s[0] > '7' || strings.Trim(s, crockford) != "" {
		return "", fmt.Errorf("submission %.40q: %w", s, ErrNotFound)
	}
	return SubmissionID(s), nil
}

func (id SubmissionID) shard() int {
	if len(id) < 2 {
		return 0
	}
	return (strings.IndexByte(crockford, id[len(id)-2])<<5 | strings.IndexByte(crockford, id[len(id)-1])) & (Shards - 1)
}

// SubmissionState is where a submission is (send.md section 6).
type SubmissionState string

// The states. The last four but SubmissionUnknown are final; a failed submission may be
// queued again by hand.
const (
	SubmissionScheduled  SubmissionState = "scheduled"  // its time has not come
	SubmissionQueued     SubmissionState = "queued"     // due, or waiting for its next attempt
	SubmissionProcessing SubmissionState = "processing" // claimed; Stage says how far
	SubmissionHeld       SubmissionState = "held"       // waits for Reason
	SubmissionSent       SubmissionState = "sent"
	SubmissionFailed     SubmissionState = "failed"
	SubmissionCanceled   SubmissionState = "canceled"
	SubmissionUnknown    SubmissionState = "unknown" // nobody knows whether the server took it
)

// SubmissionStates are all of them.
var SubmissionStates = [...]SubmissionState{
	SubmissionScheduled, SubmissionQueued, SubmissionProcessing, SubmissionHeld,
	SubmissionSent, SubmissionFailed, SubmissionCanceled, SubmissionUnknown,
}

// Final says whether nothing more happens by itself.
func (st SubmissionState) Final() bool {
	return st == SubmissionSent || st == SubmissionFailed || st == SubmissionCanceled
}

// The stages of SubmissionProcessing that the store tells apart: behind StageData the
// server may have taken the message.
const (
	StageConnect = "connect"
	StageData    = "data"
)

// The reasons of SubmissionHeld and, the last, of SubmissionUnknown.
const (
	HeldReview         = "review" // ends by hand; the others end by themselves
	HeldAccountPaused  = "accountPaused"
	HeldSendLimit      = "sendLimit"
	HeldAuthentication = "authentication"
	HeldOutcomeUnknown = "outcomeUnknown"
)

// AfterPending is the CopyState, or FlagState, of what is still to be done.
const AfterPending = "pending"

// Submission is a message on its way out: one row. The body is stored beside it.
type Submission struct {
	ID      SubmissionID `json:"-"`
	Account AccountID    `json:"-"`
	Epoch   int64        `json:"epoch"`  // the account's at acceptance, given there; part of event ids
	Source  string       `json:"source"` // "api", "draft" or "mailMerge"

	State  SubmissionState `json:"-"`
	Stage  string          `json:"-"` // of SubmissionProcessing
	Marked []string        `json:"-"` // of StageData: whom the server may have taken it for; nil: all of Pending
	Reason string          `json:"-"` // of SubmissionHeld, SubmissionUnknown: a Held…; of SubmissionFailed as in messageFailed
	Until  time.Time       `json:"-"` // when a hold is expected to end; zero: not known
	Holds  int             `json:"holds,omitempty"`

	MessageID         string          `json:"messageId"`
	OwnID             bool            `json:"ownId,omitempty"`             // MessageID was made for it: no other message had it
	OriginalMessageID string          `json:"originalMessageId,omitempty"` // ours, where the provider put its own
	From              string          `json:"from"`                        // of the envelope; "" is the null sender
	To                []string        `json:"to"`                          // of the envelope, as accepted
	Pending           []string        `json:"pending,omitempty"`           // of To, those still to be tried
	Rejected          []Refusal       `json:"rejected,omitempty"`
	Deferred          []Refusal       `json:"deferred,omitempty"`
	Subject           string          `json:"subject,omitempty"`
	Tag               string          `json:"tag,omitempty"`
	Metadata          json.RawMessage `json:"metadata,omitempty"`

	Created     time.Time `json:"created"` // by Redis time, given at acceptance
	SendAt      time.Time `json:"sendAt,omitzero"`
	NextAttempt time.Time `json:"nextAttempt,omitzero"` // zero: SendAt, or at once
	Ended       time.Time `json:"ended,omitzero"`

	Attempt  int             `json:"-"`                  // number of the last attempt; only grows
	Charged  int             `json:"charged,omitempty"`  // attempts of the budget that are used
	Attempts int             `json:"attempts,omitempty"` // the budget
	Preset   string          `json:"preset,omitempty"`
	Delays   []time.Duration `json:"delays,omitempty"`
	Crashes  int             `json:"crashes,omitempty"` // attempts that ended with their process
	Rounds   int             `json:"rounds,omitempty"`  // budgets given anew by hand

	Size       int64  `json:"size"` // of the body in bytes, given at acceptance
	Pieces     int    `json:"pieces"`
	Gateway    string `json:"gateway,omitempty"`
	DSN        *DSN   `json:"dsn,omitempty"`
	RequireTLS bool   `json:"requireTLS,omitempty"`
	UTF8       bool   `json:"utf8,omitempty"`
	EightBit   bool   `json:"eightBit,omitempty"`

	OnUnknown         string `json:"onUnknown,omitempty"` // "hold" or "resend"
	PossibleDuplicate bool   `json:"possibleDuplicate,omitempty"`
	ConfirmedBy       string `json:"confirmedBy,omitempty"`

	Reference    *Reference `json:"reference,omitempty"`
	Copy         *bool      `json:"copy,omitempty"`
	SentMailPath string     `json:"sentMailPath,omitempty"`
	CopyState    string     `json:"copyState,omitempty"`
	CopyError    string     `json:"copyError,omitempty"`
	FlagState    string     `json:"flagState,omitempty"`
	FlagError    string     `json:"flagError,omitempty"`

	IdempotencyKey string   `json:"idempotencyKey,omitempty"`
	Last           *Outcome `json:"last,omitempty"` // of the last attempt

	Fence     uint64    `json:"-"` // grows with every claim
	Owner     string    `json:"-"` // of SubmissionProcessing: who claimed it
	Lease     time.Time `json:"-"` // of SubmissionProcessing: when the claim runs out
	ChargedAt time.Time `json:"-"` // when it was charged to the limits of sending; zero: was not
	Version   uint64    `json:"-"` // grows with every claim and move
	Op        string    `json:"-"` // the last claim or move
}

// Refusal is a recipient that the submission server refused, for good or for now.
type Refusal struct {
	Recipient string `json:"recipient"`
	Response  string `json:"response"`
	Code      int    `json:"code"`
	Enhanced  string `json:"enhanced,omitempty"`
	Told      bool   `json:"told,omitempty"` // an event has named it, for good
}

// DSN is what delivery reports were asked for (RFC 3461).
type DSN struct {
	ID        string   `json:"id,omitempty"`
	Return    string   `json:"return,omitempty"` // "headers" or "full"
	Notify    []string `json:"notify,omitempty"`
	Recipient string   `json:"recipient,omitempty"`

	Unsupported bool `json:"unsupported,omitempty"` // the server does not offer it
}

// Reference is the message of a mailbox that a submission answers or forwards.
type Reference struct {
	Message   string `json:"message"`             // our id of it
	MessageID string `json:"messageId,omitempty"` // its header's
	Action    string `json:"action"`              // "reply", "reply-all" or "forward"
	Error     string `json:"error,omitempty"`     // why it could not be read
}

// Outcome is how the last attempt ended.
type Outcome struct {
	At           time.Time `json:"at"`
	Error        string    `json:"error,omitempty"`
	ErrorCode    string    `json:"errorCode,omitempty"`
	Response     string    `json:"response,omitempty"`
	ResponseCode int       `json:"responseCode,omitempty"`
	Command      string    `json:"command,omitempty"`
	Class        string    `json:"class,omitempty"`
	Scope        string    `json:"scope,omitempty"`
	Hint         string    `json:"hint,omitempty"`
	DurationMS   int64     `json:"durationMs,omitempty"`
	Secure       bool      `json:"secure,omitempty"`
}

// Due is when the next attempt may be made.
func (m *Submission) Due() time.Time {
	switch {
	case !m.NextAttempt.IsZero():
		return m.NextAttempt
	case !m.SendAt.IsZero():
		return m.SendAt
	}
	return m.Created
}

// Waiting says whether a claim may take it once it is due and its account can send.
func (m *Submission) Waiting() bool {
	switch m.State {
	case SubmissionScheduled, SubmissionQueued:
		return true
	case SubmissionHeld:
		return m.Reason != HeldReview
	}
	return false
}

// counted says whether it counts to what waits in the outbox.
func (m *Submission) counted() bool { return !m.State.Final() }

// Delivery is what all events about the submission have; to are the recipients of this one.
func (m *Submission) Delivery(to []string) events.Delivery {
	return events.Delivery{
		QueueID: string(m.ID), MessageID: m.MessageID, Envelope: events.Envelope{From: m.From, To: to},
		Subject: m.Subject, Tag: m.Tag, Metadata: m.Metadata,
	}
}

// Event makes an event about the submission as it is, with the id that events.md section 3
// derives from it: of a hold by Holds, of what an attempt did by Attempt, of a failure by Rounds too.
func (m *Submission) Event(p events.Payload) events.Event {
	key := []string{string(m.ID), strconv.Itoa(m.Attempt)}
	switch p := p.(type) {
	case events.MessageQueued:
		key[1] = "0"
	case events.MessageFailed:
		key = append(key, p.Reason)
		if m.Rounds > 0 { // it may be given up again for the same reason, without an attempt
			key = append(key, strconv.Itoa(m.Rounds))
		}
	case events.MessageHeld:
		key[1] = strconv.Itoa(m.Holds)
	}
	return events.Event{ID: events.NewID(string(m.Account), m.Epoch, p.EventType(), key...), Data: p}
}

// Hold is the submission held for a reason, and the event that says so. attempt is the one
// the hold stands before, or the one whose outcome is unknown.
func (m Submission) Hold(reason string, until time.Time, attempt int) (Submission, events.Event) {
	m.State, m.Stage, m.Reason, m.Until, m.Holds = SubmissionHeld, "", reason, until, m.Holds+1
	if reason == HeldOutcomeUnknown {
		m.State = SubmissionUnknown
	}
	return m, m.Event(events.MessageHeld{Delivery: m.Delivery(m.recipients()), Reason: reason, Until: timeOrNil(until), Attempt: attempt})
}

// recipients are those an event names where nothing was decided about them.
func (m *Submission) recipients() []string {
	if len(m.Pending) > 0 {
		return m.Pending
	}
	return m.To
}

// row gives the fields of the stored form: what scripts read one by one, the rest as JSON.
func (m *Submission) row() ([]any, error) {
	x, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("submission %s: %w", m.ID, err)
	}
	return []any{
		"account", string(m.Account), "state", string(m.State), "stage", m.Stage, "reason", m.Reason, "until", unixMilli(m.Until),
		"v", m.Version, "op", m.Op, "rcpt", len(m.recipients()), "size", m.Size, "x", x,
	}, nil
}

// readSubmission reads the stored form.
func readSubmission(id SubmissionID, h map[string]string) (Submission, error) {
	if len(h) == 0 {
		return Submission{}, fmt.Errorf("submission %s: %w", id, ErrNotFound)
	}
	var m Submission
	if err := json.Unmarshal([]byte(h["x"]), &m); err != nil {
		return Submission{}, fmt.Errorf("submission %s: %w", id, err)
	}
	m.ID, m.Account, m.State, m.Stage, m.Reason = id, AccountID(h["account"]), SubmissionState(h["state"]), h["stage"], h["reason"]
	m.Until, m.Lease, m.ChargedAt = milli(h["until"]), milli(h["lease"]), milli(h["charged"])
	m.Attempt, m.Owner, m.Op = atoi(h["attempt"]), h["owner"], h["op"]
	if m.State == SubmissionProcessing && m.Stage == StageData {
		m.Marked = marked(h["marked"], m.To)
	}
	m.Fence, _ = strconv.ParseUint(h["fence"], 10, 64) // absent: never claimed
	m.Version, _ = strconv.ParseUint(h["v"], 10, 64)
	return m, nil
}

// unixMilli is a time as scripts have it; 0 where there is none.
func unixMilli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// Submission reads one row. Errors: ErrNotFound.
func (s *Store) Submission(ctx context.Context, id SubmissionID) (Submission, error) {
	h, err := s.rdb.HGetAll(ctx, s.k.submission(id)).Result()
	if err != nil {
		return Submission{}, unavailable("read submission", err)
	}
	return readSubmission(id, h)
}
