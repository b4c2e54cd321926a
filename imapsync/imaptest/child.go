package imaptest

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// child is a mail server's process, in a directory and on a port of the loopback of its
// own. It ends with the test.
type child struct {
	t       TB
	name    string // for messages
	dir     string // short, because a unix socket's path has 108 bytes
	port    int
	command func() *exec.Cmd
	logs    []string // files in dir

	mu    sync.Mutex
	cmd   *exec.Cmd
	ended chan struct{}
}

// makeDir gives the child a directory and its end; free, where it is not nil, is called
// once the process is gone.
func (c *child) makeDir(free func()) {
	c.t.Helper()
	dir, err := os.MkdirTemp("/tmp", "pd"+c.name[:1])
	if err != nil {
		c.t.Fatalf("%s: %v", c.name, err)
	}
	c.dir = dir
	c.t.Cleanup(func() {
		c.Stop()
		if free != nil {
			free()
		}
		_ = os.RemoveAll(dir)
	})
}

// Start starts it, again after Stop, on the same ports with the same mail, and waits
// until it greets.
func (c *child) Start() {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cmd != nil {
		return
	}
	cmd := c.command()
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true // so that Stop reaches the processes that hold connections
	if err := cmd.Start(); err != nil {
		c.t.Fatalf("%s: start: %v", c.name, err)
	}
	ended := make(chan struct{})
	go func() { // ends with the process, which Stop ends
		_ = cmd.Wait()
		close(ended)
	}()
	c.cmd, c.ended = cmd, ended
	for deadline := time.Now().Add(15 * time.Second); ; {
		if greets(net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port))) {
			return
		}
		select {
		case <-ended:
			c.t.Fatalf("%s: ended at once: %s", c.name, c.Log())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("%s: does not greet: %s", c.name, c.Log())
		}
	}
}

// greets says whether an IMAP server answers there.
func greets(addr string) bool {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	buf := make([]byte, 4)
	n, _ := c.Read(buf)
	return strings.HasPrefix(string(buf[:n]), "* OK")
}

// Stop ends it with all its connections; Start brings it back.
func (c *child) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cmd == nil {
		return
	}
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.ended:
	case <-time.After(10 * time.Second):
		_ = c.cmd.Process.Kill()
		<-c.ended
	}
	// Who holds a lock in a maildir gives it back before it ends; the next to want it would wait.
	group := -c.cmd.Process.Pid
	_ = syscall.Kill(group, syscall.SIGTERM)
	for range 50 {
		if syscall.Kill(group, 0) != nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	_ = syscall.Kill(group, syscall.SIGKILL)
	c.cmd = nil
}

// Log is what it wrote, for a failing test.
func (c *child) Log() string {
	var all strings.Builder
	for _, name := range c.logs {
		b, err := os.ReadFile(filepath.Join(c.dir, name))
		all.Write(b)
		if err != nil {
			all.WriteString(err.Error())
		}
	}
	return all.String()
}
