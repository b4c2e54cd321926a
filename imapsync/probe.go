package imapsync

import (
	"context"
	"slices"
	"time"

	"github.com/postrider/postrider/store"
)

// manyFolders is how many folders a server without LIST-STATUS may have before they are
// asked about more slowly.
const manyFolders = 300

// probe finds out which folders are dirty without opening them.
func (w *worker) probe(ctx context.Context, first bool) error {
	now := time.Now()
	listDue := first || !now.Before(w.listAt)
	probeDue := first || !now.Before(w.probeAt)
	var listed []Listed
	if listDue || probeDue && w.info.ListStatus {
		var err error
		if listed, err = w.list(ctx); err != nil {
			return err
		}
		w.learn() // what LIST was refused is asked for in other ways from now on
	}
	if !probeDue && listed == nil {
		return w.ask(ctx, false)
	}
	w.probed = now
	w.looks++
	w.probeAt = now.Add(w.probeEvery())
	for _, l := range listed {
		f := w.byRaw(l.Raw)
		if f == nil || f.Watched == watchedNo || l.Status == nil {
			continue
		}
		f.askAt = w.probeAt
		w.judgeNumbers(f, *l.Status)
	}
	return w.ask(ctx, first)
}

// ask asks for the numbers of folders that LIST did not give: at the provider's pace, all
// of them at once when the session is new.
func (w *worker) ask(ctx context.Context, all bool) error {
	folders := w.folders
	if !w.info.ListStatus { // the longest overdue first: else the first would be asked again before the last
		folders = slices.Clone(folders)
		slices.SortStableFunc(folders, func(a, b *folder) int { return a.askAt.Compare(b.askAt) })
	}
	for _, f := range folders {
		now := time.Now()
		parked := f.parked(now)
		if f.Watched == watchedNo || now.Before(f.askAt) || !parked && (f.dirty || f.blocked(now)) {
			continue
		}
		if !parked && (f == w.open || f == w.main()) {
			f.askAt, f.dirty = now.Add(w.probeEvery()), true
			continue
		}
		if !all && now.Sub(w.askedAt) < w.askPace() {
			return nil
		}
		if err := w.askOne(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

// askOne asks for the numbers of one folder, which is not the selected one.
func (w *worker) askOne(ctx context.Context, f *folder) error {
	w.askedAt = time.Now()
	st, err := w.sess.Status(ctx, f.Raw)
	f.askAt = w.askedAt.Add(w.askEvery(f, w.askedAt))
	switch {
	case err != nil && !goesOn(err):
		return err
	case err != nil && f.parked(w.askedAt):
		return nil // it was not its time
	case err != nil:
		return w.refused(ctx, f, err)
	}
	f.dirty = false
	w.looks++
	w.judgeNumbers(f, st)
	return nil
}

// judgeNumbers marks a folder dirty, or looked at where its numbers say all.
func (w *worker) judgeNumbers(f *folder, st Status) {
	f.assigned(st.UIDNext)
	if f.meta.Fail != nil {
		return
	}
	if !clean(f.meta, st) {
		f.dirty = true
		return
	}
	f.sure = w.looks
	w.lookedAtAll(f)
}

// parked says whether a folder that refused is left alone for now. Its numbers are asked for
// all the same: something that comes may come because it was mended.
func (f *folder) parked(now time.Time) bool {
	return f.meta.Fail != nil && now.Before(f.meta.Fail.Next)
}

// assigned notes a UIDNEXT that was told while the folder was not open, where it was.
func (f *folder) assigned(next uint32) {
	if next != 0 && next != f.uidNext {
		f.uidNext = next
		f.unpark()
	}
}

// unpark has a folder that refused tried again at once.
func (f *folder) unpark() {
	if f.meta.Fail != nil {
		fail := *f.meta.Fail
		fail.Next = time.Time{}
		f.meta.Fail, f.dirty = &fail, true
	}
}

// askPace is the least time between two STATUS commands.
func (w *worker) askPace() time.Duration {
	if w.profile.Name == defaultProfile {
		return w.cfg.AskInterval
	}
	return max(w.cfg.AskInterval, time.Duration(float64(time.Second)/w.profile.StatusPerSecond))
}

// probeEvery is how often all folders are asked about in one command: seldom where the
// server tells what changes, or where nothing changed for an hour.
func (w *worker) probeEvery() time.Duration {
	if w.notified || time.Since(w.activeAt) > time.Hour {
		return w.stretch(5 * w.cfg.ProbeInterval)
	}
	return w.stretch(w.cfg.ProbeInterval)
}

// askEvery is how often a folder is asked about alone: those where something is likely
// often, the others in turn.
func (w *worker) askEvery(f *folder, now time.Time) time.Duration {
	switch {
	case !w.notified && (f.SpecialUse != "" || now.Sub(f.active) < 24*time.Hour):
		return w.stretch(w.cfg.ProbeInterval)
	case len(w.folders) > manyFolders:
		return w.stretch(15 * w.cfg.ProbeInterval)
	}
	return w.stretch(5 * w.cfg.ProbeInterval)
}

// stretch doubles an interval for each day on which nothing happened, and for a server
// that asked to slow down, up to four times.
func (w *worker) stretch(d time.Duration) time.Duration {
	times := time.Duration(1)
	switch quiet := time.Since(w.activeAt); {
	case quiet > 48*time.Hour:
		times = 4
	case quiet > 24*time.Hour:
		times = 2
	}
	if time.Now().Before(w.slowUntil) || w.pace.slowed(w.host()) {
		times = 4
	}
	return times * d
}

// clean compares a folder's numbers with those before its last complete look. A number
// that did not come proves nothing.
func clean(m store.FolderMeta, st Status) bool {
	if m.Unlooked || m.Baseline != nil || m.Fail != nil {
		return false
	}
	if !st.HasMessages || !st.HasUIDNext || !st.HasUIDValidity || m.Snap.ModSeq > 0 && !st.HasModSeq {
		return false
	}
	if m.Fast {
		return st.Messages <= m.Snap.Messages && st.UIDNext == m.Snap.UIDNext && st.UIDValidity == m.Snap.UIDValidity
	}
	return st.Messages == m.Snap.Messages && st.UIDNext == m.Snap.UIDNext && st.UIDValidity == m.Snap.UIDValidity &&
		(m.Snap.ModSeq == 0 || st.ModSeq == m.Snap.ModSeq)
}

// probeSoon brings the next probe forward, since what changed may have gone to, or come
// from, another folder: to within least of the last one.
func (w *worker) probeSoon(least time.Duration) {
	if time.Now().Before(w.slowUntil) {
		return
	}
	at := w.probed.Add(min(least, w.cfg.ProbeInterval))
	if at.Before(w.probeAt) {
		w.probeAt = at
	}
	for _, f := range w.folders {
		if at.Before(f.askAt) && (f.SpecialUse != "" || !f.active.IsZero()) {
			f.askAt = at
		}
	}
}
