package api_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/api"
	"github.com/postrider/postrider/store"
)

const relay = `{"gateway":"relay/1","name":"Relay","host":"smtp.example.com","port":587,"user":"u","pass":"relay-secret","tls":{"minVersion":"1.3"}}`

func TestGatewayRoundTrip(t *testing.T) {
	f := newFace(t)
	if got := f.call(200, "POST", "/v1/gateway", relay); got["gateway"] != "relay/1" || got["state"] != "new" {
		t.Fatalf("created: %v", got)
	}
	for _, failure := range []string{"", "", "535 5.7.8 no"} {
		if err := f.store.UseGateway(t.Context(), "relay/1", failure); err != nil {
			t.Fatal(err)
		}
	}
	shown := f.call(200, "GET", "/v1/gateway/relay%2F1", "")
	for field, want := range map[string]any{
		"gateway": "relay/1", "name": "Relay", "host": "smtp.example.com", "port": 587.0, "secure": false, "user": "u", "pass": "******",
		"tls": map[string]any{"minVersion": "1.3", "rejectUnauthorized": true}, "deliveries": 2.0, "version": 1.0,
	} {
		if diff := cmp.Diff(want, shown[field]); diff != "" {
			t.Errorf("%s: %s", field, diff)
		}
	}
	if e, _ := shown["lastError"].(map[string]any); e["error"] != "535 5.7.8 no" || e["at"] == nil || shown["lastUse"] == nil {
		t.Errorf("use: %v", shown)
	}

	// what is not given stays, the password too; another server must be given it again
	f.call(200, "PUT", "/v1/gateway/edit/relay%2F1", `{"name":"B"}`)
	if got := f.call(200, "POST", "/v1/gateway", `{"gateway":"relay/1","user":"u2"}`); got["state"] != "existing" {
		t.Errorf("POST again: %v", got)
	}
	g, err := f.store.Gateway(t.Context(), "relay/1")
	if err != nil || g.Name != "B" || g.Server.User != "u2" || g.Server.Pass.Reveal() != "relay-secret" || g.Server.Port != 587 || g.Use.Deliveries != 2 {
		t.Errorf("%+v %v", g, err)
	}
	r := f.request("PUT", "/v1/gateway/edit/relay%2F1", `{"name":"C"}`)
	r.Header.Set("If-Match", `"2"`)
	if w := f.send(r); w.Code != 412 {
		t.Errorf("stale If-Match: %d", w.Code)
	}
	r = f.request("POST", "/v1/gateway", relay)
	r.Header.Set("If-None-Match", "*")
	if w := f.send(r); w.Code != 409 || !strings.Contains(w.Body.String(), "GatewayAlreadyExists") {
		t.Errorf("If-None-Match: %d %s", w.Code, w.Body)
	}
	f.call(200, "PUT", "/v1/gateway/edit/relay%2F1", `{"user":null,"pass":null}`)
	if shown = f.call(200, "GET", "/v1/gateway/relay%2F1", ""); shown["user"] != nil || shown["pass"] != nil {
		t.Errorf("without a login: %v", shown)
	}

	// lists, and ends
	if got := f.call(200, "POST", "/v1/gateway", `{"host":"h"}`); len(got["gateway"].(string)) < 20 {
		t.Errorf("made-up id: %v", got)
	}
	f.call(200, "POST", "/v1/gateway", `{"gateway":"a","host":"h"}`)
	list := f.call(200, "GET", "/v1/gateways?pageSize=2", "")
	if rows := list["gateways"].([]any); list["total"] != 3.0 || len(rows) != 2 {
		t.Errorf("list: %v", list)
	}
	for range 2 {
		if got := f.call(200, "DELETE", "/v1/gateway/relay%2F1", ""); got["deleted"] != true {
			t.Errorf("deleted: %v", got)
		}
	}
	for _, to := range [][3]string{
		{"GET", "/v1/gateway/relay%2F1"}, {"DELETE", "/v1/gateway/never"}, {"PUT", "/v1/gateway/edit/never", `{"name":"x"}`},
	} {
		if got := f.call(404, to[0], to[1], to[2]); got["code"] != "GatewayNotFound" {
			t.Errorf("%v: %v", to, got)
		}
	}
}

func TestGatewayRefusals(t *testing.T) {
	f := newFace(t)
	f.call(200, "POST", "/v1/gateway", relay)
	for _, tt := range []struct{ name, method, path, body, location string }{
		{"no host", "POST", "/v1/gateway", `{"gateway":"x"}`, "body.host"},
		{"no password", "POST", "/v1/gateway", `{"host":"h","user":"u"}`, "body.pass"},
		{"no user", "POST", "/v1/gateway", `{"host":"h","pass":"p"}`, "body.user"},
		{"both secrets", "POST", "/v1/gateway", `{"host":"h","user":"u","pass":"p","accessToken":"t"}`, "body.accessToken"},
		{"a mask", "PUT", "/v1/gateway/edit/relay%2F1", `{"pass":"******"}`, "body.pass"},
		{"a new server", "PUT", "/v1/gateway/edit/relay%2F1", `{"host":"evil.example"}`, "body.pass"},
		{"plaintext", "POST", "/v1/gateway", `{"host":"h","plaintext":true}`, "body.plaintext"},
		{"another id", "PUT", "/v1/gateway/edit/relay%2F1", `{"gateway":"y"}`, "body.gateway"},
		{"bad id", "POST", "/v1/gateway", `{"gateway":"..","host":"h"}`, "body.gateway"},
		{"unknown", "POST", "/v1/gateway", `{"hots":"h"}`, "body.hots"},
		{"certificate", "POST", "/v1/gateway", `{"host":"h","tls":{"ca":"x"}}`, "body.tls.ca"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := f.call(400, tt.method, tt.path, tt.body); place(got) != tt.location {
				t.Errorf("at %s, want %s: %v", place(got), tt.location, got)
			}
			if g, err := f.store.Gateway(t.Context(), "relay/1"); err != nil || g.Version != 1 {
				t.Errorf("changed: %+v %v", g, err)
			}
		})
	}
	f.call(200, "GET", "/v1/gateways", "")
	bound := f.tokenWith(store.Token{Scopes: []string{"api"}, Account: "jo"})
	r := f.request("GET", "/v1/gateways", "")
	r.Header.Set("Authorization", "Bearer "+bound)
	if w := f.send(r); w.Code != 403 {
		t.Errorf("a token of one account sees gateways: %d", w.Code)
	}
	open := newFace(t, func(o *api.Options) { o.Config.AllowPlaintext = true })
	open.call(200, "POST", "/v1/gateway", `{"host":"h","plaintext":true,"port":25}`)
}
