package egress

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Options shape a Transport. Zero values are the defaults in brackets.
type Options struct {
	TLS             *tls.Config   // own CA, client certificate, pins; MinVersion is raised to 1.2
	TLSTimeout      time.Duration // one handshake (5 s)
	HeaderTimeout   time.Duration // from the request's end to the answer's header (none: the caller's context)
	IdlePerHost     int           // idle connections per host (4)
	Idle            int           // idle connections in all (512)
	IdleTimeout     time.Duration // how long one may idle (90 s)
	MaxHeaderBytes  int64         // of an answer (64 KiB)
	DisableHTTP2    bool
	DisableKeepLive bool // one request per connection
}

// Transport makes an http.Transport that reaches only what the policy allows. It
// follows no proxy of the environment and unpacks no answers. The caller owns it and
// calls CloseIdleConnections at the end.
func (g *Guard) Transport(o Options) *http.Transport {
	cfg := &tls.Config{}
	if o.TLS != nil {
		cfg = o.TLS.Clone()
	}
	cfg.MinVersion = max(cfg.MinVersion, tls.VersionTLS12)
	if cfg.NextProtos == nil {
		cfg.NextProtos = []string{"h2", "http/1.1"}
		if o.DisableHTTP2 {
			cfg.NextProtos = []string{"http/1.1"}
		}
	}
	handshake := or(o.TLSTimeout, 5*time.Second)
	return &http.Transport{
		Proxy: nil, // named: a proxy of the environment would dial for us, unjudged
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return g.dial(ctx, network, addr, true)
		},
		DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := g.dial(ctx, network, addr, false)
			if err != nil {
				return nil, err
			}
			return shake(ctx, conn, addr, cfg, handshake)
		},
		ForceAttemptHTTP2:      !o.DisableHTTP2, // a dialer of one's own switches it off
		ResponseHeaderTimeout:  o.HeaderTimeout,
		ExpectContinueTimeout:  time.Second,
		MaxIdleConns:           or(o.Idle, 512),
		MaxIdleConnsPerHost:    or(o.IdlePerHost, 4),
		IdleConnTimeout:        or(o.IdleTimeout, 90*time.Second),
		MaxResponseHeaderBytes: or(o.MaxHeaderBytes, 64<<10),
		DisableCompression:     true,
		DisableKeepAlives:      o.DisableKeepLive,
	}
}

// shake is the TLS handshake on a judged connection, which it owns.
func shake(ctx context.Context, conn net.Conn, addr string, cfg *tls.Config, timeout time.Duration) (net.Conn, error) {
	if cfg.ServerName == "" {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			_ = conn.Close()
			return nil, fmt.Errorf("tls: %w", err)
		}
		cfg = cfg.Clone()
		cfg.ServerName = host
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	tc := tls.Client(conn, cfg)
	if err := tc.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("tls: %w", err)
	}
	return tc, nil
}

func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}
