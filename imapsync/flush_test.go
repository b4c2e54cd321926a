package imapsync

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/imapsync/imaptest"
	"github.com/postrider/postrider/store"
)

// flush asks for one, as the API does.
func (d *den) flush(from time.Time) {
	d.t.Helper()
	_, err := d.st.FlushAccount(d.t.Context(), denAccount, from)
	d.ok(err)
	if d.m != nil {
		d.m.Kick(denAccount)
	}
}

// flushedLines are the events of a flush that announces nothing.
var flushedLines = []string{"mailboxNew INBOX", "mailboxNew Archive", "accountInitialized flush"}

// numbers are the folder numbers by path.
func (d *den) numbers() map[string]uint32 {
	d.t.Helper()
	list, _, err := d.st.Folders(d.t.Context(), denAccount)
	d.ok(err)
	out := map[string]uint32{}
	for _, f := range list {
		out[f.Path] = f.Num
	}
	return out
}

func TestFlush_forgets_all_but_numbers(t *testing.T) {
	eachTier(t, func(d *den) {
		d.srv.add("INBOX", "old", time.Now().Add(-48*time.Hour))
		d.started()
		one := d.srv.put("INBOX", "one")
		d.pass(time.Second)
		d.expect("messageNew INBOX <one> new")
		nums, epoch := d.numbers(), d.state().Epoch

		d.flush(time.Time{}) // now: nothing that is there is announced
		d.pass(3 * time.Second)
		d.expect(flushedLines...)
		if st := d.state(); st.Epoch <= epoch || st.Flush != nil || !st.Initialized || st.Status.State != store.StateConnected {
			d.t.Errorf("state: %+v", st)
		}
		if now := d.numbers(); fmt.Sprint(now) != fmt.Sprint(nums) {
			d.t.Errorf("folder numbers %v, were %v", now, nums)
		}

		// What was announced before is known, by the id that it had.
		d.srv.put("INBOX", "two")
		d.srv.expunge("INBOX", one)
		d.look()
		d.expect("messageNew INBOX <two> new", "messageDeleted INBOX")
		ids, seen := map[string]int{}, map[events.ID]bool{}
		for e, err := range d.st.Journal(d.t.Context(), denAccount, 0) {
			d.ok(err)
			var p struct {
				ID  string
				UID uint32
			}
			d.ok(json.Unmarshal(e.Data.(events.Raw), &p))
			if p.UID == one {
				ids[p.ID]++
			}
			if seen[e.ID] {
				d.t.Errorf("event id %s twice", e.ID)
			}
			seen[e.ID] = true
		}
		if ids[messageID(nums["INBOX"], one)] != 2 {
			d.t.Errorf("ids of the message: %v", ids)
		}
	})
}

func TestFlush_announces_again_from_a_time_on(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.srv.add("INBOX", "old", time.Now().Add(-48*time.Hour))
		d.srv.add("INBOX", "day", time.Now().Add(-20*time.Hour))
		d.started()
		d.srv.put("Archive", "one")
		d.look()
		d.expect("messageNew Archive <one> new")
		d.flush(time.Now().Add(-24 * time.Hour))
		d.pass(3 * time.Second)
		d.expect("mailboxNew INBOX", "messageNew INBOX <day> backfill", "mailboxNew Archive", "messageNew Archive <one> backfill", "accountInitialized flush")
		// A folder that comes later has nothing to do with it.
		d.srv.act(func() {
			d.srv.create("Later")
			d.srv.add("Later", "late", time.Now())
		})
		d.pass(11 * time.Minute)
		d.expect("mailboxNew Later", "messageNew Later <late> new")
		if _, err := d.ledger(); err != nil { // no event id twice
			d.t.Error(err)
		}
	})
}

func TestFlush_tells_first_what_is_held(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.srv.objectID = true
		d.started()
		uid := d.srv.put("INBOX", "one")
		d.pass(time.Second)
		d.expect("messageNew INBOX <one> new")
		d.srv.act(func() { d.srv.refused["Archive"] = true }) // it may be there: nobody can look
		d.srv.expunge("INBOX", uid)
		d.pass(5 * time.Second)
		if n := d.held(); n != 1 {
			d.t.Fatalf("%d messages are held", n)
		}
		d.flush(time.Time{})
		d.pass(3 * time.Second)
		got := slices.DeleteFunc(d.took(), func(line string) bool { return line == "mailboxStalled Archive refused" })
		if len(got) < 2 || got[0] != "messageDeleted INBOX" || got[1] != "mailboxNew INBOX" || d.held() != 0 {
			d.t.Errorf("events %q, %d held", got, d.held())
		}
	})
}

// Nobody holds the account when it is asked for; or it is asked for often; or the account is
// in the middle of the look that it asks for.
func TestFlush_whenever_it_is_asked_for(t *testing.T) {
	for name, f := range map[string]func(d *den){
		"no process": func(d *den) {
			d.down()
			d.flush(time.Time{})
			d.up()
		},
		"paused": func(d *den) {
			_, err := d.st.PauseAccount(d.t.Context(), denAccount, "api")
			d.ok(err)
			d.pass(time.Minute)
			d.flush(time.Time{})
			d.pass(time.Minute)
			d.expect("accountPaused api")
			_, err = d.st.ResumeAccount(d.t.Context(), denAccount, "api")
			d.ok(err)
			d.expect("accountResumed api")
		},
		"three times": func(d *den) {
			for range 3 {
				_, err := d.st.FlushAccount(d.t.Context(), denAccount, time.Now().Add(-time.Hour))
				d.ok(err)
			}
			d.flush(time.Time{})
		},
		"the server does not answer": func(d *den) {
			d.srv.act(func() { d.srv.mute = true })
			d.flush(time.Time{})
			d.pass(time.Minute)
			d.srv.act(func() { d.srv.mute = false })
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, true, func(d *den) {
				d.srv.add("INBOX", "old", time.Now().Add(-48*time.Hour))
				d.started()
				f(d)
				d.pass(2 * time.Minute)
				var got []string
				for _, line := range d.took() {
					if line != "authenticationSuccess" {
						got = append(got, line)
					}
				}
				if fmt.Sprint(got) != fmt.Sprint(flushedLines) {
					d.t.Errorf("events %q", got)
				}
				d.srv.put("INBOX", "one")
				d.pass(time.Second)
				d.expect("messageNew INBOX <one> new")
			})
		})
	}
}

func TestFlush_folders_that_were_told_of(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.srv.create("Gone")
		d.srv.create("Refusing")
		d.up()
		d.pass(3 * time.Second)
		d.took()
		d.srv.act(func() { d.srv.refused["Refusing"] = true; d.srv.add("Refusing", "x", time.Now()) })
		d.pass(5 * time.Minute)
		d.expect("mailboxStalled Refusing refused")

		// One goes before it was looked at again, one still refuses: both are told of as
		// what they were.
		d.down()
		d.srv.act(func() { delete(d.srv.folders, "Gone") })
		d.flush(time.Now().Add(-time.Hour))
		d.up()
		d.pass(3 * time.Second)
		d.expect("mailboxDeleted Gone", "mailboxNew INBOX", "mailboxNew Archive", "accountInitialized flush")
		d.srv.act(func() { clear(d.srv.refused) })
		d.pass(5 * time.Minute)
		d.expect("mailboxNew Refusing", "messageNew Refusing <x> backfill", "mailboxRecovered Refusing")
	})
}

// A folder is reset before it has announced what the flush wants.
func TestFlush_goes_on_under_another_uidvalidity(t *testing.T) {
	bubble(t, true, func(d *den) {
		for _, id := range []string{"one", "two"} {
			d.srv.poisoned[d.srv.add("INBOX", id, time.Now().Add(-30*time.Hour))] = true
		}
		d.started()
		d.flush(time.Now().Add(-40 * time.Hour))
		d.pass(3 * time.Second)
		d.expect("mailboxNew INBOX", "mailboxNew Archive", "accountInitialized flush")
		_, err := d.st.UpdateAccount(d.t.Context(), denAccount, 0, func(a *store.Account) error { // of another first look than this
			a.NotifyFrom = time.Now()
			return nil
		})
		d.ok(err)
		d.m.Kick(denAccount)
		d.pass(3 * time.Second)
		d.srv.act(func() {
			clear(d.srv.poisoned)
			d.srv.create("INBOX")
			d.srv.add("INBOX", "two", time.Now().Add(-30*time.Hour))
			d.srv.add("INBOX", "one", time.Now().Add(-30*time.Hour))
		})
		d.pass(20 * time.Minute)
		d.expect("mailboxReset INBOX uidValidityChange", "messageNew INBOX <two> existing", "messageNew INBOX <one> existing")
	})
}

// Whoever held the account before cannot write over what the flush left.
func TestFlush_fences_off_a_stalled_owner(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.started()
		stalled := d.m.worker(denAccount).lease
		d.down()
		meta, err := d.st.FolderMeta(d.t.Context(), denAccount, d.numbers()["INBOX"])
		d.ok(err)
		d.flush(time.Time{})
		d.up()
		d.pass(time.Minute)
		d.expect(flushedLines...)
		_, err = d.st.Commit(d.t.Context(), stalled, store.Change{Folders: []store.FolderChange{{Num: d.numbers()["INBOX"], Version: meta.Version, Meta: meta}}})
		if !errors.Is(err, store.ErrLeaseLost) {
			d.t.Errorf("a stalled owner wrote: %v", err)
		}
	})
}

// A flush in a busy mailbox, with one Redis command of its account failing, for every one of
// them: state and events agree at that moment and in the end, and the flush was done once.
func TestFault_flush(t *testing.T) {
	for name, plan := range map[string]func(d *den, s *saboteur){
		"unsent":        func(_ *den, s *saboteur) { s.err = io.EOF },
		"answer lost":   func(_ *den, s *saboteur) { s.after, s.err = true, io.EOF },
		"worker ended":  func(d *den, s *saboteur) { s.blow = d.endWorker },
		"killed before": func(d *den, s *saboteur) { s.err, s.blow = io.EOF, func() { d.kill(s) } },
		"killed behind": func(d *den, s *saboteur) { s.after, s.err, s.blow = true, io.EOF, func() { d.kill(s) } },
	} {
		t.Run(name, func(t *testing.T) {
			const commands = 30 // a little more than it takes
			for _, k := range points(commands, 20) {
				t.Run(fmt.Sprintf("command=%d", k), func(t *testing.T) {
					bubble(t, true, func(d *den) {
						d.srv.objectID = true
						d.cfg = Config{Reconcile: time.Second, ProbeInterval: 2 * time.Second, AskInterval: 100 * time.Millisecond}
						s := &saboteur{}
						plan(d, s)
						d.watched(s)
						d.sabotaged(s)
						uid := d.srv.add("INBOX", "a", time.Now())
						_, err := d.st.UpdateAccount(d.t.Context(), denAccount, 0, func(a *store.Account) error {
							a.NotifyFrom = time.Now().Add(-time.Hour)
							return nil
						})
						d.ok(err)
						d.up()
						d.pass(5 * time.Second)
						d.srv.add("Archive", "b", time.Now())
						d.srv.act(func() { d.srv.refused["Archive"] = true })
						d.srv.expunge("INBOX", uid)
						d.pass(3 * time.Second)
						if d.held() != 1 {
							d.t.Fatal("nothing is held")
						}
						d.srv.act(func() { clear(d.srv.refused) })
						s.mu.Lock()
						s.hits = func(n int) bool { return n == k }
						s.n = 0
						s.mu.Unlock()
						d.flush(time.Now().Add(-time.Hour))
						d.pass(time.Second)
						d.srv.put("INBOX", "c")
						d.settle()
						l, err := d.ledger()
						d.ok(err)
						if n := l.count[events.AccountInitializedType]; n != 2 || d.state().Flush != nil {
							d.t.Errorf("initialized %d times: %s", n, l.Summary())
						}
					})
				})
			}
		})
	}
}

// With labels and without, over the wire. Drawn histories (TestOracle) do more of it.
func TestFlush_on_the_model(t *testing.T) {
	for _, dialect := range []imaptest.Dialect{imaptest.T0(), imaptest.T2()} {
		t.Run(dialect.Name, func(t *testing.T) {
			h := []deed{
				{Do: "append"},
				{Do: "append", A: 1},
				{Do: "flag"},
				{Do: "flush", Pause: 2},
				{Do: "append"},
				{Do: "cut"},
				{Do: "flush", Amid: true},
				{Do: "expunge", A: 1},
				{Do: "restart"},
				{Do: "flush"},
				{Do: "restart"},
				{Do: "append", A: 1},
			}
			if err := happens(t, dialect, h, nil); err != nil {
				t.Error(err)
			}
		})
	}
}

// Who wants all announced gets it, also of what the server can tell no date; no day is asked
// for that a server may not know.
func TestFlush_announces_all(t *testing.T) {
	for _, from := range []time.Time{time.Unix(0, 0), time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)} {
		bubble(t, true, func(d *den) {
			d.srv.add("INBOX", "undated", time.Time{})
			d.srv.add("INBOX", "old", time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC))
			d.started()
			d.flush(from)
			d.pass(3 * time.Second)
			d.expect("mailboxNew INBOX", "messageNew INBOX <undated> backfill", "messageNew INBOX <old> backfill", "mailboxNew Archive", "accountInitialized flush")
		})
	}
}
