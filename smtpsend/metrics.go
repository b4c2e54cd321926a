package smtpsend

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the figures of the engine. Labels come from closed sets: states, classes,
// scopes, steps and results; never accounts, hosts or addresses.
type metrics struct {
	submissions *prometheus.GaugeVec
	oldestDue   prometheus.Gauge
	queuedBytes prometheus.Gauge
	accepted    prometheus.Counter
	attempts    *prometheus.CounterVec
	seconds     *prometheus.HistogramVec
	wait        prometheus.Histogram
	active      prometheus.Gauge
	reused      prometheus.Counter
	sleeps      *prometheus.CounterVec
	held        *prometheus.CounterVec
	unknown     *prometheus.CounterVec
	copies      *prometheus.CounterVec
	recovered   *prometheus.CounterVec
	revived     prometheus.Counter
	leaseLost   prometheus.Counter
	unrecorded  prometheus.Counter
	panics      prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	const ns = "postrider_send_"
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: ns + name, Help: help})
	}
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: ns + name, Help: help}, labels)
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: ns + name, Help: help})
	}
	latency := []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 3600}
	m := &metrics{
		submissions: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: ns + "submissions", Help: "Submissions in each state, in the whole installation."}, []string{"state"}),
		oldestDue:   gauge("oldest_due_seconds", "How long the submission waits that is due longest."),
		queuedBytes: gauge("queued_bytes", "Bytes of what waits to be sent."),
		accepted:    counter("accepted_total", "Submissions accepted."),
		attempts:    vec("attempts_total", "Transactions, by what they ended with.", "class", "scope", "code_class"),
		seconds:     prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: ns + "attempt_seconds", Help: "Time of a transaction, by the step it ended at.", Buckets: latency}, []string{"stage"}),
		wait:        prometheus.NewHistogram(prometheus.HistogramOpts{Name: ns + "queue_wait_seconds", Help: "From due to claimed.", Buckets: latency}),
		active:      gauge("active", "Transactions of this process now."),
		reused:      counter("connection_reuse_total", "Transactions on a connection that had carried one before."),
		sleeps:      vec("spool_sleeps_total", "Times that an account's sending was put off.", "reason"),
		held:        vec("held_total", "Submissions held after an attempt.", "reason"),
		unknown:     vec("unknown_total", "Submissions whose outcome became unknown, and how that ended.", "resolution"),
		copies:      vec("copy_total", "Copies of sent mail.", "result"),
		recovered:   vec("recovered_total", "Submissions taken from a process that died.", "stage"),
		revived:     counter("revived_total", "Accounts with due mail that had lost their tasks."),
		leaseLost:   counter("lease_lost_total", "Transactions dropped because their claim was another's by then."),
		unrecorded:  counter("outcomes_unrecorded_total", "Outcomes that could not be written down."),
		panics:      counter("panics_total", "Panics of handlers."),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{
		m.submissions, m.oldestDue, m.queuedBytes, m.accepted, m.attempts, m.seconds, m.wait, m.active, m.reused, m.sleeps, m.held,
		m.unknown, m.copies, m.recovered, m.revived, m.leaseLost, m.unrecorded, m.panics,
	} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}
