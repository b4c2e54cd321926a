package imaptest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/postrider/postrider/internal/peertest"
)

// Dovecot is a private Dovecot 2.3 on free ports of the loopback, with its mail in a
// temporary directory (maildir) and its users in a file. It is stopped with the test.
type Dovecot struct {
	child     // its port takes STARTTLS
	tls   int // implicit TLS
	ca    string
}

// StartDovecot starts one, or skips the test where it is not installed (fails it where
// POSTRIDER_TEST_REQUIRE=all).
func StartDovecot(t TB) *Dovecot {
	t.Helper()
	if _, err := exec.LookPath("dovecot"); err != nil {
		peertest.Need(t, "dovecot", "make test, or apt-get install dovecot-imapd")
	}
	d := &Dovecot{child: child{t: t, name: "dovecot", logs: []string{"dovecot.log"}}}
	d.makeDir(nil)
	d.command = func() *exec.Cmd { return exec.Command("dovecot", "-F", "-c", filepath.Join(d.dir, "dovecot.conf")) }
	if err := d.configure(); err != nil {
		t.Fatalf("dovecot: %v", err)
	}
	d.Start()
	return d
}

// User adds a user and returns the mailbox; its Server is the plain port with STARTTLS.
// A name given again changes the password.
func (d *Dovecot) User(name, pass string) *DovecotUser {
	d.t.Helper()
	d.SetPassword(name, pass)
	u := &DovecotUser{d: d, driver: &driver{user: name, pass: pass, dial: d.dial}}
	d.t.Cleanup(u.driver.Disconnect)
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
	u.driver.Disconnect() // our own session may hold the folder
	dir := filepath.Join(u.d.dir, "mail", u.user, "Maildir")
	if folder != "INBOX" {
		dir = filepath.Join(dir, "."+strings.ReplaceAll(folder, "/", "."))
	}
	if err := bumpHeader(filepath.Join(dir, "dovecot-uidlist"), dovecotUIDs); err != nil {
		return err
	}
	indexes, err := filepath.Glob(filepath.Join(dir, "dovecot.index*"))
	for _, f := range indexes {
		err = errors.Join(err, os.Remove(f))
	}
	return err
}

var dovecotUIDs = regexp.MustCompile(`^3 V(\d+) `)

// bumpHeader adds one to the number that head's first group finds in a file: UIDVALIDITY
// in a maildir's list of UIDs. The file is replaced in one step and keeps its owner.
func bumpHeader(path string, head *regexp.Regexp) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reset uidvalidity: %w", err)
	}
	m := head.FindSubmatchIndex(b)
	if m == nil {
		return fmt.Errorf("reset uidvalidity: %s has no header", path)
	}
	old, err := strconv.ParseUint(string(b[m[2]:m[3]]), 10, 32)
	if err != nil {
		return fmt.Errorf("reset uidvalidity: %w", err)
	}
	fresh := append([]byte(nil), b[:m[2]]...)
	fresh = strconv.AppendUint(fresh, old+1, 10)
	fresh = append(fresh, b[m[3]:]...)
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("reset uidvalidity: %w", err)
	}
	if err := os.WriteFile(path+".new", fresh, info.Mode()); err != nil {
		return fmt.Errorf("reset uidvalidity: %w", err)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		_ = os.Chown(path+".new", int(st.Uid), int(st.Gid))
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("reset uidvalidity: %w", err)
	}
	return nil
}
