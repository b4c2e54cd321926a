package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/peertest"
)

// asProgram makes the test binary the program itself: what is killed and restarted in
// tests is then built from the same source, with the race detector where the test has it.
const asProgram = "POSTRIDER_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(run(context.Background(), os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
	}
	if os.Getenv(asBare) != "" {
		fmt.Fprintln(os.Stderr, runBare())
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// programCommand runs the test binary as postrider with its own environment: env is
// NAME=value, and no POSTRIDER_ variable of the caller gets through.
func programCommand(ctx context.Context, env []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "POSTRIDER_") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(append(cmd.Env, asProgram+"=1"), env...)
	return cmd
}

// served is a running postrider serve, in a process of its own.
type served struct {
	URL, Token string
	Dir        string // its data directory

	t      testing.TB
	bin    string // the program; "" = this test binary
	args   []string
	env    []string
	cmd    *exec.Cmd
	out    *lockedBuffer
	exited chan struct{}
	err    error // of Wait, once exited is closed
}

// startServe starts serve on a free port with a fresh data directory, and waits until
// it is ready. env is NAME=value; it may name another Redis. It is killed at the end of
// the test.
func startServe(t testing.TB, env []string, args ...string) *served {
	t.Helper()
	return startBinary(t, "", env, args...)
}

// startBinary is startServe of a program that builtBinary made.
func startBinary(t testing.TB, bin string, env []string, args ...string) *served {
	t.Helper()
	if !hasEnv(env, "POSTRIDER_REDIS_URL") {
		needRedis(t)
	}
	dir, err := os.MkdirTemp("", "pr-serve-") // the path of a unix socket has 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	s := &served{t: t, bin: bin, Dir: filepath.Join(dir, "data"), args: args, env: env, out: &lockedBuffer{}}
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			t.Logf("what serve said:\n%s", s.out)
		}
		waitUnlocked(filepath.Join(s.Dir, "redis", "lock"))
		_ = os.RemoveAll(dir)
	})
	s.Start()
	return s
}

// builtBinary builds the program as users have it: without the race detector, whose
// cost a test of scale would measure instead.
func builtBinary(t testing.TB) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "postrider")
	if out, err := exec.Command("go", "build", "-trimpath", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return bin
}

func needRedis(t testing.TB) {
	t.Helper()
	if _, err := findRedisServer(""); err != nil {
		peertest.Need(t, "redis-server", "make test, or apt-get install redis-server")
	}
}

func hasEnv(env []string, name string) bool {
	for _, kv := range env {
		if strings.HasPrefix(kv, name+"=") {
			return true
		}
	}
	return false
}

// Start starts it, again after Kill or Stop, and waits until it is ready.
func (s *served) Start() {
	s.t.Helper()
	s.Launch()
	s.AwaitReady()
}

// Launch starts it and does not wait.
func (s *served) Launch() {
	s.t.Helper()
	args := append([]string{"serve", "--data", s.Dir, "--listen", "127.0.0.1:0"}, s.args...)
	s.cmd = programCommand(context.Background(), s.env, args...)
	if s.bin != "" {
		s.cmd.Path = s.bin
	}
	s.cmd.Stdout, s.cmd.Stderr = s.out, s.out
	if c, err := readCLI(filepath.Join(s.Dir, cliFile)); err == nil { // the URL in it is the last run's
		c.URL = ""
		if err := writeCLI(filepath.Join(s.Dir, cliFile), c); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	cmd, exited := s.cmd, make(chan struct{})
	s.exited = exited
	go func() {
		s.err = cmd.Wait()
		close(exited)
	}()
}

// AwaitReady waits until /readyz says yes.
func (s *served) AwaitReady() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	for {
		if c, err := readCLI(filepath.Join(s.Dir, cliFile)); err == nil && c.URL != "" {
			s.URL, s.Token = c.URL, c.Token
			if resp, err := http.Get(s.URL + "/readyz"); err == nil {
				_ = resp.Body.Close()
				if resp.StatusCode == http.StatusOK {
					return
				}
			}
		}
		select {
		case <-s.exited:
			s.t.Fatalf("serve ended: %v\n%s", s.err, s.out)
		case <-ctx.Done():
			s.t.Fatalf("serve is not ready\n%s", s.out)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Kill ends it as kill -9 does, and waits until it is gone.
func (s *served) Kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	<-s.exited
	s.cmd = nil
}

// Stop ends it by SIGTERM and returns how it ended.
func (s *served) Stop() error {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	select {
	case <-s.exited:
	case <-time.After(35 * time.Second):
		s.t.Fatalf("serve does not stop\n%s", s.out)
	}
	s.cmd = nil
	return s.err
}

// Output is all that it has said so far, both streams, over all starts.
func (s *served) Output() string { return s.out.String() }

// Call makes an API request with the first token and decodes the answer into out (nil =
// not needed). It fails the test unless the status is one of want (none = any 2xx).
func (s *served) Call(method, path string, body, out any, want ...int) int {
	s.t.Helper()
	status, err := s.TryCall(method, path, body, out)
	if err != nil && status == 0 {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	ok := len(want) == 0 && status < 300
	for _, w := range want {
		ok = ok || status == w
	}
	if !ok {
		s.t.Fatalf("%s %s: status %d: %v", method, path, status, err)
	}
	return status
}

// TryCall is Call that may fail: err holds the answer's text for 300 and more.
func (s *served) TryCall(method, path string, body, out any) (int, error) {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return 0, err
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, s.URL+path, r)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+s.Token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode >= 300 {
		return resp.StatusCode, fmt.Errorf("%s", b)
	}
	if out != nil {
		err = json.Unmarshal(b, out)
	}
	return resp.StatusCode, err
}

// waitUnlocked waits until our own redis-server has let go of its directory.
func waitUnlocked(path string) {
	for range 500 {
		if _, err := os.Stat(path); err != nil {
			return
		}
		f, err := lockFile(path)
		if err == nil {
			_ = f.Close()
			return
		}
		if !errors.Is(err, errLocked) {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
}

// lockedBuffer is written by a process and read by the test.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// runHere runs a subcommand in this process and returns its exit code and output.
func runHere(t *testing.T, env []string, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errOut lockedBuffer
	code = run(t.Context(), args, env, strings.NewReader(stdin), &out, &errOut)
	return code, out.String(), errOut.String()
}
