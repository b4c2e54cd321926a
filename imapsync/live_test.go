package imapsync_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/imapsync/imaptest"
	"github.com/postrider/postrider/store/storetest"
)

// With NOTIFY the other folders are told of on the one connection: no probe is due in
// this test.
func TestEngine_hears_of_other_folders_by_notify(t *testing.T) {
	d := imaptest.StartDovecot(t).User("jo", "secret")
	r := newRig(t, storetest.Miniredis(t), d)
	r.cfg.ProbeInterval, r.cfg.ListInterval = 10*time.Minute, 10*time.Minute
	r.register(time.Now())
	r.up()
	r.initialized()
	eventually(t, 10*time.Second, "the plan says that it listens", func() bool {
		st, err := r.st.State(t.Context(), r.id)
		r.ok(err)
		return slices.ContainsFunc(st.Status.Plan, func(s string) bool { return strings.Contains(s, "folders: live (NOTIFY)") })
	})
	r.cfg.ProbeInterval = 300 * time.Millisecond // how long a test waits for more; the engine has its own
	r.settled()
	uid := r.put("Archive", "one@x")
	r.expect("messageNew Archive one@x new")
	r.ok(r.box.AddFlags(t.Context(), "Archive", []uint32{uid}, `\Seen`))
	r.expect(`messageUpdated Archive +\Seen`)
	r.put("INBOX", "two@x")
	r.expect("messageNew INBOX two@x new")
	r.ok(r.box.Expunge(t.Context(), "Archive", uid))
	r.expect("messageDeleted Archive")
	r.ok(r.box.CreateFolder(t.Context(), "Fresh"))
	r.expect("mailboxNew Fresh")
	r.check()
}
