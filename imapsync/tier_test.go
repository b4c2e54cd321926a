package imapsync

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/store"
)

func TestChooseTier(t *testing.T) {
	for _, c := range []struct {
		name    string
		qresync bool
		modseq  uint64
		latched []string
		want    tier
	}{
		{"everything", true, 7, nil, tierQResync},
		{"QRESYNC not enabled", false, 7, nil, tierCondStore},
		{"QRESYNC lied", true, 7, []string{latchQResync}, tierCondStore},
		{"CONDSTORE lied", true, 7, []string{latchCondstore}, tierBaseline},
		{"a folder without MODSEQ", true, 0, nil, tierBaseline},
		{"something else lied", true, 7, []string{latchIdle}, tierQResync},
	} {
		got := chooseTier(Info{QResync: c.qresync}, c.modseq, func(name string) bool { return slices.Contains(c.latched, name) })
		if got != c.want {
			t.Errorf("%s: tier %d, want %d", c.name, got, c.want)
		}
	}
}

func TestBlocksOf(t *testing.T) {
	set := func(r ...imap.UID) (s imap.UIDSet) {
		for i := 0; i < len(r); i += 2 {
			s = append(s, imap.UIDRange{Start: r[i], Stop: r[i+1]})
		}
		return s
	}
	for _, c := range []struct {
		set  imap.UIDSet
		next uint32
		want []uint32
		few  bool
	}{
		{nil, 5000, nil, true},
		{set(1, 3, 1023, 1025, 3000, 3000), 5000, []uint32{0, 1, 2}, true},
		{set(4000, 4294967295), 4097, []uint32{3, 4}, true},
		{set(4000, 4294967295), 1, nil, true},
		{set(1, 4294967295), 4294967295, nil, false},
	} {
		got, few := blocksOf(c.set, c.next, 10)
		if diff := cmp.Diff(c.want, got); diff != "" || few != c.few {
			t.Errorf("%v below %d: few %v, blocks (-want +got):\n%s", c.set, c.next, few, diff)
		}
	}
}

// latches are those of the account, as they are stored.
func (d *den) latches() []string {
	d.t.Helper()
	var out []string
	for _, l := range d.state().Status.Latches {
		word := l.Name
		if l.Once {
			word += " once"
		}
		out = append(out, word+": "+l.Reason)
	}
	return out
}

// old puts n messages of the day before yesterday into a folder.
func (d *den) old(folder string, n int) {
	d.srv.act(func() {
		for i := range n {
			d.srv.add(folder, fakeID(i), time.Now().Add(-48*time.Hour))
		}
	})
}

// away does something while the engine is down, and brings it up for a minute.
func (d *den) away(f func()) {
	d.t.Helper()
	d.down()
	d.srv.asked()
	d.srv.act(f)
	d.up()
	d.pass(2 * time.Minute)
}

// remove takes messages away, under the lock.
func (s *fakeServer) remove(folder string, uids ...uint32) {
	for _, uid := range uids {
		delete(s.folders[folder].msgs, uid)
	}
}

func (d *den) same(what string, want, got []string) {
	d.t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		d.t.Fatalf("%s (-want +got):\n%s", what, diff)
	}
}

func TestTier1_asks_once_for_what_changed_while_away(t *testing.T) {
	qresync(t, func(d *den) {
		d.old("INBOX", 50)
		d.started()
		d.away(func() {
			d.srv.remove("INBOX", 3, 7)
			m := d.srv.folders["INBOX"].msgs[9]
			d.srv.modseq++
			m.flags, m.modseq = []string{`\Seen`}, d.srv.modseq
			d.srv.add("INBOX", "fresh", time.Now())
		})
		d.expect("messageDeleted INBOX", "messageDeleted INBOX", "messageNew INBOX <fresh> new", `messageUpdated INBOX \Seen`)
		d.same("questions", []string{"INBOX CHANGEDSINCE VANISHED", "INBOX FETCH 3,7 FLAGS"}, d.srv.asked())
		d.srv.expunge("INBOX", 11)
		d.pass(time.Second)
		d.expect("messageDeleted INBOX")
		d.same("questions", []string{"INBOX CHANGEDSINCE VANISHED", "INBOX FETCH 11 FLAGS"}, d.srv.asked())
		if plan := strings.Join(d.state().Status.Plan, "\n"); !strings.Contains(plan, "QRESYNC") {
			d.t.Errorf("plan:\n%s", plan)
		}
	})
}

// Row 61.
func TestTier1_wrong_VANISHED_is_not_believed(t *testing.T) {
	for name, vanished := range map[string]imap.UIDSet{
		"all but one": {{Start: 1, Stop: 24}, {Start: 26, Stop: 30}},
		"all":         {{Start: 1, Stop: 4294967295}},
	} {
		t.Run(name, func(t *testing.T) {
			qresync(t, func(d *den) {
				d.old("INBOX", 30)
				d.started()
				d.srv.lie = func(got Delta) (Delta, error) { got.Vanished = vanished; return got, nil }
				d.away(func() { d.srv.remove("INBOX", 5) })
				d.expect("messageDeleted INBOX")
				d.same("latches", []string{"QRESYNC: VANISHED named messages that are there"}, d.latches())
				if plan := strings.Join(d.state().Status.Plan, "\n"); !strings.Contains(plan, "QRESYNC: not used since 2000-") {
					d.t.Errorf("plan:\n%s", plan)
				}
				d.away(func() { d.srv.remove("INBOX", 6) })
				d.expect("messageDeleted INBOX")
				d.same("questions", []string{"INBOX CHANGEDSINCE", "INBOX SEARCH", "INBOX FETCH 6 FLAGS"}, d.srv.asked())
			})
		})
	}
}

// Row 61: RFC 7162 lets it name what never was.
func TestTier1_VANISHED_may_name_what_never_was(t *testing.T) {
	qresync(t, func(d *den) {
		d.old("INBOX", 3)
		d.started()
		d.srv.lie = func(got Delta) (Delta, error) {
			got.Vanished = imap.UIDSet{{Start: 2, Stop: 2}, {Start: 4, Stop: 4294967295}}
			return got, nil
		}
		d.away(func() { d.srv.remove("INBOX", 2) })
		d.expect("messageDeleted INBOX")
		d.same("latches", nil, d.latches())
		d.same("questions", []string{"INBOX CHANGEDSINCE VANISHED", "INBOX FETCH 2 FLAGS"}, d.srv.asked())
	})
}

func TestTier1_VANISHED_that_leaves_out_is_switched_off_at_the_second_time(t *testing.T) {
	qresync(t, func(d *den) {
		d.old("INBOX", 30)
		d.started()
		d.srv.lie = func(got Delta) (Delta, error) { got.Vanished = nil; return got, nil }
		d.away(func() { d.srv.remove("INBOX", 5) })
		d.expect("messageDeleted INBOX")
		d.same("latches", []string{"QRESYNC once: VANISHED left out messages that are gone"}, d.latches())
		d.away(func() { d.srv.remove("INBOX", 6) })
		d.expect("messageDeleted INBOX")
		d.same("latches", []string{"QRESYNC: VANISHED left out messages that are gone"}, d.latches())
	})
}

func TestTier1_pushed_VANISHED_is_only_a_hint(t *testing.T) {
	qresync(t, func(d *den) {
		d.old("INBOX", 30)
		d.started()
		d.srv.mu.Lock()
		x := d.srv.sessions[0]
		x.changes.Expunged, x.changes.Vanished = 1, imap.UIDSet{{Start: 4, Stop: 4}}
		x.poke()
		d.srv.mu.Unlock()
		d.pass(5 * time.Minute)
		d.expect()
	})
}

// Rows 22, 69; sync.md §4.3.
func TestTiers_refused_CHANGEDSINCE_steps_down(t *testing.T) {
	qresync(t, func(d *den) {
		d.old("INBOX", 30)
		d.started()
		d.srv.lie = func(Delta) (Delta, error) {
			return Delta{}, &Error{Kind: ErrBad, Stage: StageCommand, Command: "UID FETCH", Text: "what?"}
		}
		d.away(func() { d.srv.remove("INBOX", 5) })
		d.expect("messageDeleted INBOX")
		d.same("latches", []string{"QRESYNC: refused: BAD what?", "CONDSTORE: refused: BAD what?"}, d.latches())
		d.srv.lie = nil
		d.away(func() {
			d.srv.folders["INBOX"].msgs[9].flags = []string{`\Seen`} // without a MODSEQ of its own
			d.srv.modseq++
		})
		d.expect(`messageUpdated INBOX \Seen`)
		if q := d.srv.asked(); slices.ContainsFunc(q, func(s string) bool { return strings.Contains(s, "CHANGEDSINCE") }) {
			d.t.Errorf("asked %q", q)
		}

		// A week later it is tried again.
		d.down()
		st := d.state()
		for i := range st.Status.Latches {
			st.Status.Latches[i].At = time.Now().Add(-latchFor)
		}
		d.ok(d.st.Observe(d.t.Context(), denAccount, store.StatusChange{Version: st.StatusVersion, Status: st.Status}))
		d.away(func() { d.srv.remove("INBOX", 6) })
		d.expect("messageDeleted INBOX")
		d.same("questions", []string{"INBOX CHANGEDSINCE VANISHED", "INBOX FETCH 6 FLAGS"}, d.srv.asked())
		d.same("latches", nil, d.latches())
	})
}

// HIGHESTMODSEQ says that something changed, and CHANGEDSINCE does not say what.
func TestTiers_MODSEQ_that_moves_for_nothing_is_looked_into(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.old("Archive", 30)
		d.started()
		d.pass(time.Minute)
		d.srv.act(func() { d.srv.lie = func(Delta) (Delta, error) { return Delta{Complete: true}, nil } })
		d.away(func() {
			d.srv.modseq++
			m := d.srv.folders["Archive"].msgs[9]
			m.flags, m.modseq = []string{`\Seen`}, d.srv.modseq
		})
		d.expect(`messageUpdated Archive \Seen`)
		d.same("latches", []string{"CONDSTORE once: flags change and HIGHESTMODSEQ does not tell"}, d.latches())
	})
}

func TestTiers_another_server_is_tried_again(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.old("INBOX", 5)
		d.started()
		d.srv.lie = func(Delta) (Delta, error) { return Delta{}, errFakeNo }
		d.away(func() { d.srv.modseq++ })
		d.same("latches", []string{"CONDSTORE: refused: NO cannot"}, d.latches())
		d.srv.lie = nil
		d.away(func() { d.srv.version = "2"; d.srv.modseq++ })
		d.same("latches", nil, d.latches())
		d.same("questions", []string{"INBOX CHANGEDSINCE", "INBOX FETCH 1:5 FLAGS"}, d.srv.asked())
	})
}

func TestTiers_a_refusal_of_the_moment_switches_nothing_off(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.old("INBOX", 5)
		d.started()
		n := 0
		d.srv.lie = func(got Delta) (Delta, error) {
			if n++; n == 1 {
				return Delta{}, &Error{Kind: ErrNo, Stage: StageCommand, Code: "UNAVAILABLE", Text: "later"}
			}
			return got, nil
		}
		d.away(func() { d.srv.remove("INBOX", 1) })
		d.expect("messageDeleted INBOX")
		d.same("latches", nil, d.latches())
	})
}

func TestTiers_answer_that_cannot_be_read_moves_no_cursor(t *testing.T) {
	qresync(t, func(d *den) {
		d.old("INBOX", 30)
		d.started()
		d.srv.lie = func(got Delta) (Delta, error) { // the line of message 9, and all VANISHED, are garbage
			got.Flags = slices.DeleteFunc(got.Flags, func(f FlagsOf) bool { return f.UID == 9 })
			got.Vanished, got.Complete = nil, false
			return got, nil
		}
		d.away(func() {
			d.srv.modseq++
			m := d.srv.folders["INBOX"].msgs[9]
			m.flags, m.modseq = []string{`\Seen`}, d.srv.modseq
		})
		d.expect()
		d.srv.lie = nil
		d.away(func() { d.srv.remove("INBOX", 3) })
		d.expect("messageDeleted INBOX", `messageUpdated INBOX \Seen`)
	})
}

// Row 29.
func TestTiers_flags_that_did_not_come_are_asked_for_again(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.old("INBOX", 30)
		d.started()
		d.srv.lie = func(got Delta) (Delta, error) {
			for i := range got.Flags {
				got.Flags[i] = FlagsOf{UID: got.Flags[i].UID}
			}
			return got, nil
		}
		d.srv.flag("INBOX", 9, `\Seen`)
		d.pass(time.Second)
		d.expect(`messageUpdated INBOX \Seen`)
	})
}

// Row 22; rule 3 of sync.md §4.5.
func TestTiers_count_that_goes_back_is_followed(t *testing.T) {
	eachTier(t, func(d *den) {
		if !d.srv.condstore {
			return
		}
		d.old("INBOX", 30)
		d.started()
		d.away(func() {
			d.srv.modseq = 3
			for _, m := range d.srv.folders["INBOX"].msgs {
				m.modseq = 2
			}
			d.srv.folders["INBOX"].msgs[4].flags = []string{`\Seen`}
			d.srv.remove("INBOX", 5)
		})
		d.expect("messageDeleted INBOX", `messageUpdated INBOX \Seen`)
		d.srv.flag("INBOX", 9, `\Flagged`)
		d.pass(time.Second)
		d.expect(`messageUpdated INBOX \Flagged`)
		d.away(func() { d.srv.remove("INBOX", 6) })
		d.expect("messageDeleted INBOX")
		d.same("latches", nil, d.latches())
	})
}

// Rows 20 to 22: what does not come is not 0.
func TestTiers_absent_count_keeps_the_old_one(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.old("INBOX", 30)
		d.started()
		d.srv.shown = func(uint64) uint64 { return 0 }
		d.away(func() { d.srv.remove("INBOX", 5) })
		d.expect("messageDeleted INBOX")
		d.srv.shown = nil
		d.away(func() {
			d.srv.modseq++
			m := d.srv.folders["INBOX"].msgs[9]
			m.flags, m.modseq = []string{`\Seen`}, d.srv.modseq
		})
		d.expect(`messageUpdated INBOX \Seen`)
		d.same("questions", []string{"INBOX CHANGEDSINCE"}, d.srv.asked())
	})
}

func TestTiers_frozen_count_is_found_out_by_pushes(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.old("INBOX", 30)
		d.started()
		at := d.srv.modseq
		d.srv.shown = func(uint64) uint64 { return at }
		d.srv.lie = func(Delta) (Delta, error) { return Delta{Complete: true}, nil }
		d.srv.flag("INBOX", 9, `\Seen`)
		d.pass(15 * time.Minute)
		d.expect(`messageUpdated INBOX \Seen`)
		d.same("latches", []string{"CONDSTORE once: flags change and HIGHESTMODSEQ does not tell"}, d.latches())
		d.srv.flag("INBOX", 9)
		d.pass(time.Minute)
		d.expect(`messageUpdated INBOX`)
		d.same("latches", []string{"CONDSTORE: flags change and HIGHESTMODSEQ does not tell"}, d.latches())
	})
}

// Row 69.
func TestTiers_CHANGEDSINCE_that_is_ignored_is_switched_off(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.old("INBOX", ignoredMost+100)
		d.up()
		d.pass(10 * time.Second)
		d.took()
		d.srv.lie = func(Delta) (Delta, error) {
			all := Delta{Complete: true}
			for uid, m := range d.srv.folders["INBOX"].msgs {
				all.Flags = append(all.Flags, FlagsOf{UID: uid, Flags: m.flags, Known: true})
			}
			all.Flags = lastFlags(all.Flags)
			return all, nil
		}
		d.away(func() { d.srv.modseq++ })
		d.same("latches", []string{"CONDSTORE once: CHANGEDSINCE brings messages that did not change"}, d.latches())
		d.away(func() { d.srv.modseq++ })
		d.same("latches", []string{"CONDSTORE: CHANGEDSINCE brings messages that did not change"}, d.latches())
		d.expect()
	})
}

// A server that pushes VANISHED for more than there is leaves the count unknown.
func TestTiers_a_count_in_doubt_deletes_nothing(t *testing.T) {
	eachTier(t, func(d *den) {
		d.old("INBOX", 10)
		d.started()
		d.srv.mu.Lock()
		x := d.srv.sessions[0]
		clear(x.seenAt) // what the session makes of it
		x.changes.Expunged, x.changes.Doubt = 1_000_000, true
		x.poke()
		d.srv.mu.Unlock()
		d.pass(5 * time.Minute)
		d.expect()
	})
}

func TestLatch_old_form_is_read(t *testing.T) {
	var st store.Status
	if err := json.Unmarshal([]byte(`{"latches":["IDLE",{"name":"CONDSTORE","reason":"x"}]}`), &st); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(st.Latches[0].Name, st.Latches[1].Name, st.Latches[1].Reason); got != "IDLECONDSTOREx" {
		t.Error(got)
	}
}
