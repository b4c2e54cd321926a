package transport

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/internal/redact"
)

// connect opens a connection, secures it and logs in. On error nothing stays open.
func (o *Options) connect(ctx context.Context, s Server) (*conn, *Error) {
	cfg, err := o.tlsConfig(s)
	if err != nil {
		return nil, &Error{Phase: PhaseTLS, Kind: KindTLS, Err: err}
	}
	dial, cancel := context.WithTimeout(ctx, o.Timeouts.Connect)
	raw, err := o.Dial(dial, "tcp", net.JoinHostPort(s.Host, strconv.Itoa(s.Port)))
	cancel()
	if err != nil {
		return nil, fault(ctx, PhaseConnect, "", err)
	}
	c := newConn(o, raw)
	c.hide = redact.New(s.Pass.Reveal(), s.AccessToken.Reveal())
	c.verified = !s.TLS.InsecureSkipVerify || len(s.TLS.Pin) > 0
	stop := c.guard(ctx)
	e := c.open(ctx, s, cfg)
	if !stop() && e == nil {
		e = fault(ctx, PhaseAuth, "", context.Cause(ctx))
	}
	if e != nil {
		c.close()
		return nil, e
	}
	return c, nil
}

// open is what is said on a new connection, as far as the login.
func (c *conn) open(ctx context.Context, s Server, cfg *tls.Config) *Error {
	if s.Secure {
		if e := c.handshake(ctx, cfg); e != nil {
			return e
		}
	}
	greet := step{PhaseGreeting, "", c.o.Timeouts.Greeting}
	r, e := c.reply(ctx, greet)
	if e != nil {
		return e
	}
	if r.code != 220 {
		return c.refuse(greet, r)
	}
	name := c.name(s.EHLOName)
	if e := c.hello(ctx, name); e != nil {
		return e
	}
	if cfg != nil && !s.Secure {
		if e := c.startTLS(ctx, cfg); e != nil {
			return e
		}
		// RFC 3207 section 4.2: what was learned before TLS does not count.
		if e := c.hello(ctx, name); e != nil {
			return e
		}
	}
	return c.login(ctx, s)
}

func (c *conn) handshake(ctx context.Context, cfg *tls.Config) *Error {
	s := step{PhaseTLS, "", c.o.Timeouts.TLS}
	if err := c.raw.SetDeadline(time.Now().Add(s.timeout)); err != nil {
		return c.fail(ctx, s, err)
	}
	t := tls.Client(c.raw, cfg)
	if err := t.Handshake(); err != nil {
		return c.fail(ctx, s, err)
	}
	c.nc, c.secure = t, true
	c.r.Reset(t)
	return nil
}

// startTLS never goes on without TLS (RFC 8314 section 5.2).
func (c *conn) startTLS(ctx context.Context, cfg *tls.Config) *Error {
	s := step{PhaseSTARTTLS, "STARTTLS", c.o.Timeouts.Command}
	if !c.has("STARTTLS") {
		return &Error{Phase: s.phase, Kind: KindTLS, Err: errNoSTARTTLS}
	}
	r, e := c.command(ctx, s, "STARTTLS")
	if e != nil {
		return e
	}
	if r.code != 220 {
		return c.refuse(s, r)
	}
	// Nothing may follow before the handshake: it would be taken for something said
	// under TLS (RFC 3207 section 5, CVE-2011-0411).
	if c.r.Buffered() > 0 {
		return &Error{Phase: s.phase, Command: s.verb, Kind: KindTLS, Err: errInjection}
	}
	return c.handshake(ctx, cfg)
}

// hello learns what the server offers.
func (c *conn) hello(ctx context.Context, name string) *Error {
	s := step{PhaseHello, "EHLO", c.o.Timeouts.Command}
	r, e := c.command(ctx, s, "EHLO "+name)
	if e != nil {
		return e
	}
	if r.code == 500 || r.code == 502 { // RFC 5321 section 3.2
		s.verb = "HELO"
		if r, e = c.command(ctx, s, "HELO "+name); e != nil {
			return e
		}
		r.texts = nil
	}
	if r.code != 250 {
		return c.refuse(s, r)
	}
	c.ext = map[string]string{}
	for i, t := range r.texts {
		keyword, params, _ := strings.Cut(strings.TrimSpace(t), " ")
		keyword = strings.ToUpper(keyword)
		switch rest, old := strings.CutPrefix(keyword, "AUTH="); {
		case i == 0: // the server's name
		case old: // QUIRK: "AUTH=LOGIN PLAIN" is how it was before RFC 2554, and still beside it
			c.ext["AUTH"] += " " + rest + " " + params
		case keyword == "AUTH":
			c.ext["AUTH"] += " " + params
		default:
			c.ext[keyword] = params
		}
	}
	return nil
}

// name is what we call ourselves: never localhost, which some servers refuse and which
// says nothing to the others.
func (c *conn) name(own string) string {
	host, _ := os.Hostname()
	if !strings.Contains(host, ".") {
		host = "" // RFC 5321 section 4.1.4 wants it qualified
	}
	for _, n := range []string{own, c.o.EHLOName, host} {
		if ValidEHLOName(n) {
			return n
		}
	}
	return literal(c.raw.LocalAddr())
}

// ValidEHLOName says whether n is a domain or an address literal that is said after
// EHLO; one that is not is passed over. "localhost" is not.
func ValidEHLOName(n string) bool {
	if in, ok := strings.CutPrefix(n, "["); ok {
		in, ok = strings.CutSuffix(in, "]")
		in, six := strings.CutPrefix(in, "IPv6:")
		addr, err := netip.ParseAddr(in)
		return ok && err == nil && addr.Is6() == six && addr.Zone() == ""
	}
	low := strings.ToLower(strings.TrimSuffix(n, "."))
	first, _, _ := strings.Cut(low, ".")
	return isDomain(n) && first != "localhost" && !strings.HasSuffix(low, ".localhost")
}

// literal is an address as RFC 5321 section 4.1.3 writes it.
func literal(a net.Addr) string {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return "[127.0.0.1]" // a connection that is not TCP
	}
	if ip := ap.Addr().Unmap().WithZone(""); ip.Is6() {
		return "[IPv6:" + ip.String() + "]"
	} else {
		return "[" + ip.String() + "]"
	}
}
