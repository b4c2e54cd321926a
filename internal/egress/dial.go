package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// maxAddresses bounds what one DNS answer can make us try.
	maxAddresses = 8
	// headStart is what an address gets before the next one is tried beside it (RFC 8305
	// section 5, Connection Attempt Delay).
	headStart = 250 * time.Millisecond
)

// DialContext connects to addr ("host:port") if policy allows the address that the
// host turns out to have. Addresses that are refused are skipped; when none is left
// the error is ErrRefused. It may be called from many goroutines.
func (g *Guard) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	return g.dial(ctx, network, addr, false)
}

func (g *Guard) dial(ctx context.Context, network, addr string, plain bool) (net.Conn, error) {
	if network != "tcp" && network != "tcp4" && network != "tcp6" {
		return nil, fmt.Errorf("dial %s: only tcp is possible", network)
	}
	host, port, err := splitHostPort(addr)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, g.policy.DialTimeout)
	defer cancel()

	name, addrs, err := g.resolve(ctx, network, host)
	if err != nil {
		return nil, err
	}
	var open []netip.AddrPort
	for _, a := range addrs {
		if ap := netip.AddrPortFrom(a, port); g.judge(name, ap, plain) == nil && len(open) < maxAddresses {
			open = append(open, ap)
		}
	}
	if len(open) == 0 {
		return nil, ErrRefused
	}
	return g.race(ctx, network, name, open, plain)
}

// resolve looks a name up, once. A literal stands for itself and has no name.
func (g *Guard) resolve(ctx context.Context, network, host string) (name string, addrs []netip.Addr, err error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return "", []netip.Addr{a}, nil
	}
	name, err = asciiHost(host)
	if err != nil {
		return "", nil, err
	}
	// Mapped twice at most: what IDNA turns into an address is one.
	if a, err := netip.ParseAddr(name); err == nil {
		return "", []netip.Addr{a}, nil
	}
	family := "ip" + strings.TrimPrefix(network, "tcp")
	addrs, err = g.policy.Resolver.LookupNetIP(ctx, family, name)
	if err != nil {
		return "", nil, err // *net.DNSError names the host itself
	}
	if len(addrs) == 0 {
		return "", nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	}
	return name, addrs, nil
}

// race connects to the first of addrs that answers. All attempts have ended when it
// returns.
func (g *Guard) race(ctx context.Context, network, name string, addrs []netip.AddrPort, plain bool) (net.Conn, error) {
	d := net.Dialer{
		KeepAlive: 30 * time.Second,
		// The kernel's own view of the address: nothing gets between this check and connect.
		ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
			ap, err := netip.ParseAddrPort(address)
			if err != nil {
				return ErrRefused
			}
			return g.judge(name, ap, plain)
		},
	}
	ctx, cancel := context.WithCancel(ctx)
	type result struct {
		conn net.Conn
		err  error
	}
	results := make(chan result, len(addrs))
	var wg sync.WaitGroup
	started, running := 0, 0
	start := func() {
		to := addrs[started].String()
		started, running = started+1, running+1
		wg.Go(func() {
			conn, err := d.DialContext(ctx, network, to)
			results <- result{conn, err}
		})
	}
	defer func() {
		cancel()
		wg.Wait()
		close(results)
		for r := range results { // late winners
			if r.conn != nil {
				_ = r.conn.Close()
			}
		}
	}()

	next := time.NewTimer(headStart)
	defer next.Stop()
	var errs []error
	for start(); ; {
		select {
		case r := <-results:
			if running--; r.err == nil {
				return r.conn, nil
			}
			if errors.Is(r.err, ErrRefused) {
				r.err = ErrRefused // net's wrapper names the address
			}
			errs = append(errs, r.err)
			if started < len(addrs) {
				start()
				next.Reset(headStart)
			} else if running == 0 {
				return nil, errs[0]
			}
		case <-next.C:
			if started < len(addrs) {
				start()
				next.Reset(headStart)
			}
		}
	}
}

func splitHostPort(addr string) (host string, port uint16, err error) {
	host, p, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("dial: %w", err)
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil || n == 0 {
		return "", 0, errors.New("dial: a port is 1 to 65535")
	}
	return host, uint16(n), nil
}
