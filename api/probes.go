package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

type probeOut struct {
	Body probeBody
}

type probeBody struct {
	Status string            `json:"status" enum:"ok"`
	Checks map[string]string `json:"checks,omitempty" doc:"only with a token"`
}

type probeIn struct {
	request *http.Request
}

// Resolve keeps the request: the probes look for a token without demanding one.
func (in *probeIn) Resolve(ctx huma.Context) []error {
	in.request, _ = humago.Unwrap(ctx)
	return nil
}

// checkTime is how long readiness waits for an answer.
const checkTime = time.Second

func (s *Server) probeRoutes() {
	tags := []string{"operations"}
	register(s, huma.Operation{
		OperationID: "livez", Method: http.MethodGet, Path: "/livez", Tags: tags, Summary: "Whether the process turns; looks at nothing outside",
	}, nil, func(context.Context, *struct{}) (*probeOut, error) { return &probeOut{probeBody{Status: "ok"}}, nil })
	for _, path := range []string{"/readyz", "/health"} {
		register(s, huma.Operation{
			OperationID: path[1:], Method: http.MethodGet, Path: path, Tags: tags,
			Summary: "Whether the process can work: the store writes and reads, roles run, no shutdown",
		}, nil, s.readyz)
	}
	if s.o.Metrics == nil {
		return
	}
	register(s, huma.Operation{
		OperationID: "metrics", Method: http.MethodGet, Path: "/metrics", Tags: tags, Summary: "Metrics for Prometheus",
		Responses: map[string]*huma.Response{"200": {
			Description: "OK", Content: map[string]*huma.MediaType{"text/plain": {Schema: &huma.Schema{Type: huma.TypeString}}},
		}},
	}, []string{scopeMetrics}, func(context.Context, *struct{}) (*huma.StreamResponse, error) {
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			r, w := humago.Unwrap(hc)
			s.o.Metrics.ServeHTTP(w, r)
		}}, nil
	})
}

func (s *Server) readyz(ctx context.Context, in *probeIn) (*probeOut, error) {
	code, detail := Code(""), ""
	if s.draining.Load() {
		code, detail = ShuttingDown, "this process is ending"
	}
	checks := map[string]string{"store": "ok"}
	ask := func(name string, f func(context.Context) error) {
		ctx, stop := context.WithTimeout(ctx, checkTime)
		defer stop()
		checks[name] = "ok"
		if err := f(ctx); err != nil {
			checks[name] = "failing"
			if code == "" {
				code, detail = StoreUnavailable, "not ready"
			}
			s.log.Debug("readiness check failed", "check", name, "err", err)
		}
	}
	ask("store", s.o.Store.Ping)
	for name, f := range s.o.Checks {
		ask(name, f)
	}
	if value, _ := s.credential(in.request); value == "" || checks["store"] != "ok" {
		checks = nil // details are for those who may know; who that is, only the store says
	} else if s.authenticate(in.request) != nil {
		checks = nil
	}
	if code != "" {
		p := problem(code, "%s", detail)
		p.Checks = checks
		return nil, p
	}
	return &probeOut{probeBody{"ok", checks}}, nil
}
