package imapsync

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/postrider/postrider/store"
)

// What folder state knows of messages recognises them under other UIDs, also those of which
// nothing was ever told.
func TestReset_recognises_by_what_is_kept(t *testing.T) {
	for name, keep := range map[string]func(d *den){
		"EMAILID":    func(d *den) { d.srv.objectID = true },
		"Message-ID": func(d *den) { d.set(map[string]any{"storeIdentity": store.IdentityFull}) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, true, func(d *den) {
				keep(d)
				for _, id := range []string{"a", "b", "b", "c"} {
					d.srv.add("INBOX", id, time.Now().Add(-2*time.Hour))
				}
				d.started()
				d.down()
				d.srv.act(func() {
					f := d.srv.folders["INBOX"]
					f.validity += 100
					twin := *f.msgs[2]
					for uid := range uint32(3) { // under other UIDs
						m := *f.msgs[uid+1]
						delete(f.msgs, uid+1)
						m.uid = uid + 11
						f.msgs[m.uid] = &m
					}
					twin.uid, f.next = 14, 15 // one more than there were
					f.msgs[14] = &twin
				})
				d.up()
				d.pass(time.Minute)
				d.expect("mailboxReset INBOX uidValidityChange", "messageNew INBOX <b> new")
			})
		})
	}
}

// A new UIDVALIDITY comes while a flush tells again of what was told already.
func TestReset_while_a_flush_announces(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.started()
		d.srv.act(func() {
			for i := range chunkMessages + 50 {
				d.srv.add("INBOX", fakeID(i), time.Now())
			}
		})
		d.pass(time.Minute)
		d.took()
		d.srv.act(func() {
			d.srv.strike = func(int) error {
				if b := d.meta("INBOX").Baseline; b == nil || len(b.Announce) != 50 {
					return nil
				}
				d.srv.mu.Lock()
				defer d.srv.mu.Unlock()
				d.srv.folders["INBOX"].validity++
				d.srv.strike = nil
				return errFakeClosed
			}
		})
		d.flush(time.Now().Add(-time.Hour))
		d.pass(5 * time.Minute)
		got := d.took()
		for i := range chunkMessages + 50 {
			told := 0
			for _, origin := range []string{"backfill", "new"} {
				if slices.Contains(got, fmt.Sprintf("messageNew INBOX <%s> %s", fakeID(i), origin)) {
					told++
				}
			}
			if told != 1 {
				t.Fatalf("message %d told of %d times", i, told)
			}
		}
		if n := chunkMessages + 50 + len(flushedLines) + 1; len(got) != n {
			t.Errorf("%d events, want %d", len(got), n)
		}
	})
}

// Where what is there cannot be listed whole, a folder cannot be taken in anew; that is said.
func TestReset_that_cannot_be_done_is_said(t *testing.T) {
	bubble(t, true, func(d *den) {
		for i := range 5 {
			d.srv.add("INBOX", fakeID(i), time.Now().Add(-72*time.Hour))
		}
		d.started()
		d.srv.act(func() {
			d.srv.folders["INBOX"].validity++
			d.srv.cutSearch, d.srv.limited, d.srv.fetchMost = 2, true, 2
		})
		d.pass(10 * time.Minute)
		d.expect("mailboxStalled INBOX refused")
		d.srv.act(func() { d.srv.cutSearch, d.srv.limited, d.srv.fetchMost = 0, false, 0 })
		d.pass(10 * time.Minute)
		d.expect("mailboxReset INBOX uidValidityChange", "mailboxRecovered INBOX")
	})
}

// A folder of which all is lost refuses to be opened: what is written of that is not taken
// for what is known of it.
func TestReset_of_a_lost_folder_that_refuses(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.lived()
		num := d.numbers()["INBOX"]
		d.down()
		for _, kind := range []string{"f", "b"} {
			d.mini.Del(fmt.Sprintf("{s%02d}:a:%s:%s:%d", store.Shard(denAccount), denAccount, kind, num))
		}
		d.srv.act(func() { d.srv.refused["INBOX"] = true })
		d.up()
		d.pass(10 * time.Second)
		d.down()
		d.srv.act(func() { clear(d.srv.refused) })
		d.up()
		d.pass(3 * time.Minute)
		d.expect("mailboxReset INBOX syncStateLost")
	})
}
