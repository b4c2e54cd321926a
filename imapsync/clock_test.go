package imapsync

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/store"
)

// Whoever watched before had a clock that was a year ahead. Nothing waits that long, and new
// mail is new.
func TestClock_that_was_ahead(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.started()
		d.pass(time.Minute)
		d.down()
		ahead := time.Now().AddDate(1, 0, 0)
		l, err := d.st.Acquire(d.t.Context(), denAccount, "other", time.Minute)
		d.ok(err)
		var c store.Change
		for _, path := range []string{"INBOX", "Archive"} {
			m := d.meta(path)
			m.Look, m.Audit = ahead, store.Audit{At: ahead, Flags: ahead}
			if path == "Archive" {
				m.Fail = &store.Failure{Count: 1, Since: ahead, Next: ahead.Add(time.Hour), Reason: "refused", Said: true}
			}
			c.Folders = append(c.Folders, store.FolderChange{Num: d.numbers()[path], Version: m.Version, Meta: m})
		}
		_, err = d.st.Commit(d.t.Context(), l, c)
		d.ok(err)
		d.ok(d.st.Release(d.t.Context(), l))
		d.srv.put("INBOX", "one")
		d.srv.put("Archive", "two")
		d.up()
		d.pass(20 * time.Second)
		d.expect("messageNew INBOX <one> new", "mailboxRecovered Archive", "messageNew Archive <two> new")
		if m := d.meta("INBOX"); m.Audit.At.After(time.Now()) {
			d.t.Errorf("last audit %v", m.Audit.At)
		}
	})
}

// What an account is not to do until then it does in time.
func TestClock_that_was_ahead_of_an_account(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		ahead := began.AddDate(1, 0, 0)
		w := &worker{acct: &store.Account{}}
		w.state.Status = store.Status{State: store.StateConnectError, LastError: &store.LastError{Kind: FaultThrottled, Until: ahead}}
		if err := w.throttled(t.Context()); err != nil || time.Since(began) != maxRetryAfter {
			t.Errorf("waited %v, %v", time.Since(began), err)
		}
		w.mergeLatches([]store.Latch{{Name: latchCondstore, At: ahead}})
		time.Sleep(latchFor)
		if w.latched(latchCondstore) {
			t.Error("CONDSTORE is still switched off")
		}
	})
}
