package dispatch

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the figures of the engine. Labels come from closed sets: the kind of a
// route, classes, states and reasons.
type metrics struct {
	attempts    *prometheus.CounterVec
	seconds     *prometheus.HistogramVec
	deliveries  *prometheus.CounterVec
	bodyBytes   prometheus.Histogram
	inflight    prometheus.Gauge
	late        prometheus.Counter
	repeats     prometheus.Counter
	rollback    prometheus.Counter
	batch       prometheus.Histogram
	sweeps      *prometheus.CounterVec
	carrierLost prometheus.Counter
	leaseLost   prometheus.Counter
	refused     prometheus.Counter
	unrecorded  prometheus.Counter
	panics      prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	const ns = "postrider_webhook_"
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: ns + name, Help: help})
	}
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: ns + name, Help: help}, labels)
	}
	latency := []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 15, 30, 60}
	m := &metrics{
		attempts:    vec("attempts_total", "HTTP requests made, by kind of route and class of outcome.", "route", "class"),
		seconds:     prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: ns + "attempt_seconds", Help: "Time of one request.", Buckets: latency}, []string{"route"}),
		deliveries:  vec("deliveries_total", "Deliveries that ended.", "route", "state", "reason"),
		bodyBytes:   prometheus.NewHistogram(prometheus.HistogramOpts{Name: ns + "body_bytes", Help: "Size of bodies sent.", Buckets: prometheus.ExponentialBuckets(256, 4, 9)}),
		inflight:    prometheus.NewGauge(prometheus.GaugeOpts{Name: ns + "inflight", Help: "Requests being made now."}),
		late:        counter("out_of_order_total", "Deliveries that left their lane."),
		repeats:     counter("repeats_refused_total", "Pointers the relay brought twice and lanes refused."),
		rollback:    counter("relay_id_rollback_total", "Feed ids that went backwards."),
		batch:       prometheus.NewHistogram(prometheus.HistogramOpts{Name: ns + "relay_batch_seconds", Help: "Time of one batch of the relay.", Buckets: latency}),
		sweeps:      vec("sweeps_total", "Rounds of the sweeper and lanes it gave a new carrier.", "what"),
		carrierLost: counter("carrier_lost_total", "Lanes whose carrier was lost."),
		leaseLost:   counter("lease_lost_total", "Writes refused because a lane or shard was another's by then."),
		refused:     counter("egress_refused_total", "Requests that the egress policy refused."),
		unrecorded:  counter("duplicates_possible_total", "Attempts whose outcome could not be recorded."),
		panics:      counter("panics_total", "Panics of handlers."),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{
		m.attempts, m.seconds, m.deliveries, m.bodyBytes, m.inflight, m.late, m.repeats, m.rollback, m.batch,
		m.sweeps, m.carrierLost, m.leaseLost, m.refused, m.unrecorded, m.panics,
	} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}
