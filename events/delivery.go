package events

import "encoding/json"

// Delivery is what all events about a submission have: which one, its envelope, and what
// the submission gave to be told again.
type Delivery struct {
	QueueID   string          `json:"queueId"`
	MessageID string          `json:"messageId"`
	Envelope  Envelope        `json:"envelope"`
	Subject   string          `json:"subject,omitempty"`
	Tag       string          `json:"tag,omitempty"`
	Metadata  json.RawMessage `json:"metadata,omitempty"` // an object of at most 2 KiB
}

// Envelope is what was, or is to be, said in MAIL FROM and RCPT TO. From is "" for the
// null sender.
type Envelope struct {
	From string   `json:"from"`
	To   []string `json:"to"`
}

// MarshalJSON writes [] where there is no recipient.
func (e Envelope) MarshalJSON() ([]byte, error) {
	type plain Envelope
	if e.To == nil {
		e.To = []string{}
	}
	return marshal(plain(e))
}

// Refused is a recipient that the submission server refused, for good or for now.
type Refused struct {
	Recipient        string `json:"recipient"`
	Response         string `json:"response"`
	SMTPResponseCode int    `json:"smtpResponseCode"`
}

// NetworkRouting says by which way the submission server was reached, where that was chosen.
type NetworkRouting struct {
	LocalAddress          string `json:"localAddress,omitempty"`
	Proxy                 string `json:"proxy,omitempty"`
	Name                  string `json:"name,omitempty"`
	RequestedLocalAddress string `json:"requestedLocalAddress,omitempty"`
}

// MessageQueued is the payload of messageQueued: a submission was accepted, composed and
// stored. Nothing has left.
type MessageQueued struct {
	Delivery
	SendAt *Time  `json:"sendAt,omitempty"`
	Source string `json:"source"` // "api", "draft" or "mailMerge"
}

// MessageSent is the payload of messageSent: the submission server said 250 after the
// final dot, for the recipients of the envelope. It does not prove delivery.
type MessageSent struct {
	Delivery
	OriginalMessageID string          `json:"originalMessageId,omitempty"` // ours, where the provider put its own
	Response          string          `json:"response"`                    // "" with ConfirmedBy
	Attempt           int             `json:"attempt"`
	DurationMS        int64           `json:"durationMs"`
	Secure            bool            `json:"secure"`
	Rejected          []Refused       `json:"rejected,omitempty"`
	Deferred          []Refused       `json:"deferred,omitempty"`
	ConfirmedBy       string          `json:"confirmedBy,omitempty"` // "sentFolder", "report" or "operator"
	PossibleDuplicate bool            `json:"possibleDuplicate,omitempty"`
	DSN               string          `json:"dsn,omitempty"` // "unsupported"
	NetworkRouting    *NetworkRouting `json:"networkRouting,omitempty"`
}

// MessageDeliveryError is the payload of messageDeliveryError: an attempt failed. The
// message may still be sent, unless Job.NextAttempt is false.
type MessageDeliveryError struct {
	Delivery
	Error            string          `json:"error"`
	ErrorCode        string          `json:"errorCode,omitempty"`
	SMTPResponse     string          `json:"smtpResponse,omitempty"`
	SMTPResponseCode int             `json:"smtpResponseCode,omitempty"`
	SMTPCommand      string          `json:"smtpCommand,omitempty"`
	Job              Job             `json:"job"`
	NetworkRouting   *NetworkRouting `json:"networkRouting,omitempty"`
}

// Job counts the attempts of a submission.
type Job struct {
	ID           string      `json:"id"`           // the queueId
	AttemptsMade int         `json:"attemptsMade"` // before this one, 0 first
	Attempt      int         `json:"attempt"`      // this one, 1 first
	Attempts     int         `json:"attempts"`     // how many there may be
	NextAttempt  TimeOrFalse `json:"nextAttempt"`
}

// TimeOrFalse is a moment, or false where there is none.
type TimeOrFalse struct{ Time }

// MarshalJSON writes the moment, or false.
func (t TimeOrFalse) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return []byte("false"), nil
	}
	return t.Time.MarshalJSON()
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (t *TimeOrFalse) UnmarshalJSON(b []byte) error {
	if string(b) == "false" {
		*t = TimeOrFalse{}
		return nil
	}
	return t.Time.UnmarshalJSON(b)
}

// MessageFailed is the payload of messageFailed: the submission was given up for the
// recipients of the envelope, of whom none is known to have been accepted.
type MessageFailed struct {
	Delivery
	Error             string          `json:"error"`
	Reason            string          `json:"reason"` // "refused", "attemptsUsed", "expired", "cancelled" or "resolved"
	ErrorCode         string          `json:"errorCode,omitempty"`
	SMTPResponse      string          `json:"smtpResponse,omitempty"`
	SMTPResponseCode  int             `json:"smtpResponseCode,omitempty"`
	Attempts          int             `json:"attempts"`
	Recipients        []Refused       `json:"recipients,omitempty"`
	PossibleDuplicate bool            `json:"possibleDuplicate,omitempty"` // an attempt had no reply, and it was sent again: it may have arrived
	NetworkRouting    *NetworkRouting `json:"networkRouting,omitempty"`
}

// MessageHeld is the payload of messageHeld: the submission waits, and no attempt is
// charged. The next event of its queueId says how the hold ended.
type MessageHeld struct {
	Delivery
	Reason  string `json:"reason"` // "review", "accountPaused", "sendLimit", "authentication" or "outcomeUnknown"
	Until   *Time  `json:"until,omitempty"`
	Attempt int    `json:"attempt"`
}

// SendLimit is what both events about a limit of sending have. What the provider really
// counts may differ.
type SendLimit struct {
	LimitName string `json:"limitName"` // "perHour", "perDay" or "recipientsPerDay"
	Unit      string `json:"unit"`      // "messages" or "recipients"
	Volume    int    `json:"volume"`
	Limit     int    `json:"limit"`
	Window    Window `json:"window"`
	Held      int    `json:"held,omitempty"` // submissions that wait
}

// Window is the UTC hour or day in which a limit is told of once.
type Window struct {
	Start Time `json:"start"`
	End   Time `json:"end"`
}

// SendLimitApproaching is the payload of sendLimitApproaching: most of an hour's or day's
// limit is used.
type SendLimitApproaching struct{ SendLimit }

// SendLimitExceeded is the payload of sendLimitExceeded: a submission waits for a limit.
type SendLimitExceeded struct{ SendLimit }

// EventType implements Payload.
func (MessageQueued) EventType() Type { return MessageQueuedType }

// EventType implements Payload.
func (MessageSent) EventType() Type { return MessageSentType }

// EventType implements Payload.
func (MessageDeliveryError) EventType() Type { return MessageDeliveryErrorType }

// EventType implements Payload.
func (MessageFailed) EventType() Type { return MessageFailedType }

// EventType implements Payload.
func (MessageHeld) EventType() Type { return MessageHeldType }

// EventType implements Payload.
func (SendLimitApproaching) EventType() Type { return SendLimitApproachingType }

// EventType implements Payload.
func (SendLimitExceeded) EventType() Type { return SendLimitExceededType }

func (MessageQueued) sealed()        {}
func (MessageSent) sealed()          {}
func (MessageDeliveryError) sealed() {}
func (MessageFailed) sealed()        {}
func (MessageHeld) sealed()          {}
func (SendLimitApproaching) sealed() {}
func (SendLimitExceeded) sealed()    {}
