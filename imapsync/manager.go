package imapsync

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/postrider/postrider/store"
)

// Config is how often things are done; zero is the documented default.
type Config struct {
	ProbeInterval time.Duration // folders that are not watched live; default 2 min
	ListInterval  time.Duration // the folder list; default 10 min
	AskInterval   time.Duration // least time between two STATUS of an account; default 1 s
	ProofInterval time.Duration // longest time between two round trips; default 290 s
	LeaseTTL      time.Duration // default 8 s
	RenewInterval time.Duration // default 2.5 s
	Reconcile     time.Duration // what is watched here is compared with what should be; default 1 s
	AliveInterval time.Duration // proofs of life to the store; default 30 s
	NoCompress    bool          // large first looks go uncompressed
	Baselines     int           // large first looks at once; default 8
	ContentMemory int64         // bytes for message contents in work; default 256 MiB
}

func (c *Config) defaults() {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&c.ProbeInterval, 2*time.Minute)
	def(&c.ListInterval, 10*time.Minute)
	def(&c.AskInterval, time.Second)
	def(&c.ProofInterval, 290*time.Second)
	def(&c.LeaseTTL, 8*time.Second)
	def(&c.RenewInterval, 2500*time.Millisecond)
	def(&c.Reconcile, time.Second)
	def(&c.AliveInterval, 30*time.Second)
	if c.Baselines <= 0 {
		c.Baselines = 8
	}
	if c.ContentMemory <= 0 {
		c.ContentMemory = 256 << 20
	}
}

// Options are what a Manager is made of.
type Options struct {
	Store      Store
	Dial       func(context.Context, store.Account) (Session, error) // opens a session and logs in
	Owner      string                                                // names this process; unique
	Logger     *slog.Logger                                          // nil discards
	Registerer prometheus.Registerer                                 // nil: not registered
	Profiles   *Profiles                                             // what is known of providers; nil: what comes along
	Config     Config
}

// Manager makes what is watched here equal to what should be: desired state, not
// events. Run has one goroutine that reconciles, one that renews leases, one watchdog,
// one that records proofs of life, and one per account.
type Manager struct {
	o    Options
	st   Store
	cfg  Config
	log  *slog.Logger
	met  *metrics
	pace *pacer

	kick      chan struct{}
	baselines chan struct{}
	content   *contentRoom
	wg        sync.WaitGroup // workers, but those that were abandoned

	mu       sync.Mutex
	workers  map[store.AccountID]*worker
	shards   [store.Shards]map[store.AccountID]*store.Account // what is registered, as last read
	versions [store.Shards]uint64
	procs    int
	leaving  bool // shutting down: no longer one of those that share

	inherited bool // what a predecessor of our name left was asked for; of reconcile alone
}

// NewManager makes a Manager; Run starts it.
func NewManager(o Options) *Manager {
	o.Config.defaults()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Profiles == nil {
		o.Profiles = builtin()
	}
	return &Manager{
		o: o, st: o.Store, cfg: o.Config, log: o.Logger, met: newMetrics(o.Registerer), pace: newPacer(),
		kick: make(chan struct{}, 1), baselines: make(chan struct{}, o.Config.Baselines),
		content: newContentRoom(o.Config.ContentMemory),
		workers: map[store.AccountID]*worker{}, procs: 1,
	}
}

// Run watches accounts until ctx ends; then all workers are ended politely, and it
// returns when they have, with their leases released.
func (m *Manager) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	inner, stop := context.WithCancel(context.WithoutCancel(ctx))
	wg.Go(func() { m.renewals(inner) })
	wg.Go(func() { m.watchdog(inner) })
	wg.Go(func() { m.proofs(inner) })
	t := time.NewTicker(m.cfg.Reconcile)
	defer t.Stop()
	handover := time.Now()
	for ctx.Err() == nil {
		if err := m.reconcile(ctx); err != nil && ctx.Err() == nil {
			m.log.InfoContext(ctx, "accounts not reconciled", "err", err)
		}
		if time.Since(handover) >= time.Second {
			handover = time.Now()
			m.handOver()
		}
		select {
		case <-ctx.Done():
		case <-m.kick:
		case <-t.C:
		}
	}
	m.mu.Lock()
	m.leaving = true
	m.mu.Unlock()
	m.retire(ctx) // first: the others take what we release as theirs
	for _, w := range m.snapshot() {
		w.cancel(errShutdown)
	}
	m.wg.Wait()
	stop()
	wg.Wait()
	m.retire(ctx) // a heartbeat may have been under way
	return nil
}

// retire takes this process off the list of those that share the accounts.
func (m *Manager) retire(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := m.st.Retire(ctx, m.o.Owner); err != nil {
		m.log.InfoContext(ctx, "process not retired", "err", err)
	}
}

// Kick has an account looked at again soon, and its registration read again. It never
// blocks. "" stands for all registrations.
func (m *Manager) Kick(id store.AccountID) {
	select {
	case m.kick <- struct{}{}:
	default:
	}
	if w := m.worker(id); w != nil {
		w.wake()
	}
}

// Reconnect has an account's session opened anew, without back-off. It says whether
// this process watches the account.
func (m *Manager) Reconnect(id store.AccountID) bool {
	w := m.worker(id)
	if w == nil {
		return false
	}
	w.configure(w.account())
	return true
}

// Watched lists the accounts that this process watches.
func (m *Manager) Watched() []store.AccountID {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.workers))
}

// LastProof is when an account that is watched here last proved that it lives; zero
// when it is not, or never did.
func (m *Manager) LastProof(id store.AccountID) time.Time {
	if w := m.worker(id); w != nil {
		return w.lastProof()
	}
	return time.Time{}
}

func (m *Manager) worker(id store.AccountID) *worker {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.workers[id]
}

func (m *Manager) snapshot() []*worker {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.workers))
}

// known are the registered accounts, as last read.
func (m *Manager) known() map[store.AccountID]*store.Account {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := map[store.AccountID]*store.Account{}
	for _, shard := range m.shards {
		maps.Copy(all, shard)
	}
	return all
}

// reconcile reads what changed, ends what should not run, and takes what is free.
func (m *Manager) reconcile(ctx context.Context) error {
	if err := m.refresh(ctx); err != nil {
		return err
	}
	for _, w := range m.snapshot() {
		a, ok := m.registered(w.id)
		switch {
		case !ok || !a.Watchable():
			w.cancel(errUnwanted)
		case a.Version != w.account().Version:
			w.configure(a)
		}
	}
	return m.take(ctx)
}

func (m *Manager) registered(id store.AccountID) (*store.Account, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a, ok := m.shards[store.Shard(id)][id]
	return a, ok
}

// refresh reads the registrations of the shards whose version moved.
func (m *Manager) refresh(ctx context.Context) error {
	versions, err := m.st.ShardVersions(ctx)
	if err != nil {
		return err
	}
	for n, v := range versions {
		m.mu.Lock()
		same := m.versions[n] == v && m.shards[n] != nil
		m.mu.Unlock()
		if same { // not for v == 0: the number may be lost and the accounts not
			continue
		}
		accounts, err := m.st.ShardAccounts(ctx, n)
		if err != nil {
			return err
		}
		byID := make(map[store.AccountID]*store.Account, len(accounts))
		m.mu.Lock()
		for i := range accounts {
			a := &accounts[i]
			switch known := m.shards[n][a.ID]; {
			case !a.Deleted.IsZero():
			case known != nil && reflect.DeepEqual(known, a):
				byID[a.ID] = known // its worker has it, too
			default:
				own := *a // the slice would stay as long as one of its elements
				byID[a.ID] = &own
			}
		}
		m.versions[n], m.shards[n] = v, byID
		m.mu.Unlock()
	}
	return nil
}

// quota is how many accounts this process may hold: its share and 5 % more.
func quota(accounts, procs int) int {
	if procs <= 1 {
		return accounts
	}
	share := (accounts + procs - 1) / procs
	return share + (share+19)/20
}

func (m *Manager) watchable() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, shard := range m.shards {
		for _, a := range shard {
			if a.Watchable() {
				n++
			}
		}
	}
	return n
}

// take acquires the free leases of accounts that should be watched, up to our share. The
// first time, what a predecessor of our name left is as good as free.
func (m *Manager) take(ctx context.Context) error {
	free, procs, err := m.st.FreeLeases(ctx)
	if err != nil {
		return err
	}
	if !m.inherited {
		left, err := m.st.OwnedLeases(ctx, m.o.Owner)
		if err != nil {
			return err
		}
		free = append(free, left...)
		slices.Sort(free)
		free = slices.Compact(free)
	}
	m.share(procs)
	var want []*store.Account
	for _, id := range free {
		if a, ok := m.registered(id); ok && a.Watchable() && m.worker(id) == nil {
			want = append(want, a)
		}
	}
	m.inherited = true
	if len(want) == 0 {
		return nil
	}
	m.mu.Lock()
	held, procs := len(m.workers), m.procs
	m.mu.Unlock()
	rand.Shuffle(len(want), func(i, j int) { want[i], want[j] = want[j], want[i] }) // others look at the same list
	want = want[:max(0, min(len(want), quota(m.watchable(), procs)-held))]
	var g errgroup.Group
	g.SetLimit(16)
	for _, a := range want {
		g.Go(func() error {
			asked := time.Now()
			l, err := m.st.Acquire(ctx, a.ID, m.o.Owner, m.cfg.LeaseTTL)
			if errors.Is(err, store.ErrLeaseHeld) || errors.Is(err, store.ErrNotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			m.start(ctx, a, l, asked)
			return nil
		})
	}
	return g.Wait()
}

// Pace waits for a turn to open a connection to a host beside those that watch, before all
// of those that wait as well: somebody waits for what is done there. The caller MUST call
// leave when it is open or was not to be. The error is the cause of ctx.
func (m *Manager) Pace(ctx context.Context, host string) (leave func(), err error) {
	return m.pace.queue(ctx, host, m.o.Profiles.Match(host, "", nil), 0)
}

// start begins a worker under a lease.
func (m *Manager) start(ctx context.Context, a *store.Account, l store.Lease, asked time.Time) {
	wctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	w := &worker{
		id: a.ID, lease: l, st: m.st, cfg: &m.cfg, log: m.log, met: m.met, pace: m.pace,
		dial: m.o.Dial, settings: m.st.Settings, pause: m.st.PauseAccount, baselines: m.baselines, contents: m.content,
		profiles: m.o.Profiles, profile: &m.o.Profiles.fallback, acct: a, kick: make(chan struct{}, 1), heldSince: asked, cancel: cancel,
	}
	w.leaseUntil.Store(m.stands(asked))
	m.mu.Lock()
	m.workers[a.ID] = w
	m.mu.Unlock()
	m.met.workers.Inc()
	m.wg.Add(1)
	go func() {
		defer w.left.Do(m.wg.Done)
		defer cancel(nil)
		cause := w.run(wctx)
		m.ended(w, cause)
	}()
	if ctx.Err() != nil {
		cancel(errShutdown)
	}
}

// stands is until when a lease renewed at a time is certain to be ours.
func (m *Manager) stands(asked time.Time) *time.Time {
	until := asked.Add(m.cfg.LeaseTTL - m.cfg.LeaseTTL/4)
	return &until
}

// ended forgets a worker and gives its lease back, unless it was lost.
func (m *Manager) ended(w *worker, cause error) {
	m.log.Debug("worker ended", "account", w.id, "err", cause)
	if !errors.Is(cause, errLeaseLost) && !errors.Is(cause, errAbandoned) {
		ctx, stop := context.WithTimeout(context.Background(), 5*time.Second)
		if err := m.st.Release(ctx, w.lease); err != nil {
			m.log.Info("lease not released", "account", w.id, "err", err)
		}
		stop()
	}
	m.mu.Lock()
	if m.workers[w.id] == w {
		delete(m.workers, w.id)
	}
	m.mu.Unlock()
	m.met.workers.Dec()
}

// renewals keeps the leases and says that the process lives.
func (m *Manager) renewals(ctx context.Context) {
	t := time.NewTicker(m.cfg.RenewInterval)
	defer t.Stop()
	for {
		m.renew(ctx)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (m *Manager) renew(ctx context.Context) {
	m.mu.Lock()
	leaving := m.leaving
	m.mu.Unlock()
	var err error
	if !leaving {
		var alive []string
		if alive, err = m.st.Heartbeat(ctx, m.o.Owner, m.cfg.LeaseTTL); err == nil {
			m.share(len(alive))
		}
	}
	workers := m.snapshot()
	if len(workers) == 0 {
		return
	}
	leases := make([]store.Held, len(workers))
	for i, w := range workers {
		leases[i] = store.Held{Lease: w.lease, Seq: w.known.Load()}
	}
	until := m.stands(time.Now())
	lost, behind, rerr := m.st.Renew(ctx, leases, m.cfg.LeaseTTL)
	gone := make(map[store.AccountID]bool, len(lost))
	for _, id := range lost {
		gone[id] = true
	}
	if rerr != nil || err != nil {
		m.log.InfoContext(ctx, "leases not renewed", "err", errors.Join(err, rerr))
	}
	for _, w := range workers {
		switch {
		case gone[w.id]:
			w.leaseUntil.Store(nil)
			w.cancel(errLeaseLost)
		case rerr == nil:
			w.leaseUntil.Store(until)
		}
		if slices.Contains(behind, w.id) {
			m.log.WarnContext(ctx, "redis has forgotten events", "account", w.id, "seq", w.known.Load())
			w.forgotten.Store(true)
			w.wake()
		}
	}
}

// share says how many processes live, ourselves included.
func (m *Manager) share(procs int) {
	m.mu.Lock()
	m.procs = max(procs, 1)
	m.mu.Unlock()
	m.pace.share(procs)
}

// handOverRate is how many accounts are handed over a second, and handOverAge how long
// an account stays at least.
const (
	handOverRate = 20
	handOverAge  = time.Minute
)

// handOver ends workers above our share, the longest held first.
func (m *Manager) handOver() {
	m.mu.Lock()
	procs := m.procs
	m.mu.Unlock()
	workers := m.snapshot()
	excess := len(workers) - quota(m.watchable(), procs)
	if procs <= 1 || excess <= 0 {
		return
	}
	slices.SortFunc(workers, func(a, b *worker) int { return cmp.Compare(a.heldSince.UnixNano(), b.heldSince.UnixNano()) })
	for _, w := range workers[:min(excess, handOverRate)] {
		if time.Since(w.heldSince) >= handOverAge {
			w.cancel(errHandover)
		}
	}
}
