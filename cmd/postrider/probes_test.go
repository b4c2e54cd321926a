package main

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/store/storetest"
)

// A process without the role api can be probed where its metrics are.
func TestProbesWithoutAPI(t *testing.T) {
	d := startDaemon(t, func(l *loaded) {
		l.Roles, l.API.MetricsListen = []string{roleSend}, "127.0.0.1:0"
	})
	for path, want := range map[string]int{"/livez": http.StatusOK, "/readyz": http.StatusOK, "/metrics": http.StatusOK, "/v1/accounts": http.StatusNotFound} {
		if status := get(t, "http://"+d.metListen.Addr().String()+path, ""); status != want {
			t.Errorf("%s: %d, want %d", path, status, want)
		}
	}
}

func TestReadyz_says_no(t *testing.T) {
	rdb := storetest.MiniredisClient(t)
	d := &daemon{registry: prometheus.NewRegistry(), store: storetest.On(t, rdb)}
	ready := func() int {
		w := httptest.NewRecorder()
		d.operations().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/readyz", nil))
		return w.Code
	}
	if got := ready(); got != http.StatusOK {
		t.Errorf("running: %d", got)
	}
	d.stopping.Store(true)
	if got := ready(); got != http.StatusServiceUnavailable {
		t.Errorf("stopping: %d", got)
	}
	d.stopping.Store(false)
	if err := rdb.Close(); err != nil {
		t.Fatal(err)
	}
	if got := ready(); got != http.StatusServiceUnavailable {
		t.Errorf("without Redis: %d", got)
	}
}
