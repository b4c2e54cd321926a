package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/store/storetest"
)

func TestServe(t *testing.T) {
	s := startServe(t, nil)

	t.Run("the first token is on standard output once and in cli.json, not in the log", func(t *testing.T) {
		if n := strings.Count(s.Output(), s.Token); n != 1 {
			t.Errorf("it was written %d times:\n%s", n, s.Output())
		}
		fi, err := os.Stat(filepath.Join(s.Dir, cliFile))
		if err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("cli.json: %v, %v", fi, err)
		}
		s.Call("GET", "/v1/tokens", nil, nil)
	})
	t.Run("a second serve on the same data refuses", func(t *testing.T) {
		code, _, stderr := runHere(t, nil, "", "serve", "--data", s.Dir, "--listen", "127.0.0.1:0")
		if code != exitUnsafe || !strings.Contains(stderr, "in use") {
			t.Errorf("exit %d: %s", code, stderr)
		}
	})
	t.Run("token create, list and revoke work beside it", func(t *testing.T) {
		_, value, stderr := runHere(t, nil, "", "token", "create", "--data", s.Dir, "--scopes", "events", "--description", "test")
		value = strings.TrimSpace(value)
		if status := get(t, s.URL+"/v1/events", value); status != http.StatusOK {
			t.Errorf("the new token gets %d: %s", status, stderr)
		}
		_, list, _ := runHere(t, nil, "", "token", "list", "--json", "--data", s.Dir)
		id := ""
		for line := range strings.Lines(list) {
			var tok struct{ ID, Description string }
			if err := json.Unmarshal([]byte(line), &tok); err != nil {
				t.Fatal(err)
			}
			if tok.Description == "test" {
				id = tok.ID
			}
		}
		if strings.Contains(list, value) {
			t.Error("the list shows a token's value")
		}
		if code, _, stderr := runHere(t, nil, "", "token", "revoke", "--data", s.Dir, id); code != exitDone {
			t.Fatalf("revoke %q: %d %s", id, code, stderr)
		}
		if code, _, _ := runHere(t, nil, "", "token", "revoke", "--data", s.Dir, id); code != exitFailed {
			t.Errorf("revoking it again: exit %d", code)
		}
		eventually(t, 7*time.Second, "the revoked token dies", func() bool {
			return get(t, s.URL+"/v1/events", value) == http.StatusUnauthorized
		})
	})
	t.Run("the queue dashboard asks for a token and shows the queues", func(t *testing.T) {
		if status := get(t, s.URL+"/monitor/", ""); status != http.StatusUnauthorized {
			t.Errorf("without a token: %d", status)
		}
		if status := get(t, s.URL+"/monitor/api/queues", s.Token); status != http.StatusOK {
			t.Errorf("with one: %d", status)
		}
	})
	t.Run("SIGTERM ends it in the order of the list, with status 0", func(t *testing.T) {
		if err := s.Stop(); err != nil {
			t.Fatalf("%v\n%s", err, s.Output())
		}
		last := -1
		for _, phase := range []string{"api", "sync", "relay", "asynq", "janitors", "redis"} {
			at := strings.Index(s.Output(), `"phase":"`+phase+`"`)
			if at <= last {
				t.Errorf("phase %s is missing or out of order:\n%s", phase, s.Output())
			}
			last = at
		}
		if strings.Contains(s.Output(), "did not end in time") {
			t.Errorf("a phase did not end:\n%s", s.Output())
		}
	})
	t.Run("started again it has its token and no new one", func(t *testing.T) {
		token := s.Token
		s.Start()
		s.Call("GET", "/v1/tokens", nil, nil)
		if s.Token != token || strings.Count(s.Output(), "all rights") != 1 {
			t.Errorf("token %q, then %q:\n%s", token, s.Token, s.Output())
		}
	})
	t.Run("killed, its redis-server ends too, and the data is there at the next start", func(t *testing.T) {
		s.Kill()
		waitUnlocked(filepath.Join(s.Dir, "redis", "lock"))
		client := redis.NewClient(&redis.Options{Network: "unix", Addr: filepath.Join(s.Dir, "redis.sock"), MaxRetries: -1})
		defer client.Close()
		if err := client.Ping(t.Context()).Err(); err == nil {
			t.Error("the redis-server still answers")
		}
		s.Start()
		s.Call("GET", "/v1/tokens", nil, nil)
	})
}

func TestServeRestartsItsRedis(t *testing.T) {
	s := startServe(t, nil)
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: filepath.Join(s.Dir, "redis.sock"), MaxRetries: -1})
	defer client.Close()
	s.Call("POST", "/v1/tokens", map[string]any{"description": "kept", "scopes": []string{"events"}}, nil)
	pid := redisPID(t, client)
	eventually(t, 3*time.Second, "the append-only file is synced", func() bool {
		info, err := client.Info(t.Context(), "persistence").Result()
		return err == nil && strings.Contains(info, "aof_pending_bio_fsync:0")
	})
	p, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "another redis-server answers", func() bool {
		now, err := client.Info(t.Context(), "server").Result()
		return err == nil && !strings.Contains(now, fmt.Sprintf("process_id:%d\r", pid))
	})
	s.AwaitReady()
	var list struct {
		Tokens []struct{ Description string }
	}
	s.Call("GET", "/v1/tokens", nil, &list)
	for _, tok := range list.Tokens {
		if tok.Description == "kept" {
			return
		}
	}
	t.Errorf("what was written before the kill is gone: %+v", list)
}

func TestServeRefuses(t *testing.T) {
	needRedis(t)
	dir := func(t *testing.T) string {
		d, err := os.MkdirTemp("", "pr-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(d) })
		return d
	}
	// A refusal is quick; were there none, the cancelled context would end it with another code.
	refuse := func(t *testing.T, env []string, want string, args ...string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		cmd := programCommand(ctx, env, append([]string{"serve", "--listen", "127.0.0.1:0"}, args...)...)
		out, err := cmd.CombinedOutput()
		exit, _ := errors.AsType[*exec.ExitError](err)
		if exit == nil || exit.ExitCode() != exitUnsafe {
			t.Errorf("%v, want exit %d", err, exitUnsafe)
		}
		if !strings.Contains(string(out), want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}

	t.Run("a Redis that evicts, or keeps nothing", func(t *testing.T) {
		evicts := storetest.NewServer(t, "--maxmemory-policy", "allkeys-lru")
		refuse(t, []string{"POSTRIDER_REDIS_URL=" + evicts.URL()}, "noeviction", "--data", dir(t))
		forgets := storetest.NewServer(t, "--appendonly", "no")
		refuse(t, []string{"POSTRIDER_REDIS_URL=" + forgets.URL()}, "appendonly", "--data", dir(t))
		s := startServe(t, []string{"POSTRIDER_REDIS_URL=" + forgets.URL(), "POSTRIDER_REDIS_ALLOW_UNSAFE=true"})
		if !strings.Contains(s.Output(), "appendonly") {
			t.Errorf("allowed, but not warned of:\n%s", s.Output())
		}
	})
	t.Run("a missing key, and makes no new one", func(t *testing.T) {
		s := startServe(t, nil)
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		key := filepath.Join(s.Dir, "secrets.key")
		if err := os.Rename(key, key+".away"); err != nil {
			t.Fatal(err)
		}
		refuse(t, nil, "key that is not here", "--data", s.Dir)
		if _, err := os.Stat(key); err == nil {
			t.Error("a new key lies there")
		}
		if err := os.Rename(key+".away", key); err != nil {
			t.Fatal(err)
		}
		s.Start()
	})
	t.Run("files with secrets that others can read", func(t *testing.T) {
		d := dir(t)
		if err := os.WriteFile(filepath.Join(d, "secrets.key"), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
		refuse(t, nil, "chmod 600", "--data", d)
		conf := filepath.Join(d, "p.yaml")
		if err := os.WriteFile(conf, []byte("api:\n  token: 0123456789012345678901234567890123456789\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		refuse(t, nil, "chmod 600 "+conf, "--data", dir(t), "--config", conf)
	})
	t.Run("a short token, an example's value", func(t *testing.T) {
		refuse(t, []string{"POSTRIDER_API_TOKEN=short"}, "32 characters", "--data", dir(t))
		refuse(t, []string{"POSTRIDER_API_TOKEN=CHANGE-ME-CHANGE-ME-CHANGE-ME-CHANGE-ME"}, "CHANGE-ME", "--data", dir(t))
	})
	t.Run("an ephemeral one off loopback", func(t *testing.T) {
		refuse(t, nil, "off loopback", "--ephemeral", "--listen", "0.0.0.0:0")
	})
}

func TestServeEphemeral(t *testing.T) {
	home := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := programCommand(ctx, []string{"HOME=" + home, "XDG_DATA_HOME=" + home}, "serve", "--ephemeral", "--listen", "127.0.0.1:0")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	out := &lockedBuffer{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "it says that nothing is kept", func() bool { return strings.Contains(out.String(), "NOTHING IS KEPT") })
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	left, err := os.ReadDir(home)
	if err != nil || len(left) > 0 {
		t.Errorf("it left %v, %v", left, err)
	}
}

func redisPID(t *testing.T, client *redis.Client) (pid int) {
	t.Helper()
	info, err := client.Info(t.Context(), "server").Result()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(info) {
		if _, err := fmt.Sscanf(line, "process_id:%d", &pid); err == nil {
			return pid
		}
	}
	t.Fatal("Redis does not tell its process id")
	return 0
}

// get makes a request with a token and returns the status.
func get(t testing.TB, url, token string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// eventually asks until the answer is yes.
func eventually(t testing.TB, most time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(most)
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("%s: not within %s", what, most)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
