package imapsync

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
)

func testSite() site {
	return site{account: "support", epoch: 1795305600000, folder: store.Folder{Num: 1, Path: "INBOX", SpecialUse: `\Inbox`}}
}

// Vectors of events.md sections 2 and 3.
func TestIDs(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{messageID(1, 4711), "AAAAAQAAEmc"},
		{partID(1, 4711, "2"), "AAAAAQAAEmcy"},
		{partID(1, 4711, "1.1;1.2"), "AAAAAQAAEmcxLjE7MS4y"},
		{string(testSite().messageEvent(events.MessageNewType, &store.FolderMeta{Incarnation: 1, UIDValidity: 1712000000}, 4711)), "evt_erxaxk2nrrq3jcwqtfalueygna"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %s, want %s", tt.got, tt.want)
		}
	}
}

func TestOriginOf(t *testing.T) {
	look := time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)
	one := &events.Related{}
	for _, tt := range []struct {
		name string
		date time.Time
		a    arrival
		want events.Origin
	}{
		{"arrived", look.Add(time.Second), arrival{look: look}, events.OriginNew},
		{"stamped a day early", look.Add(-24 * time.Hour), arrival{look: look}, events.OriginNew},
		{"older than a day before the look", look.Add(-24*time.Hour - time.Second), arrival{look: look}, events.OriginExisting},
		{"no date", time.Time{}, arrival{look: look}, events.OriginNew},
		{"no look", look.AddDate(-1, 0, 0), arrival{}, events.OriginNew},
		{"recent identity", look, arrival{look: look, known: true}, events.OriginExisting},
		{"backfill of an old one", look.AddDate(-1, 0, 0), arrival{look: look, backfill: true}, events.OriginBackfill},
		{"came back", look, arrival{look: look, returned: true, known: true}, events.OriginReappeared},
		{"moved", look, arrival{look: look, known: true, related: one, returned: true}, events.OriginMoved},
		{"still in another folder", look, arrival{look: look, known: true, copied: true, returned: true}, events.OriginCopied},
	} {
		if got := originOf(tt.date, tt.a); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestDraft_order_of_events_in_a_commit(t *testing.T) {
	d := newDraft(testSite(), store.FolderMeta{Version: 3, Incarnation: 1, UIDValidity: 9, UIDNext: 4, Count: 3, Blocks: 1})
	d.load([]uint32{0}, map[uint32][]store.Record{0: {{UID: 1}, {UID: 2, Flags: []string{`\Seen`}}, {UID: 3}}})
	now := time.Now()
	d.miss(9, now, "notReturned", "")
	for range missingSteps {
		d.miss(9, now, "notReturned", "")
	}
	d.flags(&FlagsOf{UID: 2, Known: true})
	d.arrive(&Message{UID: 6}, arrival{})
	d.arrive(&Message{UID: 5}, arrival{})
	d.vanish(1)
	d.tell(events.MailboxRecoveredType, events.MailboxRecovered{})
	c := d.change()
	var got []events.Type
	for _, e := range c.Events {
		got = append(got, e.Data.EventType())
	}
	want := []events.Type{
		events.MailboxRecoveredType, events.MessageDeletedType, events.MessageNewType, events.MessageNewType,
		events.MessageUpdatedType, events.MessageMissingType,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
	if uid := c.Events[2].Data.(events.MessageNew).UID; uid != 5 {
		t.Errorf("first new message has UID %d", uid)
	}
	if m := c.Folders[0].Meta; m.UIDNext != 7 || m.Count != 4 {
		t.Errorf("uidNext %d, count %d", m.UIDNext, m.Count)
	}
	if known := d.known(); known != 5 { // four in blocks and one awaited
		t.Errorf("known %d", known)
	}
}

func TestDraft_returned_message_has_another_id(t *testing.T) {
	d := newDraft(testSite(), store.FolderMeta{Incarnation: 1, UIDNext: 10})
	d.load([]uint32{0}, nil)
	first := d.messageEvent(events.MessageNewType, &d.meta, 5)
	d.arrive(&Message{UID: 5}, arrival{returned: true})
	c := d.change()
	if c.Events[0].ID == first || c.Folders[0].Meta.Returns != 1 {
		t.Errorf("id %s, returns %d", c.Events[0].ID, c.Folders[0].Meta.Returns)
	}
	if o := c.Events[0].Data.(events.MessageNew).Origin; o != events.OriginReappeared {
		t.Errorf("origin %s", o)
	}
}

func TestDiffer(t *testing.T) {
	gone, found := differ([]uint32{1, 2, 5, 9}, []uint32{2, 3, 9, 10})
	if !slices.Equal(gone, []uint32{1, 5}) || !slices.Equal(found, []uint32{3, 10}) {
		t.Errorf("gone %v, found %v", gone, found)
	}
}

func TestMass(t *testing.T) {
	for _, tt := range []struct {
		gone, known, left int
		want              bool
	}{
		{20, 20, 0, false}, {21, 21, 0, true}, {21, 84, 63, false}, {21, 83, 62, true}, {1, 1000, 999, false}, {5, 5, 0, false},
	} {
		if got := mass(tt.gone, tt.known, tt.left); got != tt.want {
			t.Errorf("mass(%d, %d, %d) = %v", tt.gone, tt.known, tt.left, got)
		}
	}
}

func TestCutWindow(t *testing.T) {
	var uids []uint32
	for u := uint32(1); u <= 20_000; u++ {
		uids = append(uids, u)
	}
	blocks := map[uint32]bool{}
	total := 0
	for rest := uids; len(rest) > 0; {
		var w []uint32
		w, rest = cutWindow(rest)
		if len(w) > baselineWindow+1024 {
			t.Fatalf("window of %d", len(w))
		}
		total += len(w)
		if b := store.BlockOf(w[0]); blocks[b] {
			t.Fatalf("block %d in two windows", b)
		}
		for _, u := range w {
			blocks[store.BlockOf(u)] = true
		}
	}
	if total != len(uids) {
		t.Fatalf("%d of %d", total, len(uids))
	}
}

func TestBackoff(t *testing.T) {
	for _, tt := range []struct {
		kind     string
		failures int
		want     time.Duration
	}{
		{FaultServerDown, 1, 2 * time.Second},
		{FaultServerDown, 3, 8 * time.Second},
		{FaultServerDown, 50, 10 * time.Minute},
		{FaultSilent, 2, 4 * time.Second},
		{FaultTLS, 1, 5 * time.Minute},
		{FaultTLS, 9, time.Hour},
		{FaultThrottled, 2, 10 * time.Minute},
		{FaultAuthDead, 1, time.Hour},
		{FaultAuthDead, 6, 24 * time.Hour},
		{FaultInternal, 7, time.Minute},
		{"unheard of", 1, 2 * time.Second},
	} {
		if got := ceiling(tt.kind, tt.failures); got != tt.want {
			t.Errorf("%s after %d: %v, want %v", tt.kind, tt.failures, got, tt.want)
		}
	}
	if d := backoff(Fault{Kind: FaultThrottled, RetryAfter: 100 * time.Hour}, 1); d != 24*time.Hour {
		t.Errorf("named wait: %v", d)
	}
	for failures, least := range map[int]time.Duration{1: time.Second, 5: 16 * time.Second, 30: 5 * time.Minute} {
		if d := backoff(Fault{Kind: FaultThrottled, RetryAfter: time.Millisecond}, failures); d != least {
			t.Errorf("a named millisecond after %d: %v, want %v", failures, d, least)
		}
	}
	if f := Classify(&Error{Kind: ErrNo, Stage: StageLogin, Text: "try again in 999999999 hours"}); f.RetryAfter != 24*time.Hour {
		t.Errorf("an endless wait: %v", f.RetryAfter)
	}
	for range 1000 {
		if d := backoff(Fault{Kind: FaultServerDown}, 4); d <= 0 || d > 16*time.Second {
			t.Fatalf("drew %v", d)
		}
	}
}

func TestQuota(t *testing.T) {
	for _, tt := range []struct{ accounts, procs, want int }{{10, 1, 10}, {10, 2, 6}, {1000, 2, 525}, {0, 3, 0}, {1, 3, 2}} {
		if got := quota(tt.accounts, tt.procs); got != tt.want {
			t.Errorf("quota(%d, %d) = %d, want %d", tt.accounts, tt.procs, got, tt.want)
		}
	}
}

// vanish tells of a message that left and is not held.
func (d *draft) vanish(uid uint32) bool {
	g, ok := d.leave(uid)
	d.deleted = append(d.deleted, goneEvent(&g, nil))
	return ok
}

// Any sequence of differences, cut into commits anywhere, leaves the state the server
// has, says each difference once, and keeps the folder's counts true.
func TestDraft_property(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		truth := map[uint32][]string{}
		stored := map[uint32][]store.Record{}
		folded := map[uint32][]string{}
		meta := store.FolderMeta{Version: 1, Incarnation: 1, UIDValidity: 7, UIDNext: 1}
		ids := map[events.ID]bool{}
		d := newDraft(testSite(), meta)
		flagSets := [][]string{nil, {`\Seen`}, {`\Flagged`, `\Seen`}, {`$a`}}
		commit := func() {
			c := d.change()
			for idx, recs := range c.Folders[0].Blocks {
				stored[idx] = recs
				if len(recs) == 0 {
					delete(stored, idx)
				}
			}
			for _, e := range c.Events {
				if ids[e.ID] {
					t.Fatalf("id %s twice (%s)", e.ID, e.Data.EventType())
				}
				ids[e.ID] = true
				switch p := e.Data.(type) {
				case events.MessageNew:
					folded[p.UID] = p.Flags
				case events.MessageUpdated:
					folded[p.UID] = p.Changes.Flags.Value
				case events.MessageDeleted:
					delete(folded, p.UID)
				}
			}
			meta = c.Folders[0].Meta
			meta.Version = c.Folders[0].Version + 1
			var sum store.FolderMeta
			for idx, recs := range stored {
				sum.Replace(idx, 0, len(recs))
			}
			if sum.Count != meta.Count || sum.Blocks != meta.Blocks || sum.Sum != meta.Sum || meta.Count != len(truth) {
				t.Fatalf("meta %d/%d/%d, stored %d/%d/%d, server %d", meta.Count, meta.Blocks, meta.Sum, sum.Count, sum.Blocks, sum.Sum, len(truth))
			}
			d.restart(meta)
			d.forget(rapid.IntRange(0, 3).Draw(t, "keep"))
		}
		load := func(uid uint32) { want := d.need(uid); d.load(want, stored) }
		t.Repeat(map[string]func(*rapid.T){
			"arrive": func(t *rapid.T) {
				uid := d.meta.UIDNext + rapid.Uint32Range(0, 1500).Draw(t, "gap")
				flags := rapid.SampledFrom(flagSets).Draw(t, "flags")
				load(uid)
				truth[uid] = flags
				d.arrive(&Message{UID: uid, Flags: flags, FlagsKnown: true, MessageID: "<x>"}, arrival{})
			},
			"flags": func(t *rapid.T) {
				if len(truth) == 0 {
					t.Skip()
				}
				uid := rapid.SampledFrom(sortedUIDs(truth)).Draw(t, "uid")
				load(uid)
				commit() // two changes of one message in one commit are one look's difference
				load(uid)
				flags := rapid.SampledFrom(flagSets).Draw(t, "flags")
				truth[uid] = flags
				d.flags(&FlagsOf{UID: uid, Flags: flags, Known: true})
			},
			"vanish": func(t *rapid.T) {
				if len(truth) == 0 {
					t.Skip()
				}
				commit()
				uid := rapid.SampledFrom(sortedUIDs(truth)).Draw(t, "uid")
				load(uid)
				delete(truth, uid)
				if !d.vanish(uid) {
					t.Fatalf("UID %d is not known", uid)
				}
			},
			"commit": func(*rapid.T) { commit() },
			"": func(t *rapid.T) {
				if d.known() != len(truth) {
					t.Fatalf("known %d, server %d", d.known(), len(truth))
				}
			},
		})
		commit()
		for uid, flags := range truth {
			if !slices.Equal(folded[uid], flags) {
				t.Fatalf("UID %d: events say %v, server %v", uid, folded[uid], flags)
			}
		}
		if len(folded) != len(truth) {
			t.Fatalf("events say %d messages, server %d", len(folded), len(truth))
		}
	})
}

func sortedUIDs(m map[uint32][]string) []uint32 {
	var out []uint32
	for uid := range m {
		out = append(out, uid)
	}
	slices.Sort(out)
	return out
}

func TestMessageNew_is_json_with_always_present_fields(t *testing.T) {
	p := messageNew(testSite(), &Message{UID: 4711}, arrival{})
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"id", "uid", "path", "date", "flags", "text", "seemsLikeNew", "origin"} {
		if _, ok := m[k]; !ok {
			t.Errorf("%s is absent", k)
		}
	}
}
