package imapsync

import (
	"errors"
	"math/rand/v2"
	"time"
)

// Back-off resets only after a whole pass succeeded and the session lived this long: a
// server that lets in and throws out would else be asked many times a second.
const backoffReset = 5 * time.Minute

// plannedWait is the longest wait before a session that ended in peace is opened anew.
const plannedWait = 2 * time.Second

// plannedAfter is how long a session must have lived for its announced end to be one: a
// server that says goodbye to everybody who comes is down.
const plannedAfter = time.Minute

// secondTry is the wait before credentials that worked within the last day are tried
// once more: servers refuse good ones at times.
const (
	secondTryMin = 60 * time.Second
	secondTryMax = 120 * time.Second
	secondTryFor = 24 * time.Hour
)

// backoffs are the first and the longest wait after each kind of fault. Those that are
// jittered are drawn from zero up.
var backoffs = map[string]struct {
	first, most time.Duration
	jitter      bool
}{
	FaultAuthDead:   {time.Hour, 24 * time.Hour, false},
	FaultConfig:     {time.Hour, 24 * time.Hour, false},
	FaultThrottled:  {5 * time.Minute, 2 * time.Hour, false},
	FaultServerDown: {2 * time.Second, 10 * time.Minute, true},
	FaultSilent:     {2 * time.Second, 10 * time.Minute, true},
	FaultTLS:        {5 * time.Minute, time.Hour, false},
	FaultInternal:   {time.Minute, time.Minute, false},
}

// ceiling is the longest wait before the try after failures in a row (1 = the first).
func ceiling(kind string, failures int) time.Duration {
	b, ok := backoffs[kind]
	if !ok {
		b = backoffs[FaultServerDown]
	}
	return min(b.first<<min(max(failures-1, 0), 20), b.most)
}

// backoff is the wait before the next try.
func backoff(f Fault, failures int) time.Duration {
	if f.RetryAfter > 0 {
		// A server that names short waits again and again is not asked without end.
		least := min(time.Second<<min(max(failures-1, 0), 20), backoffs[FaultThrottled].first)
		return max(least, min(f.RetryAfter, 24*time.Hour))
	}
	d := ceiling(f.Kind, failures)
	if b, ok := backoffs[f.Kind]; !ok || b.jitter {
		const least = 200 * time.Millisecond
		d = least + time.Duration(rand.Int64N(int64(d-least)+1))
	}
	return d
}

// goesOn says whether the session goes on after an error: the server said NO or BAD, and
// not that we ask too much, which is the account's matter and not one folder's.
func goesOn(err error) bool { return usable(err) && Classify(err).Kind != FaultThrottled }

// responseOf is what a server said, as events and statuses show it.
func responseOf(err error) string {
	if err == nil {
		return ""
	}
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return err.Error()
	}
	switch {
	case e.Kind == ErrNo:
		return "NO " + e.Text
	case e.Kind == ErrBad:
		return "BAD " + e.Text
	case e.Text != "":
		return e.Text
	}
	return e.Error()
}
