package imapsync

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// paced is a profile that opens one session at once, one a second.
func paced() *Profile {
	p := builtin().fallback
	p.Name, p.ConnectsPerSecond, p.Handshakes = "paced", 1, 1
	return &p
}

func TestPacerRetriesQueueBehindFirstTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer()
		began := time.Now()
		var mu sync.Mutex
		var order []string
		var wg sync.WaitGroup
		enter := func(name string, retry bool) {
			wg.Go(func() {
				turn := func() (func(), error) { return p.enter(t.Context(), "mail.example.com", paced(), retry) }
				if name == "live" {
					turn = func() (func(), error) { return p.queue(t.Context(), "mail.example.com", paced(), 0) }
				}
				leave, err := turn()
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				order = append(order, fmt.Sprintf("%s %s", name, time.Since(began)))
				mu.Unlock()
				leave()
			})
			synctest.Wait()
		}
		for range 3 {
			enter("retry", true) // the first finds nobody waiting
		}
		enter("first", false)
		enter("first", false)
		enter("live", false)
		wg.Wait()
		want := []string{"retry 0s", "live 1s", "first 2s", "first 3s", "retry 4s", "retry 5s"}
		if !slices.Equal(order, want) {
			t.Errorf("got %q, want %q", order, want)
		}
	})
}

func TestPacerBoundsHandshakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer()
		p.share(2)
		profile := paced()
		profile.Handshakes, profile.ConnectsPerSecond = 8, 1000
		var leaves []func()
		var mu sync.Mutex
		ctx, cancel := context.WithCancelCause(t.Context())
		var wg sync.WaitGroup
		refused := 0
		for range 10 {
			wg.Go(func() {
				leave, err := p.enter(ctx, "mail.example.com", profile, false)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					refused++
					return
				}
				leaves = append(leaves, leave)
			})
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(leaves) != 4 {
			t.Fatalf("%d of 10 at once, want half of 8", len(leaves))
		}
		leaves[0]()
		time.Sleep(time.Second)
		synctest.Wait()
		if len(leaves) != 5 {
			t.Fatalf("%d after one left", len(leaves))
		}
		cancel(errShutdown)
		wg.Wait()
		for _, leave := range leaves[1:] {
			leave()
		}
		g := p.hosts["mail.example.com"]
		if refused != 5 || g.open != 0 || len(g.queues[0]) != 0 {
			t.Errorf("%d refused, %d open, %d wait", refused, g.open, len(g.queues[0]))
		}
		if _, err := p.enter(ctx, "mail.example.com", profile, false); err != nil && !errors.Is(err, errShutdown) {
			t.Error(err)
		}
	})
}

func TestPacerPrivateHostsUnlessTheyHaveAProfile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer()
		began := time.Now()
		for range handshakesPrivate {
			if _, err := p.enter(t.Context(), "127.0.0.1", &builtin().fallback, false); err != nil {
				t.Fatal(err)
			}
		}
		if d := time.Since(began); d != 0 {
			t.Errorf("%s for our own network", d)
		}
		for range 3 {
			leave, err := p.enter(t.Context(), "127.0.0.2", paced(), false)
			if err != nil {
				t.Fatal(err)
			}
			leave()
		}
		if d := time.Since(began); d != 2*time.Second {
			t.Errorf("%s with a profile", d)
		}
	})
}

func TestPacerSpreadsAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer()
		host := "mail.example.com" // 50 a second
		var last time.Duration
		for range 2000 {
			last = p.lost(host)
		}
		if last != 40*time.Second {
			t.Errorf("2,000 lost sessions over %s, want 40s", last)
		}
		for range 100_000 {
			last = p.lost(host)
		}
		if last != outageMost {
			t.Errorf("over %s", last)
		}
		time.Sleep(outageWindow + time.Second)
		if d := p.lost(host); d != 20*time.Millisecond {
			t.Errorf("a single one later over %s", d)
		}
	})
}

func TestPacerSlowsAHostThatThrottlesSeveralAccounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer()
		host := "mail.example.com"
		for range 5 {
			if p.throttle(host, "same") {
				t.Fatal("one account is no host")
			}
		}
		p.throttle(host, "b")
		time.Sleep(throttledWithin + time.Second)
		if p.throttle(host, "c") || p.throttle(host, "d") || p.slowed(host) {
			t.Fatal("what was long ago counts")
		}
		if !p.throttle(host, "e") || !p.slowed(host) {
			t.Fatal("three accounts within five minutes")
		}
		if p.throttle(host, "f") {
			t.Error("said twice")
		}
		if p.slowed("other.example.com") {
			t.Error("another host pays")
		}
		began := time.Now()
		for range 3 {
			leave, err := p.enter(t.Context(), host, paced(), false)
			if err != nil {
				t.Fatal(err)
			}
			leave()
		}
		if d := time.Since(began); d != 20*time.Second {
			t.Errorf("three sessions in %s, want 20s", d)
		}
		time.Sleep(slowedFor)
		if p.slowed(host) {
			t.Error("slowed for ever")
		}
	})
}

// A thousand accounts come and go: what is kept of hosts is bounded.
func TestPacerForgetsHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer()
		for i := range 3 * maxIdleGates {
			leave, err := p.enter(t.Context(), fmt.Sprintf("h%d.example.com", i), paced(), false)
			if err != nil {
				t.Fatal(err)
			}
			leave()
			time.Sleep(10 * time.Millisecond)
		}
		if n := len(p.hosts); n > maxIdleGates+1 {
			t.Errorf("%d hosts kept", n)
		}
	})
}
