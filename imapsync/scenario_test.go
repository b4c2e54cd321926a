package imapsync_test

import (
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/imapsync/imaptest"
	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/secret"
)

// firstLines are the events of an account with the six folders of the test servers.
func firstLines() []string {
	return []string{
		"accountAdded", "authenticationSuccess", "mailboxNew INBOX", "mailboxNew Sent", "mailboxNew Drafts",
		"mailboxNew Trash", "mailboxNew Junk", "mailboxNew Archive", "accountInitialized added",
	}
}

func TestEngine_baseline_is_silent_and_says_so(t *testing.T) {
	eachPeer(t, func(t *testing.T, r *rig) {
		old := time.Now().Add(-48 * time.Hour)
		for _, id := range []string{"a@x", "b@x", "c@x"} {
			_, err := r.box.Append(t.Context(), "INBOX", imaptest.Message(id, id), []string{`\Seen`}, old)
			r.ok(err)
		}
		r.begin()
		r.check()
		st, err := r.st.State(t.Context(), r.id)
		r.ok(err)
		if st.Status.State != store.StateConnected || !st.Initialized {
			t.Errorf("state %q, initialized %v", st.Status.State, st.Initialized)
		}
	})
}

func TestEngine_tells_what_happens_to_messages(t *testing.T) {
	eachPeer(t, func(t *testing.T, r *rig) {
		r.begin()

		uid := r.put("INBOX", "one@x")
		r.expect("messageNew INBOX one@x new")
		r.ok(r.box.AddFlags(t.Context(), "INBOX", []uint32{uid}, `\Seen`, `$work`))
		r.expect(`messageUpdated INBOX +$work +\Seen`)
		r.ok(r.box.RemoveFlags(t.Context(), "INBOX", []uint32{uid}, `\Seen`))
		r.expect(`messageUpdated INBOX -\Seen`)
		r.ok(r.box.Copy(t.Context(), "INBOX", "Archive", uid))
		copied := "existing"
		if strings.HasSuffix(t.Name(), "/cyrus") {
			copied = "copied" // it has OBJECTID: known for sure
		}
		r.expect("messageNew Archive one@x " + copied)
		r.ok(r.box.Expunge(t.Context(), "INBOX", uid))
		r.expect("messageDeleted INBOX ~Archive")
		r.put("Sent", "two@x")
		r.expect("messageNew Sent two@x new")
		r.check()

		truth := map[string]map[uint32][]string{}
		for _, p := range []string{"INBOX", "Sent", "Drafts", "Trash", "Junk", "Archive"} {
			truth[p] = map[uint32][]string{}
		}
		r.fold(truth, r.journal(0))
	})
}

func TestEngine_links_the_halves_of_a_move(t *testing.T) {
	eachPeer(t, func(t *testing.T, r *rig) {
		r.begin()
		uid := r.put("INBOX", "one@x")
		r.expect("messageNew INBOX one@x new")
		r.ok(r.box.Move(t.Context(), "INBOX", "Archive", uid))
		poll(20*time.Second, func() bool { return len(r.journal(r.last)) >= 2 })
		got := strings.Join(r.settled(), "\n")
		// What left is held; what came is not, and only the half that is told second names the other.
		first := "messageDeleted INBOX ~Archive\nmessageNew Archive one@x moved ~INBOX"
		second := "messageNew Archive one@x existing\nmessageDeleted INBOX ~Archive"
		if got != first && got != second {
			t.Fatalf("got:\n%s", got)
		}
		r.check()
	})
}

func TestEngine_tells_of_folders(t *testing.T) {
	eachPeer(t, func(t *testing.T, r *rig) {
		r.begin()
		r.ok(r.box.CreateFolder(t.Context(), "Projects"))
		r.expect("mailboxNew Projects")
		r.put("Projects", "p@x")
		r.expect("messageNew Projects p@x new")
		r.ok(r.box.RenameFolder(t.Context(), "Projects", "Kunden"))
		if _, fresh := r.box.(*imaptest.CourierUser); fresh {
			// A new UIDVALIDITY comes with the new name: nothing proves that it is the same folder.
			r.expect("mailboxDeleted Projects", "mailboxNew Kunden", "messageNew Kunden p@x existing")
		} else {
			r.expect("mailboxDeleted Projects ~Kunden", "mailboxNew Kunden ~Projects")
		}
		r.put("Kunden", "q@x")
		r.expect("messageNew Kunden q@x new")
		r.check()
		r.ok(r.box.DeleteFolder(t.Context(), "Kunden"))
		r.expect("mailboxDeleted Kunden")
		r.check()
	})
}

func TestEngine_new_folder_with_mail_announces_it(t *testing.T) {
	eachPeer(t, func(t *testing.T, r *rig) {
		r.begin()
		r.down()
		r.ok(r.box.CreateFolder(t.Context(), "Neu"))
		r.put("Neu", "young@x")
		_, err := r.box.Append(t.Context(), "Neu", imaptest.Message("old@x", "old@x"), nil, time.Now().Add(-72*time.Hour))
		r.ok(err)
		r.up()
		r.expect("mailboxNew Neu", "messageNew Neu young@x new", "messageNew Neu old@x existing")
		r.check()
	})
}

func TestEngine_mail_that_came_while_down_is_told(t *testing.T) {
	eachPeer(t, func(t *testing.T, r *rig) {
		r.begin()
		gone := r.put("INBOX", "gone@x")
		flagged := r.put("INBOX", "flagged@x")
		r.expect("messageNew INBOX gone@x new", "messageNew INBOX flagged@x new")
		r.down()
		r.put("INBOX", "down@x")
		r.put("Archive", "down2@x")
		r.ok(r.box.Expunge(t.Context(), "INBOX", gone))
		r.ok(r.box.AddFlags(t.Context(), "INBOX", []uint32{flagged}, `\Flagged`))
		r.up()
		r.expect("messageNew INBOX down@x new", "messageNew Archive down2@x new", "messageDeleted INBOX", `messageUpdated INBOX +\Flagged`)
		r.check()
	})
}

func TestEngine_backfills_from_notifyFrom(t *testing.T) {
	eachPeer(t, func(t *testing.T, r *rig) {
		for i, age := range []time.Duration{72 * time.Hour, 2 * time.Hour, time.Minute} {
			id := []string{"old@x", "mid@x", "young@x"}[i]
			_, err := r.box.Append(t.Context(), "INBOX", imaptest.Message(id, id), nil, time.Now().Add(-age))
			r.ok(err)
		}
		r.register(time.Now().Add(-24 * time.Hour))
		r.up()
		r.expect(append(firstLines(), "messageNew INBOX mid@x backfill", "messageNew INBOX young@x backfill")...)
		r.check()
	})
}

func TestEngine_uidvalidity_change_resets_without_duplicates(t *testing.T) {
	eachPeer(t, func(t *testing.T, r *rig) {
		_, err := r.box.Append(t.Context(), "Archive", imaptest.Message("old@x", "old@x"), nil, time.Now().Add(-72*time.Hour))
		r.ok(err)
		r.begin()
		r.put("Archive", "known@x")
		r.expect("messageNew Archive known@x new")
		r.down()
		r.put("Archive", "unseen@x")
		r.ok(r.box.ResetUIDValidity(t.Context(), "Archive"))
		r.up()
		r.until(events.MailboxResetType)
		poll(20*time.Second, func() bool { return strings.Contains(strings.Join(r.lines(), "\n"), "unseen@x") })
		r.settled()
		var rest []string
		for _, l := range r.lines() {
			if strings.Contains(l, "Archive") {
				rest = append(rest, l)
			}
		}
		want := "mailboxNew Archive\nmessageNew Archive known@x new\nmailboxReset Archive uidValidityChange\nmessageNew Archive unseen@x new"
		if got := strings.Join(rest, "\n"); got != want {
			t.Fatalf("got:\n%s\nwant:\n%s", got, want)
		}
		r.put("Archive", "after@x")
		r.expect("messageNew Archive after@x new")
		r.check()
	})
}

func TestEngine_wrong_password_is_one_event(t *testing.T) {
	eachPeer(t, func(t *testing.T, r *rig) {
		r.register(time.Time{})
		_, err := r.st.UpdateAccount(t.Context(), r.id, 0, func(a *store.Account) error {
			a.IMAP.Pass = secret.New("wrong")
			return nil
		})
		r.ok(err)
		m := r.up()
		r.expect("accountAdded", "authenticationError credentials")
		st, err := r.st.State(t.Context(), r.id)
		r.ok(err)
		if st.Status.State != store.StateAuthenticationError || st.Status.LastError.Kind != "authDead" {
			t.Fatalf("state %q, error %+v", st.Status.State, st.Status.LastError)
		}
		_, err = r.st.UpdateAccount(t.Context(), r.id, 0, func(a *store.Account) error {
			a.IMAP.Pass = secret.New(r.box.Server().Pass)
			return nil
		})
		r.ok(err)
		m.Kick(r.id)
		r.expect(firstLines()[1:]...)
		r.check()
	})
}

func TestEngine_lost_state_is_no_flood(t *testing.T) {
	eachPeer(t, func(t *testing.T, r *rig) {
		r.begin()
		r.put("INBOX", "one@x")
		r.expect("messageNew INBOX one@x new")
		r.down()
		st, err := r.st.State(t.Context(), r.id)
		r.ok(err)
		folders, version, err := r.st.Folders(t.Context(), r.id)
		r.ok(err)
		// The folder list vanishes as a partial loss of Redis would have it.
		lease, err := r.st.Acquire(t.Context(), r.id, "vandal", time.Second)
		r.ok(err)
		change := store.Change{List: &store.ListChange{Version: version}}
		for _, f := range folders {
			change.List.Drop = append(change.List.Drop, f.Num)
		}
		_, err = r.st.Commit(t.Context(), lease, change)
		r.ok(err)
		r.ok(r.st.Release(t.Context(), lease))
		r.up()
		r.expect("accountStateLost missing", "authenticationSuccess", "accountInitialized stateLost")
		now, err := r.st.State(t.Context(), r.id)
		r.ok(err)
		if now.Epoch == st.Epoch {
			t.Error("the epoch stayed")
		}
		r.put("INBOX", "two@x")
		r.expect("messageNew INBOX two@x new")
		r.check()
	})
}
