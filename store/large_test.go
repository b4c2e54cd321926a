package store_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/storetest"
)

// TestLargeEvents: what is read at once is bounded by bytes, and nothing is passed over.
func TestLargeEvents(t *testing.T) {
	s, ctx := storetest.Miniredis(t), t.Context()
	for _, id := range []store.AccountID{"jo", "al"} {
		if _, err := s.CreateAccount(ctx, store.Account{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	const n, size = 40, 5 << 18
	large := strings.Repeat("x", size)
	for i := range n {
		id := []store.AccountID{"jo", "al"}[i%2]
		m := events.MessageNew{ID: strconv.Itoa(i), Flags: []string{}, Source: large}
		if i%10 == 9 {
			m.Source = ""
		}
		e := events.Event{ID: events.NewID(string(id), 1, events.MessageNewType, strconv.Itoa(i)), Data: m}
		if _, err := s.AppendOnce(ctx, id, e); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := s.Feed(ctx, store.Shard("jo"), "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	if evs, err := s.Entries(ctx, entries); err != nil || len(evs) == 0 || len(evs) > 1+16 {
		t.Errorf("%d of %d entries, %v", len(evs), len(entries), err)
	}
	jo := store.AccountID("jo")
	for name, q := range map[string]store.EventQuery{
		"all": {Limit: 1000}, "one account": {Account: &jo, Limit: 1000}, "one type": {Types: []string{"messageNew"}, Limit: 1000}, "few": {Limit: 3},
	} {
		want := n + 2 // accountAdded
		switch name {
		case "one account":
			want = n/2 + 1
		case "one type":
			want = n
		}
		seen := map[events.ID]bool{}
		pages := 0
		for more := true; more; pages++ {
			page, err := s.ReadEvents(ctx, q)
			if err != nil {
				t.Fatal(err)
			}
			bytes := 0
			for _, e := range page.Events {
				if seen[e.ID] {
					t.Errorf("%s: %s comes twice", name, e.ID)
				}
				seen[e.ID] = true
				bytes += store.Weight(&e)
			}
			if most := 2*store.PageBytes + 16*size; bytes > most {
				t.Errorf("%s: a page of %d bytes", name, bytes)
			}
			q.Cursor, more = page.Cursor, page.More
		}
		if len(seen) != want || pages < 2 {
			t.Errorf("%s: %d events in %d pages, want %d", name, len(seen), pages, want)
		}
	}
	var seqs []uint64
	for e, err := range s.Journal(ctx, jo, 0) {
		if err != nil {
			t.Fatal(err)
		}
		seqs = append(seqs, e.Seq)
	}
	for i, seq := range seqs {
		if seq != uint64(i+1) || len(seqs) != n/2+1 {
			t.Fatalf("journal of %d is %v", n/2+1, seqs)
		}
	}
}
