package imapsync

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/store"
)

// Passes that hold what left say nothing yet, and are not in vain: mail that comes in the
// middle of a long deletion is told of as ever.
func TestBreathe_deletions_that_are_held_delay_no_mail(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.srv.objectID = true
		d.old("INBOX", 600)
		d.started()
		d.pass(time.Minute)
		d.srv.act(func() { d.srv.refused["Archive"] = true; d.srv.add("Archive", "hidden", time.Now()) }) // nothing is looked for there
		for i := range 180 {
			d.srv.expunge("INBOX", uint32(i+1))
			d.pass(90 * time.Millisecond)
		}
		d.srv.put("INBOX", "new")
		d.pass(2 * time.Second)
		if got := d.took(); !slices.Contains(got, "messageNew INBOX <new> new") {
			t.Errorf("told within two seconds: %q", got)
		}
	})
}

// Where NOTIFY is off, that hints were lost is nothing new.
func TestNotify_overflow_without_it_asks_nothing(t *testing.T) {
	bubble(t, true, func(d *den) {
		d.started()
		lists, _, _ := d.did(func() {
			for range 60 {
				d.srv.overflow()
				d.pass(5 * time.Second)
			}
		})
		if lists > 4 {
			t.Errorf("%d LISTs in five minutes", lists)
		}
	})
}

// restless ends every IDLE at once, with a change.
type restless struct {
	Session
	mu    *sync.Mutex
	idles *int
}

func (r *restless) Idle(ctx context.Context, limit time.Duration) (IdleEnd, error) {
	r.mu.Lock()
	*r.idles++
	n := *r.idles
	r.mu.Unlock()
	if n > 5000 {
		return r.Session.Idle(ctx, limit) // the test fails, and ends
	}
	return IdleChanged, nil
}

func (r *restless) Changes() Changes { r.Session.Changes(); return Changes{Exists: true} }

// A further connection whose server ends IDLE with every breath is not asked without end,
// nor is the account.
func TestSubconnection_does_not_spin(t *testing.T) {
	for _, refused := range []bool{false, true} {
		t.Run(fmt.Sprint("main refused ", refused), func(t *testing.T) {
			bubble(t, true, func(d *den) {
				var mu sync.Mutex
				idles, dials := 0, 0
				d.dial = func(ctx context.Context, _ store.Account) (Session, error) {
					s, err := d.srv.dial(ctx)
					mu.Lock()
					defer mu.Unlock()
					if dials++; err == nil && dials > 1 {
						s = &restless{s, &mu, &idles}
					}
					return s, err
				}
				d.apart("Archive")
				d.started()
				if refused {
					d.srv.act(func() { d.srv.refused["INBOX"] = true })
					d.srv.put("INBOX", "unread")
				}
				_, _, commands := d.did(func() { d.pass(5 * time.Minute) })
				mu.Lock()
				defer mu.Unlock()
				if idles > 400 || commands > 4000 {
					t.Errorf("%d IDLEs, %d commands in five minutes", idles, commands)
				}
			})
		})
	}
}

// hasty has the server end some IDLEs at once, by their number.
type hasty struct {
	Session
	n    int
	ends func(n int) bool
}

func (h *hasty) Idle(ctx context.Context, limit time.Duration) (IdleEnd, error) {
	if h.n++; h.ends(h.n) {
		return IdleServer, nil
	}
	return h.Session.Idle(ctx, limit)
}

// A server that ends IDLE at once, again and again, is polled; one that does so now and then
// is not.
func TestIdle_that_ends_at_once(t *testing.T) {
	for name, tt := range map[string]struct {
		ends func(n int) bool
		want []string
	}{
		"always":       {func(int) bool { return true }, []string{"IDLE: the server ends it at once"}},
		"now and then": {func(n int) bool { return n%3 == 0 }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, true, func(d *den) {
				d.dial = func(ctx context.Context, _ store.Account) (Session, error) {
					s, err := d.srv.dial(ctx)
					return &hasty{Session: s, ends: tt.ends}, err
				}
				d.started()
				d.pass(45 * time.Minute)
				if got := d.latches(); !slices.Equal(got, tt.want) {
					t.Errorf("latches %q, want %q", got, tt.want)
				}
			})
		})
	}
}

// Looks in vain come further and further apart, but for those that say when they come.
func TestFolder_in_vain(t *testing.T) {
	now := time.Now()
	f := &folder{dirty: true}
	for i, want := range []time.Duration{0, time.Second, 2 * time.Second, 4 * time.Second} {
		f.inVain(now)
		if wait := f.retryAt(); want == 0 != wait.IsZero() || want > 0 && wait.Sub(now) != want || f.dirty != wait.IsZero() {
			t.Errorf("%d: again at %v, dirty %v; want after %v", i, wait, f.dirty, want)
		}
		now = now.Add(want)
	}
	for range 40 {
		f.inVain(now)
		if wait := f.retryAt().Sub(now); wait > time.Minute {
			t.Fatalf("waits %v", wait)
		}
		now = now.Add(time.Minute)
	}
	f = &folder{dirty: true, short: &shortness{next: now.Add(time.Hour)}, doubt: &doubt{next: now.Add(time.Minute)}}
	if f.inVain(now); f.dirty || f.vain != 0 || !f.retryAt().Equal(now.Add(time.Minute)) {
		t.Errorf("dirty %v, vain %d, again at %v", f.dirty, f.vain, f.retryAt())
	}
}
