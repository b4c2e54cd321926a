package dispatch

import "time"

// laneGaps are the pauses from the end of one try in a lane to the start of the next:
// with quick failures tries come at 0, 5, 15, 35 and 60 s.
func laneGaps() []time.Duration {
	return []time.Duration{5 * time.Second, 10 * time.Second, 20 * time.Second, 25 * time.Second}
}

const (
	// maxJitter bounds what jitter adds to one step.
	maxJitter = 30 * time.Minute
	// budgetGrain is how much the tries themselves may take before they cost one: without
	// it the last try of a budget of 60 s would never come, since no failure takes 0 s.
	budgetGrain = time.Second
	// joinAhead is how far ahead the entry must be that a delivery joins the schedule at
	// when it leaves its lane.
	joinAhead = time.Minute
)

// nextInLane is the pause before the next try in the lane after charged tries, used being
// what they have taken of the budget; ok is false when the budget is used up.
func nextInLane(charged int, used, budget time.Duration) (gap time.Duration, ok bool) {
	gaps := laneGaps()
	if charged < 1 || charged > len(gaps) {
		return 0, false
	}
	gap = gaps[charged-1]
	return gap, used+gap <= budget+budgetGrain
}

// join is where a delivery enters the schedule after its tries in the lane: the first
// entry at least a minute ahead, all of them counted from the first attempt. It answers
// the index of the entry behind it and the delay until it; ok is false when the schedule
// has none left.
func join(schedule []time.Duration, used time.Duration) (next int, delay time.Duration, ok bool) {
	var at time.Duration
	for i, d := range schedule {
		at += d
		if at >= used+joinAhead {
			return i + 1, at - used, true
		}
	}
	return 0, 0, false
}

// jitter adds up to a tenth, r being in [0, 1), and half an hour at most. It never takes
// away: a receiver may count on the times.
func jitter(d time.Duration, r float64) time.Duration {
	return d + min(time.Duration(float64(d)*r/10), maxJitter)
}
