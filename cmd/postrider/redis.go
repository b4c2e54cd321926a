package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// redisMaker makes clients of one Redis, whatever its topology.
type redisMaker func() redis.UniversalClient

// Connections of one client. Event streams, blocking relays and asynq's fetchers each
// hold one while they wait, so the library's ten per processor are too few.
const redisPool = 200

// Bytes of each of a connection's two buffers; what is larger goes past them. The
// library's 32 KB are 13 MB in a pool that was once in full use.
const redisBuffer = 4 << 10

// redisOptions understands redis.url. The scheme says the topology:
//
//	redis://  rediss://  unix://            one server
//	redis+sentinel://  rediss+sentinel://   Sentinels, with ?master_name=
//	redis+cluster://   rediss+cluster://    a cluster
//
// Further Sentinels or nodes follow as ?addr=host:port, as often as needed.
func redisOptions(raw string) (redisMaker, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("not a URL") // not err: it repeats the URL, which may hold a password
	}
	scheme, topology, _ := strings.Cut(u.Scheme, "+")
	plain := scheme + strings.TrimPrefix(raw, u.Scheme)
	hide := func(err error) error {
		return errors.New(strings.ReplaceAll(err.Error(), raw, "the URL"))
	}
	switch {
	case topology == "cluster" && (scheme == "redis" || scheme == "rediss"):
		o, err := redis.ParseClusterURL(plain)
		if err != nil {
			return nil, hide(err)
		}
		return func() redis.UniversalClient {
			c := *o
			c.PoolSize, c.ReadBufferSize, c.WriteBufferSize = or(c.PoolSize, redisPool), redisBuffer, redisBuffer
			return redis.NewClusterClient(&c)
		}, nil
	case topology == "sentinel" && (scheme == "redis" || scheme == "rediss"):
		o, err := redis.ParseFailoverURL(plain)
		if err != nil {
			return nil, hide(err)
		}
		if o.MasterName == "" {
			return nil, errors.New("a Sentinel URL needs ?master_name=")
		}
		return func() redis.UniversalClient {
			c := *o
			c.PoolSize, c.ReadBufferSize, c.WriteBufferSize = or(c.PoolSize, redisPool), redisBuffer, redisBuffer
			return redis.NewFailoverClient(&c)
		}, nil
	case topology == "" && (scheme == "redis" || scheme == "rediss" || scheme == "unix"):
		o, err := redis.ParseURL(raw)
		if err != nil {
			return nil, hide(err)
		}
		return func() redis.UniversalClient {
			c := *o
			c.PoolSize, c.ReadBufferSize, c.WriteBufferSize = or(c.PoolSize, redisPool), redisBuffer, redisBuffer
			return redis.NewClient(&c)
		}, nil
	}
	return nil, fmt.Errorf("scheme %q: must be redis, rediss, unix, redis+sentinel, rediss+sentinel, redis+cluster or rediss+cluster", u.Scheme)
}

func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// redisPart is the Redis that a process uses: somebody's, our own child, or one in
// this process.
type redisPart struct {
	client redis.UniversalClient
	about  string // for the banner: "own redis-server, unix socket, append-only file"
	safe   bool   // known to keep what it is given, or known not to, by the user's wish: not asked
	stop   func(context.Context) error
}

// openRedis connects to what is configured, and starts it first where that is ours.
func openRedis(ctx context.Context, cfg *Config, d *dataDirectory, ephemeral bool, p *program, log *slog.Logger) (*redisPart, error) {
	switch {
	case ephemeral:
		return openEphemeral()
	case !cfg.Redis.URL.Empty():
		mk, err := redisOptions(cfg.Redis.URL.Reveal())
		if err != nil {
			return nil, fmt.Errorf("redis.url: %w", err)
		}
		client := mk()
		if err := answers(ctx, client); err != nil {
			_ = client.Close()
			return nil, fmt.Errorf("redis at %s: %w", redisPlace(cfg.Redis.URL.Reveal()), err)
		}
		return &redisPart{client: client, about: "at " + redisPlace(cfg.Redis.URL.Reveal()), stop: func(context.Context) error { return client.Close() }}, nil
	}
	child, err := startChild(ctx, childOptions{program: cfg.Redis.Server, data: d.path, runtime: p.getenv("XDG_RUNTIME_DIR"), log: log})
	if err != nil {
		return nil, err
	}
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: child.socket, PoolSize: redisPool, ReadBufferSize: redisBuffer, WriteBufferSize: redisBuffer})
	return &redisPart{
		client: client,
		about:  fmt.Sprintf("own %s, unix socket, append-only file", child.name),
		stop: func(ctx context.Context) error {
			return errors.Join(client.Close(), child.stop(ctx))
		},
	}, nil
}

// redisPlace is a Redis URL as it may be shown.
func redisPlace(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "the configured URL"
	}
	return u.Scheme + "://" + u.Host + u.Path
}

// startPatience is how long serve waits for a Redis that is not there yet: with an
// orchestrator both start at once.
const startPatience = 10 * time.Second

// answers waits until Redis does.
func answers(ctx context.Context, client redis.UniversalClient) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	var last error // that is not our own impatience
	for {
		err := client.Ping(ctx).Err()
		if err == nil || redis.HasErrorPrefix(err, "WRONGPASS") || redis.HasErrorPrefix(err, "NOAUTH") || redis.HasErrorPrefix(err, "NOPERM") {
			return err
		}
		if last == nil || !errors.Is(err, context.DeadlineExceeded) {
			last = err
		}
		if wait(ctx, 200*time.Millisecond) != nil {
			return last
		}
	}
}

// openEphemeral starts a miniredis. It has no listener: connections are pipes within
// this process, so nobody else on this host reaches it.
func openEphemeral() (*redisPart, error) {
	m := miniredis.NewMiniRedis()
	m.ClockTTL(true)
	first, err := m.Dial() // starts it without a listener
	if err != nil {
		return nil, fmt.Errorf("miniredis: %w", err)
	}
	_ = first.Close()
	server := m.Server()
	client := redis.NewClient(&redis.Options{
		Addr:     "127.0.0.1:6379", // never dialled; a name here would be looked up
		PoolSize: redisPool,
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			server.ServeConn(newPatient(theirs))
			return ours, nil
		},
	})
	return &redisPart{client: client, about: "in this process: NOTHING IS KEPT (--ephemeral)", safe: true, stop: func(context.Context) error {
		err := client.Close()
		m.Close()
		return err
	}}, nil
}

// patient is the server's end of a pipe, whose writes never wait: miniredis answers each
// command at once, go-redis writes a whole pipeline before it reads, and a pipe has no
// buffer, so they would wait for each other. One goroutine writes; it ends with Close.
type patient struct {
	net.Conn
	mu      sync.Mutex
	pending []byte
	more    chan struct{} // cap 1
	closed  chan struct{}
	once    sync.Once
}

func newPatient(c net.Conn) *patient {
	p := &patient{Conn: c, more: make(chan struct{}, 1), closed: make(chan struct{})}
	go p.pump()
	return p
}

func (p *patient) Write(b []byte) (int, error) {
	select {
	case <-p.closed:
		return 0, net.ErrClosed
	default:
	}
	p.mu.Lock()
	p.pending = append(p.pending, b...)
	p.mu.Unlock()
	select {
	case p.more <- struct{}{}:
	default:
	}
	return len(b), nil
}

func (p *patient) pump() {
	for {
		select {
		case <-p.closed:
			return
		case <-p.more:
		}
		p.mu.Lock()
		b := p.pending
		p.pending = nil
		p.mu.Unlock()
		if _, err := p.Conn.Write(b); err != nil {
			_ = p.Close() // the reader of this connection sees it, too
			return
		}
	}
}

func (p *patient) Close() error {
	p.once.Do(func() { close(p.closed) })
	return p.Conn.Close()
}

// wait sleeps, and ends early with ctx.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
