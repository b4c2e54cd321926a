package store

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/postrider/postrider/events"
)

// Move is one step of a submission: from what was read to what it shall be, with the events
// of it. Fence, Attempt, Owner and Lease are claims' and cannot be moved; but see Untried.
type Move struct {
	Was, Next Submission
	Events    []events.Event
}

// MoveOps is what else happens in the same script. The zero value is nothing.
type MoveOps struct {
	Recover  bool      // only if the claim was neither renewed nor marked since Was was read
	Untried  bool      // the claim made no attempt: the number of its attempt is taken back
	GiveBack Charge    // what the limits were charged for and the server did not accept
	Sleep    *Sleep    // the spool sleeps
	Wake     bool      // the spool wakes
	SentLog  *SentLog  // what was sent is remembered
	DropBody bool      // the bodies are removed; a canceled submission's is anyway, once no copy is to be made of it
	Forget   time.Time // when a row that ended is removed; zero = by the defaults below, or as before
}

// Charge is a number of messages (0 or 1) and recipients.
type Charge struct{ Messages, Recipients int }

// Sleep is why and until when nothing of an account is sent by its own server; what goes by
// gateways is. When it is over one submission is let through to probe, and the spool wakes or goes on sleeping by what became of it.
type Sleep struct {
	Until  time.Time
	Reason string
	Level  int // of the caller's: how often in a row
}

// How long rows and bodies are kept once a submission ended.
const (
	keepSent     = 24 * time.Hour
	keepFailed   = 7 * 24 * time.Hour
	keepCanceled = 7 * 24 * time.Hour
	keepUnknown  = 30 * 24 * time.Hour
	keepBody     = 24 * time.Hour // of what ended, unless DropBody is quicker
)

// MoveSubmission writes a step, with its events, in one script, if the submission is as it
// was read. It gives what was stored. A repeat after a lost answer is recognised, as long as
// nothing else happened to the submission. A state that was lost is restored first where no
// worker does it.
//
// Errors: ErrStale, ErrNotFound (the row, its account, or the body that it was to be sent
// with again is gone), ErrStateLost.
func (s *Store) MoveSubmission(ctx context.Context, was, next Submission, evs []events.Event, ops MoveOps) (Submission, error) {
	moved, err := s.MoveSubmissions(ctx, []Move{{was, next, evs}}, ops)
	if err != nil {
		return Submission{}, err
	}
	return moved[0], nil
}

// MoveSubmissions makes steps of several submissions of one account, at most 100, all or none.
// Errors: as MoveSubmission.
func (s *Store) MoveSubmissions(ctx context.Context, moves []Move, ops MoveOps) (moved []Submission, err error) {
	if len(moves) == 0 {
		return nil, nil
	}
	err = s.restored(ctx, moves[0].Was.Account, func() (err error) { moved, err = s.tryMoves(ctx, moves, ops); return err })
	return moved, err
}

func (s *Store) tryMoves(ctx context.Context, moves []Move, ops MoveOps) ([]Submission, error) {
	account := moves[0].Was.Account
	tx := s.begin(account)
	var evs []events.Event
	moved := make([]Submission, len(moves))
	for i, mv := range moves {
		if mv.Was.Account != account || mv.Next.ID != mv.Was.ID || len(moves) > 100 {
			return nil, fmt.Errorf("submission %s cannot be moved with %d others of account %q", mv.Next.ID, len(moves)-1, account)
		}
		next, err := tx.move(mv, ops)
		if err != nil {
			return nil, err
		}
		moved[i], evs = next, append(evs, mv.Events...)
	}
	spool := tx.key(s.k.outboxOf(account, "spool"))
	if ops.Sleep != nil {
		tx.op("HSET", spool, "sleep", unixMilli(ops.Sleep.Until), "why", ops.Sleep.Reason, "level", ops.Sleep.Level)
		tx.op("HDEL", spool, "probe")
		tx.schedule()
	} else if ops.Wake {
		tx.wake()
	} else {
		tx.schedule()
	}
	if ops.SentLog != nil {
		set, err := s.Settings(ctx)
		if err != nil {
			return nil, err
		}
		if err := tx.sentLog(ctx, *ops.SentLog, moves[0].Was, set.sentLogFor()); err != nil {
			return nil, err
		}
	}
	_, err := tx.run(ctx, evs)
	if err == nil {
		return moved, nil
	}
	return s.movedBefore(ctx, moved, err)
}

// movedBefore finds out why a move was refused: it may have been done before, its answer lost.
func (s *Store) movedBefore(ctx context.Context, moved []Submission, cause error) ([]Submission, error) {
	if !errors.Is(cause, ErrStale) && !errors.Is(cause, ErrStateLost) {
		return nil, cause
	}
	for i := range moved {
		stored, err := s.Submission(ctx, moved[i].ID)
		if err != nil {
			return nil, err
		}
		if stored.Op == moved[i].Op {
			continue
		}
		if _, err := s.Account(ctx, stored.Account); errors.Is(err, ErrNotFound) {
			return nil, err
		}
		if stored.Version == moved[i].Version-1 && stored.State.Final() && moved[i].Waiting() {
			if n, err := s.rdb.Exists(ctx, s.k.submissionBody(stored.ID)).Result(); err != nil || n == 0 {
				return nil, errors.Join(unavailable("look for body", err), fmt.Errorf("body of submission %s: %w", stored.ID, ErrNotFound))
			}
		}
		return nil, fmt.Errorf("submission %s is %s: %w", stored.ID, stored.State, cause)
	}
	return moved, nil
}

// move adds one step to a transaction.
func (t *tx) move(mv Move, ops MoveOps) (Submission, error) {
	was, next := mv.Was, mv.Next
	k := t.s.k
	row, body := k.submission(was.ID), k.submissionBody(was.ID)
	next.Account, next.Version = was.Account, was.Version+1
	next.Fence, next.Attempt, next.Owner, next.Lease, next.ChargedAt = was.Fence, was.Attempt, was.Owner, was.Lease, was.ChargedAt
	if next.State != SubmissionProcessing {
		next.Stage, next.Lease, next.Marked = "", time.Time{}, nil
	}
	x, err := json.Marshal(next)
	if err != nil {
		return Submission{}, fmt.Errorf("submission %s: %w", was.ID, err)
	}
	op := []string{string(was.ID), strconv.FormatUint(was.Version, 10), string(next.State), next.Reason, string(x)}
	for _, e := range mv.Events {
		op = append(op, string(e.ID))
	}
	next.Op = events.Digest(op...)

	t.guard(row, "v", strconv.FormatUint(was.Version, 10))
	if ops.Recover {
		t.guard(row, "stage", was.Stage)
		t.guard(row, "lease", strconv.FormatInt(was.Lease.UnixMilli(), 10))
	}
	fields, err := next.row()
	if err != nil {
		return Submission{}, err
	}
	t.op("HSET", t.key(row), fields...)
	if ops.Untried {
		next.Attempt--
		t.op("HSET", t.key(row), "attempt", next.Attempt)
	}
	if was.State == SubmissionProcessing && next.State != SubmissionProcessing {
		t.op("HDEL", t.key(row), "lease", "marked")
	}
	t.outboxSets(was, next)
	if was.counted() != next.counted() {
		t.tally(next, map[bool]int64{true: 1, false: -1}[next.counted()])
	}
	switch {
	case next.State == SubmissionCanceled && next.CopyState != AfterPending, ops.DropBody:
		t.op("UNLINK", t.key(body))
	case next.State.Final() && !was.State.Final():
		t.op("PEXPIRE", t.key(body), keepBody.Milliseconds())
	case was.State.Final() && !next.State.Final():
		t.guard(body, "", "#"+strconv.Itoa(was.Pieces))
		t.op("PERSIST", t.key(body))
	}
	t.endsIn(was, next, ops.Forget)
	if after := t.key(k.outbox(Shard(t.id), "after")); next.after() && !was.after() {
		t.op("ZADD", after, next.Last.At.Add(afterEvery).UnixMilli(), string(was.ID))
	} else if was.after() && !next.after() {
		t.op("ZREM", after, string(was.ID))
	}
	if g := ops.GiveBack; g.Messages+g.Recipients > 0 && !was.ChargedAt.IsZero() {
		table, ms := t.key(k.outboxOf(t.id, "limits")), was.ChargedAt.UnixMilli()
		minute, hour := strconv.FormatInt(ms/60_000, 10), strconv.FormatInt(ms/3_600_000, 10)
		t.op("HINCRBY", table, "m"+minute, -g.Messages)
		t.op("HINCRBY", table, "h"+hour, -g.Messages)
		t.op("HINCRBY", table, "H"+hour, -g.Recipients)
		t.op("PEXPIRE", table, limitsFor.Milliseconds())
		t.op("HDEL", t.key(k.outboxOf(t.id, "spool")), "limit") // there is room again
		t.op("HSET", t.key(row), "charged", 0)                  // it is given back once
		next.ChargedAt = time.Time{}
	}
	return next, nil
}

// ends names the set that a submission stands in until its end; "" = it has none yet. Behind
// an unknown outcome recipients may wait: somebody must tell of them before the row goes.
func (m *Submission) ends() string {
	switch {
	case m.State == SubmissionUnknown && len(m.Deferred) > 0:
		return "unsettled"
	case m.State.Final(), m.State == SubmissionUnknown:
		return "ended"
	}
	return ""
}

// endsIn puts a submission into the set of its end.
func (t *tx) endsIn(was, next Submission, forget time.Time) {
	n, from, to := Shard(t.id), was.ends(), next.ends()
	if from != "" && from != to {
		t.op("ZREM", t.key(t.s.k.outbox(n, from)), string(was.ID))
	}
	if to != "" && (from != to || was.State != next.State || !forget.IsZero()) { // else what was said before holds
		t.op("ZADD", t.key(t.s.k.outbox(n, to)), forgetAt(next, forget).UnixMilli(), string(was.ID))
	}
}

// after says whether a copy or a flag follows that is not made yet.
func (m *Submission) after() bool {
	return m.Last != nil && (m.CopyState == AfterPending || m.FlagState == AfterPending)
}

// afterEvery is how often somebody looks whether what follows a submission has a task.
const afterEvery = 10 * time.Minute

// forgetAt is when a row that ended is removed.
func forgetAt(m Submission, given time.Time) time.Time {
	if !given.IsZero() {
		return given
	}
	ended := m.Ended
	if ended.IsZero() {
		ended = time.Now()
	}
	return ended.Add(map[SubmissionState]time.Duration{
		SubmissionSent: keepSent, SubmissionFailed: keepFailed, SubmissionCanceled: keepCanceled, SubmissionUnknown: keepUnknown,
	}[m.State])
}

// outboxSets puts a submission into the sets of its next state and takes it out of the last.
func (t *tx) outboxSets(was, next Submission) {
	k, n, id := t.s.k, Shard(t.id), string(next.ID)
	if was.State != next.State {
		for _, set := range []func(string) string{
			func(st string) string { return k.outboxOf(t.id, st) },
			func(st string) string { return k.outbox(n, st) },
		} {
			if was.State != "" {
				t.op("ZREM", t.key(set(string(was.State))), id)
			}
			t.op("ZADD", t.key(set(string(next.State))), 0, id)
		}
		if was.State == SubmissionProcessing {
			t.op("ZREM", t.key(k.outbox(n, "leases")), id)
		}
	}
	sets := []int{t.key(k.outboxOf(t.id, "due"))}
	if next.Gateway != "" {
		sets = append(sets, t.key(k.outboxOf(t.id, "gateway")))
	}
	for _, set := range sets {
		if next.Waiting() {
			t.op("ZADD", set, next.Due().UnixMilli(), id)
		} else if was.Waiting() {
			t.op("ZREM", set, id)
		}
	}
}

// tally counts a submission to what waits (1), or not any more (-1).
func (t *tx) tally(m Submission, sign int64) {
	for _, key := range []string{t.s.k.outboxOf(t.id, "spool"), t.s.k.outbox(Shard(t.id), "sum")} {
		t.op("TALLY", t.key(key), "n", sign)
		t.op("TALLY", t.key(key), "bytes", sign*m.Size)
	}
}

// schedule puts the account where sweepers find its due submissions.
func (t *tx) schedule() {
	k := t.s.k
	of := func(rest string) int { return t.key(k.outboxOf(t.id, rest)) }
	t.op("WORK", t.key(k.outbox(Shard(t.id), "work")), of("due"), of("gateway"), of("spool"), string(t.id))
}

// wake ends the sleep of the spool.
func (t *tx) wake() {
	t.op("HDEL", t.key(t.s.k.outboxOf(t.id, "spool")), "sleep", "why", "level", "probe", "limit")
	t.schedule()
}

// WakeSpool lets an account send again: its credentials or servers were changed, or somebody
// asks for it. Errors: ErrNotFound.
func (s *Store) WakeSpool(ctx context.Context, account AccountID) error {
	tx := s.begin(account)
	tx.wake()
	_, err := tx.run(ctx, nil)
	if errors.Is(err, ErrStateLost) {
		if _, err := s.Account(ctx, account); err != nil {
			return err
		}
	}
	return err
}

// SleepSpool puts the spool to sleep, apart from any submission.
// Errors: ErrNotFound.
func (s *Store) SleepSpool(ctx context.Context, account AccountID, sl Sleep) error {
	tx := s.begin(account)
	spool := tx.key(s.k.outboxOf(account, "spool"))
	tx.op("HSET", spool, "sleep", unixMilli(sl.Until), "why", sl.Reason, "level", sl.Level)
	tx.op("HDEL", spool, "probe")
	tx.schedule()
	_, err := tx.run(ctx, nil)
	return err
}

// dropOutbox takes an account's outbox away: nothing of it can be claimed, marked or moved
// any more, and a sweep removes rows and bodies. It says how many waited.
func (t *tx) dropOutbox(set Settings, now time.Time, rows, bytes string) (dropped int) {
	k, n := t.s.k, Shard(t.id)
	spool, drops := k.outboxOf(t.id, "spool"), t.key(k.outbox(n, "drops"))
	t.guard(spool, "n", rows)
	t.guard(spool, "bytes", bytes)
	name := "dropped:" + rand.Text() + ":"
	for _, st := range SubmissionStates {
		args := []any{t.key(k.outbox(n, name+string(st))), drops, name + string(st)}
		if st == SubmissionProcessing { // whoever sends one must not record it under an account of the same name
			args = append(args, t.key(k.shard(n, "q:")))
		}
		t.finally("DROP", t.key(k.outboxOf(t.id, string(st))), args...)
	}
	if rows != "" {
		t.finally("TALLY", t.key(k.outbox(n, "sum")), "n", "-"+rows)
	}
	if bytes != "" {
		t.finally("TALLY", t.key(k.outbox(n, "sum")), "bytes", "-"+bytes)
	}
	t.finally("ZREM", t.key(k.outbox(n, "work")), string(t.id))
	gone := []string{spool, k.outboxOf(t.id, "due"), k.outboxOf(t.id, "gateway"), k.outboxOf(t.id, "limits")}
	days := k.keyDays(t.id, now)
	for _, key := range slices.Concat(gone, days[:], k.sentWeeks(t.id, now, set.sentLogFor())) {
		t.finally("UNLINK", t.key(key))
	}
	return atoi(rows)
}
