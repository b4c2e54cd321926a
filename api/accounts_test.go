package api_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/postrider/postrider/api"
	"github.com/postrider/postrider/store"
)

func TestAccountRoundTrip(t *testing.T) {
	f := newFace(t)
	got := f.call(200, "POST", "/v1/account", jo)
	if got["account"] != "jo" || got["state"] != "new" {
		t.Fatalf("created: %v", got)
	}
	shown := f.call(200, "GET", "/v1/account/jo", "")
	imap := shown["imap"].(map[string]any)
	if imap["host"] != "imap.example.com" || imap["port"] != 993.0 || imap["secure"] != true {
		t.Errorf("defaults: %v", imap)
	}
	if auth := imap["auth"].(map[string]any); auth["pass"] != "******" || auth["user"] != "jo@example.com" {
		t.Errorf("auth: %v", auth)
	}
	for key, want := range map[string]any{"state": "init", "health": "starting", "type": "imap", "version": 1.0, "owner": nil, "lastProvenAlive": nil, "name": "Jo"} {
		if v, ok := shown[key]; !ok || v != want {
			t.Errorf("%s = %v, want %v", key, v, want)
		}
	}

	// partial: what is not given stays, the password too
	f.call(200, "PUT", "/v1/account/jo", `{"name":null,"imap":{"partial":true,"sentMailPath":"Sent Mail"},"path":["INBOX","Work"],"metadata":{"crm":7}}`)
	shown = f.call(200, "GET", "/v1/account/jo", "")
	imap = shown["imap"].(map[string]any)
	if shown["name"] != "" || imap["sentMailPath"] != "Sent Mail" || imap["host"] != "imap.example.com" || len(shown["path"].([]any)) != 2 || shown["version"] != 2.0 {
		t.Errorf("after partial: %v", shown)
	}
	a, err := f.store.Account(t.Context(), "jo")
	if err != nil || a.IMAP.Pass.Reveal() != "hunter2-secret" {
		t.Errorf("the stored password changed: %v", err)
	}

	// a POST of the same id updates, If-None-Match refuses
	if got := f.call(200, "POST", "/v1/account", `{"account":"jo","name":"Jo again"}`); got["state"] != "existing" {
		t.Errorf("second POST: %v", got)
	}
	r := f.request("POST", "/v1/account", jo)
	r.Header.Set("If-None-Match", "*")
	if w := f.send(r); w.Code != 409 || !strings.Contains(w.Body.String(), "AccountAlreadyExists") {
		t.Errorf("If-None-Match: %d %s", w.Code, w.Body)
	}

	// If-Match
	r = f.request("PUT", "/v1/account/jo", `{"name":"X"}`)
	r.Header.Set("If-Match", `"2"`)
	if w := f.send(r); w.Code != 412 {
		t.Errorf("stale If-Match: %d", w.Code)
	}
	r = f.request("PUT", "/v1/account/jo", `{"name":"X"}`)
	r.Header.Set("If-Match", `"3"`)
	if w := f.send(r); w.Code != 200 || w.Header().Get("ETag") != `"4"` {
		t.Errorf("If-Match: %d, ETag %s", w.Code, w.Header().Get("ETag"))
	}

	// pause, resume, reconnect, sync
	f.call(200, "PUT", "/v1/account/jo/pause", "")
	shown = f.call(200, "GET", "/v1/account/jo", "")
	if shown["state"] != "paused" || shown["health"] != "paused" {
		t.Errorf("paused: %v %v", shown["state"], shown["health"])
	}
	f.call(409, "PUT", "/v1/account/jo/reconnect", `{"reconnect":true}`)
	f.call(409, "PUT", "/v1/account/jo/sync", `{"sync":true}`)
	f.call(404, "PUT", "/v1/account/nobody/sync", `{"sync":true}`)
	f.call(200, "PUT", "/v1/account/jo/resume", `{"sync":true}`)
	f.call(200, "PUT", "/v1/account/jo/reconnect", `{"reconnect":true}`)
	version := func() string { return f.send(f.request("GET", "/v1/account/jo", "")).Header().Get("ETag") }
	before := version()
	if got := f.call(200, "PUT", "/v1/account/jo/sync", `{"sync":true}`); got["sync"] != true {
		t.Errorf("sync: %v", got)
	}
	if now := version(); now != before || now == "" {
		t.Errorf("a sync made version %s of %s: it would connect anew", now, before)
	}
	if !slices.Equal(f.kicks.ids, []store.AccountID{"jo", "jo"}) {
		t.Errorf("kicks: %v", f.kicks.ids)
	}

	// delete: with its tokens, again, and then gone
	bound := f.tokenWith(store.Token{Scopes: []string{"read"}, Account: "jo"})
	for range 2 {
		if got := f.call(200, "DELETE", "/v1/account/jo", ""); got["deleted"] != true {
			t.Errorf("deleted: %v", got)
		}
	}
	f.call(404, "GET", "/v1/account/jo", "")
	r = f.request("GET", "/v1/account/jo", "")
	r.Header.Set("Authorization", "Bearer "+bound)
	if w := f.send(r); w.Code != 401 {
		t.Errorf("token of a deleted account: %d", w.Code)
	}
	f.call(404, "DELETE", "/v1/account/never", "")
	if got := f.call(200, "GET", "/v1/account/jo/events", ""); len(got["events"].([]any)) < 4 {
		t.Errorf("events of a deleted account: %v", got)
	}
}

// What is asked for of an account comes back as it went in, and null takes it away.
func TestAccountConnections(t *testing.T) {
	f := newFace(t)
	f.call(200, "POST", "/v1/account", jo)
	f.call(200, "PUT", "/v1/account/jo", `{"subconnections":"Work","logs":true,"imapIndexer":"fast"}`)
	shown := f.call(200, "GET", "/v1/account/jo", "")
	if live, _ := shown["subconnections"].([]any); len(live) != 1 || live[0] != "Work" || shown["logs"] != true || shown["imapIndexer"] != "fast" {
		t.Errorf("subconnections %v, logs %v, imapIndexer %v", shown["subconnections"], shown["logs"], shown["imapIndexer"])
	}
	f.call(200, "PUT", "/v1/account/jo", `{"subconnections":null,"logs":null,"imapIndexer":"full"}`)
	if shown = f.call(200, "GET", "/v1/account/jo", ""); shown["subconnections"] != nil || shown["logs"] != nil || shown["imapIndexer"] != nil {
		t.Errorf("taken away: %v", shown)
	}
}

func TestAccountIDs(t *testing.T) {
	f := newFace(t)
	for _, id := range []string{"a/b", "ü", "a b", "..x", strings.Repeat("i", 256)} {
		f.call(200, "POST", "/v1/account", `{"account":"`+id+`"}`)
		path := "/v1/account/" + strings.NewReplacer("/", "%2F", "ü", "%C3%BC", " ", "%20").Replace(id)
		if got := f.call(200, "GET", path, ""); got["account"] != id {
			t.Errorf("%q came back as %v", id, got["account"])
		}
	}
	for _, id := range []string{"", ".", "..", "a\\u0001b", strings.Repeat("i", 257)} {
		f.call(400, "POST", "/v1/account", `{"account":"`+id+`"}`)
	}
	got := f.call(200, "POST", "/v1/account", `{"account":null}`)
	if id, _ := got["account"].(string); len(id) < 20 {
		t.Errorf("generated id %q", id)
	}
	f.call(404, "GET", "/v1/account/%2E%2E", "")
}

func TestAccountRefusals(t *testing.T) {
	imap := func(s string) string { return `{"imap":{"host":"h","auth":{"user":"u","pass":"p"},` + s + `}}` }
	for _, tt := range []struct{ name, body, location, says string }{
		{"no host", `{"imap":{"auth":{"user":"u","pass":"p"}}}`, "body.imap.host", "required"},
		{"no user", `{"imap":{"host":"h","auth":{"pass":"p"}}}`, "body.imap.auth.user", "required"},
		{"no password", `{"imap":{"host":"h","auth":{"user":"u"}}}`, "body.imap.auth.pass", "partial"},
		{"both secrets", `{"imap":{"host":"h","auth":{"user":"u","pass":"p","accessToken":"t"}}}`, "body.imap.auth.accessToken", "together"},
		{"plaintext", imap(`"plaintext":true`), "body.imap.plaintext", "mail.allowPlaintext"},
		{"insecure", imap(`"tls":{"rejectUnauthorized":false}`), "body.imap.tls.rejectUnauthorized", "mail.allowInsecureTLS"},
		{"plaintext and secure", imap(`"plaintext":true,"secure":true`), "body.imap.plaintext", "contradicts"},
		{"port", imap(`"port":70000`), "body.imap.port", "must be 1 to 65535"},
		{"pin", imap(`"tls":{"pin":["x"]}`), "body.imap.tls.pin[0]", "SHA-256"},
		{"ca", imap(`"tls":{"ca":"x"}`), "body.imap.tls.ca", "PEM"},
		{"min version", imap(`"tls":{"minVersion":"1.0"}`), "body.imap.tls.minVersion", "1.2"},
		{"host with a path", `{"imap":{"host":"h/x","auth":{"user":"u","pass":"p"}}}`, "body.imap.host", "host name"},
		{"not yet", `{"oauth2":{"provider":"gmail"}}`, "body.oauth2", "not supported by this version"},
		{"typing error", `{"emial":"x"}`, "body.emial", "did you mean email?"},
		{"other case", `{"Email":"x"}`, "body.Email", "did you mean email?"},
		{"two names of one", `{"notifyFrom":1,"syncFrom":2}`, "body.syncFrom", "old name"},
		{"time", `{"notifyFrom":"yesterday"}`, "body.notifyFrom", "must be a time"},
		{"time before all years", `{"notifyFrom":"0000-01-01T00:00:00+01:00"}`, "body.notifyFrom", "must be a time"},
		{"time behind all years", `{"notifyFrom":"9999-12-31T23:59:59-01:00"}`, "body.notifyFrom", "must be a time"},
		{"metadata", `{"metadata":{"x":"` + strings.Repeat("y", 5000) + `"}}`, "body.metadata", "4096"},
		{"webhook", `{"webhooks":"ftp://x/"}`, "body.webhooks", "http"},
		{"imap true", `{"imap":true}`, "body.imap", "must be one of false"},
		{"imap text", `{"imap":"x"}`, "body.imap", "must be an object or null or true or false"},
		{"stallAfter", `{"stallAfter":59}`, "body.stallAfter", "must be 60 to 86400"},
		{"newFolderLimit", `{"newFolderLimit":-1}`, "body.newFolderLimit", "must be 0 to 1000000"},
		{"storeIdentity", `{"storeIdentity":"all"}`, "body.storeIdentity", "auto, full, none"},
		{"path number", `{"path":7}`, "body.path", "must be a string or a list or null"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFace(t)
			w := f.send(f.request("POST", "/v1/account", tt.body))
			if w.Code != 400 || !strings.Contains(w.Body.String(), `"location":"`+tt.location+`"`) || !strings.Contains(w.Body.String(), tt.says) {
				t.Errorf("%d, want 400 at %s saying %q: %s", w.Code, tt.location, tt.says, w.Body)
			}
			if ids, err := f.store.AccountIDs(t.Context()); err != nil || len(ids) != 0 {
				t.Errorf("something was stored: %v %v", ids, err)
			}
		})
	}
}

func TestPlaintextWhereAllowed(t *testing.T) {
	f := newFace(t, func(o *api.Options) { o.Config.AllowPlaintext, o.Config.AllowInsecureTLS = true, true })
	f.call(200, "POST", "/v1/account", `{"account":"a","imap":{"host":"h","plaintext":true,"auth":{"user":"u","pass":"p"}}}`)
	imap := f.call(200, "GET", "/v1/account/a", "")["imap"].(map[string]any)
	if imap["plaintext"] != true || imap["secure"] != false || imap["port"] != 143.0 {
		t.Errorf("plaintext: %v", imap)
	}
	f.call(200, "POST", "/v1/account", `{"account":"b","imap":{"host":"h","secure":false,"auth":{"user":"u","pass":"p"},"tls":{"rejectUnauthorized":false}}}`)
	imap = f.call(200, "GET", "/v1/account/b", "")["imap"].(map[string]any)
	if imap["secure"] != false || imap["port"] != 143.0 || imap["plaintext"] != nil || imap["tls"].(map[string]any)["rejectUnauthorized"] != false {
		t.Errorf("STARTTLS: %v", imap)
	}
}

func TestStoredSecretGoesNowhereNew(t *testing.T) {
	f := newFace(t)
	f.call(200, "POST", "/v1/account", jo)
	for _, change := range []string{`"host":"evil.example"`, `"port":994`, `"secure":false`, `"tls":{"serverName":"x"}`} {
		got := f.call(400, "PUT", "/v1/account/jo", `{"imap":{"partial":true,`+change+`}}`)
		if got["errors"].([]any)[0].(map[string]any)["location"] != "body.imap.auth.pass" {
			t.Errorf("%s: %v", change, got)
		}
		f.call(200, "PUT", "/v1/account/jo", `{"imap":{"partial":true,`+change+`,"auth":{"pass":"hunter2-secret"}}}`)
	}
	f.call(200, "PUT", "/v1/account/jo", `{"imap":{"partial":true,"auth":{"accessToken":"new"}}}`)
	a, err := f.store.Account(t.Context(), "jo")
	if err != nil || !a.IMAP.Pass.Empty() || a.IMAP.AccessToken.Reveal() != "new" || a.IMAP.Host != "evil.example" {
		t.Errorf("an access token replaces the password: %+v %v", a.IMAP, err)
	}
	f.call(200, "PUT", "/v1/account/jo", `{"imap":false}`)
	if got := f.call(200, "GET", "/v1/account/jo", ""); got["state"] != "unset" || got["imap"] != nil {
		t.Errorf("imap:false: %v", got)
	}
}

func TestMaskedSecret(t *testing.T) {
	f := newFace(t)
	f.call(200, "POST", "/v1/account", jo)
	f.call(200, "PUT", "/v1/account/jo", `{"webhooks":"https://u:pw@hooks.example.com/x?key=abc","webhooksCustomHeaders":[{"key":"X-Key","value":"v"}]}`)
	shown := f.call(200, "GET", "/v1/account/jo", "")
	if shown["webhooks"] != "https://******@hooks.example.com/x?key=******" {
		t.Errorf("webhooks: %v", shown["webhooks"])
	}
	for _, tt := range []struct{ method, path, body, location string }{
		{"PUT", "/v1/account/jo", `{"imap":{"partial":true,"auth":{"pass":"******"}}}`, "body.imap.auth.pass"},
		{"PUT", "/v1/account/jo", `{"imap":{"partial":true,"auth":{"accessToken":"******"}}}`, "body.imap.auth.accessToken"},
		{"PUT", "/v1/account/jo", `{"webhooksCustomHeaders":[{"key":"X-Key","value":"******"}]}`, "body.webhooksCustomHeaders[0].value"},
		{"PUT", "/v1/account/jo", `{"webhooks":"` + shown["webhooks"].(string) + `"}`, "body.webhooks"},
		{"POST", "/v1/settings", `{"serviceSecret":"****************"}`, "body.serviceSecret"},
		{"POST", "/v1/settings", `{"webhooks":"https://x.example/?a=******"}`, "body.webhooks"},
		{"POST", "/v1/verifyAccount", `{"imap":{"host":"h","auth":{"user":"u","pass":"******"}}}`, "body.imap.auth.pass"},
	} {
		got := f.call(400, tt.method, tt.path, tt.body)
		if got["code"] != "MaskedSecret" || got["errors"].([]any)[0].(map[string]any)["location"] != tt.location {
			t.Errorf("%s: %v", tt.body, got)
		}
	}
	a, err := f.store.Account(t.Context(), "jo")
	if err != nil || a.IMAP.Pass.Reveal() != "hunter2-secret" || a.Headers[0].Value.Reveal() != "v" {
		t.Errorf("a stored secret changed: %v", err)
	}
}

func TestListAccounts(t *testing.T) {
	f := newFace(t)
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		f.call(200, "POST", "/v1/account", `{"account":"`+id+`","name":"N`+id+`","email":"`+id+`@x.example"}`)
	}
	f.call(200, "PUT", "/v1/account/c/pause", "")
	got := f.call(200, "GET", "/v1/accounts?page=1&pageSize=2", "")
	if got["total"] != 5.0 || got["pages"] != 3.0 || got["page"] != 1.0 {
		t.Errorf("page: %v", got)
	}
	rows := got["accounts"].([]any)
	if len(rows) != 2 || rows[0].(map[string]any)["account"] != "c" {
		t.Errorf("rows: %v", rows)
	}
	if got := f.call(200, "GET", "/v1/accounts?query=ND", ""); got["total"] != 1.0 {
		t.Errorf("query: %v", got)
	}
	if got := f.call(200, "GET", "/v1/accounts?state=paused", ""); got["total"] != 1.0 {
		t.Errorf("state: %v", got)
	}
	if got := f.call(200, "GET", "/v1/accounts?page=99", ""); got["total"] != 5.0 || len(got["accounts"].([]any)) != 0 {
		t.Errorf("beyond: %v", got)
	}
}

func TestVerify(t *testing.T) {
	f := newFace(t, func(o *api.Options) {
		o.Verifier = verifier{api.VerifyResult{Error: "the server refused the password", Kind: "authDead", Code: "AUTHENTICATIONFAILED", Action: "Give the right one.", Mailboxes: []api.VerifiedMailbox{{Path: "INBOX"}}}}
	})
	server := `{"imap":{"host":"h","auth":{"user":"u","pass":"p"}},"mailboxes":true}`
	got := f.call(200, "POST", "/v1/verifyAccount", server)
	if got["imap"].(map[string]any)["success"] != false || len(got["mailboxes"].([]any)) != 1 {
		t.Errorf("verify: %v", got)
	}
	got = f.call(503, "POST", "/v1/account?verify=true", jo)
	if got["code"] != "AuthenticationFails" || got["kind"] != "authDead" || got["action"] == nil {
		t.Errorf("verify first: %v", got)
	}
	f.call(404, "GET", "/v1/account/jo", "")
	f.call(200, "POST", "/v1/account", jo)
	f.call(503, "POST", "/v1/account?verify=true", `{"account":"jo","name":"X","imap":{"partial":true,"auth":{"pass":"other"}}}`)
	if a, err := f.store.Account(t.Context(), "jo"); err != nil || a.Version != 1 {
		t.Errorf("an update that did not verify was stored: %d %v", a.Version, err)
	}
	f.call(400, "POST", "/v1/account?verify=true", `{"account":"none"}`)
	for range 27 {
		f.call(200, "POST", "/v1/verifyAccount", server)
	}
	if w := f.send(f.request("POST", "/v1/verifyAccount", server)); w.Code != 429 || w.Header().Get("Retry-After") == "" {
		t.Errorf("31st in a minute: %d", w.Code)
	}
}

func TestTargetsAreChecked(t *testing.T) {
	f := newFace(t, func(o *api.Options) {
		o.CheckTarget = func(u string) error {
			if strings.Contains(u, "169.254") {
				return errNotAllowed
			}
			return nil
		}
		o.CheckHeaders = func(hs []store.Header) error {
			if hs[0].Key == "Host" {
				return errNotAllowed
			}
			return nil
		}
	})
	f.call(200, "POST", "/v1/account", jo)
	for _, to := range [][2]string{{"PUT", "/v1/account/jo"}, {"POST", "/v1/settings"}} {
		if got := f.call(400, to[0], to[1], `{"webhooks":"http://169.254.169.254/latest"}`); got["code"] != "TargetNotAllowed" {
			t.Errorf("%s: %v", to[1], got)
		}
		f.call(400, to[0], to[1], `{"webhooksCustomHeaders":[{"key":"Host","value":"x"}]}`)
		f.call(200, to[0], to[1], `{"webhooks":"https://hooks.example.com/","webhooksCustomHeaders":[{"key":"X-A","value":"x"}]}`)
	}
}

type notAllowed struct{}

func (notAllowed) Error() string { return "is not allowed by policy" }

var errNotAllowed = notAllowed{}

func TestMailboxes(t *testing.T) {
	f := newFace(t)
	f.call(200, "POST", "/v1/account", jo)
	lease, err := f.store.Acquire(t.Context(), "jo", "p1", 60e9)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.store.Commit(t.Context(), lease, store.Change{
		List: &store.ListChange{Version: 0, NextNum: 3, Put: []store.Folder{
			{Num: 1, Raw: "INBOX", Path: "INBOX", Delimiter: "/", SpecialUse: `\Inbox`, Watched: "idle", Subscribed: true},
			{Num: 2, Raw: "Work/Done", Path: "Work/Done", Delimiter: "/", Watched: "poll", Attrs: []string{`\NoInferiors`}},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	list := f.call(200, "GET", "/v1/account/jo/mailboxes", "")["mailboxes"].([]any)
	if len(list) != 2 {
		t.Fatalf("mailboxes: %v", list)
	}
	done := list[1].(map[string]any)
	for key, want := range map[string]any{"path": "Work/Done", "name": "Done", "parentPath": "Work", "noInferiors": true, "watched": "poll", "messages": 0.0} {
		if done[key] != want {
			t.Errorf("%s = %v, want %v", key, done[key], want)
		}
	}
	f.call(404, "GET", "/v1/account/nobody/mailboxes", "")
	f.call(400, "GET", "/v1/account/jo/mailboxes?counters=true", "")
}

func TestHead(t *testing.T) {
	f := newFace(t)
	f.call(200, "POST", "/v1/account", jo)
	r := f.request(http.MethodHead, "/v1/account/jo", "")
	if w := f.send(r); w.Code != 200 || w.Header().Get("ETag") != `"1"` {
		t.Errorf("HEAD: %d %v", w.Code, w.Header())
	}
}

// An account whose state Redis lost can be asked again soon: a worker restores it.
func TestStateLost(t *testing.T) {
	f := newFace(t)
	f.call(200, "POST", "/v1/account", jo)
	keys, err := f.rdb.Keys(t.Context(), "*:jo:state").Result()
	if err != nil || len(keys) != 1 || f.rdb.Del(t.Context(), keys...).Err() != nil {
		t.Fatal(keys, err)
	}
	w := f.send(f.request("PUT", "/v1/account/jo/pause", `{}`))
	if w.Code != 503 || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "StoreUnavailable") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	f.call(200, "GET", "/v1/account/jo", "")
}
