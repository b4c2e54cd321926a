package dispatch

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/hibiken/asynq"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/internal/carrier"
	"github.com/postrider/postrider/store"
)

// Queue is the asynq queue of carriers.
const Queue = "webhook"

// TaskType is the type of a carrier.
const TaskType = "webhook:lane"

// Config is the configuration `webhook.*`. Zero values are the defaults in brackets.
type Config struct {
	Concurrency   int           // requests at once in this process (256)
	SlowShare     float64       // of them that slow routes may take (0.5)
	PerHost       int           // of them to one scheme, host and port (32)
	Timeout       time.Duration // connect to status line (15 s)
	MaxPending    int           // per route (1,000,000)
	MaxLate       int           // per route (10,000)
	KeepDead      time.Duration // dead letters (168 h)
	KeepCompleted time.Duration // finished tasks in asynqmon (0)
	IDsOnly       bool          // taskPayload: ids. No envelope in tasks
	LogFailures   time.Duration // one warning per route in this time (1 m)
	LogPerRoute   int           // attempts (1,000, never under 50)

	TaskCheck    time.Duration // asynq's look for tasks (50 ms)
	DelayedCheck time.Duration // asynq's look for due tasks (500 ms)
	Poll         time.Duration // the relay's look at feeds nobody kicked (1 s)
	Sweep        time.Duration // the sweeper's round (5 s)
}

func (c Config) withDefaults() Config {
	c.Concurrency = cmp.Or(c.Concurrency, 256)
	c.SlowShare = cmp.Or(c.SlowShare, 0.5)
	c.PerHost = cmp.Or(c.PerHost, 32)
	c.Timeout = cmp.Or(c.Timeout, 15*time.Second)
	c.MaxPending = cmp.Or(c.MaxPending, 1_000_000)
	c.MaxLate = cmp.Or(c.MaxLate, 10_000)
	c.KeepDead = cmp.Or(c.KeepDead, 168*time.Hour)
	c.LogFailures = cmp.Or(c.LogFailures, time.Minute)
	c.LogPerRoute = max(cmp.Or(c.LogPerRoute, 1000), 50)
	c.TaskCheck = cmp.Or(c.TaskCheck, 50*time.Millisecond)
	c.DelayedCheck = cmp.Or(c.DelayedCheck, 500*time.Millisecond)
	c.Poll = cmp.Or(c.Poll, time.Second)
	c.Sweep = cmp.Or(c.Sweep, 5*time.Second)
	return c
}

// maxDead bounds the dead letters of a route, besides their age.
const maxDead = 100_000

// Options are what a Dispatcher is made of.
type Options struct {
	Store      *store.Store          // required
	Redis      redis.UniversalClient // required; asynq's; the caller closes it
	Transport  http.RoundTripper     // required; judges the address at dial time, follows no proxy
	CheckURL   func(string) error    // judges a target without its credentials before each attempt; nil = none
	Instance   string                // name that a restarted process keeps, for leases it takes over at once; "" makes one
	Version    string                // for User-Agent
	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil keeps metrics to itself
	Config     Config
}

// Dispatcher is the engine. Its parts are run and stopped one by one by cmd, in the
// order of its shutdown list, or together by Run.
type Dispatcher struct {
	Table     *Table
	Relay     *Relay
	Sweeper   *Sweeper
	Server    *Server
	Deliverer *Deliverer
}

// core is what the parts share. It is immutable.
type core struct {
	store    *store.Store
	table    *Table
	carriers *carriers
	alarms   *carrier.Alarms
	m        *metrics
	log      *slog.Logger
	cfg      Config
	instance string // holds leases
	proc     string // carries lanes: another name after each start
}

// New makes a Dispatcher. It does no I/O.
func New(o Options) (*Dispatcher, error) {
	if o.Store == nil || o.Redis == nil || o.Transport == nil {
		return nil, errors.New("dispatch: Store, Redis and Transport are required")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Instance == "" {
		host, _ := os.Hostname() // only for people
		o.Instance = fmt.Sprintf("%s:%d:%s", host, os.Getpid(), rand.Text()[:8])
	}
	cfg := o.Config.withDefaults()
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("dispatch: %w", err)
	}
	c := &core{
		store: o.Store, table: newTable(o.Store, cfg), alarms: carrier.NewAlarms(),
		m: m, log: o.Logger, cfg: cfg, instance: o.Instance, proc: o.Instance + "/" + rand.Text()[:8],
	}
	c.carriers = &carriers{store: o.Store, client: asynq.NewClientFromRedisClient(o.Redis), cfg: cfg, log: o.Logger}
	agent := "Postrider"
	if o.Version != "" {
		agent += "/" + o.Version
	}
	d := &Deliverer{
		core: c, limits: newLimits(cfg), quiet: newQuiet(cfg.LogFailures),
		post: poster{transport: o.Transport, check: o.CheckURL}, agent: agent,
	}
	return &Dispatcher{
		Table: c.table, Relay: newRelay(c), Sweeper: &Sweeper{core: c},
		Server: newServer(c, o.Redis, d), Deliverer: d,
	}, nil
}

// Run runs all parts until ctx ends, and then stops them in order: relay and sweeper,
// then the requests in flight. It returns when all have ended.
func (d *Dispatcher) Run(ctx context.Context) error {
	if err := d.Server.Start(); err != nil {
		return err
	}
	defer d.Server.Shutdown()
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make(chan error, 2)
	go func() { errs <- d.Relay.Run(inner) }()
	go func() { errs <- d.Sweeper.Run(inner) }()
	first := <-errs
	cancel()
	return errors.Join(first, <-errs)
}
