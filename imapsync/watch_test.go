package imapsync

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/egress"
	"github.com/postrider/postrider/store"
)

// did runs f and says how many LISTs, STATUS and commands it took.
func (d *den) did(f func()) (lists, statuses, commands int) {
	read := func() (int, int, int) {
		d.srv.mu.Lock()
		defer d.srv.mu.Unlock()
		return d.srv.lists, len(d.srv.statuses), d.srv.commands
	}
	l, s, c := read()
	f()
	l2, s2, c2 := read()
	return l2 - l, s2 - s, c2 - c
}

func (d *den) planHas(want string) {
	d.t.Helper()
	if plan := d.state().Status.Plan; !slices.ContainsFunc(plan, func(s string) bool { return strings.Contains(s, want) }) {
		d.t.Errorf("plan %q lacks %q", plan, want)
	}
}

func TestNotify_other_folders_are_live(t *testing.T) {
	eachTier(t, func(d *den) {
		d.srv.notify = true
		d.started()
		d.planHas("1 folders: live (NOTIFY)")
		lists, statuses, _ := d.did(func() {
			d.srv.put("Archive", "heard")
			d.pass(time.Second)
			d.expect("messageNew Archive <heard> new")
		})
		if lists+statuses != 0 {
			d.t.Errorf("%d LIST, %d STATUS beside NOTIFY", lists, statuses)
		}
		d.srv.expunge("Archive", 1)
		d.pass(3 * time.Second) // it may have been moved: all folders are looked at first
		d.expect("messageDeleted Archive")
		d.srv.act(func() { d.srv.create("New") })
		d.pass(3 * time.Second)
		d.expect("mailboxNew New")
		d.srv.put("New", "there")
		d.pass(time.Second)
		d.expect("messageNew New <there> new")
	})
}

func TestNotify_burst_is_looked_into_together(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.srv.notify = true
		d.started()
		was := d.srv.opened["Archive"]
		for i := range 100 {
			d.srv.put("Archive", fakeID(i))
			d.pass(10 * time.Millisecond)
		}
		d.pass(time.Second)
		if n := len(d.took()); n != 100 {
			d.t.Errorf("%d events", n)
		}
		if n := d.srv.opened["Archive"] - was; n > 6 {
			d.t.Errorf("opened %d times in a second", n)
		}
	})
}

// lateMail puts a message into a folder while its step is being committed.
type lateMail struct {
	Store
	then func()
}

func (l *lateMail) Commit(ctx context.Context, lease store.Lease, c store.Change) (store.Committed, error) {
	if done := l.then; done != nil && len(c.Events) > 0 {
		l.then = nil
		done()
	}
	return l.Store.Commit(ctx, lease, c)
}

// TestNotify_selected_folder_is_left: what comes into a folder while it is selected for a
// look is told as of the selected one, by no STATUS.
func TestNotify_selected_folder_is_left(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.srv.notify = true
		late := &lateMail{}
		d.wrap = func(st Store) Store { late.Store = st; return late }
		d.started()
		late.then = func() { d.srv.put("Archive", "late") }
		d.srv.put("Archive", "first")
		d.pass(2 * time.Second)
		d.expect("messageNew Archive <first> new", "messageNew Archive <late> new")
	})
}

func TestNotify_overflow_goes_back_to_probes(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.srv.notify = true
		d.started()
		asked := func(want int) {
			d.t.Helper()
			d.srv.mu.Lock()
			defer d.srv.mu.Unlock()
			if d.srv.notifies != want {
				d.t.Fatalf("asked for %d times, want %d", d.srv.notifies, want)
			}
		}
		d.srv.overflow()
		d.srv.put("Archive", "unheard")
		d.pass(time.Second) // what was lost is probed for at once
		d.expect("messageNew Archive <unheard> new")
		d.planHas("1 folders: every 2 min")
		d.srv.put("Archive", "probed")
		d.pass(2*time.Minute + time.Second)
		d.expect("messageNew Archive <probed> new")
		asked(1)
		d.pass(12 * time.Minute)
		asked(2)
		d.planHas("live (NOTIFY)")
		d.srv.overflow()
		d.pass(30 * time.Minute)
		asked(2) // then daily
	})
}

func TestNotify_refused_is_no_error(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.srv.notify, d.srv.notifyErr = true, errFakeNo
		d.started()
		if st := d.state().Status; st.State != store.StateConnected || st.LastError != nil {
			d.t.Errorf("%s %+v", st.State, st.LastError)
		}
		d.planHas("1 folders: every 2 min")
	})
}

func TestNotify_that_tells_nothing_is_covered_by_the_probe(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.srv.notify = true
		d.started()
		d.srv.act(func() {
			for _, x := range d.srv.sessions {
				x.heard = nil
			}
		})
		d.srv.put("Archive", "untold")
		d.pass(9 * time.Minute)
		d.expect()
		d.pass(2 * time.Minute)
		d.expect("messageNew Archive <untold> new")
	})
}

// asked are the folders whose STATUS is asked for in a time.
func (d *den) asked(in time.Duration) (names []string) {
	d.srv.act(func() { d.srv.statuses = nil })
	d.pass(in)
	d.srv.act(func() { names = slices.Clone(d.srv.statuses) })
	return names
}

func TestProbe_is_slower_where_nothing_happens(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.started()
		busy, _, _ := d.did(func() { d.pass(20 * time.Minute) })
		d.pass(45 * time.Minute)
		quiet, _, _ := d.did(func() { d.pass(20 * time.Minute) })
		if busy < 9 || busy > 11 || quiet > 2 {
			d.t.Errorf("%d and %d LIST in 20 minutes", busy, quiet)
		}
		d.planHas("every 10 min")
		d.srv.put("INBOX", "one")
		d.pass(31 * time.Second)
		d.expect("messageNew INBOX <one> new")
		if after, _, _ := d.did(func() { d.pass(10 * time.Minute) }); after < 5 {
			d.t.Errorf("%d LIST in ten minutes after a change", after)
		}
	})
}

func TestProbe_single_status_is_paced_by_likelihood(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.srv.listStatus = false
		for i := range 20 {
			d.srv.create(fmt.Sprintf("F%02d", i))
		}
		d.srv.roles = map[string]string{"F00": `\Sent`}
		d.up()
		d.pass(time.Minute)
		count := map[string]int{}
		for _, name := range d.asked(20 * time.Minute) {
			count[name]++
		}
		if count["F00"] < 9 || count["F00"] > 11 || count["F07"] != 2 || count["INBOX"] != 0 {
			d.t.Errorf("in 20 minutes %v", count)
		}
		d.planHas("21 folders: every 2 min to 10 min")
	})
}

func TestProbe_stretches(t *testing.T) {
	for _, c := range []struct {
		quiet    time.Duration
		slow     bool
		notified bool
		probe    time.Duration
		ask      time.Duration
	}{
		{0, false, false, 2 * time.Minute, 10 * time.Minute},
		{2 * time.Hour, false, false, 10 * time.Minute, 10 * time.Minute},
		{25 * time.Hour, false, false, 20 * time.Minute, 20 * time.Minute},
		{72 * time.Hour, false, false, 40 * time.Minute, 40 * time.Minute},
		{0, true, false, 8 * time.Minute, 40 * time.Minute},
		{0, false, true, 10 * time.Minute, 10 * time.Minute},
	} {
		w := &worker{pace: newPacer(), acct: &store.Account{}, cfg: &Config{}, activeAt: time.Now().Add(-c.quiet), notified: c.notified}
		w.cfg.defaults()
		if c.slow {
			w.slowUntil = time.Now().Add(time.Minute)
		}
		if p, a := w.probeEvery(), w.askEvery(&folder{}, time.Now()); p != c.probe || a != c.ask {
			t.Errorf("%+v: probe %s, ask %s", c, p, a)
		}
		w.folders = make([]*folder, manyFolders+1)
		if a := w.askEvery(&folder{}, time.Now()); a != 3*c.ask {
			t.Errorf("%+v: %s with many folders", c, a)
		}
	}
}

func TestProfile_keeps_the_connection_as_the_provider_wants(t *testing.T) {
	t.Run("idleRestart", func(t *testing.T) {
		bubble(t, true, func(d *den) {
			d.profiles = "here: {hosts: [127.0.0.1], idleRestart: 55s}"
			d.started()
			for range 10 { // no minute without a command
				if _, _, n := d.did(func() { d.pass(time.Minute) }); n == 0 {
					d.t.Fatal("a minute of silence")
				}
			}
		})
	})
	t.Run("noIdle", func(t *testing.T) {
		bubble(t, true, func(d *den) {
			d.profiles = "here: {hosts: [127.0.0.1], noIdle: true, keepalive: status, idleRestart: 55s}"
			d.started()
			d.planHas("INBOX: every 30 s to 55 s")
			d.srv.put("INBOX", "polled")
			d.pass(31 * time.Second)
			d.expect("messageNew INBOX <polled> new")
			d.pass(11 * time.Minute) // whoever only sends NOOP is thrown out
			if asked := d.asked(10 * time.Minute); len(asked) < 9 || slices.Contains(asked, "INBOX") {
				d.t.Errorf("STATUS of %q in ten minutes", asked)
			}
		})
	})
}

func TestThrottled_hint_slows_the_probes(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.started()
		d.srv.act(func() {
			for _, x := range d.srv.sessions {
				x.changes.Throttle = "slow down"
			}
			d.srv.add("INBOX", "one", time.Now())
		})
		d.pass(2 * time.Minute)
		d.expect("messageNew INBOX <one> new")
		if lists, _, _ := d.did(func() { d.pass(8 * time.Minute) }); lists > 2 {
			d.t.Errorf("%d LIST in eight minutes", lists)
		}
	})
}

// A worker that no closing of its session ends is left behind: its account goes on with
// another, and a shutdown does not wait for it.
func TestWatchdog_shutdown_does_not_wait_for_the_abandoned(t *testing.T) {
	bubble(t, true, func(d *den) {
		wedged := make(chan struct{})
		d.srv.wedged = wedged
		d.up()
		d.pass(5 * time.Second)
		d.srv.act(func() { d.srv.wedged = nil })
		d.pass(30 * time.Second)
		if st := d.state().Status.State; st != store.StateConnected {
			d.t.Errorf("state %s, want another worker's connected", st)
		}
		began := time.Now()
		d.down()
		if took := time.Since(began); took > 5*time.Second {
			d.t.Errorf("down after %s", took)
		}
		close(wedged) // only now, so that the bubble can end
		d.pass(time.Second)
	})
}

// An address that the operator forbids is no wrong password: nothing pauses the account
// for it.
func TestWorker_forbidden_address_is_no_refused_login(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.srv.dialErr = &Error{Kind: ErrDial, Stage: StageDial, Err: egress.ErrRefused}
		d.up()
		d.pass(time.Minute)
		d.expect("accountAdded", "connectError")
		st := d.state().Status
		if st.State != store.StateConnectError || !st.AuthFailing.IsZero() || st.LastError.Kind != FaultConfig || st.LastError.NextTry.Sub(st.LastError.At) < 30*time.Minute {
			d.t.Errorf("%s %+v", st.State, st.LastError)
		}
	})
}

// A first look at many messages is compressed, the connection that watches afterwards is
// not: it costs less.
func TestCompress_is_for_large_first_looks(t *testing.T) {
	for _, c := range []struct {
		name     string
		messages int
		profile  string
		zipped   int
	}{{"many", compressAbove + 1, "", 1}, {"few", 1000, "", 0}, {"noCompress", compressAbove + 1, "here: {hosts: [127.0.0.1], noCompress: true}", 0}} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, true, func(d *den) {
				d.srv.compress, d.profiles = true, c.profile
				for i := range c.messages {
					d.srv.add("Archive", fakeID(i), time.Now().Add(-48*time.Hour))
				}
				d.started()
				zipped := 0
				for _, x := range d.srv.sessions {
					if x.zipped {
						zipped++
					}
				}
				if zipped != c.zipped || len(d.srv.sessions) != 1+c.zipped || d.open() != 1 {
					d.t.Errorf("%d of %d connections compressed, %d open", zipped, len(d.srv.sessions), d.open())
				}
				d.srv.put("INBOX", "live")
				d.pass(time.Second)
				d.expect("messageNew INBOX <live> new")
			})
		})
	}
}
