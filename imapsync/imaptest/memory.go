package imaptest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"
)

// Memory is an IMAP server in this process: IMAP4rev1 with IDLE, UIDPLUS, MOVE,
// ESEARCH, LIST-STATUS; no CONDSTORE, no ID, no TLS. It serves listeners and pipes, and
// one user, whose mailbox it is. It lives in a synctest bubble through Dial.
type Memory struct {
	*driver
	srv  *imapserver.Server
	pipe *pipeListener
	wg   sync.WaitGroup

	mu    sync.Mutex
	addr  *net.TCPAddr
	idles map[chan struct{}]struct{} // of sessions in IDLE, cap 1 each
}

var _ Mailbox = (*Memory)(nil)

// NewMemory returns a server with one user who has INBOX, Sent, Drafts, Trash, Junk and
// Archive. Close ends it.
func NewMemory(user, pass string) (*Memory, error) {
	u := imapmemserver.NewUser(user, pass)
	for _, name := range []string{"INBOX", "Sent", "Drafts", "Trash", "Junk", "Archive"} {
		if err := u.Create(name, nil); err != nil {
			return nil, fmt.Errorf("create %q: %w", name, err)
		}
	}
	caps := imap.CapSet{}
	for _, c := range []imap.Cap{
		imap.CapIMAP4rev1, imap.CapNamespace, imap.CapUIDPlus, imap.CapESearch, imap.CapListExtended,
		imap.CapListStatus, imap.CapMove, imap.CapStatusSize, imap.CapChildren, imap.CapSpecialUse, imap.CapLiteralPlus,
	} {
		caps[c] = struct{}{}
	}
	m := &Memory{pipe: newPipeListener(), idles: map[chan struct{}]struct{}{}}
	m.srv = imapserver.New(&imapserver.Options{
		NewSession: func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			return &memorySession{m: m, user: u}, nil, nil
		},
		Caps:         caps,
		InsecureAuth: true,
		Logger:       log.New(io.Discard, "", 0), // it logs every peer that hangs up
	})
	m.driver = &driver{user: user, pass: pass, dial: func(ctx context.Context) (net.Conn, error) { return m.Dial(ctx, "", "") }}
	m.wg.Go(func() { _ = m.srv.Serve(m.pipe) })
	return m, nil
}

// StartMemory is NewMemory for a test, on a free port of the loopback.
func StartMemory(t TB) *Memory {
	t.Helper()
	m, err := NewMemory("user@example.com", "secret")
	if err != nil {
		t.Fatalf("start memory server: %v", err)
	}
	t.Cleanup(func() { _ = m.Close() })
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("start memory server: %v", err)
	}
	m.wg.Go(func() { _ = m.Serve(ln) })
	return m
}

// Serve accepts connections until the listener or the server is closed.
func (m *Memory) Serve(ln net.Listener) error {
	if a, ok := ln.Addr().(*net.TCPAddr); ok {
		m.mu.Lock()
		m.addr = a
		m.mu.Unlock()
	}
	err := m.srv.Serve(ln)
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Dial connects by a pipe, whatever the address: a Dial for the engine in a bubble.
func (m *Memory) Dial(ctx context.Context, _, _ string) (net.Conn, error) { return m.pipe.dial(ctx) }

// Server implements Mailbox. Its port is 143 until Serve knows a real one.
func (m *Memory) Server() Server {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := Server{Host: "127.0.0.1", Port: 143, User: m.user, Pass: m.pass}
	if m.addr != nil {
		s.Host, s.Port = m.addr.IP.String(), m.addr.Port
	}
	return s
}

// ResetUIDValidity implements Mailbox: the folder is deleted and made anew with its
// messages, so their UIDs begin at 1.
func (m *Memory) ResetUIDValidity(ctx context.Context, folder string) error {
	return m.recreate(ctx, folder)
}

// Close ends the server and its connections, and waits for the listeners.
func (m *Memory) Close() error {
	m.driver.Disconnect()
	err := m.srv.Close()
	m.wg.Wait()
	return err
}

// changed tells sessions in IDLE to look at what is queued for them.
func (m *Memory) changed() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for ch := range m.idles {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// memorySession is a session of the memory server whose IDLE also tells what changed
// before it began; the server's own waits for the next change.
type memorySession struct {
	*imapmemserver.UserSession // nil before login
	m                          *Memory
	user                       *imapmemserver.User
}

var (
	_ imapserver.SessionIMAP4rev2 = (*memorySession)(nil)
	_ imapserver.SessionMove      = (*memorySession)(nil)
)

// Login implements imapserver.Session.
func (s *memorySession) Login(user, pass string) error {
	if err := s.user.Login(user, pass); err != nil {
		return err
	}
	s.UserSession = imapmemserver.NewUserSession(s.user)
	return nil
}

// Append implements imapserver.Session.
func (s *memorySession) Append(folder string, r imap.LiteralReader, o *imap.AppendOptions) (*imap.AppendData, error) {
	defer s.m.changed()
	return s.UserSession.Append(folder, r, o)
}

// Store implements imapserver.Session.
func (s *memorySession) Store(w *imapserver.FetchWriter, set imap.NumSet, f *imap.StoreFlags, o *imap.StoreOptions) error {
	defer s.m.changed()
	return s.UserSession.Store(w, set, f, o)
}

// Expunge implements imapserver.Session.
func (s *memorySession) Expunge(w *imapserver.ExpungeWriter, uids *imap.UIDSet) error {
	defer s.m.changed()
	return s.UserSession.Expunge(w, uids)
}

// Copy implements imapserver.Session.
func (s *memorySession) Copy(set imap.NumSet, to string) (*imap.CopyData, error) {
	defer s.m.changed()
	return s.UserSession.Copy(set, to)
}

// Move implements imapserver.SessionMove.
func (s *memorySession) Move(w *imapserver.MoveWriter, set imap.NumSet, to string) error {
	defer s.m.changed()
	return s.UserSession.Move(w, set, to)
}

// Idle implements imapserver.Session.
func (s *memorySession) Idle(w *imapserver.UpdateWriter, stop <-chan struct{}) error {
	ch := make(chan struct{}, 1)
	s.m.mu.Lock()
	s.m.idles[ch] = struct{}{}
	s.m.mu.Unlock()
	defer func() {
		s.m.mu.Lock()
		delete(s.m.idles, ch)
		s.m.mu.Unlock()
	}()
	for {
		if err := s.Poll(w, true); err != nil {
			return err
		}
		select {
		case <-ch:
		case <-stop:
			return nil
		}
	}
}

// pipeListener hands out the server's ends of pipes.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) dial(ctx context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case l.conns <- theirs:
		return ours, nil
	case <-l.done:
		return nil, &net.OpError{Op: "dial", Net: "pipe", Err: net.ErrClosed}
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Accept implements net.Listener.
func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr implements net.Listener.
func (l *pipeListener) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }

// Date is a fixed INTERNALDATE for appended messages; Dovecot takes none of the future.
var Date = time.Date(2024, 5, 6, 10, 0, 0, 0, time.UTC)
