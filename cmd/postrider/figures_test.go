package main

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/imapsync/imaptest"
	"github.com/postrider/postrider/internal/benchtest"
	"github.com/postrider/postrider/store/storetest"
)

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
		name    string
		q, most float64
	}{{"p50", 0.5, 100}, {"p99", 0.99, 500}} {
		v, base := benchtest.Quantile(took, q.q), benchtest.Quantile(plain, q.q)
		benchtest.Figure{
			Name: "latency EXISTS to webhook " + q.name, Value: benchtest.MS(v), Unit: "ms", Most: q.most,
			Baseline: "a bare POST to the same receiver", Ratio: float64(v) / float64(base),
		}.Report(b)
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
func eventuallyFine(b testing.TB, most time.Duration, ok func() bool) {
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
	before, used := s.quiet(b, "burst", hook), benchtest.CPU(b, s.cmd.Process.Pid)
	if err := user.Fill(n, time.Now(), benchMessage, nil); err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	eventuallyFine(b, 5*time.Minute, func() bool { return hook.distinct() >= before+n })
	took := time.Since(began)
	used = benchtest.CPU(b, s.cmd.Process.Pid) - used

	var body []byte
	for _, a := range hook.all()[:1] {
		body = a.event.Data
	}
	plain := plainLoop(b, n, body)
	rate := n / took.Seconds()
	benchtest.Figure{
		Name: "burst end to end", Value: rate, Unit: "events/s", Baseline: "the same number of POSTs one after another", Ratio: rate / plain,
	}.Report(b)
	benchtest.Figure{Name: "burst CPU per event", Value: float64(used.Microseconds()) / n, Unit: "µs"}.Report(b)
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
	idle := benchtest.RSS(b, s.cmd.Process.Pid)
	peak := idle
	began = time.Now()
	s.register("large", user.Server(), "")
	rdb := redis.Client()
	state := rdb.Keys(b.Context(), "*:a:large:state").Val()[0]
	for rdb.HGet(b.Context(), state, "init").Val() != "1" {
		peak = max(peak, benchtest.RSS(b, s.cmd.Process.Pid))
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
	benchtest.Figure{
		Name: "baseline of 100,000 messages", Value: took.Seconds(), Unit: "s", Most: 5,
		Baseline: "reading UIDs and flags by a small client", Ratio: took.Seconds() / bare.Seconds(),
	}.Report(b)
	benchtest.Figure{Name: "baseline memory above idle", Value: (peak - idle) / (1 << 20), Unit: "MiB", Most: 16}.Report(b)
	benchtest.Figure{Name: "redis per message", Value: float64(bytes) / n, Unit: "B", Most: 4}.Report(b)
}
