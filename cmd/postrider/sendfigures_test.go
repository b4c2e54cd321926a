package main

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"golang.org/x/sync/errgroup"

	"github.com/postrider/postrider/internal/benchtest"
	"github.com/postrider/postrider/smtpsend/smtptest"
	"github.com/postrider/postrider/store/storetest"
)

// submit queues messages by several requests at a time.
func (s *served) submit(account string, n, parallel int, message func(i int) map[string]any) {
	s.t.Helper()
	var g errgroup.Group
	g.SetLimit(parallel)
	for i := range n {
		g.Go(func() error {
			_, err := s.TryCall("POST", "/v1/account/"+account+"/submit", message(i), nil)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		s.t.Fatal(err)
	}
}

// Small messages through one account to a sink on this machine: from the first request until
// the last messageSent is in the journal.
func BenchmarkSend(b *testing.B) {
	for _, kb := range []int{4, 20} {
		b.Run(fmt.Sprintf("%dkB", kb), func(b *testing.B) {
			const n = 5000
			sink := smtptest.StartSink(b, smtptest.SinkOptions{Discard: true})
			s := startServe(b, loopbackEnv("POSTRIDER_REDIS_URL="+storetest.NewServer(b).URL()))
			s.registerSender("bench", sink, "")
			text := strings.Repeat("Some words of a message, sixty-four characters to each line. \n", kb<<10/63)
			message := func(i int) map[string]any {
				return map[string]any{"to": map[string]any{"address": "r@example.net"}, "subject": fmt.Sprint("message ", i), "text": text}
			}
			began, used := time.Now(), benchtest.CPU(b, s.cmd.Process.Pid)
			s.submit("bench", n, 4, message)
			accepted := time.Since(began)
			eventually(b, 2*time.Minute, "every message", func() bool { return len(sink.Messages()) == n })
			eventually(b, time.Minute, "every messageSent", func() bool { return count(s.journal("bench"), "messageSent") == n })
			took := time.Since(began)
			used = benchtest.CPU(b, s.cmd.Process.Pid) - used
			// The same number again, all of them queued before the first is sent.
			s.Call("PUT", "/v1/account/bench/pause", nil, nil)
			s.submit("bench", n, 4, message)
			s.Call("PUT", "/v1/account/bench/resume", nil, nil)
			resumed := time.Now()
			eventually(b, 2*time.Minute, "every message", func() bool { return len(sink.Messages()) == 2*n })
			drained := time.Since(resumed)
			host, port := sink.Addr()
			plain := bareLoop(b, fmt.Sprintf("%s:%d", host, port), n, []byte(strings.ReplaceAll(text, "\n", "\r\n")))
			benchtest.Figure{
				Name: fmt.Sprintf("send %d kB, accept to messageSent", kb), Value: n / took.Seconds(), Unit: "messages/s", Least: 500,
				Baseline: "go-smtp's client in a loop, to the same sink", Ratio: n / took.Seconds() / plain,
			}.Report(b)
			benchtest.Figure{
				Name: fmt.Sprintf("send %d kB, of a full queue", kb), Value: n / drained.Seconds(), Unit: "messages/s", Least: 500,
				Baseline: "go-smtp's client in a loop, to the same sink", Ratio: n / drained.Seconds() / plain,
			}.Report(b)
			benchtest.Figure{Name: fmt.Sprintf("send %d kB, acceptance alone", kb), Value: n / accepted.Seconds(), Unit: "messages/s"}.Report(b)
			benchtest.Figure{Name: fmt.Sprintf("send %d kB, CPU per message", kb), Value: float64(used.Microseconds()) / n, Unit: "µs"}.Report(b)
		})
	}
}

// bareLoop sends n messages one after another over one connection and returns their rate.
func bareLoop(b *testing.B, addr string, n int, body []byte) float64 {
	b.Helper()
	c, err := smtp.Dial(addr)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	began := time.Now()
	for range n {
		if err := c.SendMail("bench@sender.example", []string{"r@example.net"}, bytes.NewReader(body)); err != nil {
			b.Fatal(err)
		}
	}
	return float64(n) / time.Since(began).Seconds()
}

// Ten messages with attachments of 25 MB, all under way at once.
func BenchmarkSendMemory(b *testing.B) {
	const n, size = 10, 25 << 20
	var gate sync.WaitGroup
	gate.Add(n) // nobody's dot is answered before all have come
	sink := smtptest.StartSink(b, smtptest.SinkOptions{Discard: true, Dot: func(smtptest.Message) error {
		gate.Done()
		gate.Wait()
		return nil
	}})
	s := startServe(b, loopbackEnv("POSTRIDER_REDIS_URL="+storetest.NewServer(b).URL(), "POSTRIDER_SEND_MAX_ACCOUNT_BYTES=1GiB"))
	s.registerSender("large", sink, "")
	s.Call("PUT", "/v1/account/large", map[string]any{"sendLimits": map[string]any{"maxConnections": n}}, nil)
	s.Call("PUT", "/v1/account/large/pause", nil, nil)
	content := bytes.Repeat([]byte("QUJDREVGR0hJSktM"), size/12)
	s.submit("large", n, 1, func(i int) map[string]any {
		return map[string]any{
			"to": map[string]any{"address": "r@example.net"}, "subject": fmt.Sprint("large ", i), "text": "see attachment",
			"attachments": []any{map[string]any{"filename": "large.bin", "encoding": "base64", "content": string(content)}},
		}
	})
	// The requests' bodies are garbage by now; it goes back to the system with a new process.
	s.Kill()
	s.Start()
	<-time.After(2 * time.Second)
	idle := benchtest.RSS(b, s.cmd.Process.Pid)
	s.Call("PUT", "/v1/account/large/resume", nil, nil)
	peak := idle
	eventuallyFine(b, 2*time.Minute, func() bool {
		peak = max(peak, benchtest.RSS(b, s.cmd.Process.Pid))
		return len(sink.Messages()) == n
	})
	for _, m := range sink.Messages() {
		if m.Size < size*4/3 {
			b.Errorf("a message of %d bytes arrived", m.Size)
		}
	}
	benchtest.Figure{
		Name: "send ten 25 MB attachments at once", Value: float64(peak-idle) / (1 << 20), Unit: "MiB above idle", Most: 100,
		Baseline: "their size", Ratio: float64(peak-idle) / (n * size),
	}.Report(b)
}
