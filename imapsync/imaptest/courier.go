package imaptest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"

	"github.com/postrider/postrider/internal/peertest"
)

// Courier is a private Courier 5 (UIDPLUS and IDLE, nothing more; folders under
// "INBOX.") on a free port of the loopback, without TLS, with its mail in maildirs. Who
// its users are we tell it, as its authdaemond would.
type Courier struct {
	child
	*keeper
	root     string
	uid, gid int
}

// StartCourier starts one, or skips the test where it is not unpacked (fails it where
// POSTRIDER_TEST_REQUIRE=all).
func StartCourier(t TB) *Courier {
	t.Helper()
	c := &Courier{child: child{t: t, name: "courier", logs: []string{"out.log"}}, root: peers(t)}
	c.makeDir(func() {
		if c.keeper != nil {
			c.keeper.close()
		}
	})
	c.command = func() *exec.Cmd {
		cmd := peerCommand(c.root, c.dir, "/bin/sh", "-c", courierStart, c.root, strconv.Itoa(c.port), filepath.Base(c.dir))
		cmd.Env = append(append(cmd.Env, courierEnv...), "GAM_CLIENT_ID="+filepath.Base(c.dir))
		cmd.Dir = c.dir // where its side of authdaemonSocket is looked for
		if os.Getuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(c.uid), Gid: uint32(c.gid)}}
		}
		if out, err := os.OpenFile(filepath.Join(c.dir, "out.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644); err == nil {
			cmd.Stdout, cmd.Stderr = out, out
		}
		return cmd
	}
	if err := c.configure(); err != nil {
		t.Fatalf("courier: %v", err)
	}
	c.Start()
	return c
}

// courierStart is what runs: beside the server the monitor of files by which it hears of
// changes, under a name of its own.
const courierStart = `"$0"/usr/libexec/gam_server --notimeout "$2" &
exec "$0"/usr/sbin/couriertcpd -address=127.0.0.1 -maxprocs=200 -maxperip=200 -nodnslookup -noidentlookup \
	"$1" "$0"/usr/lib/courier/courier/imaplogin "$0"/usr/bin/imapd Maildir`

// courierEnv is what Debian's /etc/courier/imapd says, less the emptying of Trash; IDLE
// hears of changes instead of looking each minute.
var courierEnv = []string{
	"IMAP_CAPABILITY=IMAP4rev1 UIDPLUS CHILDREN NAMESPACE THREAD=ORDEREDSUBJECT THREAD=REFERENCES SORT QUOTA IDLE",
	"IMAP_KEYWORDS=1", "IMAP_ACL=1", "IMAP_IDLE_TIMEOUT=60", "IMAP_MAILBOX_SANITY_CHECK=1", "IMAP_USELOCKS=1", "IMAP_ENHANCEDIDLE=1",
	"IMAP_CHECK_ALL_FOLDERS=0", "IMAP_OBSOLETE_CLIENT=0", "IMAP_STARTTLS=NO", "IMAP_TRASHFOLDERNAME=Trash",
}

// The path of authdaemond's socket is built into Courier's library, which loads it as two
// halves of 16 bytes that share one, and cannot be configured. Ours is as long and begins
// where couriertcpd runs.
var authdaemonSocket = strings.NewReplacer(
	"/run/courier/aut", "./"+strings.Repeat("/", 14),
	"thdaemon/socket\x00", strings.Repeat("/", 9)+"socket\x00",
)

func (c *Courier) configure() error {
	var err error
	if c.uid, c.gid, _, _, err = mailUser(); err != nil {
		return err
	}
	const name = "libcourierauth.so.0"
	lib, err := os.ReadFile(filepath.Join(c.root, "usr/lib", name))
	if err != nil {
		return err
	}
	ours := []byte(authdaemonSocket.Replace(string(lib)))
	if len(ours) != len(lib) || !bytes.Contains(ours, []byte("//socket\x00")) || bytes.Contains(ours, []byte("/run/courier/aut")) {
		return errors.New(name + " has its socket's path in another form than in Debian 12 for amd64")
	}
	if err := os.WriteFile(filepath.Join(c.dir, name), ours, 0o644); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(c.dir, "mail"), 0o755); err != nil {
		return err
	}
	if c.port, err = peertest.FreePort(); err != nil {
		return err
	}
	if err := chownAll(c.dir, c.uid, c.gid); err != nil {
		return err
	}
	c.keeper, err = keep(filepath.Join(c.dir, "socket"), c.answer)
	return err
}

// answer speaks authdaemond's side: "AUTH n", then n bytes with service, "login", user
// and password, a line each; who it is, line by line up to a dot, or FAIL.
func (c *Courier) answer(k *keeper, conn net.Conn) {
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	br := bufio.NewReader(io.LimitReader(conn, 4096))
	for {
		line, err := br.ReadString('\n')
		if err != nil {
			return
		}
		length, ok := strings.CutPrefix(strings.TrimSpace(line), "AUTH ")
		if !ok {
			continue // where the client comes from
		}
		n, err := strconv.ParseUint(length, 10, 12)
		if err != nil {
			return
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(br, b); err != nil {
			return
		}
		f := strings.Split(string(b), "\n")
		if len(f) < 4 || f[1] != "login" || !k.knows(f[2], f[3]) {
			_, _ = io.WriteString(conn, "FAIL\n")
			return
		}
		home := c.home(f[2])
		_, _ = fmt.Fprintf(conn, "UID=%d\nGID=%d\nADDRESS=%s\nNAME=%s\nHOME=%s\nMAILDIR=%s/Maildir\n.\n", c.uid, c.gid, f[2], f[2], home, home)
		return
	}
}

func (c *Courier) home(user string) string { return filepath.Join(c.dir, "mail", user) }

// User adds a user with INBOX, Sent, Drafts, Junk, Trash and Archive and returns the mailbox.
func (c *Courier) User(name, pass string) *CourierUser {
	c.t.Helper()
	c.SetPassword(name, pass)
	maildir := filepath.Join(c.home(name), "Maildir")
	for _, folder := range []string{"", ".Sent", ".Drafts", ".Junk", ".Trash", ".Archive"} {
		for _, sub := range []string{"tmp", "new", "cur"} {
			if err := os.MkdirAll(filepath.Join(maildir, folder, sub), 0o700); err != nil {
				c.t.Fatalf("courier: %v", err)
			}
		}
		if folder != "" {
			if err := os.WriteFile(filepath.Join(maildir, folder, "maildirfolder"), nil, 0o600); err != nil {
				c.t.Fatalf("courier: %v", err)
			}
		}
	}
	if err := chownAll(c.home(name), c.uid, c.gid); err != nil {
		c.t.Fatalf("courier: %v", err)
	}
	u := &CourierUser{c: c, driver: &driver{user: name, pass: pass, dial: c.dial, native: courierName}}
	c.t.Cleanup(u.driver.Disconnect)
	// A folder that nobody has ever selected has no UIDVALIDITY of its own yet.
	if err := u.driver.do(context.Background(), "INBOX", func(*imapclient.Client) error { return nil }); err != nil {
		c.t.Fatalf("courier: %v", err)
	}
	u.Disconnect()
	return u
}

// CourierUser is a user's mailbox on a Courier. Its methods take and give the names that
// the other servers have; the server's own are those of Native.
type CourierUser struct {
	*driver
	c *Courier
}

var _ Mailbox = (*CourierUser)(nil)

// courierName is what Courier calls a folder: all others are children of INBOX.
func courierName(folder string) string {
	if strings.EqualFold(folder, "INBOX") {
		return folder
	}
	return "INBOX." + strings.ReplaceAll(folder, "/", ".")
}

// Server implements Mailbox.
func (u *CourierUser) Server() Server {
	return Server{Host: "127.0.0.1", Port: u.c.port, User: u.user, Pass: u.pass}
}

// Truth implements Mailbox.
func (u *CourierUser) Truth(ctx context.Context) (map[string]Folder, error) {
	all, err := u.driver.Truth(ctx)
	out := make(map[string]Folder, len(all))
	for name, f := range all {
		out[Common(u, name)] = f
	}
	return out, err
}

var courierUIDs = regexp.MustCompile(`^\d+ (\d+) \d+`)

// ResetUIDValidity implements Mailbox: the number in the head of the folder's UID list is
// changed, so that the messages keep their UIDs.
func (u *CourierUser) ResetUIDValidity(_ context.Context, folder string) error {
	u.driver.Disconnect() // our own session may hold the folder
	path := filepath.Join(u.c.home(u.user), "Maildir")
	if folder != "INBOX" {
		path = filepath.Join(path, "."+strings.ReplaceAll(folder, "/", "."))
	}
	err := bumpHeader(filepath.Join(path, "courierimapuiddb"), courierUIDs)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nobody has selected it yet: EXAMINE tells another one each second
	}
	return err
}

// Native is what a mailbox's server calls the folder that tests name with slashes.
func Native(m Mailbox, folder string) string {
	if u, ok := m.(*CourierUser); ok {
		return u.native(folder)
	}
	return folder
}

// Common is Native turned round.
func Common(m Mailbox, name string) string {
	if _, ok := m.(*CourierUser); ok {
		if rest, child := strings.CutPrefix(name, "INBOX."); child {
			return strings.ReplaceAll(rest, ".", "/")
		}
	}
	return name
}
