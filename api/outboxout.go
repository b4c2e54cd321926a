package api

import (
	"slices"
	"time"

	"github.com/postrider/postrider/store"
)

// submissionOut is a submission in an answer.
type submissionOut struct {
	QueueID           string                `json:"queueId"`
	Account           string                `json:"account"`
	Source            string                `json:"source" enum:"api,draft,mailMerge"`
	MessageID         string                `json:"messageId" doc:"what recipients see"`
	OriginalMessageID string                `json:"originalMessageId,omitempty" doc:"ours, where the provider put its own"`
	Envelope          envelopeOut           `json:"envelope"`
	Subject           string                `json:"subject"`
	Tag               string                `json:"tag,omitempty"`
	Metadata          *Object               `json:"metadata,omitempty"`
	Created           *string               `json:"created" format:"date-time"`
	Scheduled         *string               `json:"scheduled" format:"date-time" doc:"sendAt; null: at once"`
	NextAttempt       *string               `json:"nextAttempt" format:"date-time" doc:"null where none is to come, or what it waits for has no time"`
	Ended             *string               `json:"ended" format:"date-time"`
	AttemptsMade      int                   `json:"attemptsMade" doc:"attempts before the last one that was begun"`
	Attempt           int                   `json:"attempt" doc:"number of the last attempt that was begun; 0: none was"`
	Attempts          int                   `json:"attempts" doc:"how many are made at most"`
	State             store.SubmissionState `json:"state" enum:"scheduled,queued,processing,held,sent,failed,canceled,unknown"`
	Stage             string                `json:"stage,omitempty" doc:"while processing: connect, and data when the server may have taken it"`
	Reason            string                `json:"reason,omitempty" doc:"what it waits for while held; why it failed"`
	Until             *string               `json:"until,omitempty" format:"date-time" doc:"when a hold is expected to end"`
	Progress          progressOut           `json:"progress"`
	Last              *outcomeOut           `json:"last,omitempty" doc:"how the last attempt ended"`
	Recipients        []recipientOut        `json:"recipients" nullable:"false"`
	Spool             spoolOut              `json:"spool"`
	Copy              *afterOut             `json:"copy,omitempty" doc:"the copy in the Sent folder"`
	Flag              *afterOut             `json:"flag,omitempty" doc:"the flag of the message that was answered or forwarded"`
	Reference         *submissionRefOut     `json:"reference,omitempty"`
	OnUnknown         string                `json:"onUnknown,omitempty"`
	PossibleDuplicate bool                  `json:"possibleDuplicate,omitempty" doc:"it was sent again while nobody knew whether it had been taken"`
	ConfirmedBy       string                `json:"confirmedBy,omitempty" doc:"who ended an unknown outcome"`
	IdempotencyKey    string                `json:"idempotencyKey,omitempty"`
	Size              int64                 `json:"size" doc:"bytes of the message"`
	Gateway           string                `json:"gateway,omitempty"`
	Version           uint64                `json:"version"`
}

type envelopeOut struct {
	From string   `json:"from"`
	To   []string `json:"to" nullable:"false"`
}

type progressOut struct {
	Status   string       `json:"status" enum:"queued,processing,smtp-starting,smtp-completed,submitted,error"`
	Response string       `json:"response,omitempty" doc:"of the submission server"`
	Error    *progressBad `json:"error,omitempty"`
}

type progressBad struct {
	Message    string `json:"message"`
	Code       string `json:"code,omitempty"`
	StatusCode int    `json:"statusCode,omitempty" doc:"SMTP reply code"`
}

type outcomeOut struct {
	At           *string `json:"at" format:"date-time"`
	Error        string  `json:"error,omitempty"`
	ErrorCode    string  `json:"errorCode,omitempty"`
	Response     string  `json:"response,omitempty"`
	ResponseCode int     `json:"responseCode,omitempty"`
	Command      string  `json:"command,omitempty"`
	Class        string  `json:"class,omitempty" doc:"temporary or permanent"`
	Scope        string  `json:"scope,omitempty" doc:"whose fault it is: recipient, message, account or server"`
	Hint         string  `json:"hint,omitempty" doc:"what it is about, in one word: credentials, tls, …"`
}

type recipientOut struct {
	Address  string `json:"address"`
	State    string `json:"state" enum:"pending,deferred,sent,rejected,failed,canceled,unknown" doc:"sent: the submission server took it; that says nothing of delivery"`
	Response string `json:"response,omitempty"`
	Code     int    `json:"code,omitempty"`
	Enhanced string `json:"enhanced,omitempty" doc:"enhanced status code (RFC 3463)"`
}

type spoolOut struct {
	State  string  `json:"state" enum:"awake,asleep,limited,paused" doc:"whether the account may send now"`
	Reason string  `json:"reason,omitempty"`
	Until  *string `json:"until,omitempty" format:"date-time"`
}

type afterOut struct {
	State string `json:"state"`
	Error string `json:"error,omitempty"`
}

type submissionRefOut struct {
	Message   string `json:"message"`
	MessageID string `json:"messageId,omitempty"`
	Action    string `json:"action"`
	Error     string `json:"error,omitempty"`
}

func showSubmission(m *store.Submission, sp store.Spool, now time.Time) submissionOut {
	out := submissionOut{
		QueueID: string(m.ID), Account: string(m.Account), Source: m.Source, MessageID: m.MessageID, OriginalMessageID: m.OriginalMessageID,
		Envelope: envelopeOut{m.From, m.To}, Subject: m.Subject, Tag: m.Tag, Created: stamp(m.Created), Scheduled: stamp(m.SendAt),
		Ended: stamp(m.Ended), AttemptsMade: max(m.Attempt-1, 0), Attempt: m.Attempt, Attempts: m.Attempts, State: m.State, Stage: m.Stage,
		Reason: m.Reason, Until: stamp(m.Until), Progress: progressOf(m), Recipients: recipientsOf(m), Spool: spoolOf(sp, now),
		OnUnknown: m.OnUnknown, PossibleDuplicate: m.PossibleDuplicate, ConfirmedBy: m.ConfirmedBy, IdempotencyKey: m.IdempotencyKey,
		Size: m.Size, Gateway: m.Gateway, Version: m.Version,
	}
	if m.Waiting() {
		out.NextAttempt = stamp(m.Due())
	}
	if len(m.Metadata) > 0 {
		meta := Object(m.Metadata)
		out.Metadata = &meta
	}
	if l := m.Last; l != nil {
		out.Last = &outcomeOut{stamp(l.At), l.Error, l.ErrorCode, l.Response, l.ResponseCode, l.Command, l.Class, l.Scope, l.Hint}
	}
	if m.CopyState != "" {
		out.Copy = &afterOut{m.CopyState, m.CopyError}
	}
	if m.FlagState != "" {
		out.Flag = &afterOut{m.FlagState, m.FlagError}
	}
	if r := m.Reference; r != nil {
		out.Reference = &submissionRefOut{r.Message, r.MessageID, r.Action, r.Error}
	}
	return out
}

// progressOf says the state in the words that clients of similar products read.
func progressOf(m *store.Submission) progressOut {
	p := progressOut{Status: "queued"}
	if l := m.Last; l != nil {
		if p.Response = l.Response; l.Error != "" {
			p.Error = &progressBad{l.Error, l.ErrorCode, l.ResponseCode}
		}
	}
	switch m.State {
	case store.SubmissionProcessing:
		if p.Status = "smtp-starting"; m.Stage == store.StageConnect {
			p.Status = "processing"
		}
	case store.SubmissionSent:
		p.Status, p.Error = "submitted", nil
	case store.SubmissionFailed, store.SubmissionCanceled, store.SubmissionUnknown:
		p.Status = "error"
		if p.Error == nil {
			p.Error = &progressBad{Message: m.Reason}
		}
	default:
		if p.Error != nil {
			p.Status = "error"
		}
	}
	return p
}

// recipientsOf says of each what became of it.
func recipientsOf(m *store.Submission) []recipientOut {
	out := make([]recipientOut, 0, len(m.To))
	of := func(list []store.Refusal, address string) *store.Refusal {
		if i := slices.IndexFunc(list, func(r store.Refusal) bool { return r.Recipient == address }); i >= 0 {
			return &list[i]
		}
		return nil
	}
	for _, address := range m.To {
		r := recipientOut{Address: address, State: "sent"}
		pending := slices.Contains(m.Pending, address)
		refusal := of(m.Rejected, address)
		rejected := refusal != nil
		if !rejected {
			refusal = of(m.Deferred, address)
		}
		switch {
		case rejected:
			r.State = "rejected"
		case pending && (m.State.Final() || m.State == store.SubmissionUnknown):
			r.State = string(m.State)
		case refusal != nil: // also behind others that are pending, or unknown
			r.State = "deferred"
		case pending:
			r.State = "pending"
		}
		if refusal != nil {
			r.Response, r.Code, r.Enhanced = refusal.Response, refusal.Code, refusal.Enhanced
		}
		out = append(out, r)
	}
	return out
}

// spoolOf says whether an account may send.
func spoolOf(sp store.Spool, now time.Time) spoolOut {
	switch {
	case sp.Paused:
		return spoolOut{State: "paused"}
	case sp.Sleep.Until.After(now):
		return spoolOut{"asleep", sp.Sleep.Reason, stamp(sp.Sleep.Until)}
	case sp.Limit.After(now):
		return spoolOut{"limited", store.HeldSendLimit, stamp(sp.Limit)}
	}
	return spoolOut{State: "awake"}
}
