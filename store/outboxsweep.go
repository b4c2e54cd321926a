package store

import (
	"context"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// DueSpool is an account with a submission that could be claimed now, unless all its slots
// are taken.
type DueSpool struct {
	Account AccountID
	Since   time.Time
	Active  int // slots that are taken
}

// DueSpools are the accounts with due submissions, those that wait longest first: of each
// shard at most limit behind the first offset.
func (s *Store) DueSpools(ctx context.Context, offset, limit int) ([]DueSpool, error) {
	var out []DueSpool
	err := s.overdue(ctx, "work", offset, limit, func(z redis.Z) {
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
	ids, err := s.overdueIDs(ctx, "after", limit)
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
	ids, err := s.overdueIDs(ctx, set, limit)
	if err != nil {
		return nil, err
	}
	return s.submissions(ctx, ids)
}

func (s *Store) overdueIDs(ctx context.Context, set string, limit int) (ids []string, err error) {
	err = s.overdue(ctx, set, 0, limit, func(z redis.Z) { ids = append(ids, z.Member.(string)) })
	return ids, err
}

// overdue reads from all shards' sets of that name what has a score up to now.
func (s *Store) overdue(ctx context.Context, set string, offset, limit int, f func(redis.Z)) error {
	now, err := s.Now(ctx)
	if err != nil {
		return err
	}
	cmds := make([]*redis.ZSliceCmd, Shards)
	if err := s.pipeline(ctx, "read "+set, func(p redis.Pipeliner) {
		by := &redis.ZRangeBy{Min: "-inf", Max: millisOf(now), Offset: int64(offset), Count: int64(limit)}
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
	return s.ofShards(ctx, "read claims", func(p redis.Pipeliner, shard int) []*redis.StringSliceCmd {
		return []*redis.StringSliceCmd{p.ZRange(ctx, s.k.outbox(shard, "leases"), 0, int64(limit)-1)}
	})
}

// OldSubmissions are submissions in these states that were accepted before a time: of each
// shard and state limit behind the first offset, the oldest first.
func (s *Store) OldSubmissions(ctx context.Context, before time.Time, offset, limit int, states ...SubmissionState) ([]Submission, error) {
	by := &redis.ZRangeBy{Min: "-", Max: "(" + string(NewSubmissionID("", before)[:10]), Offset: int64(offset), Count: int64(limit)}
	return s.ofShards(ctx, "read old submissions", func(p redis.Pipeliner, shard int) (cmds []*redis.StringSliceCmd) {
		for _, st := range states {
			cmds = append(cmds, p.ZRangeByLex(ctx, s.k.outbox(shard, string(st)), by))
		}
		return cmds
	})
}

// ofShards reads the rows whose ids are asked for, shard by shard.
func (s *Store) ofShards(ctx context.Context, doing string, ask func(p redis.Pipeliner, shard int) []*redis.StringSliceCmd) ([]Submission, error) {
	var cmds []*redis.StringSliceCmd
	if err := s.pipeline(ctx, doing, func(p redis.Pipeliner) {
		for n := range Shards {
			cmds = append(cmds, ask(p, n)...)
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
		if cards[2*n].Val() > 0 {
			k, err := s.sweepSlices(ctx, forgetScript, n)
			if removed += k; err != nil {
				return removed, err
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
	var states []any
	for _, st := range SubmissionStates {
		states = append(states, string(st))
	}
	return s.sweepSlices(ctx, dropScript, shard, states...)
}

// sweepSlices runs a script that removes rows of a shard, sweepSlice at a time, until there
// are no more or it was a thousand.
func (s *Store) sweepSlices(ctx context.Context, remove luaScript, shard int, args ...any) (removed int, err error) {
	args = append([]any{sweepSlice}, args...)
	for range 10 {
		v, err := remove.run(ctx, s.rdb, []string{s.k.tag(shard)}, args...)
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
