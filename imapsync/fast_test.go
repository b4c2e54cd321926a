package imapsync

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/imapsync/imaptest"
	"github.com/postrider/postrider/store"
)

// indexed sets the account's imapIndexer.
func (d *den) indexed(how string) {
	d.t.Helper()
	_, err := d.st.UpdateAccount(d.t.Context(), denAccount, 0, func(a *store.Account) error {
		a.Indexer = how
		return nil
	})
	d.ok(err)
}

// eachFast runs f with an engine over a model of each tier, whose account wants new mail alone.
// inbox is the folder in which mail to the inbox is seen.
func eachFast(t *testing.T, dialects []imaptest.Dialect, f func(d *den, u *imaptest.ModelUser, inbox string)) {
	for _, dialect := range dialects {
		t.Run(dialect.Name, func(t *testing.T) {
			modelled(t, dialect, func(d *den, u *imaptest.ModelUser, _ *knife) {
				d.indexed(store.IndexerFast)
				d.cfg.ProbeInterval, d.cfg.ListInterval = time.Minute, 10*time.Minute
				inbox := "INBOX"
				if dialect.Has("X-GM-EXT-1") {
					inbox = allMail
				}
				f(d, u, inbox)
			})
		})
	}
}

// fresh expects the message and folder events since the last call but mailboxNew.
func (d *den) fresh(want ...string) {
	d.t.Helper()
	var got []string
	for _, e := range d.took() {
		if (strings.HasPrefix(e, "message") || strings.HasPrefix(e, "mailbox")) && !strings.HasPrefix(e, "mailboxNew") {
			got = append(got, strings.ReplaceAll(strings.ReplaceAll(e, allMail, "INBOX"), gmailRoot, ""))
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		d.t.Fatalf("events (-want +got):\n%s", diff)
	}
}

// nothingKept says what Redis has of the messages in the folders.
func (d *den) nothingKept() error {
	for _, key := range d.mini.Keys() {
		if strings.Contains(key, ":b:") {
			return fmt.Errorf("there is %s", key)
		}
	}
	folders, _, err := d.st.Folders(d.t.Context(), denAccount)
	if err != nil {
		return err
	}
	for _, f := range folders {
		if f.Watched == watchedNo {
			continue
		}
		m, err := d.st.FolderMeta(d.t.Context(), denAccount, f.Num)
		if err != nil {
			return err
		}
		if !m.Fast || m.Count+m.Blocks > 0 || !m.Audit.At.IsZero() || m.Baseline != nil || m.Unlooked {
			return fmt.Errorf("%s: %+v", f.Path, m)
		}
	}
	return nil
}

// New mail is told of, and nothing else, whatever happens.
func TestFast_tells_new_mail_alone(t *testing.T) {
	eachFast(t, append(tiers(), imaptest.T0()), func(d *den, u *imaptest.ModelUser, inbox string) {
		ctx := d.t.Context()
		for _, s := range []string{"a", "b", "c", "d"} {
			d.write(u, "INBOX", s, time.Now().Add(-90*24*time.Hour))
		}
		d.write(u, "INBOX", "lately", time.Now().Add(-48*time.Hour)) // behind notifyFrom
		d.up()
		d.pass(3 * time.Second)
		d.fresh("messageNew INBOX lately backfill")
		d.ok(d.nothingKept())
		d.planHas("new mail only")

		d.write(u, "INBOX", "e", time.Now())
		d.pass(3 * time.Second)
		d.fresh("messageNew INBOX e new")

		d.ok(u.AddFlags(ctx, inbox, []uint32{1, 2, 6}, `\Seen`))
		d.ok(u.Expunge(ctx, "INBOX", 3))
		d.pass(3 * time.Second)
		d.write(u, "INBOX", "f", time.Now())
		d.pass(3 * time.Second)
		d.ok(u.Expunge(ctx, "INBOX", 7))
		d.fresh("messageNew INBOX f new")

		d.pass(3 * time.Minute)
		d.fresh()
		d.down()
		d.ok(u.AddFlags(ctx, inbox, []uint32{1}, `\Flagged`))
		for _, s := range []string{"g", "h", "i"} {
			d.write(u, "INBOX", s, time.Now())
		}
		d.ok(u.Expunge(ctx, "INBOX", 8)) // before anybody saw it: on Gmail it is only archived
		d.pass(2 * auditSilence)
		d.up()
		d.pass(20 * time.Second)
		want := []string{"messageNew INBOX h new", "messageNew INBOX i new"}
		if inbox == allMail {
			want = append([]string{"messageNew INBOX g new"}, want...)
		}
		d.fresh(want...)

		d.down()
		d.write(u, "INBOX", "j", time.Now())
		d.ok(u.ResetUIDValidity(ctx, inbox))
		d.up()
		d.pass(20 * time.Second)
		d.fresh("mailboxReset INBOX uidValidityChange", "messageNew INBOX j new")
		d.write(u, "INBOX", "k", time.Now())
		d.pass(3 * time.Second)
		d.fresh("messageNew INBOX k new")
		d.ok(d.nothingKept())
	})
}

// A folder keeps to what its first look found; a flush changes that.
func TestFast_takes_a_flush(t *testing.T) {
	eachFast(t, []imaptest.Dialect{imaptest.T1(), imaptest.T0()}, func(d *den, u *imaptest.ModelUser, inbox string) {
		ctx := d.t.Context()
		d.write(u, "INBOX", "a", time.Now().Add(-90*24*time.Hour))
		d.up()
		d.pass(3 * time.Second)
		d.fresh()
		d.indexed("")
		d.pass(time.Minute)
		d.planHas("takes a flush")
		d.ok(u.AddFlags(ctx, inbox, []uint32{1}, `\Seen`))
		d.pass(time.Minute)
		d.fresh()
		flush := func() {
			d.t.Helper()
			_, err := d.st.FlushAccount(ctx, denAccount, time.Time{})
			d.ok(err)
			d.pass(time.Minute)
			d.fresh()
		}
		flush()
		if n := len(d.records(inbox)); n != 1 {
			t.Errorf("%d messages known", n)
		}
		d.ok(u.AddFlags(ctx, inbox, []uint32{1}, `\Flagged`))
		d.pass(time.Minute)
		d.fresh(`messageUpdated INBOX \Flagged \Seen`)
		d.indexed(store.IndexerFast)
		d.pass(time.Minute)
		d.planHas("takes a flush")
		flush()
		d.ok(d.nothingKept())
		d.ok(u.Expunge(ctx, "INBOX", 1))
		d.write(u, "INBOX", "b", time.Now())
		d.pass(time.Minute)
		d.fresh("messageNew INBOX b new")
	})
}

// What is not handed out, or not shown, is told of once it is; nothing is told twice.
func TestFast_late_messages(t *testing.T) {
	for name, tt := range map[string]struct {
		lie  func(*imaptest.Lies, string)
		want []string // before the server tells all, and behind it
		then []string
	}{
		"named and not handed out": {
			func(l *imaptest.Lies, inbox string) { l.NotReturned = map[string][]uint32{inbox: {2}} },
			[]string{"messageNew INBOX c new", "messageMissing INBOX notReturned retried"},
			[]string{"messageNew INBOX b new retried"},
		},
		"refused": {
			func(l *imaptest.Lies, inbox string) { l.Unfetchable = map[string][]uint32{inbox: {2}} },
			[]string{"messageNew INBOX c new", "messageMissing INBOX serverError retried"},
			[]string{"messageNew INBOX new incomplete retried"},
		},
		"counted and not shown": {
			func(l *imaptest.Lies, _ string) { l.ExistsBeforeItIs = true },
			nil,
			[]string{"messageNew INBOX b new", "messageNew INBOX c new"},
		},
		"searched in part": {
			func(l *imaptest.Lies, _ string) { l.SearchAtMost, l.SearchSilent = 1, true },
			[]string{"messageNew INBOX b new", "messageNew INBOX c new"},
			nil,
		},
		"found by nothing": {
			func(l *imaptest.Lies, _ string) { l.ESearchEmpty = true },
			[]string{"messageNew INBOX b new", "messageNew INBOX c new"},
			nil,
		},
		"no numbers": {
			func(l *imaptest.Lies, _ string) { l.NoUIDNext, l.StatusMessagesOnly = true, true },
			[]string{"messageNew INBOX b new", "messageNew INBOX c new"},
			nil,
		},
		"counted wrongly": {
			func(l *imaptest.Lies, _ string) { l.ExistsOff = 1 },
			[]string{"messageNew INBOX b new", "messageNew INBOX c new"},
			nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachFast(t, []imaptest.Dialect{imaptest.T3()}, func(d *den, u *imaptest.ModelUser, inbox string) {
				d.write(u, "INBOX", "a", time.Now().Add(-90*24*time.Hour))
				d.up()
				d.pass(3 * time.Second)
				d.fresh()
				d.down()
				u.Lie(func(l *imaptest.Lies) { tt.lie(l, inbox) })
				d.write(u, "INBOX", "b", time.Now())
				d.write(u, "INBOX", "c", time.Now())
				d.up()
				d.pass(time.Minute)
				d.fresh(tt.want...)
				u.Lie(func(l *imaptest.Lies) { *l = imaptest.Lies{} })
				if tt.then != nil {
					d.pass(11 * time.Minute)
				}
				d.fresh(tt.then...)
				d.write(u, "INBOX", "d", time.Now())
				d.pass(2 * time.Minute)
				d.fresh("messageNew INBOX d new")
				d.ok(d.nothingKept())
			})
		})
	}
}

// A message that is named, not handed out, and gone is not waited for.
func TestFast_message_that_never_came(t *testing.T) {
	eachFast(t, []imaptest.Dialect{imaptest.T2(), imaptest.T0()}, func(d *den, u *imaptest.ModelUser, inbox string) {
		d.up()
		d.pass(3 * time.Second)
		d.fresh()
		u.Lie(func(l *imaptest.Lies) { l.NotReturned = map[string][]uint32{inbox: {1}} })
		d.write(u, "INBOX", "a", time.Now())
		d.pass(time.Second / 2)
		d.ok(u.Expunge(d.t.Context(), inbox, 1))
		d.pass(12 * time.Minute)
		var got []string
		for _, e := range d.took() {
			if strings.HasPrefix(e, "message") && !strings.Contains(e, "Trash") {
				got = append(got, e)
			}
		}
		if got != nil {
			t.Errorf("told %q", got)
		}
	})
}

// blind is a session that does not see a message while it is to be hidden, though it counts.
type blind struct {
	Session
	hide *atomic.Bool
}

const hidden = 2 // its UID

func (s blind) UIDs(ctx context.Context, from, to uint32) (Enumeration, error) {
	e, err := s.Session.UIDs(ctx, from, to)
	e.UIDs = slices.DeleteFunc(e.UIDs, func(uid uint32) bool { return uid == hidden && s.hide.Load() })
	return e, err
}

func (s blind) Messages(ctx context.Context, set imap.UIDSet) ([]Message, error) {
	got, err := s.Session.Messages(ctx, set)
	return slices.DeleteFunc(got, func(m Message) bool { return m.UID == hidden && s.hide.Load() }), err
}

func (s blind) Flags(ctx context.Context, set imap.UIDSet) (Delta, error) {
	d, err := s.Session.Flags(ctx, set)
	d.Flags = slices.DeleteFunc(d.Flags, func(f FlagsOf) bool { return f.UID == hidden && s.hide.Load() })
	return d, err
}

// A message that shows itself later than one behind it is not lost, also where as many are
// gone as have come.
func TestFast_message_that_shows_itself_late(t *testing.T) {
	eachFast(t, []imaptest.Dialect{imaptest.T3()}, func(d *den, u *imaptest.ModelUser, inbox string) {
		var hide atomic.Bool
		dial := d.dial
		d.dial = func(ctx context.Context, a store.Account) (Session, error) {
			s, err := dial(ctx, a)
			if err != nil {
				return nil, err
			}
			return blind{s, &hide}, nil
		}
		d.write(u, "INBOX", "a", time.Now().Add(-90*24*time.Hour))
		d.up()
		d.pass(3 * time.Second)
		d.fresh()
		d.down()
		d.write(u, "INBOX", "b", time.Now())
		d.write(u, "INBOX", "c", time.Now())
		d.ok(u.Expunge(d.t.Context(), "INBOX", 1))
		hide.Store(true)
		d.up()
		d.pass(20 * time.Second)
		d.fresh()
		hide.Store(false)
		d.pass(time.Minute)
		d.fresh("messageNew INBOX b new", "messageNew INBOX c new")
		d.write(u, "INBOX", "d", time.Now())
		d.pass(time.Second)
		d.fresh("messageNew INBOX d new")
	})
}

// The connection is cut anywhere, once: each message is told of once.
func TestFast_cut(t *testing.T) {
	story := func(d *den, u *imaptest.ModelUser) {
		d.indexed(store.IndexerFast)
		at := func(folder string, from, to int, age time.Duration) {
			for i := from; i < to; i++ {
				id := fmt.Sprintf("%d", i)
				_, err := u.Append(d.t.Context(), folder, imaptest.Message(id+"@x", id), nil, time.Now().Add(-age))
				d.ok(err)
			}
		}
		at("INBOX", 0, 2, 90*24*time.Hour)
		at("INBOX", 2, 6, 48*time.Hour)
		d.up()
		d.pass(time.Second)
		at("INBOX", 6, 9, 0)
		d.pass(time.Second)
		d.ok(u.AddFlags(d.t.Context(), "INBOX", []uint32{3, 7}, `\Seen`))
		d.ok(u.Expunge(d.t.Context(), "INBOX", 1))
		at("Archive", 9, 11, 0)
		d.pass(3 * time.Second)
	}
	eachCut(t, 3, []imaptest.Dialect{imaptest.T2()}, story, func(d *den, u *imaptest.ModelUser, _ *knife) {
		story(d, u)
		d.pass(3 * time.Minute)
		var got []string
		for e, err := range d.st.Journal(d.t.Context(), denAccount, 0) {
			d.ok(err)
			if !strings.HasPrefix(string(e.Type), "message") {
				continue
			}
			var p struct{ Subject string }
			d.ok(json.Unmarshal(e.Data.(events.Raw), &p))
			got = append(got, string(e.Type)+" "+p.Subject)
		}
		slices.Sort(got)
		var want []string
		for i := 2; i < 11; i++ {
			want = append(want, fmt.Sprintf("messageNew %d", i))
		}
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" {
			d.t.Errorf("events (-want +got):\n%s", diff)
		}
		d.ok(d.nothingKept())
	})
}
