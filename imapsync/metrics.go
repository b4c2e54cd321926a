package imapsync

import "github.com/prometheus/client_golang/prometheus"

// metrics are what the engine counts. Labels come from closed sets.
type metrics struct {
	workers   prometheus.Gauge
	sessions  prometheus.Gauge
	connects  *prometheus.CounterVec // by kind of fault, "" = success
	events    *prometheus.CounterVec // by type
	pass      prometheus.Histogram
	commit    prometheus.Histogram
	resets    *prometheus.CounterVec
	latched   *prometheus.CounterVec
	throttled *prometheus.CounterVec
	repairs   *prometheus.CounterVec // by tier and kind; ought to stay 0
	hints     prometheus.Counter
	silent    prometheus.Counter
	lost      prometheus.Counter // workers abandoned by the watchdog
	panics    prometheus.Counter
	stalled   prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		workers:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "postrider_sync_workers", Help: "Accounts watched by this process."}),
		sessions:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "postrider_sync_sessions", Help: "IMAP sessions that are logged in."}),
		connects:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "postrider_sync_sessions_total", Help: "Sessions that ended, by kind of fault; ok = as planned."}, []string{"end"}),
		events:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "postrider_sync_events_total", Help: "Events committed, by type."}, []string{"event"}),
		pass:      prometheus.NewHistogram(prometheus.HistogramOpts{Name: "postrider_sync_pass_seconds", Help: "Duration of a pass over an account.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 10)}),
		commit:    prometheus.NewHistogram(prometheus.HistogramOpts{Name: "postrider_sync_commit_seconds", Help: "Duration of a commit.", Buckets: prometheus.ExponentialBuckets(0.0005, 3, 10)}),
		resets:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "postrider_sync_resets_total", Help: "Folders taken in anew, by reason."}, []string{"reason"}),
		latched:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "postrider_sync_latched_total", Help: "Capabilities switched off because they did not behave."}, []string{"capability"}),
		throttled: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "postrider_sync_throttled_total", Help: "Times a server asked us to slow down: by a hint, for an account, or for a whole host."}, []string{"what"}),
		repairs:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "postrider_sync_audit_repairs_total", Help: "Messages in whose state an audit found what should have been seen before."}, []string{"tier", "kind"}),
		hints:     prometheus.NewCounter(prometheus.CounterOpts{Name: "postrider_sync_hints_total", Help: "Pushes looked into."}),
		silent:    prometheus.NewCounter(prometheus.CounterOpts{Name: "postrider_sync_silent_total", Help: "Sessions closed because they did not answer in time."}),
		lost:      prometheus.NewCounter(prometheus.CounterOpts{Name: "postrider_sync_abandoned_total", Help: "Workers abandoned because they did not end; ought to stay 0."}),
		panics:    prometheus.NewCounter(prometheus.CounterOpts{Name: "postrider_sync_panics_total", Help: "Panics recovered in account workers; ought to stay 0."}),
		stalled:   prometheus.NewCounter(prometheus.CounterOpts{Name: "postrider_sync_stalled_total", Help: "accountStalled events appended by this process."}),
	}
	if r != nil {
		r.MustRegister(m.workers, m.sessions, m.connects, m.events, m.pass, m.commit, m.resets, m.latched, m.repairs, m.throttled, m.hints, m.silent, m.lost, m.panics, m.stalled)
	}
	return m
}
