package api_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/postrider/postrider/api"
)

// What is not the JSON that we read is refused with its place, and changes nothing.
func TestGarbageBodies(t *testing.T) {
	deep := func(n int) string {
		return `{"metadata":` + strings.Repeat(`{"a":`, n-1) + `1` + strings.Repeat(`}`, n-1) + `}`
	}
	wide := func(n int) string { return `{"metadata":{"a":[` + strings.Repeat("1,", n-1) + `1]}}` }
	for _, tt := range []struct{ name, body, code, location string }{
		{"not json", `{"name":`, "InvalidJSON", "body"},
		{"trailing garbage", `{"name":"x"} {}`, "InvalidJSON", "body"},
		{"trailing comma", `{"name":"x",}`, "InvalidJSON", "body"},
		{"NaN", `{"imap":{"port":NaN}}`, "InvalidJSON", "body"},
		{"invalid UTF-8", "{\"name\":\"\xff\"}", "InvalidJSON", "body"},
		{"duplicate key", `{"name":"x","name":"y"}`, "InvalidJSON", "body.name"},
		{"duplicate key below", `{"imap":{"host":"a","host":"b"}}`, "InvalidJSON", "body.imap.host"},
		{"depth 33", deep(33), "InvalidJSON", "body.metadata" + strings.Repeat(".a", 31)},
		{"10,001 elements", wide(10_001), "InvalidJSON", "body.metadata.a"},
		{"unknown field", `{"nonsense":1}`, "ValidationFailed", "body.nonsense"},
		{"unknown field below", `{"imap":{"auth":{"password":"x"}}}`, "ValidationFailed", "body.imap.auth.password"},
		{"wrong type", `{"name":7}`, "ValidationFailed", "body.name"},
		{"text for number", `{"imap":{"port":"993"}}`, "ValidationFailed", "body.imap.port"},
		{"fraction", `{"imap":{"port":993.5}}`, "ValidationFailed", "body.imap.port"},
		{"huge number", `{"imap":{"port":1e999}}`, "ValidationFailed", "body.imap.port"},
		{"a list", `[]`, "ValidationFailed", "body"},
		{"null", `null`, "ValidationFailed", "body"},
		{"NUL", `{"name":"a\u0000b"}`, "ValidationFailed", "body.name"},
		{"too long", `{"name":"` + strings.Repeat("n", 257) + `"}`, "ValidationFailed", "body.name"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFace(t)
			f.call(200, "POST", "/v1/account", jo)
			for _, to := range [][2]string{{"POST", "/v1/account"}, {"PUT", "/v1/account/jo"}} {
				got := f.call(400, to[0], to[1], tt.body)
				if got["code"] != tt.code || got["errors"].([]any)[0].(map[string]any)["location"] != tt.location {
					t.Errorf("%s %s: want %s at %s: %v", to[0], to[1], tt.code, tt.location, got)
				}
			}
			if a, err := f.store.Account(t.Context(), "jo"); err != nil || a.Version != 1 {
				t.Errorf("the account changed: version %d, %v", a.Version, err)
			}
			if ids, err := f.store.AccountIDs(t.Context()); err != nil || len(ids) != 1 {
				t.Errorf("accounts: %v %v", ids, err)
			}
		})
	}
	t.Run("at the limits", func(t *testing.T) {
		f := newFace(t)
		f.call(200, "POST", "/v1/account", `{"account":"deep",`+deep(32)[1:])
		f.call(400, "POST", "/v1/account", wide(10_000)) // fine as JSON, too much for metadata
	})
}

func TestGarbageRequests(t *testing.T) {
	f := newFace(t)
	f.call(200, "POST", "/v1/account", jo)
	for _, tt := range []struct {
		name, method, path, body string
		change                   func(*http.Request)
		status                   int
		code                     string
	}{
		{name: "unknown query", method: "GET", path: "/v1/accounts?pagesize=3", status: 400, code: "ValidationFailed"},
		{name: "query given twice", method: "GET", path: "/v1/accounts?page=1&page=2", status: 400, code: "ValidationFailed"},
		{name: "broken query", method: "GET", path: "/v1/accounts?query=%zz", status: 400, code: "ValidationFailed"},
		{name: "query of wrong type", method: "GET", path: "/v1/accounts?page=x", status: 400, code: "ValidationFailed"},
		{name: "query out of range", method: "GET", path: "/v1/accounts?pageSize=1001", status: 400, code: "ValidationFailed"},
		{name: "unknown event", method: "GET", path: "/v1/events?events=messagenew", status: 400, code: "ValidationFailed"},
		{name: "no content type", method: "PUT", path: "/v1/account/jo", body: `{}`, change: func(r *http.Request) { r.Header.Del("Content-Type") }, status: 415, code: "UnsupportedMediaType"},
		{name: "form", method: "PUT", path: "/v1/account/jo", body: `a=b`, change: func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") }, status: 415, code: "UnsupportedMediaType"},
		{name: "charset is fine", method: "PUT", path: "/v1/account/jo", body: `{}`, change: func(r *http.Request) { r.Header.Set("Content-Type", "application/json; charset=utf-8") }, status: 200},
		{name: "no body", method: "PUT", path: "/v1/account/jo", status: 400, code: "ValidationFailed"},
		{name: "a body too many", method: "DELETE", path: "/v1/account/none", body: `{"force":true}`, status: 400, code: "ValidationFailed"},
		{name: "too large", method: "PUT", path: "/v1/account/jo", body: `{"name":"` + strings.Repeat("x", 1<<20) + `"}`, status: 413, code: "BodyTooLarge"},
		{name: "too large, length unknown", method: "PUT", path: "/v1/account/jo", body: "x", change: func(r *http.Request) {
			r.ContentLength, r.Body = -1, io.NopCloser(io.LimitReader(neverEnding{}, 2<<20))
		}, status: 413, code: "BodyTooLarge"},
		{name: "broken off", method: "PUT", path: "/v1/account/jo", body: "x", change: func(r *http.Request) {
			r.ContentLength, r.Body = -1, io.NopCloser(iotest.ErrReader(io.ErrUnexpectedEOF))
		}, status: 504, code: "Timeout"},
		{name: "unknown path", method: "GET", path: "/v1/nothing", status: 404, code: "NotFound"},
		{name: "trailing slash", method: "GET", path: "/v1/accounts/", status: 404, code: "NotFound"},
		{name: "double slash", method: "GET", path: "/v1//accounts", status: 404, code: "NotFound"},
		{name: "dots", method: "GET", path: "/v1/x/../accounts", status: 404, code: "NotFound"},
		{name: "method", method: "PATCH", path: "/v1/account/jo", status: 405, code: "MethodNotAllowed"},
		{name: "preflight", method: "OPTIONS", path: "/v1/accounts", status: 405, code: "MethodNotAllowed"},
		{name: "long URL", method: "GET", path: "/v1/accounts?query=" + strings.Repeat("x", 9000), status: 414, code: "URLTooLong"},
		{name: "our own webhook", method: "POST", path: "/v1/account", body: `{}`, change: func(r *http.Request) { r.Header.Set("X-Postrider-Hop", "1") }, status: 508, code: "LoopDetected"},
		{name: "If-None-Match of a version", method: "POST", path: "/v1/account", body: `{}`, change: func(r *http.Request) { r.Header.Set("If-None-Match", `"3"`) }, status: 400, code: "ValidationFailed"},
		{name: "If-Match of nonsense", method: "PUT", path: "/v1/account/jo", body: `{}`, change: func(r *http.Request) { r.Header.Set("If-Match", "x") }, status: 412, code: "PreconditionFailed"},
		{name: "tampered cursor", method: "GET", path: "/v1/events?cursor=AQBx", status: 400, code: "InvalidCursor"},
		{name: "beyond the journal", method: "GET", path: "/v1/account/jo/events?after=99", status: 400, code: "InvalidCursor"},
		{name: "unknown setting", method: "POST", path: "/v1/settings", body: `{"notifyTekst":true}`, status: 400, code: "ValidationFailed"},
		{name: "setting out of range", method: "POST", path: "/v1/settings", body: `{"stallAfter":5}`, status: 400, code: "ValidationFailed"},
		{name: "flush false", method: "PUT", path: "/v1/account/jo/flush", body: `{"flush":false}`, status: 400, code: "ValidationFailed"},
		{name: "flush from when", method: "PUT", path: "/v1/account/jo/flush", body: `{"flush":true,"notifyFrom":"soon"}`, status: 400, code: "ValidationFailed"},
		{name: "reconnect false", method: "PUT", path: "/v1/account/jo/reconnect", body: `{"reconnect":false}`, status: 400, code: "ValidationFailed"},
		{name: "sync false", method: "PUT", path: "/v1/account/jo/sync", body: `{"sync":false}`, status: 400, code: "ValidationFailed"},
		{name: "pause send", method: "PUT", path: "/v1/account/jo/pause", body: `{"send":false}`, status: 400, code: "ValidationFailed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := f.request(tt.method, tt.path, tt.body)
			if tt.change != nil {
				tt.change(r)
			}
			w := f.send(r)
			if w.Code != tt.status || tt.code != "" && !strings.Contains(w.Body.String(), `"code":"`+tt.code+`"`) {
				t.Errorf("%d, want %d %s: %.300s", w.Code, tt.status, tt.code, w.Body)
			}
		})
	}
}

type neverEnding struct{}

func (neverEnding) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// A secret of the wrong type, or beside an unknown field, comes back in no answer and
// stands in no log, and so do secrets that are right.
func TestSecretsStayInside(t *testing.T) {
	const planted = "pl4nted-s3cret"
	f := newFace(t, func(o *api.Options) {
		o.Verifier = verifier{api.VerifyResult{Error: "refused"}}
	})
	var said strings.Builder
	for _, tt := range []struct{ method, path, body string }{
		{"POST", "/v1/account", `{"account":"a","imap":{"host":"h","auth":{"user":"u","pass":"` + planted + `"}},"webhooks":"https://u:` + planted + `@x.example/?k=` + planted + `","webhooksCustomHeaders":[{"key":"A","value":"` + planted + `"}]}`},
		{"POST", "/v1/account", `{"account":"a","imap":{"host":"h","auth":{"user":"u","pass":["` + planted + `"]}}}`},
		{"POST", "/v1/account", `{"account":"a","unknown":1,"imap":{"host":"h","auth":{"user":"u","pass":"` + planted + `"}}}`},
		{"POST", "/v1/account", `{"account":"a","imap":{"host":"h","auth":{"user":"u","pass":"` + planted + `"}}`},
		{"POST", "/v1/account?verify=true", `{"account":"b","imap":{"host":"h","auth":{"user":"u","accessToken":"` + planted + `"}}}`},
		{"POST", "/v1/verifyAccount", `{"imap":{"host":"h","auth":{"user":"u","pass":"` + planted + `"}}}`},
		{"POST", "/v1/settings", `{"serviceSecret":"` + planted + planted + `","webhooks":"https://x.example/?k=` + planted + `","webhooksCustomHeaders":[{"key":"A","value":"` + planted + `"}]}`},
		{"POST", "/v1/settings", `{"serviceSecret":{"x":"` + planted + `"}}`},
		{"GET", "/v1/settings", ""},
		{"GET", "/v1/account/a", ""},
		{"GET", "/v1/accounts?query=" + planted, ""},
		{"GET", "/v1/events?cursor=" + planted, ""},
		{"GET", "/v1/accounts?access_token=" + planted, ""},
		{"POST", "/login", ""},
		{"GET", "/v1/events", ""},
	} {
		r := f.request(tt.method, tt.path, tt.body)
		w := f.send(r)
		said.WriteString(w.Body.String())
		for k, v := range w.Header() {
			said.WriteString(k + strings.Join(v, ","))
		}
	}
	r := f.request("GET", "/v1/accounts", "")
	r.Header.Set("Authorization", "Bearer "+planted)
	said.WriteString(f.send(r).Body.String())
	if a, err := f.store.Account(t.Context(), "a"); err != nil || a.IMAP.Pass.Reveal() != planted {
		t.Fatalf("the secret was not stored, so this test shows nothing: %v", err)
	}
	for name, text := range map[string]string{"answers": said.String(), "log": f.log.String()} {
		if len(text) == 0 || strings.Contains(text, planted) || strings.Contains(text, f.token) {
			i := max(0, strings.Index(text, planted)-200)
			t.Errorf("%s hold a secret: …%.400s", name, text[i:])
		}
	}
}
