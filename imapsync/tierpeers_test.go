package imapsync_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/imapsync"
	"github.com/postrider/postrider/imapsync/imaptest"
	"github.com/postrider/postrider/internal/benchtest"
	"github.com/postrider/postrider/store/storetest"
)

// watched is a Session that notes what is asked about known messages.
type watched struct {
	imapsync.Session
	mu    *sync.Mutex
	asked *[]string
}

func (s watched) note(q string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*s.asked = append(*s.asked, q)
}

func (s watched) UIDs(ctx context.Context, from, to uint32) (imapsync.Enumeration, error) {
	s.note("UIDs")
	return s.Session.UIDs(ctx, from, to)
}

func (s watched) Changed(ctx context.Context, upTo uint32, since uint64, vanished bool) (imapsync.Delta, error) {
	if vanished {
		s.note("Changed and vanished")
	} else {
		s.note("Changed")
	}
	return s.Session.Changed(ctx, upTo, since, vanished)
}

// changesWhileAway puts messages into INBOX, begins, and does something while the engine
// is down; it returns what was asked when it is up again.
func changesWhileAway(r *rig, want ...string) []string {
	r.t.Helper()
	ctx := r.t.Context()
	for range 40 {
		_, err := r.box.Append(ctx, "INBOX", imaptest.Message("old@x", "old@x"), nil, time.Now().Add(-72*time.Hour))
		r.ok(err)
	}
	var mu sync.Mutex
	var asked []string
	r.wrap = func(s imapsync.Session) imapsync.Session { return watched{s, &mu, &asked} }
	r.begin()
	r.down()
	r.ok(r.box.Expunge(ctx, "INBOX", 3, 7))
	r.ok(r.box.AddFlags(ctx, "INBOX", []uint32{9}, `\Seen`))
	asked = nil
	r.up()
	r.expect(want...)
	r.down()
	r.check()
	return asked
}

func TestEngine_asks_once_what_changed_while_away(t *testing.T) {
	want := []string{"messageDeleted INBOX", "messageDeleted INBOX", `messageUpdated INBOX +\Seen`}
	for name, box := range map[string]func(*testing.T) imaptest.Mailbox{
		"dovecot": func(t *testing.T) imaptest.Mailbox { return imaptest.StartDovecot(t).User("jo", "secret") },
		"model":   func(t *testing.T) imaptest.Mailbox { return imaptest.StartModel(t, imaptest.T1()).User("jo", "secret") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked := changesWhileAway(newRig(t, storetest.Miniredis(t), box(t)), want...)
			if !slices.Equal(asked, []string{"Changed and vanished"}) {
				t.Errorf("asked %q", asked)
			}
		})
	}
}

// What a server says wrongly of changes costs questions, never a wrong event. Row numbers
// are those of the table of odd servers.
func TestEngine_lies_about_changes_are_found_out(t *testing.T) {
	want := []string{"messageDeleted INBOX", "messageDeleted INBOX", `messageUpdated INBOX +\Seen`}
	for _, c := range []struct {
		name    string
		dialect imaptest.Dialect
		lie     func(*imaptest.Lies)
		latch   string // part of the plan
	}{
		{"T2", imaptest.T2(), func(*imaptest.Lies) {}, ""},
		{"61_too_much", imaptest.T1(), func(l *imaptest.Lies) { l.VanishedTooMuch = true }, "QRESYNC: not used"},
		{"61_never_seen", imaptest.T1(), func(l *imaptest.Lies) { l.VanishedUnseen = true }, ""},
		{"vanished_deaf", imaptest.T1(), func(l *imaptest.Lies) { l.VanishedDeaf = true }, ""},
		{"vanished_refused", imaptest.T1(), func(l *imaptest.Lies) { l.QResyncDead = true }, "QRESYNC: not used"},
		{"69_ignored", imaptest.T1(), func(l *imaptest.Lies) { l.ChangedSinceIgnored = true }, ""},
		{"69_no_flags", imaptest.T1(), func(l *imaptest.Lies) { l.ChangedSinceNoFlags = true }, ""},
		{"70_empty", imaptest.T1(), func(l *imaptest.Lies) { l.EnableEmpty = true }, ""},
		{"70_nothing", imaptest.T1(), func(l *imaptest.Lies) { l.EnableNothing = true }, ""},
		{"22_no_modseq", imaptest.T1(), func(l *imaptest.Lies) { l.NoModSeq = true }, ""},
		{"22_zero", imaptest.T1(), func(l *imaptest.Lies) { l.HighestModSeq = func(string, uint64) uint64 { return 0 } }, ""},
		{"22_back", imaptest.T1(), func(l *imaptest.Lies) { l.HighestModSeq = func(_ string, n uint64) uint64 { return n/2 + 1 } }, ""},
		{"21_no_uidnext", imaptest.T1(), func(l *imaptest.Lies) { l.NoUIDNext = true }, ""},
		{"20_no_uidvalidity", imaptest.T1(), func(l *imaptest.Lies) { l.NoUIDValidity = true }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			u := imaptest.StartModel(t, c.dialect).User("jo", "secret")
			r := newRig(t, storetest.Miniredis(t), u)
			u.Lie(c.lie)
			asked := changesWhileAway(r, want...)
			st, err := r.st.State(t.Context(), r.id)
			r.ok(err)
			if plan := strings.Join(st.Status.Plan, "\n"); !strings.Contains(plan, c.latch) {
				t.Errorf("asked %q, plan:\n%s", asked, plan)
			}
		})
	}
}

// The work is that of the change, not of the folder.
func BenchmarkChangesWhileAway(b *testing.B) {
	const n = 1_000_000
	for b.Loop() {
		m := imaptest.StartModel(b, imaptest.T1())
		u := m.User("jo", "secret")
		_, _, err := u.Fill(b.Context(), "INBOX", imaptest.Filling{Messages: n, Hole: 2})
		r := newRig(b, storetest.Redis(b), u)
		r.ok(err)
		r.register(time.Time{})
		r.up()
		eventually(b, 10*time.Minute, "the first look", func() bool {
			st, err := r.st.State(b.Context(), r.id)
			return err == nil && st.Initialized
		})
		r.down()
		truth := []uint32{1, 300_001, 600_001, 900_001, 1_200_001, 1_200_003, 1_200_005, 1_200_007, 1_500_001, 1_900_001}
		r.ok(u.Expunge(b.Context(), "INBOX", truth...))
		for i := range truth {
			truth[i] += 2000
		}
		r.ok(u.AddFlags(b.Context(), "INBOX", truth, `\Seen`))
		st, err := r.st.State(b.Context(), r.id)
		r.ok(err)
		before, began, cpu := m.Counters(), time.Now(), benchtest.OwnCPU(b)
		r.up()
		eventually(b, time.Minute, "every event", func() bool {
			now, err := r.st.State(b.Context(), r.id)
			return err == nil && now.Seq >= st.Seq+20
		})
		after := m.Counters()
		b.ReportMetric(float64(time.Since(began).Milliseconds()), "ms")
		b.ReportMetric(float64((benchtest.OwnCPU(b) - cpu).Milliseconds()), "cpu-ms") // the model server's, too
		b.ReportMetric(float64(after.In+after.Out-before.In-before.Out), "bytes")
		r.down()
	}
}
