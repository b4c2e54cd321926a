package api_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/hibiken/asynqmon"
	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/api"
	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/storetest"
)

// withMonitor mounts a dashboard that says which of the two it is.
func withMonitor(o *api.Options) {
	o.Monitor = func(readOnly bool) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "readOnly=%v %s", readOnly, r.URL.Path)
		})
	}
}

// signIn gives the cookie of a session.
func (f *face) signIn(token string) (*http.Cookie, *httptest.ResponseRecorder) {
	f.t.Helper()
	r := f.request("POST", "/login", "token="+url.QueryEscape(token))
	r.Header.Del("Authorization")
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := f.send(r)
	for _, c := range w.Result().Cookies() {
		return c, w
	}
	return nil, w
}

func TestMonitor(t *testing.T) {
	f := newFace(t, withMonitor)
	viewer, reader := f.tokenWith(store.Token{Scopes: []string{"monitor"}}), f.tokenWith(store.Token{Scopes: []string{"read"}})

	anonymous := f.request("GET", "/monitor/", "")
	anonymous.Header.Del("Authorization")
	anonymous.Header.Set("Accept", "text/html")
	if w := f.send(anonymous); w.Code != 303 || w.Header().Get("Location") != "/login" {
		t.Errorf("anonymous browser: %d", w.Code)
	}
	anonymous.Header.Del("Accept")
	if w := f.send(anonymous); w.Code != 401 {
		t.Errorf("anonymous: %d", w.Code)
	}

	if c, w := f.signIn("ptr_wrong"); c != nil || w.Code != 401 || !strings.Contains(w.Body.String(), "not known") {
		t.Errorf("wrong token: %d %s", w.Code, w.Body)
	}
	cookie, w := f.signIn(viewer)
	if w.Code != 303 || w.Header().Get("Location") != "/monitor/" || cookie == nil || !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode || cookie.Secure || cookie.MaxAge != 12*3600 {
		t.Fatalf("sign in: %d %+v", w.Code, cookie)
	}
	if strings.Contains(cookie.Value, viewer) {
		t.Error("the cookie holds the token")
	}
	with := func(c *http.Cookie, method, path string, headers ...string) *httptest.ResponseRecorder {
		r := f.request(method, path, "")
		r.Header.Del("Authorization")
		r.AddCookie(c)
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		return f.send(r)
	}
	w = with(cookie, "GET", "/monitor/queues")
	if w.Code != 200 || w.Body.String() != "readOnly=true /monitor/queues" || w.Header().Get("Content-Security-Policy") == "" {
		t.Errorf("viewer: %d %s", w.Code, w.Body)
	}
	admin, _ := f.signIn(f.token)
	if w := with(admin, "POST", "/monitor/api/queues/x:pause"); w.Code != 200 || !strings.HasPrefix(w.Body.String(), "readOnly=false") {
		t.Errorf("admin: %d %s", w.Code, w.Body)
	}
	for _, headers := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.example"}} {
		if w := with(admin, "POST", "/monitor/api/queues/x:pause", headers...); w.Code != 403 {
			t.Errorf("cross-site POST with %s: %d", headers[0], w.Code)
		}
		if w := with(admin, "DELETE", "/v1/account/jo", headers...); w.Code != 403 {
			t.Errorf("cross-site DELETE with %s: %d", headers[0], w.Code)
		}
	}
	if w := with(admin, "GET", "/v1/accounts"); w.Code != 200 { // the session stands in for its token
		t.Errorf("API with a session: %d", w.Code)
	}
	readerCookie, _ := f.signIn(reader)
	if w := with(readerCookie, "GET", "/monitor/"); w.Code != 403 {
		t.Errorf("without the scope: %d", w.Code)
	}
	if w := with(admin, "POST", "/logout"); w.Code != 303 {
		t.Errorf("sign out: %d", w.Code)
	}
	if w := with(admin, "GET", "/v1/accounts"); w.Code != 401 {
		t.Errorf("after signing out: %d", w.Code)
	}
	tokens, err := f.store.Tokens(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, tok := range tokens {
		if tok.Scopes[0] == "monitor" {
			if err := f.store.DeleteToken(t.Context(), tok.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	if w := with(cookie, "GET", "/monitor/"); w.Code != 401 {
		t.Errorf("session of a revoked token: %d", w.Code)
	}
}

func TestLoginFromAnotherSite(t *testing.T) {
	f := newFace(t, withMonitor, func(o *api.Options) {
		o.Config.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	})
	r := f.request("POST", "/login", "token="+f.token)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	if w := f.send(r); w.Code != 403 {
		t.Errorf("cross-site sign in: %d", w.Code)
	}
	r = f.request("POST", "/login", "token="+f.token)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("X-Forwarded-Proto", "https")
	if w := f.send(r); len(w.Result().Cookies()) != 1 || !w.Result().Cookies()[0].Secure {
		t.Errorf("behind TLS the cookie is Secure: %v", w.Result().Cookies())
	}
}

// The real dashboard works where it is mounted, and cannot be changed read-only.
func TestAsynqmon(t *testing.T) {
	m := miniredis.RunT(t)
	f := newFace(t, func(o *api.Options) {
		o.Monitor = func(readOnly bool) http.Handler {
			h := asynqmon.New(asynqmon.Options{RootPath: "/monitor", ReadOnly: readOnly, RedisConnOpt: asynq.RedisClientOpt{Addr: m.Addr()}})
			t.Cleanup(func() { _ = h.Close() })
			return h
		}
	})
	client := asynq.NewClient(asynq.RedisClientOpt{Addr: m.Addr()})
	defer client.Close()
	if _, err := client.Enqueue(asynq.NewTask("x", nil), asynq.Queue("webhook")); err != nil {
		t.Fatal(err)
	}
	viewer := f.tokenWith(store.Token{Scopes: []string{"monitor"}})
	get := func(token, method, path string) *httptest.ResponseRecorder {
		r := f.request(method, path, "")
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		f.s.ServeHTTP(w, r)
		return w
	}
	if w := get(viewer, "GET", "/monitor/"); w.Code != 200 || !strings.Contains(w.Body.String(), "<html") {
		t.Errorf("page: %d", w.Code)
	}
	if w := get(viewer, "GET", "/monitor/api/queues"); w.Code != 200 || !strings.Contains(w.Body.String(), `"webhook"`) {
		t.Errorf("queues: %d %s", w.Code, w.Body)
	}
	if w := get(viewer, "POST", "/monitor/api/queues/webhook:pause"); w.Code != 405 {
		t.Errorf("viewer pauses: %d", w.Code)
	}
	if w := get(f.token, "POST", "/monitor/api/queues/webhook:pause"); w.Code != 204 {
		t.Errorf("admin pauses: %d %s", w.Code, w.Body)
	}
}

func TestCORS(t *testing.T) {
	preflight := func(f *face, origin string) *httptest.ResponseRecorder {
		r := f.request("OPTIONS", "/v1/account/jo/pause", "")
		r.Header.Del("Authorization")
		r.Header.Set("Origin", origin)
		r.Header.Set("Access-Control-Request-Method", "GET")
		return f.send(r)
	}
	f := newFace(t)
	if w := preflight(f, "https://app.example"); w.Code != 405 || w.Header().Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("by default: %d %v", w.Code, w.Header())
	}
	f = newFace(t, func(o *api.Options) { o.Config.CORSOrigins = []string{"https://app.example"} })
	if w := preflight(f, "https://app.example"); w.Code != 204 || w.Header().Get("Access-Control-Allow-Origin") != "https://app.example" || w.Header().Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("configured: %d %v", w.Code, w.Header())
	}
	for _, origin := range []string{"https://app.example.evil", "http://app.example", "null", ""} {
		if w := preflight(f, origin); w.Code != 405 || w.Header().Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%q: %d %v", origin, w.Code, w.Header())
		}
	}
	f.call(404, "GET", "/v1/nothing", "")
	r := f.request("GET", "/v1/accounts", "")
	r.Header.Set("Origin", "https://app.example")
	if w := f.send(r); w.Code != 200 || w.Header().Get("Access-Control-Allow-Origin") != "https://app.example" || w.Header().Get("Vary") == "" {
		t.Errorf("request: %d %v", w.Code, w.Header())
	}
}

// blocking is a verifier that waits until it is let go.
type blocking struct{ began, let chan struct{} }

func (b blocking) Verify(ctx context.Context, _ store.Server) api.VerifyResult {
	b.began <- struct{}{}
	select {
	case <-b.let:
	case <-ctx.Done():
	}
	return api.VerifyResult{Success: true}
}

func TestRequestsInWorkAreBounded(t *testing.T) {
	b := blocking{make(chan struct{}), make(chan struct{})}
	f := newFace(t, func(o *api.Options) { o.Config.MaxConcurrent, o.Verifier = 2, b })
	done := make(chan int, 2)
	for range 2 {
		go func() {
			done <- f.send(f.request("POST", "/v1/verifyAccount", `{"imap":{"host":"h","auth":{"user":"u","pass":"p"}}}`)).Code
		}()
		<-b.began
	}
	if w := f.send(f.request("GET", "/v1/accounts", "")); w.Code != 503 || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "ServerBusy") {
		t.Errorf("third request: %d %s", w.Code, w.Body)
	}
	f.call(200, "GET", "/livez", "")
	f.call(200, "GET", "/readyz", "")
	close(b.let)
	for range 2 {
		if got := <-done; got != 200 {
			t.Errorf("request in work: %d", got)
		}
	}
	f.call(200, "GET", "/v1/accounts", "")
}

func TestProbes(t *testing.T) {
	failing := errors.New("role sync has ended")
	f := newFace(t, func(o *api.Options) {
		o.Checks = map[string]func(context.Context) error{"sync": func(context.Context) error { return failing }}
	})
	got := f.call(503, "GET", "/readyz", "")
	if checks, _ := got["checks"].(map[string]any); checks["sync"] != "failing" || checks["store"] != "ok" {
		t.Errorf("with a token: %v", got)
	}
	r := f.request("GET", "/health", "")
	r.Header.Del("Authorization")
	if w := f.send(r); w.Code != 503 || strings.Contains(w.Body.String(), "sync") {
		t.Errorf("without a token: %d %s", w.Code, w.Body)
	}
	failing = nil
	if got := f.call(200, "GET", "/readyz", ""); got["status"] != "ok" {
		t.Errorf("ready: %v", got)
	}
	if w := f.send(f.request("GET", "/metrics", "")); w.Code != 200 || w.Body.String() != "up 1\n" {
		t.Errorf("metrics: %d %s", w.Code, w.Body)
	}
}

// A Redis that is gone, or that went silent, is StoreUnavailable within two seconds.
func TestStoreUnavailable(t *testing.T) {
	m := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: m.Addr(), ContextTimeoutEnabled: true, MaxRetries: -1})
	t.Cleanup(func() { _ = rdb.Close() })
	f := newFaceOn(t, rdb)
	f.call(200, "POST", "/v1/account", jo)
	f.call(200, "GET", "/v1/settings", "")
	addr := m.Addr()
	m.Close()
	for _, path := range []string{"/v1/accounts", "/v1/account/jo", "/v1/events", "/v1/tokens", "/readyz"} {
		start := time.Now()
		r := f.request("GET", path, "")
		w := f.send(r)
		if w.Code != 503 || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "StoreUnavailable") || time.Since(start) > 2*time.Second {
			t.Errorf("%s: %d after %s: %s", path, w.Code, time.Since(start), w.Body)
		}
		if strings.Contains(w.Body.String(), addr) || strings.Contains(w.Body.String(), "redis") {
			t.Errorf("%s tells of the inside: %s", path, w.Body)
		}
	}
	f.call(200, "GET", "/livez", "")
	if err := m.Restart(); err != nil {
		t.Fatal(err)
	}
	f.call(200, "GET", "/v1/account/jo", "")
}

// silent is a connection whose other end takes everything and says nothing.
func silent() net.Conn {
	c, other := net.Pipe()
	go func() { _, _ = io.Copy(io.Discard, other) }() // ends with the connection
	return c
}

func TestSilentStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rdb := redis.NewClient(&redis.Options{
			Addr: "127.0.0.1:6379", ContextTimeoutEnabled: true,
			Dialer: func(context.Context, string, string) (net.Conn, error) { return silent(), nil },
		})
		defer rdb.Close()
		s, err := api.New(api.Options{Store: storetest.On(t, rdb), Kicker: &kicks{}})
		if err != nil {
			t.Fatal(err)
		}
		for path, within := range map[string]time.Duration{"/v1/accounts": 2 * time.Second, "/readyz": time.Second} {
			r := httptest.NewRequestWithContext(t.Context(), "GET", path, nil)
			if path != "/readyz" {
				r.Header.Set("Authorization", "Bearer x")
			}
			w := httptest.NewRecorder()
			start := time.Now()
			s.ServeHTTP(w, r)
			if w.Code != 503 || time.Since(start) > within {
				t.Errorf("%s: %d after %s", path, w.Code, time.Since(start))
			}
		}
	})
}

func TestPanicIsAnInternalError(t *testing.T) {
	f := newFace(t, func(o *api.Options) {
		o.Metrics = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("at the disco") })
	})
	got := f.call(500, "GET", "/metrics", "")
	if got["code"] != "InternalError" || strings.Contains(fmt.Sprint(got), "disco") || !strings.Contains(f.log.String(), "at the disco") {
		t.Errorf("%v", got)
	}
}

// Over a real connection: bodies that come slowly are given up, and answers are whole.
func TestOverTheWire(t *testing.T) {
	f := newFace(t)
	srv := httptest.NewServer(f.s)
	defer srv.Close()
	req, err := http.NewRequestWithContext(t.Context(), "PUT", srv.URL+"/v1/account/none", io.LimitReader(neverEnding{}, 3<<20))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+f.token)
	req.Header.Set("Content-Type", "application/json")
	res, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != 413 || res.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
}
