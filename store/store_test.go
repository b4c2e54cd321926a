package store_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/secret"
	"github.com/postrider/postrider/store/storetest"
)

// support is an account as somebody would register it.
func support() store.Account {
	return store.Account{
		ID: "support", Name: "Support", Email: "support@example.com",
		IMAP: &store.Server{
			Host: "imap.example.com", Port: 993, Secure: true, User: "support@example.com",
			Pass: secret.New("planted-password"),
		},
		Webhooks: secret.New("https://u:planted-url@hooks.example.com/x"),
		Headers:  []store.Header{{Key: "X-Key", Value: secret.New("planted-header")}},
		Metadata: json.RawMessage(`{"tenant":"acme"}`),
	}
}

func create(t *testing.T, s *store.Store) (store.Account, store.Lease) {
	t.Helper()
	a, err := s.CreateAccount(t.Context(), support())
	if err != nil {
		t.Fatal(err)
	}
	l, err := s.Acquire(t.Context(), a.ID, "p1", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return a, l
}

func deleted(a store.Account, uid uint32) events.Event {
	return events.Event{
		ID: events.NewID(string(a.ID), a.Epoch, events.MessageDeletedType, events.Uint(uid)), Path: "INBOX",
		Data: events.MessageDeleted{ID: "x", UID: uid},
	}
}

func TestStore(t *testing.T) {
	for name, test := range map[string]func(*testing.T, *store.Store, redis.UniversalClient){
		"registers an account once":                                  testRegister,
		"seals every secret":                                         testSealed,
		"updates under a version":                                    testUpdate,
		"pauses and resumes once each":                               testPause,
		"tells once of what is held":                                 testHeldOnce,
		"deletes all but the journal":                                testDelete,
		"numbers a re-registered account behind its journal":         testReregister,
		"commits folders, list, status and events together":          testCommit,
		"refuses a stale commit whole":                               testStale,
		"refuses a fenced-off owner":                                 testFence,
		"expires leases by redis time":                               testLeases,
		"restores lost state once and never repeats a seq":           testStateLost,
		"restores lost state without a journal above all used seqs":  testStateAndJournalLost,
		"flushes once, by its holder":                                testFlush,
		"keeps a wish to flush that outlived the state":              testFlushAndStateLost,
		"finds a block that was changed behind its back":             testCorrupt,
		"appends an instance event once":                             testAppendOnce,
		"remembers recent identities and forgets the oldest":         testRecents,
		"keeps our own changes until they were seen":                 testIntents,
		"gives the live connection to one":                           testLive,
		"reads events by cursor, none missing, none twice":           testCursor,
		"expires a cursor that what it points behind was forgotten":  testTrim,
		"writes settings all or none":                                testSettings,
		"makes the first token once, and forgets deleted ones":       testTokens,
		"tells silent accounts from those that never spoke":          testSilent,
		"hints at new entries and changed accounts":                  testHints,
		"refuses a redis whose secrets were sealed with another key": testKeyCheck,
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			storetest.Each(t, func(t *testing.T, rdb redis.UniversalClient) { test(t, storetest.On(t, rdb), rdb) })
		})
	}
}

// types lists the journal as "seq type", and fails when its numbers have a gap.
func journal(t *testing.T, s *store.Store, id store.AccountID) []string {
	t.Helper()
	var list []string
	last := uint64(0)
	for e, err := range s.Journal(t.Context(), id, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if last > 0 && e.Seq != last+1 {
			t.Errorf("seq %d behind %d", e.Seq, last)
		}
		last = e.Seq
		list = append(list, fmt.Sprintf("%d %s", e.Seq, e.Type))
	}
	return list
}

func testRegister(t *testing.T, s *store.Store, _ redis.UniversalClient) {
	a, err := s.CreateAccount(t.Context(), support())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateAccount(t.Context(), support()); !errors.Is(err, store.ErrExists) {
		t.Errorf("second registration: %v", err)
	}
	got, err := s.Account(t.Context(), "support")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(a, got, cmp.AllowUnexported(secret.Text{})); diff != "" {
		t.Error(diff)
	}
	st, err := s.State(t.Context(), "support")
	if err != nil {
		t.Fatal(err)
	}
	if st.Epoch != a.Epoch || st.Seq != 1 || st.Status.State != store.StateInit || st.Reason != store.ReasonAdded {
		t.Errorf("state %+v", st)
	}
	if diff := cmp.Diff([]string{"1 accountAdded"}, journal(t, s, "support")); diff != "" {
		t.Error(diff)
	}
	ids, err := s.AccountIDs(t.Context())
	if err != nil || len(ids) != 1 {
		t.Errorf("%v, %v", ids, err)
	}
	if _, err := s.Account(t.Context(), "nobody"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("unknown account: %v", err)
	}
}

func testSealed(t *testing.T, s *store.Store, rdb redis.UniversalClient) {
	create(t, s)
	if _, err := s.UpdateSettings(t.Context(), map[string]json.RawMessage{
		"webhooks": json.RawMessage(`"https://a:planted-1@h.example/"`), "serviceSecret": json.RawMessage(`"planted-secret-value"`),
		"webhooksCustomHeaders": json.RawMessage(`[{"key":"A","value":"planted-2"}]`),
	}); err != nil {
		t.Fatal(err)
	}
	value, _, err := s.CreateToken(t.Context(), store.Token{Scopes: []string{"*"}})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := rdb.Keys(t.Context(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		all := ""
		switch typ := rdb.Type(t.Context(), k).Val(); typ {
		case "hash":
			all = fmt.Sprint(rdb.HGetAll(t.Context(), k).Val())
		case "string":
			all = rdb.Get(t.Context(), k).Val()
		case "stream":
			all = fmt.Sprint(rdb.XRange(t.Context(), k, "-", "+").Val())
		}
		if strings.Contains(all, "planted") || strings.Contains(all, value) {
			t.Errorf("a secret stands in %s", k)
		}
	}
}

func testUpdate(t *testing.T, s *store.Store, _ redis.UniversalClient) {
	a, _ := create(t, s)
	before, err := s.ShardVersions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rename := func(a *store.Account) error { a.Name = "Second"; return nil }
	b, err := s.UpdateAccount(t.Context(), a.ID, a.Version, rename)
	if err != nil || b.Version != 2 || b.Name != "Second" {
		t.Fatalf("%+v, %v", b, err)
	}
	if _, err := s.UpdateAccount(t.Context(), a.ID, a.Version, rename); !errors.Is(err, store.ErrStale) {
		t.Errorf("old version: %v", err)
	}
	after, err := s.ShardVersions(t.Context())
	if err != nil || after[store.Shard(a.ID)] <= before[store.Shard(a.ID)] {
		t.Errorf("shard version did not grow: %v", err)
	}
	all, err := s.ShardAccounts(t.Context(), store.Shard(a.ID))
	if err != nil || len(all) != 1 || all[0].Name != "Second" || all[0].IMAP.Pass.Reveal() != "planted-password" {
		t.Errorf("%+v, %v", all, err)
	}
}

func testPause(t *testing.T, s *store.Store, _ redis.UniversalClient) {
	a, l := create(t, s)
	for range 2 {
		if p, err := s.PauseAccount(t.Context(), a.ID, "api"); err != nil || p.Paused == nil || p.Watchable() {
			t.Fatalf("%+v, %v", p, err)
		}
	}
	if _, err := s.Commit(t.Context(), l, store.Change{Events: []events.Event{deleted(a, 1)}}); !errors.Is(err, store.ErrLeaseLost) {
		t.Errorf("commit after the pause: %v", err)
	}
	for range 2 {
		if p, err := s.ResumeAccount(t.Context(), a.ID, "api"); err != nil || p.Paused != nil {
			t.Fatalf("%+v, %v", p, err)
		}
	}
	if diff := cmp.Diff([]string{"1 accountAdded", "2 accountPaused", "3 accountResumed"}, journal(t, s, a.ID)); diff != "" {
		t.Error(diff)
	}
}

// What is held is told of once, also where a commit comes late.
func testHeldOnce(t *testing.T, s *store.Store, _ redis.UniversalClient) {
	a, l := create(t, s)
	e := deleted(a, 1)
	if _, err := s.Commit(t.Context(), l, store.Change{Hold: []store.Gone{{Event: string(e.ID), UID: 1}}}); err != nil {
		t.Fatal(err)
	}
	told := store.Change{Told: []string{string(e.ID)}, Events: []events.Event{e}}
	if _, err := s.Commit(t.Context(), l, told); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(t.Context(), l, store.Change{}); err != nil { // so that it is no repeat
		t.Fatal(err)
	}
	if _, err := s.Commit(t.Context(), l, told); !errors.Is(err, store.ErrStale) {
		t.Errorf("told again: %v", err)
	}
	if diff := cmp.Diff([]string{"1 accountAdded", "2 messageDeleted"}, journal(t, s, a.ID)); diff != "" {
		t.Error(diff)
	}
}

func testDelete(t *testing.T, s *store.Store, rdb redis.UniversalClient) {
	a, l := create(t, s)
	if _, err := s.Commit(t.Context(), l, folderChange(a)); err != nil {
		t.Fatal(err)
	}
	bound, _, err := s.CreateToken(t.Context(), store.Token{Account: a.ID})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time within a day is no error
		if err := s.DeleteAccount(t.Context(), a.ID); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.DeleteAccount(t.Context(), "nobody"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("unknown account: %v", err)
	}
	if _, err := s.TokenByValue(t.Context(), bound); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("bound token lives: %v", err)
	}
	if _, err := s.Commit(t.Context(), l, store.Change{Events: []events.Event{deleted(a, 1)}}); err == nil {
		t.Error("a deleted account can be written")
	}
	keys, err := rdb.Keys(t.Context(), "*:a:*").Result()
	if err != nil || len(keys) != 1 || !strings.HasSuffix(keys[0], ":journal") {
		t.Errorf("keys left: %v, %v", keys, err)
	}
	list := journal(t, s, a.ID)
	if list[len(list)-1] != fmt.Sprintf("%d accountDeleted", len(list)) {
		t.Errorf("journal ends with %v", list)
	}
	all, err := s.ShardAccounts(t.Context(), store.Shard(a.ID))
	if err != nil || len(all) != 1 || all[0].Deleted.IsZero() || all[0].Webhooks.Empty() || all[0].IMAP != nil {
		t.Errorf("what is kept of a deleted account: %+v, %v", all, err)
	}
}

func testReregister(t *testing.T, s *store.Store, _ redis.UniversalClient) {
	a, _ := create(t, s)
	if err := s.DeleteAccount(t.Context(), a.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateAccount(t.Context(), support()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"1 accountAdded", "2 accountDeleted", "3 accountAdded"}, journal(t, s, a.ID)); diff != "" {
		t.Error(diff)
	}
}

// folderChange is a folder of three messages, its list entry, a status and an event.
func folderChange(a store.Account) store.Change {
	meta := store.FolderMeta{UIDValidity: 7, UIDNext: 2001}
	meta.Replace(0, 0, 2)
	meta.Replace(1, 0, 1)
	return store.Change{
		Folders: []store.FolderChange{{Num: 5, Meta: meta, Blocks: map[uint32][]store.Record{
			0: {{UID: 1, Flags: []string{`\Seen`}}, {UID: 2}},
			1: {{UID: 2000}},
		}}},
		List:        &store.ListChange{Put: []store.Folder{{Num: 5, Raw: "INBOX", Path: "INBOX"}}, NextNum: 6},
		Status:      &store.StatusChange{Version: 1, Status: store.Status{State: store.StateConnected}},
		Initialized: true,
		Events:      []events.Event{deleted(a, 1), deleted(a, 2)},
	}
}

// broken is a pointer to a journal entry that is no event.
func broken(t *testing.T, s *store.Store, rdb redis.UniversalClient) []store.FeedEntry {
	t.Helper()
	a, err := s.CreateAccount(t.Context(), store.Account{ID: "broken"})
	if err != nil {
		t.Fatal(err)
	}
	key := rdb.Keys(t.Context(), "*:broken:journal").Val()[0]
	if err := rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: key, ID: "2-0", Values: []string{"d", "1", "x", "{"}}).Err(); err != nil {
		t.Fatal(err)
	}
	return []store.FeedEntry{{ID: "1-0", Account: a.ID, Seq: 2}}
}

func testCommit(t *testing.T, s *store.Store, rdb redis.UniversalClient) {
	a, l := create(t, s)
	done, err := s.Commit(t.Context(), l, folderChange(a))
	if err != nil || done.FirstSeq != 2 || done.LastSeq != 3 {
		t.Fatalf("%+v, %v", done, err)
	}
	meta, err := s.FolderMeta(t.Context(), a.ID, 5)
	if err != nil || meta.Version != 1 || meta.Count != 3 || meta.UIDNext != 2001 {
		t.Fatalf("%+v, %v", meta, err)
	}
	blocks, err := s.Blocks(t.Context(), a.ID, 5, meta)
	if err != nil {
		t.Fatal(err)
	}
	want := map[uint32][]store.Record{0: {{UID: 1, Flags: []string{`\Seen`}}, {UID: 2}}, 1: {{UID: 2000}}}
	if diff := cmp.Diff(want, blocks); diff != "" {
		t.Error(diff)
	}
	list, v, err := s.Folders(t.Context(), a.ID)
	if err != nil || v != 1 || len(list) != 1 || list[0].Path != "INBOX" {
		t.Errorf("%+v, %d, %v", list, v, err)
	}
	st, err := s.State(t.Context(), a.ID)
	if err != nil || st.NextNum != 6 || st.StatusVersion != 2 || !st.Initialized || st.Seq != 3 {
		t.Errorf("%+v, %v", st, err)
	}
	entries, err := s.Feed(t.Context(), store.Shard(a.ID), "", 10)
	if err != nil || len(entries) != 3 {
		t.Fatalf("%v, %v", entries, err)
	}
	evs, err := s.Entries(t.Context(), entries)
	if err != nil || evs[2].Seq != 3 || evs[2].Type != events.MessageDeletedType || evs[2].Date.Before(evs[0].Date.Time) {
		t.Errorf("%v, %v", evs, err)
	}

	// an entry that cannot be read is left out, and costs no other
	if evs, err := s.Entries(t.Context(), append(entries[:1:1], broken(t, s, rdb)...)); err != nil || evs[0] == nil || evs[1] != nil {
		t.Errorf("%v, %v", evs, err)
	}

	// remove one block, empty the other's half, then drop the folder
	meta.Replace(1, 1, 0)
	if _, err := s.Commit(t.Context(), l, store.Change{Folders: []store.FolderChange{
		{Num: 5, Version: 1, Meta: meta, Blocks: map[uint32][]store.Record{1: nil}},
	}}); err != nil {
		t.Fatal(err)
	}
	if blocks, err := s.Blocks(t.Context(), a.ID, 5, meta); err != nil || len(blocks) != 1 {
		t.Errorf("%v, %v", blocks, err)
	}
	if _, err := s.Commit(t.Context(), l, store.Change{
		Folders: []store.FolderChange{{Num: 5, Version: 2, Drop: true}}, List: &store.ListChange{Version: 1, Drop: []uint32{5}},
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.FolderMeta(t.Context(), a.ID, 5); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("dropped folder: %v", err)
	}
}

func testStale(t *testing.T, s *store.Store, _ redis.UniversalClient) {
	a, l := create(t, s)
	if _, err := s.Commit(t.Context(), l, folderChange(a)); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*store.Change){
		"folder": func(c *store.Change) { c.List, c.Status = nil, nil },
		"list":   func(c *store.Change) { c.Folders, c.Status = nil, nil },
		"status": func(c *store.Change) { c.Folders, c.List = nil, nil },
	} {
		c := folderChange(a)
		change(&c)
		if _, err := s.Commit(t.Context(), l, c); !errors.Is(err, store.ErrStale) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := journal(t, s, a.ID); len(got) != 3 {
		t.Errorf("a refused commit left events: %v", got)
	}
}

func testFence(t *testing.T, s *store.Store, _ redis.UniversalClient) {
	a, l := create(t, s)
	if err := s.Release(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	l2, err := s.Acquire(t.Context(), a.ID, "p2", time.Minute)
	if err != nil || l2.Fence <= l.Fence {
		t.Fatalf("%+v, %v", l2, err)
	}
	if _, err := s.Commit(t.Context(), l, folderChange(a)); !errors.Is(err, store.ErrLeaseLost) {
		t.Errorf("old owner: %v", err)
	}
	if _, err := s.Commit(t.Context(), l2, folderChange(a)); err != nil {
		t.Errorf("new owner: %v", err)
	}
	if err := s.Release(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	if st, err := s.State(t.Context(), a.ID); err != nil || st.Owner != "p2" {
		t.Errorf("a lost lease was released: %+v, %v", st, err)
	}
}

func testLeases(t *testing.T, s *store.Store, _ redis.UniversalClient) {
	a, l := create(t, s)
	if _, err := s.Acquire(t.Context(), a.ID, "p2", time.Minute); !errors.Is(err, store.ErrLeaseHeld) {
		t.Errorf("taken away: %v", err)
	}
	if free, _, err := s.FreeLeases(t.Context()); err != nil || len(free) != 0 {
		t.Errorf("%v, %v", free, err)
	}
	st, err := s.State(t.Context(), a.ID)
	if err != nil {
		t.Fatal(err)
	}
	other := store.Held{Lease: store.Lease{Account: a.ID, Owner: "p1", Fence: 1}}
	if lost, behind, err := s.Renew(t.Context(), []store.Held{{Lease: l, Seq: st.Seq}, other}, time.Minute); err != nil || len(lost) != 1 || len(behind) != 0 {
		t.Errorf("%v, %v, %v", lost, behind, err)
	}
	if lost, behind, err := s.Renew(t.Context(), []store.Held{{Lease: l, Seq: st.Seq + 1}}, time.Minute); err != nil || len(lost) != 0 || len(behind) != 1 {
		t.Errorf("a seq that went back: %v, %v, %v", lost, behind, err)
	}
	// a lease of no length has expired as soon as it is given
	if _, _, err := s.Renew(t.Context(), []store.Held{{Lease: l}}, -time.Second); err != nil {
		t.Fatal(err)
	}
	if free, _, err := s.FreeLeases(t.Context()); err != nil || len(free) != 1 {
		t.Errorf("%v, %v", free, err)
	}
	l2, err := s.Acquire(t.Context(), a.ID, "p2", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	for owner, want := range map[string]int{"p1": 0, "p2": 1} {
		if owned, err := s.OwnedLeases(t.Context(), owner); err != nil || len(owned) != want {
			t.Errorf("of %s: %v, %v", owner, owned, err)
		}
	}
	if lost, _, err := s.Renew(t.Context(), []store.Held{{Lease: l}}, time.Minute); err != nil || len(lost) != 1 {
		t.Errorf("the old owner renewed: %v, %v", lost, err)
	}
	if _, err := s.Acquire(t.Context(), "nobody", "p1", time.Minute); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("unknown account: %v", err)
	}
	if _, _, err := s.Renew(t.Context(), []store.Held{{Lease: l2}}, time.Minute); err != nil {
		t.Error(err)
	}
	for _, p := range []string{"p1", "p2"} {
		if _, err := s.Heartbeat(t.Context(), p, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Retire(t.Context(), "p1"); err != nil {
		t.Fatal(err)
	}
	if alive, err := s.Heartbeat(t.Context(), "p2", time.Minute); err != nil || len(alive) != 1 {
		t.Errorf("%v, %v", alive, err)
	}
	if _, procs, err := s.FreeLeases(t.Context()); err != nil || procs != 1 {
		t.Errorf("%d processes live, %v", procs, err)
	}
	if err := s.Release(t.Context(), l2); err != nil {
		t.Fatal(err)
	}
	if owned, err := s.OwnedLeases(t.Context(), "p2"); err != nil || len(owned) != 0 {
		t.Errorf("of p2 after the release: %v, %v", owned, err)
	}
}

// lose removes the keys of the account that match.
func lose(t *testing.T, rdb redis.UniversalClient, patterns ...string) {
	t.Helper()
	for _, p := range patterns {
		keys, err := rdb.Keys(t.Context(), p).Result()
		if err != nil || len(keys) == 0 {
			t.Fatalf("%s: %v, %v", p, keys, err)
		}
		if err := rdb.Del(t.Context(), keys...).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func testStateLost(t *testing.T, s *store.Store, rdb redis.UniversalClient) {
	a, l := create(t, s)
	if _, err := s.Commit(t.Context(), l, folderChange(a)); err != nil {
		t.Fatal(err)
	}
	lose(t, rdb, "*:support:state", "*:support:folders")
	if _, err := s.State(t.Context(), a.ID); !errors.Is(err, store.ErrStateLost) {
		t.Fatalf("read: %v", err)
	}
	if _, err := s.Commit(t.Context(), l, store.Change{Events: []events.Event{deleted(a, 9)}}); !errors.Is(err, store.ErrStateLost) {
		t.Errorf("commit: %v", err)
	}
	st, err := s.RestoreState(t.Context(), l, "missing")
	if err != nil || st.Epoch <= a.Epoch || st.Seq != 4 || st.Initialized || st.Reason != store.ReasonStateLost {
		t.Fatalf("%+v, %v", st, err)
	}
	if diff := cmp.Diff([]string{"1 accountAdded", "2 messageDeleted", "3 messageDeleted", "4 accountStateLost"}, journal(t, s, a.ID)); diff != "" {
		t.Error(diff)
	}
	if _, err := s.FolderMeta(t.Context(), a.ID, 5); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an old folder is left: %v", err)
	}
}

func testStateAndJournalLost(t *testing.T, s *store.Store, rdb redis.UniversalClient) {
	a, l := create(t, s)
	lose(t, rdb, "*:support:state", "*:support:journal")
	st, err := s.RestoreState(t.Context(), l, "missing")
	if err != nil || st.Seq < uint64(a.Epoch) {
		t.Fatalf("%+v, %v", st, err)
	}
	page, err := s.JournalPage(t.Context(), a.ID, 0, 10)
	if err != nil || len(page) != 1 || !strings.Contains(string(page[0].Data.(events.Raw)), `"seqRestarted":true`) {
		t.Errorf("%v, %v", page, err)
	}
}

func testCorrupt(t *testing.T, s *store.Store, rdb redis.UniversalClient) {
	a, l := create(t, s)
	if _, err := s.Commit(t.Context(), l, folderChange(a)); err != nil {
		t.Fatal(err)
	}
	meta, err := s.FolderMeta(t.Context(), a.ID, 5)
	if err != nil {
		t.Fatal(err)
	}
	key := rdb.Keys(t.Context(), "*:support:b:5").Val()[0]
	whole := rdb.HGet(t.Context(), key, "0").Val()
	flipped := []byte(whole)
	flipped[len(flipped)/2] ^= 1
	for name, damage := range map[string]func(){
		"a byte flipped": func() { rdb.HSet(t.Context(), key, "0", flipped) },
		"a block gone":   func() { rdb.HDel(t.Context(), key, "0") },
		"a block twice":  func() { rdb.HSet(t.Context(), key, "7", whole) },
	} {
		damage()
		if _, err := s.Blocks(t.Context(), a.ID, 5, meta); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		rdb.HSet(t.Context(), key, "0", whole)
		rdb.HDel(t.Context(), key, "7")
	}
	if _, err := s.Blocks(t.Context(), a.ID, 5, meta); err != nil {
		t.Errorf("mended: %v", err)
	}
	next := store.FolderChange{Num: 5, Version: meta.Version, Meta: meta, Blocks: map[uint32][]store.Record{9: {{UID: 9 * 1024}}}}
	next.Meta.Replace(9, 0, 1)
	if _, err := s.Commit(t.Context(), l, store.Change{Folders: []store.FolderChange{next}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Blocks(t.Context(), a.ID, 5, meta); !errors.Is(err, store.ErrStale) {
		t.Errorf("a meta that is no longer the newest: %v", err)
	}
}

func testAppendOnce(t *testing.T, s *store.Store, _ redis.UniversalClient) {
	ev := events.Event{ID: "evt_x", Data: events.WebhookPaused{Route: events.Route{ID: "default"}, Reason: "failures"}}
	for range 3 {
		if _, err := s.AppendOnce(t.Context(), "", ev); err != nil {
			t.Fatal(err)
		}
	}
	ev.ID = "evt_y"
	if c, err := s.AppendOnce(t.Context(), "", ev); err != nil || c.FirstSeq != 2 {
		t.Errorf("%+v, %v", c, err)
	}
	if got := journal(t, s, ""); len(got) != 2 {
		t.Errorf("%v", got)
	}
}

func testRecents(t *testing.T, s *store.Store, rdb redis.UniversalClient) {
	a, l := create(t, s)
	many, seen := map[store.Identity][]store.Place{}, map[store.MessageKey]store.Identity{}
	for i := range uint32(10_050) {
		ident := store.Identity(fmt.Sprintf("%016x", i))
		many[ident], seen[store.MessageKey{Folder: 1, UIDValidity: 9, UID: i}] = []store.Place{{Folder: 1, UID: i}}, ident
	}
	if _, err := s.Commit(t.Context(), l, store.Change{Recent: many, Seen: seen}); err != nil {
		t.Fatal(err)
	}
	if n := rdb.HLen(t.Context(), rdb.Keys(t.Context(), "*:support:recent").Val()[0]).Val(); n != 2*10_000 {
		t.Errorf("%d identities and messages", n)
	}
	found, err := s.IdentitiesAt(t.Context(), a.ID, []store.MessageKey{{Folder: 1, UIDValidity: 9, UID: 9_999}, {Folder: 1, UIDValidity: 8, UID: 9_999}})
	if err != nil || len(found) > 1 || found[store.MessageKey{Folder: 1, UIDValidity: 8, UID: 9_999}] != "" {
		t.Errorf("%v, %v", found, err)
	}
	if _, err := s.Commit(t.Context(), l, store.Change{Recent: map[store.Identity][]store.Place{
		"a": {{Folder: 1, UID: 2, Gone: 3}}, "0000000000002700": nil,
	}}); err != nil {
		t.Fatal(err)
	}
	got, err := s.Recents(t.Context(), a.ID, []store.Identity{"a", "b", "0000000000002700"})
	if err != nil || len(got) != 1 || got["a"][0].UID != 2 {
		t.Errorf("%v, %v", got, err)
	}
}

func testCursor(t *testing.T, s *store.Store, _ redis.UniversalClient) {
	want := map[events.ID]bool{}
	total := 0
	var leases []store.Lease
	var accounts []store.Account
	for i := range 7 {
		in := support()
		in.ID = store.AccountID(fmt.Sprintf("acc %d", i))
		a, err := s.CreateAccount(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		l, err := s.Acquire(t.Context(), a.ID, "p1", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		accounts, leases = append(accounts, a), append(leases, l)
	}
	q := store.EventQuery{Limit: 10}
	last := map[string]uint64{}
	for round := 0; round < 20 || q.Cursor == ""; round++ {
		if round < 10 {
			for i := range accounts {
				c := store.Change{Events: []events.Event{deleted(accounts[i], uint32(2*round+1)), deleted(accounts[i], uint32(2*round+2))}}
				if _, err := s.Commit(t.Context(), leases[i], c); err != nil {
					t.Fatal(err)
				}
				total += 2
			}
		}
		page, err := s.ReadEvents(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Events {
			if want[e.ID] {
				t.Errorf("%s twice", e.ID)
			}
			want[e.ID] = true
			if e.Seq != last[e.Account]+1 {
				t.Errorf("%s: seq %d behind %d", e.Account, e.Seq, last[e.Account])
			}
			last[e.Account] = e.Seq
		}
		q.Cursor = page.Cursor
	}
	if total += len(accounts); len(want) != total {
		t.Errorf("%d of %d events", len(want), total)
	}
	page, err := s.ReadEvents(t.Context(), store.EventQuery{Cursor: "now", Limit: 5})
	if err != nil || len(page.Events) != 0 || page.More {
		t.Errorf("now: %+v, %v", page, err)
	}
	page, err = s.ReadEvents(t.Context(), store.EventQuery{Types: []string{"accountAdded"}, Limit: 100})
	if err != nil || len(page.Events) != len(accounts) {
		t.Errorf("filtered: %d, %v", len(page.Events), err)
	}
	id := accounts[0].ID
	page, err = s.ReadEvents(t.Context(), store.EventQuery{Account: &id, Limit: 4})
	if err != nil || len(page.Events) != 4 || !page.More {
		t.Fatalf("%+v, %v", page, err)
	}
	page, err = s.ReadEvents(t.Context(), store.EventQuery{Account: &id, Cursor: page.Cursor, Limit: 4})
	if err != nil || page.Events[0].Seq != 5 {
		t.Errorf("%+v, %v", page, err)
	}
	page, err = s.ReadEvents(t.Context(), store.EventQuery{Account: &id, Cursor: accounts[0].Created.Add(-time.Hour).Format(time.RFC3339), Limit: 100})
	if err != nil || len(page.Events) != 21 {
		t.Errorf("by time: %d, %v", len(page.Events), err)
	}
	for _, bad := range []string{"x", page.Cursor[:len(page.Cursor)-2] + "AA", page.Cursor, strings.Repeat("A", 4000)} {
		if _, err := s.ReadEvents(t.Context(), store.EventQuery{Cursor: bad, Limit: 1}); !errors.Is(err, store.ErrInvalidCursor) {
			t.Errorf("cursor %.20q: %v", bad, err)
		}
	}
	other := accounts[1].ID
	if _, err := s.ReadEvents(t.Context(), store.EventQuery{Account: &other, Cursor: page.Cursor, Limit: 1}); !errors.Is(err, store.ErrInvalidCursor) {
		t.Errorf("another account's cursor: %v", err)
	}
}

func testTrim(t *testing.T, s *store.Store, rdb redis.UniversalClient) {
	a, l := create(t, s)
	first, err := s.ReadEvents(t.Context(), store.EventQuery{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	commit := func(uid uint32) {
		if _, err := s.Commit(t.Context(), l, store.Change{Events: []events.Event{deleted(a, uid)}}); err != nil {
			t.Fatal(err)
		}
	}
	commit(1)
	if err := s.TrimJournal(t.Context(), time.Hour); err != nil {
		t.Fatal(err)
	}
	if got := journal(t, s, a.ID); len(got) != 2 {
		t.Errorf("what is young was forgotten: %v", got)
	}
	if err := s.TrimJournal(t.Context(), -time.Second); err != nil {
		t.Fatal(err)
	}
	if got := journal(t, s, a.ID); len(got) != 0 {
		t.Errorf("what is old was kept: %v", got)
	}
	if _, err := s.ReadEvents(t.Context(), store.EventQuery{Cursor: first.Cursor, Limit: 1}); !errors.Is(err, store.ErrCursorExpired) {
		t.Errorf("old cursor: %v", err)
	}
	commit(2)
	if diff := cmp.Diff([]string{"3 messageDeleted"}, journal(t, s, a.ID)); diff != "" {
		t.Error(diff)
	}
	page, err := s.ReadEvents(t.Context(), store.EventQuery{Limit: 10})
	if err != nil || len(page.Events) != 1 {
		t.Errorf("from the beginning: %+v, %v", page, err)
	}
	if _, err := s.ReadEvents(t.Context(), store.EventQuery{Cursor: page.Cursor, Limit: 10}); err != nil {
		t.Errorf("new cursor: %v", err)
	}
	if err := s.DeleteAccount(t.Context(), a.ID); err != nil {
		t.Fatal(err)
	}
	if err := s.TrimJournal(t.Context(), -time.Second); err != nil {
		t.Fatal(err)
	}
	if keys := rdb.Keys(t.Context(), "*:a:support:*").Val(); len(keys) != 0 {
		t.Errorf("keys left of a deleted account: %v", keys)
	}
}

func testSettings(t *testing.T, s *store.Store, _ redis.UniversalClient) {
	set, err := s.Settings(t.Context())
	if diff := cmp.Diff(store.DefaultSettings(), set, cmp.AllowUnexported(secret.Text{})); err != nil || diff != "" {
		t.Error(diff, err)
	}
	_, err = s.UpdateSettings(t.Context(), map[string]json.RawMessage{
		"webhooks": json.RawMessage(`"https://h.example/"`), "stallAfter": json.RawMessage(`"soon"`),
	})
	if se, ok := errors.AsType[*store.SettingError](err); !ok || se.Key != "stallAfter" {
		t.Errorf("wrong type: %v", err)
	}
	if set, err = s.Settings(t.Context()); err != nil || !set.Webhooks.Empty() {
		t.Errorf("half a change was written: %v", err)
	}
	for key, bad := range map[string]string{
		"webhooks": `"ftp://h"`, "stallAfter": `1`, "webhookEvents": `"x"`, "serviceSecret": `"******"`, "serviceUrl": `"https://u:p@h"`, "nonsense": `1`,
	} {
		_, err := s.UpdateSettings(t.Context(), map[string]json.RawMessage{key: json.RawMessage(bad)})
		if se, ok := errors.AsType[*store.SettingError](err); !ok || se.Key != key {
			t.Errorf("%s: %v", key, err)
		}
	}
	for selector, want := range map[string]bool{
		"messageNew": true, "*": true, "message*": true, "!messageUpdated": true, "!webhook*": true, "mesageNew": false, "": false, "typo*": false, "!": false,
	} {
		b, err := json.Marshal([]string{selector})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.UpdateSettings(t.Context(), map[string]json.RawMessage{"webhookEvents": b}); (err == nil) != want {
			t.Errorf("webhookEvents [%q]: %v", selector, err)
		}
	}
	updated, err := s.UpdateSettings(t.Context(), map[string]json.RawMessage{
		"webhooks": json.RawMessage(`"https://u:p@h.example/?k=v"`), "webhookEvents": json.RawMessage(`["messageNew"]`), "stallAfter": json.RawMessage(`900`),
	})
	if err != nil || len(updated) != 3 {
		t.Fatalf("%v, %v", updated, err)
	}
	set, err = s.Settings(t.Context())
	if err != nil || set.Webhooks.Reveal() != "https://u:p@h.example/?k=v" || set.StallAfter != 900 || len(set.WebhookEvents) != 1 {
		t.Errorf("%+v, %v", set, err)
	}
	if shown := fmt.Sprint(set.Show()); strings.Contains(shown, "u:p") || strings.Contains(shown, "k=v") {
		t.Errorf("shown: %s", shown)
	}
	if _, err := s.UpdateSettings(t.Context(), map[string]json.RawMessage{"webhookEvents": json.RawMessage(`null`)}); err != nil {
		t.Fatal(err)
	}
	if set, err = s.Settings(t.Context()); err != nil || set.WebhookEvents[0] != "*" {
		t.Errorf("%v, %v", set.WebhookEvents, err)
	}
	if err := s.EnsureServiceSecret(t.Context()); err != nil {
		t.Fatal(err)
	}
	one, _ := s.Settings(t.Context())
	if err := s.EnsureServiceSecret(t.Context()); err != nil {
		t.Fatal(err)
	}
	two, _ := s.Settings(t.Context())
	if one.ServiceSecret.Empty() || one.ServiceSecret != two.ServiceSecret {
		t.Error("the service secret was not made, or made twice")
	}
}

func testTokens(t *testing.T, s *store.Store, _ redis.UniversalClient) {
	value, created, err := s.FirstToken(t.Context())
	if err != nil || !created || !store.WellFormedToken(value) {
		t.Fatalf("%v, %v", created, err)
	}
	if _, created, err := s.FirstToken(t.Context()); err != nil || created {
		t.Errorf("a second first token: %v", err)
	}
	if store.WellFormedToken(value[:len(value)-1]+"!") || store.WellFormedToken("ptr_") {
		t.Error("a mistyped token is well-formed")
	}
	tok, err := s.TokenByValue(t.Context(), value)
	if err != nil || tok.Scopes[0] != "*" {
		t.Fatalf("%+v, %v", tok, err)
	}
	if err := s.UseToken(t.Context(), tok.ID, "192.0.2.1"); err != nil {
		t.Fatal(err)
	}
	if list, err := s.Tokens(t.Context()); err != nil || len(list) != 1 || list[0].LastAddress != "192.0.2.1" {
		t.Errorf("%+v, %v", list, err)
	}
	if err := s.ImportToken(t.Context(), "short", store.Token{}); err == nil {
		t.Error("a short token was imported")
	}
	if err := s.DeleteToken(t.Context(), tok.ID); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteToken(t.Context(), tok.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("deleted twice: %v", err)
	}
	if _, err := s.TokenByValue(t.Context(), value); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a deleted token lives: %v", err)
	}
}

func testSilent(t *testing.T, s *store.Store, _ redis.UniversalClient) {
	a, _ := create(t, s)
	now, err := s.Now(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	silent := func(before time.Time) int {
		ids, err := s.Silent(t.Context(), before)
		if err != nil {
			t.Fatal(err)
		}
		return len(ids)
	}
	if silent(now.Add(-time.Minute)) != 0 || silent(now.Add(time.Minute)) != 1 {
		t.Error("an account that never spoke is silent since it was registered")
	}
	if st, _ := s.State(t.Context(), a.ID); !st.LastAlive.IsZero() {
		t.Errorf("alive at %s without a proof", st.LastAlive)
	}
	at := now.Add(time.Hour).Truncate(time.Millisecond).UTC()
	if err := s.SetAlive(t.Context(), map[store.AccountID]time.Time{a.ID: at, "nobody": at}); err != nil {
		t.Fatal(err)
	}
	if st, _ := s.State(t.Context(), a.ID); !st.LastAlive.Equal(at) {
		t.Errorf("alive at %s, want %s", st.LastAlive, at)
	}
	if silent(at.Add(-time.Second)) != 0 || silent(at.Add(time.Second)) != 1 {
		t.Error("silence is counted from the last proof")
	}
	if _, err := s.PauseAccount(t.Context(), a.ID, "api"); err != nil {
		t.Fatal(err)
	}
	if silent(at.Add(time.Second)) != 0 {
		t.Error("a paused account is silent")
	}
}

func testHints(t *testing.T, s *store.Store, _ redis.UniversalClient) {
	got := make(chan store.Hint, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Listen(t.Context(), func(h store.Hint) { got <- h })
	}()
	t.Cleanup(func() { <-done })
	// subscribing takes a moment: kick until one comes through
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for ready := false; !ready; {
		select {
		case <-got:
			ready = true
		case <-tick.C:
			if err := s.Kick(t.Context(), "x"); err != nil {
				t.Fatal(err)
			}
		}
	}
	create(t, s)
	want := map[store.Hint]bool{{Shard: store.Shard("support"), Account: "support"}: true, {Shard: store.Shard("support")}: true}
	for len(want) > 0 {
		delete(want, <-got)
	}
}

func testKeyCheck(t *testing.T, s *store.Store, rdb redis.UniversalClient) {
	for range 2 {
		if err := s.CheckKeys(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	other := make([]byte, secret.KeySize)
	other[0] = 1
	ring, err := secret.NewKeyring(other)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.New(store.Options{Client: rdb, Secrets: ring}).CheckKeys(t.Context()); !errors.Is(err, secret.ErrNoKey) {
		t.Errorf("another key: %v", err)
	}
	both, err := secret.NewKeyring(other, make([]byte, secret.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	if err := store.New(store.Options{Client: rdb, Secrets: both}).CheckKeys(t.Context()); err != nil {
		t.Errorf("a rotated ring: %v", err)
	}
}

func TestCheck(t *testing.T) {
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"safe":     {nil, ""},
		"evicting": {[]string{"--maxmemory-policy", "allkeys-lru"}, "noeviction"},
		"no AOF":   {[]string{"--appendonly", "no"}, "appendonly yes"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			s := storetest.On(t, storetest.NewServer(t, tt.args...).Client())
			_, err := s.Check(t.Context(), false)
			if (err == nil) != (tt.want == "") || err != nil && (!errors.Is(err, store.ErrUnsafe) || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v", err)
			}
			if warnings, err := s.Check(t.Context(), true); err != nil || (len(warnings) > 0) != (tt.want != "") {
				t.Errorf("allowed: %v, %v", warnings, err)
			}
		})
	}
}

func testIntents(t *testing.T, s *store.Store, rdb redis.UniversalClient) {
	ctx := t.Context()
	if _, err := s.BeginIntent(ctx, "nobody", store.Intent{Kind: store.IntentMove}); !errors.Is(err, store.ErrStateLost) {
		t.Errorf("of no account: %v", err)
	}
	a, l := create(t, s)
	begin := func(i store.Intent) store.Intent {
		t.Helper()
		i, err := s.BeginIntent(ctx, a.ID, i)
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	read := func() []store.Intent {
		t.Helper()
		list, err := s.Intents(ctx, a.ID)
		if err != nil {
			t.Fatal(err)
		}
		for i := range list {
			if list[i].Age < 0 || list[i].Age > time.Minute {
				t.Errorf("age %v", list[i].Age)
			}
			list[i].At, list[i].Age = time.Time{}, 0
		}
		return list
	}
	move := begin(store.Intent{Kind: store.IntentMove, Folder: 1, UIDValidity: 7, UID: 3, Target: 2})
	flag := begin(store.Intent{Kind: store.IntentStore, Folder: 1, UIDValidity: 7, UID: 4, Add: []string{`\Seen`}})
	move.NewUIDValidity, move.NewUID = 9, 1
	if err := s.EndIntent(ctx, a.ID, move); err != nil {
		t.Fatal(err)
	}
	move.Done = true
	byID := func(x, y store.Intent) int { return strings.Compare(x.ID, y.ID) }
	want, got := []store.Intent{move, flag}, read()
	slices.SortFunc(want, byID)
	slices.SortFunc(got, byID) // both of one millisecond
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("intents (-want +got):\n%s", d)
	}

	stale := store.Change{Consumed: []string{move.ID}, Folders: []store.FolderChange{{Num: 1, Version: 5}}}
	if _, err := s.Commit(ctx, l, stale); !errors.Is(err, store.ErrStale) || len(read()) != 2 {
		t.Errorf("a stale commit consumes: %v", err)
	}
	if _, err := s.Commit(ctx, l, store.Change{Consumed: []string{move.ID}}); err != nil {
		t.Fatal(err)
	}
	if err := s.EndIntent(ctx, a.ID, move); err != nil { // late
		t.Fatal(err)
	}
	if err := s.DropIntent(ctx, a.ID, flag); err != nil {
		t.Fatal(err)
	}
	if got := read(); len(got) != 0 {
		t.Errorf("left: %+v", got)
	}

	for range 1000 {
		begin(store.Intent{Kind: store.IntentAppend, Folder: 1})
	}
	if _, err := s.BeginIntent(ctx, a.ID, store.Intent{Kind: store.IntentAppend}); !errors.Is(err, store.ErrTooMany) {
		t.Errorf("one too many: %v", err)
	}
	// Of those some are over: they are not read, and make room.
	key, err := rdb.Keys(ctx, "*:intents").Result()
	if err != nil || len(key) != 1 {
		t.Fatalf("keys %v, %v", key, err)
	}
	if ttl, err := rdb.PTTL(ctx, key[0]).Result(); err != nil || ttl <= 0 || ttl > 10*time.Minute {
		t.Errorf("TTL %v, %v", ttl, err)
	}
	for _, i := range read()[:10] {
		if err := rdb.HSet(ctx, key[0], i.ID, `1000 {"i":"`+i.ID+`","k":"append","f":1}`).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(read()); n != 990 {
		t.Errorf("%d are read", n)
	}
	begin(store.Intent{Kind: store.IntentAppend, Folder: 1})
	if n := rdb.HLen(ctx, key[0]).Val(); n != 991 {
		t.Errorf("%d are kept", n)
	}
	if err := s.DeleteAccount(ctx, a.ID); err != nil {
		t.Fatal(err)
	}
	if n := rdb.Exists(ctx, key[0]).Val(); n != 0 {
		t.Error("they outlive the account")
	}
}

func testLive(t *testing.T, s *store.Store, _ redis.UniversalClient) {
	take := func(owner string, want store.LiveAnswer) {
		t.Helper()
		if got, err := s.TakeLive(t.Context(), "jo", owner, time.Minute); err != nil || got != want {
			t.Errorf("%s takes: %s, %v; want %s", owner, got, err, want)
		}
	}
	free := func(owner string) {
		t.Helper()
		if err := s.FreeLive(t.Context(), "jo", owner); err != nil {
			t.Error(err)
		}
	}
	take("one", store.LiveOurs)
	take("one", store.LiveOurs)
	take("two", store.LiveHeld)
	take("one", store.LiveAsked)
	free("two") // not its own
	take("two", store.LiveHeld)
	free("one")
	take("two", store.LiveOurs)
	take("two", store.LiveOurs) // what it asked for itself is over
	take("one", store.LiveHeld)
}
