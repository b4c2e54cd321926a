package store

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/events"
)

// FeedEntry is a pointer from a shard's feed into an account's journal. Feed entries
// live exactly as long as what they point to.
type FeedEntry struct {
	ID      string // of the feed's stream; grows within the shard
	Account AccountID
	Seq     uint64
	Type    events.Type
}

// Feed reads up to limit entries of a shard behind the entry after ("" = the oldest).
func (s *Store) Feed(ctx context.Context, shard int, after string, limit int) ([]FeedEntry, error) {
	start := "-"
	if after != "" {
		start = "(" + after
	}
	msgs, err := s.rdb.XRangeN(ctx, s.k.feed(shard), start, "+", int64(limit)).Result()
	if err != nil {
		return nil, unavailable("read feed", err)
	}
	return feedEntries(msgs)
}

// FeedLast is the id of a shard's newest entry, "" when there is none.
func (s *Store) FeedLast(ctx context.Context, shard int) (string, error) {
	msgs, err := s.rdb.XRevRangeN(ctx, s.k.feed(shard), "+", "-", 1).Result()
	if err != nil || len(msgs) == 0 {
		return "", unavailable("read feed", err)
	}
	return msgs[0].ID, nil
}

func feedEntries(msgs []redis.XMessage) ([]FeedEntry, error) {
	entries := make([]FeedEntry, len(msgs))
	for i, m := range msgs {
		a, _ := m.Values["a"].(string)
		t, _ := m.Values["t"].(string)
		sq, _ := m.Values["s"].(string)
		seq, err := strconv.ParseUint(sq, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("feed entry %s: no seq", m.ID)
		}
		entries[i] = FeedEntry{ID: m.ID, Account: AccountID(a), Seq: seq, Type: events.Type(t)}
	}
	return entries, nil
}

// Entries reads the events that feed entries point to, in the same order; nil where the
// journal no longer has one, or has one that cannot be read, which is logged: one broken
// entry must not stop all behind it. Where they are large (PageBytes) it gives fewer, at
// least one: those of the first entries.
func (s *Store) Entries(ctx context.Context, entries []FeedEntry) ([]*events.Event, error) {
	var evs []*events.Event
	bytes := 0
	for n := nextRead(0, 0, len(entries)); n > 0; n = nextRead(len(evs), bytes, len(entries)-len(evs)) {
		some, err := s.entries(ctx, entries[len(evs):len(evs)+n])
		if err != nil {
			return nil, err
		}
		for _, e := range some {
			if e != nil {
				bytes += Weight(e)
			}
		}
		evs = append(evs, some...)
	}
	return evs, nil
}

// entries is one pipeline.
func (s *Store) entries(ctx context.Context, entries []FeedEntry) ([]*events.Event, error) {
	cmds := make([]*redis.XMessageSliceCmd, len(entries))
	_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, e := range entries {
			cmds[i] = p.XRangeN(ctx, s.k.journal(e.Account), seqID(e.Seq), seqID(e.Seq), 1)
		}
		return nil
	})
	if err != nil {
		return nil, unavailable("read journal", err)
	}
	evs := make([]*events.Event, len(entries))
	for i, c := range cmds {
		if len(c.Val()) == 0 {
			continue
		}
		e, err := journalEntry(c.Val()[0])
		if err != nil {
			s.log.Error("journal entry unreadable", "account", entries[i].Account, "err", err)
			continue
		}
		evs[i] = &e
	}
	return evs, nil
}

var trimScript = script("trim.lua")

// TrimJournal forgets what is older than retention, and accounts that were deleted
// longer ago than they are remembered. It works in slices and may be interrupted
// anywhere.
func (s *Store) TrimJournal(ctx context.Context, retention time.Duration) error {
	now, err := s.Now(ctx)
	if err != nil {
		return err
	}
	cutoff := strconv.FormatInt(now.Add(-retention).UnixMilli(), 10)
	for n := range Shards {
		for {
			msgs, err := s.rdb.XRangeN(ctx, s.k.feed(n), "-", "("+cutoff, 1000).Result()
			if err != nil {
				return unavailable("read feed", err)
			}
			if len(msgs) == 0 {
				break
			}
			if err := s.trim(ctx, n, msgs); err != nil {
				return err
			}
		}
		if err := s.forgetDeleted(ctx, n, now); err != nil {
			return err
		}
	}
	return nil
}

// trim forgets the given oldest entries of a feed and what they point to.
func (s *Store) trim(ctx context.Context, shard int, msgs []redis.XMessage) error {
	entries, err := feedEntries(msgs)
	if err != nil {
		return err
	}
	keep := map[AccountID]uint64{}
	for _, e := range entries {
		keep[e.Account] = max(keep[e.Account], e.Seq+1)
	}
	last := entries[len(entries)-1].ID
	next, err := nextID(last)
	if err != nil {
		return err
	}
	keys := []string{s.k.feed(shard), s.k.trimmed(shard), s.k.registry(shard)}
	args := []any{next, last}
	for id, seq := range keep {
		keys = append(keys, s.k.journal(id))
		args = append(args, string(id), strconv.FormatUint(seq, 10))
	}
	_, err = trimScript.run(ctx, s.rdb, keys, args...)
	return err
}

// nextID is the smallest stream id above id.
func nextID(id string) (string, error) {
	p, err := parsePosition(id)
	if err != nil {
		return "", err
	}
	p.n++
	return p.String(), nil
}
