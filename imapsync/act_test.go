package imapsync_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/imapsync"
	"github.com/postrider/postrider/imapsync/imaptest"
	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/storetest"
)

// told is an event of a message, as far as our own changes show in it.
type told struct {
	ID, Origin, Cause string
	SeemsLikeNew      bool
	Related           *struct{ Evidence, Confidence string }
}

// heard waits for the next event of a type.
func (r *rig) heard(typ events.Type) told {
	r.t.Helper()
	var d told
	eventually(r.t, 20*time.Second, string(typ), func() bool {
		for _, e := range r.journal(r.last) {
			r.last = e.Seq
			if raw, ok := e.Data.(events.Raw); ok && e.Type == typ {
				r.ok(json.Unmarshal(raw, &d))
				return true
			}
		}
		return false
	})
	return d
}

func appended(id string) imapsync.Appended {
	raw := "From: jo@x\r\nSubject: " + id + "\r\nMessage-ID: <" + id + ">\r\n\r\nhello\r\n"
	return imapsync.Appended{Raw: strings.NewReader(raw), Size: int64(len(raw)), MessageID: "<" + id + ">", Flags: []string{`\Seen`}}
}

// Our own changes on real servers are known as ours; the same by a stranger are not.
func TestActor(t *testing.T) {
	eachReal(t, func(t *testing.T, srv peer, r *rig) {
		ctx := t.Context()
		r.register(time.Time{})
		m := r.up()
		r.expect(firstLines()...)
		a := imapsync.NewActor(imapsync.ActorOptions{Store: r.st, Dialer: r.dialer, Kick: m.Kick})
		defer a.Close()
		archive := func() string { // its path, as this server names it
			list, _, err := r.st.Folders(ctx, r.id)
			r.ok(err)
			i := slices.IndexFunc(list, func(f store.Folder) bool { return imaptest.Common(r.box, f.Path) == "Archive" })
			return list[i].Path
		}()

		at, err := a.Append(ctx, r.id, archive, appended("one@x"))
		r.ok(err)
		e := r.heard(events.MessageNewType)
		if e.Origin != "ownAppend" || e.SeemsLikeNew || at.UID != 0 && e.ID != at.ID() {
			t.Errorf("appended at %+v: %+v", at, e)
		}
		found, err := a.Find(ctx, r.id, archive, "<one@x>")
		r.ok(err)
		if len(found) != 1 || found[0].ID() != e.ID {
			t.Fatalf("found %+v, want %s", found, e.ID)
		}
		if none, err := a.Find(ctx, r.id, archive, "<one@>"); err != nil || len(none) != 0 {
			t.Errorf("a part of the Message-ID finds %v, %v", none, err)
		}

		if _, slow := srv.(*imaptest.Courier); !slow { // which tells of flags when they are compared next
			r.ok(a.AddFlags(ctx, r.id, found[0], `\Answered`, `\Seen`))
			if e := r.heard(events.MessageUpdatedType); e.Cause != "api" || e.ID != found[0].ID() {
				t.Errorf("flagged: %+v", e)
			}
			folder := imaptest.Common(r.box, archive)
			uids := []uint32{found[0].UID}
			r.ok(r.box.RemoveFlags(ctx, folder, uids, `\Answered`))
			r.heard(events.MessageUpdatedType)
			r.ok(r.box.AddFlags(ctx, folder, uids, `\Answered`))
			if e := r.heard(events.MessageUpdatedType); e.Cause != "" {
				t.Errorf("flagged by a stranger: %+v", e)
			}
		}

		moved, err := a.Move(ctx, r.id, found[0], "INBOX")
		r.ok(err)
		if e := r.heard(events.MessageDeletedType); e.Cause != "api" || moved.UID != 0 && (e.Related == nil || e.Related.Evidence != "copyuid" || e.Related.Confidence != "certain") {
			t.Errorf("left: %+v", e)
		}
		e = r.heard(events.MessageNewType)
		if moved.UID != 0 && (e.Origin != "moved" || e.ID != moved.ID() || e.Related == nil || e.Related.Evidence != "copyuid") {
			t.Errorf("came to %+v: %+v", moved, e)
		}
		if list, err := r.st.Intents(ctx, r.id); err != nil || slices.ContainsFunc(list, func(i store.Intent) bool { return !slices.Contains(i.Add, `\Deleted`) }) {
			t.Errorf("intents left: %+v, %v", list, err)
		}

		if err := a.AddFlags(ctx, r.id, found[0], `\Flagged`); !errors.Is(err, imapsync.ErrNoMessage) {
			t.Errorf("flags of a message that is gone: %v", err)
		}
		if _, err := a.Append(ctx, r.id, "no such", appended("two@x")); !errors.Is(err, imapsync.ErrNoFolder) {
			t.Errorf("append to no folder: %v", err)
		}
		r.check()
	})
}

// Of two processes one has the connection; the other asks for it and gets it.
func TestActor_hands_over(t *testing.T) {
	t.Parallel()
	d := imaptest.StartDovecot(t).User("jo", "secret")
	r := newRig(t, storetest.Miniredis(t), d)
	r.begin()
	paced := 0 // connections are opened in turn with those that watch
	one := imapsync.NewActor(imapsync.ActorOptions{Store: r.st, Dialer: r.dialer, Pace: func(context.Context, string) (func(), error) {
		paced += 10
		return func() { paced -= 9 }, nil
	}})
	two := imapsync.NewActor(imapsync.ActorOptions{Store: r.st, Dialer: r.dialer})
	defer two.Close()
	for _, a := range []*imapsync.Actor{one, two, one} {
		began := time.Now()
		if _, err := a.Find(t.Context(), r.id, "INBOX", "<none@x>"); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(began); d > 8*time.Second {
			t.Errorf("it took %v", d)
		}
	}
	one.Close()
	if _, err := one.Find(t.Context(), r.id, "INBOX", "<none@x>"); err == nil {
		t.Error("a closed actor acts")
	}
	if _, err := two.Find(t.Context(), r.id, "INBOX", "<none@x>"); err != nil {
		t.Errorf("behind a closed one: %v", err)
	}
	if paced != 2 {
		t.Errorf("paced %d, want 2 turns that were given back", paced)
	}
}
