package carrier

import (
	"context"
	"sync"
	"time"
)

// Alarms remember when something wants to be looked at, by its name. They are safe for
// concurrent use; Run owns the timer.
type Alarms struct {
	mu   sync.Mutex
	due  map[string]time.Time
	kick chan struct{}
}

// NewAlarms returns Alarms that nobody waits for yet.
func NewAlarms() *Alarms {
	return &Alarms{due: map[string]time.Time{}, kick: make(chan struct{}, 1)}
}

// Set never blocks. One alarm is kept per name: the last one set.
func (a *Alarms) Set(name string, at time.Time) {
	a.mu.Lock()
	a.due[name] = at
	a.mu.Unlock()
	select {
	case a.kick <- struct{}{}:
	default:
	}
}

// next takes the alarms that are due, and says when the next one is.
func (a *Alarms) next(now time.Time) (due []string, wait time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	wait = time.Hour
	for name, at := range a.due {
		if d := at.Sub(now); d > 0 {
			wait = min(wait, d)
			continue
		}
		due = append(due, name)
		delete(a.due, name)
	}
	return due, wait
}

// Run calls ring for each name when its time has come, one after another, until ctx ends.
func (a *Alarms) Run(ctx context.Context, ring func(name string)) {
	for {
		due, wait := a.next(time.Now())
		for _, name := range due {
			ring(name)
		}
		t := time.NewTimer(wait + 5*time.Millisecond) // Redis' clock cuts what ours rounds
		select {
		case <-t.C:
		case <-a.kick:
		case <-ctx.Done():
			t.Stop()
			return
		}
		t.Stop()
	}
}
