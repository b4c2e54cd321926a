package dispatch

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/hibiken/asynq"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/internal/carrier"
	"github.com/postrider/postrider/store"
)

// failed records a failed attempt and does what follows from it: nothing, a task for a
// later try, or a paired try. Its answer is the result of the task.
func (h *haul) failed(ctx context.Context, c *parcel, x exchange, v Verdict) error {
	d := decide(h.route, c.rec, v, h.lane, h.probe, x.start.Add(x.took), x.took, rand.Float64())
	f := h.failure(c, d, x, v)
	h.logAttempt(c, d.rec, x, v, d.rec.Next)
	rep, err := again(ctx, h.core, h.lease, func(ctx context.Context) (store.FailReply, error) {
		return h.store.FailLane(ctx, h.ref, f)
	})
	if err != nil {
		return fmt.Errorf("record attempt of %s: %w", c.id, err)
	}
	h.finish(ctx, rep.LaneReply)
	if rep.Status == store.LanePair {
		if rep, err = h.pair(ctx, c, f, rep); err != nil {
			return err
		}
	}
	return h.conclude(ctx, c, f, rep, x)
}

// failure is what the scripts hear of an attempt.
func (h *haul) failure(c *parcel, d decision, x exchange, v Verdict) store.FailedDelivery {
	d.rec.Code, d.rec.Error = x.status, h.message(x)
	f := store.FailedDelivery{
		Lane: h.lane, Carrier: h.carrier, Own: own(h.carrier, c.pointer), Pointer: c.pointer, Delivery: d.rec,
		Mode: d.mode, Delay: d.delay, Stay: d.delay, Took: x.took, Strict: h.route.Ordering == store.OrderStrict,
		Class: string(v.Class), Scope: string(v.Scope), Code: x.status, Message: d.rec.Error,
		Counts: v.Counts(), Halve: v.Halves(), RetryAfter: v.RetryAfter, Quiet: operational(d.rec.Event),
		Log: h.entry(c, d.rec, x, v),
	}
	if !c.frozen {
		f.Body = c.body
	}
	return h.withLimits(f)
}

func (h *haul) withLimits(f store.FailedDelivery) store.FailedDelivery {
	f.Lease, f.PauseAfter, f.AutoResume = h.lease, h.route.PauseAfter, h.route.AutoResume
	f.Jitter, f.Keep = rand.Float64()/10, h.route.MaxAge+recordSpare
	f.LogMax, f.MaxLate, f.DeadMax, f.DeadKeep = h.cfg.LogPerRoute, h.cfg.MaxLate, maxDead, h.cfg.KeepDead
	return f
}

// undeliverable ends, or holds, a delivery for which no request can be made.
func (h *haul) undeliverable(ctx context.Context, c *parcel) error {
	x := exchange{start: time.Now(), err: c.err}
	switch {
	case errors.Is(c.err, errRetention), errors.Is(c.err, errNoRecord):
		c.rec.State, c.rec.Reason = store.DeliveryDropped, "retention"
		f := h.withLimits(store.FailedDelivery{
			Lane: h.lane, Carrier: h.carrier, Own: own(h.carrier, c.pointer), Pointer: c.pointer, Delivery: c.rec,
			Mode: store.FailEnd, Class: "", Message: c.err.Error(), Quiet: operational(c.rec.Event),
		})
		if f.Delivery.ID == "" { // never attempted, and the event that named it is gone
			f.Delivery.ID = "unnamed-" + c.pointer.Feed
		}
		rep, err := again(ctx, h.core, h.lease, func(ctx context.Context) (store.FailReply, error) {
			return h.store.FailLane(ctx, h.ref, f)
		})
		if err != nil {
			return err
		}
		h.finish(ctx, rep.LaneReply)
		h.m.deliveries.WithLabelValues(h.route.Kind, store.DeliveryDropped, "retention").Inc()
		h.log.Warn("webhook delivery dropped", "route", h.route.ID, "lane", h.lane, "event", c.pointer.Event, "err", c.err)
		return nil
	case c.err != nil:
		return h.failed(ctx, c, x, Verdict{Class: ClassRender, Scope: ScopeOurs})
	}
	x.err = h.broken
	return h.failed(ctx, c, x, Verdict{Class: ClassBlocked})
}

// pair makes a paired try behind a head that fails: is it the endpoint, or this event?
func (h *haul) pair(ctx context.Context, head *parcel, f store.FailedDelivery, rep store.FailReply) (store.FailReply, error) {
	i := partner(head.pointer, rep.Pointers)
	if i < 0 || f.Mode == store.FailEnd {
		return h.endPair(ctx, f, nil, false)
	}
	h.records = true
	parcels, err := h.load(ctx, rep.Pointers[i:i+1])
	if err != nil {
		return store.FailReply{}, h.giveBack(ctx, err)
	}
	c := &parcels[0]
	if c.err != nil {
		// It proves nothing about the endpoint. The head stays and the turn ends; when it
		// comes again the entry will have been dropped, or another one is there.
		return store.FailReply{LaneReply: store.LaneReply{Status: store.LaneHeld}}, h.giveBack(ctx, nil)
	}
	x, v := h.attempt(ctx, c)
	if v.Class == ClassOK {
		turn, err := h.succeeded(ctx, c, x, v, 0, true)
		if err != nil || turn.Status == store.LaneStale {
			return store.FailReply{LaneReply: turn.LaneReply}, err
		}
		return h.endPair(ctx, f, nil, false)
	}
	// The entry keeps its place: whatever the verdict, its own turn comes when it is the head.
	d := decide(h.route, c.rec, v, h.lane, h.probe, x.start.Add(x.took), x.took, rand.Float64())
	d.rec.State, d.rec.Reason = store.DeliveryRetrying, ""
	other := h.failure(c, d, x, v)
	h.logAttempt(c, d.rec, x, v, time.Time{})
	open := v.Scope == ScopeEndpoint && v.Counts() || v.Class == Class5xx && c.pointer.Event != head.pointer.Event
	return h.endPair(ctx, f, &other, open)
}

func (h *haul) endPair(ctx context.Context, f store.FailedDelivery, other *store.FailedDelivery, open bool) (store.FailReply, error) {
	rep, err := again(ctx, h.core, h.lease, func(ctx context.Context) (store.FailReply, error) {
		return h.store.PairLane(ctx, h.ref, f, other, open)
	})
	if err == nil {
		h.finish(ctx, rep.LaneReply)
	}
	return rep, err
}

// conclude turns where the delivery stands now into tasks and the result of this one.
func (h *haul) conclude(ctx context.Context, c *parcel, f store.FailedDelivery, rep store.FailReply, x exchange) error {
	rec := f.Delivery
	switch rep.Status {
	case store.LaneStale:
		h.m.leaseLost.Inc()
		h.m.unrecorded.Inc()
		return nil
	case store.LaneEnded:
		h.m.deliveries.WithLabelValues(h.route.Kind, rec.State, rec.Reason).Inc()
		if !f.Own {
			return nil
		}
		return fmt.Errorf("%s · attempt %d · %s (%s): %w", f.Message, rec.Attempts, rec.State, rec.Reason, asynq.SkipRetry)
	case store.LaneWaiting:
	default:
		return nil // held: the gate's probes and timers go on from here
	}
	if rep.Lane != h.lane {
		h.m.late.Inc()
	}
	due := time.Now().Add(rep.Delay)
	text := fmt.Sprintf("%s · attempt %d · next %s", f.Message, rec.Attempts, carrier.At(due).UTC().Format(time.TimeOnly+"Z"))
	if len(x.body) > 0 {
		text += " · " + oneLine(redact(string(x.body), h.secrets), shownError)
	}
	if f.Own {
		return &carrier.Later{Due: due, Text: text}
	}
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), writeLimit)
	defer stop()
	p := payload{
		Route: payloadRoute{h.route.ID, h.route.Name}, Lane: rep.Lane, Carrier: rep.Carrier, Delivery: c.id,
		Attempts: rec.Attempts, Class: f.Class, Error: text,
	}
	if !h.cfg.IDsOnly && len(c.body) <= maxPayloadEvent {
		p.Event = c.body
	}
	if err := h.carriers.enqueue(ctx, h.route, p, due); err != nil {
		h.log.Warn("next try not enqueued", "route", h.route.ID, "lane", rep.Lane, "err", err) // the sweeper sees to it
	}
	return nil
}

// after does what a script's answer asks for besides tasks.
func (c *core) after(ctx context.Context, r store.Route, rep store.LaneReply) {
	if !rep.Wake.IsZero() {
		c.alarms.Set(r.ID, rep.Wake)
	}
	if rep.Said > 0 {
		if err := c.announce(ctx, r); err != nil {
			c.log.Warn("announce", "route", r.ID, "err", err) // the sweeper does it again
		}
	}
}

// announce puts changes of a route's health into the instance's journal, each once.
func (c *core) announce(ctx context.Context, r store.Route) error {
	list, err := c.store.Announcements(ctx, r.ID)
	if err != nil {
		return err
	}
	for _, a := range list {
		if data, ok := announcement(r, a); ok {
			e := events.Event{Type: data.EventType(), ID: events.NewID("", 0, data.EventType(), r.ID, events.Uint(a.Version)), Data: data}
			if _, err := c.store.AppendOnce(ctx, "", e); err != nil {
				return err
			}
		} else {
			c.log.Error("unknown announcement", "route", r.ID, "kind", a.Kind)
		}
		if err := c.store.Announced(ctx, r.ID, a); err != nil {
			return err
		}
	}
	return nil
}
