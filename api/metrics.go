package api

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the package. Labels are from closed sets: route is a pattern.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	inFlight prometheus.Gauge
	failures *prometheus.CounterVec
	panics   prometheus.Counter
	lag      prometheus.Gauge
	bodies   prometheus.Gauge
}

// newMetrics makes them and registers them with reg, if there is one.
func newMetrics(reg prometheus.Registerer, open *streams) (metrics, error) {
	m := metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postrider_http_requests_total", Help: "Requests answered.",
		}, []string{"route", "method", "code_class"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "postrider_http_seconds", Help: "Time to answer a request; streams and long polls count to their end.",
			Buckets: []float64{.001, .005, .025, .1, .5, 2, 10, 60},
		}, []string{"route"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "postrider_http_in_flight", Help: "Requests in work, streams included.",
		}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postrider_auth_failures_total", Help: "Requests refused for their token.",
		}, []string{"reason"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "postrider_http_panics_total", Help: "Requests that ended in a fault of ours.",
		}),
		bodies: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "postrider_http_body_bytes_in_use", Help: "Memory reserved for the messages in requests.",
		}),
		lag: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "postrider_event_stream_lag_seconds", Help: "Age of the event that was written to a stream last.",
		}),
	}
	if reg == nil {
		return m, nil
	}
	streams := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "postrider_event_streams", Help: "Open event streams.",
	}, func() float64 { return float64(open.count()) })
	for _, c := range []prometheus.Collector{m.requests, m.seconds, m.inFlight, m.failures, m.panics, m.lag, m.bodies, streams} {
		if err := reg.Register(c); err != nil {
			return m, err
		}
	}
	return m, nil
}

func (m metrics) request(method, route string, status int, dur time.Duration) {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions, http.MethodPatch:
	default:
		method = "other"
	}
	m.requests.WithLabelValues(route, method, strconv.Itoa(status/100)+"xx").Inc()
	m.seconds.WithLabelValues(route).Observe(dur.Seconds())
}

func (m metrics) authFailure(reason string) { m.failures.WithLabelValues(reason).Inc() }
