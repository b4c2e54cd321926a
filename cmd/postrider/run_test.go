package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

func TestRunUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		want string // on either stream
	}{
		{nil, exitUsage, "usage: postrider"},
		{[]string{"help"}, exitDone, "check-config"},
		{[]string{"--help"}, exitDone, "check-config"},
		{[]string{"sevre"}, exitUsage, `no command "sevre": did you mean serve?`},
		{[]string{"serve", "-h"}, exitDone, "example: postrider serve"},
		{[]string{"demo", "-h"}, exitDone, "example: postrider demo"},
		{[]string{"tail", "-h"}, exitDone, "example: postrider tail"},
		{[]string{"token", "-h"}, exitDone, "example: postrider token create"},
		{[]string{"serve", "--nonsense"}, exitUsage, "-nonsense; postrider serve -h shows the flags"},
		{[]string{"serve", "now"}, exitUsage, `"now" is one argument too many`},
		{[]string{"serve", "--ephemeral", "--roles", "track"}, exitUsage, `"track"`},
		{[]string{"send", "-h"}, exitDone, "example: echo Hello | postrider send"},
		{[]string{"send", "--account", "jo"}, exitUsage, "--account A --to X"},
		{[]string{"send", "--account", "jo", "--to", "a@x.example", "--attach", "/nowhere/at/all"}, exitUsage, "/nowhere/at/all"},
		{[]string{"send", "--account", "jo", "--to", "a@x.example", "--wait", "-1s"}, exitUsage, "--wait"},
		{[]string{"send", "--account", "jo", "--to", "a@x.example", "--data", "/nowhere/at/all"}, exitUsage, "which server?"},
		{[]string{"token"}, exitUsage, "create, list or revoke"},
		{[]string{"token", "make"}, exitUsage, `"make"`},
		{[]string{"token", "revoke"}, exitUsage, "token's id"},
		{[]string{"token", "list", "--data", "/nowhere/at/all"}, exitFailed, "no data directory"},
		{[]string{"tail", "--data", "/nowhere/at/all"}, exitUsage, "which server?"},
		{[]string{"tail", "--url", "http://127.0.0.1:1"}, exitUsage, ""},
		{[]string{"tail", "--url", "http://127.0.0.1:1", "--token", "x"}, exitFailed, "is postrider serve running"},
		{[]string{"tail", "--url", "http://127.0.0.1:1", "--token", "x", "--resume", "../x"}, exitUsage, "--resume"},
		{[]string{"version"}, exitDone, "postrider " + version},
	} {
		env := []string{"HOME=" + t.TempDir()}
		code, stdout, stderr := runHere(t, env, "", c.args...)
		if code != c.code || !strings.Contains(stdout+stderr, c.want) {
			t.Errorf("%v: exit %d, want %d and %q:\n%s%s", c.args, code, c.code, c.want, stdout, stderr)
		}
		if asked := code == exitDone; (stderr == "") != asked || (stdout != "") != asked {
			t.Errorf("%v: what is asked for goes to stdout, what is wrong to stderr:\n%s%s", c.args, stdout, stderr)
		}
	}
}

func TestExitCode(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{flag.ErrHelp, 0},
		{errors.New("x"), 1},
		{fmt.Errorf("x: %w", usagef("y")), 2},
		{errors.Join(errors.New("x"), unsafeError{what: "y"}), 3},
		{errors.Join(usagef("x"), unsafeError{what: "y"}), 3},
		{fmt.Errorf("x: %w", context.Canceled), 130},
		{exitStatus(42), 42},
		{fatal{exitStatus(42)}, 42},
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("%v: exit %d, want %d", c.err, got, c.want)
		}
	}
}

func TestVersionAndOpenAPI(t *testing.T) {
	_, out, _ := runHere(t, nil, "", "version", "--json")
	var b buildInfo
	if err := json.Unmarshal([]byte(out), &b); err != nil || b.Version != version || b.Platform == "" {
		t.Errorf("%s: %v", out, err)
	}
	code, doc, stderr := runHere(t, nil, "", "openapi")
	var d struct {
		OpenAPI string `json:"openapi"`
		Paths   map[string]any
	}
	if err := json.Unmarshal([]byte(doc), &d); code != 0 || err != nil || !strings.HasPrefix(d.OpenAPI, "3.1") || d.Paths["/metrics"] == nil {
		t.Errorf("exit %d, %v, %s, %d paths: %s", code, err, d.OpenAPI, len(d.Paths), stderr)
	}
	if code, out, _ := runHere(t, nil, "", "openapi", "--yaml"); code != 0 || !strings.Contains(out, "openapi: ") || strings.HasPrefix(out, "{") {
		t.Errorf("yaml: exit %d: %.100s", code, out)
	}
}

func TestRedisURLs(t *testing.T) {
	for _, c := range []struct {
		url  string
		want string // type of client, or part of the error
	}{
		{"redis://127.0.0.1:6379/2", "*redis.Client"},
		{"rediss://user:pw@redis.example.com:6380", "*redis.Client"},
		{"unix:///run/redis.sock?db=1", "*redis.Client"},
		{"redis+sentinel://a:26379?master_name=m&addr=b:26379", "*redis.Client"},
		{"redis+cluster://a:7000?addr=b:7000&addr=c:7000", "*redis.ClusterClient"},
		{"redis+sentinel://a:26379", "master_name"},
		{"unix+cluster:///run/redis.sock", "scheme"},
		{"http://a", "scheme"},
		{"redis://a:6379/x?nonsense=geheim", ""},
		{"redis://user:geheim@%zz", "not a URL"},
		{"redis://user:geheim@a:b:c", ""},
	} {
		mk, err := redisOptions(c.url)
		if err != nil {
			if !strings.Contains(err.Error(), c.want) || strings.HasPrefix(c.want, "*") || strings.Contains(err.Error(), "user:geheim") {
				t.Errorf("%s: %v, want %s", c.url, err, c.want)
			}
			continue
		}
		client := mk()
		if got := fmt.Sprintf("%T", client); got != c.want {
			t.Errorf("%s: %s, want %s", c.url, got, c.want)
		}
		if o, ok := client.(*redis.Client); ok && o.Options().PoolSize != redisPool {
			t.Errorf("%s: pool of %d", c.url, o.Options().PoolSize)
		}
		_ = client.Close()
	}
}

func TestRedisPlaceHidesPasswords(t *testing.T) {
	if got := redisPlace("redis://user:geheim@a:6379/2?x=geheim"); got != "redis://a:6379/2" {
		t.Errorf("got %q", got)
	}
}

// A long pipeline and its answers must not wait for each other.
func TestEphemeralTakesLongPipelines(t *testing.T) {
	part, err := openEphemeral()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = part.stop(t.Context()) }()
	value := strings.Repeat("x", 1000)
	cmds, err := part.client.Pipelined(t.Context(), func(p redis.Pipeliner) error {
		for i := range 300 {
			p.Set(t.Context(), fmt.Sprintf("k%d", i), value, 0)
			p.Get(t.Context(), fmt.Sprintf("k%d", i))
		}
		return nil
	})
	if err != nil || len(cmds) != 600 {
		t.Errorf("%d answers: %v", len(cmds), err)
	}
}

func TestSocketPath(t *testing.T) {
	if p, err := socketPath("/data", ""); err != nil || p != "/data/redis.sock" {
		t.Errorf("%q, %v", p, err)
	}
	short, err := os.MkdirTemp("", "pr-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(short) })
	long := "/" + strings.Repeat("d", 120)
	p, err := socketPath(long, short)
	if err != nil || len(p) > socketMax || !strings.HasPrefix(p, short) {
		t.Errorf("%q, %v", p, err)
	}
	if fi, err := os.Stat(filepath.Dir(p)); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("its directory: %v, %v", fi, err)
	}
	if again, _ := socketPath(long, short); again != p {
		t.Errorf("%q, then %q", p, again)
	}
	if _, err := socketPath(long, long); err == nil {
		t.Error("a socket where none can be was accepted")
	}
}

func TestDataDirLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b")
	d, err := openDataDir(path)
	if err != nil || !d.made {
		t.Fatalf("%+v, %v", d, err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
	if _, err := openDataDir(path); exitCode(err) != exitUnsafe {
		t.Errorf("second: %v", err)
	}
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
	again, err := openDataDir(path)
	if err != nil || again.made {
		t.Fatalf("%+v, %v", again, err)
	}
	_ = again.close()
}
