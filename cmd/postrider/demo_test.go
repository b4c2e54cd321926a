package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/dispatch/hooktest"
)

// Nothing but the binary: no redis-server in PATH, no home, no terminal.
func TestDemo(t *testing.T) {
	home := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	demo := func(args ...string) *exec.Cmd {
		cmd := programCommand(ctx, []string{"PATH=" + home, "HOME=" + home, "XDG_DATA_HOME=" + home, "TMPDIR=" + home, "TZ=UTC"}, append([]string{"demo"}, args...)...)
		cmd.Dir = home
		return cmd
	}

	t.Run("plays each once, hears of everything, exits 0 and leaves nothing", func(t *testing.T) {
		started := time.Now()
		out := &lockedBuffer{}
		first := make(chan time.Duration, 1)
		cmd := demo()
		cmd.Stdout, cmd.Stderr = writerFunc(func(b []byte) (int, error) {
			if strings.Contains(string(b), "#1 accountAdded") {
				select {
				case first <- time.Since(started):
				default:
				}
			}
			return out.Write(b)
		}), out
		if err := cmd.Run(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		select {
		case d := <-first:
			if d > 10*time.Second {
				t.Errorf("the first event came after %s", d)
			}
		default:
			t.Errorf("no first event:\n%s", out)
		}
		if !strings.Contains(out.String(), "NOTHING IS KEPT") {
			t.Error("it does not say that nothing is kept")
		}
		// In order, with what was done before what was heard of it.
		rest := out.String()
		for _, want := range []string{
			`#1 accountAdded demo`, `accountInitialized demo`,
			`> delivered "Hello 1"`, `messageNew demo INBOX "Hello 1"`, `> flagged`, `messageUpdated demo INBOX`,
			`> moved`, `messageNew demo Archive "Hello 1"`, `> delivered "Hello 2"`, `messageNew demo INBOX "Hello 2"`,
			`> deleted`, `messageDeleted demo INBOX`, `messageQueued demo "Note to myself 1"`, `> cut`, `> delivered "Hello 3"`, `messageNew demo INBOX "Hello 3"`,
		} {
			at := strings.Index(rest, want)
			if at < 0 {
				t.Fatalf("after what came before it, %q is missing:\n%s", want, out)
			}
			rest = rest[at+len(want):]
		}
		// Which of these comes first is open: the mailbox has the message before the answer is recorded.
		for _, want := range []string{`> submitted "Note to myself 1"`, `messageSent demo "Note to myself 1"`, `messageNew demo INBOX "Note to myself 1"`} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%q is missing:\n%s", want, out)
			}
		}
		left, err := os.ReadDir(home)
		if err != nil || len(left) > 0 {
			t.Errorf("it left %v, %v", left, err)
		}
	})
	t.Run("--hook sends the webhooks elsewhere", func(t *testing.T) {
		hook, err := hooktest.New()
		if err != nil {
			t.Fatal(err)
		}
		defer hook.Close()
		out, err := demo("--hook", hook.URL, "--listen", "127.0.0.1:0").CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if n := hook.Count(); n < 10 {
			t.Errorf("%d webhooks arrived:\n%s", n, out)
		}
		if !strings.Contains(string(out), `messageNew demo INBOX "Hello 1"`) {
			t.Errorf("the events are not printed:\n%s", out)
		}
	})
	t.Run("a signal ends it", func(t *testing.T) {
		cmd := demo("--listen", "127.0.0.1:0")
		out := &lockedBuffer{}
		cmd.Stdout, cmd.Stderr = out, out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, 20*time.Second, "the demo begins", func() bool { return strings.Contains(out.String(), "#1 accountAdded") })
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != exitInterrupted {
			t.Errorf("exit %d:\n%s", code, out)
		}
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// The curl lines and the receiver of the README stay runnable: each flag and file that
// it names exists.
func TestReadme(t *testing.T) {
	b, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`\]\(([^):#]+)\)`).FindAllStringSubmatch(string(b), -1) {
		if _, err := os.Stat(filepath.Join("../..", m[1])); err != nil {
			t.Errorf("README links to %s: %v", m[1], err)
		}
	}
	known := map[string]bool{"POSTRIDER_URL": true, "POSTRIDER_TOKEN": true}
	c := defaultConfig()
	for _, f := range c.fields() {
		known[f.env()] = true
	}
	for _, name := range regexp.MustCompile(`POSTRIDER_[A-Z_]+`).FindAllString(string(b), -1) {
		if !known[name] {
			t.Errorf("README names the variable %s, which there is not", name)
		}
	}
}
