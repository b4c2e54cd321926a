package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/imapsync/imaptest"
	"github.com/postrider/postrider/internal/benchtest"
)

// What many accounts cost: the program in a process of its own, over TLS to a server in
// this one, beside a process that only logs in and reads.
func BenchmarkCrowd(b *testing.B) {
	for _, n := range []int{1000, 5000, 10_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) { crowdFigures(b, n) })
	}
}

func crowdFigures(b *testing.B, n int) {
	if most := benchtest.RaiseFiles(b); most < uint64(n)+500 {
		b.Skipf("needs %d open files, may have %d: ulimit -n", n+500, most)
	}
	c := newCrowd(b, n, true)
	c.hook = newReceiver(b)
	bareMemory, bareCPU := bareLogins(b, c.users)
	s := c.serve()
	pid := s.cmd.Process.Pid
	empty := settledRSS(b, pid)
	name := func(what string) string { return fmt.Sprintf("%s, %d accounts", what, n) }

	used, began := benchtest.CPU(b, pid), time.Now()
	c.register()
	c.awaitConnected(10 * time.Minute)
	took := c.lastSync().Sub(began)
	used = benchtest.CPU(b, pid) - used
	benchtest.Figure{
		Name: name("first connection CPU per account"), Value: benchtest.MS(used) / float64(n), Unit: "ms",
		Baseline: "a bare TLS login", Ratio: float64(used) / float64(bareCPU),
	}.Report(b)
	benchtest.Figure{Name: name("registering and connecting"), Value: took.Seconds(), Unit: "s"}.Report(b)

	memory := settledRSS(b, pid) - empty
	benchtest.Figure{
		Name: name("memory per idle TLS account"), Value: memory / float64(n) / 1000, Unit: "KB", Most: 40,
		Baseline: "a bare TLS connection and its goroutine", Ratio: memory / bareMemory,
	}.Report(b)

	const watch = time.Minute
	used = benchtest.CPU(b, pid)
	redis := benchtest.CPU(b, c.redis.Process().Pid)
	<-time.After(watch)
	percent := func(d time.Duration) float64 { return 100 * float64(d) / float64(watch) }
	benchtest.Figure{Name: name("idle CPU, probes on"), Value: percent(benchtest.CPU(b, pid) - used), Unit: "% of one", Most: 15}.Report(b)
	benchtest.Figure{Name: name("idle CPU of Redis"), Value: percent(benchtest.CPU(b, c.redis.Process().Pid) - redis), Unit: "% of one"}.Report(b)

	c.latencyFigures(name)
	if n > 1000 {
		c.stormFigures(s, name)
		return
	}
	s.Kill()
	eventually(b, 30*time.Second, "the killed one's connections are gone", func() bool { return c.model.Counters().Open == 0 })
	began = time.Now()
	s.Start()
	c.awaitSync(began, 5*time.Minute)
	used = benchtest.CPU(b, s.cmd.Process.Pid)
	benchtest.Figure{
		Name: name("warm start"), Value: c.lastSync().Sub(began).Seconds(), Unit: "s", Most: 15,
		Baseline: "CPU of as many bare TLS logins", Ratio: float64(used) / float64(bareCPU), MostRatio: 2,
	}.Report(b)
}

// latencyFigures: two messages a second to random accounts, until the webhook.
func (c *crowd) latencyFigures(name func(string) string) {
	took := c.latencies(100, time.Second/2)
	benchtest.Figure{Name: name("EXISTS to webhook p50"), Value: benchtest.MS(benchtest.Quantile(took, 0.5)), Unit: "ms"}.Report(c.t)
	benchtest.Figure{Name: name("EXISTS to webhook p99"), Value: benchtest.MS(benchtest.Quantile(took, 0.99)), Unit: "ms", Most: 2000}.Report(c.t)
}

// latencies are the times from n messages to their webhooks, ascending; one message
// every pause.
func (c *crowd) latencies(n int, pause time.Duration) []time.Duration {
	b := c.t
	b.Helper()
	var took []time.Duration
	for range n {
		i := rand.IntN(len(c.ids))
		began := time.Now()
		c.append(i)
		id := fmt.Sprintf("<m%d.%d@crowd.example>", i, c.put[i])
		eventuallyFine(b, 30*time.Second, func() bool {
			at := c.hook.when(id)
			if !at.IsZero() {
				took = append(took, at.Sub(began))
			}
			return !at.IsZero()
		})
		<-time.After(time.Until(began.Add(pause)))
	}
	slices.Sort(took)
	return took
}

// stormFigures: 2,000 connections are cut at once.
func (c *crowd) stormFigures(s *served, name func(string) string) {
	b, pid := c.t, s.cmd.Process.Pid
	const cut = 2000
	before, used, began := c.model.Counters().Sessions, benchtest.CPU(b, pid), time.Now()
	for _, u := range c.users[:cut] {
		u.Cut()
	}
	peak, last := 0, before
	for back := 0; back < cut; {
		second := time.Now()
		<-time.After(time.Second)
		now := c.model.Counters().Sessions
		peak, last = max(peak, int(float64(now-last)/time.Since(second).Seconds())), now
		back = now - before
		if time.Since(began) > 5*time.Minute {
			b.Fatalf("%d of %d are back", back, cut)
		}
	}
	c.awaitConnected(5 * time.Minute)
	took := c.lastSync().Sub(began)
	used = benchtest.CPU(b, pid) - used
	benchtest.Figure{Name: name("2,000 cut at once: all back"), Value: took.Seconds(), Unit: "s"}.Report(b)
	benchtest.Figure{Name: name("2,000 cut at once: logins in a second"), Value: float64(peak), Unit: "at most"}.Report(b)
	benchtest.Figure{Name: name("2,000 cut at once: CPU meanwhile"), Value: 100 * float64(used) / float64(took), Unit: "% of one", Most: 100}.Report(b)
}

// lastSync is when the last account finished the first pass of its session.
func (c *crowd) lastSync() time.Time {
	var last time.Time
	for _, st := range c.states() {
		if st.Status.SyncTime.After(last) {
			last = st.Status.SyncTime
		}
	}
	return last
}

// awaitSync waits until every account finished a pass behind a time.
func (c *crowd) awaitSync(behind time.Time, within time.Duration) {
	c.t.Helper()
	eventually(c.t, within, "a pass over every account", func() bool {
		for _, st := range c.states() {
			if !st.Status.SyncTime.After(behind) {
				return false
			}
		}
		return true
	})
}

// settledRSS is a process's memory when it no longer falls: the collector gives it back
// slowly.
func settledRSS(tb testing.TB, pid int) float64 {
	tb.Helper()
	least, since := benchtest.RSS(tb, pid), time.Now()
	for end := time.Now().Add(3 * time.Minute); time.Now().Before(end) && time.Since(since) < 20*time.Second; <-time.After(time.Second) {
		if now := benchtest.RSS(tb, pid); now < 0.995*least {
			least, since = now, time.Now()
		}
	}
	return least
}

// asBare makes the test binary a process that logs in to a server as all the users that
// its standard input names, and then reads.
const asBare = "POSTRIDER_TEST_AS_BARE"

// bareLogins runs that process and returns the memory of its connections and the
// processor time of its logins.
func bareLogins(b *testing.B, users []*imaptest.ModelUser) (memory float64, used time.Duration) {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asBare+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	cmd.Stderr = b.Output()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	out, pid := bufio.NewReader(pipe), cmd.Process.Pid
	said := func(want string) {
		if line, err := out.ReadString('\n'); err != nil || strings.TrimSpace(line) != want {
			b.Fatalf("the bare client says %q, %v, not %s", line, err, want)
		}
	}
	said("up")
	empty := settledRSS(b, pid)
	used = benchtest.CPU(b, pid)
	srv := users[0].Server()
	var all strings.Builder
	fmt.Fprintf(&all, "%s:%d %d %d\n%s", srv.Host, srv.Port, len(users), len(srv.CA), srv.CA)
	for _, u := range users {
		fmt.Fprintf(&all, "a LOGIN %s %s\n", u.Server().User, u.Server().Pass)
	}
	if _, err := io.WriteString(in, all.String()); err != nil {
		b.Fatal(err)
	}
	said("connected")
	used = benchtest.CPU(b, pid) - used
	return settledRSS(b, pid) - empty, used
}

// runBare is the process.
func runBare() error {
	fmt.Println("up")
	in := bufio.NewReader(os.Stdin)
	var addr string
	var n, size int
	if _, err := fmt.Fscanf(in, "%s %d %d\n", &addr, &n, &size); err != nil {
		return err
	}
	ca := make([]byte, size)
	if _, err := io.ReadFull(in, ca); err != nil {
		return err
	}
	cfg := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "127.0.0.1"}
	cfg.RootCAs.AppendCertsFromPEM(ca)
	ended := make(chan error, n)
	slots, done := make(chan struct{}, 64), make(chan struct{}, n)
	for range n {
		login, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		slots <- struct{}{}
		go func() {
			ended <- bareLogin(addr, cfg, login, func() { <-slots; done <- struct{}{} })
		}()
	}
	for range n {
		select {
		case <-done:
		case err := <-ended:
			return err
		}
	}
	fmt.Println("connected")
	return <-ended
}

// bareLogin logs in, says so, and reads until the connection ends.
func bareLogin(addr string, cfg *tls.Config, login string, in func()) error {
	d := tls.Dialer{Config: cfg}
	c, err := d.DialContext(context.Background(), "tcp", addr)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, strings.TrimSpace(login)+"\r\n"); err != nil {
		return err
	}
	var tail string
	var p [512]byte
	for loggedIn := false; ; {
		k, err := c.Read(p[:])
		if err != nil {
			return err
		}
		if loggedIn {
			continue
		}
		tail += string(p[:k])
		if loggedIn = strings.Contains(tail, "\na OK"); loggedIn {
			tail = ""
			in()
		}
	}
}
