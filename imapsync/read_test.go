package imapsync_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/imapsync"
	"github.com/postrider/postrider/imapsync/imaptest"
	"github.com/postrider/postrider/smtpsend/compose"
	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/storetest"
)

// attached is an attachment as an original has it.
func attached(name, kind, content string) compose.Attachment {
	return compose.Attachment{
		Filename: name, ContentType: kind, Size: int64(len(content)),
		Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil },
	}
}

// What is answered is read as it was sent, and stays unread.
func TestActor_Original(t *testing.T) {
	for name, start := range map[string]func() imaptest.Mailbox{
		"dovecot": func() imaptest.Mailbox { return imaptest.StartDovecot(t).User("jo", "secret") },
		"model":   func() imaptest.Mailbox { return imaptest.StartModel(t, imaptest.T1()).User("jo", "secret") },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, storetest.Miniredis(t), start())
			r.begin()
			ctx := t.Context()
			random := make([]byte, 1_500_001) // more than two pieces
			_, _ = rand.NewChaCha8([32]byte{}).Read(random)
			inner := "From: a@b\r\nSubject: inner\r\n\r\n.\r\nbody\r\n"
			logo := attached("logo.png", "image/png", "PNG")
			logo.Inline, logo.CID = true, "logo@x"
			text, html := "Grüße\nzwei\n", `<p>Grüße <img src="cid:logo@x">`
			m := compose.Message{
				From: compose.Address{Name: "Bob", Address: "bob@example.net"}, To: []compose.Address{{Address: "ann@example.org"}}, Subject: "Grüße",
				Text: &text, HTML: &html, Attachments: []compose.Attachment{attached("résumé 日本.bin", "", string(random)), logo, attached("m.eml", "", inner), attached("leer.txt", "text/plain; charset=iso-8859-1", "")},
			}
			c, err := compose.Compose(m, compose.Options{})
			r.ok(err)
			var raw bytes.Buffer
			_, err = c.WriteTo(&raw)
			r.ok(err)
			uid, err := r.box.Append(ctx, "INBOX", raw.Bytes(), nil, time.Now())
			r.ok(err)
			var told struct {
				ID          string
				Attachments []struct{ ID, Filename string }
			}
			eventually(t, 20*time.Second, "the message is told of", func() bool {
				for _, e := range r.journal(r.last) {
					r.last = e.Seq
					if raw, ok := e.Data.(events.Raw); ok && e.Type == events.MessageNewType {
						r.ok(json.Unmarshal(raw, &told))
						return true
					}
				}
				return false
			})
			r.down()

			a := imapsync.NewActor(imapsync.ActorOptions{Store: r.st, Dialer: r.dialer})
			defer a.Close()
			o, err := a.Original(ctx, r.id, told.ID)
			r.ok(err)
			if o.Place.ID() != told.ID || o.Place.UIDValidity == 0 || o.Header.First("message-id") != c.MessageID || o.Text != text || o.HTML != html || o.TextCut {
				t.Errorf("read %+v", o)
			}
			want := []string{"PNG", string(random), inner, ""} // as they stand in the tree
			names := []string{"logo.png", "résumé 日本.bin", "m.eml", "leer.txt"}
			kinds := []string{"image/png", "application/octet-stream", "message/rfc822", "text/plain; charset=iso-8859-1"}
			if len(o.Attachments) != len(want) || len(told.Attachments) != len(want) {
				t.Fatalf("%d attachments, %d told", len(o.Attachments), len(told.Attachments))
			}
			for i, at := range o.Attachments {
				if at.Filename != names[i] || at.ContentType != kinds[i] || at.Inline != (i == 0) || at.ID != told.Attachments[i].ID || i == 0 && at.ContentID != "<logo@x>" {
					t.Errorf("attachment %d: %+v, told %+v", i, at, told.Attachments[i])
				}
				one, err := a.Attached(ctx, r.id, told.Attachments[i].ID)
				r.ok(err)
				for _, at := range []*imapsync.Attached{&at, one, one} { // and again
					got, err := io.ReadAll(at.Open(ctx))
					if err != nil || string(got) != want[i] {
						t.Errorf("attachment %d: %d bytes, %v, want %d", i, len(got), err, len(want[i]))
					}
				}
			}
			if truth, err := r.box.Truth(ctx); err != nil || slices.Contains(truth["INBOX"].Messages[uid], `\Seen`) {
				t.Errorf("%v, flags %q", err, truth["INBOX"].Messages[uid])
			}

			if at, err := a.Place(ctx, r.id, told.ID); err != nil || at != o.Place {
				t.Errorf("it is at %+v, %v, read at %+v", at, err, o.Place)
			}
			r.ok(a.AddFlags(ctx, r.id, o.Place, `\Answered`))
			if truth, err := r.box.Truth(ctx); err != nil || !slices.Equal(truth["INBOX"].Messages[uid], []string{`\Answered`}) {
				t.Errorf("%v, flags %q", err, truth["INBOX"].Messages[uid])
			}
			for _, id := range []string{"", told.Attachments[0].ID, imapsync.Place{Folder: 4711, UID: 1}.ID()} {
				if _, err := a.Place(ctx, r.id, id); !errors.Is(err, imapsync.ErrNoMessage) {
					t.Errorf("%q is at a place: %v", id, err)
				}
			}

			gone := imapsync.Place{Folder: o.Place.Folder, UID: o.Place.UID + 100}.ID()
			nowhere := imapsync.Place{Folder: 4711, UID: 1}.ID()
			for _, id := range []string{"", "x", "!", gone, nowhere, told.Attachments[0].ID} {
				if _, err := a.Original(ctx, r.id, id); !errors.Is(err, imapsync.ErrNoMessage) {
					t.Errorf("message %q: %v", id, err)
				}
			}
			for _, id := range []string{"", told.ID, told.Attachments[0].ID + "x"} {
				if _, err := a.Attached(ctx, r.id, id); !errors.Is(err, imapsync.ErrNoMessage) {
					t.Errorf("attachment %q: %v", id, err)
				}
			}
			if _, err := a.Original(ctx, "nobody", told.ID); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("of no account: %v", err)
			}
			// Another folder of the name has messages of the same numbers.
			r.ok(r.box.ResetUIDValidity(ctx, "INBOX"))
			if _, err := io.ReadAll(o.Attachments[1].Open(ctx)); name == "model" && !errors.Is(err, imapsync.ErrNoMessage) {
				t.Errorf("attachment of a folder that was reset: %v", err) // others break off the connection
			}
			b := imapsync.NewActor(imapsync.ActorOptions{Store: r.st, Dialer: r.dialer})
			defer b.Close()
			a.Close()
			if _, err := b.Original(ctx, r.id, told.ID); !errors.Is(err, imapsync.ErrNoMessage) {
				t.Errorf("of a folder that was reset: %v", err)
			}
		})
	}
}

// A connection that ends costs a try; a server that cannot tell of structures is not
// asked for them.
func TestActor_Original_tries_again(t *testing.T) {
	m := imaptest.StartModel(t, imaptest.T1())
	r := newRig(t, storetest.Miniredis(t), m.User("jo", "secret"))
	r.begin()
	ctx := t.Context()
	raw := "Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhello\r\n--b\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nP=4EG\r\n--b--\r\n"
	uid, err := r.box.Append(ctx, "INBOX", []byte(raw), nil, time.Now())
	r.ok(err)
	r.heard(events.MessageNewType)
	r.down()
	list, _, err := r.st.Folders(ctx, r.id)
	r.ok(err)
	i := slices.IndexFunc(list, func(f store.Folder) bool { return f.Path == "INBOX" })
	id := imapsync.Place{Folder: list[i].Num, UID: uid}.ID()

	huge := "From: a@b\r\n" + strings.Repeat("To: bob@example.net\r\n", 15_000) + "\r\nhello\r\n"
	uid, err = r.box.Append(ctx, "INBOX", []byte(huge), nil, time.Now())
	r.ok(err)
	a := imapsync.NewActor(imapsync.ActorOptions{Store: r.st, Dialer: r.dialer})
	defer a.Close()
	o, err := a.Original(ctx, r.id, imapsync.Place{Folder: list[i].Num, UID: uid}.ID())
	if e, ok := errors.AsType[*imapsync.Error](err); !ok || e.Kind != imapsync.ErrLimit {
		t.Errorf("of a header without end: %+v, %v", o, err)
	}

	for name, tt := range map[string]struct {
		drop, refuse string // what fails: the n-th time only, and always
		times        int64
		fails        bool
	}{
		"once":                     {drop: "BODYSTRUCTURE", times: 1},
		"once in the text":         {drop: "[1]", times: 1},
		"once in the attachment":   {drop: "[2]", times: 1},
		"twice":                    {drop: "BODYSTRUCTURE", times: 2, fails: true},
		"no structure":             {refuse: "BODYSTRUCTURE"},
		"no structure and no body": {refuse: "BODY", fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			a := imapsync.NewActor(imapsync.ActorOptions{Store: r.st, Dialer: r.dialer})
			defer a.Close()
			var dropped atomic.Int64
			m.Hook(func(c imaptest.ModelCommand) imaptest.Act {
				switch {
				case c.Name != "UID FETCH":
				case tt.drop != "" && strings.Contains(c.Args, tt.drop) && dropped.Add(1) <= tt.times:
					return imaptest.Act{Instead: true, Drop: true}
				case tt.refuse != "" && strings.Contains(c.Args, tt.refuse):
					return imaptest.Act{Instead: true, Send: "{tag} NO cannot\r\n"}
				}
				return imaptest.Act{}
			})
			defer m.Hook(nil)
			o, err := a.Original(ctx, r.id, id)
			if tt.fails {
				if err == nil || errors.Is(err, imapsync.ErrNoMessage) {
					t.Errorf("read %+v, %v", o, err)
				}
				return
			}
			r.ok(err)
			got, err := io.ReadAll(o.Attachments[0].Open(ctx))
			if err != nil || string(got) != "PNG" || o.Text != "hello" || o.Header.First("subject") != "x" {
				t.Errorf("read %+v, %q, %v", o, got, err)
			}
		})
	}
}

// A flag that a folder does not keep is not asked for.
func TestActor_AddFlags_leaves_out(t *testing.T) {
	m := imaptest.StartModel(t, imaptest.T1())
	r := newRig(t, storetest.Miniredis(t), m.User("jo", "secret"))
	r.begin()
	uid := r.put("INBOX", "one@x")
	r.heard(events.MessageNewType)
	r.down()
	truth, err := r.box.Truth(t.Context())
	r.ok(err)
	validity := truth["INBOX"].UIDValidity
	var stores atomic.Int64
	m.Hook(func(c imaptest.ModelCommand) imaptest.Act {
		switch c.Name {
		case "SELECT":
			return imaptest.Act{Instead: true, Send: fmt.Sprintf("* 1 EXISTS\r\n* OK [UIDVALIDITY %d] x\r\n* OK [PERMANENTFLAGS (\\Seen $Junk)] x\r\n{tag} OK [READ-WRITE] done\r\n", validity)}
		case "UID FETCH":
			return imaptest.Act{Instead: true, Send: fmt.Sprintf("* 1 FETCH (UID %d FLAGS ())\r\n{tag} OK done\r\n", uid)}
		case "UID STORE":
			stores.Add(1)
			return imaptest.Act{Instead: true, Send: "{tag} OK done\r\n"}
		}
		return imaptest.Act{}
	})
	a := imapsync.NewActor(imapsync.ActorOptions{Store: r.st, Dialer: r.dialer})
	defer a.Close()
	list, _, err := r.st.Folders(t.Context(), r.id)
	r.ok(err)
	i := slices.IndexFunc(list, func(f store.Folder) bool { return f.Path == "INBOX" })
	p := imapsync.Place{Folder: list[i].Num, UIDValidity: validity, UID: uid}
	for n, flags := range [][]string{{"$Forwarded"}, {"$Forwarded", `\Answered`}, {"$junk", "$Forwarded"}} {
		r.ok(a.AddFlags(t.Context(), r.id, p, flags...))
		if got := stores.Load(); got != int64(n/2) {
			t.Errorf("%q: %d commands", flags, got)
		}
	}
}
