package transport

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"time"

	"github.com/postrider/postrider/internal/tlsconf"
	"github.com/postrider/postrider/store/secret"
)

// Server is a submission server and how to log in there.
type Server struct {
	Host string
	Port int

	Secure    bool // TLS from the first byte; else STARTTLS, which is then required
	Plaintext bool // neither: only on this host, or where Options.AllowPlaintext; Secure wins
	TLS       tlsconf.Settings

	// Without Pass and AccessToken nobody logs in. The token is used where both are given.
	User        string
	Pass        secret.Text
	AccessToken secret.Text

	EHLOName string // what we call ourselves; "" = Options.EHLOName

	// Key is under which connections are kept: the account and a fingerprint of everything
	// that makes another connection of it. A connection is used again under its Key only;
	// with "" it is not used again.
	Key string
}

// Options are what a Pool is made of. Zero values are the documented defaults.
type Options struct {
	// Dial opens a TCP connection; it is the egress policy's. nil dials freely.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	AllowPlaintext   bool // servers without TLS may be used where Server says so
	AllowInsecureTLS bool // certificates may go unchecked where Server says so

	// EHLOName is what we call ourselves where Server does not say. "" is this host's
	// qualified name, or, where it has none, the connection's address as a literal.
	EHLOName string

	Timeouts Timeouts

	Connections        int           // at once, idle ones included; 0 = 500
	ConnectionsPerHost int           // 0 = 20
	HandshakesPerHost  int           // connections being made at once; 0 = 5
	Idle               time.Duration // after which an unused connection ends; 0 = 30 s
	MaxAge             time.Duration // of a connection; 0 = 10 min
	MaxMessages        int           // on one connection; 0 = 100
}

// Timeouts are how long each step may take (RFC 5321 section 4.5.3.2). 0 = the default.
type Timeouts struct {
	Connect     time.Duration // DNS and TCP; 30 s
	TLS         time.Duration // the handshake; 30 s
	Greeting    time.Duration // 5 min
	Command     time.Duration // EHLO, STARTTLS, each step of AUTH, RSET; 1 min
	Mail        time.Duration // 5 min
	Rcpt        time.Duration // each; 5 min
	Data        time.Duration // the reply to DATA; 2 min
	Block       time.Duration // each write; 3 min
	Dot         time.Duration // the reply to the final dot; 10 min
	Transaction time.Duration // one Send, connecting included; 60 min
}

const quitTimeout = 2 * time.Second

func (o Options) withDefaults() Options {
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	t := &o.Timeouts
	for _, d := range []struct {
		value    *time.Duration
		standard time.Duration
	}{
		{&t.Connect, 30 * time.Second},
		{&t.TLS, 30 * time.Second},
		{&t.Greeting, 5 * time.Minute},
		{&t.Command, time.Minute},
		{&t.Mail, 5 * time.Minute},
		{&t.Rcpt, 5 * time.Minute},
		{&t.Data, 2 * time.Minute},
		{&t.Block, 3 * time.Minute},
		{&t.Dot, 10 * time.Minute},
		{&t.Transaction, time.Hour},
		{&o.Idle, 30 * time.Second},
		{&o.MaxAge, 10 * time.Minute},
	} {
		if *d.value <= 0 {
			*d.value = d.standard
		}
	}
	for _, n := range []struct {
		value    *int
		standard int
	}{{&o.Connections, 500}, {&o.ConnectionsPerHost, 20}, {&o.HandshakesPerHost, 5}, {&o.MaxMessages, 100}} {
		if *n.value <= 0 {
			*n.value = n.standard
		}
	}
	return o
}

// tlsConfig judges s; nil = no TLS at all.
func (o *Options) tlsConfig(s Server) (*tls.Config, error) {
	if s.Plaintext && !s.Secure {
		if !o.AllowPlaintext && !isLoopback(s.Host) {
			return nil, errPlaintext
		}
		return nil, nil
	}
	return tlsconf.Client(s.Host, s.TLS, o.AllowInsecureTLS)
}

// isLoopback says whether host is this one by its spelling; no name is looked up for it.
func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.Unmap().IsLoopback()
}
