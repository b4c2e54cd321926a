package smtpsend

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/smtpsend/transport"
	"github.com/postrider/postrider/store"
)

// moment is when something happens to a submission, and what else decides what follows.
// What its methods answer is a function of it and the row: they are pure.
type moment struct {
	now    time.Time
	chance float64 // in [0, 1): the jitter of delays
	maxAge time.Duration
	fails  int  // probes of the account's spool that failed in a row before this
	copies bool // what is sent is copied into the Sent folder, or looked for there
	flags  bool // what is answered or forwarded is marked
}

// step is what follows of something that happened: the next row, its events in order, and
// what becomes of the account's spool.
type step struct {
	moment
	row     store.Submission
	events  []events.Event
	sleep   string    // a reason for which the spool sleeps, or with a gateway this submission alone; "" leaves it as it is
	until   time.Time // as long
	awake   bool      // the server did as it should: the spool's failures are over
	sentTo  []string  // of a transaction that succeeded: for the sent log
	perhaps []string  // whom the server may have taken it for
}

func (m moment) step(row store.Submission) *step {
	row.Pending, row.Rejected, row.Deferred = slices.Clone(row.Pending), slices.Clone(row.Rejected), slices.Clone(row.Deferred)
	return &step{moment: m, row: row}
}

// deadline is when a submission is given up, whatever it waits for.
func (m moment) deadline(row store.Submission) time.Time {
	from := row.Created
	if row.SendAt.After(from) {
		from = row.SendAt
	}
	return from.Add(m.maxAge)
}

// answered is what a transaction said of the recipients it was for.
type answered struct {
	accepted []string
	refused  []transport.Refusal
	tooMany  []string
}

// settle writes down whom the server refused, for good or for now, and answers those of
// the transaction that it neither refused for good nor accepted.
func (s *step) settle(p Profile, a answered) (open []string) {
	s.row.Deferred = slices.DeleteFunc(s.row.Deferred, func(r store.Refusal) bool { return slices.Contains(s.row.Pending, r.Recipient) })
	var gone []string
	for _, r := range a.refused {
		if !slices.Contains(s.row.Pending, r.Recipient) || slices.Contains(a.accepted, r.Recipient) {
			continue
		}
		if v := classifyRefusal(p, r); v.Class == Permanent {
			s.row.Rejected = append(s.row.Rejected, refusal(r))
			gone = append(gone, r.Recipient)
			continue
		}
		s.row.Deferred = append(s.row.Deferred, refusal(r))
	}
	for _, to := range s.row.Pending {
		if !slices.Contains(a.accepted, to) && !slices.Contains(gone, to) {
			open = append(open, to)
		}
	}
	return open
}

func refusal(r transport.Refusal) store.Refusal {
	return store.Refusal{Recipient: r.Recipient, Response: brief(r.Response), Code: r.Code, Enhanced: r.Enhanced}
}

// maxResponse is how many octets of a reply are kept for one recipient of up to 500.
const maxResponse = 250

// brief is as much of a reply, in whole characters.
func brief(response string) string {
	if len(response) > maxResponse {
		response = strings.ToValidUTF8(response[:maxResponse], "")
	}
	return response
}

// spoolFor puts the spool to sleep where one of the refusals asks for it, and answers that one.
func (s *step) spoolFor(p Profile, refused []transport.Refusal) *late {
	for _, r := range refused {
		if v := classifyRefusal(p, r); v.sleep() != "" {
			s.sleeping(v.sleep())
			return &late{v, refusal(r)}
		}
	}
	return nil
}

// late is why recipients are tried again later.
type late struct {
	verdict Verdict
	why     store.Refusal
}

func (s *step) sleeping(reason string) {
	fails := s.fails + 1
	if !s.own() {
		fails = s.row.Charged + 1
	}
	s.awake, s.sleep, s.until = false, reason, s.now.Add(jitter(sleepFor(reason, fails), s.chance))
}

// own says whether it goes by the account's own server. What becomes of it elsewhere says
// nothing of that server: the spool neither sleeps nor wakes for it.
func (s *step) own() bool { return s.row.Gateway == "" }

// sent is a transaction that ended with a 2xx to the final dot. The row may have been made
// unknown meanwhile by who thought the sender dead.
func (m moment) sent(row store.Submission, p Profile, r transport.Receipt) *step {
	s := m.step(row)
	open := s.settle(p, answered{r.Accepted, r.Refused, r.TooMany})
	s.awake = true
	s.taken(r.Accepted)
	if id := p.rewritten(r.Response); id != "" && id != row.MessageID && row.OriginalMessageID == "" {
		s.row.OriginalMessageID, s.row.MessageID = row.MessageID, id
	}
	if r.DSNUnsupported {
		dsn := store.DSN{}
		if row.DSN != nil {
			dsn = *row.DSN
		}
		dsn.Unsupported = true
		s.row.DSN = &dsn
	}
	s.row.Last = &store.Outcome{At: m.now, Response: r.Response, ResponseCode: r.Code, DurationMS: r.Duration.Milliseconds(), Secure: r.Secure}
	s.row.Crashes = 0
	s.tellSent(r.Accepted, events.MessageSent{Response: r.Response, DurationMS: r.Duration.Milliseconds(), Secure: r.Secure})
	s.goOn(open, r.TooMany, s.spoolFor(p, r.Refused))
	return s
}

// taken is what follows of the first 250: a copy and a flag.
func (s *step) taken(by []string) {
	r := &s.row
	s.sentTo = by
	if s.copies && r.CopyState == "" {
		r.CopyState = AfterPending
	}
	if s.flags && r.FlagState == "" && r.Reference != nil && r.Reference.Error == "" {
		r.FlagState = AfterPending
	}
}

// goOn is what follows when some were accepted: the next transaction at once for those of
// open that belong in another, else the later one for those the server put off, else the end.
// by is why the spool sleeps, if it does: then nothing is tried at once.
func (s *step) goOn(open, tooMany []string, by *late) {
	row := &s.row
	off := without(open, tooMany)
	next := without(open, off)
	if len(next) > 0 && by == nil {
		s.putOff(off)
		s.queue(next, s.now)
		return
	}
	s.putOff(open)
	open = s.withDeferred(next)
	if len(open) == 0 {
		s.end(store.SubmissionSent)
		row.Pending, row.Deferred = nil, nil
		return
	}
	if by == nil {
		by = &late{Verdict{Temporary, ScopeRecipient, "EENVELOPE", ""}, row.Deferred[0]}
	}
	v, why := by.verdict, by.why
	row.Last = &store.Outcome{
		At: s.now, Error: cmp.Or(why.Response, "the server did not answer for them"), ErrorCode: v.ErrorCode,
		Response: why.Response, ResponseCode: why.Code, Command: "RCPT", Class: string(v.Class), Scope: string(v.Scope), Hint: v.Hint,
	}
	at := s.charge(v)
	if reason := s.spent(at); reason != "" {
		s.tellError(open, time.Time{})
		s.fail(reason, open)
		return
	}
	s.wait(open, at)
}

// charge has an attempt cost what its verdict wants, and says when the next one is.
func (s *step) charge(v Verdict) (next time.Time) {
	if !v.Limit() {
		s.row.Charged++
	}
	next = s.later()
	if s.sleep != "" && (v.Limit() || next.Before(s.until)) {
		next = s.until
	}
	return next
}

// wait queues the submission for a later attempt, or shows it as held where that waits for
// credentials or room.
func (s *step) wait(to []string, next time.Time) {
	s.queue(to, next)
	if s.sleep != "" && s.sleep != SleepServer && s.until.Sub(s.now) > holdFrom {
		s.hold(s.sleep, next, s.row.Attempt+1)
	}
}

// withDeferred adds those that were put off in an earlier transaction.
func (s *step) withDeferred(open []string) []string {
	for _, r := range s.row.Deferred {
		if !slices.Contains(open, r.Recipient) {
			open = append(open, r.Recipient)
		}
	}
	return open
}

// later is when the next attempt is behind those that were charged.
func (s *step) later() time.Time {
	return s.now.Add(delayAfter(s.row.Delays, s.row.Charged, s.chance))
}

// spent says why there is no next attempt; "" = there is one.
func (s *step) spent(next time.Time) string {
	switch {
	case s.row.Charged >= s.row.Attempts:
		return reasonAttempts
	case next.After(s.deadline(s.row)):
		return reasonExpired
	}
	return ""
}

// queue has the submission tried again for these recipients at a time.
func (s *step) queue(to []string, at time.Time) {
	r := &s.row
	r.State, r.Stage, r.Reason, r.Until = store.SubmissionQueued, "", "", time.Time{}
	r.Pending, r.NextAttempt, r.Ended = to, at, time.Time{}
}

// hold has it wait for something named, until a time if that is known; attempt is the one
// it stands before, or whose outcome is unknown.
func (s *step) hold(reason string, until time.Time, attempt int) {
	row, e := s.row.Hold(reason, until, attempt)
	s.row, s.events = row, append(s.events, e)
}

func (s *step) end(state store.SubmissionState) {
	r := &s.row
	r.State, r.Stage, r.Reason, r.Until, r.NextAttempt = state, "", "", time.Time{}, time.Time{}
	r.Ended = s.now
}

// putOff has recipients wait that the server did not answer for.
func (s *step) putOff(to []string) {
	for _, to := range to {
		if !slices.ContainsFunc(s.row.Deferred, func(r store.Refusal) bool { return r.Recipient == to }) {
			s.row.Deferred = append(s.row.Deferred, store.Refusal{Recipient: to})
		}
	}
}

// without are those recipients that are not among others.
func without(to, others []string) []string {
	return slices.DeleteFunc(slices.Clone(to), func(a string) bool { return slices.Contains(others, a) })
}
