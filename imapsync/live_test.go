package imapsync_test

import (
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/imapsync"
	"github.com/postrider/postrider/imapsync/imaptest"
	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/secret"
	"github.com/postrider/postrider/store/storetest"
)

// With NOTIFY the other folders are told of on the one connection: no probe is due in
// this test.
func TestEngine_hears_of_other_folders_by_notify(t *testing.T) {
	d := imaptest.StartDovecot(t).User("jo", "secret")
	r := newRig(t, storetest.Miniredis(t), d)
	var err error
	r.profiles, err = imapsync.NewProfiles("dovecot: {noNotify: false}") // it does hear; what its LIST says then is another matter
	r.ok(err)
	r.dialer = imapsync.NewDialer(imapsync.DialerOptions{AllowPlaintext: true, Profiles: r.profiles})
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

// A folder with a connection of its own is live where the server has no NOTIFY.
func TestEngine_hears_of_a_folder_on_a_connection_of_its_own(t *testing.T) {
	for name, start := range map[string]func() imaptest.Mailbox{
		"cyrus": func() imaptest.Mailbox { return imaptest.StartCyrus(t).User("jo", "secret") },
		"model": func() imaptest.Mailbox { return imaptest.StartModel(t, imaptest.T1()).User("jo", "secret") },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, storetest.Miniredis(t), start())
			r.cfg.ProbeInterval, r.cfg.ListInterval = 10*time.Minute, 10*time.Minute
			r.register(time.Now())
			_, err := r.st.UpdateAccount(t.Context(), r.id, 0, func(a *store.Account) error { a.Live = []string{"Archive"}; return nil })
			r.ok(err)
			r.up()
			r.initialized()
			eventually(t, 10*time.Second, "the plan says that it listens", func() bool {
				st, err := r.st.State(t.Context(), r.id)
				r.ok(err)
				return st.Status.Connections == 2 && slices.Contains(st.Status.Plan, "Archive: live (IDLE, a connection of its own)")
			})
			r.cfg.ProbeInterval = 300 * time.Millisecond // how long a test waits for more; the engine has its own
			r.settled()
			uid := r.put("Archive", "one@x")
			r.expect("messageNew Archive one@x new")
			r.ok(r.box.AddFlags(t.Context(), "Archive", []uint32{uid}, `\Seen`))
			r.expect(`messageUpdated Archive +\Seen`)
			r.check()
		})
	}
}

// The protocol trace is of the accounts that ask for it alone, and masked.
func TestDialer_traces_accounts_that_ask_for_it(t *testing.T) {
	var b strings.Builder
	box := imaptest.StartModel(t, imaptest.T1()).User("jo", "geheim")
	d := imapsync.NewDialer(imapsync.DialerOptions{
		AllowPlaintext: true,
		Trace:          slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: imapsync.LevelTrace})),
	})
	srv := box.Server()
	acct := store.Account{ID: "jo", IMAP: &store.Server{
		Host: srv.Host, Port: srv.Port, User: srv.User, Pass: secret.New(srv.Pass), TLS: store.ServerTLS{CA: srv.CA}, Plaintext: srv.CA == "",
	}}
	for _, logs := range []bool{false, true} {
		acct.Logs = logs
		s, err := d.DialAccount(t.Context(), acct)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Logout(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := b.String(); strings.Contains(got, "account=jo from=C") != logs || strings.Contains(got, "geheim") {
			t.Errorf("logs %v:\n%s", logs, got)
		}
	}
}

// What a profile says is missing is not used, whatever the server advertises.
func TestDialer_takes_a_profile_at_its_word(t *testing.T) {
	box := imaptest.StartModel(t, imaptest.T1()).User("jo", "secret")
	srv := box.Server()
	server := store.Server{Host: srv.Host, Port: srv.Port, User: srv.User, Pass: secret.New(srv.Pass), TLS: store.ServerTLS{CA: srv.CA}, Plaintext: srv.CA == ""}
	for field, want := range map[string][2]bool{"noIdle": {true, true}, "noQresync": {true, false}, "noModseqItem": {false, false}} {
		ps, err := imapsync.NewProfiles("here: {hosts: [\"" + srv.Host + "\"], " + field + ": true}")
		if err != nil {
			t.Fatal(err)
		}
		s, err := imapsync.NewDialer(imapsync.DialerOptions{AllowPlaintext: true, Profiles: ps}).Dial(t.Context(), server)
		if err != nil {
			t.Fatal(err)
		}
		if i := s.Info(); i.CondStore != want[0] || i.QResync != want[1] {
			t.Errorf("%s: CONDSTORE %v, QRESYNC %v", field, i.CondStore, i.QResync)
		}
		if sel, err := s.Select(t.Context(), "INBOX"); err != nil || (sel.ModSeq > 0) != want[0] {
			t.Errorf("%s: MODSEQ %d, %v", field, sel.ModSeq, err)
		}
		s.Close()
	}
}
