package imapsync

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/postrider/postrider/internal/aside"
)

// How often a connection that does not idle makes a round trip: by how much happens.
const (
	pollOften  = 30 * time.Second
	pollSeldom = 2 * time.Minute
)

// rest waits until there is something to do: in IDLE where the server has it and the
// main folder is open, else between round trips. Every idle account keeps what stands on
// the stack here.
func (w *worker) rest(ctx context.Context, wake time.Time) error {
	m := w.main()
	if w.compressed && w.whole {
		return errReconnect // a plain connection idles, and costs less
	}
	if !w.idles() || w.compressed || m == nil || w.open != m {
		return w.poll(ctx, wake)
	}
	limit := max(time.Until(wake), 0)
	if limit == 0 || w.kicked.Load() {
		return nil
	}
	began := time.Now()
	end, err := w.sess.Idle(ctx, limit)
	aside.Do(func() { err = w.rested(ctx, end, err, began) })
	return err
}

// rested takes what a wait in IDLE brought.
func (w *worker) rested(ctx context.Context, end IdleEnd, err error, began time.Time) error {
	if err != nil && goesOn(err) {
		w.latch(latchIdle, responseOf(err))
		return nil
	}
	if err != nil {
		return err
	}
	switch short := time.Since(began) < 5*time.Second; {
	case !short:
		w.shortIdles = 0
	case end == IdleServer:
		if w.shortIdles++; w.shortIdles > 1 {
			w.latch(latchIdle, "the server ends it at once")
		}
	}
	if end == IdleTimeout {
		w.vain = 0
	}
	w.keep(w.heard())
	if end == IdleChanged && !w.hints.Any() && time.Since(w.mergedAt) < hintMerge {
		err = wait(ctx, hintMerge-time.Since(w.mergedAt))
	}
	w.mergedAt = time.Now()
	return err
}

// idles says whether the connection waits in IDLE.
func (w *worker) idles() bool { return w.info.Idle && !w.profile.NoIdle && !w.latched(latchIdle) }

// poll waits without IDLE and makes a round trip: every 30 s while something happens,
// more slowly when not. QUIRK(netease): NOOP is no activity to some servers, which log
// out whoever is not active; STATUS of another folder is, and pushes come along with both.
func (w *worker) poll(ctx context.Context, wake time.Time) error {
	every := pollOften
	switch quiet := time.Since(w.activeAt); {
	case quiet > time.Hour:
		every = pollSeldom
	case quiet > 10*time.Minute:
		every = time.Minute
	}
	due := max(time.Until(wake), 0)
	t := time.NewTimer(min(due, every, w.profile.IdleRestart))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-w.kick:
	case <-t.C:
		if due > 0 {
			w.vain = 0
		}
	}
	var err error
	aside.Do(func() {
		if err = w.roundTrip(ctx); err == nil {
			w.keep(w.heard())
		}
	})
	return err
}

// roundTrip is the round trip of a connection that does not idle.
func (w *worker) roundTrip(ctx context.Context) error {
	if w.profile.Keepalive == "status" {
		now := time.Now()
		var next *folder
		for _, f := range w.folders { // the one that is due the longest
			if f.Watched != watchedNo && f != w.open && f != w.main() && !f.blocked(now) && (next == nil || f.askAt.Before(next.askAt)) {
				next = f
			}
		}
		if next != nil {
			return w.askOne(ctx, next)
		}
		w.reopen = true // EXAMINE is activity too
		return nil
	}
	if err := w.sess.Noop(ctx); err != nil && !goesOn(err) {
		return err
	}
	return nil
}

// wakeAt is when the next thing is due: at the latest the next proof of life, often
// enough that a healthy account never looks stalled.
func (w *worker) wakeAt(ctx context.Context) time.Time {
	now := time.Now()
	proof := min(w.cfg.ProofInterval, w.stallAfter(ctx)/3, w.profile.IdleRestart)
	wake := now.Add(proof - time.Duration(rand.Int64N(int64(proof)/5+1)))
	earlier := func(t time.Time) {
		if !t.IsZero() && t.Before(wake) {
			wake = t
		}
	}
	earlier(w.listAt)
	earlier(w.probeAt)
	earlier(w.heldUntil())
	for _, f := range w.folders {
		if f.Watched == watchedNo {
			continue
		}
		earlier(f.retryAt())
		blocked := f.blocked(now)
		if !w.info.ListStatus && (!blocked || f.parked(now)) {
			earlier(later(f.askAt, w.askedAt.Add(w.askPace())))
		}
		if blocked {
			continue
		}
		earlier(f.flagAt)
		earlier(w.auditAt(f))
		if f.dirty {
			earlier(now)
		}
	}
	return wake
}

// keep adds hints to those not yet looked into.
func (w *worker) keep(c Changes) {
	w.hints.Exists = w.hints.Exists || c.Exists
	w.hints.Expunged += c.Expunged
	if len(w.hints.Vanished) < 1000 {
		w.hints.Vanished = append(w.hints.Vanished, c.Vanished...)
	}
	w.reopen = w.reopen || c.Doubt
	if len(w.hints.Flags) < 1000 {
		w.hints.Flags = append(w.hints.Flags, c.Flags...)
	}
}

func (w *worker) takeHints() Changes {
	c := w.hints
	w.hints = Changes{}
	return c
}
