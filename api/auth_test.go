package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/api"
	"github.com/postrider/postrider/store"
)

// document is what the tests read of the OpenAPI document.
type document struct {
	OpenAPI string `json:"openapi"`
	Paths   map[string]map[string]struct {
		OperationID string                `json:"operationId"`
		Security    []map[string][]string `json:"security"`
		Responses   map[string]any        `json:"responses"`
	} `json:"paths"`
	Components struct {
		Schemas         map[string]any `json:"schemas"`
		SecuritySchemes map[string]any `json:"securitySchemes"`
	} `json:"components"`
}

func describe(t *testing.T, s *api.Server) document {
	t.Helper()
	var d document
	if err := json.Unmarshal(s.OpenAPI(), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// open are the routes that need no token. A route that is in neither table has no scope
// and fails.
var open = []string{"/livez", "/readyz", "/health"}

// granted is who may call what, written down again here so that a change of either side
// shows.
var granted = map[string][]string{
	"createAccount": {"accounts"}, "getAccount": {"accounts", "read"}, "updateAccount": {"accounts"},
	"deleteAccount": {"accounts"}, "reconnectAccount": {"accounts"}, "syncAccount": {"accounts"}, "flushAccount": {"accounts"}, "pauseAccount": {"accounts"},
	"resumeAccount": {"accounts"}, "listAccounts": {"accounts", "read"}, "verifyAccount": {"accounts"},
	"listMailboxes": {"read"}, "getSettings": {"settings"}, "updateSettings": {"settings"},
	"createToken": {"tokens"}, "createTokenAlias": {"tokens"}, "listTokens": {"tokens"}, "getToken": {"tokens"},
	"deleteToken": {"tokens"}, "readEvents": {"events"}, "readJournal": {"events"}, "streamEvents": {"events"},
	"metrics":      {"metrics"},
	"listGateways": {"accounts"}, "createGateway": {"accounts"}, "getGateway": {"accounts"}, "updateGateway": {"accounts"},
	"deleteGateway": {"accounts"}, "submitMessage": {"send"}, "listOutbox": {"send"}, "getSubmission": {"send"}, "getSubmissionRaw": {"send"},
	"cancelSubmission": {"send"}, "rescheduleSubmission": {"send"}, "retrySubmission": {"send"}, "releaseSubmission": {"send"},
	"resolveSubmission": {"send"},
}

var allScopes = []string{"*", "api", "accounts", "read", "write", "send", "events", "webhooks", "settings", "tokens", "monitor", "metrics"}

func TestEveryRouteAndEveryScope(t *testing.T) {
	f := newFace(t)
	f.call(200, "POST", "/v1/account", jo)
	tokens := map[string]string{}
	for _, scope := range allScopes {
		tokens[scope] = f.tokenWith(store.Token{Scopes: []string{scope}})
	}
	seen := 0
	for path, methods := range describe(t, f.s).Paths {
		for method, op := range methods {
			seen++
			if slices.Contains(open, path) {
				if len(op.Security) != 0 {
					t.Errorf("%s should be open", path)
				}
				continue
			}
			want, ok := granted[op.OperationID]
			if !ok || len(op.Security) == 0 {
				t.Errorf("%s %s (%s) has no scope", method, path, op.OperationID)
				continue
			}
			url := strings.NewReplacer("{account}", "nobody", "{id}", "tok_none", "{gateway}", "none", "{queueId}", "none").Replace(path)
			for _, scope := range allScopes {
				may := scope == "*" || slices.Contains(want, scope) || scope == "api" && want[0] != "tokens" && want[0] != "settings"
				r := f.request(strings.ToUpper(method), url, "")
				if path == "/v1/events/stream" {
					r.Method = http.MethodHead // the headers alone, not the stream
				}
				r.Header.Set("Authorization", "Bearer "+tokens[scope])
				if w := f.send(r); (w.Code != 403) != may || w.Code == 401 {
					t.Errorf("%s %s with scope %s: %d, may = %v", method, path, scope, w.Code, may)
				}
			}
			r := f.request(strings.ToUpper(method), url, "")
			r.Header.Del("Authorization")
			r.RemoteAddr = fmt.Sprintf("198.51.100.%d:1", seen) // failures are counted by address
			if w := f.send(r); w.Code != 401 || w.Header().Get("WWW-Authenticate") == "" {
				t.Errorf("%s %s without a token: %d", method, path, w.Code)
			}
		}
	}
	if seen != len(granted)+len(open) {
		t.Errorf("%d routes in the document, %d in the table", seen, len(granted)+len(open))
	}
}

func TestAccountBoundToken(t *testing.T) {
	f := newFace(t, func(o *api.Options) {
		o.Config.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} // so that request ids can be equal
	})
	f.call(200, "POST", "/v1/account", jo)
	f.call(200, "POST", "/v1/account", `{"account":"eve"}`)
	value := f.tokenWith(store.Token{Scopes: []string{"api"}, Account: "eve"})
	bound := func(method, path, body string) (int, string) {
		r := f.request(method, path, body)
		r.Header.Set("Authorization", "Bearer "+value)
		r.Header.Set("X-Request-Id", "same")
		w := f.send(r)
		return w.Code, w.Body.String()
	}
	for _, route := range [][2]string{
		{"GET", ""}, {"PUT", ""}, {"DELETE", ""}, {"GET", "/mailboxes"}, {"GET", "/events"}, {"PUT", "/pause"}, {"PUT", "/reconnect"}, {"PUT", "/sync"}, {"PUT", "/flush"},
	} {
		there, a := bound(route[0], "/v1/account/jo"+route[1], "")
		missing, b := bound(route[0], "/v1/account/nobody"+route[1], "")
		if there != 403 || missing != 403 || a != b {
			t.Errorf("%s %s: %d %s\nand %d %s", route[0], route[1], there, a, missing, b)
		}
	}
	for _, path := range []string{"/v1/accounts", "/v1/events?account=jo", "/v1/events/stream?account=jo", "/metrics"} {
		if code, body := bound("GET", path, ""); code != 403 {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	for _, path := range []string{"/v1/account", "/v1/verifyAccount"} {
		if code, _ := bound("POST", path, `{"account":"eve"}`); code != 403 {
			t.Errorf("POST %s: %d", path, code)
		}
	}
	if code, body := bound("GET", "/v1/account/eve", ""); code != 200 {
		t.Errorf("own account: %d %s", code, body)
	}
	for _, path := range []string{"/v1/events", "/v1/events?account=eve", "/v1/account/eve/events"} {
		if code, body := bound("GET", path, ""); code != 200 || !strings.Contains(body, `"eve"`) || strings.Contains(body, `"jo"`) {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
}

func TestTokens(t *testing.T) {
	f := newFace(t)
	f.call(200, "POST", "/v1/account", `{"account":"eve"}`)
	made := f.call(200, "POST", "/v1/tokens", `{"description":"crm","scopes":["accounts","tokens"],"restrictions":{"addresses":["192.0.2.0/24"],"rateLimit":{"maxRequests":100,"timeWindow":60}},"expires":4102444800000,"metadata":{"a":1}}`)
	value, _ := made["token"].(string)
	if !store.WellFormedToken(value) || made["expires"] != "2100-01-01T00:00:00.000Z" {
		t.Fatalf("made: %v", made)
	}
	id := made["id"].(string)
	shown := f.call(200, "GET", "/v1/tokens/"+id, "")
	if shown["description"] != "crm" || shown["token"] != nil || shown["restrictions"].(map[string]any)["rateLimit"].(map[string]any)["maxRequests"] != 100.0 {
		t.Errorf("shown: %v", shown)
	}
	if got := f.call(200, "GET", "/v1/tokens", ""); got["total"] != 2.0 || strings.Contains(fmt.Sprint(got), value) {
		t.Errorf("list: %v", got)
	}

	// nobody grants more than they hold
	as := func(token, method, path, body string) int {
		r := f.request(method, path, body)
		r.Header.Set("Authorization", "Bearer "+token)
		return f.send(r).Code
	}
	for body, want := range map[string]int{
		`{"scopes":["accounts"]}`: 200, `{"scopes":["tokens","accounts"]}`: 200, `{"scopes":["*"]}`: 403, `{"scopes":["api"]}`: 403,
		`{"scopes":["accounts","read"]}`: 403, `{"scopes":[]}`: 400, `{"scopes":["root"]}`: 400, `{}`: 400,
	} {
		if got := as(value, "POST", "/v1/token", body); got != want {
			t.Errorf("grant %s: %d, want %d", body, got, want)
		}
	}
	for body, location := range map[string]string{
		`{"scopes":["settings"],"account":"eve"}`:                           "body.scopes[0]",
		`{"scopes":["read","*"],"account":"eve"}`:                           "body.scopes[1]",
		`{"scopes":["read"],"restrictions":{"addresses":["192.0.2.0/99"]}}`: "body.restrictions.addresses[0]",
		`{"scopes":["read"],"expires":"2001-01-01T00:00:00Z"}`:              "body.expires",
	} {
		got := f.call(400, "POST", "/v1/tokens", body)
		if got["errors"].([]any)[0].(map[string]any)["location"] != location {
			t.Errorf("%s: %v", body, got)
		}
	}
	f.call(404, "POST", "/v1/tokens", `{"scopes":["read"],"account":"nobody"}`)

	// a token deletes itself, and others only with the scope
	reader := f.call(200, "POST", "/v1/tokens", `{"scopes":["read"],"account":"eve"}`)
	readerValue, readerID := reader["token"].(string), reader["id"].(string)
	if got := f.call(200, "GET", "/v1/tokens?account=eve", ""); got["total"] != 1.0 {
		t.Errorf("tokens of an account: %v", got)
	}
	if got := as(readerValue, "DELETE", "/v1/tokens/"+id, ""); got != 403 {
		t.Errorf("deletes another: %d", got)
	}
	if got := as(readerValue, "DELETE", "/v1/tokens/"+readerID, ""); got != 200 {
		t.Errorf("deletes itself: %d", got)
	}
	f.call(200, "DELETE", "/v1/tokens/"+id, "")
	if got := as(value, "GET", "/v1/accounts", ""); got != 401 {
		t.Errorf("revoked: %d", got)
	}
	f.call(404, "GET", "/v1/tokens/"+id, "")
}

func TestClientAddress(t *testing.T) {
	for _, tt := range []struct {
		name, remote, forwarded string
		trusted                 []string
		allowed                 []string
		want                    int
	}{
		{"direct", "198.51.100.7:1", "", nil, []string{"198.51.100.0/24"}, 200},
		{"elsewhere", "203.0.113.7:1", "", nil, []string{"198.51.100.0/24"}, 403},
		{"spoofed without a proxy", "203.0.113.7:1", "198.51.100.7", nil, []string{"198.51.100.0/24"}, 403},
		{"through a proxy", "10.0.0.1:1", "198.51.100.7", []string{"10.0.0.0/8"}, []string{"198.51.100.0/24"}, 200},
		{"spoofed through a proxy", "10.0.0.1:1", "198.51.100.7, 203.0.113.9", []string{"10.0.0.0/8"}, []string{"198.51.100.0/24"}, 403},
		{"two proxies", "10.0.0.1:1", "198.51.100.7, 10.0.0.2", []string{"10.0.0.0/8"}, []string{"198.51.100.0/24"}, 200},
		{"nonsense left of a proxy", "10.0.0.1:1", "198.51.100.7, x, 10.0.0.2", []string{"10.0.0.0/8"}, []string{"198.51.100.0/24"}, 403},
		{"IPv6", "[2001:db8::7]:1", "", nil, []string{"2001:db8::/32"}, 200},
		{"IPv4-mapped", "[::ffff:198.51.100.7]:1", "", nil, []string{"198.51.100.0/24"}, 200},
		{"IPv4-mapped network", "198.51.100.7:1", "", nil, []string{"::ffff:198.51.100.0/120"}, 200},
		{"single address", "198.51.100.7:1", "", nil, []string{"198.51.100.7"}, 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFace(t, func(o *api.Options) {
				for _, p := range tt.trusted {
					o.Config.TrustedProxies = append(o.Config.TrustedProxies, netip.MustParsePrefix(p))
				}
			})
			r := f.request("GET", "/v1/accounts", "")
			r.RemoteAddr = tt.remote
			if tt.forwarded != "" {
				r.Header.Set("X-Forwarded-For", tt.forwarded)
			}
			r.Header.Set("Authorization", "Bearer "+f.tokenWith(store.Token{Scopes: []string{"read"}, Addresses: tt.allowed}))
			if w := f.send(r); w.Code != tt.want {
				t.Errorf("%d, want %d: %s", w.Code, tt.want, w.Body)
			}
		})
	}
}

func TestFailuresAreCountedByAddress(t *testing.T) {
	f := newFace(t)
	f.call(200, "GET", "/v1/accounts", "") // this token is known to be good
	guess := func(addr string) int {
		r := f.request("GET", "/v1/accounts", "")
		r.RemoteAddr = addr
		r.Header.Set("Authorization", "Bearer ptr_guess")
		return f.send(r).Code
	}
	for i := range 20 {
		if got := guess("192.0.2.1:1"); got != 401 {
			t.Fatalf("guess %d: %d", i, got)
		}
	}
	if got := guess("192.0.2.1:1"); got != 429 {
		t.Errorf("21st guess: %d", got)
	}
	if got := guess("192.0.2.2:1"); got != 401 {
		t.Errorf("another address: %d", got)
	}
	f.call(200, "GET", "/v1/accounts", "") // and goes on working from there
}

func TestRateLimitOfAToken(t *testing.T) {
	f := newFace(t)
	value := f.tokenWith(store.Token{Scopes: []string{"read"}, RateMax: 3, RateWindow: 60})
	for i, want := range []int{200, 200, 200, 429} {
		r := f.request("GET", "/v1/accounts", "")
		r.Header.Set("Authorization", "Bearer "+value)
		w := f.send(r)
		if w.Code != want || w.Header().Get("X-RateLimit-Limit") != "3" || w.Header().Get("X-RateLimit-Remaining") != fmt.Sprint(max(0, 2-i)) {
			t.Errorf("request %d: %d %v", i, w.Code, w.Header())
		}
		if w.Code == 429 && w.Header().Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
}

func TestExpiredToken(t *testing.T) {
	f := newFace(t)
	r := f.request("GET", "/v1/accounts", "")
	r.Header.Set("Authorization", "Bearer "+f.tokenWith(store.Token{Scopes: []string{"*"}, Expires: time.Now().Add(-time.Second)}))
	if w := f.send(r); w.Code != 401 {
		t.Errorf("%d", w.Code)
	}
}

func TestQueryToken(t *testing.T) {
	for allowed, want := range map[bool]int{false: 401, true: 200} {
		f := newFace(t, func(o *api.Options) { o.Config.AllowQueryToken = allowed })
		r := f.request("GET", "/v1/accounts?pageSize=5&access_token="+f.token, "")
		r.Header.Del("Authorization")
		if w := f.send(r); w.Code != want {
			t.Errorf("allowed %v: %d %s", allowed, w.Code, w.Body)
		}
		if strings.Contains(f.log.String(), f.token) {
			t.Error("the token stands in the log")
		}
	}
}

func TestUseOfATokenIsNoted(t *testing.T) {
	f := newFace(t)
	f.call(200, "GET", "/v1/accounts", "")
	tokens, err := f.store.Tokens(t.Context())
	if err != nil || len(tokens) != 1 || tokens[0].LastUse.IsZero() || tokens[0].LastAddress != "192.0.2.1" {
		t.Errorf("tokens: %+v %v", tokens, err)
	}
}

// The block ends after a minute.
func TestGuardForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		block, blocked := api.GuardForTest()
		for range 20 {
			block()
		}
		if !blocked() {
			t.Error("not blocked after 20 failures")
		}
		time.Sleep(61 * time.Second)
		if blocked() {
			t.Error("still blocked after a minute")
		}
		for range 19 {
			block()
		}
		time.Sleep(time.Minute)
		block()
		if blocked() {
			t.Error("failures of an earlier minute were counted")
		}
	})
}

func TestProblemCodesAreDocumented(t *testing.T) {
	f := newFace(t)
	w := f.send(f.request("GET", "/docs/errors", ""))
	for _, code := range api.CodesForTest() {
		if !bytes.Contains(w.Body.Bytes(), []byte(`id="`+string(code)+`"`)) {
			t.Errorf("%s is not explained", code)
		}
	}
	if n := strings.Count(w.Body.String(), `<h2 class="code"`); n != len(api.CodesForTest()) {
		t.Errorf("%d codes explained, %d in the code", n, len(api.CodesForTest()))
	}
}
