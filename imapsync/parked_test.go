package imapsync

import (
	"fmt"
	"testing"
	"time"
)

// A folder that has refused for a while is tried again as soon as mail comes, or
// somebody asks for it.
func TestFolder_that_refused_is_tried_when_mail_comes(t *testing.T) {
	for _, tt := range []struct {
		path             string
		listStatus, kick bool
	}{
		{"INBOX", true, false}, {"INBOX", false, false}, {"Archive", false, false}, {"Archive", true, true},
	} {
		t.Run(fmt.Sprintf("%+v", tt), func(t *testing.T) {
			bubble(t, false, func(d *den) {
				d.srv.listStatus = tt.listStatus
				d.started()
				d.srv.act(func() {
					d.srv.examines = map[string]bool{tt.path: true}
					d.srv.add(tt.path, "one", time.Now())
				})
				d.m.Reconnect(denAccount)
				d.m.Kick(denAccount)
				d.pass(8 * time.Minute)
				d.expect("mailboxStalled " + tt.path + " refused")
				want := []string{"mailboxRecovered " + tt.path, "messageNew " + tt.path + " <one> new"}
				d.srv.act(func() {
					d.srv.examines = nil
					if !tt.kick {
						d.srv.add(tt.path, "two", time.Now())
						want = append(want, "messageNew "+tt.path+" <two> new")
					}
				})
				if tt.kick {
					d.m.Kick(denAccount)
					d.pass(time.Second)
				} else {
					d.pass(130 * time.Second)
				}
				d.expect(want...)
			})
		})
	}
}
