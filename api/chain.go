package api

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"log/slog"
	"net/http"
	"net/netip"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/postrider/postrider/store"
)

// maxURL is the longest request target.
const maxURL = 8 << 10

// call is what is known of the request in work. One goroutine, that of the request,
// owns it.
type call struct {
	id      string
	addr    netip.Addr // of the client, past trusted proxies
	secure  bool       // it came over TLS, as far as we know
	token   *store.Token
	value   string   // of the token, for asking again during a stream
	problem *Problem // that was answered
	leave   func()   // gives up the place among the requests in work; nil: it has none

	// of a body whose attachments were taken out
	sum      [sha256.Size]byte // of all of it
	mark     string
	texts    []lifted
	reserved int64 // bytes of memory
}

type callKey struct{}

// callOf is never nil: outside a request it is an empty one.
func callOf(ctx context.Context) *call {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		return c
	}
	return &call{}
}

// recorder remembers what was answered.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

// WriteHeader implements http.ResponseWriter.
func (w *recorder) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.begin(status)
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements io.Writer.
func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.begin(http.StatusOK)
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// begin gives the answer its time: whoever does not take it holds nothing up for long.
// Streams set their own deadline for each write.
func (w *recorder) begin(status int) {
	w.status = status
	_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Now().Add(writeTime)) // not every writer has deadlines
}

// Unwrap is for http.ResponseController.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// requestID is what we take from a trusted proxy.
var requestID = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,128}$`)

// ServeHTTP answers one request: the outermost layer, which every request passes.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	addr, proxied := clientAddr(r, s.o.Config.TrustedProxies)
	c := &call{addr: addr, secure: r.TLS != nil || proxied && r.Header.Get("X-Forwarded-Proto") == "https"}
	if id := r.Header.Get("X-Request-Id"); proxied && requestID.MatchString(id) {
		c.id = id
	} else {
		c.id = "req_" + strings.ToLower(rand.Text())
	}
	r = r.WithContext(context.WithValue(r.Context(), callKey{}, c))
	h := w.Header()
	h.Set("X-Request-Id", c.id)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")

	rec := &recorder{ResponseWriter: w}
	handler, route := s.route(r)
	s.metrics.inFlight.Inc()
	defer func() {
		s.metrics.inFlight.Dec()
		if v := recover(); v != nil {
			if v == http.ErrAbortHandler { // net/http's own way to break off
				panic(v)
			}
			s.metrics.panics.Inc()
			s.log.Error("panic in a request", "route", route, "request", c.id, "panic", v, "stack", string(debug.Stack()))
			if rec.status == 0 {
				problem(InternalError, "something went wrong here; the log has it under this request's id").write(rec, r)
			}
		}
		s.done(r, c, rec, route, time.Since(start))
	}()
	s.cors(h, r)
	if p := s.admit(r); p != nil {
		p.write(rec, r)
		return
	}
	if bounded(route) {
		select {
		case s.working <- struct{}{}:
			c.leave = sync.OnceFunc(func() { <-s.working })
			defer c.leave()
		default:
			problem(ServerBusy, "%d requests are in work", cap(s.working)).write(rec, r)
			return
		}
	}
	handler.ServeHTTP(rec, r)
}

// bounded says whether a route counts against MaxConcurrent: not the probes, which
// must answer when all else is busy, nor streams, which have a limit of their own. A
// long poll gives its place up while it waits.
func bounded(route string) bool {
	switch route {
	case "/livez", "/readyz", "/health", "/metrics", "/v1/events/stream":
		return false
	}
	return true
}

// admit refuses what no route should see.
func (s *Server) admit(r *http.Request) *Problem {
	switch {
	case r.Header.Get("X-Postrider-Hop") != "":
		return problem(LoopDetected, "a webhook delivery arrived at our own API")
	case len(r.URL.RequestURI()) > maxURL:
		return problem(URLTooLong, "the URL is over %d bytes", maxURL)
	}
	if s.draining.Load() {
		switch r.URL.Path {
		case "/livez", "/readyz", "/health", "/metrics":
		default:
			return problem(ShuttingDown, "this process is ending")
		}
	}
	return nil
}

// route finds the handler of a request and the pattern that metrics know it by. What no
// pattern takes is answered with a problem, redirects to cleaned paths included: paths
// are exact.
func (s *Server) route(r *http.Request) (http.Handler, string) {
	if r.Method == http.MethodOptions && len(s.o.Config.CORSOrigins) > 0 && strings.HasPrefix(r.URL.Path, "/v1/") {
		return http.HandlerFunc(s.preflight), "preflight"
	}
	h, pattern := s.mux.Handler(r)
	_, route, ok := strings.Cut(pattern, " ")
	if !ok {
		route = pattern
	}
	if route == "/monitor/" || route == "/monitor" {
		return s.mux, route
	}
	if pattern == "" {
		return refuseWith(h), "none"
	}
	if !matches(route, r) {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { problem(NotFound, "nothing at this path").write(w, r) }), "none"
	}
	return s.mux, route
}

// matches says whether the pattern is that of the path itself, not of the path that
// net/http would redirect to.
func matches(route string, r *http.Request) bool {
	return strings.Count(route, "/") == strings.Count(r.URL.EscapedPath(), "/")
}

// refuseWith turns net/http's own 404 and 405 into problems.
func refuseWith(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		probe := &discard{header: http.Header{}}
		h.ServeHTTP(probe, r)
		if probe.status == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", probe.header.Get("Allow"))
			problem(MethodNotAllowed, "this path takes %s", probe.header.Get("Allow")).write(w, r)
			return
		}
		problem(NotFound, "nothing at this path").write(w, r)
	})
}

// discard is a ResponseWriter that keeps the status alone.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(status int)      { d.status = status }

// cors sets what a browser of a configured origin needs. Without a configured origin no
// header is sent, and a preflight is a 405 like any OPTIONS.
func (s *Server) cors(h http.Header, r *http.Request) {
	if len(s.o.Config.CORSOrigins) == 0 {
		return
	}
	h.Add("Vary", "Origin")
	if origin := r.Header.Get("Origin"); slices.Contains(s.o.Config.CORSOrigins, origin) {
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Expose-Headers", "ETag, Retry-After, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, X-Request-Id")
	}
}

// preflight answers OPTIONS where an origin is configured.
func (s *Server) preflight(w http.ResponseWriter, r *http.Request) {
	if w.Header().Get("Access-Control-Allow-Origin") == "" || r.Header.Get("Access-Control-Request-Method") == "" {
		problem(MethodNotAllowed, "OPTIONS is for preflights of configured origins").write(w, r)
		return
	}
	h := w.Header()
	h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, DELETE")
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Last-Event-ID")
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
}

// done counts and logs the request: one line, without query, body or credentials.
func (s *Server) done(r *http.Request, c *call, rec *recorder, route string, dur time.Duration) {
	if rec.status == 0 {
		rec.status = http.StatusOK
	}
	s.metrics.request(r.Method, route, rec.status, dur)
	level, attrs := slog.LevelInfo, []slog.Attr{
		slog.String("method", r.Method), slog.String("route", route), slog.Int("status", rec.status),
		slog.Duration("dur", dur), slog.Int64("bytes", rec.bytes), slog.String("request", c.id), slog.String("addr", c.addr.String()),
	}
	if id := r.PathValue("account"); id != "" {
		attrs = append(attrs, slog.String("account", id))
	}
	if c.token != nil {
		attrs = append(attrs, slog.String("token", c.token.ID))
	}
	if p := c.problem; p != nil {
		attrs = append(attrs, slog.String("code", string(p.Code)))
		if p.cause != nil {
			attrs = append(attrs, slog.Any("err", p.cause))
		}
		if p.Code == InternalError {
			level = slog.LevelError
		}
	}
	switch route {
	case "/livez", "/readyz", "/health", "/metrics":
		level = slog.LevelDebug
	}
	s.log.LogAttrs(r.Context(), level, "request", attrs...)
}
