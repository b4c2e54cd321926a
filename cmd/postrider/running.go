package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/postrider/postrider/store"
)

// start sets everything going. It returns at once; what ends by itself is told to failed.
func (d *daemon) start(ctx context.Context) error {
	d.sync.start(ctx)
	d.relay.start(ctx)
	d.janitors.start(ctx)

	if d.dispatch != nil {
		if err := d.dispatch.Server.Start(); err != nil {
			return err
		}
		d.run(&d.relay, "relay", d.dispatch.Relay.Run)
		d.run(&d.relay, "sweeper", d.dispatch.Sweeper.Run)
	}
	if d.cfg.has(roleSend) {
		if err := d.sender.Server.Start(); err != nil {
			return err
		}
		d.run(&d.relay, "outbox", d.sender.Sweeper.Run)
	}
	if d.manager != nil {
		d.run(&d.sync, "sync", d.manager.Run)
	}
	d.run(&d.janitors, "hints", func(ctx context.Context) error { return d.store.Listen(ctx, d.hint) })
	d.run(&d.janitors, "janitor", d.janitor)
	if d.thrifty {
		d.run(&d.janitors, "collector", thrift)
	}
	d.serve(d.web, d.webListen, d.cfg.API.TLS.Cert != "")
	d.serve(d.metrics, d.metListen, false)
	return nil
}

// run starts a part that ends only when its group does.
func (d *daemon) run(g *group, name string, f func(context.Context) error) {
	g.wg.Go(func() {
		err := f(g.ctx)
		if g.ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("ended by itself")
		}
		d.fail(fmt.Errorf("%s: %w", name, err))
	})
}

func (d *daemon) fail(err error) {
	select {
	case d.failed <- err:
	default: // the first failures are enough to end
	}
}

// serve runs an HTTP server; nil is none. Shutdown ends it.
func (d *daemon) serve(s *http.Server, l net.Listener, secure bool) {
	if s == nil {
		return
	}
	d.janitors.wg.Go(func() {
		var err error
		if secure {
			err = s.ServeTLS(l, "", "")
		} else {
			err = s.Serve(l)
		}
		if !errors.Is(err, http.ErrServerClosed) {
			d.fail(fmt.Errorf("listener %s: %w", l.Addr(), err))
		}
	})
}

// hint passes on what another part, or another process, says is worth a look.
func (d *daemon) hint(h store.Hint) {
	if h.Account != "" {
		if d.manager != nil {
			d.manager.Kick(h.Account)
		}
		return
	}
	if d.dispatch != nil {
		d.dispatch.Relay.Kick(h.Shard)
	}
	if d.api != nil {
		d.api.Wake(h.Shard)
	}
}

// The janitor trims journals soon after the start and then every hour.
const (
	janitorFirst = time.Minute
	janitorEvery = time.Hour
)

func (d *daemon) janitor(ctx context.Context) error {
	for pause := janitorFirst; wait(ctx, pause) == nil; pause = janitorEvery {
		started := time.Now()
		err := d.store.TrimJournal(ctx, d.cfg.Events.Retention)
		if err != nil && ctx.Err() == nil {
			d.log.Warn("journals not trimmed", "err", err)
			continue
		}
		d.log.Debug("journals trimmed", "dur", time.Since(started))
	}
	return nil
}

// reloadingTLS reads certificate and key, and again when a file has changed.
func reloadingTLS(certFile, keyFile string) (*tls.Config, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile}
	if _, err := c.get(nil); err != nil {
		return nil, fmt.Errorf("api.tls: %w", err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get, NextProtos: []string{"h2", "http/1.1"}}, nil
}

// certificate is read again at most once a second.
type certificate struct {
	certFile, keyFile string

	mu      sync.Mutex
	current *tls.Certificate
	stamp   [2]time.Time
	looked  time.Time
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current != nil && time.Since(c.looked) < time.Second {
		return c.current, nil
	}
	c.looked = time.Now()
	var stamp [2]time.Time
	for i, f := range []string{c.certFile, c.keyFile} {
		if fi, err := os.Stat(f); err == nil {
			stamp[i] = fi.ModTime()
		}
	}
	if c.current != nil && stamp == c.stamp {
		return c.current, nil
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		if c.current != nil {
			return c.current, nil // half of a renewal: the old one holds until both files fit
		}
		return nil, err
	}
	c.current, c.stamp = &pair, stamp
	return c.current, nil
}
