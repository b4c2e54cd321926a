package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/events"
)

// EventQuery asks for events behind a cursor.
type EventQuery struct {
	Cursor  string     // "" or "begin": the oldest kept; "now"; a time in RFC 3339; or a cursor
	Account *AccountID // nil: all accounts and the instance
	Types   []string   // nil: all; the cursor moves over the others too
	Limit   int        // at most that many events; 1 or more
	Each    bool       // EventPage.Cursors is wanted
}

// EventPage is an answer to an EventQuery. Every event before Cursor was in this
// answer or an earlier one.
type EventPage struct {
	Events []events.Event
	Cursor string
	More   bool // there was more to read at the time

	Cursors []string // as Cursor, behind each of Events
}

// scanMost bounds how many entries one call looks at when a filter wants few of them.
const scanMost = 10_000

// ReadEvents answers an EventQuery. Events of one account come in the order of their
// seq; between accounts there is no order. It does not wait.
//
// Errors: ErrInvalidCursor, ErrCursorExpired.
func (s *Store) ReadEvents(ctx context.Context, q EventQuery) (EventPage, error) {
	if q.Account != nil {
		return s.readAccount(ctx, *q.Account, q)
	}
	pos, err := s.feedPositions(ctx, q.Cursor)
	if err != nil {
		return EventPage{}, err
	}
	var page EventPage
	for seen, bytes := 0, 0; ; {
		at := pos
		entries, more, err := s.readFeeds(ctx, &pos, min(q.Limit-len(page.Events), 500))
		if err != nil {
			return EventPage{}, err
		}
		var wanted []FeedEntry
		for _, e := range entries {
			if wants(q.Types, e.Type) {
				wanted = append(wanted, e.FeedEntry)
			}
		}
		evs, err := s.Entries(ctx, wanted)
		if err != nil {
			return EventPage{}, err
		}
		for _, e := range entries {
			want := wants(q.Types, e.Type)
			if want && len(evs) == 0 { // they are large: the next read begins here
				pos, more = at, true
				break
			}
			if at[e.shard] = e.at; !want {
				continue
			}
			ev := evs[0]
			if evs = evs[1:]; ev == nil {
				continue
			}
			page.Events = append(page.Events, *ev)
			bytes += Weight(ev)
			if q.Each {
				page.Cursors = append(page.Cursors, at.cursor())
			}
		}
		page.Cursor, page.More = pos.cursor(), more
		seen += len(entries)
		if !more || len(page.Events) >= q.Limit || seen >= scanMost || bytes >= PageBytes {
			return page, nil
		}
	}
}

func wants(types []string, t events.Type) bool {
	return len(types) == 0 || slices.Contains(types, "*") || slices.Contains(types, string(t))
}

// placed is a feed entry and where it was found.
type placed struct {
	FeedEntry
	shard int
	at    position
}

// readFeeds reads up to limit entries over all shards and moves the positions over
// what it gives.
func (s *Store) readFeeds(ctx context.Context, pos *positions, limit int) (all []placed, more bool, err error) {
	cmds := make([]*redis.XMessageSliceCmd, Shards)
	_, err = s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for n := range cmds {
			cmds[n] = p.XRangeN(ctx, s.k.feed(n), "("+pos[n].String(), "+", int64(limit)+1)
		}
		return nil
	})
	if err != nil {
		return nil, false, unavailable("read feeds", err)
	}
	for n, c := range cmds {
		part, err := feedEntries(c.Val())
		if err != nil {
			return nil, false, err
		}
		for _, e := range part {
			at, err := parsePosition(e.ID)
			if err != nil {
				return nil, false, err
			}
			all = append(all, placed{e, n, at})
		}
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].at.less(all[j].at) })
	if len(all) > limit {
		all, more = all[:limit], true
	}
	for _, f := range all {
		pos[f.shard] = f.at
	}
	return all, more, nil
}

// feedPositions reads what a query without an account begins behind. A shard that has
// nothing to give begins behind what was forgotten of it, so that only what is really
// missed makes a cursor expire.
func (s *Store) feedPositions(ctx context.Context, cursor string) (pos positions, err error) {
	gone, last, err := s.feedEdges(ctx)
	if err != nil {
		return pos, err
	}
	switch t, isTime := cursorTime(cursor); {
	case cursor == "" || cursor == "begin":
		return gone, nil
	case cursor == "now":
		return last, nil
	case isTime:
		for n := range pos {
			// no millisecond has a million entries, and the number stays short
			pos[n] = position{ms: uint64(max(t.UnixMilli()-1, 0)), n: 1 << 20}
		}
	default:
		if pos, err = parseFeedsCursor(cursor); err != nil {
			return pos, err
		}
	}
	for n := range pos {
		if pos[n].less(gone[n]) {
			return pos, fmt.Errorf("%w: what came before %s was forgotten", ErrCursorExpired, events.TimeOf(time.UnixMilli(int64(gone[n].ms))))
		}
	}
	return pos, nil
}

// feedEdges reads, per shard, the newest entry that was forgotten and the newest one
// there is (the former, where there is none).
func (s *Store) feedEdges(ctx context.Context) (gone, last positions, err error) {
	var trimmed [Shards]*redis.StringCmd
	var newest [Shards]*redis.XMessageSliceCmd
	_, err = s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for n := range Shards {
			trimmed[n] = p.Get(ctx, s.k.trimmed(n))
			newest[n] = p.XRevRangeN(ctx, s.k.feed(n), "+", "-", 1)
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return gone, last, unavailable("read feeds", err)
	}
	for n := range Shards {
		if id := trimmed[n].Val(); id != "" {
			if gone[n], err = parsePosition(id); err != nil {
				return gone, last, err
			}
		}
		last[n] = gone[n]
		if m := newest[n].Val(); len(m) == 1 {
			if last[n], err = parsePosition(m[0].ID); err != nil {
				return gone, last, err
			}
		}
	}
	return gone, last, nil
}

func cursorTime(cursor string) (time.Time, bool) {
	t, err := time.Parse(time.RFC3339Nano, cursor)
	return t, err == nil
}

// readAccount answers a query about one account from its journal.
func (s *Store) readAccount(ctx context.Context, id AccountID, q EventQuery) (EventPage, error) {
	oldest, newest, err := s.JournalBounds(ctx, id)
	if err != nil {
		return EventPage{}, err
	}
	var after uint64
	switch t, isTime := cursorTime(q.Cursor); {
	case q.Cursor == "" || q.Cursor == "begin":
		after = max(oldest, 1) - 1
	case q.Cursor == "now":
		after = newest
	case isTime:
		if after, err = s.seqBefore(ctx, id, oldest, newest, t); err != nil {
			return EventPage{}, err
		}
	default:
		if after, err = parseAccountCursor(id, q.Cursor); err != nil {
			return EventPage{}, err
		}
		if oldest > 0 && after+1 < oldest {
			return EventPage{}, fmt.Errorf("%w: the oldest event kept is %d", ErrCursorExpired, oldest)
		}
	}
	var page EventPage
	for seen, bytes := 0, 0; ; {
		evs, err := s.JournalPage(ctx, id, after, min(q.Limit-len(page.Events), 500))
		if err != nil {
			return EventPage{}, err
		}
		for _, e := range evs {
			after = e.Seq
			if wants(q.Types, e.Type) {
				page.Events = append(page.Events, e)
				bytes += Weight(&e)
				if q.Each {
					page.Cursors = append(page.Cursors, accountCursor(id, after))
				}
			}
		}
		page.Cursor, page.More = accountCursor(id, after), len(evs) > 0 && after < newest
		seen += len(evs)
		if !page.More || len(page.Events) >= q.Limit || seen >= scanMost || bytes >= PageBytes {
			return page, nil
		}
	}
}

// seqBefore finds the last seq whose event is older than t, by halving: dates do not
// fall within a journal.
func (s *Store) seqBefore(ctx context.Context, id AccountID, oldest, newest uint64, t time.Time) (uint64, error) {
	lo, hi := oldest, newest+1 // the answer+1 lies in [lo, hi]
	for lo < hi {
		mid := lo + (hi-lo)/2
		evs, err := s.JournalPage(ctx, id, mid-1, 1)
		if err != nil {
			return 0, err
		}
		if len(evs) == 0 || !evs[0].Date.Before(t) {
			hi = mid
		} else {
			lo = evs[0].Seq + 1
		}
	}
	return max(lo, 1) - 1, nil
}
