package imapsync_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/imapsync"
	"github.com/postrider/postrider/imapsync/imaptest"
	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/secret"
	"github.com/postrider/postrider/store/storetest"
)

// rig is an engine over a server and a store, with one account on it.
type rig struct {
	t        testing.TB
	st       *store.Store
	box      imaptest.Mailbox
	id       store.AccountID
	cfg      imapsync.Config
	dialer   *imapsync.Dialer
	profiles *imapsync.Profiles                      // nil: those that come along
	wrap     func(imapsync.Session) imapsync.Session // nil: sessions as they are
	stop     func()
	last     uint64 // seq up to which events were taken
	proc     int
}

func newRig(t testing.TB, st *store.Store, box imaptest.Mailbox) *rig {
	t.Helper()
	r := &rig{
		t: t, st: st, box: box, id: "jo",
		cfg:    imapsync.Config{ProbeInterval: 150 * time.Millisecond, AskInterval: 10 * time.Millisecond, ListInterval: 300 * time.Millisecond, AliveInterval: time.Second},
		dialer: imapsync.NewDialer(imapsync.DialerOptions{AllowPlaintext: true, ClientVersion: "test"}),
	}
	t.Cleanup(func() { r.down() })
	return r
}

// register makes the account; what arrived before counts as old.
func (r *rig) register(notifyFrom time.Time) {
	r.t.Helper()
	srv := r.box.Server()
	eventually(r.t, 10*time.Second, "the server listens", func() bool {
		srv = r.box.Server()
		return srv.Port != 143
	})
	_, err := r.st.CreateAccount(r.t.Context(), store.Account{
		ID: r.id, NotifyFrom: notifyFrom,
		IMAP: &store.Server{Host: srv.Host, Port: srv.Port, User: srv.User, Pass: secret.New(srv.Pass), TLS: store.ServerTLS{CA: srv.CA}, Plaintext: srv.CA == ""},
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// up starts the engine.
func (r *rig) up() *imapsync.Manager {
	r.t.Helper()
	r.proc++
	m := imapsync.NewManager(imapsync.Options{
		Profiles: r.profiles, Store: r.st, Owner: fmt.Sprintf("proc-%d", r.proc), Config: r.cfg,
		Logger: slog.New(slog.NewTextHandler(r.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
		Dial: func(ctx context.Context, a store.Account) (imapsync.Session, error) {
			s, err := r.dialer.Dial(ctx, *a.IMAP)
			if err != nil || r.wrap == nil {
				return s, err
			}
			return r.wrap(s), nil
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := m.Run(ctx); err != nil {
			r.t.Errorf("run: %v", err)
		}
	}()
	r.stop = func() {
		cancel()
		<-done
		r.stop = nil
	}
	return m
}

func (r *rig) down() {
	if r.stop != nil {
		r.stop()
	}
}

// journal reads all events after seq.
func (r *rig) journal(after uint64) []events.Event {
	r.t.Helper()
	var all []events.Event
	for e, err := range r.st.Journal(context.WithoutCancel(r.t.Context()), r.id, after) {
		if err != nil {
			r.t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

// line is an event in a few words.
func (r *rig) line(e events.Event) string {
	var d struct {
		Subject   string
		Origin    string
		Reason    string
		Path      string
		Announced *int
		Messages  *int
		Class     string
		UID       uint32
		Related   *struct{ Path, Evidence string }
		Changes   *struct {
			Flags struct{ Added, Deleted []string }
		}
	}
	raw, _ := e.Data.(events.Raw)
	if err := json.Unmarshal(raw, &d); err != nil {
		return "unreadable: " + err.Error()
	}
	var s strings.Builder
	s.WriteString(string(e.Type))
	if e.Path != "" {
		s.WriteString(" " + imaptest.Common(r.box, e.Path))
	}
	if d.Subject != "" {
		s.WriteString(" " + d.Subject)
	}
	if d.Origin != "" {
		s.WriteString(" " + d.Origin)
	}
	if d.Reason != "" {
		s.WriteString(" " + d.Reason)
	}
	if d.Class != "" {
		s.WriteString(" " + d.Class)
	}
	if d.Changes != nil {
		for _, f := range d.Changes.Flags.Added {
			s.WriteString(" +" + f)
		}
		for _, f := range d.Changes.Flags.Deleted {
			s.WriteString(" -" + f)
		}
	}
	if d.Related != nil {
		s.WriteString(" ~" + imaptest.Common(r.box, d.Related.Path))
	}
	return s.String()
}

// expect waits until as many new events as wanted are in the journal, lets things
// settle, and compares. Events between folders have no promised order: they are sorted.
func (r *rig) expect(want ...string) {
	r.t.Helper()
	poll(20*time.Second, func() bool { return len(r.journal(r.last)) >= len(want) })
	lines := r.settled()
	slices.Sort(lines)
	slices.Sort(want)
	if d := cmp.Diff(want, lines); d != "" {
		r.t.Fatalf("events (-want +got):\n%s", d)
	}
}

// settled takes the events that came since, after the time in which those that must not
// come would have come: with the next probes of the folders.
func (r *rig) settled() []string {
	r.t.Helper()
	<-time.After(2*r.cfg.ProbeInterval + 50*time.Millisecond)
	lines := []string{}
	for _, e := range r.journal(r.last) {
		r.last = e.Seq
		// Another client's expunge is two commands, and the folder may be looked at between.
		if l := r.line(e); !strings.HasPrefix(l, string(events.MessageUpdatedType)) || !strings.HasSuffix(l, ` +\Deleted`) {
			lines = append(lines, l)
		}
	}
	return lines
}

// begin registers the account, starts the engine, and takes the events of the baseline.
func (r *rig) begin() {
	r.t.Helper()
	r.register(time.Time{})
	r.up()
	r.expect(firstLines()...)
}

// poll asks until the answer is yes, or the time is over.
func poll(most time.Duration, ok func() bool) bool {
	deadline := time.After(most)
	for !ok() {
		select {
		case <-deadline:
			return false
		case <-time.After(5 * time.Millisecond):
		}
	}
	return true
}

// eventually is poll that must succeed.
func eventually(t testing.TB, most time.Duration, what string, ok func() bool) {
	t.Helper()
	if !poll(most, ok) {
		t.Fatalf("%s: not within %s", what, most)
	}
}

// initialized waits for accountInitialized and takes all events so far.
func (r *rig) initialized() []events.Event {
	r.t.Helper()
	return r.until(events.AccountInitializedType)
}

// until waits for an event of a type and takes all events so far.
func (r *rig) until(want events.Type) []events.Event {
	r.t.Helper()
	var got []events.Event
	if !poll(30*time.Second, func() bool {
		got = r.journal(r.last)
		return slices.ContainsFunc(got, func(e events.Event) bool { return e.Type == want })
	}) {
		r.t.Fatalf("no %s in %v", want, r.lines())
	}
	r.last = got[len(got)-1].Seq
	return got
}

func (r *rig) lines() []string {
	var out []string
	for _, e := range r.journal(0) {
		out = append(out, r.line(e))
	}
	return out
}

// check holds the journal against what it promises, and the state against the server.
func (r *rig) check() {
	r.t.Helper()
	ids := map[events.ID]bool{}
	for i, e := range r.journal(0) {
		if e.Seq != uint64(i+1) {
			r.t.Fatalf("event %d has seq %d", i, e.Seq)
		}
		if ids[e.ID] {
			r.t.Fatalf("event id %s twice: %s", e.ID, r.line(e))
		}
		ids[e.ID] = true
	}
	if d := r.differs(); d != "" {
		r.t.Fatalf("state differs from the server (-server +state):\n%s", d)
	}
}

// differs compares the state with the server.
func (r *rig) differs() string {
	r.t.Helper()
	ctx := context.WithoutCancel(r.t.Context())
	truth, err := r.box.Truth(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	want, got := map[string]map[uint32]string{}, map[string]map[uint32]string{}
	for path, f := range truth {
		want[path] = map[uint32]string{}
		for uid, flags := range f.Messages {
			want[path][uid] = strings.Join(flags, " ")
		}
	}
	folders, _, err := r.st.Folders(ctx, r.id)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range folders {
		if f.Watched == "no" {
			continue
		}
		meta, err := r.st.FolderMeta(ctx, r.id, f.Num)
		if err != nil {
			r.t.Fatal(err)
		}
		blocks, err := r.st.Blocks(ctx, r.id, f.Num, meta)
		if errors.Is(err, store.ErrStale) {
			return fmt.Sprintf("%s changed while it was read", f.Path)
		}
		if err != nil {
			r.t.Fatal(err)
		}
		path := imaptest.Common(r.box, f.Path)
		got[path] = map[uint32]string{}
		for _, recs := range blocks {
			for _, rec := range recs {
				got[path][rec.UID] = strings.Join(rec.Flags, " ")
			}
		}
	}
	return cmp.Diff(want, got)
}

// fold applies events to what was there and compares with the server.
func (r *rig) fold(start map[string]map[uint32][]string, evs []events.Event) {
	r.t.Helper()
	state := maps.Clone(start)
	for _, e := range evs {
		var d struct {
			UID     uint32
			Flags   []string
			Path    string
			Changes struct{ Flags struct{ Value []string } }

			Previous struct {
				Path string
				UID  uint32
			}
		}
		if err := json.Unmarshal(e.Data.(events.Raw), &d); err != nil {
			r.t.Fatal(err)
		}
		path := imaptest.Common(r.box, e.Path)
		switch e.Type {
		case events.MailboxNewType:
			if state[path] == nil {
				state[path] = map[uint32][]string{}
			}
		case events.MailboxDeletedType:
			delete(state, path)
		case events.MessageNewType:
			state[path][d.UID] = d.Flags
		case events.MessageUpdatedType:
			state[path][d.UID] = d.Changes.Flags.Value
		case events.MessageDeletedType:
			delete(state[path], d.UID)
		case events.MessageMovedType:
			delete(state[imaptest.Common(r.box, d.Previous.Path)], d.Previous.UID)
			state[path][d.UID] = d.Flags
		}
	}
	truth, err := r.box.Truth(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	want := map[string]map[uint32][]string{}
	for path, f := range truth {
		want[path] = f.Messages
	}
	for _, folders := range []map[string]map[uint32][]string{want, state} {
		for _, msgs := range folders {
			for uid, flags := range msgs {
				if len(flags) == 0 {
					msgs[uid] = nil
				}
			}
		}
	}
	if d := cmp.Diff(want, state); d != "" {
		r.t.Fatalf("events folded up differ from the server (-server +events):\n%s", d)
	}
}

// ok fails the test on an error.
func (r *rig) ok(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// put appends a message that arrives now.
func (r *rig) put(folder, id string, flags ...string) uint32 {
	r.t.Helper()
	uid, err := r.box.Append(r.t.Context(), folder, imaptest.Message(id, id), flags, time.Now())
	r.ok(err)
	return uid
}

// eachPeer runs a scenario on the memory server (no CONDSTORE), on Dovecot, on Cyrus, on
// the model server in two dialects, and on Courier, which has little more than RFC 3501
// asks for.
func eachPeer(t *testing.T, f func(t *testing.T, r *rig)) {
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		f(t, newRig(t, storetest.Miniredis(t), imaptest.StartMemory(t)))
	})
	t.Run("dovecot", func(t *testing.T) {
		t.Parallel()
		f(t, newRig(t, storetest.Miniredis(t), imaptest.StartDovecot(t).User("jo", "secret")))
	})
	t.Run("cyrus", func(t *testing.T) {
		t.Parallel()
		f(t, newRig(t, storetest.Miniredis(t), imaptest.StartCyrus(t).User("jo", "secret")))
	})
	for _, d := range []imaptest.Dialect{imaptest.T1(), imaptest.T3().Without("LIST-STATUS", "ESEARCH")} {
		t.Run("model_"+d.Name, func(t *testing.T) {
			t.Parallel()
			f(t, newRig(t, storetest.Miniredis(t), imaptest.StartModel(t, d).User("jo", "secret")))
		})
	}
	t.Run("courier", func(t *testing.T) {
		t.Parallel()
		f(t, newRig(t, storetest.Miniredis(t), imaptest.StartCourier(t).User("jo", "secret")))
	})
}
