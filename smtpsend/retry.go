package smtpsend

import (
	"fmt"
	"slices"
	"time"
)

// DefaultPreset is the preset of a submission that asks for none.
const DefaultPreset = "standard"

const (
	maxAttempts = 50             // of one submission's budget
	maxDelay    = 24 * time.Hour // between two attempts
	maxDelays   = maxAttempts - 1
)

// presets are the delays between attempts, by name.
func presets() map[string][]time.Duration {
	const s, m, h = time.Second, time.Minute, time.Hour
	return map[string][]time.Duration{
		DefaultPreset: {10 * s, m, 5 * m, 15 * m, h, 2 * h, 4 * h, 8 * h, 12 * h},
		"quick":       doubling(5*s, 9),
		"code":        {5 * s, 15 * s, 30 * s, 60 * s},
		// RFC 5321 section 4.5.4.1: at least half an hour apart, for four to five days.
		"mta": append([]time.Duration{5 * m, 15 * m, 30 * m, h, 2 * h, 4 * h}, slices.Repeat([]time.Duration{6 * h}, 18)...),
	}
}

func doubling(d time.Duration, n int) []time.Duration {
	out := make([]time.Duration, n)
	for i := range out {
		out[i] = d << i
	}
	return out
}

// Preset answers the delays of a preset. An unknown name is ok false.
func Preset(name string) (delays []time.Duration, ok bool) {
	delays, ok = presets()[name]
	return delays, ok
}

// budget is how often a submission is tried, and when: delays of its own, else those of
// its preset; attempts cuts them, or repeats the last one. 0 attempts: as many as there
// are delays, and one.
func budget(preset string, own []time.Duration, attempts int) ([]time.Duration, int, error) {
	delays := own
	if len(own) == 0 {
		if preset == "" {
			preset = DefaultPreset
		}
		var ok bool
		if delays, ok = Preset(preset); !ok {
			return nil, 0, fmt.Errorf("no retry preset %q", preset)
		}
	}
	if len(delays) > maxDelays {
		return nil, 0, fmt.Errorf("%d delays, at most %d are possible", len(delays), maxDelays)
	}
	for _, d := range delays {
		if d < time.Second || d > maxDelay {
			return nil, 0, fmt.Errorf("delay %s is not between 1 s and %s", d, maxDelay)
		}
	}
	switch {
	case attempts < 0 || attempts > maxAttempts:
		return nil, 0, fmt.Errorf("%d attempts, 1 to %d are possible", attempts, maxAttempts)
	case attempts == 0:
		attempts = len(delays) + 1
	}
	return delays, attempts, nil
}

// delayAfter is the pause after the n-th attempt that was charged, from 1; r in [0, 1) is
// its jitter, which adds up to a fifth and never takes away.
func delayAfter(delays []time.Duration, n int, r float64) time.Duration {
	if len(delays) == 0 {
		return jitter(10*time.Second, r)
	}
	return jitter(delays[min(max(n, 1), len(delays))-1], r)
}

func jitter(d time.Duration, r float64) time.Duration {
	return d + time.Duration(float64(d)*r/5)
}

// The reasons for which a spool sleeps.
const (
	SleepServer         = "server"         // it does not answer, or not as it should
	SleepAuthentication = "authentication" // it refuses the credentials
	SleepLimit          = "sendLimit"      // it refuses more mail for now, or our own limits do
)

// sleepFor is how long a spool sleeps after failing n times in a row, from 1, each time a
// single submission being the probe.
func sleepFor(reason string, n int) time.Duration {
	n = max(n, 1)
	twice := func(first, most time.Duration) time.Duration { return min(first<<min(n-1, 10), most) }
	switch reason {
	case SleepAuthentication:
		return twice(15*time.Minute, 4*time.Hour)
	case SleepLimit:
		return twice(time.Hour, 24*time.Hour)
	}
	steps := []time.Duration{10 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute}
	return steps[min(n, len(steps))-1]
}
