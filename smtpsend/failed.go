package smtpsend

import (
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/smtpsend/transport"
	"github.com/postrider/postrider/store"
)

// maxCrashes is how often a submission may be what a process was at when it died, before
// it is given up: it may be what kills them.
const maxCrashes = 3

// holdFrom is how long a submission waits for credentials or room before it is shown as
// held.
const holdFrom = time.Minute

// The reasons of messageFailed.
const (
	reasonRefused   = "refused"
	reasonAttempts  = "attemptsUsed"
	reasonExpired   = "expired"
	reasonCancelled = "cancelled"
	reasonResolved  = "resolved"
)

// failed is a transaction that did not succeed. Like sent, it may come for a row that was
// made unknown meanwhile. TooMany of e includes those that were not in it.
func (m moment) failed(row store.Submission, p Profile, e *transport.Error) *step {
	s := m.step(row)
	s.row.Crashes = 0
	asked := row.Pending
	s.awake = e.Kind != transport.KindLocal
	if e.Unknown {
		v := Classify(p, e)
		s.row.Last = s.outcome(v, e)
		open := s.settle(p, answered{e.Accepted, e.Refused, e.TooMany})
		if v.sleep() != "" {
			s.sleeping(v.sleep())
		}
		s.unknown(e.Accepted, open)
		return s
	}
	why := decisive(p, *e)
	v := Classify(p, &why)
	s.row.Last = s.outcome(v, &why)
	open := s.settle(p, answered{refused: e.Refused})
	if allRefused(e) {
		rest := slices.DeleteFunc(slices.Clone(open), func(to string) bool {
			return slices.ContainsFunc(e.Refused, func(r transport.Refusal) bool { return r.Recipient == to })
		})
		if len(rest) > 0 && v.sleep() == "" { // those that were not asked for yet are, at once
			s.tellError(without(asked, rest), s.now)
			s.queue(rest, s.now)
			return s
		}
		v.Class = Temporary // for those that were put off
	}
	// Whoever was not asked for is first the next time.
	open = s.withDeferred(slices.Concat(e.TooMany, without(open, e.TooMany)))
	if v.Class == Permanent || len(open) == 0 {
		s.tellError(asked, time.Time{})
		s.fail(reasonRefused, open)
		return s
	}
	s.again(v, asked, open)
	return s
}

// allRefused says whether a transaction failed by what the server said of its recipients,
// each of them; not by a reply that ended it, a 421 say.
func allRefused(e *transport.Error) bool {
	return e.Phase == transport.PhaseRcpt && slices.ContainsFunc(e.Refused, func(r transport.Refusal) bool { return r.Code == e.Code })
}

// decisive is the refusal that a transaction failed by in which every recipient was
// refused: one that is about the account, else one that may be lifted, else any.
func decisive(p Profile, e transport.Error) transport.Error {
	if !allRefused(&e) {
		return e
	}
	rank := func(r transport.Refusal) int {
		switch v := classifyRefusal(p, r); {
		case v.sleep() != "":
			return 2
		case v.Class == Temporary:
			return 1
		}
		return 0
	}
	best := -1
	for _, r := range e.Refused {
		if n := rank(r); n > best {
			best = n
			e.Code, e.Enhanced, e.Line = r.Code, parseEnhanced(r.Enhanced), r.Response
		}
	}
	return e
}

// again has these recipients tried again as a verdict wants it, if there is an attempt
// left.
func (s *step) again(v Verdict, asked, open []string) {
	if reason := v.sleep(); reason != "" {
		s.sleeping(reason)
	}
	next := s.charge(v)
	if reason := s.spent(next); reason != "" {
		s.tellError(asked, time.Time{})
		s.fail(reason, open)
		return
	}
	s.tellError(asked, next)
	s.wait(open, next)
}

// unknown is a transaction whose dot may have been seen and whose reply nobody has, for
// those the server had accepted; open are the others that are still to be tried.
func (s *step) unknown(accepted, open []string) {
	r := &s.row
	s.perhaps = accepted
	r.Deferred = slices.DeleteFunc(r.Deferred, func(d store.Refusal) bool { return slices.Contains(accepted, d.Recipient) })
	s.putOff(without(open, accepted))
	r.Charged++
	if r.OnUnknown == OnUnknownResend {
		next := s.now
		if r.PossibleDuplicate { // once at once; a server that never answers is not flooded
			next = s.later()
		}
		if s.spent(next) == "" {
			r.PossibleDuplicate = true
			s.tellError(accepted, next)
			s.queue(s.withDeferred(accepted), next)
			return
		}
	}
	r.Pending = accepted
	s.hold(store.HeldOutcomeUnknown, time.Time{}, r.Attempt)
}

// fail gives up these recipients, and tells of whoever was refused before and not told of.
func (s *step) fail(reason string, gone []string) {
	last := s.last()
	for _, to := range gone {
		why := store.Refusal{Recipient: to, Response: brief(last.Response), Code: last.ResponseCode}
		if i := slices.IndexFunc(s.row.Deferred, func(r store.Refusal) bool { return r.Recipient == to && r.Code != 0 }); i >= 0 && reason != reasonRefused {
			why = s.row.Deferred[i]
		}
		s.row.Rejected = append(s.row.Rejected, why)
	}
	told := s.tellFailed(reason)
	s.end(store.SubmissionFailed)
	s.row.Reason, s.row.Pending, s.row.Deferred = reason, told, nil
}

// recover is what becomes of a submission whose sender is dead, or lost its lease.
func (m moment) recover(row store.Submission) *step {
	s := m.step(row)
	s.row.Crashes++
	s.row.Last = &store.Outcome{At: m.now, Error: "the process that was sending it ended", Class: string(Temporary), Scope: string(ScopeMessage)}
	switch {
	case row.Stage == store.StageData:
		accepted := row.Marked
		if len(accepted) == 0 { // marked by an older version
			accepted = row.Pending
		}
		s.unknown(accepted, without(row.Pending, accepted))
	case s.row.Crashes >= maxCrashes:
		s.tellError(row.Pending, time.Time{})
		s.fail(reasonAttempts, s.withDeferred(row.Pending))
	default:
		s.queue(row.Pending, s.now)
	}
	return s
}

// putBack gives a submission back that was claimed and not sent, for no fault of its own.
func (m moment) putBack(row store.Submission) *step {
	s := m.step(row)
	s.queue(row.Pending, m.now)
	return s
}

// expire ends a submission whose time is over while it waits.
func (m moment) expire(row store.Submission) *step {
	s := m.step(row)
	if s.last().Error == "" {
		s.row.Last = &store.Outcome{At: m.now, Error: "it waited too long" + strings.TrimRight(": "+row.Reason, ": ")}
	}
	s.fail(reasonExpired, s.withDeferred(row.Pending))
	return s
}

// abandon gives up those behind an outcome that stays unknown, when the row goes.
func (m moment) abandon(row store.Submission) *step {
	s := m.step(row)
	s.row.Last = &store.Outcome{At: m.now, Error: "what became of the attempt before them stayed unknown"}
	s.row.Rejected, s.row.Deferred = append(s.row.Rejected, s.row.Deferred...), nil
	s.tellFailed(reasonExpired)
	return s
}

// outcome is what the row shows of an attempt that failed.
func (s *step) outcome(v Verdict, e *transport.Error) *store.Outcome {
	o := &store.Outcome{
		At: s.now, Error: e.Line, ErrorCode: v.ErrorCode, Response: e.Line, ResponseCode: e.Code, Command: e.Command,
		Class: string(v.Class), Scope: string(v.Scope), Hint: v.Hint,
	}
	if o.Error == "" && e.Err != nil {
		o.Error = string(e.Phase) + ": " + e.Err.Error()
	}
	return o
}
