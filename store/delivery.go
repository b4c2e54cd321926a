package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/events"
)

// The states a delivery is shown in.
const (
	DeliveryRetrying  = "retrying"
	DeliveryDelivered = "delivered"
	DeliveryExhausted = "exhausted"
	DeliveryDropped   = "dropped"
)

// Delivery is the record of one event for one route, kept from its first failure on.
type Delivery struct {
	ID       string
	EventID  events.ID
	Account  AccountID
	Event    events.Type
	Seq      uint64
	Date     time.Time // of the event
	State    string
	Reason   string
	Late     bool
	Attempts int           // all
	Charged  int           // those that used budget or schedule
	Spared   int           // answers of 429 that were not charged
	Index    int           // next entry of the schedule; -1 = still in the lane
	Used     time.Duration // of the budget, on its own clock
	First    time.Time     // end of the first attempt
	Last     time.Time     // end of the last one
	Next     time.Time
	Class    string
	Code     int
	Error    string
}

func (d Delivery) fields() map[string]string {
	ms := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return strconv.FormatInt(t.UnixMilli(), 10)
	}
	return map[string]string{
		"eventId": string(d.EventID), "account": string(d.Account), "event": string(d.Event),
		"seq": strconv.FormatUint(d.Seq, 10), "date": ms(d.Date), "state": d.State,
		"attempts": strconv.Itoa(d.Attempts), "charged": strconv.Itoa(d.Charged), "spared": strconv.Itoa(d.Spared),
		"index": strconv.Itoa(d.Index), "used": strconv.FormatInt(d.Used.Milliseconds(), 10),
		"first": ms(d.First), "last": ms(d.Last), "next": ms(d.Next),
		"class": d.Class, "code": strconv.Itoa(d.Code), "error": d.Error,
	}
}

func deliveryOf(id string, h map[string]string) Delivery {
	n := func(f string) int64 { v, _ := strconv.ParseInt(h[f], 10, 64); return v }
	return Delivery{
		ID: id, EventID: events.ID(h["eventId"]), Account: AccountID(h["account"]), Event: events.Type(h["event"]),
		Seq: uint64(n("seq")), Date: milli(h["date"]), State: h["state"], Reason: h["reason"], Late: h["late"] == "1",
		Attempts: int(n("attempts")), Charged: int(n("charged")), Spared: int(n("spared")),
		Index: int(n("index")), Used: time.Duration(n("used")) * time.Millisecond,
		First: milli(h["first"]), Last: milli(h["last"]), Next: milli(h["next"]),
		Class: h["class"], Code: int(n("code")), Error: h["error"],
	}
}

// Frozen is a delivery's record with the body all its attempts send.
type Frozen struct {
	Delivery Delivery
	Body     []byte // nil when there is none
}

// Deliveries reads the records there are of the named deliveries, with bodies, in one
// pipeline.
func (s *Store) Deliveries(ctx context.Context, route string, ids ...string) (map[string]Frozen, error) {
	pipe := s.rdb.Pipeline()
	recs, bodies := make([]*redis.MapStringStringCmd, len(ids)), make([]*redis.StringCmd, len(ids))
	for i, id := range ids {
		recs[i] = pipe.HGetAll(ctx, s.k.delivery(route, id))
		bodies[i] = pipe.Get(ctx, s.k.deliveryBody(route, id))
	}
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return nil, unavailable("deliveries", err)
	}
	out := make(map[string]Frozen)
	for i, id := range ids {
		if len(recs[i].Val()) == 0 {
			continue
		}
		body, err := thaw([]byte(bodies[i].Val()))
		if err != nil {
			return nil, fmt.Errorf("body of delivery %s: %w", id, err)
		}
		out[id] = Frozen{deliveryOf(id, recs[i].Val()), body}
	}
	return out, nil
}

// coders are made once: a zstd encoder costs a megabyte.
var coders = sync.OnceValues(func() (*zstd.Encoder, *zstd.Decoder) {
	// Both never fail with constant options.
	e, _ := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	d, _ := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(64<<20))
	return e, d
})

func freeze(body []byte) []byte {
	if len(body) == 0 {
		return nil
	}
	e, _ := coders()
	return e.EncodeAll(body, nil)
}

func thaw(b []byte) ([]byte, error) {
	if len(b) == 0 {
		return nil, nil
	}
	_, d := coders()
	return d.DecodeAll(b, nil)
}

// FailMode is what a failed delivery asks for; see lane_fail.lua.
type FailMode string

// The modes of a failure.
const (
	FailWait  FailMode = "wait"  // again in this lane after Delay
	FailLeave FailMode = "leave" // go on late after Delay
	FailProve FailMode = "prove" // leave, if the endpoint is seen to take others
	FailHold  FailMode = "hold"  // back to ready: the gate is or will be closed
	FailProbe FailMode = "probe" // it was a probe of a closed gate
	FailEnd   FailMode = "end"   // exhausted or dropped
)

// FailedDelivery is a failed attempt, or the end of a delivery without one.
type FailedDelivery struct {
	Lane     Lane
	Carrier  string
	Own      bool // the delivery is the one the task was made for: it keeps its carrier
	Pointer  Pointer
	Delivery Delivery // as it is after this attempt
	Body     []byte   // what was sent; kept from the first failure on

	Mode       FailMode
	Delay      time.Duration // see Mode
	Stay       time.Duration // delay in the lane where leaving is not possible
	Took       time.Duration // the attempt
	Strict     bool          // never a paired try
	Log        string        // attempt as JSON; "" when there was none
	Class      string
	Scope      string // "E", "V", "?" or "O"
	Code       int
	Message    string        // for people: one line, redacted
	Counts     bool          // for streak and breaker
	Halve      bool          // the effective slots
	RetryAfter time.Duration // the whole route waits
	Quiet      bool          // never announce: the event is itself operational

	Lease      time.Duration
	PauseAfter int
	AutoResume bool
	Jitter     float64       // 0–0.1, for probe times
	Keep       time.Duration // of record and body while the delivery lives
	LogMax     int
	MaxLate    int
	DeadMax    int
	DeadKeep   time.Duration
}

// failure is the JSON that the scripts read.
type failure struct {
	Lane       string            `json:"lane"`
	Carrier    string            `json:"car"`
	Own        bool              `json:"own"`
	Pointer    string            `json:"ptr"`
	Delivery   string            `json:"dlv"`
	Event      string            `json:"event"`
	Record     map[string]string `json:"rec"`
	State      string            `json:"state"`
	Reason     string            `json:"reason"`
	Mode       FailMode          `json:"mode"`
	Delay      int64             `json:"delay"`
	Stay       int64             `json:"stay"`
	Took       int64             `json:"took"`
	Strict     bool              `json:"strict"`
	Log        string            `json:"log"`
	Class      string            `json:"class"`
	Scope      string            `json:"scope"`
	Code       int               `json:"code"`
	Message    string            `json:"msg"`
	Counts     bool              `json:"counts"`
	Halve      bool              `json:"halve"`
	RetryAfter int64             `json:"retryAfter"`
	Say        bool              `json:"say"`
	Lease      int64             `json:"lease"`
	PauseAfter int               `json:"pauseAfter"`
	AutoResume bool              `json:"autoResume"`
	Jitter     float64           `json:"jitter"`
	Keep       int64             `json:"keep"`
	LogMax     int               `json:"logMax"`
	MaxLate    int               `json:"maxLate"`
	DeadMax    int               `json:"deadMax"`
	DeadKeep   int64             `json:"deadKeep"`
	Open       bool              `json:"open"`
	Pair       *paired           `json:"pair,omitempty"`
}

type paired struct {
	Delivery string            `json:"dlv"`
	Record   map[string]string `json:"rec"`
	Log      string            `json:"log"`
}

func (f FailedDelivery) wire() failure {
	return failure{
		Lane: string(f.Lane), Carrier: f.Carrier, Own: f.Own, Pointer: f.Pointer.String(),
		Delivery: f.Delivery.ID, Event: string(f.Delivery.Event), Record: f.Delivery.fields(),
		State: f.Delivery.State, Reason: f.Delivery.Reason,
		Mode: f.Mode, Delay: f.Delay.Milliseconds(), Stay: f.Stay.Milliseconds(), Took: f.Took.Milliseconds(), Strict: f.Strict,
		Log: f.Log, Class: f.Class, Scope: f.Scope, Code: f.Code, Message: f.Message,
		Counts: f.Counts, Halve: f.Halve, RetryAfter: f.RetryAfter.Milliseconds(), Say: !f.Quiet,
		Lease: f.Lease.Milliseconds(), PauseAfter: f.PauseAfter, AutoResume: f.AutoResume, Jitter: f.Jitter,
		Keep: int64(f.Keep / time.Second), LogMax: f.LogMax, MaxLate: f.MaxLate, DeadMax: f.DeadMax,
		DeadKeep: f.DeadKeep.Milliseconds(),
	}
}

// FailReply says where a failed delivery stands.
type FailReply struct {
	LaneReply
	Delay    time.Duration // LaneWaiting: until the next try
	Carrier  string        // LaneWaiting: of the lane that waits
	Lane     Lane          // LaneWaiting: the lane that waits
	Pointers []Pointer     // LanePair: what stands behind the head
}

// FailLane records a failed attempt. Status: wait, held, ended, pair, stale.
func (s *Store) FailLane(ctx context.Context, r RouteRef, f FailedDelivery) (FailReply, error) {
	return s.fail(ctx, laneFail, r, f.wire(), f.Body)
}

// PairLane ends a paired try. With failed nil it succeeded (and DoneLane was called for
// it); else failed is the attempt, and open says whether it proves the endpoint down.
// Status: wait, held, stale.
func (s *Store) PairLane(ctx context.Context, r RouteRef, head FailedDelivery, failed *FailedDelivery, open bool) (FailReply, error) {
	w := head.wire()
	if failed == nil {
		return s.fail(ctx, lanePair, r, w, nil)
	}
	o := failed.wire()
	w.Pair = &paired{o.Delivery, o.Record, o.Log}
	w.Event, w.Class, w.Scope, w.Code, w.Message = o.Event, o.Class, o.Scope, o.Code, o.Message
	w.Counts, w.Halve, w.RetryAfter, w.Open = o.Counts, o.Halve, o.RetryAfter, open
	return s.fail(ctx, lanePair, r, w, failed.Body)
}

func (s *Store) fail(ctx context.Context, sc luaScript, r RouteRef, w failure, body []byte) (FailReply, error) {
	b, err := json.Marshal(w)
	if err != nil {
		return FailReply{}, fmt.Errorf("failure of %s: %w", w.Delivery, err)
	}
	rep, rest, err := s.lane(ctx, sc, r, b, freeze(body))
	out := FailReply{LaneReply: rep}
	if err != nil {
		return out, err
	}
	switch rep.Status {
	case LaneWaiting:
		out.Delay, out.Carrier, out.Lane = time.Duration(atoi(rest[0]))*time.Millisecond, rest[1], Lane(rest[2])
	case LanePair:
		out.Pointers, err = pointers(rest)
	}
	return out, err
}

// RouteIDsWithWork are the routes that may have work. It is a hint: see HintWork.
func (s *Store) RouteIDsWithWork(ctx context.Context) ([]string, error) {
	ids, err := s.rdb.SMembers(ctx, s.k.routesWithWork()).Result()
	slices.Sort(ids)
	return ids, unavailable("routes with work", err)
}

// HintWork adds routes to those that may have work, or takes them out.
func (s *Store) HintWork(ctx context.Context, work map[string]bool) error {
	var add, drop []any
	for _, id := range slices.Sorted(maps.Keys(work)) {
		if work[id] {
			add = append(add, id)
		} else {
			drop = append(drop, id)
		}
	}
	pipe := s.rdb.Pipeline()
	if len(add) > 0 {
		pipe.SAdd(ctx, s.k.routesWithWork(), add...)
	}
	if len(drop) > 0 {
		pipe.SRem(ctx, s.k.routesWithWork(), drop...)
	}
	if pipe.Len() == 0 {
		return nil
	}
	_, err := pipe.Exec(ctx)
	return unavailable("routes with work", err)
}
