package imaptest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"os/user"
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

// configure writes certificate, users and configuration.
func (d *Dovecot) configure() error {
	uid, gid, name, group, err := mailUser()
	if err != nil {
		return err
	}
	if err := os.Chmod(d.dir, 0o755); err != nil {
		return err
	}
	for _, sub := range []string{"mail", "run", "state"} {
		path := filepath.Join(d.dir, sub)
		if err := os.Mkdir(path, 0o755); err != nil {
			return err
		}
		if sub == "mail" {
			if err := os.Chown(path, uid, gid); err != nil {
				return err
			}
		}
	}
	if d.ca, err = selfSigned(filepath.Join(d.dir, "cert.pem"), filepath.Join(d.dir, "key.pem")); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(d.dir, "users"), nil, 0o644); err != nil {
		return err
	}
	if d.port, err = freePort(); err != nil {
		return err
	}
	if d.tls, err = freePort(); err != nil {
		return err
	}
	conf := strings.NewReplacer("@DIR@", d.dir, "@PORT@", strconv.Itoa(d.port), "@TLS@", strconv.Itoa(d.tls),
		"@USER@", name, "@GROUP@", group, "@UID@", strconv.Itoa(uid), "@GID@", strconv.Itoa(gid)).Replace(dovecotConf)
	return os.WriteFile(filepath.Join(d.dir, "dovecot.conf"), []byte(conf), 0o644)
}

const dovecotConf = `
base_dir = @DIR@/run
state_dir = @DIR@/state
log_path = @DIR@/dovecot.log
protocols = imap
listen = 127.0.0.1
disable_plaintext_auth = no
ssl = yes
ssl_cert = <@DIR@/cert.pem
ssl_key = <@DIR@/key.pem
default_internal_user = @USER@
default_internal_group = @GROUP@
default_login_user = @USER@
mail_uid = @UID@
mail_gid = @GID@
first_valid_uid = 1
first_valid_gid = 1
mail_location = maildir:@DIR@/mail/%u/Maildir
mail_home = @DIR@/mail/%u
mail_max_userip_connections = 1000
auth_cache_size = 0
auth_failure_delay = 0
imap_idle_notify_interval = 2 mins
passdb {
  driver = passwd-file
  args = scheme=plain username_format=%u @DIR@/users
}
userdb {
  driver = static
  args = uid=@UID@ gid=@GID@ home=@DIR@/mail/%u
}
namespace inbox {
  inbox = yes
  separator = /
  mailbox Sent {
    auto = create
    special_use = \Sent
  }
  mailbox Drafts {
    auto = create
    special_use = \Drafts
  }
  mailbox Junk {
    auto = create
    special_use = \Junk
  }
  mailbox Trash {
    auto = create
    special_use = \Trash
  }
  mailbox Archive {
    auto = create
    special_use = \Archive
  }
}
service imap-login {
  chroot =
  process_limit = 1000
  client_limit = 2000
  service_count = 0
  inet_listener imap {
    port = @PORT@
  }
  inet_listener imaps {
    port = @TLS@
    ssl = yes
  }
}
service imap {
  process_limit = 2000
}
service anvil {
  chroot =
  client_limit = 5000
}
service stats {
  chroot =
}
service auth {
  client_limit = 5000
}
`

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

// mailUser is who Dovecot's processes run as: nobody when we are root, else we.
func mailUser() (uid, gid int, name, group string, err error) {
	if os.Getuid() != 0 {
		u, err := user.Current()
		if err != nil {
			return 0, 0, "", "", err
		}
		g, err := user.LookupGroupId(u.Gid)
		if err != nil {
			return 0, 0, "", "", err
		}
		return os.Getuid(), os.Getgid(), u.Username, g.Name, nil
	}
	u, err := user.Lookup("nobody")
	if err != nil {
		return 0, 0, "", "", err
	}
	g, err := user.LookupGroupId(u.Gid)
	if err != nil {
		return 0, 0, "", "", err
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	return uid, gid, "nobody", g.Name, errors.Join(err1, err2)
}

// freePort asks the kernel for one. Somebody else may take it before it is used, which
// would show as a server that does not start.
func freePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = ln.Close() }()
	return ln.Addr().(*net.TCPAddr).Port, nil
}

// selfSigned writes a certificate for 127.0.0.1 and localhost and returns its PEM. It
// is valid from the year 2000, so that it is in a bubble's time too.
func selfSigned(certFile, keyFile string) (string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "imaptest"},
		NotBefore: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return "", err
	}
	kder, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return "", err
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(certFile, cert, 0o644); err != nil {
		return "", err
	}
	return string(cert), os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: kder}), 0o600)
}
