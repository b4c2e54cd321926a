package store

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
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

// DueSpool is an account with a submission that could be claimed now, unless all its slots
// are taken.
type DueSpool struct {
	Account AccountID
	Since   time.Time
	Active  int // slots that are taken
}

// DueSpools are the accounts with due submissions: at most limit a shard, those that wait
// longest.
func (s *Store) DueSpools(ctx context.Context, limit int) ([]DueSpool, error) {
	var out []DueSpool
	err := s.overdue(ctx, "work", limit, func(z redis.Z) {
		out = append(out, DueSpool{Account: AccountID(z.Member.(string)), Since: time.UnixMilli(int64(z.Score)).UTC()})
	})
	if err != nil {
		return nil, err
	}
	active := make([]*redis.IntCmd, len(out))
	err = s.pipeline(ctx, "count slots", func(p redis.Pipeliner) {
		for i := range out {
			active[i] = p.ZCard(ctx, s.k.outboxOf(out[i].Account, string(SubmissionProcessing)))
		}
	})
	for i := range out {
		out[i].Active = int(active[i].Val())
	}
	return out, err
}

// LostSubmissions are submissions whose lease has run out, at most limit a shard.
func (s *Store) LostSubmissions(ctx context.Context, limit int) ([]Submission, error) {
	return s.overdueRows(ctx, "leases", limit)
}

// UnsettledSubmissions are those whose outcome stayed unknown for as long as they are kept
// and that have recipients who were not offered: at most limit a shard.
func (s *Store) UnsettledSubmissions(ctx context.Context, limit int) ([]Submission, error) {
	return s.overdueRows(ctx, "unsettled", limit)
}

// AfterSubmissions are those whose copy or flag was pending for ten minutes: at most limit a
// shard. They are not answered again for as long.
func (s *Store) AfterSubmissions(ctx context.Context, limit int) ([]Submission, error) {
	var ids []string
	err := s.overdue(ctx, "after", limit, func(z redis.Z) { ids = append(ids, z.Member.(string)) })
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	now, err := s.Now(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.pipeline(ctx, "put off what follows", func(p redis.Pipeliner) {
		for _, id := range ids {
			at := redis.Z{Score: float64(now.Add(afterEvery).UnixMilli()), Member: id}
			p.ZAddXX(ctx, s.k.outbox(SubmissionID(id).shard(), "after"), at)
		}
	}); err != nil {
		return nil, err
	}
	return s.submissions(ctx, ids)
}

// overdueRows are the submissions of such a set.
func (s *Store) overdueRows(ctx context.Context, set string, limit int) ([]Submission, error) {
	var ids []string
	if err := s.overdue(ctx, set, limit, func(z redis.Z) { ids = append(ids, z.Member.(string)) }); err != nil {
		return nil, err
	}
	return s.submissions(ctx, ids)
}

// overdue reads from all shards' sets of that name what has a score up to now.
func (s *Store) overdue(ctx context.Context, set string, limit int, f func(redis.Z)) error {
	now, err := s.Now(ctx)
	if err != nil {
		return err
	}
	cmds := make([]*redis.ZSliceCmd, Shards)
	if err := s.pipeline(ctx, "read "+set, func(p redis.Pipeliner) {
		by := &redis.ZRangeBy{Min: "-inf", Max: millisOf(now), Count: int64(limit)}
		for n := range cmds {
			cmds[n] = p.ZRangeByScoreWithScores(ctx, s.k.outbox(n, set), by)
		}
	}); err != nil {
		return err
	}
	for _, c := range cmds {
		for _, z := range c.Val() {
			f(z)
		}
	}
	return nil
}

func millisOf(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }

// ProcessingSubmissions are all that are claimed, at most limit a shard: for whoever knows
// that an owner of some is dead.
func (s *Store) ProcessingSubmissions(ctx context.Context, limit int) ([]Submission, error) {
	cmds := make([]*redis.StringSliceCmd, Shards)
	if err := s.pipeline(ctx, "read claims", func(p redis.Pipeliner) {
		for n := range cmds {
			cmds[n] = p.ZRange(ctx, s.k.outbox(n, "leases"), 0, int64(limit)-1)
		}
	}); err != nil {
		return nil, err
	}
	var ids []string
	for _, c := range cmds {
		ids = append(ids, c.Val()...)
	}
	return s.submissions(ctx, ids)
}

// OldSubmissions are submissions in these states that were accepted before a time: of each
// shard and state limit behind the first offset, the oldest first.
func (s *Store) OldSubmissions(ctx context.Context, before time.Time, offset, limit int, states ...SubmissionState) ([]Submission, error) {
	by := &redis.ZRangeBy{Min: "-", Max: "(" + string(NewSubmissionID("", before)[:10]), Offset: int64(offset), Count: int64(limit)}
	var cmds []*redis.StringSliceCmd
	if err := s.pipeline(ctx, "read old submissions", func(p redis.Pipeliner) {
		for n := range Shards {
			for _, st := range states {
				cmds = append(cmds, p.ZRangeByLex(ctx, s.k.outbox(n, string(st)), by))
			}
		}
	}); err != nil {
		return nil, err
	}
	var ids []string
	for _, c := range cmds {
		ids = append(ids, c.Val()...)
	}
	return s.submissions(ctx, ids)
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
	var bytes []*redis.StringCmd
	var heads []*redis.ZSliceCmd
	if err := s.pipeline(ctx, "count submissions", func(p redis.Pipeliner) {
		for n := range Shards {
			for _, st := range SubmissionStates {
				counts[st] = append(counts[st], p.ZCard(ctx, s.k.outbox(n, string(st))))
			}
			bytes = append(bytes, p.HGet(ctx, s.k.outbox(n, "sum"), "bytes"))
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
	for n := range Shards {
		t.Bytes += int64(atoi(bytes[n].Val()))
		if z := heads[n].Val(); len(z) > 0 {
			if at := time.UnixMilli(int64(z[0].Score)).UTC(); t.Oldest.IsZero() || at.Before(t.Oldest) {
				t.Oldest = at
			}
		}
	}
	return t, nil
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
		sums := make([]*redis.StringCmd, Shards)
		if err := s.pipeline(ctx, "count bytes", func(p redis.Pipeliner) {
			for n := range sums {
				sums[n] = p.HGet(ctx, s.k.outbox(n, "sum"), "bytes")
			}
		}); err != nil {
			return err
		}
		bytes = 0
		for _, c := range sums {
			bytes += int64(atoi(c.Val()))
		}
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

var (
	forgetScript = script("submission_forget.lua", "outbox_lib.lua")
	dropScript   = script("submission_drop.lua")
)

// sweepSlice is how many rows one script removes.
const sweepSlice = 100

// SweepOutbox removes rows that ended long enough ago, and those of accounts that were
// deleted, with their bodies: at most a thousand a shard. It says how many.
func (s *Store) SweepOutbox(ctx context.Context) (removed int, err error) {
	cards := make([]*redis.IntCmd, 2*Shards)
	now, err := s.Now(ctx)
	if err != nil {
		return 0, err
	}
	if err := s.pipeline(ctx, "look for ended submissions", func(p redis.Pipeliner) {
		for n := range Shards {
			cards[2*n] = p.ZCount(ctx, s.k.outbox(n, "ended"), "-inf", millisOf(now))
			cards[2*n+1] = p.ZCard(ctx, s.k.outbox(n, "drops"))
		}
	}); err != nil {
		return 0, err
	}
	for n := range Shards {
		for range 10 {
			if cards[2*n].Val() == 0 {
				break
			}
			v, err := forgetScript.run(ctx, s.rdb, []string{s.k.tag(n)}, sweepSlice)
			if err != nil {
				return removed, err
			}
			k, _ := v.(int64)
			if removed += int(k); k < sweepSlice {
				break
			}
		}
		if cards[2*n+1].Val() > 0 {
			k, err := s.dropOutbox(ctx, n)
			if removed += k; err != nil {
				return removed, err
			}
		}
	}
	return removed, nil
}

// dropOutbox removes rows and bodies of deleted accounts of a shard, at most a thousand.
func (s *Store) dropOutbox(ctx context.Context, shard int) (removed int, err error) {
	args := []any{sweepSlice}
	for _, st := range SubmissionStates {
		args = append(args, string(st))
	}
	for range 10 {
		v, err := dropScript.run(ctx, s.rdb, []string{s.k.tag(shard)}, args...)
		if err != nil {
			return removed, err
		}
		k, _ := v.(int64)
		if removed += int(k); k < sweepSlice {
			break
		}
	}
	return removed, nil
}
