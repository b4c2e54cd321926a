package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hibiken/asynqmon"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/api"
	"github.com/postrider/postrider/dispatch"
	"github.com/postrider/postrider/imapsync"
	"github.com/postrider/postrider/internal/egress"
	"github.com/postrider/postrider/smtpsend"
	"github.com/postrider/postrider/smtpsend/transport"
	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/secret"
)

// daemon is the program as serve and demo run it: the floors, built from the store up,
// and the goroutines that keep them going. Fields of roles that a process does not have
// are nil.
type daemon struct {
	cfg       *loaded
	log       *slog.Logger
	instance  string         // names it, and its predecessors in the same data directory, in leases
	data      *dataDirectory // nil: nothing is kept
	ephemeral bool
	thrifty   bool // the process is ours alone: its collector is paced

	redis     *redisPart
	store     *store.Store
	registry  *prometheus.Registry
	transport *http.Transport
	dispatch  *dispatch.Dispatcher
	manager   *imapsync.Manager
	dialer    *imapsync.Dialer
	actor     *imapsync.Actor
	pool      *transport.Pool
	sender    *smtpsend.Sender
	api       *api.Server
	web       *http.Server
	webListen net.Listener
	metrics   *http.Server // api.metricsListen
	metListen net.Listener

	warnings []string
	token    string // the first token, when it was just made
	hookKey  string // and the secret that signs webhooks, which no answer of the API shows

	closers []func(context.Context) error // what a failed start closes again, in reverse

	// One group of goroutines per phase of the shutdown, each with its own end.
	sync, relay, janitors group
	queue                 sync.Once // of stopping the asynq servers
	stopping              atomic.Bool
	failed                chan error
}

// group is a set of goroutines that end together.
type group struct {
	wg     sync.WaitGroup
	ctx    context.Context
	cancel context.CancelCauseFunc
}

var errShutdown = errors.New("shutting down")

func (g *group) start(ctx context.Context) {
	g.ctx, g.cancel = context.WithCancelCause(context.WithoutCancel(ctx)) // it ends in its own phase
}

// newDaemon builds everything and starts nothing but Redis. What it opened is closed
// again when it fails. data is nil for an ephemeral one.
func newDaemon(ctx context.Context, cfg *loaded, data *dataDirectory, p *program, log *slog.Logger) (_ *daemon, err error) {
	d := &daemon{
		cfg: cfg, log: log, data: data, ephemeral: data == nil,
		instance: processName(), registry: prometheus.NewRegistry(), failed: make(chan error, 8),
	}
	defer func() {
		if err != nil {
			d.unwind(context.WithoutCancel(ctx))
		}
	}()
	if data != nil {
		if d.instance, err = data.instance(); err != nil {
			return nil, err
		}
	}
	d.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := d.listen(ctx); err != nil {
		return nil, err
	}
	if err := d.openStore(ctx, p); err != nil {
		return nil, err
	}
	if err := d.buildEngines(); err != nil {
		return nil, err
	}
	return d, d.buildAPI()
}

// processName is unique among processes, and says which one it is.
func processName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	return fmt.Sprintf("%s:%d:%s", host, os.Getpid(), strings.ToLower(rand.Text()[:8]))
}

// listen opens the listeners first: a port that is taken is the commonest reason not to
// start, and the guard must know our own addresses.
func (d *daemon) listen(ctx context.Context) (err error) {
	open := func(key, addr string) (net.Listener, error) {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
		if errors.Is(err, syscall.EADDRINUSE) {
			return nil, fmt.Errorf("%s: %w: stop what listens there, or choose another address", key, err)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		d.closers = append(d.closers, func(context.Context) error {
			if err := l.Close(); !errors.Is(err, net.ErrClosed) {
				return err
			}
			return nil
		})
		return l, nil
	}
	if d.cfg.has(roleAPI) {
		if d.webListen, err = open("api.listen", d.cfg.API.Listen); err != nil {
			return err
		}
	}
	if d.cfg.API.MetricsListen != "" {
		d.metListen, err = open("api.metricsListen", d.cfg.API.MetricsListen)
	}
	return err
}

func (d *daemon) ownAddresses() []netip.AddrPort {
	var own []netip.AddrPort
	for _, l := range []net.Listener{d.webListen, d.metListen} {
		if l == nil {
			continue
		}
		if a, ok := l.Addr().(*net.TCPAddr); ok {
			own = append(own, a.AddrPort())
		}
	}
	return own
}

// openStore starts or finds Redis, and refuses one that is not fit for it.
func (d *daemon) openStore(ctx context.Context, p *program) (err error) {
	if d.redis, err = openRedis(ctx, &d.cfg.Config, d.data, d.ephemeral, p, d.log); err != nil {
		return err
	}
	d.closers = append(d.closers, d.redis.stop)

	var ring *secret.Keyring
	made := false
	if d.ephemeral {
		key := make([]byte, secret.KeySize)
		rand.Read(key)
		ring, err = secret.NewKeyring(key)
	} else {
		ring, made, err = d.cfg.keyring(d.data)
	}
	if err != nil {
		return err
	}
	d.store = store.New(store.Options{Client: d.redis.client, Prefix: d.cfg.Redis.Prefix, Secrets: ring, Logger: d.log})

	if !d.redis.safe {
		warnings, err := d.store.Check(ctx, d.cfg.Redis.AllowUnsafe)
		d.warnings = append(d.warnings, warnings...)
		if errors.Is(err, store.ErrUnsafe) {
			return unsafeError{what: err.Error(), mend: "mend its configuration, or accept the loss with redis.allowUnsafe: true"}
		}
		if err != nil {
			return err
		}
	}
	if err := d.store.CheckKeys(ctx); err != nil {
		if made {
			_ = os.Remove(d.cfg.keyFile(d.data)) // it would only hide that the right one is missing
		}
		if errors.Is(err, secret.ErrNoKey) {
			return unsafeError{
				what: err.Error(),
				mend: "put the secrets.key that belongs to this Redis back (secrets.keyFile, secrets.keys); without it the credentials are lost",
			}
		}
		return err
	}
	if err := d.store.EnsureServiceSecret(ctx); err != nil {
		return err
	}
	if now, err := d.store.Now(ctx); err == nil {
		if off := time.Since(now).Abs(); off > 2*time.Second {
			d.warnings = append(d.warnings, fmt.Sprintf("this machine's clock is %s off Redis' clock: let both follow a time server", off.Round(time.Second)))
		}
	}
	return d.ensureTokens(ctx)
}

// ensureTokens imports api.token, or makes the first token where there is none.
func (d *daemon) ensureTokens(ctx context.Context) error {
	if !d.cfg.has(roleAPI) {
		return nil
	}
	if t := d.cfg.API.Token; !t.Empty() {
		return d.store.ImportToken(ctx, t.Reveal(), store.Token{Description: "api.token", Scopes: []string{"*"}})
	}
	if d.cfg.API.FirstToken == "none" {
		return nil
	}
	value, made, err := d.store.FirstToken(ctx)
	if err != nil || !made {
		return err
	}
	sign, err := d.store.RouteSecret(ctx)
	d.token, d.hookKey = value, sign.Reveal()
	return err
}

// loopback is what an ephemeral daemon may call besides: it is for trying things out.
func loopback() []string { return []string{"127.0.0.0/8", "::1"} }

// buildEngines makes the engines of the roles.
func (d *daemon) buildEngines() error {
	policy := egress.Policy{Name: d.cfg.Egress.Policy, Allow: d.cfg.Egress.Allow, AllowHTTP: d.cfg.Egress.AllowHTTP, Own: d.ownAddresses()}
	if d.ephemeral {
		policy.Allow = append(loopback(), policy.Allow...)
	}
	guard, err := egress.New(policy)
	if err != nil {
		return fmt.Errorf("egress: %w", err)
	}
	mail, err := egress.New(egress.Policy{Name: d.cfg.Mail.Egress, Mail: true, DialTimeout: 10 * time.Second})
	if err != nil {
		return fmt.Errorf("mail.egress: %w", err)
	}
	profiles, err := imapsync.NewProfiles(string(d.cfg.Mail.Providers))
	if err != nil {
		return fmt.Errorf("mail.providers: %w", err)
	}
	var trace *slog.Logger
	if d.cfg.Log.Trace {
		trace = traceLogger(d.log)
	}
	d.dialer = imapsync.NewDialer(imapsync.DialerOptions{
		Dial: mail.DialContext, AllowPlaintext: d.cfg.Mail.AllowPlaintext, AllowInsecureTLS: d.cfg.Mail.AllowInsecureTLS,
		ClientName: "Postrider", ClientVersion: version, Profiles: profiles, Trace: trace,
	})
	if d.cfg.has(roleSync) {
		s := d.cfg.Sync
		d.manager = imapsync.NewManager(imapsync.Options{
			Store: d.store, Owner: d.instance, Logger: d.log, Registerer: d.registry, Profiles: profiles,
			Dial: func(ctx context.Context, a store.Account) (imapsync.Session, error) {
				return d.dialer.DialAccount(ctx, a)
			},
			Config: imapsync.Config{
				ProbeInterval: s.ProbeInterval, ListInterval: s.ListInterval, AskInterval: s.AskInterval,
				ProofInterval: s.ProofInterval, Baselines: s.Baselines, NoCompress: s.Compress == "never", ContentMemory: int64(s.ContentMemory),
			},
		})
	}
	if d.cfg.has(roleSend) || d.cfg.has(roleAPI) {
		if err := d.buildSender(mail); err != nil {
			return err
		}
	}
	if d.cfg.has(roleDispatch) || d.cfg.has(roleAPI) {
		d.transport = guard.Transport(egress.Options{IdlePerHost: 4})
	}
	if d.cfg.has(roleDispatch) {
		w := d.cfg.Webhook
		d.dispatch, err = dispatch.New(dispatch.Options{
			Store: d.store, Redis: d.redis.client, Transport: d.transport, CheckURL: guard.CheckURL,
			Instance: d.instance, Version: version, Logger: d.log, Registerer: d.registry,
			Config: dispatch.Config{
				Concurrency: w.Concurrency, SlowShare: w.SlowShare, PerHost: w.PerHost, Timeout: w.Timeout,
				MaxPending: w.MaxPending, MaxLate: w.MaxLate, KeepDead: w.KeepDead, KeepCompleted: w.KeepCompleted,
				IDsOnly: w.TaskPayload == "ids", LogFailures: w.LogFailures, LogPerRoute: w.LogPerRoute,
			},
		})
		if err != nil {
			return err
		}
	}
	if !d.cfg.has(roleAPI) {
		return nil
	}
	c := d.cfg.API
	conf := api.Config{
		CORSOrigins: c.CORS.Origins, MaxConcurrent: c.MaxConcurrent, MaxBodyMemory: int64(c.MaxBodyMemory), AllowQueryToken: c.AllowQueryToken, DocsNeedToken: c.Docs == "token",
		AllowPlaintext: d.cfg.Mail.AllowPlaintext, AllowInsecureTLS: d.cfg.Mail.AllowInsecureTLS,
	}
	for _, s := range c.TrustedProxies {
		pre, err := parsePrefix(s)
		if err != nil {
			return fmt.Errorf("api.trustedProxies: %w", err)
		}
		conf.TrustedProxies = append(conf.TrustedProxies, pre)
	}
	d.api, err = api.New(api.Options{
		Store: d.store, Kicker: d.store, Verifier: verifier{d.dialer}, SMTPVerifier: smtpVerifier{d.pool}, Submitter: d.sender.Queue, Outbox: d.sender.Queue,
		CheckTarget:  func(url string) error { return dispatch.CheckTarget(url, guard.CheckURL) },
		CheckHeaders: func(h []store.Header) error { return dispatch.CheckHeaders(h, false) },
		Monitor:      d.monitor, Metrics: promhttp.HandlerFor(d.registry, promhttp.HandlerOpts{}),
		Registerer: d.registry, Logger: d.log, Config: conf, Version: version,
	})
	return err
}

// sharedRedis gives asynqmon the client we have: its own would not know our options.
type sharedRedis struct{ client redis.UniversalClient }

func (s sharedRedis) MakeRedisClient() any { return s.client }

// monitorRoot is where the queue dashboard is mounted.
const monitorRoot = "/monitor"

func (d *daemon) monitor(readOnly bool) http.Handler {
	return asynqmon.New(asynqmon.Options{RootPath: monitorRoot, RedisConnOpt: sharedRedis{d.redis.client}, ReadOnly: readOnly})
}

// Limits of the listeners, api.md section 4.
const (
	headerTime = 10 * time.Second
	idleTime   = 120 * time.Second
	headerSize = 64 << 10
)

// buildAPI makes the HTTP servers around the handlers.
func (d *daemon) buildAPI() error {
	quiet := slog.NewLogLogger(d.log.Handler(), slog.LevelDebug) // net/http logs every peer that hangs up
	if d.api != nil {
		d.web = &http.Server{Handler: d.api, ReadHeaderTimeout: headerTime, IdleTimeout: idleTime, MaxHeaderBytes: headerSize, ErrorLog: quiet}
		if d.cfg.API.TLS.Cert != "" {
			tlsConfig, err := reloadingTLS(d.cfg.API.TLS.Cert, d.cfg.API.TLS.Key)
			if err != nil {
				return err
			}
			d.web.TLSConfig = tlsConfig
		} else if !onLoopback(d.cfg.API.Listen) && len(d.cfg.API.TrustedProxies) == 0 {
			d.warnings = append(d.warnings, "the API listens off loopback without TLS and without api.trustedProxies: tokens travel in the clear")
		}
	}
	if d.metListen != nil {
		d.metrics = &http.Server{Handler: d.operations(), ReadHeaderTimeout: headerTime, IdleTimeout: idleTime, MaxHeaderBytes: headerSize, ErrorLog: quiet}
	}
	return nil
}

// url is where this process's API is reached from this host.
func (d *daemon) url() string {
	if d.webListen == nil {
		return ""
	}
	scheme := "http"
	if d.cfg.API.TLS.Cert != "" {
		scheme = "https"
	}
	addr := d.webListen.Addr().String()
	if a, ok := d.webListen.Addr().(*net.TCPAddr); ok && a.IP.IsUnspecified() {
		addr = net.JoinHostPort("127.0.0.1", fmt.Sprint(a.Port))
	}
	return scheme + "://" + addr
}

// unwind closes what a failed start has opened, in reverse.
func (d *daemon) unwind(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*childStop)
	defer cancel()
	for len(d.closers) > 0 {
		last := len(d.closers) - 1
		if err := d.closers[last](ctx); err != nil {
			d.log.Error("closing after a failed start", "err", err)
		}
		d.closers = d.closers[:last]
	}
}
