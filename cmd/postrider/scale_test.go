package main

import (
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/benchtest"
	"github.com/postrider/postrider/store"
)

// liveAgain is the promise for the accounts of a process that is gone: another watches
// them within that time, of which the leases take up to nine seconds.
const (
	liveAgain = 15 * time.Second
	leaseTime = 9 * time.Second
)

// TestScale: two processes share a thousand accounts while mail pours in. One is stopped
// for longer than any lease stands, and goes on; then the other is killed. Each time the
// one that is left takes everything over in time, and in the end every message was
// announced exactly once: whoever woke late wrote nothing.
func TestScale(t *testing.T) {
	accounts, pause := 1000, 20*time.Second
	if d, err := time.ParseDuration(os.Getenv("POSTRIDER_TEST_PAUSE")); err == nil {
		pause = d
	}
	if testing.Short() {
		accounts = 100
	}
	c := newCrowd(t, accounts, false)
	a, b := c.serve(), c.serve()
	began := time.Now()
	c.register()
	c.awaitConnected(2 * time.Minute)
	// A machine that has other things to do may be late, by what it was late with before.
	first := c.lastSync().Sub(began)
	within := max(liveAgain, leaseTime+2*first)
	t.Logf("all connected after %v: a takeover may take %v", first, within)
	shares := c.shares()
	t.Logf("shares %v", shares)
	if len(shares) != 2 {
		t.Fatalf("%d processes hold accounts: %v", len(shares), shares)
	}
	for owner, n := range shares {
		if most := (accounts/2)*105/100 + 1; n > most {
			t.Errorf("%s holds %d accounts, its share is at most %d", owner, n, most)
		}
	}
	ofB := c.owner(b, shares)
	stop := c.pour(50)

	if err := b.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	stopped := time.Now()
	c.takeover("stopped", stopped, ofB, within)
	<-time.After(time.Until(stopped.Add(pause)))
	if err := b.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, within, "one session an account after the stopped one went on", func() bool {
		return c.model.Counters().Open == accounts
	})
	c.awaitConnected(within) // nothing that was late has overwritten what is
	t.Logf("after it went on: %v", c.shares())

	a.Kill()
	c.takeover("killed", time.Now(), c.owner(a, shares), within)
	stop()
	c.awaitTold(time.Minute)
	c.oneSession()
}

// owner is the name under which a process holds leases.
func (c *crowd) owner(s *served, shares map[string]int) string {
	c.t.Helper()
	dir := dataDirectory{path: s.Dir}
	name, err := dir.instance()
	if err != nil || shares[name] == 0 {
		c.t.Fatalf("instance %q, %v: shares %v", name, err, shares)
	}
	return name
}

// takeover gives every account a message in the moment in which the process of that name
// is gone, and demands that all are announced, and all accounts connected, by others
// within that time.
func (c *crowd) takeover(what string, gone time.Time, owner string, within time.Duration) {
	c.t.Helper()
	for i := range c.ids {
		c.append(i)
	}
	newest := c.awaitTold(4 * within)
	c.awaitConnected(within)
	var took []time.Duration
	for _, at := range newest {
		took = append(took, at.Sub(gone))
	}
	slices.Sort(took)
	c.t.Logf("%s: announced p50 %v, p99 %v, last %v", what, benchtest.Quantile(took, 0.5), benchtest.Quantile(took, 0.99), took[len(took)-1])
	if took[len(took)-1] > within {
		c.t.Errorf("%s: the last account told its mail %v after", what, took[len(took)-1])
	}
	var last time.Time
	for id, st := range c.states() {
		if st.Owner == owner || st.Status.State != store.StateConnected {
			c.t.Errorf("%s: %s is %s under %q", what, id, st.Status.State, st.Owner)
		}
		if st.Status.SyncTime.After(last) {
			last = st.Status.SyncTime
		}
	}
	c.t.Logf("%s: all connected after %v", what, last.Sub(gone))
	if last.Sub(gone) > within {
		c.t.Errorf("%s: the last account is connected %v after", what, last.Sub(gone))
	}
}
