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
// them within that time.
const liveAgain = 15 * time.Second

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
	c.register()
	c.awaitConnected(60 * time.Second)
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
	c.takeover("stopped", stopped, ofB)
	<-time.After(time.Until(stopped.Add(pause)))
	if err := b.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, 15*time.Second, "one session an account after the stopped one went on", func() bool {
		return c.model.Counters().Open == accounts
	})
	c.awaitConnected(5 * time.Second) // nothing that was late has overwritten what is
	if left := c.shares(); len(left) != 1 || left[ofB] > 0 {
		t.Errorf("after it went on: %v", left)
	}

	a.Kill()
	c.takeover("killed", time.Now(), c.owner(a, shares))
	stop()
	c.awaitTold(30 * time.Second)
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
// within liveAgain.
func (c *crowd) takeover(what string, gone time.Time, owner string) {
	c.t.Helper()
	for i := range c.ids {
		c.append(i)
	}
	newest := c.awaitTold(2 * liveAgain)
	c.awaitConnected(liveAgain)
	var took []time.Duration
	for _, at := range newest {
		took = append(took, at.Sub(gone))
	}
	slices.Sort(took)
	c.t.Logf("%s: announced p50 %v, p99 %v, last %v", what, benchtest.Quantile(took, 0.5), benchtest.Quantile(took, 0.99), took[len(took)-1])
	if took[len(took)-1] > liveAgain {
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
	if last.Sub(gone) > liveAgain {
		c.t.Errorf("%s: the last account is connected %v after", what, last.Sub(gone))
	}
}
