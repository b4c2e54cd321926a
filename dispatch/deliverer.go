package dispatch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"

	"github.com/postrider/postrider/internal/carrier"
	"github.com/postrider/postrider/store"
)

const (
	prefetch    = 16              // pointers taken at once
	turnEvents  = 100             // deliveries of one turn, and
	turnTime    = 2 * time.Second // its time, before another lane may have the slot
	leaseSpare  = 10 * time.Second
	writeLimit  = 5 * time.Second // one write of an outcome
	recordSpare = 7 * 24 * time.Hour
)

// Deliverer handles carriers: it delivers what is in their lanes.
type Deliverer struct {
	*core
	limits   *limits
	quiet    *quiet
	post     poster
	agent    string
	busy     atomic.Int64
	draining atomic.Bool
}

// ProcessTask implements asynq.Handler. It may be run twice, or for a lane that another
// task carries by now: it trusts only what the lane's scripts confirm.
func (d *Deliverer) ProcessTask(ctx context.Context, t *asynq.Task) (err error) {
	defer func() {
		if v := recover(); v != nil {
			d.m.panics.Inc()
			d.log.Error("panic in a delivery", "err", fmt.Sprint(v), "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	var p payload
	if err := json.Unmarshal(t.Payload(), &p); err != nil {
		return fmt.Errorf("task payload: %w: %w", err, asynq.SkipRetry)
	}
	err = d.carry(ctx, p)
	if err != nil && !carrier.Ours(err) && ctx.Err() == nil {
		d.log.Warn("lane not served", "route", p.Route.ID, "lane", p.Lane, "err", err)
	}
	return err
}

// carry serves the lane of a task.
func (d *Deliverer) carry(ctx context.Context, p payload) error {
	r, ok, err := d.route(ctx, p.Route.ID)
	if err != nil || !ok {
		return err // a route that is no more: the sweeper drops its lanes
	}
	d.busy.Add(1)
	defer d.busy.Add(-1)
	h := &haul{Deliverer: d, route: r, ref: ref(r), lane: p.Lane, carrier: p.Carrier, lease: r.Timeout + leaseSpare}
	if h.target, err = parseTarget(r.Target.Reveal()); err != nil && r.Enabled {
		h.broken = err
	}
	h.secrets = secretsOf(r, h.target)
	return h.run(ctx, store.LateLane(p.Delivery))
}

// route looks a route up, and once more in a new snapshot: an account may have been
// registered in another process a moment ago.
func (d *Deliverer) route(ctx context.Context, id string) (store.Route, bool, error) {
	rs, err := d.table.Routes(ctx)
	if err != nil {
		return store.Route{}, false, err
	}
	r, ok := rs.Route(id)
	if ok {
		return r, true, nil
	}
	if rs, err = d.table.Refresh(ctx); err != nil {
		return store.Route{}, false, err
	}
	r, ok = rs.Route(id)
	return r, ok, nil
}

// haul is one task's turn with a lane. One goroutine owns it.
type haul struct {
	*Deliverer
	route   store.Route
	ref     store.RouteRef
	target  target
	broken  error // of the target
	secrets []string
	lane    store.Lane
	carrier string
	lease   time.Duration
	probe   bool
	records bool
}

// parcel is one delivery of a lane.
type parcel struct {
	pointer store.Pointer
	id      string
	rec     store.Delivery // Attempts 0: nothing is recorded
	stored  bool           // there is a record
	body    []byte
	frozen  bool
	err     error // the event cannot be delivered
}

func (h *haul) run(ctx context.Context, late store.Lane) error {
	turn, err := h.store.BeginLane(ctx, h.ref, h.lane, late, h.carrier, h.lease, h.proc, prefetch)
	if err != nil {
		return err
	}
	h.finish(ctx, turn.LaneReply)
	switch turn.Status {
	case store.LaneEarly:
		return &carrier.Later{Due: time.Now().Add(turn.Pace), Text: "not due yet"}
	case store.LaneRun:
	default:
		return nil
	}
	h.lane, h.probe = turn.Lane, turn.Probe
	begun, done := time.Now(), 0
	for {
		h.records = h.records || turn.Records
		if len(turn.Pointers) == 0 {
			return nil
		}
		parcels, err := h.load(ctx, turn.Pointers)
		if err != nil {
			return h.giveBack(ctx, err)
		}
		for i := range parcels {
			if h.draining.Load() || ctx.Err() != nil {
				return h.giveBack(ctx, nil)
			}
			if err := carrier.Pause(ctx, turn.Pace); err != nil {
				return h.giveBack(ctx, nil)
			}
			next, over, err := h.deliver(ctx, &parcels[i], i == len(parcels)-1)
			if over {
				return err
			}
			turn = next
			done++
			if i < len(parcels)-1 && (done >= turnEvents || time.Since(begun) >= turnTime) {
				break
			}
		}
		if done >= turnEvents || time.Since(begun) >= turnTime {
			if turn, err = h.yield(ctx, h.mayStay(ctx)); err != nil || turn.Status != store.LaneNext {
				return err
			}
			begun, done = time.Now(), 0
		}
	}
}

// mayStay: nobody in this process waits for a worker, and the task has time for another
// turn.
func (h *haul) mayStay(ctx context.Context) string {
	end, ok := ctx.Deadline()
	if ok && time.Until(end) < h.route.Timeout+turnTime+leaseSpare || h.busy.Load() >= int64(h.cfg.Concurrency)*9/10 {
		return store.YieldTail
	}
	return store.YieldKeep
}

func (h *haul) yield(ctx context.Context, how string) (store.Turn, error) {
	turn, err := again(ctx, h.core, h.lease, func(ctx context.Context) (store.Turn, error) {
		return h.store.YieldLane(ctx, h.ref, h.lane, h.carrier, how, h.lease, prefetch)
	})
	if err == nil {
		h.finish(ctx, turn.LaneReply)
	}
	return turn, err
}

// giveBack ends a turn that was cut short: the lane comes first again. err is what cut it.
func (h *haul) giveBack(ctx context.Context, err error) error {
	_, yerr := h.yield(ctx, store.YieldFront)
	return errors.Join(err, yerr)
}

// load gets what a batch of deliveries needs in one or two round trips: events from the
// journal, and records and frozen bodies where there may be any.
func (h *haul) load(ctx context.Context, ps []store.Pointer) ([]parcel, error) {
	account, ok := h.lane.Account()
	parcels := make([]parcel, len(ps))
	if !ok { // a late delivery, alone in its lane: its record says whose it is
		id := string(h.lane[len("d:"):])
		recs, err := h.store.Deliveries(ctx, h.route.ID, id)
		if err != nil {
			return nil, err
		}
		f, ok := recs[id]
		if !ok {
			parcels[0] = parcel{pointer: ps[0], id: id, rec: store.Delivery{ID: id, Event: ps[0].Event, Seq: ps[0].Seq, Index: -1}, err: errNoRecord}
			return parcels[:1], nil
		}
		parcels[0] = parcel{pointer: ps[0], id: id, rec: f.Delivery, stored: true, body: f.Body, frozen: len(f.Body) > 0}
		account = f.Delivery.Account
		ps = ps[:1]
	}
	entries := make([]store.FeedEntry, len(ps))
	for i, p := range ps {
		entries[i] = store.FeedEntry{ID: p.Feed, Account: account, Seq: p.Seq, Type: p.Event}
	}
	evs, err := h.store.Entries(ctx, entries)
	if err != nil {
		return nil, err
	}
	parcels = parcels[:len(evs)] // the others are taken again with the next turn
	ids := make([]string, 0, len(ps))
	for i, e := range evs {
		c := &parcels[i]
		c.pointer = ps[i]
		if c.stored && c.frozen {
			continue
		}
		if e == nil {
			if c.err = errRetention; !c.stored {
				c.rec = store.Delivery{Account: account, Event: ps[i].Event, Seq: ps[i].Seq, Index: -1}
			}
			continue
		}
		c.id = DeliveryID(h.route.ID, e.ID, "")
		if !c.stored {
			c.rec = store.Delivery{ID: c.id, EventID: e.ID, Account: account, Event: e.Type, Seq: e.Seq, Date: e.Date.Time, Index: -1}
		}
		if c.body, c.err = e.Encode(); c.err != nil {
			c.err = fmt.Errorf("render: %w", c.err)
		}
		ids = append(ids, c.id)
	}
	if !ok || !h.records || len(ids) == 0 {
		return parcels, nil
	}
	recs, err := h.store.Deliveries(ctx, h.route.ID, ids...)
	if err != nil {
		return nil, err
	}
	for i := range parcels {
		c := &parcels[i]
		f, ok := recs[c.id]
		if !ok || f.Delivery.State != store.DeliveryRetrying {
			continue // nothing, or what is left of an end that was not recorded here
		}
		c.rec, c.stored = f.Delivery, true
		if len(f.Body) > 0 {
			c.body, c.frozen, c.err = f.Body, true, nil
		}
	}
	return parcels, nil
}

var (
	errRetention = errors.New("the event left the journal before it was delivered")
	errNoRecord  = errors.New("the record of a late delivery is gone")
)

// attempt makes one request for a parcel.
func (h *haul) attempt(ctx context.Context, c *parcel) (exchange, Verdict) {
	x := exchange{start: time.Now()}
	hd, err := headers(h.route, h.target, letter{
		id: c.id, eventID: string(c.rec.EventID), seq: c.rec.Seq, date: c.rec.Date, attempt: c.rec.Attempts + 1,
		late: h.lane.Late(), body: c.body, now: x.start, userAgent: h.agent,
	})
	if err != nil {
		x.err = err
		return x, Verdict{Class: ClassRender, Scope: ScopeOurs}
	}
	h.m.inflight.Inc()
	x = h.post.send(ctx, h.target, hd, c.body, h.route.Timeout)
	h.m.inflight.Dec()
	v := Classify(x.status, x.header, x.err, h.route.DropOn, time.Now())
	h.m.attempts.WithLabelValues(h.route.Kind, string(v.Class)).Inc()
	h.m.seconds.WithLabelValues(h.route.Kind).Observe(x.took.Seconds())
	h.m.bodyBytes.Observe(float64(len(c.body)))
	if v.Class == ClassBlocked {
		h.m.refused.Inc()
	}
	return x, v
}

// deliver delivers the head of the lane. over says that the task has nothing more to do,
// and err is then its result.
func (h *haul) deliver(ctx context.Context, c *parcel, last bool) (turn store.Turn, over bool, err error) {
	if c.err != nil || h.broken != nil {
		return turn, true, h.undeliverable(ctx, c)
	}
	leave, ok := h.limits.enter(ctx, h.route.ID, h.target.url.Scheme+"://"+h.target.url.Host)
	if !ok {
		_, err := h.yield(ctx, store.YieldTail)
		return turn, true, err
	}
	x, v := h.attempt(ctx, c)
	leave(x.took, v.Class == ClassTimeout)
	if v.Class != ClassOK {
		return turn, true, h.failed(ctx, c, x, v)
	}
	want := 0
	if last {
		want = prefetch
	}
	turn, err = h.succeeded(ctx, c, x, v, want, false)
	if err != nil || turn.Status != store.LaneNext {
		return turn, true, err
	}
	return turn, false, nil
}

func (h *haul) succeeded(ctx context.Context, c *parcel, x exchange, v Verdict, want int, paired bool) (store.Turn, error) {
	rec := c.rec
	rec.Attempts++
	d := store.Delivered{
		Lane: h.lane, Carrier: h.carrier, Pointer: c.pointer, Lease: h.lease, Want: want, Paired: paired,
		Log: h.entry(c, rec, x, v), LogMax: h.cfg.LogPerRoute,
	}
	if c.stored {
		d.Record = c.id
	}
	turn, err := again(ctx, h.core, h.lease, func(ctx context.Context) (store.Turn, error) {
		return h.store.DoneLane(ctx, h.ref, d)
	})
	h.logAttempt(c, rec, x, v, time.Time{})
	if err != nil {
		return turn, fmt.Errorf("record delivery %s: %w", c.id, err)
	}
	if turn.Status == store.LaneStale {
		h.m.leaseLost.Inc()
		h.m.unrecorded.Inc()
	} else {
		h.m.deliveries.WithLabelValues(h.route.Kind, store.DeliveryDelivered, "").Inc()
	}
	h.finish(ctx, turn.LaneReply)
	return turn, nil
}

// finish does what a script's answer asks for: tasks for released lanes, alarms for
// gates, announcements. It outlives the end of ctx by a little, for a lane released by a
// last act would wait for the sweeper otherwise.
func (h *haul) finish(ctx context.Context, rep store.LaneReply) {
	if len(rep.Released) == 0 && rep.Said == 0 && rep.Wake.IsZero() {
		return
	}
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), writeLimit)
	defer stop()
	h.carriers.release(ctx, h.route, rep.Released, nil)
	h.after(ctx, h.route, rep)
}

// again repeats a write until it succeeds or the lease has ended: a request was made, and
// its outcome must not be lost to a moment without Redis. Every write may be repeated.
func again[T any](ctx context.Context, c *core, lease time.Duration, write func(context.Context) (T, error)) (T, error) {
	end := time.Now().Add(lease)
	ctx = context.WithoutCancel(ctx) // bounded by the lease
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		wctx, stop := context.WithTimeout(ctx, writeLimit)
		v, err := write(wctx)
		stop()
		if err == nil || !errors.Is(err, store.ErrUnavailable) || time.Now().Add(wait).After(end) {
			if err != nil {
				c.m.unrecorded.Inc()
			}
			return v, err
		}
		_ = carrier.Pause(ctx, wait)
	}
}
