package imapsync

import (
	"context"
	"errors"
	"time"

	"github.com/postrider/postrider/internal/aside"
	"github.com/postrider/postrider/store"
)

// watch is the life of a session: pass, rest, and again. It ends with an error.
func (w *worker) watch(ctx context.Context) error {
	stale := 0
	for {
		var wake time.Time
		var err error
		aside.Do(func() { wake, err = w.turn(ctx) })
		if err == nil && !wake.IsZero() {
			stale = 0
			err = w.rest(ctx, wake)
		}
		if err != nil {
			if aside.Do(func() { err = w.outlive(ctx, err, &stale) }); err != nil {
				return err
			}
		}
		select {
		case <-w.kick:
		default:
		}
	}
}

// turn is a pass and the way back to the main folder. wake is until when there is nothing
// more to do; zero: hints came meanwhile.
func (w *worker) turn(ctx context.Context) (wake time.Time, err error) {
	began := time.Now()
	err = w.remember(ctx)
	if err == nil && w.state.Flush != nil {
		err = errReconnect // it is done before a session
	}
	if err == nil {
		err = w.pass(ctx)
	}
	if err == nil {
		err = w.openMain(ctx)
	}
	if err == nil {
		err = w.breathe(ctx, began)
	}
	if err == nil && !w.hints.Any() {
		wake = w.wakeAt(ctx)
	}
	return wake, err
}

// outlive takes what a session can survive; nil: it goes on.
func (w *worker) outlive(ctx context.Context, err error, stale *int) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, store.ErrUnavailable):
		return w.awaitStore(ctx)
	case errors.Is(err, store.ErrStale) && *stale < 5:
		// An answer that was lost, or another writer: what is stored is the truth.
		*stale++
		if err := w.load(ctx); err != nil && !errors.Is(err, store.ErrUnavailable) {
			return err
		}
		w.dirtyAll()
		return nil
	}
	return err
}

// breathe comes after a pass that began then. Passes that follow each other at once and
// have nothing to tell, now or behind a hold, because of what the server pushes meanwhile,
// come further and further apart; one that had a time to come at is none of them.
func (w *worker) breathe(ctx context.Context, began time.Time) error {
	const free, calm, most = 3, time.Second, 15 * time.Second
	if w.vain++; w.told || began.Sub(w.passedAt) >= calm {
		w.vain = 0
	}
	var err error
	if n := w.vain - free; n > 0 {
		if n == 10 {
			w.log.WarnContext(ctx, "no rest between passes", "account", w.id)
		}
		err = w.pauseUnlessKicked(ctx, min(50*time.Millisecond<<min(n, 10), most))
	}
	w.told, w.passedAt = false, time.Now()
	return err
}

// pauseUnlessKicked waits, until somebody asks for a look at the latest. What only nudges the
// worker is what it rests from.
func (w *worker) pauseUnlessKicked(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	nudged := false
	defer func() {
		if nudged { // not lost: the pass is still to come
			w.nudge()
		}
	}()
	for !w.kicked.Load() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.C:
			return nil
		case <-w.kick:
			nudged = true
		}
	}
	return nil
}

// remember reads the state again after the store has gone back behind what it had
// confirmed. What it forgot is found again, and told under the same ids.
func (w *worker) remember(ctx context.Context) error {
	if !w.forgotten.Swap(false) {
		return nil
	}
	if err := w.load(ctx); err != nil {
		w.forgotten.Store(true)
		return err
	}
	w.dirtyAll()
	return nil
}

func (w *worker) dirtyAll() {
	for _, f := range w.folders {
		f.dirty = true
	}
	w.open = nil
}

// openMain goes back to the folder that the connection waits in. What changed there
// meanwhile is found by opening it.
func (w *worker) openMain(ctx context.Context) error {
	m := w.main()
	if m == nil || w.open == m && !w.reopen || m.blocked(time.Now()) {
		return nil
	}
	return w.visit(ctx, m, nil)
}

// awaitStore waits until the store answers again, keeping the session alive meanwhile,
// and reads everything anew: a commit that failed may have happened.
func (w *worker) awaitStore(ctx context.Context) error {
	// Reading may work where writing does not: only a commit that succeeds ends the waits.
	pause := min(100*time.Millisecond<<min(w.unwritten, 10), 30*time.Second)
	w.unwritten++
	for {
		if err := wait(ctx, pause); err != nil {
			return err
		}
		pause = min(2*pause, max(pause, 2*time.Second))
		err := errLeaseAsked
		if w.leased() {
			err = w.load(ctx)
		}
		if err == nil {
			w.dirtyAll()
			return nil
		}
		if !errors.Is(err, store.ErrUnavailable) {
			return err
		}
		if time.Since(w.sess.LastProof()) > w.cfg.ProofInterval/2 {
			if err := w.sess.Noop(ctx); err != nil && !goesOn(err) {
				return err
			}
		}
	}
}

// leased says whether the lease cannot have expired, by our own clock, however that was
// set meanwhile.
func (w *worker) leased() bool {
	until := w.leaseUntil.Load()
	return until != nil && time.Now().Before(*until)
}

// commit writes under the lease. Behind a lease that may have expired it does not even
// try: the fence would refuse it, and the wait for a renewal is the same.
func (w *worker) commit(ctx context.Context, c store.Change) error {
	if !w.leased() {
		return errLeaseAsked
	}
	began := time.Now()
	// A commit in flight is finished, not torn: its answer is worth waiting for.
	cctx, stop := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer stop()
	done, err := w.st.Commit(cctx, w.lease, c)
	w.met.commit.Observe(time.Since(began).Seconds())
	if err != nil {
		return err
	}
	w.committed(&c)
	w.known.Store(done.LastSeq)
	w.unwritten = 0
	for _, e := range c.Events {
		w.met.events.WithLabelValues(string(e.Data.EventType())).Inc()
	}
	if len(c.Events) > 0 {
		w.activeAt = time.Now()
	}
	w.told = w.told || len(c.Events)+len(c.Hold) > 0
	return nil
}
