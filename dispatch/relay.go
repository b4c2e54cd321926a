package dispatch

import (
	"context"
	"errors"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
)

const (
	relayWorkers = 8               // each relays every eighth shard
	relayBatch   = 128             // entries at once
	relayTTL     = 6 * time.Second // of the lease: how long a shard rests after a kill
	relayRenew   = 2 * time.Second
	relayFlush   = 2 * time.Second // what may be written after the end of the context
	hintFor      = 30 * time.Second
)

// Relay moves journal entries into the lanes of the routes that want them. (It relays
// events, not mail.)
type Relay struct {
	core  *core
	dirty atomic.Uint64 // a bit per shard that was kicked
	kicks [relayWorkers]chan struct{}
}

func newRelay(c *core) *Relay {
	r := &Relay{core: c}
	for i := range r.kicks {
		r.kicks[i] = make(chan struct{}, 1)
	}
	return r
}

// Kick says that a shard's feed has something new. It never blocks, may be called at any
// time and by anybody, and a lost kick costs a second.
func (r *Relay) Kick(shard int) {
	if shard < 0 || shard >= store.Shards {
		return
	}
	r.dirty.Or(1 << shard)
	select {
	case r.kicks[shard%relayWorkers] <- struct{}{}:
	default:
	}
}

// Run relays every shard it can get the lease of until ctx ends, and gives the leases up.
func (r *Relay) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for i := range relayWorkers {
		wg.Go(func() {
			w := &relayWorker{relay: r, core: r.core, n: i, hinted: map[string]time.Time{}}
			w.run(ctx)
		})
	}
	wg.Wait()
	return nil
}

// relayWorker owns its shards: it is the only goroutine of the process that reads their
// feeds and appends from them, so a batch is always confirmed before the next.
type relayWorker struct {
	relay  *Relay
	core   *core
	n      int
	shards [store.Shards]relayShard
	hinted map[string]time.Time // routes put into the hint of routes with work
	down   bool                 // Redis did not answer; said once
}

type relayShard struct {
	lease   *store.RelayLease // nil: not ours
	renewed time.Time
	tried   time.Time
	fresh   bool // the batch before was confirmed under this lease: what comes was not sent
}

func (w *relayWorker) run(ctx context.Context) {
	tick := time.NewTicker(w.core.cfg.Poll)
	defer tick.Stop()
	defer w.giveUp(context.WithoutCancel(ctx))
	w.round(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			w.round(ctx)
		case <-w.relay.kicks[w.n]:
			for set := w.mine(); set != 0; set &= set - 1 {
				w.work(ctx, bits.TrailingZeros64(set))
			}
		}
	}
}

// mine takes the kicked shards of this worker.
func (w *relayWorker) mine() uint64 {
	var mask uint64
	for s := w.n; s < store.Shards; s += relayWorkers {
		mask |= 1 << s
	}
	return w.relay.dirty.And(^mask) & mask
}

// round looks at every shard, kicked or not, and after the leases.
func (w *relayWorker) round(ctx context.Context) {
	for s := w.n; s < store.Shards && ctx.Err() == nil; s += relayWorkers {
		w.work(ctx, s)
	}
}

// work relays what a shard has. An error ends the turn; the next one does it again.
func (w *relayWorker) work(ctx context.Context, shard int) {
	s := &w.shards[shard]
	err := w.hold(ctx, shard)
	for more := true; err == nil && s.lease != nil && more && ctx.Err() == nil; {
		more, err = w.batch(ctx, shard)
	}
	switch {
	case err == nil:
		w.down = false
	case ctx.Err() != nil:
	case errors.Is(err, store.ErrLeaseLost), errors.Is(err, store.ErrFenced):
		w.core.m.leaseLost.Inc()
		w.core.log.Info("relay lost its lease", "shard", shard)
		*s = relayShard{}
	default:
		s.fresh = false
		if !w.down || !errors.Is(err, store.ErrUnavailable) {
			w.core.log.Warn("relay", "shard", shard, "err", err)
		}
		w.down = errors.Is(err, store.ErrUnavailable)
	}
}

// hold takes or renews the lease of a shard. Another's lease is no error.
func (w *relayWorker) hold(ctx context.Context, shard int) error {
	s, now := &w.shards[shard], time.Now()
	if s.lease != nil {
		if now.Sub(s.renewed) < relayRenew {
			return nil
		}
		if err := w.core.store.AdvanceRelay(ctx, *s.lease, "", relayTTL); err != nil {
			return err
		}
		s.renewed = now
		return nil
	}
	if now.Sub(s.tried) < relayRenew && !s.tried.IsZero() {
		return nil
	}
	s.tried = now
	l, err := w.core.store.AcquireRelay(ctx, shard, w.core.instance, relayTTL)
	if errors.Is(err, store.ErrLeaseHeld) {
		return nil
	}
	if err != nil {
		s.tried = time.Time{}
		return err
	}
	*s = relayShard{lease: &l, renewed: now}
	return nil
}

// batch relays the next entries and stores how far it came; more says that there may be
// others.
func (w *relayWorker) batch(ctx context.Context, shard int) (more bool, err error) {
	s, begun := &w.shards[shard], time.Now()
	entries, err := w.core.store.Feed(ctx, shard, s.lease.Position, relayBatch)
	if err != nil || len(entries) == 0 {
		return false, err
	}
	routes, err := w.routes(ctx, entries)
	if err != nil {
		return false, err
	}
	known, err := w.known(ctx, routes, entries)
	if err != nil {
		return false, err
	}
	wanted := map[string][]store.Appending{}
	for _, e := range entries {
		event := events.Event{Account: string(e.Account), Type: e.Type, Seq: e.Seq}
		if k := known[eventKey{e.Account, e.Seq}]; k != nil {
			event = *k
		} else if routes.needsData(e.Account, e.Type) {
			w.core.m.deliveries.WithLabelValues("", store.DeliveryDropped, "retention").Inc()
			w.core.log.Warn("event left the journal before it was relayed", "account", e.Account, "event", e.Type, "seq", e.Seq)
			continue
		}
		for _, r := range routes.Match(event) {
			wanted[r.ID] = append(wanted[r.ID], store.Appending{
				Lane: store.AccountLane(e.Account), Pointer: store.Pointer{Feed: e.ID, Seq: e.Seq, Event: e.Type},
			})
		}
	}
	if err := w.hint(ctx, wanted); err != nil {
		return false, err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(enqueuers)
	for id, list := range wanted {
		r, _ := routes.Route(id)
		g.Go(func() error { return w.append(gctx, shard, s, r, list, known) })
	}
	if err := g.Wait(); err != nil {
		return false, err
	}
	last := entries[len(entries)-1].ID
	// What was appended is worth its position, even if the context has just ended.
	flush, stop := context.WithTimeout(context.WithoutCancel(ctx), relayFlush)
	defer stop()
	if err := w.core.store.AdvanceRelay(flush, *s.lease, last, relayTTL); err != nil {
		return false, err
	}
	s.lease.Position, s.renewed, s.fresh = last, time.Now(), true
	w.core.m.batch.Observe(time.Since(begun).Seconds())
	return len(entries) == relayBatch, nil
}

// known reads the events of a batch that a pointer does not tell enough of to match
// them. The others are not read here, and one of them that has left the journal is found,
// and its loss counted, by who delivers it.
func (w *relayWorker) known(ctx context.Context, routes *Routes, entries []store.FeedEntry) (map[eventKey]*events.Event, error) {
	var read []store.FeedEntry
	for _, e := range entries {
		if routes.needsData(e.Account, e.Type) {
			read = append(read, e)
		}
	}
	if len(read) == 0 {
		return nil, nil
	}
	known := make(map[eventKey]*events.Event, len(read))
	for len(read) > 0 {
		evs, err := w.core.store.Entries(ctx, read)
		if err != nil {
			return nil, err
		}
		for i, e := range evs {
			if e != nil {
				m := events.Meta(*e)
				known[eventKey{read[i].Account, read[i].Seq}] = &m
			}
		}
		read = read[len(evs):]
	}
	return known, nil
}

// routes is the snapshot to match against. The event that registers or deletes an account
// must find the account's own URL there.
func (w *relayWorker) routes(ctx context.Context, entries []store.FeedEntry) (*Routes, error) {
	for _, e := range entries {
		if e.Type == events.AccountAddedType || e.Type == events.AccountDeletedType {
			return w.core.table.Refresh(ctx)
		}
	}
	return w.core.table.Routes(ctx)
}

func (w *relayWorker) append(ctx context.Context, shard int, s *relayShard, r store.Route, list []store.Appending, known map[eventKey]*events.Event) error {
	rep, err := w.core.store.AppendLanes(ctx, ref(r), shard, s.lease.Fence, s.fresh, w.core.cfg.MaxPending, list)
	if err != nil {
		return err
	}
	w.core.m.repeats.Add(float64(rep.Repeats))
	w.core.m.rollback.Add(float64(rep.Bumped))
	if rep.Dropped > 0 {
		w.core.m.deliveries.WithLabelValues(r.Kind, store.DeliveryDropped, "heldCap").Add(float64(rep.Dropped))
	}
	w.core.carriers.release(ctx, r, rep.Released, known)
	w.core.after(ctx, r, rep.LaneReply)
	return nil
}

// hint puts the routes about to get work into the set the sweeper looks at.
func (w *relayWorker) hint(ctx context.Context, wanted map[string][]store.Appending) error {
	now, work := time.Now(), map[string]bool{}
	for id := range wanted {
		if now.Sub(w.hinted[id]) > hintFor {
			work[id] = true
		}
	}
	if err := w.core.store.HintWork(ctx, work); err != nil {
		return err
	}
	for id := range work {
		w.hinted[id] = now
	}
	return nil
}

// giveUp lets another process have the shards at once.
func (w *relayWorker) giveUp(ctx context.Context) {
	ctx, stop := context.WithTimeout(ctx, relayFlush)
	defer stop()
	for i := range w.shards {
		if l := w.shards[i].lease; l != nil {
			if err := w.core.store.ReleaseRelay(ctx, *l); err != nil {
				w.core.log.Debug("release relay", "shard", i, "err", err)
				return
			}
		}
	}
}
