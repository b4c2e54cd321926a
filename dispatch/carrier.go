package dispatch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/hibiken/asynq"
	"golang.org/x/sync/errgroup"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/internal/carrier"
	"github.com/postrider/postrider/store"
)

// payload is what a carrier's task holds. It is for people: the worker trusts Route,
// Lane, Carrier and Delivery only as far as the lane's scripts confirm them.
type payload struct {
	Route    payloadRoute    `json:"route"`
	Lane     store.Lane      `json:"lane"`
	Carrier  string          `json:"carrier"`
	Delivery string          `json:"delivery,omitempty"`
	Attempts int             `json:"attempts,omitempty"`
	Class    string          `json:"lastClass,omitempty"`
	Error    string          `json:"lastError,omitempty"`
	Event    json.RawMessage `json:"event,omitempty"`
}

type payloadRoute struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

const (
	maxPayloadEvent = 8 << 10 // an event beyond it is left out of the task
	enqueuers       = 16      // one by one the relay would be the bottleneck
)

// carriers makes asynq tasks for lanes that were released. It is safe for concurrent use.
type carriers struct {
	store  *store.Store
	client *asynq.Client
	cfg    Config
	log    *slog.Logger
}

// eventKey finds an event that the caller has at hand.
type eventKey struct {
	account store.AccountID
	seq     uint64
}

// release enqueues the tasks of lanes just released. What fails is logged and not
// repeated: the lane's lease of five seconds ends and the sweeper makes another carrier.
func (c *carriers) release(ctx context.Context, r store.Route, lanes []store.Released, known map[eventKey]*events.Event) {
	if len(lanes) == 0 {
		return
	}
	var g errgroup.Group // no context of its own: one lane's failure is not another's
	g.SetLimit(enqueuers)
	for _, l := range lanes {
		g.Go(func() error {
			p := payload{Route: payloadRoute{r.ID, r.Name}, Lane: l.Lane, Carrier: l.Carrier}
			if err := c.describe(ctx, r, l, &p, known); err != nil { // it is for people: the task works without
				c.log.Info("task not described", "route", r.ID, "lane", l.Lane, "err", err)
			}
			return c.enqueue(ctx, r, p, time.Time{})
		})
	}
	if err := g.Wait(); err != nil {
		c.log.Warn("lanes released and not enqueued", "route", r.ID, "err", err)
	}
}

// describe fills in what people see of a lane's head.
func (c *carriers) describe(ctx context.Context, r store.Route, l store.Released, p *payload, known map[eventKey]*events.Event) error {
	account, ok := l.Lane.Account()
	if !ok {
		id, _ := strings.CutPrefix(string(l.Lane), "d:")
		recs, err := c.store.Deliveries(ctx, r.ID, id)
		if err != nil {
			return err
		}
		rec := recs[id].Delivery
		p.Delivery, p.Attempts, p.Class, p.Error = id, rec.Attempts, rec.Class, rec.Error
		account = rec.Account
	}
	e := known[eventKey{account, l.Head.Seq}]
	if e == nil {
		es, err := c.store.Entries(ctx, []store.FeedEntry{{ID: l.Head.Feed, Account: account, Seq: l.Head.Seq, Type: l.Head.Event}})
		if err != nil {
			return err
		}
		if e = es[0]; e == nil {
			return nil // the journal has forgotten it; the worker ends the delivery
		}
	}
	p.Delivery = DeliveryID(r.ID, e.ID, "")
	if c.cfg.IDsOnly {
		return nil
	}
	b, err := events.Meta(*e).Encode()
	if err != nil {
		return err
	}
	if len(b) <= maxPayloadEvent {
		p.Event = b
	}
	return nil
}

// enqueue makes the task of a carrier, due at a time or at once. A task that is there
// already is as good as a new one: its id names lane and generation.
func (c *carriers) enqueue(ctx context.Context, r store.Route, p payload, due time.Time) error {
	b, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("task of lane %s: %w", p.Lane, err)
	}
	opts := []asynq.Option{
		asynq.Queue(Queue), asynq.MaxRetry(carrier.MaxRetry), asynq.Timeout(2*r.Timeout + 30*time.Second),
		asynq.TaskID(r.ID + "/" + string(p.Lane) + "/" + p.Carrier), asynq.Retention(c.cfg.KeepCompleted),
	}
	if !due.IsZero() {
		opts = append(opts, asynq.ProcessAt(carrier.At(due)))
	}
	_, err = c.client.EnqueueContext(ctx, asynq.NewTask(TaskType, b), opts...)
	if err != nil && !errors.Is(err, asynq.ErrTaskIDConflict) {
		return fmt.Errorf("enqueue lane %s: %w", p.Lane, err)
	}
	return nil
}

// own says whether a carrier was made for that event.
func own(carrier string, p store.Pointer) bool {
	feed, _, _ := strings.Cut(carrier, "/")
	return feed == p.Feed
}
