package imapsync

import (
	"context"
	"errors"
	"time"

	"github.com/postrider/postrider/store"
)

// After NOTIFY was refused, or the server lost count, the folders are probed; it is asked
// for again after notifyRetry, then after notifyLater.
const (
	notifyRetry = 10 * time.Minute
	notifyLater = 24 * time.Hour
)

// hintMerge is how close hints about other folders come to be looked into together: the
// first at once, those within it as one.
const hintMerge = 300 * time.Millisecond

// listLeast is the least time between two folder lists that hints bring about. It doubles with
// each that shows nothing new, up to the time at which they are asked for anyway: some
// servers tell of folders that they do not list.
const listLeast = 2 * time.Second

// throttleHint is for how long an answer that came with THROTTLED slows the account's
// probes down.
const throttleHint = 10 * time.Minute

// heard takes what the server said unasked. What is about other folders and the account
// is acted on here, what is about the selected folder is returned.
func (w *worker) heard() Changes {
	c := w.sess.Changes()
	now := time.Now()
	for _, hint := range c.Folders {
		f := w.byRaw(hint.Raw)
		switch {
		case f == nil:
			c.Listed = true
		case f.Watched != watchedNo && f != w.open && !(hint.Status != nil && saysNothing(f.meta, *hint.Status)):
			f.dirty = true
			if hint.Status != nil {
				f.assigned(hint.Status.UIDNext)
			}
			w.met.hints.Inc()
		}
	}
	if c.Listed {
		w.listHint = true
		w.listAt = earliest(w.listAt, later(now, w.listed.Add(min(listLeast<<w.listVain, w.cfg.ListInterval))))
	}
	if c.Overflow && w.notified {
		w.unsubscribed(errors.New("the server lost count of what changed"))
	}
	if c.Throttle != "" && now.After(w.slowUntil) {
		w.slowUntil = now.Add(throttleHint)
		w.met.throttled.WithLabelValues("hint").Inc()
		w.log.Info("server asks to slow down", "account", w.id, "text", c.Throttle)
	}
	if c.Alert != "" {
		w.log.Debug("alert from server", "account", w.id, "text", c.Alert)
	}
	c.Folders, c.Listed, c.Overflow, c.Throttle, c.Alert = nil, false, false, "", ""
	return c
}

// saysNothing says whether a hint tells nothing that is not known. RFC 5465 section 5.4 leaves
// UIDVALIDITY out where it did not change.
func saysNothing(m store.FolderMeta, st Status) bool {
	if !st.HasUIDValidity {
		st.UIDValidity, st.HasUIDValidity = m.Snap.UIDValidity, true
	}
	return clean(m, st)
}

// subscribe asks for hints about all folders on the watching connection, where the server
// has NOTIFY. It is asked after a whole pass: before it everything is looked at anyway.
// The hints replace probes, but for a slow one: servers merge and leave out hints.
func (w *worker) subscribe(ctx context.Context) error {
	if w.notified || w.compressed || !w.info.Notify || time.Now().Before(w.notifyAt) {
		return nil
	}
	err := w.sess.Notify(ctx)
	switch {
	case err == nil:
		w.notified = true
		w.probeAt = time.Now().Add(w.probeEvery())
		for _, f := range w.folders {
			f.askAt = w.probeAt
		}
		return nil
	case goesOn(err):
		w.unsubscribed(err)
		return nil
	}
	return err
}

// unsubscribed goes back to probes.
func (w *worker) unsubscribed(cause error) {
	wait := notifyRetry
	if w.notifyFails++; w.notifyFails > 1 {
		wait = notifyLater
	}
	w.notified, w.notifyAt = false, time.Now().Add(wait)
	w.probeAt = time.Time{}
	for _, f := range w.folders {
		f.askAt = time.Time{}
	}
	w.log.Info("NOTIFY is off", "account", w.id, "err", cause, "next", wait)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earliest(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
