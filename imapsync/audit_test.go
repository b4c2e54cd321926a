package imapsync

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/imapsync/imaptest"
	"github.com/postrider/postrider/store"
)

func TestNextAudit(t *testing.T) {
	day := 24 * time.Hour
	at := func(s string) time.Time {
		v, err := time.Parse("2006-01-02 15:04", s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, c := range []struct {
		last   string
		every  time.Duration
		offset time.Duration
		want   string
	}{
		{"2026-03-01 10:00", day, 12 * time.Hour, "2026-03-01 12:00"},
		{"2026-03-01 12:00", day, 12 * time.Hour, "2026-03-02 12:00"},
		{"2026-03-01 13:00", day, 12 * time.Hour, "2026-03-02 12:00"},
		{"2026-03-01 13:00", time.Hour, 12 * time.Minute, "2026-03-01 13:12"},
	} {
		if got := nextAudit(at(c.last), c.every, c.offset); !got.Equal(at(c.want)) {
			t.Errorf("after %s: %s, want %s", c.last, got, c.want)
		}
	}
	seen := map[time.Duration]bool{}
	for n := range uint32(100) {
		seen[auditOffset("jo", n)%day/time.Hour] = true
	}
	if len(seen) < 20 {
		t.Errorf("100 folders are audited in %d hours of the day", len(seen))
	}
}

// repairs are what audits found, since the engine came up.
func (d *den) repairs() []string {
	d.t.Helper()
	reg := prometheus.NewRegistry()
	d.ok(reg.Register(d.m.met.repairs))
	families, err := reg.Gather()
	d.ok(err)
	var out []string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			out = append(out, fmt.Sprintf("%s %s %g", m.Label[1].GetValue(), m.Label[0].GetValue(), m.Counter.GetValue()))
		}
	}
	slices.Sort(out)
	return out
}

// afterGap is expect where nobody watched for long.
func (d *den) afterGap(want ...string) {
	d.t.Helper()
	d.expect(slices.Concat([]string{"accountStalled noOwner"}, want, []string{"accountRecovered"})...)
}

// Numbers that a probe sees all stay the same; only a list shows the difference.
func TestAudit_finds_what_no_number_shows(t *testing.T) {
	eachTier(t, func(d *den) {
		d.old("INBOX", 30)
		d.started()
		d.srv.expunge("INBOX", 30) // a UID below the cursor that can come back
		d.pass(time.Second)
		d.expect("messageDeleted INBOX")
		d.pass(2 * time.Minute) // and its new number is probed
		at := d.srv.modseq
		d.srv.mu.Lock()
		d.srv.shown = func(uint64) uint64 { return at }
		f := d.srv.folders["INBOX"]
		back := *f.msgs[4]
		back.uid, back.modseq = 30, at
		f.msgs[30] = &back
		delete(f.msgs, 4)
		d.srv.sessions[0].look(f)
		d.srv.mu.Unlock()
		d.away(func() {})
		d.expect()
		d.down()
		d.pass(61 * time.Minute)
		d.away(func() {})
		d.afterGap("messageDeleted INBOX", "messageNew INBOX <m3@fake> reappeared")
		tier := map[bool]string{true: "T1", false: "T3"}[d.srv.qresync]
		if d.srv.condstore && !d.srv.qresync {
			tier = "T2"
		}
		d.same("repairs", []string{tier + " deleted 1", tier + " new 1"}, d.repairs())
		if d.srv.qresync {
			d.same("latches", []string{"QRESYNC once: messages were gone that VANISHED did not name"}, d.latches())
		}
	})
}

func TestAudit_finds_flags_that_HIGHESTMODSEQ_hides(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.old("INBOX", 30)
		d.started()
		d.pass(time.Minute) // its proof of life is stored
		for i, want := range []string{
			"CONDSTORE once: flags had changed and HIGHESTMODSEQ did not tell",
			"CONDSTORE: flags had changed and HIGHESTMODSEQ did not tell",
		} {
			d.down()
			d.pass(2 * time.Hour)
			d.away(func() { d.srv.folders["INBOX"].msgs[9].flags = [][]string{{`\Seen`}, nil}[i] })
			d.afterGap(strings.TrimSpace("messageUpdated INBOX " + []string{`\Seen`, ""}[i]))
			d.same("repairs", []string{"T2 flags 1"}, d.repairs())
			d.same("latches", []string{want}, d.latches())
		}
	})
}

func TestAudit_after_silence_costs_one_list_a_folder(t *testing.T) {
	qresync(t, func(d *den) {
		d.old("INBOX", 30)
		d.started()
		d.away(func() {})
		d.same("questions after a moment", nil, d.srv.asked())
		d.down()
		d.pass(61 * time.Minute)
		d.away(func() { d.srv.remove("INBOX", 7) })
		d.afterGap("messageDeleted INBOX")
		d.same("questions after an hour", []string{"INBOX CHANGEDSINCE VANISHED", "INBOX FETCH 7 FLAGS", "INBOX SEARCH", "INBOX FETCH 1:6,8:30 FLAGS"}, d.srv.asked())
		d.same("repairs", nil, d.repairs())
	})
}

// A difference that stays is the server's way of counting: said, and looked at hourly.
func TestAudit_is_hourly_where_the_count_is_off(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.old("INBOX", 30)
		d.started()
		d.srv.act(func() { d.srv.ghosts = 2 })
		d.srv.expunge("INBOX", 3)
		d.pass(40 * time.Minute)
		d.expect("messageDeleted INBOX")
		if plan := strings.Join(d.state().Status.Plan, "\n"); !strings.Contains(plan, "counts 2 messages that it does not list") {
			d.t.Errorf("plan:\n%s", plan)
		}
		d.srv.asked()
		d.pass(time.Hour)
		if q := d.srv.asked(); !slices.Contains(q, "INBOX SEARCH") {
			d.t.Errorf("asked within an hour: %q", q)
		}
		d.srv.put("INBOX", "fresh")
		d.pass(time.Second)
		d.expect("messageNew INBOX <fresh> new")
	})
}

func TestModSeqLag_changes_that_can_be_read_later_are_seen(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.old("INBOX", 30)
		d.old("Archive", 30)
		d.profiles = `{"default": {"modseqLag": true}}`
		d.started()
		d.pass(3 * time.Minute)
		var hide atomic.Bool
		hide.Store(true)
		d.srv.act(func() {
			d.srv.lie = func(got Delta) (Delta, error) {
				if hide.Load() {
					got.Flags = nil
				}
				return got, nil
			}
		})
		d.srv.flag("Archive", 9, `\Seen`)
		for d.srv.asked() == nil {
			d.pass(5 * time.Second)
		}
		d.expect()
		hide.Store(false)
		d.pass(2 * time.Minute)
		d.expect(`messageUpdated Archive \Seen`)
		d.srv.asked()
		d.pass(time.Hour)
		if q := d.srv.asked(); len(q) > 4 {
			d.t.Errorf("it does not come to rest: %q", q)
		}
	})
}

func TestFirstLook_message_that_does_not_come_at_once_is_announced(t *testing.T) {
	eachTier(t, func(d *den) {
		d.started()
		d.away(func() {
			d.srv.create("Neu")
			d.srv.add("Neu", "prompt", time.Now())
			d.srv.hidden[d.srv.add("Neu", "late", time.Now())] = true
		})
		d.expect("mailboxNew Neu", "messageNew Neu <prompt> new", "messageMissing Neu notReturned retried")
		d.srv.act(func() { clear(d.srv.hidden) })
		d.pass(11 * time.Minute)
		d.expect("messageNew Neu <late> new retried")
	})
}

// A server that names messages without end and hands none out is refused at a bound.
func TestPending_is_bounded(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.started()
		d.srv.act(func() {
			d.srv.folders["Archive"].next = 1000
			for i := range pendingMost + 100 {
				d.srv.hidden[d.srv.add("Archive", fakeID(i), time.Now())] = true
			}
		})
		d.pass(4 * time.Minute)
		meta := d.meta("Archive")
		if len(meta.Pending) != pendingMost || meta.Fail == nil {
			d.t.Fatalf("%d awaited, failure %+v", len(meta.Pending), meta.Fail)
		}
		d.srv.put("INBOX", "fine")
		d.pass(time.Second)
		if got := d.took(); !slices.Contains(got, "messageNew INBOX <fine> new") {
			d.t.Errorf("got %q", got[max(0, len(got)-3):])
		}
	})
}

func (d *den) meta(path string) store.FolderMeta {
	d.t.Helper()
	folders, _, err := d.st.Folders(d.t.Context(), denAccount)
	d.ok(err)
	for _, f := range folders {
		if f.Path == path {
			meta, err := d.st.FolderMeta(d.t.Context(), denAccount, f.Num)
			d.ok(err)
			return meta
		}
	}
	d.t.Fatalf("no folder %s", path)
	return store.FolderMeta{}
}

// Without UIDVALIDITY a day tells, by Message-IDs, that UIDs stand for other messages.
func TestAudit_where_UIDs_have_no_validity(t *testing.T) {
	for _, dialect := range []imaptest.Dialect{imaptest.T1(), imaptest.T3()} {
		for _, turned := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s turned=%v", dialect.Name, turned), func(t *testing.T) {
				t.Parallel()
				warmUp(t)
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, dialect, calm)
					defer w.end()
					w.lie(func(l *imaptest.Lies) { l.NoUIDValidity = true })
					w.begin(false)
					for range 5 {
						w.act(deed{Do: "append"})
					}
					w.ok(w.box.Expunge(t.Context(), "INBOX", 1))
					w.pass(5 * time.Minute)
					w.took()
					var want []string
					if turned { // as many as before, each one lower
						w.ok(w.box.Renumber(t.Context(), "INBOX"))
						want = []string{"mailboxReset INBOX uidValidityChange"}
					}
					w.pass(25 * time.Hour)
					w.expect(want...)
					w.act(deed{Do: "append"})
					w.pass(5 * time.Minute)
					w.expect("messageNew INBOX m6@x new")
				})
			})
		}
	}
}
