package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/postrider/postrider/imapsync/imaptest"
)

// The demo's user, and the largest message that its SMTP server takes.
const (
	demoUser    = "jo@example.com"
	demoPass    = "demo"
	demoAccount = "demo"
	demoMaxMail = 1 << 20
)

// demoMail is one mailbox with an IMAP and an SMTP server in this process.
type demoMail struct {
	box  *imaptest.Memory
	imap *cuttable
	smtp *smtp.Server
	at   net.Addr // of the SMTP server
	wg   sync.WaitGroup

	sent int // messages delivered by deliver
}

func startDemoMail(ctx context.Context) (*demoMail, error) {
	box, err := imaptest.NewMemory(demoUser, demoPass)
	if err != nil {
		return nil, err
	}
	m := &demoMail{box: box}
	open := func() (net.Listener, error) { return new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0") }
	il, err := open()
	if err != nil {
		return nil, errors.Join(err, box.Close())
	}
	sl, err := open()
	if err != nil {
		return nil, errors.Join(err, il.Close(), box.Close())
	}
	m.imap, m.at = &cuttable{Listener: il, conns: map[net.Conn]bool{}}, sl.Addr()
	m.smtp = smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &inbound{box: box}, nil }))
	m.smtp.Domain = "localhost"
	m.smtp.AllowInsecureAuth = true // on the loopback, for a password that is printed anyway
	m.smtp.MaxMessageBytes = demoMaxMail
	m.smtp.ReadTimeout, m.smtp.WriteTimeout = time.Minute, time.Minute
	m.smtp.ErrorLog = log.New(io.Discard, "", 0)
	m.wg.Go(func() { _ = box.Serve(m.imap) }) // both end with their listeners, by close
	m.wg.Go(func() { _ = m.smtp.Serve(sl) })
	return m, nil
}

func (m *demoMail) close() error {
	err := errors.Join(m.smtp.Close(), m.imap.Close())
	m.imap.cut()
	err = errors.Join(err, m.box.Close())
	m.wg.Wait()
	return err
}

// imapPort is where a mail program reaches the mailbox, smtpPort where it submits.
func (m *demoMail) imapPort() int { return m.imap.Addr().(*net.TCPAddr).Port }
func (m *demoMail) smtpPort() int { return m.at.(*net.TCPAddr).Port }

// inbound delivers what comes by SMTP into the INBOX, from anybody.
type inbound struct{ box *imaptest.Memory }

func (s *inbound) AuthMechanisms() []string { return []string{sasl.Plain} }
func (s *inbound) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, pass string) error {
		if user != demoUser || pass != demoPass {
			return smtp.ErrAuthFailed
		}
		return nil
	}), nil
}

func (s *inbound) Reset()                               {}
func (s *inbound) Logout() error                        { return nil }
func (s *inbound) Mail(string, *smtp.MailOptions) error { return nil }
func (s *inbound) Rcpt(to string, _ *smtp.RcptOptions) error {
	if !strings.EqualFold(to, demoUser) {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "only " + demoUser + " lives here"}
	}
	return nil
}

func (s *inbound) Data(r io.Reader) error {
	raw, err := io.ReadAll(r) // bounded by MaxMessageBytes
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err = s.box.Append(ctx, "INBOX", raw, nil, time.Now())
	return err
}

// deliver sends a message by SMTP.
func (m *demoMail) deliver(context.Context) (string, error) {
	m.sent++
	subject := fmt.Sprintf("Hello %d", m.sent)
	raw := fmt.Sprintf("From: Ann <ann@example.net>\r\nTo: Jo <%s>\r\nSubject: %s\r\nMessage-ID: <demo-%d-%d@example.net>\r\n"+
		"Date: %s\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nGrüße!\r\n",
		demoUser, subject, m.sent, time.Now().UnixNano(), time.Now().Format(time.RFC1123Z))
	c, err := smtp.Dial(m.at.String())
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SendMail("ann@example.net", []string{demoUser}, bytes.NewReader([]byte(raw))); err != nil {
		return "", fmt.Errorf("smtp: %w", err)
	}
	return fmt.Sprintf("delivered %q by SMTP", subject), c.Quit()
}

// newest is the UID of the newest message of the INBOX.
func (m *demoMail) newest(ctx context.Context) (uint32, error) {
	folders, err := m.box.Truth(ctx)
	if err != nil {
		return 0, err
	}
	uids := slices.Collect(maps.Keys(folders["INBOX"].Messages))
	if len(uids) == 0 {
		return 0, errors.New("the INBOX is empty: deliver something first")
	}
	return slices.Max(uids), nil
}

func (m *demoMail) flag(ctx context.Context) (string, error) {
	uid, err := m.newest(ctx)
	if err != nil {
		return "", err
	}
	folders, err := m.box.Truth(ctx)
	if err != nil {
		return "", err
	}
	if slices.Contains(folders["INBOX"].Messages[uid], `\Flagged`) {
		return fmt.Sprintf("took the flag off UID %d", uid), m.box.RemoveFlags(ctx, "INBOX", []uint32{uid}, `\Flagged`)
	}
	return fmt.Sprintf("flagged UID %d", uid), m.box.AddFlags(ctx, "INBOX", []uint32{uid}, `\Flagged`)
}

func (m *demoMail) move(ctx context.Context) (string, error) {
	uid, err := m.newest(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("moved UID %d to Archive", uid), m.box.Move(ctx, "INBOX", "Archive", uid)
}

func (m *demoMail) remove(ctx context.Context) (string, error) {
	uid, err := m.newest(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("deleted UID %d", uid), m.box.Expunge(ctx, "INBOX", uid)
}

func (m *demoMail) kill(context.Context) (string, error) {
	return fmt.Sprintf("cut %d IMAP connections", m.imap.cut()), nil
}

// cuttable is a listener whose connections can be cut.
type cuttable struct {
	net.Listener
	mu    sync.Mutex
	conns map[net.Conn]bool
}

func (c *cuttable) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	cc := &cutConn{Conn: conn, of: c}
	c.mu.Lock()
	c.conns[cc] = true
	c.mu.Unlock()
	return cc, nil
}

// cut closes all connections and says how many there were.
func (c *cuttable) cut() int {
	c.mu.Lock()
	conns := c.conns
	c.conns = map[net.Conn]bool{}
	c.mu.Unlock()
	for conn := range conns {
		_ = conn.(*cutConn).Conn.Close()
	}
	return len(conns)
}

type cutConn struct {
	net.Conn
	of *cuttable
}

func (c *cutConn) Close() error {
	c.of.mu.Lock()
	delete(c.of.conns, c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}
