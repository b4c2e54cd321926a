package imapsync

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// Where the server does not count changes, all flags are looked at in turn, in a folder where
// something happens all the time, too.
func TestTier3_slow_round_in_a_busy_folder(t *testing.T) {
	bubble(t, false, func(d *den) {
		d.old("INBOX", fastWindow+20)
		d.started()
		d.srv.act(func() {
			d.srv.mark("INBOX", 3, `\Seen`)
			for _, x := range d.srv.sessions {
				x.look(d.srv.folders[x.open]) // and is not pushed
			}
		})
		for i := range 20 {
			d.srv.put("INBOX", fmt.Sprint(i))
			d.pass(15 * time.Second)
		}
		if got := d.took(); !slices.Contains(got, `messageUpdated INBOX \Seen`) {
			t.Errorf("not told within five minutes: %q", got)
		}
	})
}

// A mailbox was restored from a backup: what came since is lost, as much that had been
// deleted is back, and only UIDNEXT tells.
func TestTiers_restored_mailbox(t *testing.T) {
	eachTier(t, func(d *den) {
		d.old("INBOX", 12)
		d.started()
		d.srv.expunge("INBOX", 3)
		d.pass(time.Minute)
		d.expect("messageDeleted INBOX")
		lost := d.srv.put("INBOX", "lost")
		d.pass(time.Minute)
		d.expect("messageNew INBOX <lost> new")
		d.srv.act(func() {
			f := d.srv.folders["INBOX"]
			delete(f.msgs, lost)
			f.next = 3
			d.srv.add("INBOX", "back", time.Now().Add(-72*time.Hour))
			f.next = lost
			d.srv.shown = func(uint64) uint64 { return 2 }
		})
		d.m.Reconnect(denAccount)
		d.pass(time.Minute)
		d.expect("messageNew INBOX <back> reappeared", "messageDeleted INBOX")
	})
}
