package wire

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"strconv"
	"strings"
	"time"
	"unique"

	"github.com/emersion/go-imap/v2"
)

// Security is how a connection is protected.
type Security uint8

// The ways.
const (
	ImplicitTLS Security = iota
	STARTTLS
	Plaintext
)

// Options are what a connection is made of.
type Options struct {
	Host     string
	Port     int
	Security Security
	// TLS judges the server's certificate; nil = the system's authorities. ServerName is
	// Host where it is empty, MinVersion TLS 1.2 where it is less; one that has both is
	// shared by its connections instead of copied, and MUST NOT be changed.
	TLS *tls.Config
	// Dial opens a TCP connection; nil dials freely.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	Auth Credentials

	Name, Version string // of our ID; Name "" sends "postrider"

	Trace     Trace // nil = none
	TraceFull bool  // subjects and addresses too
	Limits    *Limits

	// NoEnable leaves CONDSTORE and QRESYNC off; NoQResync leaves QRESYNC off.
	NoEnable, NoQResync bool
}

// Dial connects, secures the connection, logs in, and introduces us: greeting,
// CAPABILITY, STARTTLS, login, CAPABILITY, ID, ENABLE, NAMESPACE. It ends by its own
// deadlines or with ctx; its error is an *Error. On error nothing stays open.
func Dial(ctx context.Context, o Options) (*Conn, error) {
	lim := o.Limits
	if lim == nil {
		lim = &defaultLimits
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	raw, err := dialTCP(ctx, &o, lim)
	if err != nil {
		return nil, err
	}
	c := newConn(raw, lim)
	c.secrets = [...]string{o.Auth.Pass, o.Auth.Token}
	if o.Trace != nil {
		c.trace = &tracer{out: o.Trace, full: o.TraceFull, hide: c.redactor()}
	}
	undo := c.guard(ctx)
	err = c.start(ctx, &o)
	if !undo() && err == nil {
		err = &Error{Kind: Closed, Stage: StageLogin, Err: context.Cause(ctx)}
	}
	if err != nil {
		c.Close()
		if cause := context.Cause(ctx); cause != nil {
			return nil, &Error{Kind: Closed, Stage: c.stage, Err: cause}
		}
		return nil, err
	}
	c.stage, c.endBy = StageCommand, time.Time{}
	c.changes = Changes{Alert: c.changes.Alert}
	return c, nil
}

func dialTCP(ctx context.Context, o *Options, lim *Limits) (net.Conn, error) {
	if o.Host == "" || o.Port < 1 || o.Port > 65535 {
		return nil, &Error{Kind: Refused, Stage: StageDial, Code: CodeHostMissing, Text: "host or port is missing"}
	}
	tctx, cancel := context.WithTimeout(ctx, lim.Dial)
	defer cancel()
	raw, err := o.Dial(tctx, "tcp", net.JoinHostPort(o.Host, strconv.Itoa(o.Port)))
	switch {
	case err == nil:
		return raw, nil
	case ctx.Err() != nil:
		return nil, &Error{Kind: Closed, Stage: StageDial, Err: context.Cause(ctx)}
	case tctx.Err() != nil:
		return nil, &Error{Kind: Timeout, Stage: StageDial, Err: err}
	}
	return nil, &Error{Kind: NoDial, Stage: StageDial, Err: err}
}

// start brings a connection from its first byte to the end of login.
func (c *Conn) start(ctx context.Context, o *Options) error {
	if o.Security == ImplicitTLS {
		if err := c.secure(ctx, o); err != nil {
			return err
		}
	}
	preauth, err := c.greeting()
	if err != nil {
		return err
	}
	c.stage, c.endBy = StageLogin, time.Now().Add(c.lim.Login)
	if o.Security == STARTTLS {
		if preauth {
			// RFC 9051 section 11.1: whoever sits between could have sent it.
			return c.fail(&Error{Kind: TLS, Stage: StageTLS, Code: CodePreauthPlain, Text: "server is logged in before STARTTLS"})
		}
		if err := c.startTLS(ctx, o); err != nil {
			return err
		}
	}
	if err := c.Capability(ctx); err != nil {
		return err
	}
	c.preauth = preauth
	if !preauth {
		c.capsTold = false
		if err := c.login(ctx, o); err != nil {
			return err
		}
		if !c.capsTold {
			if err := c.Capability(ctx); err != nil {
				return err
			}
		}
	}
	return c.introduce(ctx, o)
}

// introduce says who we are and asks for what is offered. A refusal of one of these is
// no error.
func (c *Conn) introduce(ctx context.Context, o *Options) error {
	if c.caps.Has(imap.CapID) {
		name := o.Name
		if name == "" {
			name = "postrider"
		}
		if err := c.identify(ctx, name, o.Version); c.err != nil {
			return err
		}
	}
	if c.caps.Has(imap.CapEnable) && !o.NoEnable {
		want := ""
		switch {
		case c.caps.Has(imap.CapQResync) && !o.NoQResync:
			want = "QRESYNC" // which enables CONDSTORE (RFC 7162 section 3.2.3)
		case c.caps.Has(imap.CapCondStore):
			want = "CONDSTORE"
		}
		if want != "" {
			if err := c.enable(ctx, want); c.err != nil {
				return err
			}
		}
	}
	if c.caps.Has(imap.CapNamespace) {
		if err := c.namespace(ctx); c.err != nil {
			return err
		}
	}
	return nil
}

// greeting reads the server's first line; up to five empty ones may come before it.
func (c *Conn) greeting() (preauth bool, err error) {
	c.begin(c.lim.Greeting, 0, c.lim.Greeting)
	defer c.end()
	var r response
	for range 5 {
		if r, err = c.read(); err != nil {
			return false, c.failFor(err)
		}
		if len(r.b) > 0 {
			break
		}
	}
	if r.kind != rStatus {
		return false, c.fail(&Error{Kind: Protocol, Stage: StageGreeting, Text: "greeting is not IMAP: " + c.shown(r.b[:min(len(r.b), 120)])})
	}
	c.prove()
	c.code(&r)
	switch r.status.typ {
	case imap.StatusResponseTypeOK:
		return false, nil
	case imap.StatusResponseTypePreAuth:
		return true, nil
	}
	return false, c.fail(c.refused(&r.status, ""))
}

// startTLS upgrades the connection. RFC 3501 section 6.2.1: what was learnt before is
// forgotten; bytes behind the OK were put there by somebody else (CVE-2011-0411).
func (c *Conn) startTLS(ctx context.Context, o *Options) error {
	if err := c.Capability(ctx); err != nil {
		return err
	}
	if !c.caps.Has(imap.CapStartTLS) {
		return c.fail(&Error{Kind: TLS, Stage: StageTLS, Command: "STARTTLS", Code: CodeNoSTARTTLS, Text: "server offers no STARTTLS"})
	}
	c.stage = StageTLS
	k := c.command("STARTTLS")
	k.first = c.lim.TLS
	if _, err := k.run(ctx); err != nil {
		if e, ok := err.(*Error); ok && e.Usable() {
			refused := *e
			refused.Kind = TLS
			return c.fail(&refused)
		}
		return err
	}
	if c.rd.buffered() > 0 {
		return c.fail(&Error{Kind: TLS, Stage: StageTLS, Command: "STARTTLS", Code: CodeInjection, Text: "plaintext behind STARTTLS"})
	}
	if err := c.secure(ctx, o); err != nil {
		return err
	}
	c.caps, c.changes, c.id = Caps{}, Changes{}, unique.Handle[imap.IDData]{}
	c.stage, c.endBy = StageLogin, time.Now().Add(c.lim.Login)
	return nil
}

// secure puts TLS over the connection.
func (c *Conn) secure(ctx context.Context, o *Options) error {
	c.stage = StageTLS
	cfg := o.TLS
	if cfg == nil {
		cfg = &tls.Config{}
	}
	if cfg.ServerName == "" || cfg.MinVersion < tls.VersionTLS12 {
		cfg = cfg.Clone()
		cfg.ServerName = cmp.Or(cfg.ServerName, o.Host)
		cfg.MinVersion = max(cfg.MinVersion, tls.VersionTLS12)
	}
	hctx, cancel := context.WithTimeout(ctx, c.lim.TLS)
	defer cancel()
	tc := tls.Client(c.raw, cfg)
	if err := tc.HandshakeContext(hctx); err != nil {
		return c.fail(&Error{Kind: TLS, Stage: StageTLS, Err: err})
	}
	c.mu.Lock()
	c.nc = tc
	c.mu.Unlock()
	c.src, c.dst = tc, tc
	c.stage = StageGreeting
	return nil
}

// Capability asks for the server's capabilities; what a greeting says of them is often
// short.
func (c *Conn) Capability(ctx context.Context) error {
	k := c.command("CAPABILITY")
	var list []byte
	k.on = func(r *response) bool {
		if !r.is("CAPABILITY") {
			return false
		}
		list = append(append(list, ' '), r.b[r.at:]...)
		return true
	}
	if _, err := k.run(ctx); err != nil {
		return err
	}
	if len(list) > 0 {
		c.caps = parseCaps(list)
	}
	return nil
}

// enable switches extensions on. An empty answer decides nothing: what the server does
// afterwards does.
func (c *Conn) enable(ctx context.Context, what string) error {
	k := c.command("ENABLE").arg(what)
	k.on = func(r *response) bool {
		if !r.is("ENABLED") {
			return false
		}
		c.enabled += parseCaps(r.b[r.at:]).list
		return true
	}
	_, err := k.run(ctx)
	return err
}

// Enabled says whether the server named an extension in its answer to ENABLE.
func (c *Conn) Enabled(name imap.Cap) bool {
	return strings.Contains(c.enabled, " "+strings.ToUpper(string(name))+" ")
}
