package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/postrider/postrider/store/secret"
)

// The example names every key once, with the default that the program has.
func TestExampleConfig(t *testing.T) {
	const example = "../../config.example.yaml"
	l := &loaded{Config: defaultConfig(), sources: map[string]string{}}
	for _, f := range l.fields() {
		f.v.SetZero() // so that a key which the file lacks shows
	}
	if errs := l.readFile(example); len(errs) > 0 {
		t.Fatal(errs)
	}
	def := defaultConfig()
	want := map[string]field{}
	for _, f := range def.fields() {
		want[f.key] = f
	}
	for _, f := range l.fields() {
		if l.sources[f.key] == "" {
			t.Errorf("%s is missing", f.key)
		}
		if got, want := f.reveal(), want[f.key].reveal(); got != want {
			t.Errorf("%s: the example says %q, the default is %q", f.key, got, want)
		}
	}
	if pr := l.problems(); len(pr) > 0 {
		t.Errorf("the example is not valid: %v", pr)
	}

	b, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(b), "\n")
	for i, line := range lines {
		key := strings.TrimSpace(line)
		if key == "" || strings.HasPrefix(key, "#") || strings.HasSuffix(key, ":") {
			continue
		}
		if before := strings.TrimSpace(lines[i-1]); !strings.HasPrefix(before, "#") && !strings.HasPrefix(key, "key:") {
			t.Errorf("line %d: %s has no comment", i+1, key)
		}
	}
}

// Every kind of field can be set and shown.
func TestFieldsCanBeSet(t *testing.T) {
	samples := map[reflect.Type]string{
		reflect.TypeFor[string](): "x", reflect.TypeFor[bool](): "true", reflect.TypeFor[int](): "7", reflect.TypeFor[float64](): "0.25",
		reflect.TypeFor[time.Duration](): "5m0s", reflect.TypeFor[size](): "20MiB", reflect.TypeFor[secret.Text](): "hidden",
		reflect.TypeFor[nested](): "{}", reflect.TypeFor[nestedList](): "[]", reflect.TypeFor[[]string](): "a,b", reflect.TypeFor[[]secret.Text](): "hidden,too",
	}
	c := defaultConfig()
	for _, f := range c.fields() {
		s, ok := samples[f.v.Type()]
		if !ok {
			t.Errorf("%s: no sample for a %s", f.key, f.v.Type())
			continue
		}
		if err := f.setText(s); err != nil {
			t.Errorf("%s: %v", f.key, err)
		}
		if shown := f.show(); f.isSecret() && strings.Contains(shown, "hidden") || !f.isSecret() && shown != s {
			t.Errorf("%s: set to %q, shows %q", f.key, s, shown)
		}
	}
}

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "p.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCheckConfigNamesEveryProblem(t *testing.T) {
	path := writeConfig(t, `dataDirs: /tmp
api:
  listenn: 127.0.0.1:1
  tls: {cert: a, cert: b}
  maxConcurrent: many
log:
  level: [a, b]
roles: {api: true}
events: 72h
redis: &r
  url: ""
webhook: *r
`)
	env := []string{"POSTRIDER_API_LISTEM=x", "POSTRIDER_WEBHOOK_TIMEOUT=soon", "POSTRIDER_LOG_LEVEL=info", "POSTRIDER_LOG_LEVEL_FILE=/nowhere", "POSTRIDER_TEST_X=1"}
	code, _, stderr := runHere(t, env, "", "check-config", "--config", path)
	if code != exitUsage {
		t.Errorf("exit %d", code)
	}
	for _, want := range []string{
		path + ":1: unknown key dataDirs: did you mean dataDir?",
		path + ":3: unknown key api.listenn: did you mean api.listen?",
		path + ":4: api.tls.cert is here twice",
		path + ":5: api.maxConcurrent: must be a whole number",
		path + ":7: log.level: must be one value, not a list",
		path + ":8: roles: must be a value, not keys of its own",
		path + ":9: events must hold keys",
		path + ":12: aliases are not supported",
		"unknown variable POSTRIDER_API_LISTEM: did you mean POSTRIDER_API_LISTEN?",
		"$POSTRIDER_WEBHOOK_TIMEOUT: must be a time such as 30s or 72h",
		"$POSTRIDER_LOG_LEVEL_FILE: open /nowhere",
	} {
		if !strings.Contains(stderr, want) {
			t.Errorf("it does not say %q:\n%s", want, stderr)
		}
	}
}

func TestCheckConfigJudgesValues(t *testing.T) {
	for _, c := range []struct{ yaml, want string }{
		{"roles: [api, track]", `roles (FILE:1): "track": must be api, sync, send or dispatch`},
		{"roles: []", "roles (FILE:1): at least one of api, sync, send, dispatch"},
		{"log: {level: loud}", `log.level (FILE:1): "loud": must be debug, info, warn or error`},
		{"redis: {url: 'http://geheim@x'}", "redis.url (FILE:1): scheme"},
		{"redis: {url: 'redis+sentinel://x:1'}", "master_name"},
		{"redis: {prefix: 'a{b}'}", "redis.prefix (FILE:1)"},
		{"api: {listen: '3000'}", `api.listen (FILE:1): "3000"`},
		{"api: {listen: '127.0.0.1:99999'}", `api.listen (FILE:1): "127.0.0.1:99999"`},
		{"api: {listen: ['127.0.0.1:1']}", "FILE:1: api.listen: must be one value, not a list"},
		{"api: {}\napi: {listen: '127.0.0.1:1'}", "FILE:2: api is here twice (FILE:1)"},
		{"api: {tls: {cert: x}}", "api.tls (FILE:1): cert and key belong together"},
		{"api: {trustedProxies: [x]}", "api.trustedProxies (FILE:1)"},
		{"api: {cors: {origins: ['*']}}", "api.cors.origins (FILE:1)"},
		{"secrets: {keys: [geheim]}", "secrets.keys (FILE:1): key 1"},
		{"egress: {policy: open, allow: ['10.0.0.1/8']}", `egress (FILE:1): policy "open"`},
		{"egress: {policy: open, allow: ['10.0.0.1/8']}", `egress (FILE:1): allow "10.0.0.1/8"`},
		{"egress: {allow: ['10.0.0.1/8']}", "write 10.0.0.0/8"},
		{"send: {ehloName: localhost}", `send.ehloName (FILE:1): "localhost"`},
		{"send: {idHeader: 'X Id'}", `send.idHeader (FILE:1): "X Id"`},
		{"send: {timeouts: {dot: 0s}}", "send.timeouts.dot (FILE:1): must be 1s to 1h0m0s"},
		{"send: {maxMessageSize: 1KiB}", "send.maxMessageSize (FILE:1): must be 64KiB to 256MiB"},
		{"webhook: {timeout: 10m}", "webhook.timeout (FILE:1): must be 1s to 1m0s"},
		{"webhook: {slowShare: 2}", "webhook.slowShare (FILE:1)"},
		{"mail: {providers: {gmail: {connections: 0}}}", "mail.providers (FILE:1): gmail.connections: must be 1 to 100"},
		{"mail: {providers: {x: {}, y: {}}}", "mail.providers (FILE:1): y.hosts: one of hosts, idName and capability"},
		{"mail:\n  providers: [gmail]", "FILE:2: mail.providers: must hold keys"},
		{"mail: {providers: {gmail: {conections: 4}}}", "conections"},
		{"send: {providers: [{name: a, hosts: [x]}, {name: b, hosts: [y], connections: 101}]}", "send.providers (FILE:1): [1].connections: must be 1 to 100"},
		{"send: {providers: [{name: a, hosts: [x], conections: 4}, {name: b}]}", "send.providers (FILE:1): [0].conections: field conections not found"},
		{"send: {providers: [{hosts: [x]}, {name: b}]}", "send.providers (FILE:1): [1].hosts: must be given"},
		{"send:\n  providers: {gmail: {}}", "FILE:2: send.providers: must hold a list"},
		{"send: {providers: [gmail]}", "send.providers (FILE:1): [0]: must hold the fields of a profile"},
		{"events: {retention: 1m}", "events.retention (FILE:1)"},
		{"sync: {proofInterval: 1h}", "sync.proofInterval (FILE:1)"},
		{"a: [", "FILE: "},
		{"- a", "FILE:1: the file must hold keys"},
	} {
		path := writeConfig(t, c.yaml)
		code, _, stderr := runHere(t, nil, "", "check-config", "--config", path)
		if want := strings.ReplaceAll(c.want, "FILE", path); code != exitUsage || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit %d, want it to say %q:\n%s", c.yaml, code, want, stderr)
		}
		if strings.Contains(stderr, "geheim") {
			t.Errorf("%s: the error repeats a secret:\n%s", c.yaml, stderr)
		}
	}
	if code, _, stderr := runHere(t, nil, "", "check-config", "--config", "/nowhere/p.yaml"); code != exitUsage {
		t.Errorf("missing file: exit %d: %s", code, stderr)
	}
}

func TestCheckConfigShow(t *testing.T) {
	const token = "0123456789abcdef0123456789abcdef"
	secretFile := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(secretFile, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	path := writeConfig(t, "api:\n  listen: 127.0.0.1:4000\negress:\n  allow: [10.0.0.0/8, hooks.lan]\nredis:\n  url: redis://user:geheim@127.0.0.1:6379\nsend:\n  providers:\n    - {name: ours, hosts: [x]}\n")
	env := []string{"POSTRIDER_API_TOKEN_FILE=" + secretFile, "POSTRIDER_ROLES=api, sync", "POSTRIDER_EGRESS_ALLOW_HTTP=true", "POSTRIDER_URL=x", `POSTRIDER_MAIL_PROVIDERS={"gmail":{"connections":4}}`}
	code, stdout, stderr := runHere(t, env, "", "check-config", "--show", "--config", path)
	if code != exitDone {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	shown := map[string][]string{}
	for line := range strings.Lines(stdout) {
		f := strings.Fields(line)
		shown[f[0]] = f[1:]
	}
	for key, want := range map[string]string{
		"api.listen":        "127.0.0.1:4000 " + path + ":2",
		"egress.allow":      "10.0.0.0/8,hooks.lan " + path + ":4",
		"api.token":         "****** $POSTRIDER_API_TOKEN_FILE",
		"redis.url":         "****** " + path + ":6",
		"roles":             "api,sync $POSTRIDER_ROLES",
		"egress.allowHttp":  "true $POSTRIDER_EGRESS_ALLOW_HTTP",
		"events.retention":  "72h0m0s default",
		"mail.providers":    `{"gmail":{"connections":4}} $POSTRIDER_MAIL_PROVIDERS`,
		"send.providers":    `[{"hosts":["x"],"name":"ours"}] ` + path + ":8",
		"webhook.slowShare": "0.5 default",
	} {
		if got := strings.Join(shown[key], " "); got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
	if strings.Contains(stdout+stderr, token) || strings.Contains(stdout+stderr, "geheim") {
		t.Errorf("a secret is shown:\n%s", stdout)
	}
	def := defaultConfig()
	if len(shown) != len(def.fields()) {
		t.Errorf("%d keys shown, there are %d", len(shown), len(def.fields()))
	}
}

func TestEnvironmentNames(t *testing.T) {
	want := map[string]string{
		"dataDir": "POSTRIDER_DATA_DIR", "api.trustedProxies": "POSTRIDER_API_TRUSTED_PROXIES", "redis.url": "POSTRIDER_REDIS_URL",
		"mail.allowInsecureTLS": "POSTRIDER_MAIL_ALLOW_INSECURE_TLS", "egress.allowHttp": "POSTRIDER_EGRESS_ALLOW_HTTP", "api.tls.cert": "POSTRIDER_API_TLS_CERT",
	}
	c := defaultConfig()
	seen := map[string]string{}
	for _, f := range c.fields() {
		if w, ok := want[f.key]; ok && f.env() != w {
			t.Errorf("%s: %s, want %s", f.key, f.env(), w)
		}
		if other, twice := seen[f.env()]; twice {
			t.Errorf("%s and %s share %s", f.key, other, f.env())
		}
		seen[f.env()] = f.key
	}
}

// Flags win over the environment, which wins over the file.
func TestPrecedence(t *testing.T) {
	path := writeConfig(t, "api: {listen: '127.0.0.1:1'}\nlog: {level: debug}\nroles: [api]\n")
	p := &program{env: []string{"POSTRIDER_API_LISTEN=127.0.0.1:2", "POSTRIDER_LOG_LEVEL=warn"}}
	l, err := loadConfig(path, p, map[string]string{"api.listen": "127.0.0.1:3"})
	if err != nil {
		t.Fatal(err)
	}
	if l.API.Listen != "127.0.0.1:3" || l.Log.Level != "warn" || l.Roles[0] != "api" || len(l.Roles) != 1 {
		t.Errorf("got %q %q %v", l.API.Listen, l.Log.Level, l.Roles)
	}
}

// What an older version's file looks like must load for ever; empty ones do as well.
func TestEmptyFiles(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "api:\nlog:\n", "api:\n  listen:\n"} {
		l, err := loadConfig(writeConfig(t, text), &program{}, nil)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		} else if l.API.Listen != "127.0.0.1:3000" {
			t.Errorf("%q: listens on %q", text, l.API.Listen)
		}
	}
}

func FuzzReadConfig(f *testing.F) {
	for _, s := range []string{"api: {listen: x}", "roles: [a, b]", "a: &a [*a]", "? x\n: y", "api:\n  tls:\n    cert: |\n      x\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "p.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		l := &loaded{Config: defaultConfig(), sources: map[string]string{}}
		errs := l.readFile(path)
		var known map[string]any
		if len(errs) == 0 && yaml.Unmarshal([]byte(text), &known) != nil {
			t.Errorf("accepted what is no map: %q", text)
		}
	})
}
