package smtptest

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"hash"
	"io"
	"log"
	"net"
	"sync"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// SinkOptions are what a Sink is like. The zero value takes everything from everybody,
// without TLS.
type SinkOptions struct {
	Certificate *Certificate      // STARTTLS is offered, and required before AUTH
	Implicit    bool              // TLS from the first byte instead
	Users       map[string]string // name → password; nil: nobody logs in
	MaxSize     int64             // 0 = no limit
	Discard     bool              // keep sizes and sums, not bodies

	// Rcpt and Dot answer RCPT and the dot; nil, and a nil error, take it. An
	// *smtp.SMTPError is the reply. They MAY wait.
	Rcpt func(to string) error
	Dot  func(Message) error
}

// Sink is a submission server that keeps what it is given. Close ends it.
type Sink struct {
	*mailbox
	o    SinkOptions
	srv  *smtp.Server
	wg   sync.WaitGroup
	addr *net.TCPAddr
}

// NewSink makes one that serves nobody yet.
func NewSink(o SinkOptions) *Sink {
	s := &Sink{mailbox: newMailbox(), o: o}
	s.srv = smtp.NewServer(s)
	s.srv.Domain = "sink.postrider.test"
	s.srv.MaxMessageBytes = o.MaxSize
	s.srv.AllowInsecureAuth = o.Certificate == nil
	s.srv.EnableSMTPUTF8, s.srv.EnableDSN, s.srv.EnableREQUIRETLS = true, true, true
	s.srv.ErrorLog = log.New(io.Discard, "", 0) // it logs every peer that hangs up
	if o.Certificate != nil && !o.Implicit {
		s.srv.TLSConfig = o.Certificate.Config
	}
	return s
}

// StartSink is NewSink for a test, on a free port of the loopback.
func StartSink(t TB, o SinkOptions) *Sink {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("start sink: %v", err)
	}
	s := NewSink(o)
	s.Serve(ln)
	t.Cleanup(s.Close)
	return s
}

// Serve accepts connections until Close, in a goroutine of its own. It is called once.
func (s *Sink) Serve(ln net.Listener) {
	s.addr, _ = ln.Addr().(*net.TCPAddr)
	ln = &countedListener{ln, s.mailbox}
	if s.o.Implicit {
		ln = tls.NewListener(ln, s.o.Certificate.Config)
	}
	s.wg.Go(func() { _ = s.srv.Serve(ln) })
}

// Addr is host and port, once it serves a socket.
func (s *Sink) Addr() (host string, port int) { return hostPort(s.addr) }

func hostPort(a *net.TCPAddr) (string, int) {
	if a == nil {
		return "smtp.test", 587 // a network of pipes
	}
	return a.IP.String(), a.Port
}

// Close ends it with its connections; their goroutines end soon after. It MAY be called
// more than once.
func (s *Sink) Close() {
	_ = s.srv.Close()
	s.wg.Wait()
}

// NewSession implements smtp.Backend.
func (s *Sink) NewSession(c *smtp.Conn) (smtp.Session, error) {
	return &sinkSession{s: s, conn: c, authed: s.o.Users == nil}, nil
}

// sinkSession is one connection.
type sinkSession struct {
	s      *Sink
	conn   *smtp.Conn
	user   string
	authed bool
	inside bool // a transaction
	msg    Message
}

// AuthMechanisms implements smtp.AuthSession.
func (c *sinkSession) AuthMechanisms() []string {
	if c.s.o.Users == nil {
		return nil
	}
	return []string{"PLAIN", "LOGIN"}
}

// Auth implements smtp.AuthSession.
func (c *sinkSession) Auth(mech string) (sasl.Server, error) {
	check := func(user, pass string) error {
		if want, ok := c.s.o.Users[user]; !ok || want != pass {
			return smtp.ErrAuthFailed
		}
		c.user, c.authed = user, true
		return nil
	}
	if mech == "LOGIN" {
		return &loginServer{check: check}, nil
	}
	return sasl.NewPlainServer(func(_, user, pass string) error { return check(user, pass) }), nil
}

// loginServer is the LOGIN mechanism's other side, which go-sasl lacks.
type loginServer struct {
	said  []string
	check func(user, pass string) error
}

// Next implements sasl.Server.
func (l *loginServer) Next(response []byte) (challenge []byte, done bool, err error) {
	if response != nil {
		l.said = append(l.said, string(response))
	}
	switch len(l.said) {
	case 0:
		return []byte("Username:"), false, nil
	case 1:
		return []byte("Password:"), false, nil
	}
	return nil, true, l.check(l.said[0], l.said[1])
}

// Mail implements smtp.Session.
func (c *sinkSession) Mail(from string, _ *smtp.MailOptions) error {
	if !c.authed {
		return smtp.ErrAuthRequired
	}
	_, secure := c.conn.TLSConnectionState()
	c.msg = Message{User: c.user, TLS: secure, From: from}
	c.begin(true)
	return nil
}

// Rcpt implements smtp.Session.
func (c *sinkSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	if c.s.o.Rcpt != nil {
		if err := c.s.o.Rcpt(to); err != nil {
			return err
		}
	}
	c.msg.To = append(c.msg.To, to)
	return nil
}

// Data implements smtp.Session.
func (c *sinkSession) Data(r io.Reader) error {
	m := c.msg
	sum := sha256.New()
	var body bytes.Buffer
	w := io.Writer(sum)
	if !c.s.o.Discard {
		w = io.MultiWriter(sum, &body)
	}
	n, err := io.Copy(w, r)
	if err != nil {
		return err
	}
	m.finish(n, sum, body.Bytes())
	if c.s.o.Dot != nil {
		err = c.s.o.Dot(m)
	}
	m.Refused = err != nil
	c.s.add(m)
	return err
}

func (m *Message) finish(n int64, sum hash.Hash, body []byte) {
	m.Size, m.Body = n, body
	sum.Sum(m.Sum[:0])
}

// begin counts the transaction.
func (c *sinkSession) begin(inside bool) {
	if c.inside != inside {
		c.inside = inside
		c.s.transaction(map[bool]int{true: 1, false: -1}[inside])
	}
}

// Reset implements smtp.Session.
func (c *sinkSession) Reset() { c.begin(false) }

// Logout implements smtp.Session.
func (c *sinkSession) Logout() error {
	c.begin(false)
	return nil
}

// countedListener counts connections.
type countedListener struct {
	net.Listener
	box *mailbox
}

func (l *countedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.box.opened()
	return &countedConn{Conn: c, box: l.box}, nil
}

type countedConn struct {
	net.Conn
	box  *mailbox
	once sync.Once
}

func (c *countedConn) Close() error {
	c.once.Do(c.box.closed)
	return c.Conn.Close()
}
