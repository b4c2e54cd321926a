package imaptest

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"

	"github.com/postrider/postrider/internal/peertest"
)

// Cyrus is a private Cyrus 3.6 (CONDSTORE, QRESYNC, OBJECTID; no NOTIFY) with its idled
// on a free port of the loopback. Its users get INBOX, Sent, Drafts, Junk, Trash and
// Archive at their first login; who they are we tell it, as a saslauthd would.
type Cyrus struct {
	child
	*keeper
	root string
	ca   string
}

// StartCyrus starts one, or skips the test where it is not unpacked (fails it where
// POSTRIDER_TEST_REQUIRE=all).
func StartCyrus(t TB) *Cyrus {
	t.Helper()
	c := &Cyrus{child: child{t: t, name: "cyrus", logs: []string{"out.log"}}, root: peers(t)}
	c.makeDir(func() {
		if c.keeper != nil {
			c.keeper.close()
		}
	})
	c.command = func() *exec.Cmd {
		cmd := peerCommand(c.root, "", filepath.Join(c.root, "usr/lib/cyrus/bin/master"), "-C", filepath.Join(c.dir, "imapd.conf"),
			"-M", filepath.Join(c.dir, "cyrus.conf"), "-p", filepath.Join(c.dir, "run", "pid"), "-D")
		if out, err := os.OpenFile(filepath.Join(c.dir, "out.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644); err == nil {
			cmd.Stdout, cmd.Stderr = out, out
		}
		return cmd
	}
	if err := c.configure(); err != nil {
		t.Fatalf("cyrus: %v", err)
	}
	c.Start()
	return c
}

func (c *Cyrus) configure() error {
	uid, gid, name, group, err := mailUser()
	if err != nil {
		return err
	}
	for _, sub := range []string{"run", "run/db", "run/lock", "run/log", "run/proc", "run/socket", "mail"} {
		if err := os.Mkdir(filepath.Join(c.dir, sub), 0o755); err != nil {
			return err
		}
	}
	if c.ca, err = selfSigned(filepath.Join(c.dir, "cert.pem"), filepath.Join(c.dir, "key.pem")); err != nil {
		return err
	}
	if c.port, err = peertest.FreePort(); err != nil {
		return err
	}
	r := strings.NewReplacer("@DIR@", c.dir, "@PORT@", strconv.Itoa(c.port), "@USER@", name, "@GROUP@", group, "@BIN@", filepath.Join(c.root, "usr/lib/cyrus/bin"))
	for file, text := range map[string]string{"imapd.conf": cyrusImapdConf, "cyrus.conf": cyrusConf} {
		if err := os.WriteFile(filepath.Join(c.dir, file), []byte(r.Replace(text)), 0o644); err != nil {
			return err
		}
	}
	if err := chownAll(c.dir, uid, gid); err != nil {
		return err
	}
	c.keeper, err = keep(filepath.Join(c.dir, "sasl"), answerSASL)
	return err
}

// chownAll gives a tree to the user a server runs as.
func chownAll(dir string, uid, gid int) error {
	return filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, gid)
	})
}

const cyrusImapdConf = `
configdirectory: @DIR@/run
partition-default: @DIR@/mail
cyrus_user: @USER@
cyrus_group: @GROUP@
unixhierarchysep: yes
altnamespace: yes
sasl_mech_list: PLAIN
sasl_pwcheck_method: saslauthd
sasl_saslauthd_path: @DIR@/sasl
allowplaintext: yes
tls_server_cert: @DIR@/cert.pem
tls_server_key: @DIR@/key.pem
imapidlepoll: 1
munge8bit: no
autocreate_quota: 0
autocreate_inbox_folders: Sent|Drafts|Junk|Trash|Archive
xlist-sent: Sent
xlist-drafts: Drafts
xlist-junk: Junk
xlist-trash: Trash
xlist-archive: Archive
delete_mode: immediate
syslog_prefix: pdc
`

const cyrusConf = `
START {
  recover cmd="@BIN@/ctl_cyrusdb -C @DIR@/imapd.conf -r"
}
SERVICES {
  imap cmd="@BIN@/imapd -C @DIR@/imapd.conf -U 30" listen="127.0.0.1:@PORT@" maxchild=200
}
EVENTS {
}
DAEMON {
  idled cmd="@BIN@/idled -C @DIR@/imapd.conf -d"
}
`

// answerSASL speaks saslauthd's side: four strings (user, password, service, realm),
// each behind its length in two bytes, and one such string as the answer.
func answerSASL(k *keeper, c net.Conn) {
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	var said [4]string
	for i := range said {
		var n uint16
		if err := binary.Read(c, binary.BigEndian, &n); err != nil {
			return
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(c, b); err != nil {
			return
		}
		said[i] = string(b)
	}
	verdict := "NO"
	if k.knows(said[0], said[1]) {
		verdict = "OK"
	}
	_, _ = c.Write(append([]byte{0, byte(len(verdict))}, verdict...))
}

// User adds a user and returns the mailbox.
func (c *Cyrus) User(name, pass string) *CyrusUser {
	c.t.Helper()
	c.SetPassword(name, pass)
	u := &CyrusUser{c: c, driver: &driver{user: name, pass: pass, dial: c.dial}}
	c.t.Cleanup(u.driver.Disconnect)
	return u
}

// dial connects to its port.
func (c *child) dial(ctx context.Context) (net.Conn, error) {
	var nd net.Dialer
	return nd.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port)))
}

// Forget has the server clean away expunged messages, and with them what it knows of
// when they went: a VANISHED about earlier times then names every UID that is not there.
func (c *Cyrus) Forget() error {
	uid, gid, _, _, err := mailUser()
	if err != nil {
		return err
	}
	cmd := peerCommand(c.root, "", filepath.Join(c.root, "usr/lib/cyrus/bin/cyr_expire"), "-C", filepath.Join(c.dir, "imapd.conf"), "-E", "0", "-X", "0")
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cyr_expire: %w: %s", err, out)
	}
	return nil
}

// CyrusUser is a user's mailbox on a Cyrus.
type CyrusUser struct {
	*driver
	c *Cyrus
}

var _ Mailbox = (*CyrusUser)(nil)

// Server implements Mailbox: STARTTLS is offered, and plaintext taken.
func (u *CyrusUser) Server() Server {
	return Server{Host: "127.0.0.1", Port: u.c.port, User: u.user, Pass: u.pass, CA: u.c.ca}
}

// Where Cyrus 3.6 keeps UIDVALIDITY in the header of a folder's index, and the checksum
// of the header: big-endian numbers.
const (
	cyrusValidity = 0x2c
	cyrusSum      = 0x9c
)

// ResetUIDValidity implements Mailbox: the number in the header of the folder's index is
// changed, so that the messages keep their UIDs and the folder its MAILBOXID.
func (u *CyrusUser) ResetUIDValidity(ctx context.Context, folder string) error {
	doing := fmt.Sprintf("reset uidvalidity of %q", folder)
	id, err := u.mailboxID(ctx, folder)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	u.driver.Disconnect() // our own session may hold the folder
	f, err := os.OpenFile(filepath.Join(u.c.dir, "mail", "uuid", id[:1], id[1:2], id, "cyrus.index"), os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	defer func() { _ = f.Close() }()
	var head [cyrusSum + 4]byte
	if _, err := io.ReadFull(f, head[:]); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if binary.BigEndian.Uint32(head[cyrusSum:]) != crc32.ChecksumIEEE(head[:cyrusSum]) {
		return fmt.Errorf("%s: the index has another format", doing)
	}
	binary.BigEndian.PutUint32(head[cyrusValidity:], binary.BigEndian.Uint32(head[cyrusValidity:])+1000)
	binary.BigEndian.PutUint32(head[cyrusSum:], crc32.ChecksumIEEE(head[:cyrusSum]))
	if _, err := f.WriteAt(head[:], 0); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	// STATUS goes on saying the old one until the folder was opened.
	return u.do(ctx, folder, func(*imapclient.Client) error { return nil })
}

// mailboxID is a folder's, which is where its index lies.
func (u *CyrusUser) mailboxID(ctx context.Context, folder string) (string, error) {
	conn, err := u.dial(ctx)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	t, err := login(conn, u.user, u.pass)
	if err != nil {
		return "", err
	}
	lines, err := t.do("EXAMINE " + quoted(folder))
	if err != nil {
		return "", err
	}
	for _, l := range lines {
		if id, ok := strings.CutPrefix(l, "* OK [MAILBOXID ("); ok {
			id, _, _ = strings.Cut(id, ")")
			if len(id) > 2 {
				return id, nil
			}
		}
	}
	return "", fmt.Errorf("no MAILBOXID in %q", lines)
}
