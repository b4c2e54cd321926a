package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/imapsync/imaptest"
	"github.com/postrider/postrider/store/storetest"
)

// figure is one measured number, as a line of bench.jsonl: value in unit, and its ratio
// to a plain thing measured in the same run.
type figure struct {
	Name     string  `json:"name"`
	Value    float64 `json:"value"`
	Unit     string  `json:"unit"`
	Baseline string  `json:"baseline"` // what ratio compares with; "" = nothing
	Ratio    float64 `json:"ratio"`
}

// report prints a figure and appends it to the file that POSTRIDER_BENCH_OUT names.
func report(b *testing.B, f figure) {
	b.Helper()
	line, err := json.Marshal(f)
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("%-34s %12.3f %-12s", f.Name, f.Value, f.Unit)
	if f.Baseline != "" {
		b.Logf("%-34s %12.3f × %s", "", f.Ratio, f.Baseline)
	}
	path := os.Getenv("POSTRIDER_BENCH_OUT")
	if path == "" {
		return
	}
	out, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		b.Fatal(err)
	}
	defer out.Close()
	if _, err := out.Write(append(line, '\n')); err != nil {
		b.Fatal(err)
	}
}

// quantile of ascending values.
func quantile(v []time.Duration, q float64) time.Duration { return v[int(q*float64(len(v)-1))] }

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// rss is a process's resident memory in bytes, cpu the processor time it has used.
func rss(b *testing.B, pid int) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Skipf("needs /proc: %v", err)
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseFloat(strings.Fields(v)[0], 64)
			if err != nil {
				b.Fatal(err)
			}
			return kb * 1024
		}
	}
	b.Fatal("no VmRSS")
	return 0
}

func cpu(b *testing.B, pid int) time.Duration {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Skipf("needs /proc: %v", err)
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	var ticks float64
	for _, f := range fields[11:13] { // utime, stime
		n, err := strconv.ParseFloat(f, 64)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks * float64(time.Second) / 100) // USER_HZ is 100 on Linux
}

func benchMessage(i int) []byte {
	id := fmt.Sprintf("m%d@bench.example", i)
	return imaptest.Message(id, "Message number "+strconv.Itoa(i))
}

// From the moment another program hands a message to the IMAP server until the receiver
// has the webhook.
func BenchmarkLatency(b *testing.B) {
	hook := newReceiver(b)
	mem, addr := memoryServer(b)
	s := startServe(b, loopbackEnv("POSTRIDER_REDIS_URL="+storetest.NewServer(b).URL()))
	s.register("latency", addr, hook.URL)
	s.awaitEvent("latency", "accountInitialized", 30*time.Second)
	const n = 300
	before := s.quiet(b, "latency", hook)
	var took, plain []time.Duration
	for i := range n {
		began := time.Now()
		if _, err := mem.Append(b.Context(), "INBOX", benchMessage(i), nil, began); err != nil {
			b.Fatal(err)
		}
		eventuallyFine(b, 10*time.Second, func() bool { return hook.distinct() > before+i })
		all := hook.all()
		last := all[len(all)-1]
		if !strings.Contains(string(last.event.Data), fmt.Sprintf("<m%d@", i)) {
			b.Fatalf("message %d: the receiver got %s %s", i, last.event.Event, last.event.Data)
		}
		took = append(took, last.at.Sub(began))
		plain = append(plain, barePost(b, hook.URL))
	}
	slices.Sort(took)
	slices.Sort(plain)
	for _, q := range []struct {
		name string
		q    float64
	}{{"p50", 0.5}, {"p99", 0.99}} {
		v, base := quantile(took, q.q), quantile(plain, q.q)
		report(b, figure{"latency EXISTS to webhook " + q.name, ms(v), "ms", "a bare POST to the same receiver", float64(v) / float64(base)})
	}
}

// quiet waits until the receiver has the whole journal and says how many deliveries that is.
func (s *served) quiet(b *testing.B, id string, hook *receiver) int {
	b.Helper()
	n := len(s.journal(id))
	eventuallyFine(b, 10*time.Second, func() bool { return hook.distinct() == n })
	return n
}

// eventuallyFine looks every half millisecond.
func eventuallyFine(b *testing.B, most time.Duration, ok func() bool) {
	b.Helper()
	for deadline := time.Now().Add(most); !ok(); {
		if time.Now().After(deadline) {
			b.Fatalf("not within %s", most)
		}
		<-time.After(500 * time.Microsecond)
	}
}

// barePost is how long one small request takes. The receiver refuses it as not JSON and
// does not count it.
func barePost(b *testing.B, url string) time.Duration {
	b.Helper()
	began := time.Now()
	resp, err := http.Post(url, "application/json", bytes.NewReader(bytes.Repeat([]byte("x"), 800)))
	if err != nil {
		b.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return time.Since(began)
}

// memoryServer is the in-process IMAP server on a port of the loopback.
func memoryServer(b *testing.B) (*imaptest.Memory, imaptest.Server) {
	b.Helper()
	mem := imaptest.StartMemory(b)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = mem.Serve(ln)
	}()
	b.Cleanup(func() {
		_ = ln.Close()
		_ = mem.Close()
		<-done
	})
	srv := mem.Server()
	srv.Host, srv.Port = "127.0.0.1", ln.Addr().(*net.TCPAddr).Port
	return mem, srv
}

// 5,000 messages appear in one INBOX at once.
func BenchmarkBurst(b *testing.B) {
	const n = 5000
	hook := newReceiver(b)
	user := imaptest.StartDovecot(b).User("burst", "secret")
	s := startServe(b, loopbackEnv("POSTRIDER_REDIS_URL="+storetest.NewServer(b).URL()))
	s.register("burst", user.Server(), hook.URL)
	s.awaitEvent("burst", "accountInitialized", 30*time.Second)
	before, used := s.quiet(b, "burst", hook), cpu(b, s.cmd.Process.Pid)
	if err := user.Fill(n, time.Now(), benchMessage, nil); err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	eventuallyFine(b, 5*time.Minute, func() bool { return hook.distinct() >= before+n })
	took := time.Since(began)
	used = cpu(b, s.cmd.Process.Pid) - used

	var body []byte
	for _, a := range hook.all()[:1] {
		body = a.event.Data
	}
	plain := plainLoop(b, n, body)
	rate := n / took.Seconds()
	report(b, figure{"burst end to end", rate, "events/s", "the same number of POSTs one after another", rate / plain})
	report(b, figure{"burst CPU per event", float64(used.Microseconds()) / n, "µs", "", 0})
}

// plainLoop posts n bodies one after another over one connection and returns their rate.
func plainLoop(b *testing.B, n int, body []byte) float64 {
	b.Helper()
	sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusNoContent)
	}))
	defer sink.Close()
	began := time.Now()
	for range n {
		resp, err := http.Post(sink.URL, "application/json", bytes.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	return float64(n) / time.Since(began).Seconds()
}

// The first look at a folder of 100,000 messages, and what Redis keeps of it.
func BenchmarkBaseline(b *testing.B) {
	const n = 100_000
	redis := storetest.NewServer(b)
	user := imaptest.StartDovecot(b).User("large", "secret")
	if _, err := user.Truth(b.Context()); err != nil { // the first login makes the folders
		b.Fatal(err)
	}
	// As a mailbox looks after some years: most are read, some flagged or answered, and a
	// tenth of the UIDs is gone.
	chance := rand.New(rand.NewPCG(1, 2))
	flags := func(int) string {
		var f strings.Builder
		for _, c := range []struct {
			letter string
			odds   float64
		}{{"F", 0.05}, {"R", 0.2}, {"S", 0.85}} {
			if chance.Float64() < c.odds {
				f.WriteString(c.letter)
			}
		}
		return f.String()
	}
	if err := user.Fill(n*10/9, time.Now().Add(-48*time.Hour), benchMessage, flags); err != nil {
		b.Fatal(err)
	}
	if _, err := user.Truth(b.Context()); err != nil { // Dovecot takes the mail in
		b.Fatal(err)
	}
	var gone []uint32
	for _, uid := range chance.Perm(n * 10 / 9)[:n*10/9-n] {
		gone = append(gone, uint32(uid)+1)
	}
	for part := range slices.Chunk(gone, 500) {
		if err := user.Expunge(b.Context(), "INBOX", part...); err != nil {
			b.Fatal(err)
		}
	}
	if truth, err := user.Truth(b.Context()); err != nil || len(truth["INBOX"].Messages) != n {
		b.Fatalf("%d messages, %v", len(truth["INBOX"].Messages), err)
	}
	began := time.Now()
	if _, err := user.Truth(b.Context()); err != nil {
		b.Fatal(err)
	}
	bare := time.Since(began)

	s := startServe(b, loopbackEnv("POSTRIDER_REDIS_URL="+redis.URL()))
	idle := rss(b, s.cmd.Process.Pid)
	peak := idle
	began = time.Now()
	s.register("large", user.Server(), "")
	rdb := redis.Client()
	state := rdb.Keys(b.Context(), "*:a:large:state").Val()[0]
	for rdb.HGet(b.Context(), state, "init").Val() != "1" {
		peak = max(peak, rss(b, s.cmd.Process.Pid))
		if time.Since(began) > 5*time.Minute {
			b.Fatal("the baseline does not end")
		}
		<-time.After(5 * time.Millisecond)
	}
	took := time.Since(began)
	var bytes int64
	for _, pattern := range []string{"*:a:large:f:*", "*:a:large:b:*"} {
		for _, key := range rdb.Keys(b.Context(), pattern).Val() {
			bytes += rdb.MemoryUsage(b.Context(), key, 0).Val()
		}
	}
	report(b, figure{"baseline of 100,000 messages", took.Seconds(), "s", "reading UIDs and flags by a small client", took.Seconds() / bare.Seconds()})
	report(b, figure{"baseline memory above idle", (peak - idle) / (1 << 20), "MiB", "", 0})
	report(b, figure{"redis per message", float64(bytes) / n, "B", "", 0})
}

// What an idle account costs, at 1,000 of them on one in-memory server.
func BenchmarkIdleAccounts(b *testing.B) {
	const n = 1000
	_, addr := memoryServer(b)
	redis := storetest.NewServer(b)
	s := startServe(b, loopbackEnv("POSTRIDER_REDIS_URL="+redis.URL()))
	settle := func() float64 {
		last := rss(b, s.cmd.Process.Pid)
		for range 60 { // until it no longer falls
			<-time.After(time.Second)
			now := rss(b, s.cmd.Process.Pid)
			if now > last-256<<10 {
				return now
			}
			last = now
		}
		return last
	}
	idle := settle()
	began := time.Now()
	for i := range n {
		s.register(fmt.Sprintf("idle-%04d", i), addr, "")
	}
	eventually(b, 5*time.Minute, "all accounts connected", func() bool {
		var list struct{ Total int }
		s.Call("GET", "/v1/accounts?state=connected&pageSize=1", nil, &list)
		return list.Total == n
	})
	report(b, figure{"registering and connecting 1,000", time.Since(began).Seconds(), "s", "", 0})
	report(b, figure{"memory per idle account", (settle() - idle) / n / 1024, "KB", "", 0})
}
