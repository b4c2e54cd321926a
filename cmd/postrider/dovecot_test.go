package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/imapsync/imaptest"
)

// watched is the program watching one Dovecot user, with a receiver for its events.
type watched struct {
	*served
	t    *testing.T
	id   string
	hook *receiver
	dov  *imaptest.Dovecot
	user *imaptest.DovecotUser
	told int // events that expect has taken
}

func watchDovecot(t *testing.T, id string) *watched {
	t.Helper()
	w := &watched{t: t, id: id, hook: newReceiver(t), dov: imaptest.StartDovecot(t)}
	w.user = w.dov.User(id, "right")
	w.served = startServe(t, loopbackEnv("POSTRIDER_SYNC_PROBE_INTERVAL=1s"))
	w.register(id, w.user.Server(), w.hook.URL)
	w.awaitEvent(id, "accountInitialized", 30*time.Second)
	w.told = len(w.journal(id))
	return w
}

// line puts the facts of an event on a line.
func line(e journalled) string {
	var d struct {
		UID        uint32 `json:"uid"`
		Origin     string `json:"origin"`
		MessageID  string `json:"messageId"`
		Class      string `json:"class"`
		Reason     string `json:"reason"`
		Messages   int    `json:"messages"`
		SeemsNew   bool   `json:"seemsLikeNew"`
		Incomplete []string
		Related    struct{ Event, Path string }
		Changes    struct {
			Flags struct{ Added, Deleted []string }
		}
	}
	_ = json.Unmarshal(e.Data, &d) // what is not there stays empty
	parts := []string{e.Event, e.Path}
	switch e.Event {
	case "messageNew":
		parts = append(parts, fmt.Sprint(d.UID), d.MessageID, d.Origin, fmt.Sprint(d.SeemsNew))
	case "messageDeleted":
		parts = append(parts, fmt.Sprint(d.UID))
	case "messageUpdated":
		parts = append(parts, fmt.Sprint(d.UID, " +", d.Changes.Flags.Added, " -", d.Changes.Flags.Deleted))
	case "connectError", "authenticationError":
		parts = append(parts, d.Class)
	case "mailboxReset":
		parts = append(parts, d.Reason, fmt.Sprint(d.Messages))
	}
	if d.Related.Event != "" {
		parts = append(parts, "~"+d.Related.Event+" "+d.Related.Path)
	}
	if len(d.Incomplete) > 0 {
		parts = append(parts, fmt.Sprint("incomplete ", d.Incomplete))
	}
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), " ")
}

// expect waits for as many further events as are named and compares them.
func (w *watched) expect(want ...string) {
	w.t.Helper()
	var got []string
	eventually(w.t, 45*time.Second, strings.Join(want, ", "), func() bool {
		list := w.journal(w.id)
		got = nil
		for _, e := range list[w.told:] {
			got = append(got, line(e))
		}
		return len(got) >= len(want)
	})
	w.told += len(got)
	if !slices.Equal(got, want) {
		w.t.Fatalf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func (w *watched) put(folder, id string) uint32 {
	w.t.Helper()
	uid, err := w.user.Append(w.t.Context(), folder, imaptest.Message(id, id), nil, time.Now())
	w.ok(err)
	return uid
}

func (w *watched) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// received demands that the receiver got the journal, in order and once each.
func (w *watched) received() {
	w.t.Helper()
	list := w.journal(w.id)
	eventually(w.t, 30*time.Second, "every webhook", func() bool { return w.hook.distinct() >= len(list) })
	var got, want []string
	for _, a := range w.hook.all() {
		got = append(got, fmt.Sprint(a.event.Seq, " ", a.event.Event, " ", a.event.EventID))
	}
	for _, e := range list {
		want = append(want, fmt.Sprint(e.Seq, " ", e.Event, " ", e.EventID))
	}
	if !slices.Equal(got, want) {
		w.t.Errorf("received\n  %s\njournal\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// Everything another program may do to a mailbox, on a real server: each gives exactly
// the events that are promised.
func TestDovecot_mailbox(t *testing.T) {
	t.Parallel()
	w := watchDovecot(t, "mailbox")
	ctx := t.Context()

	uid := w.put("INBOX", "one@x")
	w.expect("messageNew INBOX 1 <one@x> new true")
	w.ok(w.user.AddFlags(ctx, "INBOX", []uint32{uid}, `\Seen`, "$work"))
	w.expect(`messageUpdated INBOX 1 +[$work \Seen] -[]`)
	w.ok(w.user.RemoveFlags(ctx, "INBOX", []uint32{uid}, `\Seen`))
	w.expect(`messageUpdated INBOX 1 +[] -[\Seen]`)
	w.ok(w.user.Copy(ctx, "INBOX", "Archive", uid))
	w.expect("messageNew Archive 1 <one@x> existing false")
	w.ok(w.user.Expunge(ctx, "Archive", 1))
	w.expect("messageDeleted Archive 1") // a copy that goes is no move

	two := w.put("INBOX", "two@x")
	w.expect("messageNew INBOX 2 <two@x> new true")
	w.ok(w.user.Move(ctx, "INBOX", "Archive", two))
	w.expect("messageDeleted INBOX 2 ~messageNew Archive", "messageNew Archive 2 <two@x> moved false ~messageDeleted INBOX")

	w.ok(w.user.CreateFolder(ctx, "Größe & Co"))
	w.expect("mailboxNew Größe & Co")
	w.put("Größe & Co", "three@x")
	w.expect("messageNew Größe & Co 1 <three@x> new true")
	w.ok(w.user.RenameFolder(ctx, "Größe & Co", "Kunden"))
	w.expect("mailboxDeleted Größe & Co ~mailboxNew Kunden", "mailboxNew Kunden ~mailboxDeleted Größe & Co")
	w.ok(w.user.DeleteFolder(ctx, "Kunden"))
	w.expect("mailboxDeleted Kunden")

	t.Run("mail that comes while Postrider is down", func(*testing.T) {
		w.ok(w.Stop())
		w.put("INBOX", "four@x")
		w.ok(w.user.Expunge(ctx, "INBOX", uid))
		w.Start()
		w.expect("messageNew INBOX 3 <four@x> new true", "messageDeleted INBOX 1") // which was looked for in the other folders first
	})
	t.Run("a folder gets a new UIDVALIDITY", func(*testing.T) {
		w.ok(w.Stop()) // a running Dovecot session does not survive the operation
		w.ok(w.user.ResetUIDValidity(ctx, "Archive"))
		w.put("Archive", "five@x")
		w.Start()
		w.expect("mailboxReset Archive uidValidityChange 2", "messageNew Archive 3 <five@x> new true")
	})
	w.received()

	var box struct {
		State, Health string
	}
	w.Call("GET", "/v1/account/mailbox", nil, &box)
	if box.State != "connected" || box.Health != "ok" {
		t.Errorf("the account is %+v", box)
	}
}

// A server that restarts, is gone for a minute, or refuses the password: the account
// says so once, and loses nothing.
func TestDovecot_server_goes_away(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes more than a minute")
	}
	w := watchDovecot(t, "away")

	w.dov.Stop()
	w.dov.Start()
	w.user = w.dov.User("away", "right") // the other program's connection was cut too
	w.put("INBOX", "restart@x")
	var got []string
	eventually(t, 60*time.Second, "mail after the restart", func() bool {
		got = nil
		for _, e := range w.journal(w.id)[w.told:] {
			got = append(got, line(e))
		}
		return len(got) > 0 && strings.HasPrefix(got[len(got)-1], "messageNew")
	})
	w.told += len(got)
	// a try may fall into the moment in which nobody listens: then both are said, once
	if want := "messageNew INBOX 1 <restart@x> new true"; got[len(got)-1] != want || len(got) != 1 &&
		!slices.Equal(got[:len(got)-1], []string{"connectError refused", "authenticationSuccess"}) {
		t.Errorf("after a restart: %q", got)
	}

	w.dov.Stop()
	w.expect("connectError refused")
	<-time.After(time.Minute)
	var acct struct {
		State, Health string
		LastError     struct{ Kind, Class, Action string }
	}
	w.Call("GET", "/v1/account/away", nil, &acct)
	if acct.State == "connected" || acct.Health == "ok" || acct.LastError.Kind != "serverDown" || acct.LastError.Action == "" {
		t.Errorf("while it is gone the account is %+v", acct)
	}
	w.dov.Start()
	w.Call("PUT", "/v1/account/away/reconnect", map[string]bool{"reconnect": true}, nil)
	w.user = w.dov.User("away", "right")
	w.put("INBOX", "back@x")
	w.expect("authenticationSuccess", "messageNew INBOX 2 <back@x> new true")

	w.dov.SetPassword("away", "changed")
	w.Call("PUT", "/v1/account/away/reconnect", map[string]bool{"reconnect": true}, nil)
	// the credentials worked today, so the refusal is believed at the second try only
	w.Call("PUT", "/v1/account/away", map[string]any{"imap": map[string]any{"partial": true, "auth": map[string]string{"user": "away", "pass": "other"}}}, nil)
	w.expect("authenticationError credentials")
	w.Call("GET", "/v1/account/away", nil, &acct)
	if acct.State != "authenticationError" || acct.Health != "action-needed" || acct.LastError.Kind != "authDead" {
		t.Errorf("with a wrong password the account is %+v", acct)
	}
	w.Call("PUT", "/v1/account/away", map[string]any{"imap": map[string]any{"partial": true, "auth": map[string]string{"user": "away", "pass": "changed"}}}, nil)
	w.expect("authenticationSuccess")
	w.user = w.dov.User("away", "changed")
	w.put("INBOX", "mended@x")
	w.expect("messageNew INBOX 3 <mended@x> new true")
	w.received()
}
