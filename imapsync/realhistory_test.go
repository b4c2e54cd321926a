package imapsync_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/imapsync"
	"github.com/postrider/postrider/imapsync/imaptest"
	"github.com/postrider/postrider/store"
)

// What other clients do to mailboxes on real servers, with the engine and the server
// restarted and connections cut in between: nothing is said that is not so, and when all is
// quiet the events folded up are the server's folders, and so is the state. POSTRIDER_MODEL
// says how much happens on each server; -rapid.seed has the same happen again. On the model
// of a server, with its lies: TestOracle.
func TestEngine_history_on_real_servers(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("POSTRIDER_MODEL"))
	if err != nil {
		n = 20
	}
	seed, err := strconv.ParseUint(flag.Lookup("rapid.seed").Value.String(), 10, 64)
	if err != nil || seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	eachReal(t, func(t *testing.T, srv peer, r *rig) {
		t.Logf("%d deeds, -rapid.seed=%d", n, seed)
		s := newStranger(r, srv, rand.New(rand.NewPCG(seed, 1)))
		for done := 0; done < n; {
			s.mass = s.rnd.IntN(12) == 0
			round := min(40+s.rnd.IntN(20), n-done)
			for range round {
				s.deed()
			}
			s.settle()
			done += round
			t.Logf("%d deeds: %s", done, s.ledger.Summary())
		}
	})
}

// realDeeds are all kinds there are, the frequent ones often.
var realDeeds = slices.Concat(
	slices.Repeat([]string{"append"}, 10), slices.Repeat([]string{"flag"}, 5), slices.Repeat([]string{"unflag"}, 2),
	slices.Repeat([]string{"expunge"}, 4), slices.Repeat([]string{"move"}, 4), slices.Repeat([]string{"copy"}, 2),
	[]string{
		"append old", "append again", "append without id", "append many", "flag all", "expunge some", "expunge all", "empty and fill", "move some", "copy all",
		"create", "create", "delete", "delete and create", "rename", "rename and create", "new uidvalidity", "forget", "cut", "server restart", "restart", "restart", "away", "away",
	},
)

// stranger is another client of a mailbox on a real server, whose deeds an engine watches.
type stranger struct {
	*rig
	srv    peer
	rnd    *rand.Rand
	ledger *imapsync.Ledger
	n      int
	mass   bool            // so much may go in this round that the engine looks again after half a minute
	lost   bool            // the engine's connection, since the last settling
	moved  map[string]bool // folders whose UIDs mean something else than at the last settling
	anew   map[string]int  // how often a folder has been another one under the same name

	mu    sync.Mutex
	conns []net.Conn
}

func newStranger(r *rig, srv peer, rnd *rand.Rand) *stranger {
	s := &stranger{rig: r, srv: srv, rnd: rnd, ledger: imapsync.NewLedger(nil), moved: map[string]bool{}, anew: map[string]int{}}
	r.dialer = imapsync.NewDialer(imapsync.DialerOptions{AllowPlaintext: true, Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		s.mu.Lock()
		s.conns = append(s.conns, c)
		s.mu.Unlock()
		return c, err
	}})
	if rnd.IntN(2) == 0 {
		_, err := r.st.UpdateSettings(r.t.Context(), map[string]json.RawMessage{"notifyMoves": json.RawMessage("true")})
		r.ok(err)
	}
	r.begin()
	r.last = 0
	return s
}

// resetsKnown is how often a folder may be another one under its name: after five times in
// a day the engine calls it stalled.
const resetsKnown = 4

// deed does something, lets some time go by, and holds what was said against what is there.
func (s *stranger) deed() {
	truth := s.look()
	names := slices.Sorted(maps.Keys(truth))
	pick := func() string {
		// INBOX and one other see most of what happens.
		return []string{"INBOX", "INBOX", "Archive", names[s.rnd.IntN(len(names))]}[s.rnd.IntN(4)]
	}
	folder, to := pick(), pick()
	do := realDeeds[s.rnd.IntN(len(realDeeds))]
	own := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return len(name) < 2 || name[0] != 'F' })
	if slices.Contains([]string{"delete", "delete and create", "rename", "rename and create"}, do) {
		if len(own) == 0 {
			do = "create"
		} else {
			folder = own[s.rnd.IntN(len(own))]
		}
	}
	uids := slices.Sorted(maps.Keys(truth[folder].Messages))
	from, some := 0, uids
	if len(uids) > 0 {
		from = s.rnd.IntN(len(uids))
		some = uids[from:min(from+1+s.rnd.IntN(10), len(uids))]
	}
	if !s.mass && len(uids) > 15 && slices.Contains([]string{"expunge all", "empty and fill", "append many", "copy all"}, do) {
		do = "expunge some"
	}
	s.t.Logf("%s %s %s (%d messages) %v to %s", time.Now().Format("15:04:05.000"), do, folder, len(uids), some, to)
	if len(some) > 0 || !slices.Contains([]string{"flag", "flag all", "unflag", "expunge", "expunge some", "expunge all", "move", "move some", "copy", "copy all"}, do) {
		s.act(do, folder, to, names, uids, some)
	}
	<-time.After([]time.Duration{0, 0, 5, 20, 60, 150}[s.rnd.IntN(6)] * time.Millisecond)
}

func (s *stranger) act(do, folder, to string, names []string, uids, some []uint32) {
	ctx := s.t.Context()
	flags := []string{`\Seen`, `\Flagged`, `\Answered`, "$later", "work"}
	switch do {
	case "append":
		s.add(folder, flags[:s.rnd.IntN(3)]...)
	case "append old":
		s.n++
		s.append(folder, imaptest.Message(fmt.Sprintf("old%d@x", s.n), fmt.Sprintf("old%d@x", s.n)), time.Now().Add(-72*time.Hour))
	case "append again": // the same message once more
		id := fmt.Sprintf("m%d@x", s.rnd.IntN(s.n+1))
		s.append(folder, imaptest.Message(id, id), time.Now())
	case "append without id":
		s.n++
		s.append(folder, fmt.Appendf(nil, "From: a@example.com\r\nSubject: n%d@x\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\n\r\nHello %d\r\n", s.n, s.n), time.Now())
	case "append many":
		for range 12 {
			s.add(folder)
		}
	case "flag":
		s.ok(s.box.AddFlags(ctx, folder, some[:1], flags[s.rnd.IntN(len(flags))]))
	case "flag all":
		s.ok(s.box.AddFlags(ctx, folder, uids, flags[s.rnd.IntN(len(flags))]))
	case "unflag":
		s.ok(s.box.RemoveFlags(ctx, folder, some[:1], flags...))
	case "expunge":
		s.ok(s.box.Expunge(ctx, folder, some[0]))
	case "expunge some":
		s.ok(s.box.Expunge(ctx, folder, some...))
	case "expunge all":
		s.ok(s.box.Expunge(ctx, folder, uids...))
	case "empty and fill": // as many as before, and not one of them
		if len(uids) > 0 {
			s.ok(s.box.Expunge(ctx, folder, uids...))
		}
		for range uids {
			s.add(folder)
		}
	case "move", "move some":
		if do == "move" {
			some = some[:1]
		}
		if to != folder {
			s.ok(s.box.Move(ctx, folder, to, some...))
		}
	case "copy":
		s.ok(s.box.Copy(ctx, folder, to, some[0]))
	case "copy all":
		if len(uids) < 50 {
			s.ok(s.box.Copy(ctx, folder, to, uids...))
		}
	case "create":
		if len(names) < 12 {
			s.ok(s.box.CreateFolder(ctx, s.name()))
		}
	case "delete":
		s.moved[folder] = true
		s.ok(s.box.DeleteFolder(ctx, folder))
	case "delete and create":
		if s.another(folder) {
			s.ok(s.box.DeleteFolder(ctx, folder))
			s.ok(s.box.CreateFolder(ctx, folder))
		}
	case "rename", "rename and create":
		if do != "rename" && !s.another(folder) {
			return
		}
		name := s.name()
		s.moved[folder], s.moved[name] = true, true
		s.ok(s.box.RenameFolder(ctx, folder, name))
		s.anew[name] = s.anew[folder]
		if do != "rename" {
			s.ok(s.box.CreateFolder(ctx, folder))
		}
	case "new uidvalidity": // its files are changed, which nobody may have open
		if s.another(folder) {
			s.down()
			s.ok(s.box.ResetUIDValidity(ctx, folder))
			s.up()
		}
	case "forget": // when what went; see Cyrus.Forget
		if c, ok := s.srv.(*imaptest.Cyrus); ok {
			s.ok(c.Forget())
		}
	case "cut":
		s.cut()
	case "server restart":
		s.srv.Stop()
		s.srv.Start()
		s.box.(interface{ Disconnect() }).Disconnect()
		s.lost = true
	case "restart":
		s.down()
		s.up()
	case "away":
		s.down()
		for range 3 {
			s.deed()
		}
		if s.stop == nil {
			s.up()
		}
	}
}

// another has a folder be another one under the same name, if that is not too often.
func (s *stranger) another(folder string) bool {
	if s.anew[folder] == resetsKnown {
		return false
	}
	s.anew[folder]++
	s.moved[folder] = true
	if _, ok := s.srv.(*imaptest.Courier); ok {
		<-time.After(1100 * time.Millisecond) // its UIDVALIDITY are seconds
	}
	return true
}

// name is one that no folder has had.
func (s *stranger) name() string {
	s.n++
	return fmt.Sprintf("F%d", s.n)
}

// add appends a message that nobody has seen.
func (s *stranger) add(folder string, flags ...string) {
	s.n++
	s.put(folder, fmt.Sprintf("m%d@x", s.n), flags...)
}

func (s *stranger) append(folder string, raw []byte, date time.Time) {
	_, err := s.box.Append(s.t.Context(), folder, raw, nil, date)
	s.ok(err)
}

// cut ends the engine's connections.
func (s *stranger) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		if c != nil {
			_ = c.Close()
		}
	}
	s.conns, s.lost = nil, true
}

// look takes what was said since and holds it against what is there now, which it returns:
// a message of which it was said that it is gone must not be there, and one that was
// announced must have been.
func (s *stranger) look() map[string]imaptest.Folder {
	s.t.Helper()
	said := s.journal(s.last)
	truth, err := s.box.Truth(s.t.Context())
	s.ok(err)
	for _, e := range said {
		s.last = e.Seq
		s.ok(s.ledger.Take(e))
		path := imaptest.Common(s.box, e.Path)
		folder, ok := truth[path]
		if s.moved[path] || !ok && e.Type != events.MailboxDeletedType {
			continue
		}
		var p struct{ UID uint32 }
		s.ok(json.Unmarshal(e.Data.(events.Raw), &p))
		_, there := folder.Messages[p.UID]
		switch {
		case e.Type == events.MailboxDeletedType && ok, e.Type == events.MessageDeletedType && there:
			s.t.Fatalf("seq %d: %s: said to be gone, and is there", e.Seq, s.line(e))
		case e.Type == events.MessageNewType && folder.UIDNext > 0 && p.UID >= folder.UIDNext:
			s.t.Fatalf("seq %d: %s: UID %d never was there", e.Seq, s.line(e), p.UID)
		}
	}
	return truth
}

// settle lets all be quiet, and compares. A connection that was lost again and again would
// be opened after minutes, had the engine not begun anew.
func (s *stranger) settle() {
	ctx := s.t.Context()
	s.t.Logf("%s settle", time.Now().Format("15:04:05.000"))
	if s.lost {
		s.down()
		s.up()
	}
	if _, ok := s.srv.(*imaptest.Courier); ok {
		for name := range s.look() {
			s.add(name) // without MODSEQ flags are seen when the folder is opened
		}
	}
	truth, subjects := map[string]imaptest.Folder{}, map[string]map[uint32]string{}
	for name, f := range s.look() {
		native := imaptest.Native(s.box, name)
		truth[native] = f
		var err error
		subjects[native], err = s.box.(interface {
			Subjects(ctx context.Context, folder string) (map[uint32]string, error)
		}).Subjects(ctx, name)
		s.ok(err)
	}
	var err error
	if !poll(90*time.Second, func() bool { // what so many lost is looked at again after half a minute
		var held []store.Gone
		if held, err = s.st.Gones(ctx, s.id); err != nil || len(held) > 0 {
			return false // of them is not told yet
		}
		s.look()
		err = s.ledger.Agree(ctx, s.st, s.id, truth, subjects)
		return err == nil
	}) {
		s.t.Fatalf("settled: %v; %s", err, s.ledger.Summary())
	}
	clear(s.moved)
	s.lost = false
}
