package smtpsend

import (
	"time"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
)

// tell adds an event about the row as it is.
func (s *step) tell(p events.Payload) { s.events = append(s.events, s.row.Event(p)) }

// tellSent tells that these were taken, and of those that were not since the last time.
func (s *step) tellSent(to []string, e events.MessageSent) {
	e.Delivery = s.row.Delivery(to)
	e.Attempt, e.OriginalMessageID, e.PossibleDuplicate = s.row.Attempt, s.row.OriginalMessageID, s.row.PossibleDuplicate
	if s.row.DSN != nil && s.row.DSN.Unsupported {
		e.DSN = "unsupported"
	}
	e.Rejected, e.Deferred = s.untold(), refusedList(s.row.Deferred)
	s.tell(e)
}

// untold are the refusals for good that no event has named yet; now one does.
func (s *step) untold() (out []events.Refused) {
	for i := range s.row.Rejected {
		r := &s.row.Rejected[i]
		if !r.Told {
			out = append(out, refused(*r))
			r.Told = true
		}
	}
	return out
}

func refused(r store.Refusal) events.Refused {
	return events.Refused{Recipient: r.Recipient, Response: r.Response, SMTPResponseCode: r.Code}
}

func refusedList(rs []store.Refusal) (out []events.Refused) {
	for _, r := range rs {
		out = append(out, refused(r))
	}
	return out
}

// tellError tells of an attempt that failed for these recipients; next is zero where there
// is no other.
func (s *step) tellError(to []string, next time.Time) {
	r, l := s.row, s.last()
	s.tell(events.MessageDeliveryError{
		Delivery: s.row.Delivery(to), Error: l.Error, ErrorCode: l.ErrorCode,
		SMTPResponse: l.Response, SMTPResponseCode: l.ResponseCode, SMTPCommand: l.Command,
		Job: events.Job{
			ID: string(r.ID), AttemptsMade: max(r.Attempt-1, 0), Attempt: r.Attempt, Attempts: r.Attempts,
			NextAttempt: events.TimeOrFalse{Time: timeOf(next)},
		},
	})
}

func timeOf(t time.Time) events.Time {
	if t.IsZero() {
		return events.Time{}
	}
	return events.TimeOf(t)
}

// last is how the last attempt ended; zero where there was none.
func (s *step) last() store.Outcome {
	if s.row.Last == nil {
		return store.Outcome{}
	}
	return *s.row.Last
}

// tellFailed tells that the submission is given up, and answers for whom: all who were
// refused and not told of before.
func (s *step) tellFailed(reason string) (to []string) {
	l, list := s.last(), s.untold()
	for _, r := range list {
		to = append(to, r.Recipient)
	}
	e := events.MessageFailed{Delivery: s.row.Delivery(to), Error: l.Error, Reason: reason, Attempts: s.row.Attempt, PossibleDuplicate: s.row.PossibleDuplicate}
	switch reason {
	case reasonCancelled, reasonResolved:
		e.Error = reason
	default:
		e.ErrorCode, e.SMTPResponse, e.SMTPResponseCode, e.Recipients = l.ErrorCode, l.Response, l.ResponseCode, list
	}
	s.tell(e)
	return to
}
