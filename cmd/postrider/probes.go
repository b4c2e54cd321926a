package main

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// readyWithin is how long readiness waits for Redis, as package api does.
const readyWithin = time.Second

// operations is what api.metricsListen serves: figures, and for a process without the role
// api the only probes. Roles that end by themselves end the process, so one that answers
// has all of its roles.
func (d *daemon) operations() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(d.registry, promhttp.HandlerOpts{}))
	say := func(w http.ResponseWriter, status int, word string) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(`{"status":"` + word + `"}` + "\n")) // who does not wait for it does not need it
	}
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, stop := context.WithTimeout(r.Context(), readyWithin)
		defer stop()
		if d.stopping.Load() || d.store.Ping(ctx) != nil {
			say(w, http.StatusServiceUnavailable, "failing")
			return
		}
		say(w, http.StatusOK, "ok")
	})
	return mux
}
