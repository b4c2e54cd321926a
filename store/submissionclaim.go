package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/events"
)

// Limits bound what an account sends; 0 = none.
type Limits struct {
	PerMinute        int // messages
	PerHour          int
	PerDay           int
	RecipientsPerDay int
	MinInterval      time.Duration // from one claim to the next
}

// Over is l with what the account has for itself.
func (o SendLimits) Over(l Limits) Limits {
	over(&l.PerMinute, o.PerMinute)
	over(&l.PerHour, o.PerHour)
	over(&l.PerDay, o.PerDay)
	over(&l.RecipientsPerDay, o.RecipientsPerDay)
	if o.MinInterval != nil {
		l.MinInterval = time.Duration(*o.MinInterval) * time.Millisecond
	}
	return l
}

// Claim asks for a submission to send now.
type Claim struct {
	Account AccountID
	ID      SubmissionID // "": the first one that is due
	Owner   string
	Lease   time.Duration
	Slots   int // submissions of the account that may be sent at once
	Limits  Limits
	WarnAt  int // percent of a limit at which to say so; 0 = 90
	// Elsewhere asks for what goes by a gateway alone, as every claim does while the spool sleeps.
	Elsewhere bool
	Op        string // a claim repeated with the same one takes nothing more; "": it is not repeated
}

// ClaimAnswer says what came of a claim.
type ClaimAnswer string

// The answers.
const (
	ClaimOK     ClaimAnswer = "OK"
	ClaimNone   ClaimAnswer = "NONE"   // nothing is due, or not Elsewhere; Until is when something is
	ClaimNotDue ClaimAnswer = "NOTDUE" // the one asked for; Until is when it is
	ClaimGone   ClaimAnswer = "GONE"   // it does not wait, or there is no such account
	ClaimPaused ClaimAnswer = "PAUSED" // the account
	ClaimAsleep ClaimAnswer = "ASLEEP" // the spool, for Reason, until Until; without one: its probe is on its way
	ClaimBusy   ClaimAnswer = "BUSY"   // all slots are taken
	ClaimPaced  ClaimAnswer = "PACED"  // too soon behind the last one
	ClaimLimit  ClaimAnswer = "LIMIT"  // a limit is reached; there is room at Until
)

// Claimed is what came of a claim.
type Claimed struct {
	Answer     ClaimAnswer
	Submission Submission // with ClaimOK
	Now        time.Time  // with ClaimOK and ClaimPaced, by Redis' clock: what next attempts are counted from
	Probe      bool       // with ClaimOK: the spool was asleep, and its further fate is this one's
	Next       time.Time  // with ClaimOK: when the next one is due; zero = there is none
	Until      time.Time
	Reason     string
	Limits     []LimitFact // those about to be reached, or with ClaimLimit reached, that nobody has told of
}

// LimitFact is a limit that is to be told of, once in its window. See TellLimit.
type LimitFact struct {
	Exceeded   bool // else approaching
	Name, Unit string
	Volume     int
	Limit      int
	Start, End time.Time // the UTC hour or day
}

var (
	claimScript = script("submission_claim.lua", "outbox_lib.lua")
	keepScript  = script("submission_keep.lua")
)

// ClaimSubmission takes a submission to be sent now: it becomes SubmissionProcessing with a
// new attempt and a new fence, in a slot, under a lease, charged to the limits. A claim
// whose answer was lost is answered again to whoever repeats its Op, and to the client's own
// repeats; else it runs out with its lease. Errors: ErrUnavailable.
func (s *Store) ClaimSubmission(ctx context.Context, c Claim) (Claimed, error) {
	warn := c.WarnAt
	if warn == 0 {
		warn = 90
	}
	if c.Op == "" {
		c.Op = rand.Text()
	}
	elsewhere := 0
	if c.Elsewhere {
		elsewhere = 1
	}
	l := c.Limits
	answer, err := claimScript.slice(ctx, s.rdb, []string{s.k.tag(Shard(c.Account))},
		string(c.Account), string(c.ID), c.Op, c.Owner, c.Lease.Milliseconds(), c.Slots,
		l.MinInterval.Milliseconds(), l.PerMinute, l.PerHour, l.PerDay, l.RecipientsPerDay, warn, elsewhere)
	if err != nil {
		return Claimed{}, err
	}
	w := make([]string, len(answer))
	for i, v := range answer {
		w[i] = fmt.Sprint(v)
	}
	out := Claimed{Answer: ClaimAnswer(w[0])}
	bad := func(err error) (Claimed, error) {
		return Claimed{}, fmt.Errorf("script submission_claim.lua answered %s and %d words: %w", w[0], len(w), err)
	}
	switch out.Answer {
	case ClaimNone, ClaimNotDue:
		out.Until = milli(w[1])
	case ClaimPaced:
		out.Until, out.Now = milli(w[1]), milli(w[2]).UTC()
	case ClaimAsleep:
		out.Until, out.Reason = milli(w[1]), w[2]
	case ClaimLimit:
		out.Until, out.Reason = milli(w[1]), HeldSendLimit
		if out.Limits, _, err = limitFacts(w[2:]); err != nil {
			return bad(err)
		}
	case ClaimOK:
		out.Now, out.Probe, out.Next = milli(w[1]).UTC(), w[2] == "1", milli(w[3])
		var rest []string
		if out.Limits, rest, err = limitFacts(w[4:]); err != nil {
			return bad(err)
		}
		h := map[string]string{}
		for ; len(rest) > 1; rest = rest[2:] {
			h[rest[0]] = rest[1]
		}
		id := SubmissionID(h["id"])
		if out.Submission, err = readSubmission(id, h); err != nil {
			return Claimed{}, err
		}
	}
	return out, nil
}

// limitFacts reads a number of words, and those words, seven a limit.
func limitFacts(w []string) (facts []LimitFact, rest []string, err error) {
	n, err := strconv.Atoi(w[0])
	if err != nil || n < 0 || n%7 != 0 || len(w) <= n {
		return nil, nil, fmt.Errorf("limits: %.100q", w)
	}
	for f, end := w[1:], w[1+n:]; len(f) > len(end); f = f[7:] {
		facts = append(facts, LimitFact{f[0] == "exceeded", f[1], f[2], atoi(f[3]), atoi(f[4]), milli(f[5]).UTC(), milli(f[6]).UTC()})
	}
	return facts, w[1+n:], nil
}

// TellLimit appends sendLimitApproaching or sendLimitExceeded, unless it was in this window.
// held is how many submissions wait for it. Errors: ErrNotFound, ErrStateLost.
func (s *Store) TellLimit(ctx context.Context, account AccountID, f LimitFact, held int) error {
	a, err := s.Account(ctx, account)
	if err != nil {
		return err
	}
	body := events.SendLimit{
		LimitName: f.Name, Unit: f.Unit, Volume: f.Volume, Limit: f.Limit,
		Window: events.Window{Start: events.TimeOf(f.Start), End: events.TimeOf(f.End)}, Held: held,
	}
	field, p := "approaching:"+f.Name, events.Payload(events.SendLimitApproaching{SendLimit: body})
	if f.Exceeded {
		field, p = "exceeded:"+f.Name, events.SendLimitExceeded{SendLimit: body}
	}
	start := strconv.FormatInt(f.Start.UnixMilli(), 10)
	tx := s.begin(account)
	table := s.k.outboxOf(account, "limits")
	tx.guard(table, field, "!"+start)
	tx.op("HSET", tx.key(table), field, start)
	tx.op("PEXPIRE", tx.key(table), limitsFor.Milliseconds())
	_, err = tx.run(ctx, []events.Event{{ID: events.NewID(string(account), a.Epoch, p.EventType(), f.Name, start), Data: p}})
	if errors.Is(err, ErrStale) {
		return nil // somebody else was quicker
	}
	return err
}

// limitsFor is how long what was counted for limits is kept: the day it may count, and an hour.
const limitsFor = 25 * time.Hour

// MarkSubmission records, before the final dot is sent, that the server may have the message
// from now on. accepted are the recipients it is for, as places in To; none: not known, so
// all that are pending. Errors: ErrStale: the claim is no longer ours, and the connection
// must be dropped without the dot.
func (s *Store) MarkSubmission(ctx context.Context, id SubmissionID, fence uint64, attempt int, accepted ...int) error {
	places := make([]string, len(accepted))
	for i, n := range accepted {
		places[i] = strconv.Itoa(n)
	}
	return s.keep(ctx, id, fence, attempt, "mark", strings.Join(places, ","))
}

// marked reads the recipients that a mark names.
func marked(places string, to []string) (out []string) {
	for place := range strings.SplitSeq(places, ",") {
		if n, err := strconv.Atoi(place); err == nil && n >= 0 && n < len(to) {
			out = append(out, to[n])
		}
	}
	return out
}

// RenewSubmission prolongs the lease of a claim, by Redis' clock. Errors: ErrStale.
func (s *Store) RenewSubmission(ctx context.Context, id SubmissionID, fence uint64, attempt int, lease time.Duration) error {
	return s.keep(ctx, id, fence, attempt, lease.Milliseconds())
}

func (s *Store) keep(ctx context.Context, id SubmissionID, fence uint64, attempt int, what ...any) error {
	args := append([]any{string(id), strconv.FormatUint(fence, 10), attempt}, what...)
	v, err := keepScript.run(ctx, s.rdb, []string{s.k.tag(id.shard())}, args...)
	if err == nil && v != int64(1) {
		err = fmt.Errorf("submission %s, attempt %d: %w", id, attempt, ErrStale)
	}
	return err
}
