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

// PageBytes is about how much of events is read at once: events with the content of
// messages may each have megabytes. What is behind it is read with the next page.
const PageBytes = 16 << 20

// readAhead is how many events are read at once while it is not known how large they are.
const readAhead = 16

// nextRead is how many more events may be read where n have had some bytes: as many as
// are about to fit, and at most four times as many as before. 0: the page is full.
func nextRead(n, bytes, left int) int {
	switch {
	case n == 0:
		return min(readAhead, left)
	case bytes >= PageBytes:
		return 0
	}
	return min(left, 4*n, max(1, (PageBytes-bytes)/max(1, bytes/n)))
}

// JournalPage reads up to limit events of an account with a seq above after, in order.
// Their Data is events.Raw. It gives fewer where they are large (PageBytes), and none
// only at the end.
func (s *Store) JournalPage(ctx context.Context, id AccountID, after uint64, limit int) ([]events.Event, error) {
	var evs []events.Event
	bytes := 0
	for n := nextRead(0, 0, limit); n > 0; n = nextRead(len(evs), bytes, limit-len(evs)) {
		msgs, err := s.rdb.XRangeN(ctx, s.k.journal(id), seqID(after+1), "+", int64(n)).Result()
		if err != nil {
			return evs, unavailable("read journal", err)
		}
		for _, m := range msgs {
			e, err := journalEntry(m)
			if err != nil {
				return evs, fmt.Errorf("journal of account %q: %w", id, err)
			}
			evs, after, bytes = append(evs, e), e.Seq, bytes+Weight(&e)
		}
		if len(msgs) < n {
			break
		}
	}
	return evs, nil
}

// Weight is about how many bytes an event that was read takes.
func Weight(e *events.Event) int {
	raw, _ := e.Data.(events.Raw)
	return 512 + len(raw)
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
