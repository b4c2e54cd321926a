package imaptest

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestMailbox holds both servers to the contract of Mailbox, by the independent reader.
func TestMailbox(t *testing.T) {
	t.Run("memory", func(t *testing.T) { testMailbox(t, StartMemory(t), false) })
	t.Run("dovecot", func(t *testing.T) { testMailbox(t, StartDovecot(t).User("jo", "secret"), true) })
	t.Run("cyrus", func(t *testing.T) { testMailbox(t, StartCyrus(t).User("jo", "secret"), true) })
	for _, d := range modelDialects() {
		t.Run("model/"+d.Name, func(t *testing.T) { testMailbox(t, NewModel(d).User("jo", "secret"), true) })
	}
	t.Run("courier", func(t *testing.T) { testMailbox(t, StartCourier(t).User("jo", "secret"), true) })
}

func testMailbox(t *testing.T, m Mailbox, keepsUIDs bool) {
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	truth := func() map[string]Folder {
		t.Helper()
		f, err := m.Truth(ctx)
		must(err)
		return f
	}
	var uids []uint32
	for _, id := range []string{"a@x", "b@x", "c@x", "d@x"} {
		uid, err := m.Append(ctx, "INBOX", Message(id, id), []string{`\Seen`, "work"}, Date)
		must(err)
		uids = append(uids, uid)
	}
	if diff := cmp.Diff([]uint32{1, 2, 3, 4}, uids); diff != "" {
		t.Fatalf("UIDs of APPEND (-want +got):\n%s", diff)
	}
	must(m.AddFlags(ctx, "INBOX", uids[:1], `\Flagged`))
	must(m.RemoveFlags(ctx, "INBOX", uids[:2], `\Seen`))
	must(m.Expunge(ctx, "INBOX", uids[2]))
	must(m.CreateFolder(ctx, "Projekte/Grün & Blau"))
	must(m.Move(ctx, "INBOX", "Projekte/Grün & Blau", uids[3]))
	must(m.Copy(ctx, "INBOX", "Archive", uids[0]))
	must(m.RenameFolder(ctx, "Projekte/Grün & Blau", "Grün"))
	must(m.CreateFolder(ctx, "Weg"))
	must(m.DeleteFolder(ctx, "Weg"))

	got := truth()
	want := map[uint32][]string{1: {`\Flagged`, "work"}, 2: {"work"}}
	if diff := cmp.Diff(want, got["INBOX"].Messages); diff != "" {
		t.Errorf("INBOX (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[uint32][]string{1: {`\Seen`, "work"}}, got["Grün"].Messages); diff != "" {
		t.Errorf("Grün (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[uint32][]string{1: {`\Flagged`, "work"}}, got["Archive"].Messages); diff != "" {
		t.Errorf("Archive (-want +got):\n%s", diff)
	}
	for _, gone := range []string{"Weg", "Projekte/Grün & Blau"} {
		if _, ok := got[gone]; ok {
			t.Errorf("%s is still there", gone)
		}
	}

	must(m.ResetUIDValidity(ctx, "INBOX"))
	after := truth()
	if before := got["INBOX"].UIDValidity; after["INBOX"].UIDValidity == before || after["INBOX"].UIDValidity == 0 {
		t.Errorf("UIDVALIDITY is %d, was %d", after["INBOX"].UIDValidity, before)
	}
	if n := len(after["INBOX"].Messages); n != 2 {
		t.Errorf("%d messages after the reset, want 2", n)
	}
	if keepsUIDs {
		if diff := cmp.Diff(want, after["INBOX"].Messages); diff != "" {
			t.Errorf("INBOX after the reset (-want +got):\n%s", diff)
		}
	}
}

func TestDovecotRestart(t *testing.T) {
	d := StartDovecot(t)
	u := d.User("jo", "secret")
	if _, err := u.Append(t.Context(), "INBOX", Message("a@x", "a"), nil, Date); err != nil {
		t.Fatal(err)
	}
	d.Stop()
	if _, err := u.Truth(t.Context()); err == nil {
		t.Fatal("stopped server answers")
	}
	d.Start()
	f, err := u.Truth(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := len(f["INBOX"].Messages); n != 1 {
		t.Fatalf("%d messages after the restart, want 1", n)
	}
}
