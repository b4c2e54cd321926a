package imaptest

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"
)

// Fleet is the server of Memory with many users, on one port of the loopback: for
// tests of scale. It counts each user's sessions and can end them. Users are numbered
// from 0; methods MAY be called by many goroutines.
type Fleet struct {
	srv   *imapserver.Server
	addr  *net.TCPAddr
	ca    string
	users []*fleetUser
	names map[string]*fleetUser
}

// fleetUser is one user of a Fleet.
type fleetUser struct {
	name string
	user *imapmemserver.User
	bell *bell

	mu     sync.Mutex
	open   map[*fleetSession]struct{} // logged in
	most   int
	logins int
}

const fleetPass = "secret"

// StartFleet starts a server with n users; secure has it speak TLS. It ends with the test.
func StartFleet(t TB, n int, secure bool) *Fleet {
	t.Helper()
	f := &Fleet{names: map[string]*fleetUser{}}
	for i := range n {
		u := &fleetUser{name: fmt.Sprintf("user-%05d@example.com", i), bell: newBell(), open: map[*fleetSession]struct{}{}}
		var err error
		if u.user, err = newMemoryUser(u.name, fleetPass); err != nil {
			t.Fatalf("start fleet: %v", err)
		}
		f.users = append(f.users, u)
		f.names[u.name] = u
	}
	f.srv = newMemoryServer(func(c *imapserver.Conn) imapserver.Session {
		return &fleetSession{fleet: f, conn: c}
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("start fleet: %v", err)
	}
	f.addr = ln.Addr().(*net.TCPAddr)
	if secure {
		cfg, err := f.certificate(t.TempDir())
		if err != nil {
			t.Fatalf("start fleet: %v", err)
		}
		ln = tls.NewListener(ln, cfg)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = f.srv.Serve(ln) })
	t.Cleanup(func() {
		_ = f.srv.Close()
		wg.Wait()
	})
	return f
}

func (f *Fleet) certificate(dir string) (*tls.Config, error) {
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	var err error
	if f.ca, err = selfSigned(certFile, keyFile); err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}}, os.Remove(keyFile)
}

// Server is how to reach a user's mailbox.
func (f *Fleet) Server(n int) Server {
	return Server{Host: f.addr.IP.String(), Port: f.addr.Port, User: f.users[n].name, Pass: fleetPass, CA: f.ca}
}

// literal is a message to be appended.
type literal struct{ *bytes.Reader }

func (l literal) Size() int64 { return l.Reader.Size() }

// Append puts a message into a user's folder, as a delivery agent would, and returns its UID.
func (f *Fleet) Append(n int, folder string, raw []byte, date time.Time) (uint32, error) {
	u := f.users[n]
	data, err := u.user.Append(folder, literal{bytes.NewReader(raw)}, &imap.AppendOptions{Time: date})
	if err != nil {
		return 0, fmt.Errorf("append to %q of %s: %w", folder, u.name, err)
	}
	u.bell.ring()
	return uint32(data.UID), nil
}

// Sessions are how many sessions a user has, the most it had at once, and how often it
// logged in.
func (f *Fleet) Sessions(n int) (now, most, logins int) {
	u := f.users[n]
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.open), u.most, u.logins
}

// Open is how many sessions all users have.
func (f *Fleet) Open() int {
	sum := 0
	for i := range f.users {
		now, _, _ := f.Sessions(i)
		sum += now
	}
	return sum
}

// Cut closes a user's connections without a word, and says how many there were.
func (f *Fleet) Cut(n int) int {
	return f.users[n].each(func(c *imapserver.Conn) { _ = c.NetConn().Close() })
}

// Bye ends a user's connections with BYE and a text, and says how many there were.
func (f *Fleet) Bye(n int, text string) int {
	return f.users[n].each(func(c *imapserver.Conn) { _ = c.Bye(text) })
}

func (u *fleetUser) each(end func(*imapserver.Conn)) int {
	u.mu.Lock()
	var conns []*imapserver.Conn
	for s := range u.open {
		conns = append(conns, s.conn)
	}
	u.mu.Unlock()
	for _, c := range conns {
		end(c)
	}
	return len(conns)
}

// fleetSession is a session whose user is known from its login on.
type fleetSession struct {
	memorySession
	fleet *Fleet
	conn  *imapserver.Conn
	of    *fleetUser
}

var (
	_ imapserver.SessionIMAP4rev2 = (*fleetSession)(nil)
	_ imapserver.SessionMove      = (*fleetSession)(nil)
)

// Login implements imapserver.Session.
func (s *fleetSession) Login(user, pass string) error {
	u := s.fleet.names[user]
	if u == nil {
		return imapserver.ErrAuthFailed
	}
	s.user, s.bell = u.user, u.bell
	if err := s.memorySession.Login(user, pass); err != nil {
		return err
	}
	s.of = u
	u.mu.Lock()
	defer u.mu.Unlock()
	u.open[s] = struct{}{}
	u.most = max(u.most, len(u.open))
	u.logins++
	return nil
}

// Close implements imapserver.Session.
func (s *fleetSession) Close() error {
	if s.of == nil {
		return nil
	}
	s.of.mu.Lock()
	delete(s.of.open, s)
	s.of.mu.Unlock()
	return s.memorySession.Close()
}
