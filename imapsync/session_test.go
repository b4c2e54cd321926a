package imapsync

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/imapsync/imaptest"
	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/secret"
)

// sessionServer is a server of the conformance suite.
type sessionServer struct {
	name      string
	box       imaptest.Mailbox
	secure    bool // STARTTLS
	condStore bool
	bare      bool   // has IDLE and UIDPLUS, and nothing more
	roles     string // where its roles come from
}

// eachServer runs the suite's part on every server, each time with an empty mailbox.
func eachServer(t *testing.T, f func(*testing.T, sessionServer)) {
	t.Run("memory", func(t *testing.T) {
		f(t, sessionServer{name: "memory", box: imaptest.StartMemory(t), roles: "name"})
	})
	t.Run("dovecot", func(t *testing.T) {
		f(t, sessionServer{name: "dovecot", box: imaptest.StartDovecot(t).User("jo", "secret"), secure: true, condStore: true, roles: "extension"})
	})
	t.Run("cyrus", func(t *testing.T) {
		f(t, sessionServer{name: "cyrus", box: imaptest.StartCyrus(t).User("jo", "secret"), secure: true, condStore: true, roles: "extension"})
	})
	t.Run("courier", func(t *testing.T) {
		f(t, sessionServer{name: "courier", box: imaptest.StartCourier(t).User("jo", "secret"), bare: true, roles: "name"})
	})
}

func (s sessionServer) account() store.Server {
	srv := s.box.Server()
	return store.Server{
		Host: srv.Host, Port: srv.Port, User: srv.User, Pass: secret.New(srv.Pass),
		Plaintext: !s.secure, TLS: store.ServerTLS{CA: srv.CA},
	}
}

func (s sessionServer) open(t *testing.T) Session {
	t.Helper()
	d := NewDialer(DialerOptions{AllowPlaintext: true, ClientVersion: "test"})
	sess, err := d.Dial(t.Context(), s.account())
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	t.Cleanup(sess.Close)
	return sess
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func uids(from, to uint32) imap.UIDSet {
	var set imap.UIDSet
	set.AddRange(imap.UID(from), imap.UID(to))
	return set
}

func TestSession(t *testing.T) {
	eachServer(t, func(t *testing.T, srv sessionServer) {
		ctx := t.Context()
		for i := range 5 {
			id := fmt.Sprintf("m%d@example.com", i+1)
			_, err := srv.box.Append(ctx, "INBOX", imaptest.Message(id, "Grüße "+id), []string{`\Seen`, "work"}, imaptest.Date)
			ok(t, err)
		}
		ok(t, srv.box.CreateFolder(ctx, "Projekte/Grün & Blau"))
		ok(t, srv.box.Expunge(ctx, "INBOX", 2))
		s := srv.open(t)

		t.Run("info", func(t *testing.T) {
			info := s.Info()
			if !info.Idle || !info.UIDPlus || info.ListStatus == srv.bare || info.ESearch == srv.bare || info.CondStore != srv.condStore {
				t.Errorf("info = %+v", info)
			}
			if !slices.IsSorted(info.Capabilities) || slices.Contains(info.Capabilities, "IMAP4rev2") {
				t.Errorf("capabilities = %v", info.Capabilities)
			}
			if srv.name == "dovecot" && info.ServerName != "Dovecot" {
				t.Errorf("server name %q", info.ServerName)
			}
		})
		t.Run("folders_with_status_and_roles", func(t *testing.T) {
			folders := must[Listing](t)(s.Folders(ctx)).Folders
			roles := map[string]string{}
			for _, f := range folders {
				if f.SpecialUse != "" {
					roles[f.SpecialUse] = imaptest.Common(srv.box, f.Path)
				}
				if f.SpecialUse != "" && f.SpecialUse != RoleInbox && f.SpecialUseSource != srv.roles {
					t.Errorf("%s: role from %q, want %q", f.Path, f.SpecialUseSource, srv.roles)
				}
				if f.Selectable && f.Status == nil && !srv.bare {
					t.Errorf("%s: no status", f.Path)
				}
			}
			want := map[string]string{RoleInbox: "INBOX", RoleSent: "Sent", RoleDrafts: "Drafts", RoleTrash: "Trash", RoleJunk: "Junk", RoleArchive: "Archive"}
			if diff := cmp.Diff(want, roles); diff != "" {
				t.Errorf("roles (-want +got):\n%s", diff)
			}
			i := slices.IndexFunc(folders, func(f Listed) bool { return f.Path == "INBOX" })
			if i < 0 {
				t.Fatal("no INBOX")
			}
			st := must[Status](t)(s.Status(ctx, folders[i].Raw))
			if !srv.bare && st != *folders[i].Status {
				t.Errorf("status of LIST = %+v, of STATUS = %+v", *folders[i].Status, st)
			}
			if !st.HasMessages || st.Messages != 4 || !st.HasUIDNext || st.UIDNext != 6 || !st.HasUIDValidity || st.HasModSeq != srv.condStore {
				t.Errorf("status = %+v", st)
			}
		})
		t.Run("names_beyond_ascii_can_be_addressed", func(t *testing.T) {
			folders := must[Listing](t)(s.Folders(ctx)).Folders
			name := imaptest.Native(srv.box, "Projekte/Grün & Blau")
			i := slices.IndexFunc(folders, func(f Listed) bool { return f.Path == name })
			if i < 0 || !strings.Contains(name, "Projekte"+folders[i].Delimiter) {
				t.Fatalf("folder is not listed: %+v", folders)
			}
			st := must[Status](t)(s.Status(ctx, folders[i].Raw))
			if !st.HasMessages || st.Messages != 0 {
				t.Errorf("status = %+v", st)
			}
			sel := must[Selected](t)(s.Select(ctx, folders[i].Raw))
			if sel.Exists != 0 || sel.UIDValidity == 0 {
				t.Errorf("selected = %+v", sel)
			}
			enum := must[Enumeration](t)(s.UIDs(ctx, 1, 0))
			if len(enum.UIDs) != 0 || !enum.Complete {
				t.Errorf("enumeration of an empty folder = %+v", enum)
			}
		})
		sel := must[Selected](t)(s.Select(ctx, "INBOX"))
		uidNext := uint32(6)
		if srv.bare {
			uidNext = 0 // Courier tells it in STATUS alone
		}
		if sel.Exists != 4 || sel.UIDNext != uidNext || sel.UIDValidity == 0 || (sel.ModSeq > 0) != srv.condStore || s.Exists() != 4 {
			t.Errorf("selected = %+v, exists = %d", sel, s.Exists())
		}
		t.Run("messages", func(t *testing.T) {
			msgs := must[[]Message](t)(s.Messages(ctx, uids(1, 9)))
			if len(msgs) != 4 {
				t.Fatalf("%d messages, want 4", len(msgs))
			}
			m := msgs[1]
			if m.UID != 3 || m.Subject != "Grüße m3@example.com" || m.MessageID != "<m3@example.com>" || !m.FlagsKnown || len(m.Damaged) > 0 {
				t.Errorf("message = %+v", m)
			}
			if diff := cmp.Diff([]string{`\Seen`, "work"}, m.Flags); diff != "" {
				t.Errorf("flags (-want +got):\n%s", diff)
			}
			if !m.InternalDate.Equal(imaptest.Date) || m.Size == 0 || m.Date.IsZero() {
				t.Errorf("dates and size: %v, %v, %d", m.InternalDate, m.Date, m.Size)
			}
			if diff := cmp.Diff([]events.Address{{Name: "Alice", Address: "alice@example.com"}}, m.From); diff != "" {
				t.Errorf("from (-want +got):\n%s", diff)
			}
			if m.Structure == nil || m.Structure.Type != "text/plain" {
				t.Errorf("structure = %+v", m.Structure)
			}
		})
		t.Run("flags_and_identities", func(t *testing.T) {
			flags := must[Delta](t)(s.Flags(ctx, uids(1, 3))).Flags
			want := []FlagsOf{{UID: 1, Flags: []string{`\Seen`, "work"}, Known: true}, {UID: 3, Flags: []string{`\Seen`, "work"}, Known: true}}
			if diff := cmp.Diff(want, flags); diff != "" {
				t.Errorf("flags (-want +got):\n%s", diff)
			}
			ids := must[[]IdentityOf](t)(s.Identities(ctx, uids(5, 5)))
			if len(ids) != 1 || ids[0].UID != 5 || ids[0].MessageID != "<m5@example.com>" || ids[0].Size == 0 || !ids[0].InternalDate.Equal(imaptest.Date) {
				t.Errorf("identities = %+v", ids)
			}
		})
		t.Run("enumeration_and_search", func(t *testing.T) {
			for _, c := range []struct {
				from, to uint32
				want     []uint32
			}{{1, 0, []uint32{1, 3, 4, 5}}, {0, 0, []uint32{1, 3, 4, 5}}, {2, 4, []uint32{3, 4}}, {4, 0, []uint32{4, 5}}, {6, 0, nil}, {6, 9, nil}, {4, 3, nil}} {
				enum := must[Enumeration](t)(s.UIDs(ctx, c.from, c.to))
				if !slices.Equal(enum.UIDs, c.want) || !enum.Complete {
					t.Errorf("UIDs(%d, %d) = %+v, want %v", c.from, c.to, enum, c.want)
				}
			}
			hits := must[[]uint32](t)(s.Since(ctx, imaptest.Date.AddDate(0, 0, -1)))
			if len(hits) != 4 {
				t.Errorf("since: %v", hits)
			}
			if hits = must[[]uint32](t)(s.Since(ctx, imaptest.Date.AddDate(0, 0, 2))); len(hits) != 0 {
				t.Errorf("since the future: %v", hits)
			}
		})
		t.Run("refusals_leave_the_connection_usable", func(t *testing.T) {
			_, err := s.Select(ctx, imaptest.Native(srv.box, "no such folder"))
			if e, isE := errors.AsType[*Error](err); !isE || e.Kind != ErrNo || e.Command != "EXAMINE" {
				t.Fatalf("select of nothing: %v", err)
			}
			if f := Classify(err); f.Kind != FaultFolder {
				t.Errorf("classified as %+v", f)
			}
			if s.Exists() != 0 {
				t.Errorf("exists = %d with nothing selected", s.Exists())
			}
			for _, bad := range []imap.UIDSet{nil, {}, uids(1, 0), {{Start: 0, Stop: 0}}} {
				if _, err := s.Flags(ctx, bad); err == nil {
					t.Errorf("set %v was sent", bad)
				}
			}
			if _, err := s.Select(ctx, "a\r\nA9 LOGOUT"); err == nil {
				t.Error("a name with CRLF was sent")
			}
			ok(t, s.Noop(ctx))
			must[Selected](t)(s.Select(ctx, "INBOX"))
		})
		t.Run("watching_changes_nothing", func(t *testing.T) {
			truth, err := srv.box.Truth(ctx)
			ok(t, err)
			for uid, flags := range truth["INBOX"].Messages {
				if diff := cmp.Diff([]string{`\Seen`, "work"}, flags); diff != "" {
					t.Errorf("UID %d (-want +got):\n%s", uid, diff)
				}
			}
		})
		t.Run("logout", func(t *testing.T) {
			ok(t, s.Logout(ctx))
			if err := s.Noop(ctx); err == nil {
				t.Error("noop after logout")
			}
		})
	})
}

func TestSessionHearsChanges(t *testing.T) {
	eachServer(t, func(t *testing.T, srv sessionServer) {
		ctx := t.Context()
		for range 3 {
			_, err := srv.box.Append(ctx, "INBOX", imaptest.Message("a@x", "a"), nil, imaptest.Date)
			ok(t, err)
		}
		s := srv.open(t)
		must[Selected](t)(s.Select(ctx, "INBOX"))

		idle := func(act func()) IdleEnd {
			t.Helper()
			type result struct {
				end IdleEnd
				err error
			}
			done := make(chan result, 1)
			go func() {
				end, err := s.Idle(ctx, 20*time.Second)
				done <- result{end, err}
			}()
			if act != nil {
				act()
			}
			r := <-done
			ok(t, r.err)
			return r.end
		}
		before := s.LastProof()
		if end := idle(func() {
			_, err := srv.box.Append(ctx, "INBOX", imaptest.Message("b@x", "b"), nil, imaptest.Date)
			ok(t, err)
		}); end != IdleChanged {
			t.Errorf("idle ended by %q", end)
		}
		if c := s.Changes(); !c.Exists || s.Exists() != 4 {
			t.Errorf("changes = %+v, exists = %d", c, s.Exists())
		}
		if !s.LastProof().After(before) || !s.SpeakBy().IsZero() {
			t.Errorf("proof %v after %v, speak by %v", s.LastProof(), before, s.SpeakBy())
		}
		if end := idle(func() { ok(t, srv.box.Expunge(ctx, "INBOX", 1, 2)) }); end != IdleChanged {
			t.Errorf("idle ended by %q", end)
		}
		ok(t, s.Noop(ctx))
		if c := s.Changes(); c.Expunged == 0 && len(c.Flags) == 0 {
			t.Errorf("changes = %+v", c)
		}
		// Dovecot may tell the flag before the expunge: the count settles with a round trip.
		for deadline := time.Now().Add(10 * time.Second); s.Exists() != 2 && time.Now().Before(deadline); {
			idle(s.Kick)
		}
		if s.Exists() != 2 {
			t.Errorf("exists = %d, want 2", s.Exists())
		}
		s.Changes()
		if end := idle(s.Kick); end != IdleKicked {
			t.Errorf("idle ended by %q", end)
		}
		s.Kick() // none running: the next one ends at once
		if end, err := s.Idle(ctx, time.Minute); err != nil || end != IdleKicked {
			t.Errorf("idle after a kick: %q, %v", end, err)
		}
		if end, err := s.Idle(ctx, time.Millisecond); err != nil || end != IdleTimeout {
			t.Errorf("short idle: %q, %v", end, err)
		}
		errStop := errors.New("stop")
		stopping, cancel := context.WithCancelCause(ctx)
		done := make(chan error, 1)
		go func() {
			_, err := s.Idle(stopping, time.Minute)
			done <- err
		}()
		cancel(errStop)
		if err := <-done; !errors.Is(err, errStop) {
			t.Errorf("cancelled idle: %v", err)
		}
		ok(t, s.Noop(ctx)) // the connection outlives it
	})
}

func TestSessionCondStore(t *testing.T) {
	t.Run("dovecot", func(t *testing.T) { sessionCondStore(t, imaptest.StartDovecot(t).User("jo", "secret")) })
	t.Run("cyrus", func(t *testing.T) { sessionCondStore(t, imaptest.StartCyrus(t).User("jo", "secret")) })
}

func sessionCondStore(t *testing.T, box imaptest.Mailbox) {
	srv := sessionServer{box: box, secure: true}
	ctx := t.Context()
	for range 5 {
		_, err := box.Append(ctx, "INBOX", imaptest.Message("a@x", "a"), nil, imaptest.Date)
		ok(t, err)
	}
	s := srv.open(t)
	sel := must[Selected](t)(s.Select(ctx, "INBOX"))
	ok(t, box.AddFlags(ctx, "INBOX", []uint32{2, 4}, `\Flagged`))
	ok(t, box.Expunge(ctx, "INBOX", 3))
	ok(t, s.Noop(ctx)) // has the server say it; it says it again
	got := must[Delta](t)(s.Changed(ctx, 5, sel.ModSeq, true))
	want := Delta{
		Flags:    []FlagsOf{{UID: 2, Flags: []string{`\Flagged`}, Known: true}, {UID: 4, Flags: []string{`\Flagged`}, Known: true}},
		Vanished: uids(3, 3), Complete: true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("changed flags (-want +got):\n%s", diff)
	}
	if again := must[Selected](t)(s.Select(ctx, "INBOX")); again.ModSeq <= sel.ModSeq {
		t.Errorf("HIGHESTMODSEQ %d after %d", again.ModSeq, sel.ModSeq)
	}
}

// pinOf is the pin of a certificate.
func pinOf(t *testing.T, certPEM string) string {
	t.Helper()
	block, _ := pem.Decode([]byte(certPEM))
	cert := must[*x509.Certificate](t)(x509.ParseCertificate(block.Bytes))
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(sum[:])
}

func TestDialDovecot(t *testing.T) {
	d := imaptest.StartDovecot(t)
	box := d.User("jo", "secret")
	base := sessionServer{box: box, secure: true}.account()
	with := func(change func(*store.Server)) store.Server {
		s := base
		change(&s)
		return s
	}
	for _, c := range []struct {
		name   string
		server store.Server
		want   Fault // Kind "" = logs in
		code   string
	}{
		{"starttls", base, Fault{}, ""},
		{"implicit tls", with(func(s *store.Server) { s.Secure, s.Port = true, box.TLSPort() }), Fault{}, ""},
		{"pinned without an authority", with(func(s *store.Server) { s.TLS.Pin, s.TLS.CA = []string{pinOf(t, s.TLS.CA)}, "" }), Fault{}, ""},
		{"wrong password", with(func(s *store.Server) { s.Pass = secret.New("wrong") }), Fault{Kind: FaultAuthDead, Class: "credentials"}, "AUTHENTICATIONFAILED"},
		{"no password", with(func(s *store.Server) { s.Pass = secret.Text{} }), Fault{Kind: FaultConfig, Class: "blocked"}, codeCredentials},
		{"unknown authority", with(func(s *store.Server) { s.TLS.CA = "" }), Fault{Kind: FaultTLS, Class: "tls"}, "CERT_UNKNOWN_AUTHORITY"},
		{"other name", with(func(s *store.Server) { s.TLS.ServerName = "imap.example.com" }), Fault{Kind: FaultTLS, Class: "tls"}, "CERT_NAME_MISMATCH"},
		{"other key pinned", with(func(s *store.Server) { s.TLS.Pin = []string{"x"} }), Fault{Kind: FaultTLS, Class: "tls"}, "CERT_NOT_PINNED"},
		{"tls on the plain port", with(func(s *store.Server) { s.Secure = true }), Fault{Kind: FaultTLS, Class: "tls"}, "TLS_NOT_SPOKEN"},
		{"unchecked not allowed", with(func(s *store.Server) { s.TLS.InsecureSkipVerify = true }), Fault{Kind: FaultConfig, Class: "blocked"}, codeInsecureTLS},
		{"plaintext not allowed", with(func(s *store.Server) { s.Plaintext = true }), Fault{Kind: FaultConfig, Class: "blocked"}, codePlaintext},
		{"token where no mechanism is", with(func(s *store.Server) { s.AccessToken = secret.New("t") }), Fault{Kind: FaultConfig, Class: "blocked"}, codeNoMechanism},
		{"no host", with(func(s *store.Server) { s.Host = "" }), Fault{Kind: FaultConfig, Class: "blocked"}, codeHostMissing},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := NewDialer(DialerOptions{}).Dial(t.Context(), c.server)
			if c.want.Kind == "" {
				ok(t, err)
				ok(t, s.Noop(t.Context()))
				ok(t, s.Logout(t.Context()))
				return
			}
			if err == nil {
				s.Close()
				t.Fatal("logged in")
			}
			f := Classify(err)
			if f.Kind != c.want.Kind || f.Class != c.want.Class || f.Code != c.code {
				t.Errorf("%v: %+v", err, f)
			}
			if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "wrong") {
				t.Errorf("error tells the password: %v", err)
			}
		})
	}
}

// Each connection keeps its tls.Config, with the authorities it trusts: accounts of one
// server have one in common, and only where they judge it alike.
func TestDialer_shares_how_a_server_is_judged(t *testing.T) {
	d := NewDialer(DialerOptions{AllowInsecureTLS: true})
	of := func(s store.Server) *tls.Config {
		t.Helper()
		s.Secure = true
		cfg, err := d.sharedTLS(s)
		if err != nil {
			t.Fatal(err)
		}
		return cfg
	}
	all := []store.Server{
		{Host: "a.example"},
		{Host: "b.example"},
		{Host: "a.example", TLS: store.ServerTLS{InsecureSkipVerify: true}},
		{Host: "a.example", TLS: store.ServerTLS{MinVersion: "1.3"}},
		{Host: "a.example", TLS: store.ServerTLS{ServerName: "b.example"}},
		{Host: "a.example", TLS: store.ServerTLS{Pin: []string{"x"}}},
		{Host: "a.example", TLS: store.ServerTLS{Pin: []string{"x", "y"}}},
	}
	seen := map[*tls.Config]bool{}
	for _, s := range all {
		cfg := of(s)
		s.User = "jo"
		if of(s) != cfg {
			t.Errorf("%+v: not shared", s)
		}
		if seen[cfg] {
			t.Errorf("%+v: shared with another", s)
		}
		seen[cfg] = true
	}
	for range 2 { // what cannot be used is not kept either
		if _, err := d.sharedTLS(store.Server{Host: "a.example", Secure: true, TLS: store.ServerTLS{CA: "none"}}); err == nil {
			t.Error("no error")
		}
	}
	for i := range maxTLSConfigs {
		of(store.Server{Host: fmt.Sprintf("h%d.example", i)})
	}
	if len(d.tls) > maxTLSConfigs {
		t.Errorf("%d are kept", len(d.tls))
	}
}
