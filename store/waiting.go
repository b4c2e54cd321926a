package store

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// WaitingSubmissions reads what of an account is due by a time, in the order in which it
// will be sent: limit of them behind the first offset.
func (s *Store) WaitingSubmissions(ctx context.Context, account AccountID, by time.Time, offset, limit int) ([]Submission, error) {
	return s.waiting(ctx, account, millisOf(by), offset, limit)
}

func (s *Store) waiting(ctx context.Context, account AccountID, by string, offset, limit int) ([]Submission, error) {
	ids, err := s.rdb.ZRangeByScore(ctx, s.k.outboxOf(account, "due"), &redis.ZRangeBy{
		Min: "-inf", Max: by, Offset: int64(offset), Count: int64(limit),
	}).Result()
	if err != nil {
		return nil, unavailable("read spool", err)
	}
	return s.submissions(ctx, ids)
}

// waitingPage is how many submissions are read at once.
const waitingPage = 200

// WaitingFor are the accounts that have a submission waiting for a gateway, but for those
// that are paused or only have it scheduled. It ends with the first error. May block, for as
// long as it takes to read all that waits in the installation.
func (s *Store) WaitingFor(ctx context.Context, gateway string) iter.Seq2[AccountID, error] {
	return func(yield func(AccountID, error) bool) {
		for n := range Shards {
			accounts, err := s.rdb.ZRange(ctx, s.k.outbox(n, "work"), 0, -1).Result()
			if err != nil {
				yield("", unavailable("list spools", err))
				return
			}
			for _, a := range accounts {
				waits, err := s.waitsFor(ctx, AccountID(a), gateway)
				if (err != nil || waits) && !yield(AccountID(a), err) || err != nil {
					return
				}
			}
		}
	}
}

// waitsFor says whether an account has a submission waiting for a gateway.
func (s *Store) waitsFor(ctx context.Context, account AccountID, gateway string) (bool, error) {
	for offset := 0; ; offset += waitingPage {
		rows, err := s.waiting(ctx, account, "+inf", offset, waitingPage)
		if err != nil || len(rows) == 0 {
			return false, err
		}
		if slices.ContainsFunc(rows, func(m Submission) bool { return m.Gateway == gateway && m.State != SubmissionScheduled }) {
			return true, nil
		}
	}
}
