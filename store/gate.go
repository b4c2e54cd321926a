package store

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Gate is the health of a route.
type Gate struct {
	Paused      string // "", "failures", "gone", "misconfigured" or "api"
	Breaker     string // "closed", "open" or "half_open"
	ProbeAt     time.Time
	NotBefore   time.Time
	Cap         int // effective slots; 0 = the route's concurrency
	Streak      int
	Pending     int64
	Late        int64
	Delivered   int64
	Failed      int64 // attempts
	Exhausted   int64
	Dropped     int64
	LastSuccess time.Time
	LastFailure time.Time
	Error       *GateError // the last failure, nil since a success
}

// GateError is the last failure of a route.
type GateError struct {
	Event   string
	Message string
	Code    int
	At      time.Time
}

// Gate reads a route's health. An unknown route is a healthy one without work.
func (s *Store) Gate(ctx context.Context, route string) (Gate, error) {
	h, err := s.rdb.HGetAll(ctx, s.k.gate(route)).Result()
	if err != nil {
		return Gate{}, unavailable("gate", err)
	}
	n := func(f string) int64 { v, _ := strconv.ParseInt(h[f], 10, 64); return v }
	g := Gate{
		Paused: h["paused"], Breaker: "closed",
		ProbeAt: milli(h["probeAt"]), NotBefore: milli(h["notBefore"]),
		Cap: int(n("cap")), Streak: int(n("streak")),
		Pending: n("pending"), Late: n("late"), Delivered: n("delivered"), Failed: n("failed"),
		Exhausted: n("exhausted"), Dropped: n("dropped"),
		LastSuccess: milli(h["lastOk"]), LastFailure: milli(h["lastFail"]),
	}
	if h["brk"] != "" {
		g.Breaker = h["brk"]
	}
	if h["errAt"] != "" {
		g.Error = &GateError{Event: h["errEvent"], Message: h["errMsg"], Code: int(n("errCode")), At: milli(h["errAt"])}
	}
	return g, nil
}

// PauseRoute holds everything of a route until ResumeRoute.
func (s *Store) PauseRoute(ctx context.Context, r RouteRef) (LaneReply, error) {
	rep, _, err := s.lane(ctx, laneGate, r, "pause")
	return rep, err
}

// ResumeRoute ends every kind of pause, by slow start. The caller enqueues what was
// released.
func (s *Store) ResumeRoute(ctx context.Context, r RouteRef) (LaneReply, error) {
	rep, _, err := s.lane(ctx, laneGate, r, "resume")
	return rep, err
}

// Announcement is a change of a route's health that the journal does not have yet.
type Announcement struct {
	Version uint64 // of the health record; part of the event's id
	Kind    string // "failing", "paused", "resumed", "recovered", "auth", "exhausted" or "dropped"
	Args    []string
	raw     string
}

// Announcements are the oldest hundred a route has.
func (s *Store) Announcements(ctx context.Context, route string) ([]Announcement, error) {
	lines, err := s.rdb.LRange(ctx, s.k.say(route), 0, 99).Result()
	if err != nil {
		return nil, unavailable("announcements", err)
	}
	out := make([]Announcement, 0, len(lines))
	for _, l := range lines {
		w := strings.Split(l, "\t")
		v, err := strconv.ParseUint(w[0], 10, 64)
		if err != nil || len(w) < 2 {
			return nil, fmt.Errorf("announcement %q of route %s", l, route)
		}
		out = append(out, Announcement{Version: v, Kind: w[1], Args: w[2:], raw: l})
	}
	return out, nil
}

// Announced removes an announcement that the journal has.
func (s *Store) Announced(ctx context.Context, route string, a Announcement) error {
	return unavailable("announced", s.rdb.LRem(ctx, s.k.say(route), 1, a.raw).Err())
}

// DropRoute removes a slice of what is pending for a route that is no more. Call it
// until it says end; version is then the number of the announcement to make.
func (s *Store) DropRoute(ctx context.Context, route string, lanes int) (dropped int, version uint64, end bool, err error) {
	rep, rest, err := s.lane(ctx, laneDrop, RouteRef{ID: route}, lanes)
	if err != nil {
		return 0, 0, false, err
	}
	return atoi(rest[0]), uint64(atoi(rest[1])), rep.Status == LaneEnd, nil
}
