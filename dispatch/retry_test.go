package dispatch

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/store"
)

func testRoute() store.Route {
	return store.Route{
		ID: "default", Kind: store.RouteDefault, Enabled: true, Schedule: store.Standard3d(), MaxAge: 72 * time.Hour,
		Ordering: store.OrderAccount, OrderedBudget: time.Minute, Timeout: 15 * time.Second, Concurrency: 4,
	}
}

// walk fails a delivery until it ends and answers when its attempts began, each taking
// took. A head with its budget used up leaves its lane.
func walk(t *testing.T, r store.Route, v Verdict, took time.Duration) (starts []time.Duration, reason string) {
	t.Helper()
	begin := time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)
	rec, lane, now := store.Delivery{Index: -1, Date: begin}, store.AccountLane("a"), begin
	for range 200 {
		starts = append(starts, now.Sub(begin).Round(time.Second))
		now = now.Add(took)
		d := decide(r, rec, v, lane, false, now, took, 0)
		rec = d.rec
		switch d.mode {
		case store.FailEnd:
			return starts, rec.Reason
		case store.FailLeave, store.FailProve:
			lane = store.LateLane("dlv_x")
		}
		now = now.Add(d.delay)
	}
	t.Fatal("the delivery never ends")
	return nil, ""
}

func seconds(n ...int) (d []time.Duration) {
	for _, s := range n {
		d = append(d, time.Duration(s)*time.Second)
	}
	return d
}

func TestSchedule(t *testing.T) {
	const h = 3600
	bad := Verdict{Class: Class4xx, Scope: ScopeEvent}
	none, strict, brief, once := testRoute(), testRoute(), testRoute(), testRoute()
	none.Ordering, strict.Ordering = store.OrderNone, store.OrderStrict
	brief.OrderedBudget = 0
	once.Schedule = nil
	for _, tt := range []struct {
		name   string
		route  store.Route
		took   time.Duration
		want   []time.Duration
		reason string
	}{
		{"standard3d by account", testRoute(), 10 * time.Millisecond, seconds(0, 5, 15, 35, 60,
			365, 2165, 2165+2*h, 2165+8*h, 2165+20*h, 2165+44*h, 2165+68*h), "attempts"},
		{"slow failures have fewer tries in the lane", testRoute(), 15 * time.Second, seconds(0, 20, 45,
			365, 2165+15, 2165+2*h+30, 2165+8*h+45, 2165+20*h+60, 2165+44*h+75, 2165+68*h+90), "attempts"},
		{"standard3d without order", none, 0, seconds(0, 5, 65, 365, 2165, 2165+2*h, 2165+8*h, 2165+20*h, 2165+44*h, 2165+68*h), "attempts"},
		{"strict", strict, 0, seconds(0, 5, 15, 35, 60, 365, 2165, 2165+2*h, 2165+8*h, 2165+20*h, 2165+44*h, 2165+68*h), "attempts"},
		{"no budget", brief, 0, seconds(0, 65, 365, 2165, 2165+2*h, 2165+8*h, 2165+20*h, 2165+44*h, 2165+68*h), "attempts"},
		{"no schedule", once, 0, seconds(0), "attempts"},
	} {
		got, reason := walk(t, tt.route, bad, tt.took)
		if d := cmp.Diff(tt.want, got); d != "" || reason != tt.reason {
			t.Errorf("%s: %s, %s", tt.name, reason, d)
		}
	}
}

func TestScheduleEndsWithAge(t *testing.T) {
	r := testRoute()
	r.MaxAge = time.Hour
	got, reason := walk(t, r, Verdict{Class: ClassConnect, Scope: ScopeEndpoint}, 0)
	if reason != "expired" || got[len(got)-1] > time.Hour {
		t.Errorf("%s, last attempt at %v", reason, got[len(got)-1])
	}
}

func TestDecide(t *testing.T) {
	now := time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)
	lane := store.AccountLane("a")
	used := store.Delivery{Index: -1, Charged: 4, Attempts: 4, Used: 60 * time.Second, Date: now}
	fresh := store.Delivery{Index: -1, Date: now}
	spared := fresh
	spared.Spared = spared429
	for _, tt := range []struct {
		name    string
		rec     store.Delivery
		v       Verdict
		lane    store.Lane
		probe   bool
		mode    store.FailMode
		delay   time.Duration
		charged int
		reason  string
	}{
		{"first failure waits in the lane", fresh, Verdict{Class: ClassConnect, Scope: ScopeEndpoint}, lane, false, store.FailWait, 5 * time.Second, 1, ""},
		{"used up, the event's fault", used, Verdict{Class: Class4xx, Scope: ScopeEvent}, lane, false, store.FailLeave, 305 * time.Second, 5, ""},
		{"used up, perhaps the endpoint's", used, Verdict{Class: Class5xx, Scope: ScopeEither}, lane, false, store.FailProve, 305 * time.Second, 5, ""},
		{"429 is not charged", fresh, Verdict{ClassRateLimited, ScopeEndpoint, 40 * time.Second}, lane, false, store.FailWait, 40 * time.Second, 0, ""},
		{"the 101st is", spared, Verdict{ClassRateLimited, ScopeEndpoint, 40 * time.Second}, lane, false, store.FailWait, 5 * time.Second, 1, ""},
		{"gone holds", fresh, Verdict{Class: ClassGone, Scope: ScopeEndpoint}, lane, false, store.FailHold, 0, 0, ""},
		{"blocked holds", fresh, Verdict{Class: ClassBlocked}, lane, false, store.FailHold, 0, 0, ""},
		{"interrupted holds", fresh, Verdict{Class: ClassInterrupted, Scope: ScopeOurs}, lane, false, store.FailHold, 0, 0, ""},
		{"a probe is not charged", fresh, Verdict{Class: ClassConnect, Scope: ScopeEndpoint}, lane, true, store.FailProbe, 65 * time.Second, 0, ""},
		{"dropOn", fresh, Verdict{Class: ClassDropped}, lane, false, store.FailEnd, 0, 0, "dropOn"},
		{"render", fresh, Verdict{Class: ClassRender, Scope: ScopeOurs}, lane, false, store.FailEnd, 0, 0, "render"},
	} {
		d := decide(testRoute(), tt.rec, tt.v, tt.lane, tt.probe, now, 0, 0)
		if d.mode != tt.mode || d.delay != tt.delay || d.rec.Charged != tt.charged || d.rec.Reason != tt.reason || d.rec.Attempts != tt.rec.Attempts+1 {
			t.Errorf("%s: %s in %v, charged %d, %q", tt.name, d.mode, d.delay, d.rec.Charged, d.rec.Reason)
		}
	}
}

// Probes use up neither budget nor schedule, only age.
func TestProbesAreNotCharged(t *testing.T) {
	r, now := testRoute(), time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)
	rec := store.Delivery{Index: 3, Charged: 5, Used: time.Minute, Date: now}
	for range 100 {
		d := decide(r, rec, Verdict{Class: ClassConnect, Scope: ScopeEndpoint}, store.AccountLane("a"), true, now, 0, 0)
		if d.mode != store.FailProbe || d.rec.Index != 3 || d.rec.Charged != 5 || d.rec.Used != time.Minute {
			t.Fatalf("%s, %+v", d.mode, d.rec)
		}
		rec = d.rec
	}
	d := decide(r, rec, Verdict{Class: ClassConnect, Scope: ScopeEndpoint}, store.AccountLane("a"), true, now.Add(73*time.Hour), 0, 0)
	if d.mode != store.FailEnd || d.rec.Reason != "expired" {
		t.Errorf("after 73 h: %s, %q", d.mode, d.rec.Reason)
	}
}

// However an endpoint fails, a delivery ends, no try is early, and the schedule is not
// left before its end.
func TestDecideEnds(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := testRoute()
		r.Ordering = rapid.SampledFrom([]string{store.OrderAccount, store.OrderNone, store.OrderStrict}).Draw(rt, "ordering")
		r.OrderedBudget = time.Duration(rapid.IntRange(0, 3600).Draw(rt, "budget")) * time.Second
		r.Schedule = nil
		for _, s := range rapid.SliceOfN(rapid.IntRange(1, 7*24*3600), 0, 30).Draw(rt, "schedule") {
			r.Schedule = append(r.Schedule, time.Duration(s)*time.Second)
		}
		rec, lane := store.Delivery{Index: -1, Date: time.Unix(0, 0)}, store.AccountLane("a")
		now := rec.Date
		for n := 0; ; n++ {
			if n > 200 {
				rt.Fatal("never ends")
			}
			class := rapid.SampledFrom([]Verdict{{Class: Class4xx, Scope: ScopeEvent}, {Class: Class5xx, Scope: ScopeEither}, {Class: ClassTimeout, Scope: ScopeEndpoint}}).Draw(rt, "class")
			took := time.Duration(rapid.IntRange(0, 15000).Draw(rt, "ms")) * time.Millisecond
			now = now.Add(took)
			d := decide(r, rec, class, lane, false, now, took, rapid.Float64Range(0, 0.999).Draw(rt, "r"))
			if d.mode == store.FailEnd {
				return
			}
			if d.delay < time.Second || d.rec.Next.After(rec.Date.Add(r.MaxAge)) {
				rt.Fatalf("%s in %v, next %v", d.mode, d.delay, d.rec.Next)
			}
			if d.mode != store.FailWait {
				lane = store.LateLane("x")
			}
			rec, now = d.rec, d.rec.Next
		}
	})
}

func TestJitter(t *testing.T) {
	for _, tt := range []struct {
		d    time.Duration
		r    float64
		want time.Duration
	}{
		{10 * time.Second, 0, 10 * time.Second},
		{10 * time.Second, 1, 11 * time.Second},
		{24 * time.Hour, 1, 24*time.Hour + 30*time.Minute},
	} {
		if got := jitter(tt.d, tt.r); got != tt.want {
			t.Errorf("%v, %v: %v", tt.d, tt.r, got)
		}
	}
}

func TestPartner(t *testing.T) {
	head := store.Pointer{Event: "messageNew"}
	a, b := store.Pointer{Event: "messageNew"}, store.Pointer{Event: "messageDeleted"}
	for _, tt := range []struct {
		behind []store.Pointer
		want   int
	}{{nil, -1}, {[]store.Pointer{a, a}, 0}, {[]store.Pointer{a, b}, 1}, {[]store.Pointer{b, a}, 0}} {
		if got := partner(head, tt.behind); got != tt.want {
			t.Errorf("%v: %d", tt.behind, got)
		}
	}
}
