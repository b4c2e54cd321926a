package wire_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/imapsync/imaptest"
	"github.com/postrider/postrider/imapsync/wire"
)

// eachServer runs a part of the suite on every server, each time with an empty mailbox.
func eachServer(t *testing.T, f func(*testing.T, imaptest.Mailbox)) {
	t.Run("memory", func(t *testing.T) { f(t, imaptest.StartMemory(t)) })
	t.Run("dovecot", func(t *testing.T) { f(t, imaptest.StartDovecot(t).User("jo", "secret")) })
	t.Run("cyrus", func(t *testing.T) { f(t, imaptest.StartCyrus(t).User("jo", "secret")) })
	for _, d := range []imaptest.Dialect{imaptest.T1(), imaptest.T3()} {
		t.Run("model_"+d.Name, func(t *testing.T) { f(t, imaptest.StartModel(t, d).User("jo", "secret")) })
	}
	t.Run("courier", func(t *testing.T) { f(t, imaptest.StartCourier(t).User("jo", "secret")) })
}

func options(box imaptest.Mailbox) wire.Options {
	srv := box.Server()
	o := wire.Options{Host: srv.Host, Port: srv.Port, Security: wire.Plaintext, Auth: wire.Credentials{User: srv.User, Pass: srv.Pass}, Version: "test"}
	if srv.CA != "" {
		o.Security = wire.STARTTLS
		o.TLS = &tls.Config{RootCAs: x509.NewCertPool()}
		o.TLS.RootCAs.AppendCertsFromPEM([]byte(srv.CA))
	}
	return o
}

func open(t *testing.T, box imaptest.Mailbox) *wire.Conn {
	t.Helper()
	o := options(box)
	o.Trace = func(d wire.Direction, line string) {
		if strings.Contains(line, srvPass(box)) {
			t.Errorf("trace tells the password: %q", line)
		}
	}
	c, err := wire.Dial(t.Context(), o)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	t.Cleanup(c.Close)
	return c
}

func srvPass(box imaptest.Mailbox) string { return box.Server().Pass }

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

func set(from, to uint32) imap.UIDSet {
	return imap.UIDSet{{Start: imap.UID(from), Stop: imap.UID(to)}}
}

func fill(t *testing.T, box imaptest.Mailbox, n int) {
	t.Helper()
	for i := range n {
		id := fmt.Sprintf("m%d@example.com", i+1)
		_, err := box.Append(t.Context(), "INBOX", imaptest.Message(id, "Grüße "+id), []string{`\Seen`, "work"}, imaptest.Date)
		ok(t, err)
	}
}

func TestConformance(t *testing.T) {
	eachServer(t, func(t *testing.T, box imaptest.Mailbox) {
		ctx := t.Context()
		fill(t, box, 5)
		ok(t, box.Expunge(ctx, "INBOX", 2))
		ok(t, box.CreateFolder(ctx, "Projekte/Grün & Blau"))
		c := open(t, box)
		name := imaptest.Native(box, "Projekte/Grün & Blau")
		umlaut := wire.EncodeName(name)
		numbers := []wire.StatusItem{wire.StatusMessages, wire.StatusUIDNext, wire.StatusUIDValidity}
		check := func(t *testing.T, listed []wire.Listed, res wire.Result) {
			t.Helper()
			i := slices.IndexFunc(listed, func(l wire.Listed) bool { return l.Name() == name })
			if i < 0 || listed[i].Raw != umlaut || !strings.Contains(name, "Projekte"+listed[i].Delimiter) || res.Damaged != 0 {
				t.Errorf("listed = %+v", listed)
			}
		}

		t.Run("list", func(t *testing.T) {
			listed, _, res, err := c.List(ctx, "", "*", wire.ListOptions{})
			ok(t, err)
			check(t, listed, res)
		})
		t.Run("list_status", func(t *testing.T) {
			needs(t, c, imap.CapListStatus)
			listed, statuses, res, err := c.List(ctx, "", "*", wire.ListOptions{SpecialUse: c.Caps().Has(imap.CapSpecialUse), Status: numbers})
			ok(t, err)
			check(t, listed, res)
			j := slices.IndexFunc(statuses, func(s wire.Status) bool { return s.Raw == "INBOX" })
			if j < 0 || !statuses[j].HasMessages || statuses[j].Messages != 4 || statuses[j].UIDNext != 6 || statuses[j].UIDValidity == 0 {
				t.Errorf("statuses = %+v", statuses)
			}
		})
		t.Run("status_select", func(t *testing.T) {
			st := must[wire.Status](t)(c.Status(ctx, umlaut, wire.StatusMessages))
			if !st.HasMessages || st.Messages != 0 {
				t.Errorf("status = %+v", st)
			}
			st = must[wire.Status](t)(c.Status(ctx, "INBOX", numbers...))
			if !st.HasMessages || st.Messages != 4 || st.UIDNext != 6 || st.UIDValidity == 0 {
				t.Errorf("status = %+v", st)
			}
			if _, err := c.Examine(ctx, imaptest.Native(box, "no such"), wire.SelectOptions{}); !wire.Usable(err) || err == nil || c.Exists() != 0 {
				t.Errorf("examine of nothing: %v", err)
			}
		})
		t.Run("fetch", func(t *testing.T) {
			f := must[wire.Folder](t)(c.Examine(ctx, "INBOX", wire.SelectOptions{}))
			uidNext := uint32(6)
			if _, silent := box.(*imaptest.CourierUser); silent {
				uidNext = 0 // EXAMINE does not tell it
			}
			if f.Exists != 4 || f.UIDNext != uidNext || f.UIDValidity == 0 || !f.ReadOnly {
				t.Errorf("folder = %+v", f)
			}
			header := wire.Headers("SUBJECT", "MESSAGE-ID")
			var got []string
			res, err := c.Fetch(ctx, set(1, 9), []wire.Item{wire.ItemUID, wire.ItemFlags, wire.ItemInternalDate, wire.ItemSize, wire.ItemEnvelope, wire.ItemBodyStructure, header}, wire.FetchOptions{}, func(m *wire.Message) error {
				flags := slices.Sorted(slices.Values(m.Flags))
				got = append(got, fmt.Sprintf("%d %v %v %s %s %s", m.UID, flags, m.InternalDate.Equal(imaptest.Date), m.Envelope.MessageID, m.Structure.MediaType(), m.Envelope.From[0].Addr()))
				if m.Size < 100 || len(m.Damaged) > 0 || m.Section(header) == nil || !strings.Contains(string(m.Section(header).Data), "Subject: Gr") {
					t.Errorf("message = %+v", m)
				}
				return nil
			})
			ok(t, err)
			var want []string
			for _, uid := range []int{1, 3, 4, 5} {
				want = append(want, fmt.Sprintf(`%d [\Seen work] true <m%d@example.com> text/plain alice@example.com`, uid, uid))
			}
			if diff := cmp.Diff(want, got); diff != "" || res.Messages != 4 || res.Damaged != 0 {
				t.Errorf("fetched %+v (-want +got):\n%s", res, diff)
			}
		})
		t.Run("stream", func(t *testing.T) {
			var body strings.Builder
			item := wire.Body("", 0, 0)
			_, err := c.Fetch(ctx, set(3, 3), []wire.Item{wire.ItemUID, item}, wire.FetchOptions{Stream: func(uid imap.UID, it wire.Item, size int64, r io.Reader) error {
				n, err := io.Copy(&body, r)
				if n != size || uid != 3 || it != item {
					t.Errorf("streamed %d of %d bytes of %d, %s", n, size, uid, it)
				}
				return err
			}}, func(*wire.Message) error { return nil })
			ok(t, err)
			if !strings.HasSuffix(body.String(), "Hello m3@example.com\r\n") {
				t.Errorf("body = %q", body.String())
			}
			boom := errors.New("boom")
			_, err = c.Fetch(ctx, set(1, 9), []wire.Item{wire.ItemUID, wire.ItemFlags}, wire.FetchOptions{}, func(*wire.Message) error { return boom })
			if !errors.Is(err, boom) {
				t.Errorf("error of the callback: %v", err)
			}
			ok(t, c.Noop(ctx)) // the rest was read away
		})
		search := func(t *testing.T, extended bool) {
			for _, q := range []struct {
				c    imap.SearchCriteria
				want string
			}{
				{imap.SearchCriteria{}, "1,3:5"},
				{imap.SearchCriteria{UID: []imap.UIDSet{set(2, 4)}}, "3:4"},
				{imap.SearchCriteria{Header: []imap.SearchCriteriaHeaderField{{Key: "Message-ID", Value: "<m4@example.com>"}}}, "4"},
				{imap.SearchCriteria{NotFlag: []imap.Flag{imap.FlagSeen}}, ""},
				{imap.SearchCriteria{Flag: []imap.Flag{"work"}, Since: imaptest.Date.AddDate(0, 0, -1)}, "1,3:5"},
				{imap.SearchCriteria{Or: [][2]imap.SearchCriteria{{{UID: []imap.UIDSet{set(1, 1)}}, {Not: []imap.SearchCriteria{{UID: []imap.UIDSet{set(1, 4)}}}}}}}, "1,5"},
			} {
				got := must[wire.Found](t)(c.Search(ctx, &q.c, extended))
				if got.UIDs.String() != q.want || !got.Complete {
					t.Errorf("search %+v = %s, want %s", q.c, got.UIDs, q.want)
				}
			}
		}
		t.Run("search", func(t *testing.T) { search(t, false) })
		t.Run("search_extended", func(t *testing.T) {
			needs(t, c, imap.CapESearch)
			search(t, true)
		})
		t.Run("write", func(t *testing.T) { conformWrites(t, ctx, c, box) })
		t.Run("raw", func(t *testing.T) {
			var names []string
			_, err := c.Raw(ctx, wire.Cmd{Verb: "LIST", Args: []any{"", wire.Verbatim("*")}}, func(r wire.Response) error {
				if len(r.Tokens) > 2 {
					names = append(names, r.Tokens[2].Text)
				}
				return nil
			})
			if ok(t, err); !slices.Contains(names, "INBOX") {
				t.Errorf("names = %v", names)
			}
		})
		t.Run("refusals", func(t *testing.T) {
			for _, bad := range []imap.UIDSet{nil, {}, {{Start: 3, Stop: 2}}, {{Start: 0, Stop: 0}}} {
				if _, err := c.Fetch(ctx, bad, []wire.Item{wire.ItemUID}, wire.FetchOptions{}, nil); err == nil {
					t.Errorf("set %v was sent", bad)
				}
			}
			for _, name := range []string{"", "a\r\nA9 LOGOUT", "a\x00"} {
				if _, err := c.Examine(ctx, name, wire.SelectOptions{}); err == nil {
					t.Errorf("name %q was sent", name)
				}
			}
			if _, err := c.Store(ctx, set(1, 1), wire.StoreAdd, []imap.Flag{"two words"}); err == nil {
				t.Error("a flag with a space was sent")
			}
			ok(t, c.Noop(ctx))
		})
		t.Run("logout", func(t *testing.T) {
			ok(t, c.Logout(ctx))
			if err := c.Noop(ctx); wire.Usable(err) {
				t.Error("noop after logout")
			}
		})
	})
}

// needs skips a test where the server lacks a capability.
func needs(t *testing.T, c *wire.Conn, capability imap.Cap) {
	t.Helper()
	if !c.Caps().Has(capability) {
		t.Skipf("server has no %s", capability)
	}
}

func conformWrites(t *testing.T, ctx context.Context, c *wire.Conn, box imaptest.Mailbox) {
	raw := imaptest.Message("new@x", "new")
	at := func(folder string) string { return wire.EncodeName(imaptest.Native(box, folder)) }
	name := at("Neu/Ordner ä")
	ok(t, c.Create(ctx, name))
	ok(t, c.Subscribe(ctx, name, true))
	ok(t, c.Subscribe(ctx, name, false))
	data := must[imap.AppendData](t)(c.Append(ctx, name, strings.NewReader(string(raw)), int64(len(raw)), wire.AppendOptions{Flags: []imap.Flag{imap.FlagSeen}, Date: imaptest.Date}))
	if data.UID != 1 || data.UIDValidity == 0 {
		t.Errorf("append data = %+v", data)
	}
	_, err := c.Append(ctx, at("no such"), strings.NewReader("x"), 1, wire.AppendOptions{})
	if e, isE := errors.AsType[*wire.Error](err); !isE || e.Kind != wire.No || e.Code != "TRYCREATE" {
		t.Errorf("append to nothing: %v", err)
	}
	must[wire.Folder](t)(c.Examine(ctx, name, wire.SelectOptions{ReadWrite: true}))
	_, err = c.Store(ctx, set(1, 1), wire.StoreAdd, []imap.Flag{imap.FlagFlagged, "later"})
	ok(t, err)
	for _, to := range []string{"Archive", "Trash"} {
		copied := must[wire.Copied](t)(c.Copy(ctx, set(1, 1), at(to)))
		if !slices.Equal(copied.From, []uint32{1}) || len(copied.To) != 1 || copied.UIDValidity == 0 {
			t.Errorf("copied = %+v", copied)
		}
	}
	t.Run("move", func(t *testing.T) {
		needs(t, c, imap.CapMove)
		moved := must[wire.Copied](t)(c.Move(ctx, set(1, 1), at("Trash")))
		if !slices.Equal(moved.From, []uint32{1}) || len(moved.To) != 1 || c.Exists() != 0 {
			t.Errorf("moved = %+v, exists = %d", moved, c.Exists())
		}
	})
	must[wire.Folder](t)(c.Examine(ctx, at("Trash"), wire.SelectOptions{ReadWrite: true}))
	all := must[wire.Found](t)(c.Search(ctx, &imap.SearchCriteria{}, false)).UIDs
	_, err = c.Store(ctx, all, wire.StoreAdd, []imap.Flag{imap.FlagDeleted})
	ok(t, err)
	ok(t, c.Expunge(ctx, all))
	if c.Exists() != 0 {
		t.Errorf("exists = %d after expunge", c.Exists())
	}
	ok(t, c.Rename(ctx, name, at("Renamed")))
	ok(t, c.Delete(ctx, at("Renamed")))
	truth, err := box.Truth(ctx)
	ok(t, err)
	if _, there := truth["Renamed"]; there || len(truth["Archive"].Messages) != 1 || len(truth["Trash"].Messages) != 0 {
		t.Errorf("truth = %+v", truth)
	}
	for _, flags := range truth["Archive"].Messages {
		if !slices.Contains(flags, `\Flagged`) || !slices.Contains(flags, "later") {
			t.Errorf("flags = %v", flags)
		}
	}
}

func TestIdleHearsChanges(t *testing.T) {
	eachServer(t, func(t *testing.T, box imaptest.Mailbox) {
		ctx := t.Context()
		fill(t, box, 3)
		c := open(t, box)
		must[wire.Folder](t)(c.Examine(ctx, "INBOX", wire.SelectOptions{}))
		idle := func(act func()) wire.End {
			t.Helper()
			type result struct {
				end wire.End
				err error
			}
			done := make(chan result, 1)
			go func() {
				end, err := c.Idle(ctx, 20*time.Second)
				done <- result{end, err}
			}()
			act()
			r := <-done
			ok(t, r.err)
			return r.end
		}
		if end := idle(func() { fill(t, box, 1) }); end != wire.EndChanged || c.Exists() != 4 {
			t.Errorf("idle: %s, exists = %d", end, c.Exists())
		}
		if ch := c.Changes(); !ch.Exists {
			t.Errorf("changes = %+v", ch)
		}
		if end := idle(c.Kick); end != wire.EndKicked {
			t.Errorf("idle: %s", end)
		}
		ok(t, box.Expunge(ctx, "INBOX", 1, 2))
		for deadline := time.Now().Add(10 * time.Second); c.Exists() != 2 && time.Now().Before(deadline); {
			ok(t, c.Noop(ctx))
		}
		if ch := c.Changes(); c.Exists() != 2 || ch.Expunged+int(wire.Count(ch.Vanished)) == 0 {
			t.Errorf("exists = %d, changes = %+v", c.Exists(), ch)
		}
		stopping, cancel := context.WithCancelCause(ctx)
		why := errors.New("stop")
		time.AfterFunc(20*time.Millisecond, func() { cancel(why) })
		if _, err := c.Idle(stopping, time.Minute); !errors.Is(err, why) {
			t.Errorf("cancelled idle: %v", err)
		}
		ok(t, c.Noop(ctx)) // the connection outlives it
	})
}

// What only a server with everything shows.
func TestConformance_of_extensions(t *testing.T) {
	t.Run("dovecot", func(t *testing.T) { conformExtensions(t, imaptest.StartDovecot(t).User("jo", "secret"), "Dovecot") })
	t.Run("cyrus", func(t *testing.T) { conformExtensions(t, imaptest.StartCyrus(t).User("jo", "secret"), "Cyrus IMAPD") })
	t.Run("model", func(t *testing.T) {
		d := imaptest.T1().With("NOTIFY", "COMPRESS=DEFLATE")
		conformExtensions(t, imaptest.StartModel(t, d).User("jo", "secret"), "Model")
	})
}

func conformExtensions(t *testing.T, box imaptest.Mailbox, name string) {
	ctx := t.Context()
	fill(t, box, 20)
	c := open(t, box)
	if !c.Enabled("QRESYNC") || c.ServerID().Name != name || len(c.Namespaces().Personal) == 0 {
		t.Errorf("enabled %v, id %+v, namespaces %+v", c.Enabled("QRESYNC"), c.ServerID(), c.Namespaces())
	}
	f := must[wire.Folder](t)(c.Examine(ctx, "INBOX", wire.SelectOptions{}))
	if f.HighestModSeq == 0 {
		t.Fatalf("folder = %+v", f)
	}
	t.Run("changedsince_vanished", func(t *testing.T) {
		ok(t, box.AddFlags(ctx, "INBOX", []uint32{4, 7}, `\Flagged`))
		ok(t, box.Expunge(ctx, "INBOX", 2, 9, 10))
		f2 := must[wire.Folder](t)(c.Examine(ctx, "INBOX", wire.SelectOptions{}))
		var uids []imap.UID
		res, err := c.Fetch(ctx, set(1, f.UIDNext-1), []wire.Item{wire.ItemUID, wire.ItemFlags}, wire.FetchOptions{ChangedSince: f.HighestModSeq, Vanished: true}, func(m *wire.Message) error {
			if m.ModSeq <= f.HighestModSeq || !slices.Contains(m.Flags, imap.FlagFlagged) {
				t.Errorf("message = %+v", m)
			}
			uids = append(uids, m.UID)
			return nil
		})
		ok(t, err)
		if res.Vanished.String() != "2,9:10" || !slices.Equal(uids, []imap.UID{4, 7}) || f2.Exists != 17 {
			t.Errorf("vanished %s, changed %v, exists %d", res.Vanished, uids, f2.Exists)
		}
	})
	t.Run("notify", func(t *testing.T) {
		needs(t, c, "NOTIFY")
		ok(t, c.Notify(ctx, true))
		ok(t, box.CreateFolder(ctx, "Fresh"))
		_, err := box.Append(ctx, "Fresh", imaptest.Message("n@x", "n"), nil, imaptest.Date)
		ok(t, err)
		heard := false
		for range 20 {
			end, err := c.Idle(ctx, time.Second)
			ok(t, err)
			ch := c.Changes()
			heard = heard || slices.ContainsFunc(ch.Status, func(s wire.Status) bool { return s.Raw == "Fresh" && s.Messages == 1 })
			if heard || end == wire.EndServer {
				break
			}
		}
		if !heard {
			t.Error("the new folder's message was not told")
		}
		ok(t, c.NotifyNone(ctx))
	})
	t.Run("compress", func(t *testing.T) {
		needs(t, c, "COMPRESS=DEFLATE")
		ok(t, c.Compress(ctx))
		found := must[wire.Found](t)(c.Search(ctx, &imap.SearchCriteria{}, true))
		if n := wire.Count(found.UIDs); n != 17 || !found.Complete {
			t.Errorf("found %d, complete %v", n, found.Complete)
		}
		body := "Subject: big\r\n\r\n" + strings.Repeat("x\r\n", 70_000)
		data := must[imap.AppendData](t)(c.Append(ctx, "Sent", strings.NewReader(body), int64(len(body)), wire.AppendOptions{}))
		if data.UID == 0 {
			t.Errorf("append data = %+v", data)
		}
		if _, err := c.Idle(ctx, time.Second); err == nil {
			t.Error("idle on a compressed connection")
		}
		ok(t, c.Noop(ctx))
	})
}
