package imapsync

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
)

// herd is many accounts, each with a server of its own, and processes that share them.
type herd struct {
	*den
	ids  []store.AccountID
	srvs map[store.AccountID]*fakeServer
	put  map[store.AccountID]int
}

func newHerd(d *den, n int) *herd {
	h := &herd{den: d, srvs: map[store.AccountID]*fakeServer{}, put: map[store.AccountID]int{}}
	d.ok(d.st.DeleteAccount(d.t.Context(), denAccount))
	for i := range n {
		id := store.AccountID(fmt.Sprintf("a%02d", i))
		_, err := d.st.CreateAccount(d.t.Context(), store.Account{ID: id, IMAP: &store.Server{Host: "127.0.0.1", Port: 143, User: "jo"}})
		d.ok(err)
		h.ids = append(h.ids, id)
		h.srvs[id] = newFakeServer(true)
	}
	return h
}

// join starts a process of a name; leave ends it as a shutdown does.
func (h *herd) join(name string) (m *Manager, leave func()) {
	m = NewManager(Options{
		Store: h.st, Owner: name, Logger: slog.New(slog.NewTextHandler(h.t.Output(), nil)),
		Dial: func(ctx context.Context, a store.Account) (Session, error) { return h.srvs[a.ID].dial(ctx) },
	})
	ctx, cancel := context.WithCancel(h.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = m.Run(ctx)
	}()
	return m, func() {
		cancel()
		<-done
	}
}

// mail gives every account a message.
func (h *herd) mail() {
	for _, id := range h.ids {
		h.put[id]++
		h.srvs[id].put("INBOX", fmt.Sprint(id, "-", h.put[id]))
	}
}

// told demands that every message was announced once.
func (h *herd) told() {
	h.t.Helper()
	for _, id := range h.ids {
		n, next := 0, uint64(1)
		for e, err := range h.st.Journal(h.t.Context(), id, 0) {
			h.ok(err)
			if e.Seq != next {
				h.t.Errorf("%s: seq %d, want %d", id, e.Seq, next)
			}
			next = e.Seq + 1
			if e.Type == events.MessageNewType {
				n++
			}
		}
		if n != h.put[id] {
			h.t.Errorf("%s: %d messages announced, there are %d", id, n, h.put[id])
		}
	}
}

// watched is how many accounts a process watches.
func watched(m *Manager) int { return len(m.Watched()) }

// A second process gets its share: nothing that was taken within the last minute, twenty
// a second at most, and each account's mail is told once all the while. When it shuts
// down, the first takes everything back within two seconds.
func TestManager_shares_with_a_process_that_joins_and_leaves(t *testing.T) {
	bubble(t, true, func(d *den) {
		h := newHerd(d, 90)
		one, stopOne := h.join("one")
		defer stopOne()
		h.pass(5 * time.Second)
		if n := watched(one); n != 90 {
			d.t.Fatalf("%d accounts are watched", n)
		}
		two, stopTwo := h.join("two")
		h.pass(50 * time.Second)
		if a, b := watched(one), watched(two); a != 90 || b != 0 {
			d.t.Fatalf("before the minute is over: %d and %d", a, b)
		}
		last, moved := 90, 0
		for range 20 {
			h.mail()
			h.pass(time.Second)
			n := watched(one)
			if most := handOverRate; last-n > most {
				d.t.Errorf("%d accounts were handed over in a second", last-n)
			}
			moved, last = moved+last-n, n
		}
		if a, b := watched(one), watched(two); a != quota(90, 2) || a+b != 90 {
			d.t.Errorf("after %d were handed over: %d and %d", moved, a, b)
		}
		h.mail()
		h.pass(2 * time.Second)
		h.told()

		stopTwo()
		h.mail()
		h.pass(2 * time.Second)
		if n := watched(one); n != 90 {
			d.t.Errorf("%d accounts are watched after the other left", n)
		}
		h.told()
	})
}

// A process that takes a crashed one's place goes on at once: it need not wait for the
// leases of its own name to run out.
func TestManager_inherits_what_its_predecessor_held(t *testing.T) {
	bubble(t, true, func(d *den) {
		h := newHerd(d, 10)
		for _, id := range h.ids {
			_, err := d.st.Acquire(d.t.Context(), id, "one", time.Minute)
			d.ok(err)
		}
		one, stop := h.join("one")
		defer stop()
		h.pass(500 * time.Millisecond)
		if n := watched(one); n != 10 {
			d.t.Errorf("%d accounts are watched", n)
		}
	})
}

// unsaid fails the first commit that says connected, as a lease does that is renewed late.
type unsaid struct {
	*store.Store
	failed bool
}

func (u *unsaid) Commit(ctx context.Context, l store.Lease, c store.Change) (store.Committed, error) {
	if c.Status != nil && c.Status.Status.State == store.StateConnected && !u.failed {
		u.failed = true
		return store.Committed{}, fmt.Errorf("planted: %w", store.ErrUnavailable)
	}
	return u.Store.Commit(ctx, l, c)
}

func TestWorker_says_connected_when_the_store_did_not_take_it(t *testing.T) {
	bubble(t, true, func(d *den) {
		u := &unsaid{Store: d.st}
		d.wrap = func(Store) Store { return u }
		d.started()
		if st := d.state().Status.State; !u.failed || st != store.StateConnected {
			d.t.Errorf("the account is %s, the commit failed: %v", st, u.failed)
		}
	})
}

// A lease stands by the monotonic clock, for less time than Redis gives it.
func TestWorker_lease_ends_before_it_can_have_expired(t *testing.T) {
	bubble(t, true, func(d *den) {
		m := NewManager(Options{Store: d.st})
		w := &worker{}
		if w.leased() {
			d.t.Error("leased before it was")
		}
		w.leaseUntil.Store(m.stands(time.Now()))
		d.pass(m.cfg.LeaseTTL - 2*time.Second - time.Millisecond)
		if !w.leased() {
			d.t.Error("not leased, though it was just renewed")
		}
		d.pass(time.Millisecond)
		if w.leased() {
			d.t.Error("leased in the last two seconds")
		}
	})
}
