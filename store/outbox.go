package store

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// SubmissionQuery asks for a page of submissions, newest first.
type SubmissionQuery struct {
	Account AccountID         // "": of all accounts
	States  []SubmissionState // nil: in every state
	Offset  int               // at most MaxSubmissionOffset
	Limit   int
}

// MaxSubmissionOffset is how far back pages go: what is behind it is found by its account,
// state or id.
const MaxSubmissionOffset = 10_000

// SubmissionPage is an answer to a SubmissionQuery.
type SubmissionPage struct {
	Submissions []Submission
	Total       int // submissions that the query fits
}

// Submissions answers a query. A row that went while it was answered is left out.
func (s *Store) Submissions(ctx context.Context, q SubmissionQuery) (SubmissionPage, error) {
	states := q.States
	if len(states) == 0 {
		states = SubmissionStates[:]
	}
	var sets []string
	for _, st := range states {
		if q.Account != "" {
			sets = append(sets, s.k.outboxOf(q.Account, string(st)))
			continue
		}
		for n := range Shards {
			sets = append(sets, s.k.outbox(n, string(st)))
		}
	}
	offset := min(max(q.Offset, 0), MaxSubmissionOffset)
	counts := make([]*redis.IntCmd, len(sets))
	if err := s.pipeline(ctx, "count submissions", func(p redis.Pipeliner) {
		for i, set := range sets {
			counts[i] = p.ZCard(ctx, set)
		}
	}); err != nil {
		return SubmissionPage{}, err
	}
	var page SubmissionPage
	var parts []*redis.StringSliceCmd
	if err := s.pipeline(ctx, "list submissions", func(p redis.Pipeliner) {
		for i, set := range sets {
			if n := counts[i].Val(); n > 0 {
				page.Total += int(n)
				parts = append(parts, p.ZRevRange(ctx, set, 0, int64(offset+q.Limit)-1))
			}
		}
	}); err != nil {
		return SubmissionPage{}, err
	}
	var ids []string
	for _, part := range parts {
		ids = append(ids, part.Val()...)
	}
	slices.SortFunc(ids, func(a, b string) int { return cmp.Compare(b, a) })
	ids = slices.Compact(ids) // one that moved meanwhile may stand in two sets
	ids = ids[min(offset, len(ids)):min(offset+q.Limit, len(ids))]
	var err error
	page.Submissions, err = s.submissions(ctx, ids)
	return page, err
}

// pipeline sends commands at once; a key that is not there is no error.
func (s *Store) pipeline(ctx context.Context, doing string, f func(redis.Pipeliner)) error {
	p := s.rdb.Pipeline()
	f(p)
	if p.Len() == 0 {
		return nil
	}
	if _, err := p.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return unavailable(doing, err)
	}
	return nil
}

// submissions reads rows, in order; those that are gone are left out, and those that cannot
// be read are logged and left out.
func (s *Store) submissions(ctx context.Context, ids []string) ([]Submission, error) {
	rows := make([]*redis.MapStringStringCmd, len(ids))
	if err := s.pipeline(ctx, "read submissions", func(p redis.Pipeliner) {
		for i, id := range ids {
			rows[i] = p.HGetAll(ctx, s.k.submission(SubmissionID(id)))
		}
	}); err != nil {
		return nil, err
	}
	out := make([]Submission, 0, len(ids))
	for i, id := range ids {
		m, err := readSubmission(SubmissionID(id), rows[i].Val())
		if err == nil {
			out = append(out, m)
		} else if !errors.Is(err, ErrNotFound) {
			s.log.Error("submission unreadable", "submission", id, "err", err)
		}
	}
	return out, nil
}

// Spool is what an account has to send, and whether it may.
type Spool struct {
	Paused bool
	Sleep  Sleep        // zero: awake
	Probe  SubmissionID // the one that was let through when it last woke; "": none since
	Limit  time.Time    // when there is room below a limit; the past: there is
	Due    time.Time    // of the next one; zero: none waits
	Active int          // slots that are taken
	Rows   int          // submissions that are not final
	Bytes  int64        // of their bodies
}

// Spool reads an account's spool. An account without one has an empty one.
func (s *Store) Spool(ctx context.Context, account AccountID) (Spool, error) {
	var h *redis.MapStringStringCmd
	var head *redis.ZSliceCmd
	var active *redis.IntCmd
	if err := s.pipeline(ctx, "read spool", func(p redis.Pipeliner) {
		h = p.HGetAll(ctx, s.k.outboxOf(account, "spool"))
		head = p.ZRangeWithScores(ctx, s.k.outboxOf(account, "due"), 0, 0)
		active = p.ZCard(ctx, s.k.outboxOf(account, string(SubmissionProcessing)))
	}); err != nil {
		return Spool{}, err
	}
	v := h.Val()
	sp := Spool{
		Paused: v["paused"] != "", Probe: SubmissionID(v["probe"]), Limit: milli(v["limit"]),
		Sleep:  Sleep{milli(v["sleep"]), v["why"], atoi(v["level"])},
		Active: int(active.Val()), Rows: atoi(v["n"]), Bytes: int64(atoi(v["bytes"])),
	}
	if z := head.Val(); len(z) > 0 {
		sp.Due = time.UnixMilli(int64(z[0].Score)).UTC()
	}
	return sp, nil
}

// OutboxTotals is what there is in the whole installation.
type OutboxTotals struct {
	States map[SubmissionState]int
	Bytes  int64     // of bodies of submissions that are not final
	Oldest time.Time // since when the longest waiting account has a submission due; zero: none has
}

// OutboxTotals counts submissions.
func (s *Store) OutboxTotals(ctx context.Context) (OutboxTotals, error) {
	t := OutboxTotals{States: map[SubmissionState]int{}}
	counts := map[SubmissionState][]*redis.IntCmd{}
	var bytes func() int64
	var heads []*redis.ZSliceCmd
	if err := s.pipeline(ctx, "count submissions", func(p redis.Pipeliner) {
		bytes = s.queuedBytes(ctx, p)
		for n := range Shards {
			for _, st := range SubmissionStates {
				counts[st] = append(counts[st], p.ZCard(ctx, s.k.outbox(n, string(st))))
			}
			heads = append(heads, p.ZRangeWithScores(ctx, s.k.outbox(n, "work"), 0, 0))
		}
	}); err != nil {
		return t, err
	}
	for st, cmds := range counts {
		for _, c := range cmds {
			t.States[st] += int(c.Val())
		}
	}
	t.Bytes = bytes()
	for _, head := range heads {
		if z := head.Val(); len(z) > 0 {
			if at := time.UnixMilli(int64(z[0].Score)).UTC(); t.Oldest.IsZero() || at.Before(t.Oldest) {
				t.Oldest = at
			}
		}
	}
	return t, nil
}

// queuedBytes asks for the bytes of bodies that wait. Its answer is there once p was run.
func (s *Store) queuedBytes(ctx context.Context, p redis.Pipeliner) func() int64 {
	var sums [Shards]*redis.StringCmd
	for n := range sums {
		sums[n] = p.HGet(ctx, s.k.outbox(n, "sum"), "bytes")
	}
	return func() (all int64) {
		for _, c := range sums {
			all += int64(atoi(c.Val()))
		}
		return all
	}
}

// bytesCache is how many bytes wait to be sent, as read a moment ago.
type bytesCache struct {
	mu    sync.Mutex
	bytes int64
	at    time.Time
}

// roomFor says whether a body fits into what may wait in all. What is known is a second old.
func (s *Store) roomFor(ctx context.Context, size, limit int64) error {
	s.queued.mu.Lock()
	bytes, fresh := s.queued.bytes, time.Since(s.queued.at) < time.Second
	s.queued.mu.Unlock()
	if !fresh {
		var sum func() int64
		if err := s.pipeline(ctx, "count bytes", func(p redis.Pipeliner) { sum = s.queuedBytes(ctx, p) }); err != nil {
			return err
		}
		bytes = sum()
	}
	if bytes+size > limit {
		return ErrOutboxFull
	}
	s.queued.mu.Lock()
	s.queued.bytes = bytes + size
	if !fresh {
		s.queued.at = time.Now()
	}
	s.queued.mu.Unlock()
	return nil
}
