package imapsync

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"

	"github.com/postrider/postrider/imapsync/wire"
	"github.com/postrider/postrider/internal/tlsconf"
	"github.com/postrider/postrider/store"
)

// DialerOptions are what a Dialer is made of.
type DialerOptions struct {
	// Dial opens a TCP connection; it is the egress policy's. nil dials freely.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	AllowPlaintext   bool // servers without TLS may be used where the account says so
	AllowInsecureTLS bool // certificates may go unchecked where the account says so

	// Trace is where what is said on the connections of accounts that ask for it (Logs) is
	// written, at LevelTrace, with secrets, addresses and contents masked. nil: nowhere.
	Trace *slog.Logger

	Profiles *Profiles // what is known of providers; nil: what comes along

	ClientName    string // of our ID; "" sends "postrider"
	ClientVersion string // of our ID; "" sends none
}

// Dialer opens sessions. It MAY be used by many goroutines at once.
type Dialer struct {
	o DialerOptions

	mu  sync.Mutex
	tls map[tlsKey]*tls.Config
}

// tlsKey is what a tls.Config is made of.
type tlsKey struct {
	host, pins    string
	ca, name, min string
	insecure      bool
}

// maxTLSConfigs bounds how many are kept for sharing.
const maxTLSConfigs = 1000

// NewDialer returns a Dialer.
func NewDialer(o DialerOptions) *Dialer {
	if o.ClientName == "" {
		o.ClientName = "postrider"
	}
	if o.Profiles == nil {
		o.Profiles = builtin()
	}
	return &Dialer{o: o}
}

// LevelTrace is the level of the protocol trace, below debug.
const LevelTrace = slog.LevelDebug - 4

// DialAccount is Dial for the server of an account, which MUST have one.
func (d *Dialer) DialAccount(ctx context.Context, a store.Account) (Session, error) {
	return d.dial(ctx, *a.IMAP, d.trace(ctx, a))
}

// trace is where an account's protocol trace goes; nil where none is wanted.
func (d *Dialer) trace(ctx context.Context, a store.Account) wire.Trace {
	if log := d.o.Trace; log != nil && a.Logs {
		return func(from wire.Direction, line string) {
			log.Log(context.WithoutCancel(ctx), LevelTrace, "imap", "account", a.ID, "from", string(from), "line", line)
		}
	}
	return nil
}

// Dial connects to a server, secures the connection, logs in and introduces us. It
// ends by its own deadlines (10 s dial, 10 s TLS, 30 s greeting, 60 s login) or with
// ctx, whichever is first, and its error is an *Error. On error nothing stays open.
func (d *Dialer) Dial(ctx context.Context, s store.Server) (Session, error) {
	return d.dial(ctx, s, nil)
}

func (d *Dialer) dial(ctx context.Context, s store.Server, trace wire.Trace) (Session, error) {
	c, err := d.open(ctx, s, trace)
	if err != nil {
		return nil, err
	}
	return newClient(c, s, d.o.Profiles), nil
}

// open is Dial as far as the wire.
func (d *Dialer) open(ctx context.Context, s store.Server, trace wire.Trace) (*wire.Conn, error) {
	cfg, err := d.sharedTLS(s)
	if err != nil {
		return nil, err
	}
	o := wire.Options{
		Host: s.Host, Port: s.Port, TLS: cfg, Dial: d.o.Dial, Trace: trace,
		Auth: wire.Credentials{User: s.User, Pass: s.Pass.Reveal(), Token: s.AccessToken.Reveal()},
		Name: d.o.ClientName, Version: d.o.ClientVersion,
		NoQResync: d.o.Profiles.Match(s.Host, "", nil).NoQResync,
	}
	switch {
	case cfg == nil:
		o.Security = wire.Plaintext
	case !s.Secure:
		o.Security = wire.STARTTLS
	}
	c, err := wire.Dial(ctx, o)
	if err != nil {
		return nil, failure(err)
	}
	return c, nil
}

// sharedTLS is tlsConfig, the same one for all accounts of a server: each connection keeps
// its own, with the authorities that it trusts.
func (d *Dialer) sharedTLS(s store.Server) (*tls.Config, error) {
	if s.Plaintext && !s.Secure {
		return d.tlsConfig(s)
	}
	t := s.TLS
	key := tlsKey{s.Host, strings.Join(t.Pin, " "), t.CA, t.ServerName, t.MinVersion, t.InsecureSkipVerify}
	d.mu.Lock()
	defer d.mu.Unlock()
	if cfg := d.tls[key]; cfg != nil {
		return cfg, nil
	}
	cfg, err := d.tlsConfig(s)
	if err != nil {
		return nil, err
	}
	if d.tls == nil || len(d.tls) >= maxTLSConfigs {
		d.tls = map[tlsKey]*tls.Config{}
	}
	d.tls[key] = cfg
	return cfg, nil
}

// Codes of our own for what we refuse, beside those of servers.
const (
	codeHostMissing  = string(wire.CodeHostMissing)
	codePlaintext    = "PlaintextNotAllowed"
	codeInsecureTLS  = "InsecureTLSNotAllowed"
	codeNoMechanism  = string(wire.CodeNoMechanism)
	codeCredentials  = string(wire.CodeCredentials)
	codeTLSSettings  = string(wire.CodeTLSSettings)
	codeDisabled     = string(wire.CodeDisabled)
	codeNoSTARTTLS   = string(wire.CodeNoSTARTTLS)
	codeInjection    = string(wire.CodeInjection)
	codePreauthPlain = string(wire.CodePreauthPlain)
)

// tlsConfig judges the server's certificate as the account says; nil = no TLS at all.
func (d *Dialer) tlsConfig(s store.Server) (*tls.Config, error) {
	refuse := func(code, text string) error {
		return &Error{Kind: ErrConfig, Stage: StageTLS, Code: code, Text: text}
	}
	if s.Plaintext && !s.Secure {
		if !d.o.AllowPlaintext {
			return nil, refuse(codePlaintext, "plaintext connections are not allowed here")
		}
		return nil, nil
	}
	cfg, err := tlsconf.Client(s.Host, tlsconf.Settings(s.TLS), d.o.AllowInsecureTLS)
	if errors.Is(err, tlsconf.ErrInsecure) {
		return nil, refuse(codeInsecureTLS, err.Error())
	} else if err != nil {
		return nil, refuse(codeTLSSettings, err.Error())
	}
	return cfg, nil
}
