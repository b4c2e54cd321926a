package dispatch

import (
	"slices"
	"time"

	"github.com/postrider/postrider/store"
)

// spared429 is how many answers of 429 a delivery may get without being charged.
const spared429 = 100

// decision is what one failed attempt means for its delivery. What it means for the route
// the scripts decide, and they may hold what is decided here.
type decision struct {
	mode  store.FailMode
	delay time.Duration
	rec   store.Delivery
}

// decide judges a failed attempt by the delivery's own record (Index -1 while it is in its
// lane). It is pure: r is a random number in [0, 1), end when the attempt ended.
func decide(route store.Route, rec store.Delivery, v Verdict, lane store.Lane, probe bool, end time.Time, took time.Duration, r float64) decision {
	rec.Attempts++
	if rec.First.IsZero() {
		rec.First = end
	}
	rec.Last, rec.State, rec.Class = end, store.DeliveryRetrying, string(v.Class)

	switch {
	case v.Class == ClassDropped:
		return finish(rec, store.DeliveryDropped, "dropOn")
	case v.Class == ClassRender:
		return finish(rec, store.DeliveryExhausted, "render")
	case v.Class == ClassInterrupted, v.Class == ClassGone, v.Class == ClassBlocked:
		return decision{mode: store.FailHold, rec: rec}
	case probe:
		// Nothing is charged but age. Should a paired try show that only this event is
		// refused, it leaves for where the schedule would have it.
		if route.MaxAge > 0 && !rec.Date.IsZero() && end.After(rec.Date.Add(route.MaxAge)) {
			return finish(rec, store.DeliveryExhausted, "expired")
		}
		rec.Next = time.Time{}
		return decision{mode: store.FailProbe, delay: max(joinAhead, later(route, rec, end, r).delay), rec: rec}
	case v.Class == ClassRateLimited && rec.Spared < spared429:
		rec.Spared++
		return until(route, decision{mode: store.FailWait, delay: v.RetryAfter, rec: rec}, end)
	}

	rec.Charged++
	rec.Used += took
	if len(route.Schedule) == 0 {
		return finish(rec, store.DeliveryExhausted, "attempts")
	}
	switch {
	case lane.Late():
		return later(route, rec, end, r)
	case route.Ordering == store.OrderNone:
		d := later(route, rec, end, r)
		if d.mode == store.FailWait {
			d.mode = store.FailLeave
		}
		return d
	}
	if rec.Index < 0 {
		if gap, ok := nextInLane(rec.Charged, rec.Used, route.OrderedBudget); ok {
			rec.Used += gap
			return until(route, decision{mode: store.FailWait, delay: gap, rec: rec}, end)
		}
	}
	d := later(route, rec, end, r)
	switch {
	case d.mode != store.FailWait || route.Ordering == store.OrderStrict:
	case v.Class == Class4xx:
		d.mode = store.FailLeave
	default:
		d.mode = store.FailProve
	}
	return d
}

// later is the next try by the schedule, which a delivery of the lane joins here.
func later(route store.Route, rec store.Delivery, end time.Time, r float64) decision {
	i, sched := rec.Index, route.Schedule
	var delay time.Duration
	switch {
	case i < 0 && route.Ordering != store.OrderNone:
		next, d, ok := join(sched, rec.Used)
		if !ok {
			return finish(rec, store.DeliveryExhausted, "attempts")
		}
		rec.Index, delay = next, d
	default:
		i = max(i, 0)
		if i >= len(sched) {
			return finish(rec, store.DeliveryExhausted, "attempts")
		}
		rec.Index, delay = i+1, sched[i]
	}
	return until(route, decision{mode: store.FailWait, delay: jitter(delay, r), rec: rec}, end)
}

// until ends a delivery whose next try would come after its time.
func until(route store.Route, d decision, end time.Time) decision {
	d.rec.Next = end.Add(d.delay)
	if route.MaxAge > 0 && !d.rec.Date.IsZero() && d.rec.Next.After(d.rec.Date.Add(route.MaxAge)) {
		return finish(d.rec, store.DeliveryExhausted, "expired")
	}
	return d
}

func finish(rec store.Delivery, state, reason string) decision {
	rec.State, rec.Reason, rec.Next = state, reason, time.Time{}
	return decision{mode: store.FailEnd, rec: rec}
}

// partner picks the entry for a paired try behind a head of that name: the nearest with
// another name, else the next. -1: there is none.
func partner(head store.Pointer, behind []store.Pointer) int {
	if len(behind) == 0 {
		return -1
	}
	return max(0, slices.IndexFunc(behind, func(p store.Pointer) bool { return p.Event != head.Event }))
}
