package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/events"
)

// JournalPage reads up to limit events of an account with a seq above after, in order.
// Their Data is events.Raw.
func (s *Store) JournalPage(ctx context.Context, id AccountID, after uint64, limit int) ([]events.Event, error) {
	msgs, err := s.rdb.XRangeN(ctx, s.k.journal(id), seqID(after+1), "+", int64(limit)).Result()
	if err != nil {
		return nil, unavailable("read journal", err)
	}
	evs := make([]events.Event, 0, len(msgs))
	for _, m := range msgs {
		e, err := journalEntry(m)
		if err != nil {
			return evs, fmt.Errorf("journal of account %q: %w", id, err)
		}
		evs = append(evs, e)
	}
	return evs, nil
}

// Journal reads all events of an account with a seq above after, up to the end of what
// is there, page by page. It stops at the first error.
func (s *Store) Journal(ctx context.Context, id AccountID, after uint64) iter.Seq2[events.Event, error] {
	return func(yield func(events.Event, error) bool) {
		for {
			page, err := s.JournalPage(ctx, id, after, 500)
			for _, e := range page {
				if !yield(e, nil) {
					return
				}
				after = e.Seq
			}
			if err != nil {
				yield(events.Event{}, err)
			}
			if err != nil || len(page) == 0 {
				return
			}
		}
	}
}

// JournalBounds gives the oldest and newest seq an account's journal holds, 0 and 0
// when it is empty.
func (s *Store) JournalBounds(ctx context.Context, id AccountID) (oldest, newest uint64, err error) {
	var first, last *redis.XMessageSliceCmd
	_, err = s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		first = p.XRangeN(ctx, s.k.journal(id), "-", "+", 1)
		last = p.XRevRangeN(ctx, s.k.journal(id), "+", "-", 1)
		return nil
	})
	if err != nil {
		return 0, 0, unavailable("read journal", err)
	}
	if len(first.Val()) == 0 || len(last.Val()) == 0 {
		return 0, 0, nil
	}
	oldest, err = seqOf(first.Val()[0].ID)
	newest, err2 := seqOf(last.Val()[0].ID)
	return oldest, newest, errors.Join(err, err2)
}

// seqID is the stream id of a seq; seqOf reads it back.
func seqID(seq uint64) string { return strconv.FormatUint(seq, 10) + "-0" }

func seqOf(id string) (uint64, error) {
	seq, err := strconv.ParseUint(strings.TrimSuffix(id, "-0"), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("journal entry %s: not a seq", id)
	}
	return seq, nil
}

// journalEntry reads one entry of a journal's stream: x is the event's JSON, with the
// seq that is its stream id and the date d (Unix ms) still to be put in.
func journalEntry(m redis.XMessage) (events.Event, error) {
	var e events.Event
	x, _ := m.Values["x"].(string)
	d, _ := m.Values["d"].(string)
	seq, err := seqOf(m.ID)
	if err != nil {
		return e, err
	}
	ms, err := strconv.ParseInt(d, 10, 64)
	if err != nil {
		return e, fmt.Errorf("journal entry %s: no date", m.ID)
	}
	if err := e.UnmarshalJSON([]byte(x)); err != nil { // json.Unmarshal would scan it twice
		return e, fmt.Errorf("journal entry %s: %w", m.ID, err)
	}
	e.Seq, e.Date = seq, events.TimeOf(time.UnixMilli(ms))
	return e, nil
}
