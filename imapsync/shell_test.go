package imapsync

import (
	"slices"
	"testing"
	"time"
)

// A folder that is deleted while others are below it stays in the list as a name: its
// messages are gone all the same.
func TestFolders_deleted_with_others_below_it(t *testing.T) {
	for _, listStatus := range []bool{true, false} {
		bubble(t, true, func(d *den) {
			d.srv.listStatus = listStatus
			d.srv.create("Parent")
			d.srv.create("Parent/Child")
			d.srv.add("Parent", "one", time.Now())
			d.up()
			d.pass(3 * time.Second)
			d.took()
			was := d.numbers()["Parent"]
			d.srv.act(func() {
				d.srv.create("Parent")
				d.srv.shells = map[string]bool{"Parent": true}
			})
			d.pass(11 * time.Minute)
			d.expect("mailboxDeleted Parent")
			if d.numbers()["Parent"] == was {
				d.t.Error("the name has the number of the folder")
			}
			d.srv.act(func() {
				d.srv.shells = nil
				d.srv.create("Parent")
				d.srv.add("Parent", "two", time.Now())
			})
			d.pass(11 * time.Minute)
			d.expect("mailboxNew Parent", "messageNew Parent <two> new")
		})
	}
}

// That all folders are names alone is believed as little as that there are none; and of one
// that answers it is not.
func TestFolders_that_are_said_to_be_names_alone(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.started()
		d.srv.act(func() { d.srv.shells = map[string]bool{"INBOX": true, "Archive": true} })
		d.pass(10*time.Minute + 10*time.Second)
		d.srv.act(func() { d.srv.shells = nil })
		d.pass(20 * time.Minute)
		got := d.took()
		slices.Sort(got)
		if want := []string{"mailboxRecovered Archive", "mailboxRecovered INBOX", "mailboxStalled Archive refused", "mailboxStalled INBOX refused"}; !slices.Equal(got, want) {
			d.t.Errorf("events %q", got)
		}
		d.srv.act(func() { d.srv.saidShells = map[string]bool{"Archive": true} })
		d.pass(11 * time.Minute)
		d.srv.put("Archive", "one")
		d.pass(11 * time.Minute)
		d.expect("messageNew Archive <one> new")
	})
}
