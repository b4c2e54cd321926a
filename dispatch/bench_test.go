package dispatch_test

import (
	"slices"
	"testing"
	"time"

	"github.com/postrider/postrider/dispatch"
	"github.com/postrider/postrider/store/storetest"
)

// BenchmarkOneLane delivers the events of one account, which go one after another.
func BenchmarkOneLane(b *testing.B) {
	r := receiver(b)
	h := open(b, storetest.NewServer(b, "--appendonly", "yes").Client(), dispatch.Config{})
	h.set(map[string]any{"webhooks": r.URL})
	h.account("ines", "")
	h.wait(r, 1, 10*time.Second)
	b.ResetTimer()
	for b.Loop() {
		r.Reset()
		h.mail("ines", 5000)
		h.wait(r, 5000, time.Minute)
	}
	b.ReportMetric(float64(5000*b.N)/b.Elapsed().Seconds(), "deliveries/s")
}

// BenchmarkLatency is from append to request, one event at a time.
func BenchmarkLatency(b *testing.B) {
	r := receiver(b)
	h := open(b, storetest.NewServer(b, "--appendonly", "yes").Client(), dispatch.Config{})
	h.set(map[string]any{"webhooks": r.URL})
	h.account("ines", "")
	h.wait(r, 1, 10*time.Second)
	var took []time.Duration
	for b.Loop() {
		r.Reset()
		begun := time.Now()
		h.mail("ines", 1)
		got := h.wait(r, 1, time.Minute)
		took = append(took, got[0].At.Sub(begun))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Milliseconds()), "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Milliseconds()), "p99-ms")
}
