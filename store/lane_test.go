package store_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/events"
	"github.com/postrider/postrider/store"
	"github.com/postrider/postrider/store/storetest"
)

// lanes is a route under test.
type lanes struct {
	t    testing.TB
	rdb  redis.UniversalClient
	s    *store.Store
	ref  store.RouteRef
	feed int
}

func newLanes(t testing.TB, rdb redis.UniversalClient) *lanes {
	return &lanes{t: t, rdb: rdb, s: storetest.On(t, rdb), ref: store.RouteRef{ID: "default", Slots: 2, Version: "v1"}}
}

func (l *lanes) ok(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// pointer makes the next pointer of the feed.
func (l *lanes) pointer(event events.Type) store.Pointer {
	l.feed++
	return store.Pointer{Feed: fmt.Sprintf("1795335302417-%d", l.feed), Seq: uint64(l.feed), Event: event}
}

// add appends n pointers to a lane and answers what was released.
func (l *lanes) add(lane store.Lane, n int) store.AppendReply {
	l.t.Helper()
	var list []store.Appending
	for range n {
		list = append(list, store.Appending{Lane: lane, Pointer: l.pointer("messageNew")})
	}
	rep, err := l.s.AppendLanes(l.t.Context(), l.ref, 1, 1, true, 1000, list)
	l.ok(err)
	return rep
}

func (l *lanes) begin(r store.Released) store.Turn {
	l.t.Helper()
	turn, err := l.s.BeginLane(l.t.Context(), l.ref, r.Lane, "", r.Carrier, time.Minute, "p1", 16)
	l.ok(err)
	return turn
}

func (l *lanes) done(r store.Released, p store.Pointer) store.Turn {
	l.t.Helper()
	turn, err := l.s.DoneLane(l.t.Context(), l.ref, store.Delivered{Lane: r.Lane, Carrier: r.Carrier, Pointer: p, Lease: time.Minute, Want: 16, Log: "{}", LogMax: 50})
	l.ok(err)
	return turn
}

// failed is a failure of the endpoint that asks for a mode.
func failed(r store.Released, p store.Pointer, mode store.FailMode) store.FailedDelivery {
	return store.FailedDelivery{
		Lane: r.Lane, Carrier: r.Carrier, Own: strings.HasPrefix(r.Carrier, p.Feed+"/"), Pointer: p,
		Delivery: store.Delivery{ID: "dlv_" + p.Feed, EventID: "evt_x", Event: p.Event, Seq: p.Seq, State: store.DeliveryRetrying, Attempts: 1, Index: -1},
		Body:     []byte(`{"event":"` + string(p.Event) + `"}`), Mode: mode, Delay: time.Minute, Stay: time.Minute, Log: "{}", LogMax: 50,
		Class: "unavailable", Scope: "E", Code: 503, Message: "503", Counts: true, Halve: true, Lease: time.Minute,
		PauseAfter: 100, AutoResume: true, Keep: time.Hour, MaxLate: 10, DeadMax: 100, DeadKeep: time.Hour,
	}
}

func (l *lanes) fail(f store.FailedDelivery) store.FailReply {
	l.t.Helper()
	rep, err := l.s.FailLane(l.t.Context(), l.ref, f)
	l.ok(err)
	return rep
}

func (l *lanes) gate() store.Gate {
	l.t.Helper()
	g, err := l.s.Gate(l.t.Context(), l.ref.ID)
	l.ok(err)
	return g
}

// said are the kinds of the announcements waiting.
func (l *lanes) said() (kinds []string) {
	l.t.Helper()
	list, err := l.s.Announcements(l.t.Context(), l.ref.ID)
	l.ok(err)
	for _, a := range list {
		kinds = append(kinds, a.Kind)
	}
	return kinds
}

// sound checks what holds between any two scripts: a lane with work is in exactly one
// state, running and waiting lanes have a carrier, nobody else has one, and the books
// agree with the lists.
func (l *lanes) sound(t interface{ Fatalf(string, ...any) }) {
	ctx, base := l.t.Context(), "{r:"+l.ref.ID+"}:"
	where := map[string][]string{}
	for _, k := range []string{"ready", "readyLate"} {
		for _, lane := range l.rdb.LRange(ctx, base+k, 0, -1).Val() {
			where[lane] = append(where[lane], "ready")
		}
	}
	for _, k := range []string{"run", "wait"} {
		for _, lane := range l.rdb.ZRange(ctx, base+k, 0, -1).Val() {
			where[lane] = append(where[lane], k)
		}
	}
	carriers := l.rdb.HGetAll(ctx, base+"car").Val()
	pending := 0
	for _, key := range l.rdb.Keys(ctx, base+"l:*").Val() {
		lane := strings.TrimPrefix(key, base+"l:")
		pending += int(l.rdb.LLen(ctx, key).Val())
		if len(where[lane]) != 1 {
			t.Fatalf("lane %s is in states %v", lane, where[lane])
		}
	}
	for lane, states := range where {
		_, has := carriers[lane]
		if has != (states[0] != "ready") {
			t.Fatalf("lane %s is %v, carrier: %v", lane, states, has)
		}
		if l.rdb.Exists(ctx, base+"l:"+lane).Val() == 0 {
			t.Fatalf("lane %s is %v and empty", lane, states)
		}
	}
	for lane := range carriers {
		if len(where[lane]) == 0 {
			t.Fatalf("lane %s has a carrier and no state", lane)
		}
	}
	if g := l.gate(); int(g.Pending) != pending {
		t.Fatalf("%d pending in the books, %d in lanes", g.Pending, pending)
	}
}

func eachLanes(t *testing.T, f func(*testing.T, *lanes)) {
	storetest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l := newLanes(t, rdb)
		f(t, l)
		l.sound(t)
	})
}

func TestAppend(t *testing.T) {
	eachLanes(t, func(t *testing.T, l *lanes) {
		list := []store.Appending{{Lane: "a:x", Pointer: l.pointer("e")}, {Lane: "a:y", Pointer: l.pointer("e")}, {Lane: "a:z", Pointer: l.pointer("e")}, {Lane: "a:x", Pointer: l.pointer("e")}}
		rep, err := l.s.AppendLanes(t.Context(), l.ref, 1, 7, true, 1000, list)
		l.ok(err)
		if rep.Appended != 4 || len(rep.Released) != 2 || rep.Released[0].Lane != "a:x" || rep.Released[1].Lane != "a:y" {
			t.Errorf("first: %+v", rep)
		}
		if rep.Released[0].Head != list[0].Pointer || rep.Released[0].Carrier == rep.Released[1].Carrier {
			t.Errorf("released %+v", rep.Released)
		}
		// The same again, as after a lost reply: nothing happens.
		rep, err = l.s.AppendLanes(t.Context(), l.ref, 1, 7, false, 1000, list)
		l.ok(err)
		if rep.Appended != 0 || rep.Repeats != 4 || len(rep.Released) != 0 {
			t.Errorf("again: %+v", rep)
		}
		// The same said to be fresh: ids went backwards, twice is better than never.
		rep, err = l.s.AppendLanes(t.Context(), l.ref, 1, 7, true, 1000, list[:1])
		l.ok(err)
		if rep.Appended != 1 || rep.Bumped != 1 {
			t.Errorf("backwards: %+v", rep)
		}
		// Another shard counts for itself.
		rep, err = l.s.AppendLanes(t.Context(), l.ref, 2, 1, false, 1000, []store.Appending{{Lane: "a:q", Pointer: list[0].Pointer}})
		l.ok(err)
		if rep.Appended != 1 {
			t.Errorf("another shard: %+v", rep)
		}
		if _, err = l.s.AppendLanes(t.Context(), l.ref, 1, 6, false, 1000, list); !errors.Is(err, store.ErrFenced) {
			t.Errorf("an older fence: %v", err)
		}
	})
}

func TestAppendDropsAtTheBound(t *testing.T) {
	eachLanes(t, func(t *testing.T, l *lanes) {
		var list []store.Appending
		for range 12 {
			list = append(list, store.Appending{Lane: "a:x", Pointer: l.pointer("e")})
		}
		rep, err := l.s.AppendLanes(t.Context(), l.ref, 1, 1, true, 10, list)
		l.ok(err)
		if rep.Appended != 12 || rep.Dropped != 2 || !slices.Equal(l.said(), []string{"dropped"}) {
			t.Errorf("%+v, said %v", rep, l.said())
		}
		turn := l.begin(rep.Released[0])
		if n := len(turn.Pointers); n != 10 || turn.Pointers[0].Seq == 0 {
			t.Errorf("%d left", n)
		}
	})
}

func TestBegin(t *testing.T) {
	eachLanes(t, func(t *testing.T, l *lanes) {
		r := l.add("a:x", 20).Released[0]
		turn := l.begin(r)
		if turn.Status != store.LaneRun || len(turn.Pointers) != 16 || turn.Lane != "a:x" || turn.Probe || turn.Records || turn.Pace != 0 {
			t.Errorf("%+v", turn)
		}
		stale := r
		stale.Carrier += "0"
		if turn = l.begin(stale); turn.Status != store.LaneStale {
			t.Errorf("another carrier: %s", turn.Status)
		}
		// Switched off meanwhile: back to ready, and nothing is released.
		off := l.ref
		off.Slots = 0
		got, err := l.s.BeginLane(t.Context(), off, r.Lane, "", r.Carrier, time.Minute, "p1", 16)
		l.ok(err)
		if got.Status != store.LaneHeld || len(got.Released) != 0 {
			t.Errorf("off: %+v", got)
		}
	})
}

func TestDone(t *testing.T) {
	eachLanes(t, func(t *testing.T, l *lanes) {
		r := l.add("a:x", 2).Released[0]
		ps := l.begin(r).Pointers
		turn := l.done(r, ps[0])
		if turn.Status != store.LaneNext || !slices.Equal(turn.Pointers, ps[1:]) {
			t.Errorf("first: %+v", turn)
		}
		if turn = l.done(r, ps[1]); turn.Status != store.LaneEmpty {
			t.Errorf("second: %+v", turn)
		}
		if turn = l.done(r, ps[1]); turn.Status != store.LaneStale {
			t.Errorf("again: %+v", turn)
		}
		if g := l.gate(); g.Pending != 0 || g.Delivered != 2 || g.LastSuccess.IsZero() {
			t.Errorf("%+v", g)
		}
		log, err := l.s.Attempts(t.Context(), "default", 10)
		l.ok(err)
		if len(log) != 2 {
			t.Errorf("%d attempts in the log", len(log))
		}
	})
}

// A success whose answer was lost is recorded again, and counts once.
func TestDoneAgain(t *testing.T) {
	eachLanes(t, func(t *testing.T, l *lanes) {
		r := l.add("a:x", 2).Released[0]
		ps := l.begin(r).Pointers
		f := failed(r, ps[0], store.FailWait)
		f.Delay, f.Counts, f.Halve = 0, false, false
		l.fail(f)
		if turn := l.begin(r); turn.Status != store.LaneRun || !turn.Records {
			t.Fatalf("second try: %+v", turn)
		}
		for range 2 {
			turn, err := l.s.DoneLane(t.Context(), l.ref, store.Delivered{
				Lane: r.Lane, Carrier: r.Carrier, Pointer: ps[0], Lease: time.Minute, Want: 16, Log: "{}", LogMax: 50, Record: f.Delivery.ID,
			})
			l.ok(err)
			if turn.Status != store.LaneNext || !slices.Equal(turn.Pointers, ps[1:]) {
				t.Errorf("%+v", turn)
			}
		}
		if recs := l.rdb.HGet(t.Context(), "{r:default}:gate", "recs").Val(); recs != "0" {
			t.Errorf("%s deliveries have a record, want 0", recs)
		}
		if g := l.gate(); g.Pending != 1 || g.Delivered != 1 {
			t.Errorf("%+v", g)
		}
	})
}

func TestFailWaits(t *testing.T) {
	eachLanes(t, func(t *testing.T, l *lanes) {
		r := l.add("a:x", 2).Released[0]
		ps := l.begin(r).Pointers
		rep := l.fail(failed(r, ps[0], store.FailWait))
		if rep.Status != store.LaneWaiting || rep.Carrier != r.Carrier || rep.Delay != time.Minute || rep.Lane != "a:x" {
			t.Errorf("own: %+v", rep)
		}
		if turn := l.begin(r); turn.Status != store.LaneEarly || turn.Pace < 59*time.Second {
			t.Errorf("begun before its time: %+v", turn)
		}
		// A slot is free for others meanwhile.
		if got := l.add("a:y", 1).Released; len(got) != 1 {
			t.Errorf("released %v beside a waiting lane", got)
		}
		recs, err := l.s.Deliveries(t.Context(), "default", "dlv_"+ps[0].Feed, "dlv_none")
		l.ok(err)
		d := recs["dlv_"+ps[0].Feed]
		if len(recs) != 1 || d.Delivery.Attempts != 1 || d.Delivery.Index != -1 || string(d.Body) != `{"event":"messageNew"}` {
			t.Errorf("records %+v", recs)
		}
	})
}

// A failure is recorded, its answer lost, and the call repeated.
func TestFailAgain(t *testing.T) {
	eachLanes(t, func(t *testing.T, l *lanes) {
		r := l.add("a:x", 2).Released[0]
		ps := l.begin(r).Pointers
		f := failed(r, ps[0], store.FailWait)
		for range 3 {
			if rep := l.fail(f); rep.Status != store.LaneWaiting || rep.Carrier != r.Carrier || rep.Lane != "a:x" {
				t.Errorf("%+v", rep)
			}
		}
		if g := l.gate(); g.Failed != 1 || g.Streak != 1 || g.Pending != 2 {
			t.Errorf("counted more than once: %+v", g)
		}
		if n := l.rdb.XLen(t.Context(), "{r:default}:log").Val(); n != 1 {
			t.Errorf("%d attempts in the log", n)
		}
	})
}

func TestFailOfALaterEventGetsItsOwnCarrier(t *testing.T) {
	eachLanes(t, func(t *testing.T, l *lanes) {
		r := l.add("a:x", 2).Released[0]
		ps := l.begin(r).Pointers
		l.done(r, ps[0])
		rep := l.fail(failed(r, ps[1], store.FailWait))
		if rep.Status != store.LaneWaiting || !strings.HasPrefix(rep.Carrier, ps[1].Feed+"/") {
			t.Errorf("%+v", rep)
		}
		if turn := l.begin(r); turn.Status != store.LaneStale {
			t.Errorf("the old carrier: %s", turn.Status)
		}
	})
}

func TestLeave(t *testing.T) {
	eachLanes(t, func(t *testing.T, l *lanes) {
		l.ref.Slots = 4 // the failure halves them
		r := l.add("a:x", 2).Released[0]
		ps := l.begin(r).Pointers
		f := failed(r, ps[0], store.FailLeave)
		f.Delay = 0
		rep := l.fail(f)
		late := store.LateLane("dlv_" + ps[0].Feed)
		if rep.Status != store.LaneWaiting || rep.Lane != late || rep.Carrier != r.Carrier {
			t.Errorf("%+v", rep)
		}
		if len(rep.Released) != 1 || rep.Released[0].Lane != "a:x" || rep.Released[0].Head != ps[1] {
			t.Errorf("released %+v", rep.Released)
		}
		// The task knows the lane it was made for, and finds the late one.
		turn, err := l.s.BeginLane(t.Context(), l.ref, "a:x", late, r.Carrier, time.Minute, "p1", 16)
		l.ok(err)
		if turn.Status != store.LaneRun || turn.Lane != late || !slices.Equal(turn.Pointers, ps[:1]) || !turn.Records {
			t.Errorf("%+v", turn)
		}
		if g := l.gate(); g.Late != 1 {
			t.Errorf("%d late", g.Late)
		}
		d, err := l.s.DoneLane(t.Context(), l.ref, store.Delivered{Lane: late, Carrier: r.Carrier, Pointer: ps[0], Lease: time.Minute, Log: "{}", LogMax: 50, Record: "dlv_" + ps[0].Feed})
		l.ok(err)
		if g := l.gate(); d.Status != store.LaneEmpty || g.Late != 0 {
			t.Errorf("%s, %d late", d.Status, g.Late)
		}
	})
}

func TestLeaveWaitsWhenTooManyAreLate(t *testing.T) {
	eachLanes(t, func(t *testing.T, l *lanes) {
		r := l.add("a:x", 2).Released[0]
		ps := l.begin(r).Pointers
		f := failed(r, ps[0], store.FailLeave)
		f.MaxLate = 0
		if rep := l.fail(f); rep.Status != store.LaneWaiting || rep.Lane != "a:x" {
			t.Errorf("%+v", rep)
		}
	})
}

func TestProve(t *testing.T) {
	t.Run("alone, it waits until somebody comes", func(t *testing.T) {
		eachLanes(t, func(t *testing.T, l *lanes) {
			r := l.add("a:x", 1).Released[0]
			ps := l.begin(r).Pointers
			if rep := l.fail(failed(r, ps[0], store.FailProve)); rep.Status != store.LaneWaiting || rep.Lane != "a:x" {
				t.Fatalf("%+v", rep)
			}
			rep := l.add("a:x", 1)
			if len(rep.Released) != 1 || rep.Released[0].Head != ps[0] || rep.Released[0].Carrier == r.Carrier {
				t.Errorf("%+v", rep)
			}
		})
	})
	t.Run("another success is proof", func(t *testing.T) {
		eachLanes(t, func(t *testing.T, l *lanes) {
			r := l.add("a:x", 2).Released[0]
			ps := l.begin(r).Pointers
			other := l.add("a:y", 1).Released[0]
			l.done(other, l.begin(other).Pointers[0])
			f := failed(r, ps[0], store.FailProve)
			f.Took = time.Minute // it began before that success
			if rep := l.fail(f); rep.Lane != store.LateLane("dlv_"+ps[0].Feed) {
				t.Errorf("%+v", rep)
			}
		})
	})
	t.Run("a paired success lets it leave", func(t *testing.T) {
		eachLanes(t, func(t *testing.T, l *lanes) {
			r := l.add("a:x", 3).Released[0]
			ps := l.begin(r).Pointers
			f := failed(r, ps[0], store.FailProve)
			rep := l.fail(f)
			if rep.Status != store.LanePair || !slices.Equal(rep.Pointers, ps[1:]) {
				t.Fatalf("%+v", rep)
			}
			turn, err := l.s.DoneLane(t.Context(), l.ref, store.Delivered{Lane: r.Lane, Carrier: r.Carrier, Pointer: ps[2], Lease: time.Minute, Log: "{}", LogMax: 50, Paired: true})
			l.ok(err)
			if turn.Status != store.LaneNext {
				t.Errorf("paired: %+v", turn)
			}
			rep, err = l.s.PairLane(t.Context(), l.ref, f, nil, false)
			l.ok(err)
			if rep.Lane != store.LateLane("dlv_"+ps[0].Feed) || len(rep.Released) != 1 || rep.Released[0].Head != ps[1] {
				t.Errorf("%+v", rep)
			}
		})
	})
	t.Run("a paired failure of the endpoint opens the breaker", func(t *testing.T) {
		eachLanes(t, func(t *testing.T, l *lanes) {
			r := l.add("a:x", 2).Released[0]
			ps := l.begin(r).Pointers
			f := failed(r, ps[0], store.FailProve)
			l.fail(f)
			o := failed(r, ps[1], store.FailProve)
			rep, err := l.s.PairLane(t.Context(), l.ref, f, &o, true)
			l.ok(err)
			if g := l.gate(); rep.Status != store.LaneHeld || g.Breaker != "open" || g.Late != 0 || rep.Wake.IsZero() {
				t.Errorf("%+v, gate %+v", rep, g)
			}
		})
	})
}

func TestDeadLetter(t *testing.T) {
	eachLanes(t, func(t *testing.T, l *lanes) {
		r := l.add("a:x", 2).Released[0]
		ps := l.begin(r).Pointers
		l.fail(failed(r, ps[0], store.FailWait))
		l.ok(l.rdb.ZAdd(t.Context(), "{r:default}:wait", redis.Z{Score: 1, Member: "a:x"}).Err()) // due
		l.begin(r)
		f := failed(r, ps[0], store.FailEnd)
		f.Delivery.State, f.Delivery.Reason, f.Delivery.Attempts = store.DeliveryExhausted, "attempts", 12
		f.Body = nil
		rep := l.fail(f)
		if rep.Status != store.LaneEnded || len(rep.Released) != 1 || rep.Released[0].Head != ps[1] {
			t.Errorf("%+v", rep)
		}
		dead, err := l.s.DeadLetters(t.Context(), "default", "", 10)
		l.ok(err)
		if len(dead) != 1 || dead[0].Delivery.ID != "dlv_"+ps[0].Feed || dead[0].Delivery.Attempts != 12 ||
			dead[0].Delivery.Reason != "attempts" || string(dead[0].Body) != `{"event":"messageNew"}` {
			t.Errorf("%+v", dead)
		}
		if said := l.said(); !slices.Equal(said, []string{"exhausted"}) {
			t.Errorf("said %v", said)
		}
	})
}

func TestBreaker(t *testing.T) {
	eachLanes(t, func(t *testing.T, l *lanes) {
		l.ref.Slots = 4
		var opened int
		for i := range 5 {
			r := l.add(store.Lane(fmt.Sprintf("a:%d", i)), 1).Released
			if len(r) != 1 {
				t.Fatalf("lane %d: released %v", i, r)
			}
			l.fail(failed(r[0], l.begin(r[0]).Pointers[0], store.FailWait))
			if l.gate().Breaker == "open" {
				opened = i + 1
			}
		}
		if opened != 5 {
			t.Fatalf("opened at failure %d", opened)
		}
		if got := l.add("a:new", 1).Released; len(got) != 0 {
			t.Errorf("released %v through an open breaker", got)
		}
		probe := func() store.Released {
			t.Helper()
			l.ok(l.rdb.HSet(t.Context(), "{r:default}:gate", "probeAt", "1").Err())
			rep, _, _, err := l.s.SweepLanes(t.Context(), l.ref, store.SweepNone, nil)
			l.ok(err)
			if len(rep.Released) != 1 || !rep.Released[0].Probe {
				t.Fatalf("probes %+v", rep.Released)
			}
			return rep.Released[0]
		}
		p := probe()
		turn := l.begin(p)
		if turn.Status != store.LaneRun || !turn.Probe || len(turn.Pointers) != 1 {
			t.Fatalf("%+v", turn)
		}
		if rep, _, _, err := l.s.SweepLanes(t.Context(), l.ref, store.SweepNone, nil); err != nil || len(rep.Released) != 0 {
			t.Errorf("a second probe beside the first: %+v, %v", rep.Released, err)
		}
		rep := l.fail(failed(p, turn.Pointers[0], store.FailProbe))
		if wait := time.Until(l.gate().ProbeAt); rep.Status != store.LaneHeld || wait < 18*time.Second || wait > 22*time.Second {
			t.Errorf("failed probe: %s, next in %v", rep.Status, wait)
		}
		second := probe()
		if second.Lane == p.Lane {
			t.Errorf("probed lane %s twice in turn", p.Lane)
		}
		turn = l.done(second, l.begin(second).Pointers[0])
		if len(turn.Released) != 1 || !turn.Released[0].Probe || l.gate().Breaker != "half_open" {
			t.Fatalf("after a good probe: %+v", turn)
		}
		third := turn.Released[0]
		l.done(third, l.begin(third).Pointers[0])
		if g := l.gate(); g.Breaker != "closed" || g.Streak != 0 {
			t.Errorf("%+v", g)
		}
		if said := l.said(); !slices.Equal(said, []string{"failing", "recovered"}) {
			t.Errorf("said %v", said)
		}
	})
}

func TestBreakerIgnoresTheEventsFault(t *testing.T) {
	eachLanes(t, func(t *testing.T, l *lanes) {
		l.ref.Slots = 64
		for i := range 20 {
			r := l.add(store.Lane(fmt.Sprintf("a:%d", i)), 1).Released[0]
			f := failed(r, l.begin(r).Pointers[0], store.FailWait)
			f.Class, f.Scope, f.Halve = "http_4xx", "V", false
			l.fail(f)
		}
		if g := l.gate(); g.Breaker != "closed" || g.Streak != 20 {
			t.Errorf("%+v", g)
		}
	})
}

func TestStreakPausesAndResumes(t *testing.T) {
	eachLanes(t, func(t *testing.T, l *lanes) {
		r := l.add("a:x", 1).Released[0]
		p := l.begin(r).Pointers[0]
		for n := range 100 {
			f := failed(r, p, store.FailWait)
			f.Delivery.Attempts = n + 1
			f.Class, f.Scope, f.Halve = "http_4xx", "V", false
			f.Delay = 0
			if rep := l.fail(f); rep.Status != store.LaneWaiting {
				t.Fatalf("%+v", rep)
			}
			if l.gate().Paused == "" {
				l.begin(r)
			}
		}
		if g := l.gate(); g.Paused != "failures" || time.Until(g.ProbeAt) < 59*time.Minute {
			t.Errorf("%+v", g)
		}
		if said := l.said(); !slices.Equal(said, []string{"failing", "failing", "failing", "failing", "paused"}) {
			t.Errorf("said %v", said)
		}
		// Another target is a new beginning.
		l.ref.Version = "v2"
		rep, _, _, err := l.s.SweepLanes(t.Context(), l.ref, store.SweepLate, nil)
		l.ok(err)
		if g := l.gate(); g.Paused != "" || g.Streak != 0 || rep.Said != 1 {
			t.Errorf("%+v, said %d", g, rep.Said)
		}
	})
}

func TestPauseByAPerson(t *testing.T) {
	eachLanes(t, func(t *testing.T, l *lanes) {
		_, err := l.s.PauseRoute(t.Context(), l.ref)
		l.ok(err)
		if got := l.add("a:x", 1).Released; len(got) != 0 {
			t.Errorf("released %v", got)
		}
		l.ref.Version = "v2"
		l.add("a:x", 1)
		if g := l.gate(); g.Paused != "api" {
			t.Errorf("another target ended %q", g.Paused)
		}
		rep, err := l.s.ResumeRoute(t.Context(), l.ref)
		l.ok(err)
		if len(rep.Released) != 1 || l.gate().Paused != "" {
			t.Errorf("%+v", rep)
		}
		if said := l.said(); !slices.Equal(said, []string{"paused", "resumed"}) {
			t.Errorf("said %v", said)
		}
	})
}

func TestYield(t *testing.T) {
	eachLanes(t, func(t *testing.T, l *lanes) {
		l.ref.Slots = 1
		r := l.add("a:x", 3).Released[0]
		ps := l.begin(r).Pointers
		turn, err := l.s.YieldLane(t.Context(), l.ref, r.Lane, r.Carrier, store.YieldKeep, time.Minute, 16)
		l.ok(err)
		if turn.Status != store.LaneNext || !slices.Equal(turn.Pointers, ps) {
			t.Errorf("nobody waits: %+v", turn)
		}
		l.add("a:y", 1)
		turn, err = l.s.YieldLane(t.Context(), l.ref, r.Lane, r.Carrier, store.YieldKeep, time.Minute, 16)
		l.ok(err)
		if turn.Status != store.LaneYielded || len(turn.Released) != 1 || turn.Released[0].Lane != "a:y" {
			t.Errorf("somebody waits: %+v", turn)
		}
	})
}

func TestSweep(t *testing.T) {
	eachLanes(t, func(t *testing.T, l *lanes) {
		r := l.add("a:x", 1).Released[0]
		l.begin(r)
		rep, n, work, err := l.s.SweepLanes(t.Context(), l.ref, store.SweepLive, []string{"p1"})
		l.ok(err)
		if n != 0 || !work || len(rep.Released) != 0 {
			t.Errorf("alive: swept %d, %+v", n, rep)
		}
		rep, n, _, err = l.s.SweepLanes(t.Context(), l.ref, store.SweepLive, []string{"p2"})
		l.ok(err)
		if n != 1 || len(rep.Released) != 1 || rep.Released[0].Carrier == r.Carrier {
			t.Errorf("dead: swept %d, %+v", n, rep)
		}
		if turn := l.begin(r); turn.Status != store.LaneStale {
			t.Errorf("the orphan: %s", turn.Status)
		}
		next := rep.Released[0]
		l.begin(next)
		l.ok(l.rdb.ZAdd(t.Context(), "{r:default}:run", redis.Z{Score: 1, Member: "a:x"}).Err()) // its lease has passed
		rep, n, _, err = l.s.SweepLanes(t.Context(), l.ref, store.SweepLate, nil)
		l.ok(err)
		if n != 1 || len(rep.Released) != 1 {
			t.Errorf("late: swept %d, %+v", n, rep)
		}
	})
}

func TestDropRoute(t *testing.T) {
	eachLanes(t, func(t *testing.T, l *lanes) {
		for i := range 5 {
			l.add(store.Lane(fmt.Sprintf("a:%d", i)), 3)
		}
		total := 0
		for end := false; !end; {
			n, _, e, err := l.s.DropRoute(t.Context(), "default", 2)
			l.ok(err)
			total, end = total+n, e
		}
		if total != 15 || l.gate().Pending != 0 {
			t.Errorf("dropped %d, %d pending", total, l.gate().Pending)
		}
		if got := l.add("a:x", 1); len(got.Released) != 1 {
			t.Errorf("made again: %+v", got)
		}
	})
}

func TestRelayLease(t *testing.T) {
	storetest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s, ctx := storetest.On(t, rdb), t.Context()
		a, err := s.AcquireRelay(ctx, 5, "a", time.Minute)
		if err != nil || a.Position != "" || a.Fence != 1 {
			t.Fatalf("%+v, %v", a, err)
		}
		if _, err := s.AcquireRelay(ctx, 5, "b", time.Minute); !errors.Is(err, store.ErrLeaseHeld) {
			t.Errorf("second: %v", err)
		}
		if err := s.AdvanceRelay(ctx, a, "12-3", 0); err != nil { // expires at once
			t.Fatal(err)
		}
		b, err := s.AcquireRelay(ctx, 5, "b", time.Minute)
		if err != nil || b.Fence != 2 || b.Position != "12-3" {
			t.Fatalf("%+v, %v", b, err)
		}
		if err := s.AdvanceRelay(ctx, a, "99-0", time.Minute); !errors.Is(err, store.ErrLeaseLost) {
			t.Errorf("the replaced one: %v", err)
		}
		if err := s.ReleaseRelay(ctx, b); err != nil {
			t.Fatal(err)
		}
		if c, err := s.AcquireRelay(ctx, 5, "c", time.Minute); err != nil || c.Position != "12-3" || c.Fence != 3 {
			t.Errorf("%+v, %v", c, err)
		}
	})
}

func TestRouteSecret(t *testing.T) {
	storetest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		a, err := storetest.On(t, rdb).RouteSecret(t.Context())
		if err != nil || len(a.Reveal()) != len("whsec_")+44 {
			t.Fatalf("%d bytes, %v", len(a.Reveal()), err)
		}
		b, err := storetest.On(t, rdb).RouteSecret(t.Context())
		if err != nil || a != b {
			t.Errorf("another process has another secret, %v", err)
		}
		if v := rdb.HGet(t.Context(), "{r:default}:conf", "secret").Val(); v == "" || strings.Contains(v, "whsec_") {
			t.Errorf("at rest: %q", v)
		}
	})
}

// Whatever tasks, sweeps and failures do in whatever order, no lane is lost and none has
// two carriers.
func TestLanesStaySound(t *testing.T) {
	rdb := storetest.MiniredisClient(t)
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		l := newLanes(t, rdb)
		l.ref.ID = fmt.Sprintf("r%d", round)
		var tasks []store.Released
		pick := func() (store.Released, bool) {
			if len(tasks) == 0 {
				return store.Released{}, false
			}
			return tasks[rapid.IntRange(0, len(tasks)-1).Draw(rt, "task")], true
		}
		late := map[string]store.Lane{} // carrier → late lane
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			switch rapid.SampledFrom([]string{"add", "done", "fail", "yield", "sweep", "due"}).Draw(rt, "step") {
			case "add":
				lane := store.Lane(rapid.SampledFrom([]string{"a:x", "a:y", "a:z"}).Draw(rt, "lane"))
				tasks = append(tasks, l.add(lane, rapid.IntRange(1, 3).Draw(rt, "n")).Released...)
			case "due":
				for _, k := range []string{"run", "wait"} {
					for _, lane := range rdb.ZRange(t.Context(), "{r:"+l.ref.ID+"}:"+k, 0, -1).Val() {
						rdb.ZAdd(t.Context(), "{r:"+l.ref.ID+"}:"+k, redis.Z{Score: 1, Member: lane})
					}
				}
				rdb.HSet(t.Context(), "{r:"+l.ref.ID+"}:gate", "probeAt", "1")
			case "sweep":
				rep, _, _, err := l.s.SweepLanes(t.Context(), l.ref, store.SweepLate, nil)
				l.ok(err)
				tasks = append(tasks, rep.Released...)
			default:
				r, ok := pick()
				if !ok {
					continue
				}
				turn, err := l.s.BeginLane(t.Context(), l.ref, r.Lane, late[r.Carrier], r.Carrier, time.Minute, "p", 16)
				l.ok(err)
				tasks = append(tasks, turn.Released...)
				if turn.Status != store.LaneRun || len(turn.Pointers) == 0 {
					break
				}
				r.Lane = turn.Lane
				p := turn.Pointers[0]
				switch rapid.SampledFrom([]string{"done", "yield", "wait", "leave", "prove", "hold", "end", "probe"}).Draw(rt, "outcome") {
				case "done":
					d, err := l.s.DoneLane(t.Context(), l.ref, store.Delivered{Lane: r.Lane, Carrier: r.Carrier, Pointer: p, Lease: time.Minute, Want: 16, Log: "{}", LogMax: 50, Record: "dlv_" + p.Feed})
					l.ok(err)
					tasks = append(tasks, d.Released...)
				case "yield":
					how := rapid.SampledFrom([]string{store.YieldKeep, store.YieldTail, store.YieldFront}).Draw(rt, "how")
					d, err := l.s.YieldLane(t.Context(), l.ref, r.Lane, r.Carrier, how, time.Minute, 16)
					l.ok(err)
					tasks = append(tasks, d.Released...)
				default:
					mode := rapid.SampledFrom([]store.FailMode{store.FailWait, store.FailLeave, store.FailProve, store.FailHold, store.FailEnd}).Draw(rt, "mode")
					if turn.Probe && mode != store.FailEnd {
						mode = store.FailProbe
					}
					if r.Lane.Late() && (mode == store.FailProve || mode == store.FailLeave) {
						mode = store.FailWait
					}
					f := failed(r, p, mode)
					f.Jitter = rand.Float64() / 10
					if mode == store.FailEnd {
						f.Delivery.State, f.Delivery.Reason = store.DeliveryExhausted, "attempts"
					}
					rep, err := l.s.FailLane(t.Context(), l.ref, f)
					l.ok(err)
					if rep.Status == store.LanePair {
						o := failed(r, rep.Pointers[0], mode)
						rep, err = l.s.PairLane(t.Context(), l.ref, f, &o, rapid.Bool().Draw(rt, "open"))
						l.ok(err)
					}
					tasks = append(tasks, rep.Released...)
					if rep.Status == store.LaneWaiting {
						tasks = append(tasks, store.Released{Lane: r.Lane, Carrier: rep.Carrier})
						if rep.Lane.Late() {
							late[rep.Carrier] = rep.Lane
						}
					}
				}
			}
			l.sound(rt)
		}
	})
}
