package imapsync

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
)

// halves returns the events since the last call: each with the events it is related to,
// by their place in the answer, and how that is known.
func (d *den) halves() []string {
	d.t.Helper()
	type half struct {
		UID      uint32
		Subject  string
		Origin   string
		Evidence string
		Previous *struct{ Path string }
		Related  *struct{ EventID, Path, Evidence, Confidence string }
	}
	all := map[events.ID]string{}
	var evs []events.Event
	for e, err := range d.st.Journal(d.t.Context(), denAccount, 0) {
		d.ok(err)
		all[e.ID] = string(e.Type) + " " + e.Path
		if e.Seq > d.last {
			evs, d.last = append(evs, e), e.Seq
		}
	}
	var out []string
	for _, e := range evs {
		var p half
		d.ok(json.Unmarshal(e.Data.(events.Raw), &p))
		words := []string{string(e.Type), e.Path}
		if p.Previous != nil {
			words = append(words, "from "+p.Previous.Path, p.Evidence)
		}
		if p.Origin != "" {
			words = append(words, p.Origin)
		}
		if r := p.Related; r != nil {
			words = append(words, "~", r.Confidence, r.Evidence)
			if other := all[events.ID(r.EventID)]; other != "" && !strings.HasSuffix(other, " "+r.Path) {
				d.t.Fatalf("related to %q, which is %q", r.Path, other)
			}
		}
		out = append(out, strings.Join(words, " "))
	}
	return out
}

func (d *den) moves(want ...string) {
	d.t.Helper()
	if diff := cmp.Diff(want, d.halves()); diff != "" {
		d.t.Fatalf("events (-want +got):\n%s", diff)
	}
}

// look has all folders looked at now.
func (d *den) look() {
	d.t.Helper()
	d.pass(2500 * time.Millisecond) // probes are not closer than that
	d.m.Kick(denAccount)
	d.pass(2500 * time.Millisecond)
}

// held counts the messages whose messageDeleted waits.
func (d *den) held() int {
	d.t.Helper()
	list, err := d.st.Gones(d.t.Context(), denAccount)
	d.ok(err)
	return len(list)
}

// The two halves of a move, whichever folder is looked at first.
func TestMoves(t *testing.T) {
	for _, tt := range []struct {
		name            string
		objectID, moves bool
		from, to        string
		age             time.Duration // of the message, which is baselined when it is not 0
		want            []string
	}{
		{
			"left first, EMAILID", true, false, "INBOX", "Archive", 0,
			[]string{"messageDeleted INBOX ~ certain emailId", "messageNew Archive moved ~ certain emailId"},
		},
		{
			"left first, EMAILID, one event", true, true, "INBOX", "Archive", 0,
			[]string{"messageMoved Archive from INBOX emailId"},
		},
		{
			"came first, EMAILID", true, false, "Archive", "INBOX", 0,
			[]string{"messageDeleted Archive ~ certain emailId", "messageNew INBOX moved ~ certain emailId"},
		},
		{
			"came first, EMAILID, one event", true, true, "Archive", "INBOX", 0,
			[]string{"messageMoved INBOX from Archive emailId"},
		},
		{
			"old message", true, true, "INBOX", "Archive", 90 * 24 * time.Hour,
			[]string{"messageMoved Archive from INBOX emailId"},
		},
		{
			"old message, came first", true, true, "Archive", "INBOX", 90 * 24 * time.Hour,
			[]string{"messageMoved INBOX from Archive emailId"},
		},
		{
			"left first, no identity of the server's", false, true, "INBOX", "Archive", 0,
			[]string{"messageDeleted INBOX ~ likely fingerprint", "messageNew Archive moved ~ likely fingerprint"},
		},
		{
			"came first, no identity of the server's", false, true, "Archive", "INBOX", 0,
			[]string{"messageNew INBOX existing", "messageDeleted Archive ~ likely fingerprint"},
		},
		{
			"old message, no identity", false, false, "INBOX", "Archive", 90 * 24 * time.Hour,
			[]string{"messageDeleted INBOX", "messageNew Archive existing"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachTier(t, func(d *den) {
				d.srv.objectID = tt.objectID
				d.set(map[string]any{"notifyMoves": tt.moves})
				var uid uint32
				if tt.age > 0 {
					uid = d.srv.add(tt.from, "one", time.Now().Add(-tt.age))
				}
				d.started()
				if tt.age == 0 {
					uid = d.srv.put(tt.from, "one")
					d.look()
					d.expect("messageNew " + tt.from + " <one> new")
				}
				d.srv.act(func() { d.srv.copies(tt.from, uid, tt.to, true) })
				d.look()
				d.moves(tt.want...)
				if n := d.held(); n != 0 {
					d.t.Errorf("%d messages are still held", n)
				}
			})
		})
	}
}

func TestMoves_full_identity_links_old_messages_without_EMAILID(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.set(map[string]any{"storeIdentity": "full"})
		uid := d.srv.add("INBOX", "one", time.Now().Add(-90*24*time.Hour))
		d.started()
		d.srv.act(func() { d.srv.copies("INBOX", uid, "Archive", true) })
		d.look()
		d.moves("messageDeleted INBOX ~ likely fingerprint", "messageNew Archive moved ~ likely fingerprint")
	})
}

// What an account has for itself wins over the installation's settings.
func TestMoves_the_accounts_own_settings_win(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.srv.objectID = true
		d.set(map[string]any{"notifyMoves": false, "storeIdentity": "none", "newFolderLimit": 1000})
		yes, auto, none := true, store.IdentityAuto, 0
		_, err := d.st.UpdateAccount(d.t.Context(), denAccount, 0, func(a *store.Account) error {
			a.Override = store.Override{NotifyMoves: &yes, StoreIdentity: &auto, NewFolderLimit: &none}
			return nil
		})
		d.ok(err)
		uid := d.srv.add("INBOX", "one", time.Now().Add(-90*24*time.Hour))
		d.started()
		d.srv.act(func() { d.srv.copies("INBOX", uid, "Archive", true) })
		d.look()
		d.moves("messageMoved Archive from INBOX emailId")
		d.srv.act(func() {
			d.srv.create("Later")
			d.srv.add("Later", "old", time.Now().Add(-90*24*time.Hour))
		})
		d.pass(11 * time.Minute)
		d.expect("mailboxNew Later")
	})
}

func TestMoves_copy_is_a_copy(t *testing.T) {
	eachTier(t, func(d *den) {
		d.srv.objectID = true
		d.set(map[string]any{"notifyMoves": true})
		old := d.srv.add("Archive", "old", time.Now().Add(-90*24*time.Hour))
		d.started()
		var young uint32
		d.srv.act(func() {
			d.srv.copies("Archive", old, "INBOX", false)
			young = d.srv.add("INBOX", "young", time.Now())
		})
		d.pass(time.Second) // what may be new waits for nobody
		d.moves("messageNew INBOX new", "messageNew INBOX copied")
		d.srv.act(func() { d.srv.copies("INBOX", young, "Archive", false) })
		d.look()
		d.moves("messageNew Archive copied")
	})
}

// Where two messages are one to us, none is linked.
func TestMoves_duplicates_are_never_linked(t *testing.T) {
	for _, objectID := range []bool{true, false} {
		for _, both := range []bool{true, false} {
			t.Run(fmt.Sprintf("objectID=%v/both=%v", objectID, both), func(t *testing.T) {
				eachTier(t, func(d *den) {
					d.srv.objectID = objectID
					d.set(map[string]any{"notifyMoves": true})
					d.started()
					now := time.Now()
					var first, second uint32
					d.srv.act(func() {
						first, second = d.srv.add("INBOX", "twin", now), d.srv.add("INBOX", "twin", now)
						d.srv.folders["INBOX"].msgs[second].emailID = d.srv.folders["INBOX"].msgs[first].emailID
					})
					d.look()
					d.halves()
					d.srv.act(func() {
						d.srv.copies("INBOX", first, "Archive", true)
						if both {
							d.srv.copies("INBOX", second, "Archive", true)
						}
					})
					d.look()
					got := d.halves()
					if objectID && !both {
						return // one of two that are the same for the server is moved: no harm
					}
					for _, l := range got {
						if strings.Contains(l, "~") || strings.Contains(l, "messageMoved") {
							d.t.Errorf("linked: %q", got)
						}
					}
				})
			})
		}
	}
}

func TestHolds_deletion_is_told_when_every_folder_was_looked_at(t *testing.T) {
	eachTier(t, func(d *den) {
		d.started()
		uid := d.srv.put("INBOX", "one")
		d.look()
		d.halves()
		d.srv.expunge("INBOX", uid)
		d.pass(5 * time.Second)
		d.moves("messageDeleted INBOX")
	})
}

func TestHolds_deletion_is_told_after_a_minute_whatever_happens(t *testing.T) {
	eachTier(t, func(d *den) {
		d.started()
		uid := d.srv.put("INBOX", "one")
		d.pass(time.Minute)
		d.halves()
		// Archive cannot be looked at, so that the message may be there.
		d.srv.act(func() { d.srv.refused["Archive"] = true; d.srv.add("Archive", "hidden", time.Now()) })
		d.srv.expunge("INBOX", uid)
		d.pass(55 * time.Second)
		d.moves()
		if d.held() != 1 {
			d.t.Fatalf("%d messages are held", d.held())
		}
		d.pass(10 * time.Second)
		if got := d.halves(); !slices.Contains(got, "messageDeleted INBOX") {
			d.t.Fatalf("got %q", got)
		}
	})
}

func TestHolds_arrival_waits_ten_seconds_at_most(t *testing.T) {
	eachTier(t, func(d *den) {
		d.srv.objectID = true
		uid := d.srv.add("Archive", "one", time.Now().Add(-90*24*time.Hour))
		d.started()
		d.srv.act(func() { d.srv.refused["Archive"] = true; d.srv.copies("Archive", uid, "INBOX", true) })
		d.pass(8 * time.Second)
		d.moves()
		d.pass(4 * time.Second)
		d.moves("messageNew INBOX copied") // as far as is known
		d.srv.act(func() { clear(d.srv.refused) })
		d.pass(2 * time.Minute)
		d.moves("messageDeleted Archive ~ certain emailId")
	})
}

// The holds are stored: another worker goes on with them, by their own time.
func TestHolds_outlast_a_worker(t *testing.T) {
	eachTier(t, func(d *den) {
		d.srv.objectID = true
		d.set(map[string]any{"notifyMoves": true})
		d.srv.add("INBOX", "old", time.Now().Add(-90*24*time.Hour))
		d.started()
		one, two := d.srv.put("INBOX", "one"), d.srv.put("INBOX", "two")
		d.look()
		d.halves()
		d.srv.act(func() { d.srv.refused["Archive"] = true })
		d.srv.act(func() {
			d.srv.copies("INBOX", one, "Archive", true)
			delete(d.srv.folders["INBOX"].msgs, two)
		})
		d.pass(2 * time.Second)
		if d.held() != 2 {
			d.t.Fatalf("%d messages are held", d.held())
		}
		d.down()
		d.srv.act(func() { clear(d.srv.refused) })
		d.up()
		d.pass(10 * time.Second)
		d.moves("messageMoved Archive from INBOX emailId", "messageDeleted INBOX")
	})
}

// An entry that cannot be read costs neither the others nor what else is known.
func TestHolds_that_cannot_be_read(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.started()
		uid := d.srv.put("INBOX", "one")
		d.look()
		d.took()
		d.srv.act(func() { d.srv.refused["Archive"] = true })
		d.srv.expunge("INBOX", uid)
		d.pass(2 * time.Second)
		d.down()
		key := fmt.Sprintf("{s%02d}:a:%s:gone", store.Shard(denAccount), denAccount)
		for event, raw := range map[string]string{"ev_1": "{", "ev_2": `{"e":"ev_3"}`} {
			d.mini.HSet(key, event, raw)
		}
		d.srv.act(func() { clear(d.srv.refused) })
		d.up()
		d.pass(time.Minute)
		d.expect("messageDeleted INBOX")
		if fields, err := d.mini.HKeys(key); err != nil || len(fields) != 2 {
			d.t.Errorf("left are %q, %v", fields, err)
		}
	})
}

func TestHolds_of_a_renamed_folder_are_told_under_its_name(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.srv.act(func() { d.srv.create("Projects") })
		d.up()
		d.pass(3 * time.Second)
		uid := d.srv.put("Projects", "one")
		d.srv.put("Projects", "two")
		d.look()
		d.halves()
		d.srv.act(func() { d.srv.refused["Archive"] = true; d.srv.add("Archive", "hidden", time.Now()) })
		d.srv.expunge("Projects", uid)
		for d.held() == 0 {
			d.pass(time.Second)
		}
		d.srv.act(func() {
			d.srv.folders["Kunden"] = d.srv.folders["Projects"]
			delete(d.srv.folders, "Projects")
		})
		d.pass(15 * time.Minute)
		got := slices.DeleteFunc(d.halves(), func(l string) bool { return strings.Contains(l, "Archive") })
		if diff := cmp.Diff([]string{"messageDeleted Projects", "mailboxDeleted Projects ~", "mailboxNew Kunden ~"}, trimmed(got)); diff != "" {
			d.t.Fatal(diff)
		}
	})
}

func trimmed(lines []string) []string {
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return lines
}

func TestFolders_renamed_is_one_event_where_that_is_wanted(t *testing.T) {
	for _, objectID := range []bool{true, false} {
		bubble(t, true, func(d *den) {
			d.srv.objectID = objectID
			d.set(map[string]any{"notifyMoves": true})
			d.srv.act(func() { d.srv.create("Projects") })
			d.up()
			d.pass(3 * time.Second)
			uid := d.srv.put("Projects", "one")
			d.look()
			d.halves()
			d.srv.act(func() {
				d.srv.folders["Kunden"] = d.srv.folders["Projects"]
				delete(d.srv.folders, "Projects")
			})
			if objectID { // what its content could not tell
				d.srv.put("Kunden", "two")
			}
			d.pass(15 * time.Minute)
			want := []string{"mailboxRenamed Kunden content"}
			if objectID {
				want = []string{"mailboxRenamed Kunden mailboxId", "messageNew Kunden new"}
			}
			var got []string
			for e, err := range d.st.Journal(d.t.Context(), denAccount, d.last) {
				d.ok(err)
				var p struct{ Evidence, Origin string }
				d.ok(json.Unmarshal(e.Data.(events.Raw), &p))
				got = append(got, string(e.Type)+" "+e.Path+" "+p.Evidence+p.Origin)
				d.last = e.Seq
			}
			if diff := cmp.Diff(want, got); diff != "" {
				d.t.Fatal(diff)
			}
			d.srv.flag("Kunden", uid, `\Seen`)
			d.look()
			d.expect(`messageUpdated Kunden \Seen`)
		})
	}
}

// A folder gets the name, the UIDVALIDITY and the UIDs of one that was deleted.
func TestFolders_renamed_onto_a_deleted_one_repeats_no_id(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.srv.act(func() {
			d.srv.create("A")
			d.srv.create("B")
			d.srv.folders["B"].validity = d.srv.folders["A"].validity
		})
		d.up()
		d.pass(3 * time.Second)
		d.srv.put("A", "a")
		d.srv.put("B", "b")
		d.look()
		d.srv.act(func() { delete(d.srv.folders, "B") })
		d.pass(15 * time.Minute)
		d.srv.act(func() {
			d.srv.folders["B"] = d.srv.folders["A"]
			delete(d.srv.folders, "A")
		})
		d.pass(15 * time.Minute)
		d.srv.expunge("B", 1)
		d.srv.put("B", "c")
		d.pass(15 * time.Minute)
		d.ok(d.agrees())
	})
}

func TestFolders_unreadable_state_of_one_costs_that_one(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.started()
		d.srv.put("INBOX", "one")
		d.srv.put("Archive", "two")
		d.look()
		d.halves()
		d.down()
		folders, _, err := d.st.Folders(d.t.Context(), denAccount)
		d.ok(err)
		i := slices.IndexFunc(folders, func(f store.Folder) bool { return f.Path == "Archive" })
		keys, err := d.rdb.Keys(d.t.Context(), fmt.Sprintf("*:f:%d", folders[i].Num)).Result()
		d.ok(err)
		d.ok(d.rdb.HSet(d.t.Context(), keys[0], "m", "{nonsense").Err())
		d.up()
		d.pass(time.Minute)
		d.expect("mailboxReset Archive syncStateLost")
		d.srv.put("Archive", "three")
		d.look()
		d.expect("messageNew Archive <three> new")
	})
}

// Each commit of a move fails once, before or after its effect: the events are the same.
func TestMoves_survive_any_failing_commit(t *testing.T) {
	for _, after := range []bool{false, true} {
		for at := range 6 {
			t.Run(fmt.Sprintf("after=%v/commit=%d", after, at), func(t *testing.T) {
				bubble(t, true, func(d *den) {
					d.srv.objectID = true
					d.set(map[string]any{"notifyMoves": true})
					x := &failOnce{Store: d.st, left: -1, after: after}
					d.wrap = func(Store) Store { return x }
					d.started()
					one, two := d.srv.put("INBOX", "one"), d.srv.put("Archive", "two")
					d.look()
					d.halves()
					x.left = at
					d.srv.act(func() {
						d.srv.copies("INBOX", one, "Archive", true)
						d.srv.copies("Archive", two, "INBOX", true)
					})
					d.look()
					d.pass(holdArrived)
					got := d.halves()
					slices.Sort(got)
					if diff := cmp.Diff([]string{"messageMoved Archive from INBOX emailId", "messageMoved INBOX from Archive emailId"}, got); diff != "" {
						d.t.Fatal(diff)
					}
					d.ok(d.agrees())
				})
			})
		}
	}
}

// failOnce fails one commit.
type failOnce struct {
	*store.Store
	left  int // commits before it; below 0 none fails
	after bool
}

func (f *failOnce) Commit(ctx context.Context, l store.Lease, c store.Change) (store.Committed, error) {
	if f.left--; f.left != -1 {
		return f.Store.Commit(ctx, l, c)
	}
	if f.after {
		if _, err := f.Store.Commit(ctx, l, c); err != nil {
			return store.Committed{}, err
		}
	}
	return store.Committed{}, fmt.Errorf("planted: %w", store.ErrUnavailable)
}
