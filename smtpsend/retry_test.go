package smtpsend

import (
	"slices"
	"testing"
	"time"
)

func TestPresets_span(t *testing.T) {
	for name, want := range map[string]struct {
		attempts int
		span     time.Duration
	}{
		"standard": {10, 27*time.Hour + 21*time.Minute + 10*time.Second},
		"quick":    {10, 42*time.Minute + 35*time.Second},
		"code":     {5, time.Minute + 50*time.Second},
		"mta":      {25, 115*time.Hour + 50*time.Minute},
	} {
		delays, attempts, err := budget(name, nil, 0)
		var span time.Duration
		for n := 1; n < attempts; n++ {
			span += delayAfter(delays, n, 0)
		}
		if err != nil || attempts != want.attempts || span != want.span {
			t.Errorf("%s: %d attempts in %v, %v; want %d in %v", name, attempts, span, err, want.attempts, want.span)
		}
	}
}

func TestBudget(t *testing.T) {
	own := []time.Duration{time.Second, time.Minute}
	for name, tt := range map[string]struct {
		preset       string
		own          []time.Duration
		attempts     int
		wantAttempts int
		wantLast     time.Duration // the delay before the last attempt
		bad          bool
	}{
		"default":                 {wantAttempts: 10, wantLast: 12 * time.Hour},
		"three of the default":    {attempts: 3, wantAttempts: 3, wantLast: time.Minute},
		"one":                     {attempts: 1, wantAttempts: 1},
		"more repeats the last":   {preset: "code", attempts: 9, wantAttempts: 9, wantLast: time.Minute},
		"own":                     {own: own, wantAttempts: 3, wantLast: time.Minute},
		"own before the preset":   {preset: "mta", own: own, attempts: 2, wantAttempts: 2, wantLast: time.Second},
		"unknown preset":          {preset: "often", bad: true},
		"too many attempts":       {attempts: 51, bad: true},
		"negative":                {attempts: -1, bad: true},
		"too short":               {own: []time.Duration{time.Millisecond}, bad: true},
		"too long":                {own: []time.Duration{25 * time.Hour}, bad: true},
		"more delays than budget": {own: slices.Repeat(own, 25), bad: true},
	} {
		t.Run(name, func(t *testing.T) {
			delays, attempts, err := budget(tt.preset, tt.own, tt.attempts)
			if (err != nil) != tt.bad || attempts != tt.wantAttempts {
				t.Fatalf("%d attempts, %v", attempts, err)
			}
			if got := delayAfter(delays, attempts-1, 0); attempts > 1 && got != tt.wantLast {
				t.Errorf("last delay %v", got)
			}
		})
	}
}

func TestJitter_adds_a_fifth_at_most(t *testing.T) {
	for r, want := range map[float64]time.Duration{0: 10 * time.Second, 0.5: 11 * time.Second} {
		if got := jitter(10*time.Second, r); got != want {
			t.Errorf("%v: %v", r, got)
		}
	}
}

func TestSleepFor(t *testing.T) {
	for _, tt := range []struct {
		reason string
		n      int
		want   time.Duration
	}{
		{SleepServer, 0, 10 * time.Second},
		{SleepServer, 1, 10 * time.Second},
		{SleepServer, 2, 30 * time.Second},
		{SleepServer, 7, 15 * time.Minute},
		{SleepServer, 1000, 15 * time.Minute},
		{SleepAuthentication, 1, 15 * time.Minute},
		{SleepAuthentication, 2, 30 * time.Minute},
		{SleepAuthentication, 5, 4 * time.Hour},
		{SleepAuthentication, 1000, 4 * time.Hour},
		{SleepLimit, 1, time.Hour},
		{SleepLimit, 6, 24 * time.Hour},
		{SleepLimit, 1000, 24 * time.Hour},
	} {
		if got := sleepFor(tt.reason, tt.n); got != tt.want {
			t.Errorf("%s %d: %v, want %v", tt.reason, tt.n, got, tt.want)
		}
	}
}
