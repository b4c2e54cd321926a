package dispatch

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
)

const (
	beatEvery  = 3 * time.Second
	beatTTL    = 10 * time.Second
	sweepTTL   = 15 * time.Second
	fullRound  = 12 // every twelfth round looks at all routes, not only at those that may have work
	dropSlice  = 500
	goneRounds = 2 // rounds in which a route must be missing before its lanes are dropped
)

// Sweeper sees to it that a lane with work has a carrier. Every process runs one; one of
// them sweeps, by lease. It also keeps the process's heartbeat and the alarms of gates.
type Sweeper struct {
	core  *core
	alive []string
	round int
	gone  map[string]int // routes with work that are in no snapshot → rounds in a row
}

// Run sweeps until ctx ends.
func (s *Sweeper) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { s.core.alarms.Run(ctx, func(id string) { s.wake(ctx, id) }) })
	s.gone = map[string]int{}
	beat, tick := time.NewTicker(beatEvery), time.NewTicker(s.core.cfg.Sweep)
	defer beat.Stop()
	defer tick.Stop()
	s.heartbeat(ctx)
	s.bury(ctx)
	round := func() {
		if err := s.sweep(ctx); err != nil && ctx.Err() == nil {
			s.core.log.Warn("sweep", "err", err)
		}
	}
	round()
	for {
		select {
		case <-tick.C:
			round()
		case <-beat.C:
			s.heartbeat(ctx)
		case <-ctx.Done():
			wg.Wait()
			s.end(context.WithoutCancel(ctx))
			return nil
		}
	}
}

// heartbeat says that the process lives; what it hears of the others is used at the next
// sweep.
func (s *Sweeper) heartbeat(ctx context.Context) {
	alive, err := s.core.store.DispatchBeat(ctx, s.core.proc, beatTTL)
	if err != nil {
		s.alive = nil // unknown: only leases count
		return
	}
	s.alive = alive
}

// bury ends the heartbeats of those that had this instance's name before us: there is one
// at a time, so they are dead, and their lanes need not wait until that shows.
func (s *Sweeper) bury(ctx context.Context) {
	for _, proc := range s.alive {
		if proc == s.core.proc || !strings.HasPrefix(proc, s.core.instance+"/") {
			continue
		}
		if err := s.core.store.DispatchRetire(ctx, proc); err != nil {
			s.core.log.Debug("retire predecessor", "err", err)
		}
	}
	s.heartbeat(ctx)
}

// end lets another process sweep at once. The heartbeat ends by itself: the server of
// this process may still have requests in flight.
func (s *Sweeper) end(ctx context.Context) {
	ctx, stop := context.WithTimeout(ctx, relayFlush)
	defer stop()
	if err := s.core.store.ReleaseSweeper(ctx, s.core.instance); err != nil {
		s.core.log.Debug("release sweeper", "err", err)
	}
}

func (s *Sweeper) sweep(ctx context.Context) error {
	err := s.core.store.AcquireSweeper(ctx, s.core.instance, sweepTTL)
	if errors.Is(err, store.ErrLeaseHeld) {
		return nil
	}
	if err != nil {
		return err
	}
	routes, err := s.core.table.Routes(ctx)
	if err != nil {
		return err
	}
	ids, err := s.core.store.RouteIDsWithWork(ctx)
	if err != nil {
		return err
	}
	hinted := make(map[string]bool, len(ids))
	for _, id := range ids {
		hinted[id] = true
	}
	if s.round++; s.round%fullRound == 1 {
		ids = append(ids, routes.IDs()...)
	}
	s.core.m.sweeps.WithLabelValues("rounds").Inc()
	what := store.SweepLive
	if len(s.alive) == 0 {
		what = store.SweepLate
	}
	work := map[string]bool{}
	for _, id := range ids {
		if ctx.Err() != nil {
			return nil
		}
		if _, done := work[id]; done {
			continue
		}
		r, ok := routes.Route(id)
		if !ok {
			work[id] = true
			if err := s.dropGone(ctx, id, work); err != nil {
				return err
			}
			continue
		}
		delete(s.gone, id)
		busy, err := s.route(ctx, r, what)
		if err != nil {
			return err
		}
		work[id] = busy
	}
	for id, busy := range work {
		if busy == hinted[id] {
			delete(work, id)
		}
	}
	return s.core.store.HintWork(ctx, work)
}

// route sweeps one route and says whether it may have work.
func (s *Sweeper) route(ctx context.Context, r store.Route, what string) (bool, error) {
	rep, swept, work, err := s.core.store.SweepLanes(ctx, ref(r), what, s.alive)
	if err != nil {
		return false, err
	}
	if swept > 0 {
		s.core.m.carrierLost.Add(float64(swept))
		s.core.m.sweeps.WithLabelValues("lanes").Add(float64(swept))
		s.core.log.Info("lanes without carrier", "route", r.ID, "lanes", swept)
	}
	s.core.carriers.release(ctx, r, rep.Released, nil)
	s.core.after(ctx, r, rep)
	if work {
		if err := s.core.announce(ctx, r); err != nil {
			return true, err
		}
	}
	return work, nil
}

// dropGone drops what is pending for a route that is no more.
func (s *Sweeper) dropGone(ctx context.Context, id string, work map[string]bool) error {
	if s.gone[id]++; s.gone[id] < goneRounds {
		return nil
	}
	total := 0
	for {
		n, version, end, err := s.core.store.DropRoute(ctx, id, dropSlice)
		if err != nil {
			return err
		}
		total += n
		if !end {
			continue
		}
		delete(s.gone, id)
		work[id] = false
		if total == 0 {
			return nil
		}
		s.core.log.Info("route is gone, its deliveries are dropped", "route", id, "deliveries", total)
		s.core.m.deliveries.WithLabelValues(store.RouteAccount, store.DeliveryDropped, "routeDeleted").Add(float64(total))
		data := events.WebhookDropped{Route: events.Route{ID: id}, Count: total, Reason: "routeDeleted"}
		_, err = s.core.store.AppendOnce(ctx, "", events.Event{
			Type: data.EventType(), ID: events.NewID("", 0, data.EventType(), id, events.Uint(version)), Data: data,
		})
		return err
	}
}

// wake looks at a route whose gate may open now.
func (s *Sweeper) wake(ctx context.Context, id string) {
	routes, err := s.core.table.Routes(ctx)
	if err != nil {
		return // the sweep comes by anyway
	}
	r, ok := routes.Route(id)
	if !ok {
		return
	}
	rep, _, _, err := s.core.store.SweepLanes(ctx, ref(r), store.SweepNone, nil)
	if err != nil {
		return
	}
	s.core.carriers.release(ctx, r, rep.Released, nil)
	s.core.after(ctx, r, rep)
}
