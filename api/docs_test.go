package api_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/api"
	"github.com/postrider/postrider/store"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestOpenAPIIsGolden(t *testing.T) {
	f := newFace(t)
	got := f.send(f.request("GET", "/openapi.json", ""))
	if got.Header().Get("Content-Type") != "application/openapi+json" || !bytes.Equal(got.Body.Bytes(), f.s.OpenAPI()) {
		t.Errorf("served: %s, not the bytes of OpenAPI()", got.Header().Get("Content-Type"))
	}
	golden := filepath.Join("testdata", "golden", "openapi.json")
	if *update {
		if err := os.WriteFile(golden, f.s.OpenAPI(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(f.s.OpenAPI())); diff != "" {
		t.Errorf("the document changed (-golden +now); review it and run with -update:\n%s", diff)
	}
}

// The document says what OpenAPI 3.1 demands of it, and every reference leads somewhere.
func TestOpenAPIIsWhole(t *testing.T) {
	f := newFace(t)
	d := describe(t, f.s)
	if !strings.HasPrefix(d.OpenAPI, "3.1.") || d.Components.SecuritySchemes["token"] == nil {
		t.Errorf("version %s, schemes %v", d.OpenAPI, d.Components.SecuritySchemes)
	}
	ids := map[string]bool{}
	for path, methods := range d.Paths {
		for method, op := range methods {
			if op.OperationID == "" || ids[op.OperationID] {
				t.Errorf("%s %s: operationId %q is empty or used twice", method, path, op.OperationID)
			}
			ids[op.OperationID] = true
			if op.Responses["200"] == nil || op.Responses["default"] == nil {
				t.Errorf("%s %s: responses %v", method, path, op.Responses)
			}
		}
	}
	for _, ref := range regexp.MustCompile(`"\$ref": "([^"]*)"`).FindAllSubmatch(f.s.OpenAPI(), -1) {
		name, ok := strings.CutPrefix(string(ref[1]), "#/components/schemas/")
		if !ok || d.Components.Schemas[name] == nil {
			t.Errorf("reference to %s leads nowhere", ref[1])
		}
	}
}

// Each example of a request in the document is accepted by its route.
func TestExamplesAreAccepted(t *testing.T) {
	f := withQueue(t)
	var d map[string]any
	if err := json.Unmarshal(f.s.OpenAPI(), &d); err != nil {
		t.Fatal(err)
	}
	schemas := d["components"].(map[string]any)["schemas"].(map[string]any)
	var example func(any) (any, bool)
	example = func(v any) (any, bool) {
		s := v.(map[string]any)
		if ref, ok := s["$ref"].(string); ok {
			return example(schemas[filepath.Base(ref)])
		}
		if list, ok := s["examples"].([]any); ok {
			return list[0], true
		}
		if alts, ok := s["oneOf"].([]any); ok {
			return example(alts[0])
		}
		if items, ok := s["items"]; ok {
			if v, ok := example(items); ok {
				return []any{v}, true
			}
		}
		props, ok := s["properties"].(map[string]any)
		if !ok {
			return nil, false
		}
		out := map[string]any{}
		for name, p := range props {
			if v, ok := example(p); ok {
				out[name] = v
			}
		}
		return out, len(out) > 0
	}
	for route, schema := range map[string]string{
		"/v1/account": "AccountIn", "/v1/tokens": "TokenIn", "/v1/gateway": "GatewayIn", submitPath: "SubmitBody",
	} {
		v, ok := example(schemas[schema])
		if !ok {
			t.Fatalf("no example of %s", schema)
		}
		body, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		f.call(200, "POST", route, string(body))
	}
	if a, err := f.store.Account(t.Context(), "jo"); err != nil || a.IMAP.Host != "imap.example.com" {
		t.Errorf("the example account: %+v %v", a, err)
	}
}

// The pages load nothing from elsewhere, and their policy would not let them.
func TestPages(t *testing.T) {
	f := newFace(t)
	for _, path := range []string{"/docs", "/docs/errors", "/login"} {
		r := f.request("GET", path, "")
		r.Header.Del("Authorization")
		w := f.send(r)
		if w.Code != 200 || !strings.Contains(w.Header().Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: %d %v", path, w.Code, w.Header())
		}
		if m := regexp.MustCompile(`(?i)(src|href|action)="(https?:)?//`).Find(w.Body.Bytes()); m != nil {
			t.Errorf("%s loads from elsewhere: %s", path, m)
		}
	}
	for _, id := range []string{"createAccount", "streamEvents"} {
		if !strings.Contains(f.send(f.request("GET", "/docs", "")).Body.String(), `id="`+id+`"`) {
			t.Errorf("/docs does not show %s", id)
		}
	}
	if w := f.send(f.request("GET", "/docs/style.css", "")); w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/css") {
		t.Errorf("style: %d", w.Code)
	}
}

func TestDocsBehindAToken(t *testing.T) {
	f := newFace(t, func(o *api.Options) { o.Config.DocsNeedToken = true })
	for _, path := range []string{"/docs", "/docs/errors", "/openapi.json"} {
		r := f.request("GET", path, "")
		if w := f.send(r); w.Code != 200 {
			t.Errorf("%s with a token: %d", path, w.Code)
		}
		r.Header.Del("Authorization")
		if w := f.send(r); w.Code != 401 {
			t.Errorf("%s without a token: %d", path, w.Code)
		}
	}
}

// The settings of requests and answers are those of the store.
func TestSettingsAreThoseOfTheStore(t *testing.T) {
	f := newFace(t)
	var d struct {
		Components struct {
			Schemas map[string]struct{ Properties map[string]any }
		}
	}
	if err := json.Unmarshal(f.s.OpenAPI(), &d); err != nil {
		t.Fatal(err)
	}
	for _, schema := range []string{"SettingsIn", "SettingsOut"} {
		var names []string
		for name := range d.Components.Schemas[schema].Properties {
			names = append(names, name)
		}
		slices.Sort(names)
		if diff := cmp.Diff(store.SettingNames(), names); diff != "" {
			t.Errorf("%s (-store +api):\n%s", schema, diff)
		}
	}
	for name := range f.call(200, "GET", "/v1/settings", "") {
		if got := f.call(200, "GET", "/v1/settings?"+name+"=true", ""); len(got) != 1 {
			t.Errorf("%s alone: %v", name, got)
		}
	}
}

func TestSettingsRoundTrip(t *testing.T) {
	f := newFace(t)
	got := f.call(200, "GET", "/v1/settings", "")
	if got["webhooksEnabled"] != true || got["stallAfter"] != 600.0 || got["webhooks"] != "" || got["webhookEvents"].([]any)[0] != "*" {
		t.Errorf("defaults: %v", got)
	}
	done := f.call(200, "POST", "/v1/settings", `{"webhooks":"https://hooks.example.com/x","webhookEvents":["messageNew"],"stallAfter":120,"serviceSecret":"sixteen bytes or more"}`)
	if diff := cmp.Diff([]any{"serviceSecret", "stallAfter", "webhookEvents", "webhooks"}, done["updated"]); diff != "" {
		t.Errorf("updated: %s", diff)
	}
	got = f.call(200, "GET", "/v1/settings", "")
	if got["webhooks"] != "https://hooks.example.com/x" || got["stallAfter"] != 120.0 || got["serviceSecret"] != "******" || got["webhookEvents"].([]any)[0] != "messageNew" {
		t.Errorf("after: %v", got)
	}
	f.call(200, "POST", "/v1/settings", `{"webhooks":null,"stallAfter":null,"webhookEvents":null}`)
	got = f.call(200, "GET", "/v1/settings", "")
	if got["webhooks"] != "" || got["stallAfter"] != 600.0 || got["webhookEvents"].([]any)[0] != "*" {
		t.Errorf("defaults again: %v", got)
	}
	if done := f.call(200, "POST", "/v1/settings", `{}`); len(done["updated"].([]any)) != 0 {
		t.Errorf("nothing: %v", done)
	}
	f.call(400, "POST", "/v1/settings", `{"stallAfter":100,"serviceSecret":null}`)
	if got := f.call(200, "GET", "/v1/settings?stallAfter=true", ""); got["stallAfter"] != 600.0 {
		t.Errorf("a part of a refused change was kept: %v", got)
	}
}

// Every anchor that the engine gives to an account's error leads somewhere.
func TestTroublesAreExplained(t *testing.T) {
	f := newFace(t)
	page := f.send(f.request("GET", "/docs/errors", "")).Body.String()
	seen := map[string]bool{}
	for _, name := range []string{"replies.go", "classify.go"} {
		src, err := os.ReadFile(filepath.Join("..", "imapsync", name))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`docs: *"([a-z-]+)"|f\.Docs(?:, f\.Planned)? = .*"([a-z-]+)"`).FindAllSubmatch(src, -1) {
			seen[string(m[1])+string(m[2])] = true
		}
	}
	if len(seen) < 10 {
		t.Fatalf("only %d anchors found: the pattern no longer fits the source", len(seen))
	}
	for anchor := range seen {
		if !strings.Contains(page, `id="`+anchor+`"`) {
			t.Errorf("%s is not explained", anchor)
		}
	}
}
