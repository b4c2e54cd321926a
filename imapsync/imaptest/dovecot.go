package imaptest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Dovecot is a private Dovecot 2.3 on free ports of the loopback, with its mail in a
// temporary directory (maildir) and its users in a file. It is stopped with the test.
type Dovecot struct {
	t    TB
	dir  string
	port int // plain, with STARTTLS
	tls  int // implicit TLS
	ca   string

	mu    sync.Mutex
	cmd   *exec.Cmd
	ended chan struct{}
}

// StartDovecot starts one, or skips the test where it is not installed (fails it where
// POSTRIDER_TEST_REQUIRE=all).
func StartDovecot(t TB) *Dovecot {
	t.Helper()
	if _, err := exec.LookPath("dovecot"); err != nil {
		const missing = "needs dovecot: make test, or apt-get install dovecot-imapd"
		if os.Getenv("POSTRIDER_TEST_REQUIRE") == "all" {
			t.Fatalf(missing)
		}
		t.Skipf(missing)
	}
	// Short, because a unix socket's path has 108 bytes, and open, because Dovecot's
	// processes run as another user than we.
	dir, err := os.MkdirTemp("/tmp", "pdc")
	if err != nil {
		t.Fatalf("dovecot: %v", err)
	}
	d := &Dovecot{t: t, dir: dir}
	t.Cleanup(func() {
		d.Stop()
		_ = os.RemoveAll(dir)
	})
	if err := d.configure(); err != nil {
		t.Fatalf("dovecot: %v", err)
	}
	d.Start()
	return d
}

// Start starts it, again after Stop, on the same ports with the same mail, and waits
// until it greets.
func (d *Dovecot) Start() {
	d.t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cmd != nil {
		return
	}
	cmd := exec.Command("dovecot", "-F", "-c", filepath.Join(d.dir, "dovecot.conf"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that Stop reaches the processes that hold connections
	if err := cmd.Start(); err != nil {
		d.t.Fatalf("dovecot: start: %v", err)
	}
	ended := make(chan struct{})
	go func() { // ends with the process, which Stop ends
		_ = cmd.Wait()
		close(ended)
	}()
	d.cmd, d.ended = cmd, ended
	for deadline := time.Now().Add(15 * time.Second); ; {
		if greets(net.JoinHostPort("127.0.0.1", strconv.Itoa(d.port))) {
			return
		}
		select {
		case <-ended:
			d.t.Fatalf("dovecot: ended at once: %s", d.Log())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			d.t.Fatalf("dovecot: does not greet: %s", d.Log())
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
func (d *Dovecot) Stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cmd == nil {
		return
	}
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.ended:
	case <-time.After(10 * time.Second):
		_ = d.cmd.Process.Kill()
		<-d.ended
	}
	_ = syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL)
	d.cmd = nil
}

// Log is what it wrote, for a failing test.
func (d *Dovecot) Log() string {
	b, err := os.ReadFile(filepath.Join(d.dir, "dovecot.log"))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// User adds a user and returns the mailbox; its Server is the plain port with STARTTLS.
// A name given again changes the password.
func (d *Dovecot) User(name, pass string) *DovecotUser {
	d.t.Helper()
	d.SetPassword(name, pass)
	u := &DovecotUser{d: d, driver: &driver{user: name, pass: pass, dial: func(ctx context.Context) (net.Conn, error) {
		var nd net.Dialer
		return nd.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(d.port)))
	}}}
	d.t.Cleanup(u.driver.close)
	return u
}

// SetPassword changes a user's password, or adds the user.
func (d *Dovecot) SetPassword(name, pass string) {
	d.t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	path := filepath.Join(d.dir, "users")
	b, err := os.ReadFile(path)
	if err != nil {
		d.t.Fatalf("dovecot: %v", err)
	}
	var keep []string
	for l := range strings.Lines(string(b)) {
		if !strings.HasPrefix(l, name+":") {
			keep = append(keep, l)
		}
	}
	keep = append(keep, name+":{PLAIN}"+pass+"\n")
	// Replaced in one step: Dovecot may read it at any moment, and looks at its time.
	if err := os.WriteFile(path+".new", []byte(strings.Join(keep, "")), 0o644); err != nil {
		d.t.Fatalf("dovecot: %v", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		d.t.Fatalf("dovecot: %v", err)
	}
}

// DovecotUser is a user's mailbox on a Dovecot.
type DovecotUser struct {
	*driver
	d *Dovecot
}

var _ Mailbox = (*DovecotUser)(nil)

// Server implements Mailbox: the port without implicit TLS; STARTTLS is offered, and
// plaintext taken.
func (u *DovecotUser) Server() Server {
	return Server{Host: "127.0.0.1", Port: u.d.port, User: u.user, Pass: u.pass, CA: u.d.ca}
}

// TLSPort is the port with implicit TLS.
func (u *DovecotUser) TLSPort() int { return u.d.tls }

// ResetUIDValidity implements Mailbox: the number in the folder's UID list is changed
// and its index removed, so that the messages keep their UIDs.
func (u *DovecotUser) ResetUIDValidity(ctx context.Context, folder string) error {
	u.driver.close() // our own session may hold the folder
	dir := filepath.Join(u.d.dir, "mail", u.user, "Maildir")
	if folder != "INBOX" {
		dir = filepath.Join(dir, "."+strings.ReplaceAll(folder, "/", "."))
	}
	path := filepath.Join(dir, "dovecot-uidlist")
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reset uidvalidity of %q: %w", folder, err)
	}
	m := uidListHead.FindSubmatchIndex(b)
	if m == nil {
		return fmt.Errorf("reset uidvalidity of %q: %s has no header", folder, path)
	}
	old, err := strconv.ParseUint(string(b[m[2]:m[3]]), 10, 32)
	if err != nil {
		return fmt.Errorf("reset uidvalidity of %q: %w", folder, err)
	}
	fresh := append([]byte(nil), b[:m[2]]...)
	fresh = strconv.AppendUint(fresh, old+1, 10)
	fresh = append(fresh, b[m[3]:]...)
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("reset uidvalidity of %q: %w", folder, err)
	}
	if err := os.WriteFile(path+".new", fresh, info.Mode()); err != nil {
		return fmt.Errorf("reset uidvalidity of %q: %w", folder, err)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		_ = os.Chown(path+".new", int(st.Uid), int(st.Gid))
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("reset uidvalidity of %q: %w", folder, err)
	}
	indexes, err := filepath.Glob(filepath.Join(dir, "dovecot.index*"))
	for _, f := range indexes {
		err = errors.Join(err, os.Remove(f))
	}
	return err
}

var uidListHead = regexp.MustCompile(`^3 V(\d+) `)
