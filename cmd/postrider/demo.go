package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/postrider/postrider/dispatch/hooktest"
	"github.com/postrider/postrider/events"
)

// demo is a daemon that keeps nothing, with a mailbox and a webhook receiver beside it.
type demo struct {
	d    *daemon
	mail *demoMail
	hook *hooktest.Receiver // nil: the webhooks go to hookURL
	to   string             // where webhooks go
	out  io.Writer

	client *apiClient
	sent   int // messages submitted by send

	mu     sync.Mutex
	seen   []events.Type
	change chan struct{} // closed and replaced with every event
}

func runDemo(ctx context.Context, p *program, fs *flag.FlagSet) error {
	hook := fs.String("hook", "", "send the webhooks to this `URL` instead of a receiver in this process")
	listen := fs.String("listen", "", "`address` of the API (127.0.0.1:3000, or a free port where that is taken)")
	if err := parse(fs, p.args, 0); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()

	// On a terminal keys act at once; then line ends are ours to write.
	keys, restore := rawKeys(p.stdin, p.stdout)
	defer restore()
	if keys != nil {
		p.stdout, p.stderr = crlf{p.stdout}, crlf{p.stderr}
	}
	m := &demo{out: &lockedWriter{w: p.stdout}, change: make(chan struct{}), to: *hook}
	var err error
	if m.mail, err = startDemoMail(ctx); err != nil {
		return err
	}
	defer func() { _ = m.mail.close() }()
	if m.to == "" {
		if m.hook, err = hooktest.New(); err != nil {
			return err
		}
		defer m.hook.Close()
		m.to = m.hook.URL
		m.hook.OnRequest(func(r hooktest.Request) { m.arrived(r.Event) })
	}
	cfg, err := demoConfig(*listen)
	if err != nil {
		return err
	}
	m.d, err = newDaemon(ctx, cfg, nil, p, newLogger(p.stderr, cfg.Log.Level, cfg.Log.Format))
	if err != nil {
		return err
	}
	play, cancel := context.WithCancel(ctx)
	defer cancel()
	var played error
	var wg sync.WaitGroup
	err = m.d.until(play, stop, func() error {
		wg.Go(func() {
			defer cancel() // the show's end is the daemon's
			played = m.show(play, keys)
		})
		return nil
	})
	wg.Wait()
	if err = errors.Join(err, played); errors.Is(err, context.Canceled) && ctx.Err() != nil && keys == nil {
		return context.Canceled
	} else if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// demoConfig allows what only a demo may: mail servers without TLS, on this host.
func demoConfig(listen string) (*loaded, error) {
	l := &loaded{Config: defaultConfig(), sources: map[string]string{}}
	l.Log.Level, l.Log.Format = "warn", "text"
	l.Mail.AllowPlaintext = true
	l.Sync.ProbeInterval = 5 * time.Second // somebody is watching
	if listen != "" {
		l.API.Listen = listen
	} else if ln, err := net.Listen("tcp", l.API.Listen); err != nil {
		l.API.Listen = "127.0.0.1:0"
	} else if err := ln.Close(); err != nil {
		return nil, err
	}
	for _, pr := range l.problems() {
		return nil, usageError{fmt.Errorf("%s: %w", pr.key, pr.err)}
	}
	return l, errors.Join(l.unsafeProblems(true)...)
}

// show registers the account, plays, and obeys keys.
func (m *demo) show(ctx context.Context, keys io.Reader) error {
	c := &apiClient{url: m.d.url(), token: m.d.token, http: newHTTPClient()}
	m.client = c
	defer c.http.CloseIdleConnections()
	var tailing sync.WaitGroup
	defer tailing.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if m.hook == nil {
		t := &tail{p: &program{stdout: io.Discard, stderr: io.Discard}, client: c, cursor: "begin", watch: m.arrived}
		tailing.Go(func() { _ = t.run(ctx) }) // it ends with ctx
	}
	m.intro()
	if err := c.call(ctx, "POST", "/v1/settings", map[string]any{"webhooks": m.to}, nil); err != nil {
		return err
	}
	err := c.call(ctx, "POST", "/v1/account", map[string]any{
		"account": demoAccount, "name": "Jo", "email": demoUser,
		"imap": map[string]any{
			"host": "127.0.0.1", "port": m.mail.imapPort(), "secure": false, "plaintext": true,
			"auth": map[string]any{"user": demoUser, "pass": demoPass},
		},
		"smtp": map[string]any{
			"host": "127.0.0.1", "port": m.mail.smtpPort(), "secure": false, "plaintext": true,
			"auth": map[string]any{"user": demoUser, "pass": demoPass},
		},
	}, nil)
	if err != nil {
		return err
	}
	if err := m.await(ctx, 0, events.AccountInitializedType); err != nil {
		return err
	}
	for _, key := range []byte(demoPlay) {
		if keys != nil && key == 'k' {
			break // the show is about mail; the rest is there for the asking
		}
		if err := m.act(ctx, m.acts()[strings.IndexByte(demoKeys, key)]); err != nil {
			return err
		}
	}
	if keys == nil {
		return nil
	}
	m.next()
	return m.obey(ctx, keys)
}

// act is something that can be done to the mailbox, and the events that tell of it.
type act struct {
	key   byte
	name  string
	do    func(context.Context) (string, error)
	wants []events.Type
}

// The keys of acts, in their order, and what is played before anybody asks: after the
// connection was cut the last delivery shows that the watch goes on.
const (
	demoKeys = "dfmxsk"
	demoPlay = "dfmdxskd"
)

func (m *demo) acts() []act {
	return []act{
		{'d', "deliver", m.mail.deliver, []events.Type{events.MessageNewType}},
		{'f', "flag", m.mail.flag, []events.Type{events.MessageUpdatedType}},
		{'m', "move", m.mail.move, []events.Type{events.MessageDeletedType, events.MessageNewType}},
		{'x', "delete", m.mail.remove, []events.Type{events.MessageDeletedType}},
		{'s', "send", m.send, []events.Type{events.MessageQueuedType, events.MessageSentType, events.MessageNewType, events.MessageNewType}}, // and its copy in Sent
		{'k', "kill connection", m.mail.kill, nil},
	}
}

// act does it and waits for what must be heard of it.
func (m *demo) act(ctx context.Context, a act) error {
	m.mu.Lock()
	before := len(m.seen)
	m.mu.Unlock()
	doing, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	said, err := a.do(doing)
	if err != nil {
		return fmt.Errorf("%s: %w", a.name, err)
	}
	fmt.Fprintf(m.out, "  > %s\n", said)
	return m.await(ctx, before, a.wants...)
}

// send submits a message to the demo's own user, over the API as any application would.
func (m *demo) send(ctx context.Context) (string, error) {
	m.sent++
	subject := fmt.Sprintf("Note to myself %d", m.sent)
	err := m.client.call(ctx, "POST", "/v1/account/"+demoAccount+"/submit", map[string]any{
		"to": map[string]any{"name": "Jo", "address": demoUser}, "subject": subject, "text": "Grüße!\n",
	}, nil)
	return fmt.Sprintf("submitted %q", subject), err
}

// arrived prints an event.
func (m *demo) arrived(e events.Event) {
	fmt.Fprintln(m.out, eventLine(e, 0))
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen = append(m.seen, e.Type)
	close(m.change)
	m.change = make(chan struct{})
}

// demoPatience is how long an event may take; the slowest way is a look at all folders.
const demoPatience = 30 * time.Second

// await waits until all of types have been seen after the first `after` events.
func (m *demo) await(ctx context.Context, after int, types ...events.Type) error {
	ctx, cancel := context.WithTimeout(ctx, demoPatience)
	defer cancel()
	for {
		m.mu.Lock()
		missing := map[events.Type]int{}
		for _, t := range types {
			missing[t]++
		}
		for _, t := range m.seen[after:] {
			if missing[t]--; missing[t] <= 0 {
				delete(missing, t)
			}
		}
		change := m.change
		m.mu.Unlock()
		if len(missing) == 0 {
			return nil
		}
		select {
		case <-change:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("no %v within %s", types, demoPatience)
			}
			return context.Cause(ctx)
		}
	}
}

func (m *demo) intro() {
	fmt.Fprintf(m.out, `postrider %s demo: NOTHING IS KEPT
mail     IMAP 127.0.0.1:%d, SMTP %s, user %s, password %s
webhooks %s, signed with %s
api      %s   docs: /docs   queues: %s/ (sign in with the token)
token    %s

`, version, m.mail.imapPort(), m.mail.at, demoUser, demoPass, m.to, m.d.hookKey, m.d.url(), monitorRoot, m.d.token)
}

func (m *demo) next() {
	fmt.Fprintf(m.out, `
try next, in another terminal:
  export POSTRIDER_URL=%s POSTRIDER_TOKEN=%s
  postrider tail --since begin
  curl -s -H "Authorization: Bearer $POSTRIDER_TOKEN" $POSTRIDER_URL/v1/account/%s
  curl -s -H "Authorization: Bearer $POSTRIDER_TOKEN" $POSTRIDER_URL/v1/account/%s/mailboxes
  echo Hello | postrider send --account %s --to %s --subject Hi
  curl -s smtp://%s --mail-from you@example.net --mail-rcpt %s -T message.eml
  %s%s/   (the queues, in a browser)

keys: d deliver, f flag, m move, x delete, s send, k kill connection, q quit
`, m.d.url(), m.d.token, demoAccount, demoAccount, demoAccount, demoUser, m.mail.at, demoUser, m.d.url(), monitorRoot)
}

// obey does what keys say until q, Ctrl-C, or the end of ctx.
func (m *demo) obey(ctx context.Context, keys io.Reader) error {
	pressed := make(chan byte)
	go func() { // a read from a terminal cannot be cancelled: it ends with the process
		var b [1]byte
		for {
			if _, err := keys.Read(b[:]); err != nil {
				b[0] = 'q'
			}
			select {
			case pressed <- b[0]:
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case k := <-pressed:
			if k == 'q' || k == 3 || k == 4 { // Ctrl-C and Ctrl-D are keys too
				return nil
			}
			for _, a := range m.acts() {
				if a.key != k {
					continue
				}
				a.wants = nil // the person sees what comes
				if err := m.act(ctx, a); err != nil {
					fmt.Fprintf(m.out, "  ! %v\n", err)
				}
			}
		}
	}
}

// rawKeys switches a terminal to single keys; nil where it is none.
func rawKeys(in io.Reader, out io.Writer) (keys io.Reader, restore func()) {
	if !isTerminal(in) || !isTerminal(out) {
		return nil, func() {}
	}
	f := in.(*os.File)
	old, err := term.MakeRaw(int(f.Fd()))
	if err != nil {
		return nil, func() {}
	}
	return f, func() { _ = term.Restore(int(f.Fd()), old) }
}

// crlf writes line ends as a raw terminal needs them.
type crlf struct{ w io.Writer }

func (c crlf) Write(b []byte) (int, error) {
	if _, err := c.w.Write(bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n"))); err != nil {
		return 0, err
	}
	return len(b), nil
}

// lockedWriter keeps lines of several goroutines apart.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}
