package imapsync

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/imapsync/imaptest"
	"github.com/postrider/postrider/store"
)

// What a server does not list because it lists only so much is not its way of counting.
func TestCount_limited_lists_are_no_skew(t *testing.T) {
	eachCounting(t, func(d *den) {
		d.old("INBOX", 30)
		d.started()
		d.srv.act(func() { d.srv.cutSearch, d.srv.limited, d.srv.fetchMost = 20, true, 20 })
		d.srv.expunge("INBOX", 1)
		d.pass(90 * time.Minute)
		d.expect()
		if m := d.meta("INBOX"); m.Skew != 0 {
			d.t.Errorf("skew %d", m.Skew)
		}
		d.srv.act(func() { d.srv.cutSearch, d.srv.limited, d.srv.fetchMost = 0, false, 0 })
		d.pass(31 * time.Minute)
		d.expect("messageDeleted INBOX")
	})
}

// An audit is due behind the second look at a mass deletion, not beside it.
func TestAudit_waits_with_what_the_step_waits_for(t *testing.T) {
	eachTier(t, func(d *den) {
		d.old("INBOX", 100)
		d.started()
		d.pass(time.Minute)
		d.down()
		d.pass(2 * time.Hour)
		d.srv.act(func() {
			for uid := uint32(1); uid <= 60; uid++ {
				d.srv.remove("INBOX", uid)
			}
			d.srv.commands = 0
		})
		d.up()
		d.pass(20 * time.Second)
		d.afterGap()
		if _, n := d.srv.counted(); n > 40 {
			d.t.Errorf("%d commands while the second look is waited for", n)
		}
		d.pass(40 * time.Second)
		d.expect(repeat("messageDeleted INBOX", 60)...)
	})
}

// A folder whose state is lost is taken in although the server counts what it does not
// list.
func TestRelink_where_the_count_is_off(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.old("INBOX", 30)
		d.srv.ghosts = 2
		d.started()
		d.pass(15 * time.Minute)
		d.took()
		d.down()
		folders, _, err := d.st.Folders(d.t.Context(), denAccount)
		d.ok(err)
		inbox := folders[slices.IndexFunc(folders, func(f store.Folder) bool { return f.Path == "INBOX" })].Num
		key := fmt.Sprintf("{s%02d}:a:%s:f:%d", store.Shard(denAccount), denAccount, inbox)
		if !d.mini.Del(key) {
			d.t.Fatalf("no %s among %q", key, d.mini.Keys())
		}
		d.up()
		d.pass(15 * time.Minute)
		d.expect("mailboxReset INBOX syncStateLost")
	})
}

// A first look at a folder of which the server lists only a part takes in nothing: the
// rest would be announced as new mail.
func TestFirstLook_limited_lists_are_not_the_folder(t *testing.T) {
	eachCounting(t, func(d *den) {
		d.old("INBOX", 30)
		d.srv.act(func() { d.srv.cutSearch, d.srv.limited, d.srv.fetchMost = 20, true, 20 })
		d.up()
		d.pass(3 * time.Minute)
		d.expect("accountAdded", "authenticationSuccess", "mailboxNew Archive", "accountInitialized added", "mailboxStalled INBOX refused")
		d.srv.act(func() { d.srv.cutSearch, d.srv.limited, d.srv.fetchMost = 0, false, 0 })
		d.pass(10 * time.Minute)
		d.expect("mailboxNew INBOX", "mailboxRecovered INBOX")
	})
}

// A first look that was cut goes on by a list, which must be whole as well.
func TestFirstLook_goes_on_by_whole_lists(t *testing.T) {
	eachCounting(t, func(d *den) {
		d.old("INBOX", 30)
		asked := 0
		d.srv.strike = func(int) error {
			d.srv.mu.Lock()
			defer d.srv.mu.Unlock()
			if slices.Contains(d.srv.questions, "INBOX SEARCH") {
				asked++
			}
			if asked != 2 { // by date, and for the first window
				return nil
			}
			d.srv.cutSearch, d.srv.limited, d.srv.fetchMost = 20, true, 20
			return errFakeClosed
		}
		d.up()
		d.pass(time.Minute)
		d.expect("accountAdded", "authenticationSuccess", "mailboxNew INBOX", "mailboxNew Archive", "accountInitialized added")
		d.srv.act(func() { d.srv.strike, d.srv.cutSearch, d.srv.limited, d.srv.fetchMost = nil, 0, false, 0 })
		d.pass(10 * time.Minute)
		d.expect()
		if n := d.meta("INBOX").Count; n != 30 {
			d.t.Errorf("%d messages", n)
		}
	})
}

// A UID that was told of as gone, and that the server names again before it hands it
// out, is told of under other ids than before.
func TestReturned_message_that_is_waited_for(t *testing.T) {
	eachTier(t, func(d *den) {
		d.old("INBOX", 30)
		d.started()
		uid := d.srv.put("INBOX", "back")
		d.pass(time.Second)
		d.srv.expunge("INBOX", uid)
		d.pass(2 * time.Minute)
		d.expect("messageNew INBOX <back> new", "messageDeleted INBOX")
		again := func() {
			d.srv.act(func() {
				d.srv.hidden[uid] = true
				d.srv.folders["INBOX"].msgs[uid] = &fakeMessage{uid: uid, id: "<back>", date: time.Now(), modseq: d.srv.modseq}
			})
		}
		again()
		d.pass(10 * time.Second)
		d.expect()
		d.srv.act(func() { clear(d.srv.hidden) })
		d.pass(time.Minute)
		d.expect("messageNew INBOX <back> reappeared retried")
		d.srv.expunge("INBOX", uid)
		d.pass(2 * time.Minute)
		d.expect("messageDeleted INBOX")
		again()
		d.pass(5 * time.Minute)
		d.expect("messageMissing INBOX notReturned retried")
		d.srv.expunge("INBOX", uid)
		d.pass(15 * time.Minute)
		d.expect("messageDeleted INBOX")
		_, err := d.ledger()
		d.ok(err)
	})
}

// A server that looks at so many messages a command and no more (RFC 9738) hides nothing.
func TestTiers_where_the_server_has_a_message_limit(t *testing.T) {
	for name, dialects := range peers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			warmUp(t)
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, dialects[0].With("MESSAGELIMIT=50"), calm)
				defer w.end()
				inbox, _ := w.pick(0)
				if w.dialect.Has("X-GM-EXT-1") {
					inbox = allMail
				}
				ctx := t.Context()
				fill := func(n int, age time.Duration) {
					_, _, err := w.box.Fill(ctx, inbox, imaptest.Filling{Messages: n, From: time.Now().Add(-age)})
					w.ok(err)
				}
				w.early = map[string]uint32{inbox: 250}
				fill(250, 72*time.Hour)
				w.begin(false)
				has := func(what string, messages, added, gone, updated int) {
					t.Helper()
					w.pass(3 * time.Minute)
					l, err := w.ledger()
					w.ok(err)
					is := w.records(denAccount)
					n := len(is[inbox])
					added += len(is[gmailRoot+"Trash"])
					if c := l.count; n != messages || c[events.MessageNewType] != added || c[events.MessageDeletedType] != gone || c[events.MessageUpdatedType] != updated {
						t.Errorf("%s: %d messages, events %v", what, n, c)
					}
				}
				has("first look", 250, 0, 0, 0)
				fill(120, 0)
				has("more than can be told at once", 370, 120, 0, 0)
				w.ok(w.box.Expunge(ctx, inbox, 2, 70, 300))
				w.ok(w.box.AddFlags(ctx, inbox, []uint32{3, 301}, `\Seen`))
				has("watched", 367, 120, 3, 2)
				w.down()
				w.ok(w.box.Expunge(ctx, inbox, 1, 71, 369))
				w.ok(w.box.AddFlags(ctx, inbox, []uint32{73, 368}, `\Flagged`))
				fill(1, 0)
				w.up()
				has("away", 365, 121, 6, 4)
				if got := w.latches(); len(got) > 0 {
					t.Errorf("latches %q", got)
				}
			})
		})
	}
}

// A number that is wrong by as much as a list is short confirms it: what is told to be
// gone was asked for by name.
func TestCount_by_name(t *testing.T) {
	warmUp(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, imaptest.T2(), calm)
		defer w.end()
		w.begin(false)
		for range 3 {
			w.act(deed{Do: "append"})
		}
		w.pass(time.Minute)
		w.lie(func(l *imaptest.Lies) { l.SearchAtMost, l.SearchSilent, l.ExistsOff = 2, true, -1 })
		w.act(deed{Do: "cut"})
		w.pass(2 * time.Minute)
		w.look()
		w.lie(func(*imaptest.Lies) {})
		w.act(deed{Do: "expunge"})
		w.settle()
	})
}

// A server that tells of another number with every answer is not asked without end, and
// what arrives is told all the same when it stops.
func TestCount_that_never_fits(t *testing.T) {
	for _, folder := range []string{"INBOX", "Archive"} {
		for name, sends := range map[string]func(n int) string{
			"to and fro": func(n int) string { return fmt.Sprintf("* %d EXISTS\r\n", 5+n%2) },
			"more":       func(n int) string { return fmt.Sprintf("* %d EXISTS\r\n", 5+n) },
			"expunged":   func(int) string { return "* 9 EXISTS\r\n* 1 EXPUNGE\r\n" },
			"flags":      func(int) string { return "* 1 FETCH (FLAGS (x))\r\n" },
		} {
			t.Run(folder+"/"+name, func(t *testing.T) {
				t.Parallel()
				warmUp(t)
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, imaptest.T3(), calm)
					defer w.end()
					w.begin(false)
					for range 5 {
						w.act(deed{Do: "append"})
						w.act(deed{Do: "append", A: 1})
					}
					w.pass(5 * time.Minute)
					var asked, sent atomic.Int64
					w.model.Hook(func(c imaptest.ModelCommand) imaptest.Act {
						act := w.hook(c)
						if asked.Add(1); strings.HasPrefix(c.Name, "UID") && c.Folder == folder {
							act.Send = sends(int(sent.Add(1)))
						}
						return act
					})
					w.act(deed{Do: "append", A: map[string]uint16{"Archive": 1}[folder]})
					w.pass(10 * time.Minute)
					if n := asked.Load(); n > 600 || sent.Load() == 0 {
						t.Fatalf("%d commands within ten minutes, %d of them answered with a lie", n, sent.Load())
					}
					w.model.Hook(w.hook)
					w.settle()
				})
			})
		}
	}
}

// Messages whose answers cannot be held together are asked for in fewer, and those are told
// before the next are asked for.
func TestNews_fewer_at_once_where_their_answers_are_large(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.started()
		d.set(map[string]any{"notifyText": true})
		d.pass(6 * time.Second)
		var want []string
		d.srv.act(func() {
			m, told := letter(), 0
			d.srv.roomFor, d.srv.structure = 7, m.root
			d.srv.parts = func(uid uint32, p PartWanted) ([]byte, error) {
				if p.Section == "1" {
					told++
				}
				if d.srv.given > told+7 {
					d.t.Errorf("%d messages are held at once", d.srv.given-told)
				}
				return m.part(uid, p)
			}
			for i := range 40 {
				id := fmt.Sprintf("m%d", i)
				d.srv.add("INBOX", id, time.Now())
				want = append(want, "messageNew INBOX <"+id+"> new")
			}
		})
		d.pass(5 * time.Second)
		d.expect(want...)
	})
}

// A message that is named later than one behind it is new wherever the process ends between
// the commits of a step.
func TestNews_what_does_not_come_is_waited_for_before_the_cursor_is_past_it(t *testing.T) {
	for k := 1; k <= 12; k++ {
		bubble(t, true, func(d *den) {
			armed, n := false, 0
			s := &saboteur{err: io.EOF, hits: func(int) bool {
				if armed {
					n++
				}
				return armed && n == k
			}}
			s.blow = func() { d.kill(s) }
			d.sabotaged(s)
			d.started()
			d.set(map[string]any{"notifyText": true})
			d.pass(6 * time.Second)
			m := letter()
			d.srv.act(func() {
				d.srv.structure, d.srv.parts, d.srv.slow = m.root, m.part, 2*time.Second
				d.srv.hidden[2] = true
				s.mu.Lock()
				armed = true
				s.mu.Unlock()
				for _, id := range []string{"a", "b", "c"} {
					d.srv.add("INBOX", id, time.Now())
				}
			})
			d.pass(8 * time.Second)
			d.srv.act(func() { clear(d.srv.hidden) })
			d.pass(12 * time.Minute)
			got := d.took()
			for _, want := range []string{"messageNew INBOX <a> new", "messageNew INBOX <b> new", "messageNew INBOX <c> new"} {
				if !slices.ContainsFunc(got, func(e string) bool { return strings.HasPrefix(e, want) }) {
					d.t.Errorf("killed at command %d of %d: no %q in %q", k, n, want, got)
				}
			}
		})
	}
}
