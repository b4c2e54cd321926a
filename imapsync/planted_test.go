package imapsync

import (
	"context"
	"testing"

	"github.com/emersion/go-imap/v2"

	"github.com/postrider/postrider/imapsync/imaptest"
	"github.com/postrider/postrider/store"
)

// plant changes the engine under test into one with a mistake in it; nil leaves it right.
type plant struct {
	session func(Session) Session
	store   func(Store) Store
}

// Mistakes that engines like this one have had, planted into ours: drawn histories must
// find each. A test that could not would prove nothing.
func TestOracle_finds_planted_mistakes(t *testing.T) {
	drawn(t)
	for name, x := range map[string]struct {
		dialect imaptest.Dialect
		plant   plant
		indexer string
	}{
		"cursor too far":         {imaptest.T1(), plant{store: func(s Store) Store { return tooFar{s} }}, ""},
		"cursor too far in fast": {imaptest.T1(), plant{store: func(s Store) Store { return tooFar{s} }}, store.IndexerFast},
		"n:* taken at its word": {imaptest.T3(), plant{session: func(s Session) Session {
			return &starred{Session: s}
		}}, ""},
		"MODSEQ of after the fetch": {imaptest.T2(), plant{session: func(s Session) Session {
			return lateModSeq{s}
		}}, ""},
		"partial answer is deletion": {imaptest.T3(), plant{session: func(s Session) Session {
			return &partial{Session: s, listed: -1}
		}}, ""},
		"state and events in two commits": {imaptest.T1(), plant{store: func(s Store) Store { return &twoCommits{Store: s} }}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			deeds := 0
			for seed := 0; deeds < 10_000; seed++ {
				h := historyGen.Example(seed)
				deeds += len(h)
				if err := history(t, x.dialect, x.indexer, h, &x.plant); err != nil {
					t.Logf("found within %d deeds: %v", deeds, err)
					return
				}
			}
			t.Errorf("not found within %d deeds", deeds)
		})
	}
}

// tooFar moves the cursor over a message that was not consumed.
type tooFar struct{ Store }

func (s tooFar) Commit(ctx context.Context, l store.Lease, c store.Change) (store.Committed, error) {
	for i := range c.Folders {
		if m := &c.Folders[i].Meta; m.Baseline == nil && len(c.Events) > 1 {
			m.UIDNext++
		}
	}
	return s.Store.Commit(ctx, l, c)
}

// starred takes the newest message, which `n:*` always brings, for the one that was asked
// for.
type starred struct{ Session }

func (s *starred) Messages(ctx context.Context, set imap.UIDSet) ([]Message, error) {
	msgs, err := s.Session.Messages(ctx, set)
	if err != nil || len(msgs) > 0 || s.Exists() == 0 {
		return msgs, err
	}
	all, err := s.UIDs(ctx, 1, 0)
	if err != nil || len(all.UIDs) == 0 {
		return nil, err
	}
	msgs, err = s.Session.Messages(ctx, uidSet(all.UIDs[len(all.UIDs)-1:]))
	for i := range msgs {
		msgs[i].UID = uint32(set[0].Start)
	}
	return msgs, err
}

// lateModSeq takes for its cursor the MODSEQ that is true when something happened during
// the fetch.
type lateModSeq struct{ Session }

func (s lateModSeq) Select(ctx context.Context, raw string) (Selected, error) {
	sel, err := s.Session.Select(ctx, raw)
	if sel.ModSeq > 0 {
		sel.ModSeq++
	}
	return sel, err
}

// partial takes what it was given for all there is.
type partial struct {
	Session
	listed int
}

func (s *partial) UIDs(ctx context.Context, from, to uint32) (Enumeration, error) {
	e, err := s.Session.UIDs(ctx, from, to)
	e.Complete = true
	if s.listed = -1; err == nil && from <= 1 && to == 0 {
		s.listed = len(e.UIDs)
	}
	return e, err
}

func (s *partial) Exists() uint32 {
	if s.listed >= 0 {
		return uint32(s.listed)
	}
	return s.Session.Exists()
}

// twoCommits writes the state first and the events behind it; sometimes there is no
// behind.
type twoCommits struct {
	Store
	n int
}

func (s *twoCommits) Commit(ctx context.Context, l store.Lease, c store.Change) (store.Committed, error) {
	if len(c.Folders) == 0 || len(c.Events) == 0 {
		return s.Store.Commit(ctx, l, c)
	}
	events := c.Events
	c.Events = nil
	done, err := s.Store.Commit(ctx, l, c)
	if s.n++; err != nil || s.n%10 == 0 {
		return done, err
	}
	return s.Store.Commit(ctx, l, store.Change{Events: events})
}
