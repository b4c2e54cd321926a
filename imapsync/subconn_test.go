package imapsync

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/postrider/postrider/store"
)

// apart wishes for connections of their own for folders.
func (d *den) apart(paths ...string) {
	d.t.Helper()
	_, err := d.st.UpdateAccount(d.t.Context(), denAccount, 0, func(a *store.Account) error { a.Live = paths; return nil })
	d.ok(err)
}

// open counts the connections that are not closed.
func (d *den) open() int {
	d.srv.mu.Lock()
	defer d.srv.mu.Unlock()
	n := 0
	for _, x := range d.srv.sessions {
		select {
		case <-x.dead:
		default:
			n++
		}
	}
	return n
}

func TestSubconnection_hears_of_its_folder(t *testing.T) {
	eachTier(t, func(d *den) {
		d.apart("Archive", "not there", "INBOX")
		d.started()
		d.pass(time.Second)
		d.planHas("Archive: live (IDLE, a connection of its own)")
		if n := d.state().Status.Connections; n != 2 || d.open() != 2 {
			d.t.Errorf("%d connections said, %d open", n, d.open())
		}
		lists, statuses, _ := d.did(func() {
			d.srv.put("Archive", "heard")
			d.pass(time.Second)
			d.expect("messageNew Archive <heard> new")
			d.srv.put("INBOX", "too")
			d.pass(time.Second)
			d.expect("messageNew INBOX <too> new")
		})
		if lists+statuses != 0 {
			d.t.Errorf("%d LIST, %d STATUS", lists, statuses)
		}
		d.pass(20 * time.Minute) // through several IDLEs
		d.srv.put("Archive", "later")
		d.pass(time.Second)
		d.expect("messageNew Archive <later> new")
	})
}

func TestSubconnection_is_bounded_and_ends_with_the_session(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.srv.create("Lists")
		d.apart("Archive", "Lists")
		d.cfg.Reconcile = time.Second
		d.up()
		d.pass(5 * time.Second)
		d.planHas("Lists: every 2 min (the provider's limit of 3 leaves no connection for it)")
		if n := d.open(); n != 2 {
			d.t.Fatalf("%d connections, want the watching one and one more", n)
		}
		d.apart() // opens a new session
		d.pass(10 * time.Second)
		if n := d.open(); n != 1 {
			d.t.Errorf("%d connections without the wish", n)
		}
		d.apart("Lists")
		d.pass(10 * time.Second)
		if n := d.open(); n != 2 {
			d.t.Errorf("%d connections", n)
		}
		d.down()
		if n := d.open(); n != 0 {
			d.t.Errorf("%d connections after the end", n)
		}
	})
}

func TestSubconnection_that_is_refused_is_probed(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.srv.dialsMost = 1
		d.srv.dialErr = &Error{Kind: ErrNo, Stage: StageLogin, Code: "LIMIT", Text: "too many connections"}
		d.apart("Archive")
		d.started()
		d.pass(time.Second)
		d.planHas("Archive: every 2 min (its own connection: login: NO [LIMIT]")
		if st := d.state().Status; st.State != store.StateConnected || st.LastError != nil || st.Connections != 1 {
			d.t.Errorf("%s %+v", st.State, st.LastError)
		}
		d.srv.put("Archive", "probed")
		d.pass(2*time.Minute + time.Second)
		d.expect("messageNew Archive <probed> new")
		if n, _ := d.srv.counted(); n > 4 {
			d.t.Errorf("%d logins in two minutes", n)
		}
		d.srv.act(func() { d.srv.dialErr = nil })
		d.pass(10 * time.Minute)
		d.planHas("Archive: live")
		d.srv.act(func() {
			for _, x := range d.srv.sessions {
				if x.open == "Archive" {
					x.Close()
				}
			}
		})
		d.pass(time.Second)
		d.planHas("Archive: every 2 min (its own connection: ")
		if st := d.state().Status.State; st != store.StateConnected {
			d.t.Errorf("the account pays: %s", st)
		}
	})
}

func TestSubconnection_is_needless_with_notify(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.srv.notify = true
		d.apart("Archive")
		d.started()
		d.pass(time.Second)
		d.planHas("1 folders: live (NOTIFY)")
		if n := d.open(); n != 1 {
			d.t.Errorf("%d connections", n)
		}
	})
}

func TestSubconnection_that_panics_leaves_its_host(t *testing.T) {
	w := &worker{pace: newPacer(), profiles: builtin(), met: newMetrics(nil), log: slog.New(slog.DiscardHandler)}
	w.dial = func(context.Context, store.Account) (Session, error) { panic("planted") }
	acct := &store.Account{ID: "jo", IMAP: &store.Server{Host: "imap.example.com"}}
	if err := w.listenOnce(t.Context(), acct, &subconns{}, &subconn{}, false); err == nil {
		t.Error("no error")
	}
	if n := w.pace.gate("imap.example.com").open; n != 0 {
		t.Errorf("%d turns are not given back", n)
	}
}
