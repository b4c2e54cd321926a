package smtptest

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/postrider/postrider/internal/peertest"
)

// Postfix is a private Postfix on free ports of the loopback, which delivers whatever it
// takes into one maildir. It is stopped with the test.
type Postfix struct {
	Host     string
	Port     int // submission: STARTTLS and AUTH offered, plain text taken
	TLSPort  int // submission over implicit TLS, AUTH LOGIN alone
	CA       string
	Hostname string

	t    TB
	dir  string
	auth *keeper
	cmd  *exec.Cmd
}

// PostfixOptions are what a Postfix is told besides.
type PostfixOptions struct {
	Users map[string]string // name → password, or token
	Main  []string          // lines of main.cf, which win
}

// StartPostfix starts one, or skips the test where it is not installed or we are not root
// (fails it where POSTRIDER_TEST_REQUIRE=all): its master refuses to run as anybody else.
func StartPostfix(t TB, o PostfixOptions) *Postfix {
	t.Helper()
	const program = "/usr/lib/postfix/sbin/master"
	if _, err := os.Stat(program); err != nil {
		peertest.Need(t, "postfix", "make test, or apt-get install postfix")
	}
	if os.Getuid() != 0 {
		peertest.Need(t, "root", "Postfix starts as nobody else")
	}
	p := &Postfix{t: t, Host: "127.0.0.1", Hostname: "mx.postrider.test"}
	dir, err := os.MkdirTemp("/tmp", "pdp") // short, because a unix socket's path has 108 bytes
	if err != nil {
		t.Fatalf("postfix: %v", err)
	}
	p.dir = dir
	t.Cleanup(func() {
		p.stop()
		_ = os.RemoveAll(dir)
	})
	if err := p.configure(o); err != nil {
		t.Fatalf("postfix: %v", err)
	}
	conf := filepath.Join(dir, "etc")
	p.cmd = exec.Command(program, "-c", conf, "-d")
	p.cmd.Env = append(os.Environ(), "MAIL_CONFIG="+conf)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that stop reaches its processes
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("postfix: %v", err)
	}
	for deadline := time.Now().Add(20 * time.Second); !p.greets(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("postfix does not greet: %s", p.Log())
		}
	}
	return p
}

func (p *Postfix) greets() bool {
	c, err := net.DialTimeout("tcp", net.JoinHostPort(p.Host, strconv.Itoa(p.Port)), time.Second)
	if err != nil {
		return false
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	buf := make([]byte, 4)
	n, _ := c.Read(buf)
	return string(buf[:n]) == "220 "
}

// stop ends the master, which ends its processes, and whoever is left.
func (p *Postfix) stop() {
	if p.cmd != nil && p.cmd.Process != nil {
		group := -p.cmd.Process.Pid
		ended := make(chan struct{})
		go func() { // ends with the process
			_ = p.cmd.Wait()
			close(ended)
		}()
		_ = syscall.Kill(group, syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			_ = syscall.Kill(group, syscall.SIGKILL)
			<-ended
		}
		_ = syscall.Kill(group, syscall.SIGKILL)
	}
	if p.auth != nil {
		p.auth.close()
	}
}

// Log is what it wrote.
func (p *Postfix) Log() string {
	b, err := os.ReadFile(filepath.Join(p.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Wait waits until n messages were delivered and returns them, as they lie in the maildir:
// with the fields Postfix put in front, their lines ended by LF.
func (p *Postfix) Wait(ctx context.Context, n int) ([][]byte, error) {
	for {
		names, err := filepath.Glob(filepath.Join(p.dir, "mail/box/new/*"))
		if err != nil {
			return nil, err
		}
		if len(names) >= n {
			slices.Sort(names)
			var out [][]byte
			for _, name := range names {
				b, err := os.ReadFile(name)
				if err != nil {
					return nil, err
				}
				out = append(out, b)
			}
			return out, nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return nil, errors.New("not delivered: " + p.Log())
		}
	}
}
