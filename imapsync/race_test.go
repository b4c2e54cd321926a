package imapsync

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/store"
)

func TestWorker_arrival_that_is_gone_at_once_is_new_then_deleted(t *testing.T) {
	eachTier(t, func(d *den) {
		d.started()
		d.srv.act(func() { d.srv.fetchedAll = func() { d.srv.expunge("INBOX", 1) } })
		d.srv.put("INBOX", "brief")
		d.pass(time.Second)
		d.expect("messageNew INBOX <brief> new", "messageDeleted INBOX")
	})
}

func TestWorker_push_under_another_uidvalidity_is_not_looked_into(t *testing.T) {
	eachTier(t, func(d *den) {
		for i := range 10 {
			d.srv.add("INBOX", fakeID(i), time.Now().Add(-48*time.Hour))
		}
		d.started()
		d.srv.act(func() {
			next := d.srv.folders["INBOX"].next
			d.srv.create("INBOX")
			d.srv.folders["INBOX"].next = next - 5
			for _, x := range d.srv.sessions {
				x.Close()
			}
		})
		d.pass(3 * time.Second) // a new session opens it, and waits for its second look
		d.srv.put("INBOX", "one")
		d.srv.put("INBOX", "two")
		d.pass(time.Second)
		if got := d.took(); len(got) != 0 {
			d.t.Fatalf("before the second look: %q", got)
		}
		d.pass(time.Minute)
		if got := d.took(); len(got) == 0 || !strings.HasPrefix(got[0], "mailboxReset INBOX") {
			d.t.Fatalf("got %q", got)
		}
	})
}

func TestWorker_message_that_ends_the_connection_is_passed(t *testing.T) {
	eachTier(t, func(d *den) {
		d.started()
		d.srv.act(func() { d.srv.deadly = map[uint32]bool{d.srv.add("INBOX", "bad", time.Now()): true} })
		d.pass(300 * time.Second)
		d.srv.put("INBOX", "good")
		d.pass(5 * time.Second)
		got := strings.Join(d.took(), "\n")
		if !strings.Contains(got, "messageNew INBOX <good> new") || !strings.Contains(got, "incomplete") {
			d.t.Fatalf("got %s", got)
		}
	})
}

func TestStep_sparse_uids_take_few_questions(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.started()
		d.srv.act(func() {
			d.srv.folders["INBOX"].next = ^uint32(0)
			d.srv.cutSearch = 1
			d.srv.add("INBOX", "last", time.Now())
			d.srv.folders["INBOX"].next = ^uint32(0)
			for i := range uint32(3) {
				d.srv.folders["INBOX"].msgs[i+1] = &fakeMessage{uid: i + 1, id: fmt.Sprintf("<%d>", i), date: time.Now(), modseq: d.srv.modseq}
			}
			d.srv.commands = 0
		})
		d.pass(5 * time.Second)
		if _, n := d.srv.counted(); n > 2000 {
			d.t.Fatalf("%d commands", n)
		}
		if got := d.took(); len(got) < 4 {
			d.t.Fatalf("got %q", got)
		}
	})
}

func TestWorker_folder_that_failed_does_not_spin_while_it_waits(t *testing.T) {
	eachTier(t, func(d *den) {
		d.srv.add("Archive", "old", time.Now().Add(-48*time.Hour))
		d.started()
		d.srv.act(func() { d.srv.refused["Archive"] = true; d.srv.add("Archive", "x", time.Now()) })
		d.pass(3 * time.Minute)
		d.srv.act(func() {
			clear(d.srv.refused)
			d.srv.limited, d.srv.cutSearch, d.srv.hidden[1], d.srv.hidden[2] = true, 1, true, true
			delete(d.srv.folders["Archive"].msgs, 1)
			d.srv.add("Archive", "y", time.Now())
			d.srv.commands = 0
		})
		d.pass(10 * time.Minute)
		if _, n := d.srv.counted(); n > 300 {
			d.t.Fatalf("%d commands in ten minutes", n)
		}
	})
}

func TestWorker_goodbye_at_once_is_backed_off_from(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.started()
		before, _ := d.srv.counted()
		d.srv.act(func() {
			d.srv.bye = &Error{Kind: ErrBye, Stage: StageCommand, Text: "server shutting down"}
			for _, x := range d.srv.sessions {
				x.Close()
			}
		})
		d.pass(10 * time.Minute)
		if n, _ := d.srv.counted(); n-before > 40 {
			d.t.Fatalf("%d logins in ten minutes", n)
		}
	})
}

func TestWorker_throttle_outlasts_a_wish_to_reconnect_and_a_restart(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.started()
		d.srv.act(func() {
			d.srv.dialErr = &Error{Kind: ErrNo, Stage: StageLogin, Command: "LOGIN", Code: "THROTTLED", Text: "try again in 20 minutes"}
			for _, x := range d.srv.sessions {
				x.Close()
			}
		})
		d.pass(time.Minute)
		dials, _ := d.srv.counted()
		_, err := d.st.UpdateAccount(d.t.Context(), denAccount, 0, func(*store.Account) error { return nil })
		d.ok(err)
		d.pass(time.Minute)
		d.down()
		d.up()
		d.pass(time.Minute)
		if n, _ := d.srv.counted(); n != dials {
			d.t.Fatalf("%d logins while the server wants none", n)
		}
		d.srv.act(func() { d.srv.dialErr = nil })
		d.pass(20 * time.Minute)
		if st := d.state().Status.State; st != store.StateConnected {
			d.t.Fatalf("state %s", st)
		}
	})
}

// unwritable fails all commits while reads work, as a Redis that is full or read-only does.
type unwritable struct {
	*store.Store
	on atomic.Bool
}

func (u *unwritable) Commit(ctx context.Context, l store.Lease, c store.Change) (store.Committed, error) {
	if u.on.Load() {
		return store.Committed{}, fmt.Errorf("planted: %w", store.ErrUnavailable)
	}
	return u.Store.Commit(ctx, l, c)
}

func TestWorker_store_that_only_reads_costs_the_server_little(t *testing.T) {
	bubble(t, true, func(d *den) {
		u := &unwritable{Store: d.st}
		d.wrap = func(Store) Store { return u }
		d.started()
		u.on.Store(true)
		d.srv.put("INBOX", "one")
		d.pass(time.Second)
		d.srv.act(func() { d.srv.commands = 0 })
		d.pass(2 * time.Minute)
		if _, n := d.srv.counted(); n > 150 {
			d.t.Errorf("%d commands in two minutes of a session", n)
		}
		d.srv.act(func() {
			for _, x := range d.srv.sessions {
				x.Close()
			}
		})
		dials, _ := d.srv.counted()
		d.pass(2 * time.Minute)
		if n, _ := d.srv.counted(); n-dials > 3 {
			d.t.Errorf("%d logins in two minutes", n)
		}
		u.on.Store(false)
		d.pass(time.Minute)
		d.expect("messageNew INBOX <one> new")
	})
}

// More folders than are asked for within a probe interval: each has its turn.
func TestWorker_asks_for_every_folder_in_turn(t *testing.T) {
	bubble(t, false, func(d *den) {
		d.srv.act(func() {
			d.srv.listStatus = false
			for i := range 10 {
				d.srv.create(fmt.Sprintf("Z%d", i))
			}
		})
		d.cfg = Config{ProbeInterval: 2 * time.Second}
		d.up()
		d.pass(10 * time.Second)
		d.took()
		d.srv.put("Z9", "last")
		d.pass(time.Minute)
		d.expect("messageNew Z9 <last> new")
	})
}

// unreadable fails all reads of an account's state while the lease is given.
type unreadable struct {
	*store.Store
	reads atomic.Int64
}

func (u *unreadable) State(ctx context.Context, id store.AccountID) (store.State, error) {
	if u.reads.Add(1) > 100 { // so that a loop without a wait fails the test, and does not hang it
		return u.Store.State(ctx, id)
	}
	return store.State{}, fmt.Errorf("planted: %w", store.ErrUnavailable)
}

func TestWorker_store_that_cannot_be_read_is_asked_once_a_second(t *testing.T) {
	bubble(t, true, func(d *den) {
		u := &unreadable{Store: d.st}
		d.wrap = func(Store) Store { return u }
		d.up()
		d.pass(20 * time.Second)
		if n := u.reads.Load(); n < 10 || n > 45 {
			d.t.Errorf("%d reads in 20 s", n)
		}
	})
}

func TestManager_stall_seen_from_outside_ends_with_the_next_pass(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.started()
		d.pass(time.Minute)
		d.ok(d.m.stalled(d.t.Context(), denAccount, d.state(), time.Now().Add(-time.Hour), time.Now()))
		d.pass(5 * time.Second)
		d.expect("accountStalled noAnswer", "accountRecovered")
	})
}
