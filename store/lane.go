package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/events"
)

// Lane is the queue of one route and one account. A lane with work is in exactly one
// state: ready, running (carrier, slot, lease), waiting (carrier, no slot), or held in
// ready by a closed gate.
type Lane string

// AccountLane is the lane of an account's events under the orderings account and strict.
func AccountLane(id AccountID) Lane { return Lane("a:" + string(id)) }

// LateLane is the lane of a single delivery that left the lane it came in.
func LateLane(delivery string) Lane { return Lane("d:" + delivery) }

// Account is whose events an account's lane holds; ok is false for other lanes.
func (l Lane) Account() (id AccountID, ok bool) {
	s, ok := strings.CutPrefix(string(l), "a:")
	return AccountID(s), ok
}

// Late says whether the lane is that of a late delivery.
func (l Lane) Late() bool { return strings.HasPrefix(string(l), "d:") }

// Pointer names an event in a lane: the place in the feed it was taken from, its number
// in the journal of its account, and its name.
type Pointer struct {
	Feed  string
	Seq   uint64
	Event events.Type
}

// String is the stored form.
func (p Pointer) String() string {
	return p.Feed + " " + strconv.FormatUint(p.Seq, 10) + " " + string(p.Event)
}

// ParsePointer reads the stored form.
func ParsePointer(s string) (Pointer, error) {
	parts := strings.SplitN(s, " ", 3)
	if len(parts) != 3 {
		return Pointer{}, fmt.Errorf("pointer %q: want three words", s)
	}
	seq, err := strconv.ParseUint(parts[1], 10, 64)
	if err != nil {
		return Pointer{}, fmt.Errorf("pointer %q: %w", s, err)
	}
	return Pointer{Feed: parts[0], Seq: seq, Event: events.Type(parts[2])}, nil
}

// RouteRef is what lane scripts must know of a route at each call.
type RouteRef struct {
	ID      string
	Slots   int    // lanes that may run at once; 0 while the route is switched off
	Version string // see Route.Version
}

// Released is a lane that was given a carrier. Whoever is answered it enqueues its task;
// if that does not happen within 5 s, a sweep gives the lane another carrier.
type Released struct {
	Lane    Lane
	Carrier string
	Head    Pointer
	Probe   bool
}

// LaneStatus is how a lane script ended.
type LaneStatus string

// The ways lane scripts end; which of them do is said by each.
const (
	LaneOK      LaneStatus = "ok"
	LaneSame    LaneStatus = "same"    // nothing to do
	LaneFenced  LaneStatus = "fenced"  // a relay with a higher fence was here
	LaneStale   LaneStatus = "stale"   // the carrier is not this one: write nothing more
	LaneRun     LaneStatus = "run"     // the lane runs, deliver
	LaneEarly   LaneStatus = "early"   // not due yet
	LaneHeld    LaneStatus = "held"    // back in ready; the task is over
	LaneNext    LaneStatus = "next"    // deliver on
	LaneEmpty   LaneStatus = "empty"   // nothing left; the task is over
	LaneYielded LaneStatus = "yielded" // another task goes on
	LaneWaiting LaneStatus = "wait"    // between two tries
	LaneEnded   LaneStatus = "ended"   // the delivery has ended; the task is over
	LanePair    LaneStatus = "pair"    // make a paired try
	LaneMore    LaneStatus = "more"    // not finished, call again
	LaneEnd     LaneStatus = "end"     // finished
)

// LaneReply is what every lane script answers.
type LaneReply struct {
	Status   LaneStatus
	Said     int       // announcements made, see Announcements
	Wake     time.Time // when a closed gate wants a Sweep; zero = not
	Released []Released
}

// laneScript loads a lane script with what all of them share in front of it.
func laneScript(name string, libs ...string) luaScript {
	return script(name, append([]string{"lane_lib.lua"}, libs...)...)
}

var (
	laneAppend = laneScript("lane_append.lua")
	laneBegin  = laneScript("lane_begin.lua")
	laneDone   = laneScript("lane_done.lua")
	laneYield  = laneScript("lane_yield.lua")
	laneSweep  = laneScript("lane_sweep.lua")
	laneFail   = laneScript("lane_fail.lua", "lane_lib_fail.lua")
	lanePair   = laneScript("lane_pair.lua", "lane_lib_fail.lua")
	laneGate   = laneScript("lane_gate.lua")
	laneDrop   = laneScript("lane_drop.lua")
)

// lane runs a lane script and takes its answer apart; rest is what the script itself says.
func (s *Store) lane(ctx context.Context, sc luaScript, r RouteRef, args ...any) (rep LaneReply, rest []string, err error) {
	v, err := sc.slice(ctx, s.rdb, []string{s.k.route(r.ID)}, append([]any{r.Slots}, args...)...)
	if err != nil {
		return rep, nil, fmt.Errorf("route %s: %w", r.ID, err)
	}
	w := make([]string, len(v))
	for i := range v {
		w[i] = fmt.Sprint(v[i])
	}
	if len(w) < 4 {
		return rep, nil, fmt.Errorf("script %s answered %d words", sc.name, len(w))
	}
	rep.Status = LaneStatus(w[0])
	rep.Said = atoi(w[1])
	rep.Wake = milli(w[2])
	n := atoi(w[3])
	if len(w) < 4+4*n {
		return rep, nil, fmt.Errorf("script %s answered %d words for %d lanes", sc.name, len(w), n)
	}
	for i := range n {
		q := w[4+4*i:]
		head, err := ParsePointer(q[2])
		if err != nil {
			return rep, nil, fmt.Errorf("script %s: %w", sc.name, err)
		}
		rep.Released = append(rep.Released, Released{Lane: Lane(q[0]), Carrier: q[1], Head: head, Probe: q[3] == "1"})
	}
	return rep, w[4+4*n:], nil
}

func atoi(s string) int { n, _ := strconv.Atoi(s); return n } // our own scripts' integers

func milli(s string) time.Time {
	if n, _ := strconv.ParseInt(s, 10, 64); n > 0 {
		return time.UnixMilli(n)
	}
	return time.Time{}
}

func pointers(words []string) ([]Pointer, error) {
	ps := make([]Pointer, len(words))
	for i, w := range words {
		var err error
		if ps[i], err = ParsePointer(w); err != nil {
			return nil, err
		}
	}
	return ps, nil
}

// Appending is one pointer for one lane.
type Appending struct {
	Lane    Lane
	Pointer Pointer
}

// AppendReply says what became of the pointers.
type AppendReply struct {
	LaneReply
	Appended, Repeats, Bumped, Dropped int
}

// ErrFenced: a relay with a higher fencing number has appended to the route.
var ErrFenced = errors.New("another relay has taken over the shard")

// AppendLanes puts pointers of one shard, in feed order, into the lanes of one route.
// What the route has already is skipped, so it may be called again with the same. Fresh
// says that nothing of it was sent before: then a refused id means that ids went
// backwards, and it is appended under the next id. Errors: ErrFenced.
func (s *Store) AppendLanes(ctx context.Context, r RouteRef, shard int, fence uint64, fresh bool, maxPending int, list []Appending) (AppendReply, error) {
	args := make([]any, 0, 5+4*len(list))
	args = append(args, r.Version, shardField(shard), fence, flag(fresh), maxPending)
	for _, a := range list {
		args = append(args, a.Pointer.Feed, a.Pointer.Seq, string(a.Pointer.Event), string(a.Lane))
	}
	rep, rest, err := s.lane(ctx, laneAppend, r, args...)
	if err != nil {
		return AppendReply{}, err
	}
	if rep.Status == LaneFenced {
		return AppendReply{}, fmt.Errorf("append to route %s: %w", r.ID, ErrFenced)
	}
	return AppendReply{rep, atoi(rest[0]), atoi(rest[1]), atoi(rest[2]), atoi(rest[3])}, nil
}

func flag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// Turn is what a lane's task may do next.
type Turn struct {
	LaneReply
	Lane     Lane          // LaneRun: the lane that runs, which may be the late one
	Probe    bool          // LaneRun: deliver the head alone, to see whether the endpoint is back
	Pace     time.Duration // wait so long before the next request: slow start; LaneEarly: until due
	Records  bool          // some deliveries of the route have failed: look for records
	Pointers []Pointer     // head first
}

// BeginLane is called by a task for the lane it carries. Late is the lane its delivery
// may have left for. Status: run, stale, held, early.
func (s *Store) BeginLane(ctx context.Context, r RouteRef, lane, late Lane, carrier string, lease time.Duration, proc string, want int) (Turn, error) {
	rep, rest, err := s.lane(ctx, laneBegin, r, string(lane), string(late), carrier, lease.Milliseconds(), proc, want)
	if err != nil {
		return Turn{}, err
	}
	t := Turn{LaneReply: rep}
	switch rep.Status {
	case LaneEarly:
		t.Pace = time.Duration(atoi(rest[0])) * time.Millisecond
	case LaneRun:
		t.Lane, t.Probe, t.Records = Lane(rest[0]), rest[1] == "1", rest[3] == "1"
		t.Pace = time.Duration(atoi(rest[2])) * time.Millisecond
		t.Pointers, err = pointers(rest[4:])
	}
	return t, err
}

// Delivered is the end of a successful delivery.
type Delivered struct {
	Lane    Lane
	Carrier string
	Pointer Pointer
	Lease   time.Duration
	Want    int    // pointers to answer
	Log     string // attempt, as JSON
	LogMax  int
	Record  string // delivery id when it has a record, else ""
	Paired  bool   // the entry was tried behind the head, which stays
}

// DoneLane removes a delivered pointer. Status: next, empty, held, stale.
func (s *Store) DoneLane(ctx context.Context, r RouteRef, d Delivered) (Turn, error) {
	rep, rest, err := s.lane(ctx, laneDone, r, string(d.Lane), d.Carrier, d.Pointer.String(),
		d.Lease.Milliseconds(), d.Want, d.Log, d.LogMax, d.Record, flag(d.Paired))
	return turn(rep, rest, err)
}

// The ways a task gives up its turn.
const (
	YieldKeep  = "keep"  // unless another lane waits, go on
	YieldTail  = "tail"  // to the end of the queue of lanes
	YieldFront = "front" // to its front: the task was cut short
)

// YieldLane ends a task's turn. Status: next (with YieldKeep), yielded, stale.
func (s *Store) YieldLane(ctx context.Context, r RouteRef, lane Lane, carrier, how string, lease time.Duration, want int) (Turn, error) {
	rep, rest, err := s.lane(ctx, laneYield, r, string(lane), carrier, how, lease.Milliseconds(), want)
	return turn(rep, rest, err)
}

func turn(rep LaneReply, rest []string, err error) (Turn, error) {
	t := Turn{LaneReply: rep}
	if err != nil || rep.Status != LaneNext {
		return t, err
	}
	t.Pace, t.Records = time.Duration(atoi(rest[0]))*time.Millisecond, rest[1] == "1"
	t.Pointers, err = pointers(rest[2:])
	return t, err
}

// What a sweep looks at besides releasing lanes.
const (
	SweepNone = "none" // nothing: a gate may have opened
	SweepLate = "late" // leases and due times that have passed
	SweepLive = "live" // the same, and lanes of processes that are not alive
)

// SweepLanes gives lanes without a living carrier a new one and starts what the gate
// lets through. Work is false when the route had nothing to do for a minute.
func (s *Store) SweepLanes(ctx context.Context, r RouteRef, what string, alive []string) (rep LaneReply, swept int, work bool, err error) {
	args := []any{r.Version, what}
	for _, p := range alive {
		args = append(args, p)
	}
	rep, rest, err := s.lane(ctx, laneSweep, r, args...)
	if err != nil {
		return rep, 0, false, err
	}
	return rep, atoi(rest[0]), rest[1] == "1", nil
}

// LaneLen is how many pointers a lane holds.
func (s *Store) LaneLen(ctx context.Context, route string, lane Lane) (int64, error) {
	n, err := s.rdb.LLen(ctx, s.k.laneList(route, string(lane))).Result()
	return n, unavailable("length of a lane", err)
}
